//! A linear layer over every step of every window, as one operation beside the LSTM's.
//!
//! burn's product reshapes its arguments by copying, packs a matrix of 64 columns for sixteen
//! results, and runs on one thread: a tenth of a training step. On the CPU this one runs over
//! chunks of rows on all threads; on a GPU it is the backend's product and sum.

// burn-ndarray is deprecated upstream; it is the CPU backend that the project names.
#![allow(deprecated)]

use burn::{
    backend::{
        Autodiff, Backend, Cube, Dispatch, NdArray, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        ops::FloatTensorOps,
        tensor::FloatTensor,
    },
    tensor::{Shape, Tensor},
};

use super::{Floats, rows, tensor};

/// `input · weight + bias` for every step and window, differentiable.
///
/// - `input`: `[steps, batch, width]`;
/// - `weight`: `[width, outputs]`;
/// - `bias`: `[outputs]`.
///
/// Returns `[steps, batch, outputs]`.
///
/// # Panics
/// When the shapes do not fit each other, as burn's own operations do.
pub fn project(input: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as ProjectionOps>::project(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

/// The operation as burn's dispatch sees it.
#[backend_extension(Cube, NdArray, Autodiff)]
pub trait ProjectionOps: Backend {
    /// See [`project`].
    fn project(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// What a backend brings.
pub trait ProjectionKernel: ProjectionOps {
    /// Gradients by input, weight and bias, from the gradient by the output.
    fn projection_gradients(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];
}

/// Steps, windows, width of the input, outputs.
fn sizes<B: Backend>(input: &FloatTensor<B>, weight: &FloatTensor<B>) -> [usize; 4] {
    let (input, weight) = (input.shape(), weight.shape());
    assert!(
        input.num_dims() == 3 && weight[0] == input[2],
        "a projection of {input:?} does not fit a weight of shape {weight:?}"
    );
    [input[0], input[1], input[2], weight[1]]
}

impl ProjectionOps for Cube {
    fn project(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [steps, batch, width, outputs] = sizes::<Self>(&input, &weight);
        let flat = Self::float_reshape(input, Shape::new([steps * batch, width]));
        let bias = Self::float_reshape(bias, Shape::new([1, outputs]));
        let out = Self::float_add(Self::float_matmul(flat, weight), bias);
        Self::float_reshape(out, Shape::new([steps, batch, outputs]))
    }
}

impl ProjectionKernel for Cube {
    fn projection_gradients(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        let [steps, batch, width, outputs] = sizes::<Self>(&input, &weight);
        let flat = Self::float_reshape(input, Shape::new([steps * batch, width]));
        let grad = Self::float_reshape(grad, Shape::new([steps * batch, outputs]));
        let by_input = Self::float_matmul(grad.clone(), Self::float_swap_dims(weight, 0, 1));
        let by_weight = Self::float_matmul(Self::float_swap_dims(flat, 0, 1), grad.clone());
        let by_bias = Self::float_reshape(Self::float_sum_dim(grad, 0), Shape::new([outputs]));
        [Self::float_reshape(by_input, Shape::new([steps, batch, width])), by_weight, by_bias]
    }
}

impl ProjectionOps for NdArray {
    fn project(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [steps, batch, width, outputs] = sizes::<Self>(&input, &weight);
        let [input, weight, bias] = [input, weight, bias].map(Floats::of);
        let sizes = rows::Sizes { width, outputs };
        let out = rows::forward(sizes, input.values(), weight.values(), bias.values());
        tensor(out, &[steps, batch, outputs])
    }
}

impl ProjectionKernel for NdArray {
    fn projection_gradients(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        let [steps, batch, width, outputs] = sizes::<Self>(&input, &weight);
        let [input, weight, grad] = [input, weight, grad].map(Floats::of);
        let sizes = rows::Sizes { width, outputs };
        let found = rows::gradients(sizes, input.values(), weight.values(), grad.values());
        [
            tensor(found.input, &[steps, batch, width]),
            tensor(found.weight, &[width, outputs]),
            tensor(found.bias, &[outputs]),
        ]
    }
}

impl<B: ProjectionKernel, C: CheckpointStrategy> ProjectionOps for Autodiff<B, C> {
    fn project(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let guards = [input.node(), weight.node(), bias.node()];
        let (input, weight) = (input.into_primitive(), weight.into_primitive());
        let output = B::project(input.clone(), weight.clone(), bias.into_primitive());
        match BackwardProjection.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((input, weight), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

/// The backward step of one call.
#[derive(Debug)]
struct BackwardProjection;

impl<B: ProjectionKernel> Backward<B, 3> for BackwardProjection {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (input, weight) = ops.state;
        let found = B::projection_gradients(input, weight, grad);
        for (node, gradient) in ops.parents.into_iter().zip(found) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
