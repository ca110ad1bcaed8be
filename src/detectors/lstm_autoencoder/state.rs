//! What a checkpoint keeps of a fitted LSTM, and how it is checked on the way back.
//!
//! Everything readable is JSON; the weights are safetensors bytes, so that other tools read them.
//! Nothing of either is trusted: names, shapes, types and values are checked before a network is
//! built from them.

use burn::tensor::DType;
use burn_store::{ModuleStore, SafetensorsStore};
use serde::{Deserialize, Serialize};

use super::{
    NAME,
    errors::ErrorModel,
    fit::FittedLstm,
    input::Scaling,
    model::{Architecture, Network, Networks, Weights},
    params::LstmParams,
    train::TrainingCurve,
    view::FittedView,
};
use crate::{
    detectors::{DetectorError, DetectorState},
    device::ComputeDevice,
    panel::{SeriesKey, Step},
};

/// The readable part.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Readable {
    params: LstmParams,
    metrics: Vec<String>,
    step: Step,
    keys: Vec<SeriesKey>,
    views: Vec<ReadableView>,
}

/// The readable part of one network.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadableView {
    scaling: Scaling,
    errors: ErrorModel,
    curve: TrainingCurve,
}

fn wrong(reason: impl std::fmt::Display) -> DetectorError {
    DetectorError::State {
        detector: NAME,
        reason: format!("{reason}; train again to write a sound checkpoint"),
    }
}

pub(super) fn save(fitted: &FittedLstm) -> Result<DetectorState, DetectorError> {
    let view = |view: &FittedView| ReadableView {
        scaling: view.scaling.clone(),
        errors: view.errors.clone(),
        curve: view.curve.clone(),
    };
    let readable = Readable {
        params: fitted.params.clone(),
        metrics: fitted.metrics.clone(),
        step: fitted.step,
        keys: fitted.keys.clone(),
        views: fitted.views.iter().map(view).collect(),
    };
    let json = serde_json::to_value(readable).map_err(wrong)?;
    let device = ComputeDevice::cpu();
    let network = |(params, view): (&LstmParams, &FittedView)| {
        let architecture = Architecture::new(params, fitted.metrics.len());
        Network::new(architecture, &view.weights, device.burn())
    };
    let views = fitted.params.views().iter().zip(&fitted.views).map(network).collect();
    // Without burn's metadata, whose order is random: the same weights are the same bytes.
    let mut store = SafetensorsStore::from_bytes(None).clear_metadata();
    store.collect_from(&Networks { views }).map_err(wrong)?;
    let weights = store.get_bytes().map_err(wrong)?;
    Ok(DetectorState { json, weights: Some(weights) })
}

pub(super) fn restore(state: DetectorState) -> Result<FittedLstm, DetectorError> {
    let Readable { params, metrics, step, keys, views } =
        serde_json::from_value(state.json).map_err(wrong)?;
    if let Some((name, text)) = params.check().into_iter().next() {
        return Err(wrong(format!("`{name}` {text}")));
    }
    if metrics.is_empty() {
        return Err(wrong("it has no metric"));
    }
    let of_views = params.views();
    if views.len() != of_views.len() {
        return Err(wrong(format!("it has {} networks, not {}", views.len(), of_views.len())));
    }
    for view in &views {
        let defect = view.scaling.defect(keys.len(), metrics.len());
        if let Some(defect) = defect.or_else(|| view.errors.defect(keys.len(), metrics.len())) {
            return Err(wrong(defect));
        }
    }
    let bytes = state.weights.ok_or_else(|| wrong("it has no weights"))?;
    let architectures: Vec<Architecture> =
        of_views.iter().map(|params| Architecture::new(params, metrics.len())).collect();
    let weights = read_weights(&architectures, bytes)?;
    let views = views.into_iter().zip(weights).map(|(view, weights)| {
        let ReadableView { scaling, errors, curve } = view;
        FittedView { scaling, errors, curve, weights }
    });
    Ok(FittedLstm { params, metrics, step, keys, views: views.collect() })
}

fn read_weights(
    architectures: &[Architecture],
    bytes: Vec<u8>,
) -> Result<Vec<Weights>, DetectorError> {
    let mut store = SafetensorsStore::from_bytes(Some(bytes));
    let tensors = store.get_all_tensors().map_err(wrong)?;
    let expected: usize = architectures.iter().map(|of| of.shapes().len()).sum();
    if tensors.len() != expected {
        return Err(wrong(format!("{} weights, not {expected}", tensors.len())));
    }
    let mut views = Vec::with_capacity(architectures.len());
    for (view, architecture) in architectures.iter().enumerate() {
        let mut weights = Vec::new();
        for (name, shape) in architecture.shapes() {
            let name = format!("views.{view}.{name}");
            let tensor = tensors.get(&name).ok_or_else(|| wrong(format!("no weight `{name}`")))?;
            if tensor.dtype != DType::F32 || tensor.shape.to_vec() != shape {
                return Err(wrong(format!(
                    "weight `{name}` is {:?} of shape {:?}, not F32 of shape {shape:?}",
                    tensor.dtype,
                    tensor.shape.to_vec()
                )));
            }
            let bytes = tensor.to_bytes().map_err(wrong)?;
            let (words, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() || words.len() != shape.iter().product::<usize>() {
                return Err(wrong(format!("weight `{name}` is cut off")));
            }
            weights.push(words.iter().map(|word| f32::from_le_bytes(*word)).collect());
        }
        let weights = Weights(weights);
        if !weights.are_finite() {
            return Err(wrong("a weight is not a number"));
        }
        views.push(weights);
    }
    Ok(views)
}
