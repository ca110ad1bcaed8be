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
    model::{Architecture, Network, Weights},
    params::LstmParams,
    train::TrainingCurve,
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
    let readable = Readable {
        params: fitted.params.clone(),
        metrics: fitted.metrics.clone(),
        step: fitted.step,
        keys: fitted.keys.clone(),
        scaling: fitted.scaling.clone(),
        errors: fitted.errors.clone(),
        curve: fitted.curve.clone(),
    };
    let json = serde_json::to_value(readable).map_err(wrong)?;
    let architecture = Architecture::new(&fitted.params, fitted.metrics.len());
    let device = ComputeDevice::cpu();
    let network = Network::new(architecture, &fitted.weights, device.burn());
    // Without burn's metadata, whose order is random: the same weights are the same bytes.
    let mut store = SafetensorsStore::from_bytes(None).clear_metadata();
    store.collect_from(&network).map_err(wrong)?;
    let weights = store.get_bytes().map_err(wrong)?;
    Ok(DetectorState { json, weights: Some(weights) })
}

pub(super) fn restore(state: DetectorState) -> Result<FittedLstm, DetectorError> {
    let Readable { params, metrics, step, keys, scaling, errors, curve } =
        serde_json::from_value(state.json).map_err(wrong)?;
    if let Some((name, text)) = params.check().into_iter().next() {
        return Err(wrong(format!("`{name}` {text}")));
    }
    if metrics.is_empty() {
        return Err(wrong("it has no metric"));
    }
    let defect = scaling.defect(keys.len(), metrics.len());
    if let Some(defect) = defect.or_else(|| errors.defect(keys.len(), metrics.len())) {
        return Err(wrong(defect));
    }
    let bytes = state.weights.ok_or_else(|| wrong("it has no weights"))?;
    let weights = read_weights(Architecture::new(&params, metrics.len()), bytes)?;
    Ok(FittedLstm { params, metrics, step, keys, scaling, errors, curve, weights })
}

fn read_weights(architecture: Architecture, bytes: Vec<u8>) -> Result<Weights, DetectorError> {
    let mut store = SafetensorsStore::from_bytes(Some(bytes));
    let tensors = store.get_all_tensors().map_err(wrong)?;
    let shapes = architecture.shapes();
    if tensors.len() != shapes.len() {
        return Err(wrong(format!("{} weights, not {}", tensors.len(), shapes.len())));
    }
    let mut weights = Vec::with_capacity(shapes.len());
    for (name, shape) in shapes {
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
    if weights.are_finite() { Ok(weights) } else { Err(wrong("a weight is not a number")) }
}
