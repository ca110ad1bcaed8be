//! Windows per second of the LSTM autoencoder, training and inference, on the CPU or a GPU.
//!
//! ```sh
//! cargo bench --bench lstm -- --threads 2 --size 168,16,64,32,64
//! cargo bench --bench lstm -- --device gpu --model burn
//! ```
//!
//! Prints one JSON line per size: median windows per second, windows per second of processor time
//! (Linux; it means more on a machine that does other work), and the billions of multiplications
//! and additions per second that the former make of the network's matrix products. Without `--size` (steps,
//! metrics, hidden, encoding, batch) it takes the four sizes of `SIZES`. `peers/lstm_torch.py` runs it
//! beside the same model in PyTorch and prints the ratios.

#[path = "support/autoencoders.rs"]
mod autoencoders;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anomalist::device::{self, ComputeDevice, DeviceChoice};
use autoencoders::{Autoencoder, Burns, Ours, Size, Trainer, batch};

const SIZES: [[usize; 5]; 4] = [
    [168, 16, 64, 32, 64],
    [168, 16, 64, 32, 1_024],
    [52, 4, 32, 16, 256],
    [336, 38, 128, 64, 256],
];

struct Arguments {
    sizes: Vec<[usize; 5]>,
    threads: usize,
    device: DeviceChoice,
    seconds: f64,
    burns: bool,
}

impl Arguments {
    fn read() -> Result<Self, String> {
        let mut found = Self {
            sizes: Vec::new(),
            threads: 2,
            device: DeviceChoice::Cpu,
            seconds: 5.0,
            burns: false,
        };
        // `cargo bench` adds the first of these itself.
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            let wrong = |_| format!("{name} {value} is no number");
            match name.as_str() {
                "--size" => found.sizes.push(size(&value)?),
                "--threads" => found.threads = value.parse().map_err(wrong)?,
                "--seconds" => {
                    found.seconds =
                        value.parse().map_err(|_| format!("--seconds {value} is no number"))?;
                }
                "--device" => found.device = value.parse()?,
                "--model" => found.burns = value == "burn",
                _ => return Err(format!("{name} is not known")),
            }
        }
        if found.sizes.is_empty() {
            found.sizes = SIZES.to_vec();
        }
        Ok(found)
    }
}

fn size(text: &str) -> Result<[usize; 5], String> {
    let numbers: Vec<usize> = text.split(',').filter_map(|number| number.parse().ok()).collect();
    numbers
        .try_into()
        .map_err(|_| format!("--size {text}: write steps,metrics,hidden,encoding,batch"))
}

/// Windows per second, and per second of processor time.
struct Rate {
    windows_per_s: f64,
    windows_per_cpu_s: Option<f64>,
}

/// The rate of `work`, which takes `times` batches before it waits for the device.
fn rate(mut work: impl FnMut(usize), times: usize, windows: usize, seconds: f64) -> Rate {
    work(1);
    work(times);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let cpu = cpu_seconds();
    let mut spent = Vec::new();
    while Instant::now() < end || spent.len() < 5 {
        let start = Instant::now();
        work(times);
        spent.push(start.elapsed().as_secs_f64());
    }
    let cpu = cpu_seconds().zip(cpu).map(|(after, before)| after - before);
    spent.sort_by(f64::total_cmp);
    let windows = (windows * times) as f64;
    Rate {
        windows_per_s: windows / spent[spent.len() / 2],
        windows_per_cpu_s: cpu.map(|cpu| windows * spent.len() as f64 / cpu),
    }
}

/// Processor time of all threads of the process so far.
fn cpu_seconds() -> Option<f64> {
    /// The kernel's unit in this file, whatever its own clock.
    const TICKS_PER_S: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name in brackets, which may hold spaces: state, then ten fields, then user and
    // system time.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11..13)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    Some(ticks / TICKS_PER_S)
}

/// Training and inference of one model, windows per second.
fn measure<M: Autoencoder>(
    model: impl Fn(&burn::tensor::Device) -> M,
    size: Size,
    device: &ComputeDevice,
    seconds: f64,
) -> [Rate; 2] {
    let tracked = device.burn().clone().autodiff();
    let mut trainer = Trainer::new(model(&tracked), size, &tracked);
    // A GPU is read, and so waited for, once in a while, as in training.
    let times = if device.is_cpu() { 1 } else { 20 };
    let train = |times: usize| {
        let losses: Vec<_> = (0..times).map(|_| trainer.step()).collect();
        black_box(losses.into_iter().map(read).sum::<f32>());
    };
    let train = rate(train, times, size.batch, seconds);
    let (model, input) = (model(device.burn()), batch(size, device.burn()));
    let infer = |times: usize| {
        // A sum for each batch: reading whole outputs would measure the bus.
        let sums: Vec<_> = (0..times).map(|_| model.forward(input.clone(), size).sum()).collect();
        black_box(sums.into_iter().map(read).sum::<f32>());
    };
    [train, rate(infer, times, size.batch, seconds / 2.0)]
}

/// Reading is what makes a device finish: the data of a tensor come when they are looked at.
fn read(value: burn::tensor::Tensor<1>) -> f32 {
    value.into_data().iter::<f32>().next().unwrap_or(f32::NAN)
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    pool.build_global().map_err(|error| error.to_string())?;
    let (device, _) = device::choose(arguments.device).map_err(|error| error.to_string())?;
    for numbers in arguments.sizes {
        let size = Size::from(numbers);
        let [train, infer] = if arguments.burns {
            measure(|device| Burns::new(size, device), size, &device, arguments.seconds)
        } else {
            measure(|device| Ours::new(size, device), size, &device, arguments.seconds)
        };
        let line = serde_json::json!({
            "size": numbers,
            "device": device.name(),
            "threads": arguments.threads,
            "model": if arguments.burns { "burn" } else { "ours" },
            "train_windows_per_s": train.windows_per_s.round(),
            "infer_windows_per_s": infer.windows_per_s.round(),
            "train_windows_per_cpu_s": train.windows_per_cpu_s.map(f64::round),
            "infer_windows_per_cpu_s": infer.windows_per_cpu_s.map(f64::round),
            // The backward pass makes two products of each one forward.
            "train_gflop_per_s": (train.windows_per_s * 3.0 * size.gflop()).round(),
            "infer_gflop_per_s": (infer.windows_per_s * size.gflop()).round(),
        });
        println!("{line}");
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
