//! The LSTM layer behind one small interface: [`lstm_sequence`].
//!
//! A layer that burn builds out of its tensor operations makes eight small products and a dozen
//! graph nodes per step. This one is a single operation for the whole sequence, with a backward
//! pass of its own, added to burn as a backend extension:
//!
//! - on the CPU (`fused.rs`, `backward.rs`) one pass over plain slices, products in registers;
//! - on a GPU (`persistent/`) one kernel per direction that walks the steps itself;
//! - on a GPU whose workgroups are too small for it (`composed.rs`) the backend's tensor operations,
//!   one product per step.
//!
//! Beside it, [`project`] is the linear layer that ends a network (`projection.rs`, `rows.rs`).
//!
//! Whoever brings a better kernel for one of them implements [`LstmKernel`] and nothing else
//! changes.

// burn-ndarray is deprecated upstream; it is the CPU backend that the project names.
#![allow(deprecated)]

mod activation;
mod backward;
mod composed;
mod fused;
mod gemm;
mod memory;
mod persistent;
mod projection;
mod rows;
mod vector;

use std::{fmt::Debug, sync::Arc};

// burn-ndarray is deprecated upstream; it is the CPU backend that the project names.
use burn::backend::{NdArray, ndarray::NdArrayTensor};
use burn::{
    backend::{
        Autodiff, Backend, Cube, Dispatch, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::Tensor,
};
use fused::Sizes;
pub use projection::project;

/// One LSTM layer over a whole sequence, from a zero state, differentiable.
///
/// - `input`: `[steps, batch, inputs]`, or `[1, batch, inputs]` for one input that every step sees;
/// - `weight`: `[inputs + hidden, 4 * hidden]`, the input's rows first, the columns in the order
///   input gate, forget gate, candidate, output gate;
/// - `bias`: `[4 * hidden]`.
///
/// Returns the hidden states `[steps, batch, hidden]`.
///
/// # Panics
/// When the shapes do not fit each other, as burn's own operations do.
pub fn lstm_sequence(
    input: Tensor<3>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    steps: usize,
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as LstmOps>::lstm_sequence(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        steps,
    ))
}

/// The operation as burn's dispatch sees it.
#[backend_extension(Cube, NdArray, Autodiff)]
pub trait LstmOps: Backend {
    /// See [`lstm_sequence`].
    fn lstm_sequence(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        steps: usize,
    ) -> FloatTensor<Self>;
}

/// What a backend brings: forward, and backward from what forward kept.
pub trait LstmKernel: Backend {
    /// What the backward pass needs of the forward pass.
    type Trace: Clone + Send + Debug + 'static;

    /// The layer's output; with `keep`, a trace that [`Self::layer_gradients`] can use.
    fn layer_forward(layer: Layer<Self>, keep: bool) -> (FloatTensor<Self>, Self::Trace);

    /// Gradients by input (where asked for), weight and bias, from the gradient by the output.
    fn layer_gradients(
        layer: Layer<Self>,
        output: FloatTensor<Self>,
        trace: Self::Trace,
        grad: FloatTensor<Self>,
        need_input: bool,
    ) -> LayerGradients<Self>;
}

/// The arguments of one call, see [`lstm_sequence`].
#[derive(Clone, Debug)]
pub struct Layer<B: Backend> {
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    steps: usize,
}

/// Gradients by the arguments of one call.
#[derive(Debug)]
pub struct LayerGradients<B: Backend> {
    input: Option<FloatTensor<B>>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
}

impl<B: Backend> Layer<B> {
    fn sizes(&self) -> Sizes {
        let (input, weight) = (self.input.shape(), self.weight.shape());
        let sizes = Sizes {
            steps: self.steps,
            batch: input[1],
            inputs: input[2],
            hidden: weight[1] / 4,
            constant_input: input[0] == 1 && self.steps != 1,
        };
        assert!(
            (input[0] == self.steps || input[0] == 1)
                && weight[0] == sizes.inputs + sizes.hidden
                && weight[1] == 4 * sizes.hidden
                && self.bias.shape()[0] == weight[1],
            "an LSTM layer of {sizes:?} does not fit a weight of shape {weight:?}"
        );
        sizes
    }
}

/// What a GPU keeps, by the way that it took.
#[derive(Clone, Debug)]
pub enum CubeTrace {
    /// Nothing was to be kept.
    Nothing,
    Persistent(Box<persistent::Trace>),
    Composed(composed::Trace<Cube>),
}

impl LstmKernel for Cube {
    type Trace = CubeTrace;

    fn layer_forward(layer: Layer<Self>, keep: bool) -> (FloatTensor<Self>, Self::Trace) {
        let sizes = layer.sizes();
        let Layer { input, weight, bias, .. } = layer;
        if let Some(variant) = persistent::variant(sizes, &input) {
            let arguments = (input, weight, bias);
            let (output, trace) = persistent::forward(sizes, variant, arguments, keep);
            let trace = trace.map(|trace| CubeTrace::Persistent(Box::new(trace)));
            return (output, trace.unwrap_or(CubeTrace::Nothing));
        }
        let (output, trace) = composed::forward::<Self>(sizes, input, weight, bias, keep);
        (output, CubeTrace::Composed(trace))
    }

