//! Listing and choosing CPU and GPU devices.
//!
//! One binary serves both: the backend is chosen at run time. Three habits follow from what goes
//! wrong on real machines:
//!
//! - `auto` never takes a software rasteriser. A GPU driver that runs on the CPU is hundreds of
//!   times slower than the CPU path; it is good for tests, and only when named.
//! - A device that was named and is missing is an error with a remedy, never a silent fallback.
//! - A driver may crash while it starts. Starting is fallible here, panics included, and ends with
//!   a small computation whose result is checked, so that a broken driver is found before
//!   an hour of training.

mod adapters;

pub use adapters::{Adapter, AdapterKind, DeviceList, list};

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use burn::{
    backend::wgpu::{RuntimeOptions, graphics::AutoGraphicsApi, try_init_setup},
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

/// Where tensors live: chosen once per run.
#[derive(Clone, Debug)]
pub struct ComputeDevice {
    burn: Device,
    name: String,
    max_binding_bytes: Option<u64>,
}

impl ComputeDevice {
    /// The CPU, always there.
    #[allow(deprecated)] // burn-ndarray is deprecated upstream; it is the CPU backend that the project names.
    pub fn cpu() -> Self {
        Self { burn: Device::ndarray(), name: "cpu".into(), max_binding_bytes: None }
    }
    /// The device as burn knows it.
    pub fn burn(&self) -> &Device {
        &self.burn
    }
    /// What a run report calls it.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The largest buffer, in bytes, that a computation may bind; `None` where memory is the limit.
    pub fn max_binding_bytes(&self) -> Option<u64> {
        self.max_binding_bytes
    }
    /// Whether this is the CPU path.
    pub fn is_cpu(&self) -> bool {
        self.max_binding_bytes.is_none()
    }
}

/// What a user asks for: `auto`, `gpu`, `gpu:N` or `cpu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The best real GPU, else the CPU with a line that says so.
    #[default]
    Auto,
    /// The best adapter; an error when there is none.
    Gpu,
    /// The adapter at this place in [`list`].
    GpuAt(usize),
    Cpu,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = || {
            format!(
                "`{text}` is no device: write auto, gpu, gpu:N (see `anomalist devices`) or cpu"
            )
        };
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "gpu" => Ok(Self::Gpu),
            "cpu" => Ok(Self::Cpu),
            other => {
                let place = other.strip_prefix("gpu:").ok_or_else(help)?;
                place.parse().map(Self::GpuAt).map_err(|_| help())
            }
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> String {
        choice.to_string()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Gpu => f.write_str("gpu"),
            Self::GpuAt(place) => write!(f, "gpu:{place}"),
            Self::Cpu => f.write_str("cpu"),
        }
    }
}

/// Why a device that was asked for by name cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("device `{choice}`: no GPU: {reason}; or take --device cpu")]
    NoGpu { choice: DeviceChoice, reason: String },
    #[error(
        "device `{choice}`: there are {found} adapters, counted from 0: `anomalist devices` lists them; or take --device cpu"
    )]
    NoSuchAdapter { choice: DeviceChoice, found: usize },
    #[error(
        "device `{choice}`: {adapter} does not start: {reason}; update its driver, or take another device (`anomalist devices`) or --device cpu"
    )]
    Start { choice: DeviceChoice, adapter: String, reason: String },
}

/// Chooses a device, and says what the user should know about the choice.
///
/// # Errors
/// A device asked for by name that is missing or does not start. `auto` never fails.
pub fn choose(choice: DeviceChoice) -> Result<(ComputeDevice, Vec<String>), DeviceError> {
    if choice == DeviceChoice::Cpu {
        return Ok((ComputeDevice::cpu(), Vec::new()));
    }
    choose_from(&list(), choice, start)
}

fn choose_from(
    list: &DeviceList,
    choice: DeviceChoice,
    start: impl Fn(&Adapter) -> Result<ComputeDevice, String>,
) -> Result<(ComputeDevice, Vec<String>), DeviceError> {
    let reason = || list.no_gpu_reason.clone().unwrap_or_else(|| "no adapter was found".into());
    let adapter = match choice {
        DeviceChoice::Cpu => return Ok((ComputeDevice::cpu(), Vec::new())),
        DeviceChoice::Auto => return Ok(automatic(list, &reason(), start)),
        DeviceChoice::Gpu => {
            list.adapters.first().ok_or_else(|| DeviceError::NoGpu { choice, reason: reason() })?
        }
        DeviceChoice::GpuAt(_) if list.adapters.is_empty() => {
            return Err(DeviceError::NoGpu { choice, reason: reason() });
        }
        DeviceChoice::GpuAt(place) => {
            let found = list.adapters.len();
            list.adapters.get(place).ok_or(DeviceError::NoSuchAdapter { choice, found })?
        }
    };
    let device = start(adapter).map_err(|reason| DeviceError::Start {
        choice,
        adapter: adapter.name.clone(),
        reason,
    })?;
    let mut warnings = Vec::new();
    if adapter.kind == AdapterKind::Software {
        warnings.push(format!(
            "{} is a software rasteriser: it computes on the CPU, far slower than --device cpu does",
            adapter.name
        ));
    }
    Ok((device, warnings))
}

