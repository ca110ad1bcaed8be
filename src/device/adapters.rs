//! What GPU adapters this machine has, and why it has none.

use std::{
    fmt,
    future::Future,
    panic::catch_unwind,
    path::{Path, PathBuf},
    pin::pin,
    sync::OnceLock,
    task::{Context, Poll, Waker},
};

use burn::backend::{
    WgpuDeviceKind,
    wgpu::{WgpuBackend, WgpuDevice, wgpu},
};

/// What an adapter is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterKind {
    Discrete,
    Integrated,
    /// A GPU passed through to a virtual machine.
    Virtual,
    /// The driver does not say.
    Other,
    /// A rasteriser that runs on the CPU (llvmpipe, lavapipe, WARP).
    Software,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Other => "unknown kind",
            Self::Software => "software rasteriser",
        })
    }
}

/// One GPU adapter on one graphics interface.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Place in the list: `gpu:0`, `gpu:1`, …
    pub place: usize,
    pub name: String,
    pub kind: AdapterKind,
    /// The graphics interface: `Vulkan`, `Metal`, `Dx12`, `Gl`.
    pub api: String,
    /// Name and version of the driver, as it tells them.
    pub driver: String,
    /// The largest storage buffer, in bytes, that a computation may bind.
    pub max_binding_bytes: u64,
    /// Memory that the threads of one workgroup share, in bytes.
    pub workgroup_memory_bytes: u32,
    handle: WgpuDevice,
}

impl Adapter {
    /// How burn addresses the adapter.
    pub(super) fn handle(&self) -> &WgpuDevice {
        &self.handle
    }

    #[cfg(test)]
    pub(super) fn for_test(place: usize, kind: AdapterKind) -> Self {
        Self {
            place,
            name: format!("adapter {place}"),
            kind,
            api: "Vulkan".into(),
            driver: String::new(),
            max_binding_bytes: 1,
            workgroup_memory_bytes: 1,
            handle: WgpuDevice::default(),
        }
    }
}

/// Every adapter, best first; the CPU backend is always there beside them.
#[derive(Clone, Debug)]
pub struct DeviceList {
    pub adapters: Vec<Adapter>,
    /// Why there is no real GPU, with what to do; `None` when there is one.
    pub no_gpu_reason: Option<String>,
}

/// The graphics interfaces in the order in which they are tried.
const INTERFACES: [(wgpu::Backend, WgpuBackend); 4] = [
    (wgpu::Backend::Vulkan, WgpuBackend::Vulkan),
    (wgpu::Backend::Metal, WgpuBackend::Metal),
    (wgpu::Backend::Dx12, WgpuBackend::Dx12),
    (wgpu::Backend::Gl, WgpuBackend::Gl),
];

/// Every adapter of this machine, best first. Asked once per process: drivers do not like their
/// instances to come and go.
pub fn list() -> DeviceList {
    static ADAPTERS: OnceLock<Vec<Adapter>> = OnceLock::new();
    let adapters = ADAPTERS.get_or_init(enumerate).clone();
    let real = adapters.iter().any(|adapter| adapter.kind != AdapterKind::Software);
    let no_gpu_reason = (!real).then(|| explain(&adapters));
    DeviceList { adapters, no_gpu_reason }
}

fn enumerate() -> Vec<Adapter> {
    let mut adapters: Vec<Adapter> = Vec::new();
    for (interface, burn_interface) in INTERFACES {
        if !wgpu::Instance::enabled_backend_features().contains(interface.into()) {
            continue;
        }
        // OpenGL shows the adapters of the other interfaces once more: it counts only where it
        // has a GPU and they have none.
        if interface == wgpu::Backend::Gl
            && adapters.iter().any(|adapter| adapter.kind != AdapterKind::Software)
        {
            continue;
        }
        // A driver that fails while it is asked has no adapter.
        let mut found = catch_unwind(|| adapters_of(interface, burn_interface)).unwrap_or_default();
        if interface == wgpu::Backend::Gl {
            found.retain(|adapter| adapter.kind != AdapterKind::Software);
        }
        adapters.append(&mut found);
    }
    adapters.sort_by_key(|adapter| adapter.kind);
    for (place, adapter) in adapters.iter_mut().enumerate() {
        adapter.place = place;
    }
    adapters
}

