//! Listing and choosing CPU and GPU devices.

/// Where tensors live: chosen once per run.
#[derive(Clone, Debug)]
pub struct ComputeDevice {
    burn: burn::tensor::Device,
    name: String,
}

impl ComputeDevice {
    /// The CPU, always there.
    #[allow(deprecated)] // burn-ndarray is deprecated upstream; it is the CPU backend that the project names.
    pub fn cpu() -> Self {
        Self { burn: burn::tensor::Device::ndarray(), name: "cpu".into() }
    }
    /// The device as burn knows it.
    pub fn burn(&self) -> &burn::tensor::Device {
        &self.burn
    }
    /// What a run report calls it.
    pub fn name(&self) -> &str {
        &self.name
    }
}