/// The first real GPU that starts, else the CPU.
fn automatic(
    list: &DeviceList,
    reason: &str,
    start: impl Fn(&Adapter) -> Result<ComputeDevice, String>,
) -> (ComputeDevice, Vec<String>) {
    let mut warnings = Vec::new();
    for adapter in list.adapters.iter().filter(|adapter| adapter.kind != AdapterKind::Software) {
        match start(adapter) {
            Ok(device) => return (device, warnings),
            Err(reason) => warnings.push(format!("{} does not start: {reason}", adapter.name)),
        }
    }
    let why =
        if warnings.is_empty() { format!("no GPU: {reason}") } else { "no GPU starts".into() };
    warnings.push(format!("computing on the CPU ({why})"));
    (ComputeDevice::cpu(), warnings)
}

/// Devices that were started before, by place in the list: a runtime starts once per process.
static STARTED: Mutex<Option<HashMap<usize, ComputeDevice>>> = Mutex::new(None);

fn start(adapter: &Adapter) -> Result<ComputeDevice, String> {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let started = started.get_or_insert_default();
    if let Some(device) = started.get(&adapter.place) {
        return Ok(device.clone());
    }
    let device = catch_unwind(AssertUnwindSafe(|| -> Result<Device, String> {
        let options = RuntimeOptions::try_default().map_err(|error| error.to_string())?;
        try_init_setup::<AutoGraphicsApi>(adapter.handle(), options)
            .map_err(|error| error.to_string())?;
        let device = Device::new(adapter.handle().clone());
        check(&device)?;
        Ok(device)
    }))
    .map_err(|panic| format!("its driver failed ({})", panic_text(&*panic)))??;
    let device = ComputeDevice {
        burn: device,
        name: format!("{} ({})", adapter.name, adapter.api),
        max_binding_bytes: Some(adapter.max_binding_bytes),
    };
    started.insert(adapter.place, device.clone());
    Ok(device)
}

/// A product whose result is known.
fn check(device: &Device) -> Result<(), String> {
    let product = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], device)
        .matmul(Tensor::from_floats([[0.0, 1.0], [1.0, 0.0]], device));
    let found: Vec<f32> = product.into_data().iter::<f32>().collect();
    if found == [2.0, 1.0, 4.0, 3.0] {
        Ok(())
    } else {
        Err(format!("it computes a wrong product: {found:?}"))
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(place: usize, kind: AdapterKind) -> Adapter {
        Adapter::for_test(place, kind)
    }

    fn of(kinds: &[AdapterKind]) -> DeviceList {
        DeviceList {
            adapters: kinds.iter().enumerate().map(|(place, &kind)| adapter(place, kind)).collect(),
            no_gpu_reason: Some("no driver: install one".into()),
        }
    }

    fn starts(adapter: &Adapter) -> Result<ComputeDevice, String> {
        Ok(ComputeDevice { name: adapter.name.clone(), ..ComputeDevice::cpu() })
    }

    #[test]
    fn a_choice_is_read_and_written_alike() {
        for text in ["auto", "gpu", "gpu:3", "cpu"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["", "cuda", "gpu:", "gpu:-1", "gpu:x", "gpu 1"] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(error.contains("gpu:N"), "{error}");
        }
        assert_eq!(serde_json::to_string(&DeviceChoice::GpuAt(1)).unwrap(), "\"gpu:1\"");
        assert_eq!(serde_json::from_str::<DeviceChoice>("\"CPU\"").unwrap(), DeviceChoice::Cpu);
    }

    #[test]
    fn auto_takes_no_software_rasteriser_and_says_so() {
        let (device, warnings) =
            choose_from(&of(&[AdapterKind::Software]), DeviceChoice::Auto, starts).unwrap();
        assert_eq!(device.name(), "cpu");
        assert!(warnings[0].contains("install one"), "{warnings:?}");
    }

    #[test]
    fn auto_passes_over_a_gpu_that_does_not_start() {
        let list = of(&[AdapterKind::Discrete, AdapterKind::Integrated]);
        let start = |adapter: &Adapter| match adapter.place {
            0 => Err("lost".to_string()),
            _ => starts(adapter),
        };
        let (device, warnings) = choose_from(&list, DeviceChoice::Auto, start).unwrap();
        assert_eq!(device.name(), "adapter 1");
        assert_eq!(warnings, ["adapter 0 does not start: lost"]);
    }

    #[test]
    fn a_named_gpu_on_software_only_works_and_warns() {
        let (device, warnings) =
            choose_from(&of(&[AdapterKind::Software]), DeviceChoice::Gpu, starts).unwrap();
        assert_eq!(device.name(), "adapter 0");
        assert!(warnings[0].contains("software rasteriser"));
    }

    #[test]
    fn a_named_device_that_is_missing_is_an_error_with_a_remedy() {
        let none = choose_from(&of(&[]), DeviceChoice::Gpu, starts).unwrap_err();
        assert!(none.to_string().contains("install one"), "{none}");
        let list = of(&[AdapterKind::Discrete]);
        let missing = choose_from(&list, DeviceChoice::GpuAt(1), starts).unwrap_err();
        assert_eq!(
            missing,
            DeviceError::NoSuchAdapter { choice: DeviceChoice::GpuAt(1), found: 1 }
        );
        let broken = |_: &Adapter| Err("lost".to_string());
        let broken = choose_from(&list, DeviceChoice::GpuAt(0), broken).unwrap_err();
        assert!(broken.to_string().contains("--device cpu"), "{broken}");
    }

    #[test]
    fn listing_never_panics_and_explains_a_missing_gpu() {
        let list = list();
        let real = list.adapters.iter().any(|adapter| adapter.kind != AdapterKind::Software);
        assert_eq!(list.no_gpu_reason.is_none(), real);
        for (place, adapter) in list.adapters.iter().enumerate() {
            assert_eq!(adapter.place, place);
            assert!(adapter.max_binding_bytes > 0, "{adapter:?}");
        }
    }
}