fn adapters_of(interface: wgpu::Backend, burn_interface: WgpuBackend) -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: interface.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = wait(instance.enumerate_adapters(interface.into())).unwrap_or_default();
    let mut counts = [0; 5];
    found
        .iter()
        .map(|adapter| {
            let (info, limits) = (adapter.get_info(), adapter.limits());
            let kind = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
                wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
                wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
                wgpu::DeviceType::Cpu => AdapterKind::Software,
                wgpu::DeviceType::Other => AdapterKind::Other,
            };
            // burn counts the adapters of each kind on their own.
            let index = counts[kind as usize];
            counts[kind as usize] += 1;
            let burn_kind = match kind {
                AdapterKind::Discrete => WgpuDeviceKind::DiscreteGpu(index),
                AdapterKind::Integrated => WgpuDeviceKind::IntegratedGpu(index),
                AdapterKind::Virtual => WgpuDeviceKind::VirtualGpu(index),
                AdapterKind::Other => WgpuDeviceKind::Other(index),
                AdapterKind::Software => WgpuDeviceKind::Cpu,
            };
            Adapter {
                place: 0,
                name: info.name,
                kind,
                api: format!("{interface:?}"),
                driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
                max_binding_bytes: limits
                    .max_storage_buffer_binding_size
                    .min(limits.max_buffer_size),
                workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
                handle: WgpuDevice::new(burn_kind).on(burn_interface),
            }
        })
        .collect()
}

/// Runs a future that has nothing to wait for, as wgpu's are outside a browser.
fn wait<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        std::thread::yield_now();
    }
    None
}

/// Why there is no real GPU, and what to do about it.
fn explain(adapters: &[Adapter]) -> String {
    if let Some(software) = adapters.first() {
        return format!(
            "only a software rasteriser ({}) answers: install the driver of your GPU, or pass the GPU through to this container or machine",
            software.name
        );
    }
    if !cfg!(target_os = "linux") {
        return "no graphics interface has an adapter: install the driver of your GPU".into();
    }
    if !has_vulkan_loader() {
        return "the Vulkan loader (libvulkan.so.1) is missing: install it (Debian and Ubuntu: libvulkan1) and the driver of your GPU".into();
    }
    if !has_vulkan_driver() {
        return "the Vulkan loader is there, but no driver: install your GPU's (Debian and Ubuntu: nvidia-driver for NVIDIA, mesa-vulkan-drivers for AMD and Intel)".into();
    }
    "Vulkan drivers are installed, but none finds a GPU: pass the GPU through to this container or machine, and check the permissions of /dev/dri".into()
}

fn has_vulkan_loader() -> bool {
    const LOADER: &str = "libvulkan.so.1";
    let named = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&named);
    if folders.any(|folder| folder.join(LOADER).exists()) {
        return true;
    }
    match std::fs::read("/etc/ld.so.cache") {
        Ok(cache) => cache.windows(LOADER.len()).any(|bytes| bytes == LOADER.as_bytes()),
        Err(_) => ["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib"]
            .iter()
            .any(|folder| Path::new(folder).join(LOADER).exists()),
    }
}

/// Whether a driver manifest lies where the loader looks for one.
fn has_vulkan_driver() -> bool {
    if std::env::var_os("VK_DRIVER_FILES")
        .or_else(|| std::env::var_os("VK_ICD_FILENAMES"))
        .is_some()
    {
        return true;
    }
    let mut roots: Vec<PathBuf> = ["/etc", "/usr/local/etc", "/usr/local/share", "/usr/share"]
        .iter()
        .map(PathBuf::from)
        .collect();
    let named = std::env::var_os("XDG_DATA_DIRS").unwrap_or_default();
    roots.extend(std::env::split_paths(&named));
    if let Some(home) = std::env::var_os("HOME") {
        roots.push(Path::new(&home).join(".local/share"));
    }
    roots.iter().any(|root| {
        std::fs::read_dir(root.join("vulkan/icd.d"))
            .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok()))
    })
}