    fn layer_gradients(
        layer: Layer<Self>,
        output: FloatTensor<Self>,
        trace: Self::Trace,
        grad: FloatTensor<Self>,
        need_input: bool,
    ) -> LayerGradients<Self> {
        let sizes = layer.sizes();
        let arguments = (layer.input, layer.weight);
        let (input, weight, bias) = match trace {
            CubeTrace::Persistent(trace) => {
                persistent::gradients(sizes, arguments, output, *trace, grad, need_input)
            }
            CubeTrace::Composed(trace) => {
                composed::gradients::<Self>(sizes, arguments, trace, grad, need_input)
            }
            CubeTrace::Nothing => panic!("an LSTM layer was run without keeping its gates"),
        };
        LayerGradients { input, weight, bias }
    }
}

impl LstmKernel for NdArray {
    type Trace = Arc<fused::Trace>;

    fn layer_forward(layer: Layer<Self>, keep: bool) -> (FloatTensor<Self>, Self::Trace) {
        memory::keep_between_batches();
        let sizes = layer.sizes();
        let (input, weight, bias) =
            (Floats::of(layer.input), Floats::of(layer.weight), Floats::of(layer.bias));
        let (output, trace) =
            fused::forward(sizes, input.values(), weight.values(), bias.values(), keep);
        (tensor(output, &[sizes.steps, sizes.batch, sizes.hidden]), Arc::new(trace))
    }

    fn layer_gradients(
        layer: Layer<Self>,
        output: FloatTensor<Self>,
        trace: Self::Trace,
        grad: FloatTensor<Self>,
        need_input: bool,
    ) -> LayerGradients<Self> {
        let sizes = layer.sizes();
        let input_steps = layer.input.shape()[0];
        let (input, weight) = (Floats::of(layer.input), Floats::of(layer.weight));
        let (output, grad) = (Floats::of(output), Floats::of(grad));
        let arguments = (input.values(), weight.values());
        let found = backward::gradients(
            sizes,
            arguments,
            output.values(),
            &trace,
            grad.values(),
            need_input,
        );
        let gates = 4 * sizes.hidden;
        LayerGradients {
            input: need_input
                .then(|| tensor(found.input, &[input_steps, sizes.batch, sizes.inputs])),
            weight: tensor(found.weight, &[sizes.inputs + sizes.hidden, gates]),
            bias: tensor(found.bias, &[gates]),
        }
    }
}

/// The values of a CPU tensor in row-major order, copied only where they lie otherwise.
struct Floats(ndarray::ArcArray<f32, ndarray::IxDyn>);

impl Floats {
    fn of(tensor: NdArrayTensor) -> Self {
        let NdArrayTensor::F32(storage) = tensor else {
            panic!("the LSTM layer computes in f32, not in {:?}", tensor.dtype());
        };
        let array = storage.into_shared();
        Self(if array.is_standard_layout() {
            array
        } else {
            array.as_standard_layout().into_owned().into_shared()
        })
    }

    fn values(&self) -> &[f32] {
        self.0.as_slice().unwrap_or_default()
    }
}

fn tensor(values: Vec<f32>, shape: &[usize]) -> NdArrayTensor {
    let array = ndarray::ArcArray::from_shape_vec(ndarray::IxDyn(shape), values);
    match array {
        Ok(array) => array.into(),
        Err(error) => panic!("an LSTM result does not have the shape {shape:?}: {error}"),
    }
}

impl LstmOps for Cube {
    fn lstm_sequence(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        steps: usize,
    ) -> FloatTensor<Self> {
        Self::layer_forward(Layer { input, weight, bias, steps }, false).0
    }
}

impl LstmOps for NdArray {
    fn lstm_sequence(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        steps: usize,
    ) -> FloatTensor<Self> {
        Self::layer_forward(Layer { input, weight, bias, steps }, false).0
    }
}

impl<B: LstmKernel, C: CheckpointStrategy> LstmOps for Autodiff<B, C> {
    fn lstm_sequence(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        steps: usize,
    ) -> FloatTensor<Self> {
        let guards = [input.node(), weight.node(), bias.node()];
        let layer = Layer::<B> {
            input: input.into_primitive(),
            weight: weight.into_primitive(),
            bias: bias.into_primitive(),
            steps,
        };
        match BackwardLayer.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (output, trace) = B::layer_forward(layer.clone(), true);
                prepared.finish(Kept { layer, output: output.clone(), trace }, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::layer_forward(layer, false).0),
        }
    }
}

/// The backward step of one call.
#[derive(Debug)]
struct BackwardLayer;

/// What a call keeps for its backward step.
#[derive(Debug)]
struct Kept<B: LstmKernel> {
    layer: Layer<B>,
    output: FloatTensor<B>,
    trace: B::Trace,
}

impl<B: LstmKernel> Clone for Kept<B> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), output: self.output.clone(), trace: self.trace.clone() }
    }
}

impl<B: LstmKernel> Backward<B, 3> for BackwardLayer {
    type State = Kept<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let [input, weight, bias] = ops.parents;
        let Kept { layer, output, trace } = ops.state;
        let found = B::layer_gradients(layer, output, trace, grad, input.is_some());
        if let (Some(node), Some(gradient)) = (input, found.input) {
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = weight {
            grads.register::<B>(node.id, found.weight);
        }
        if let Some(node) = bias {
            grads.register::<B>(node.id, found.bias);
        }
    }
}

#[cfg(test)]
mod tests;
