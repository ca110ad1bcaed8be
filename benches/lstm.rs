//! Windows per second of the LSTM autoencoder on the CPU, training and inference, beside the same
//! model out of burn's own layer. `peers/lstm_torch.py` measures the same model in PyTorch.
//!
//! T = 168, 16 metrics, hidden 64, encoding 32, batch 64. Set `RAYON_NUM_THREADS` for another
//! number of threads than the machine has.

#[path = "support/autoencoders.rs"]
mod autoencoders;

use std::{hint::black_box, time::Duration};

use anomalist::device::ComputeDevice;
use autoencoders::{Autoencoder, BATCH, Burns, Ours, Trainer, batch};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn training(criterion: &mut Criterion) {
    let device = ComputeDevice::cpu().burn().clone().autodiff();
    let mut group = criterion.benchmark_group("lstm_train");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(10);
    group.measurement_time(Duration::from_secs(10));
    let mut ours = Trainer::new(Ours::new(&device), &device);
    group.bench_function("ours", |bencher| bencher.iter(|| black_box(ours.step())));
    let mut burns = Trainer::new(Burns::new(&device), &device);
    group.bench_function("burn", |bencher| bencher.iter(|| black_box(burns.step())));
    group.finish();
}

fn inference(criterion: &mut Criterion) {
    let device = ComputeDevice::cpu();
    let input = batch(device.burn());
    let mut group = criterion.benchmark_group("lstm_infer");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(10);
    group.measurement_time(Duration::from_secs(5));
    let ours = Ours::new(device.burn());
    group.bench_function("ours", |bencher| {
        bencher.iter(|| black_box(ours.forward(input.clone()).into_data()));
    });
    let burns = Burns::new(device.burn());
    group.bench_function("burn", |bencher| {
        bencher.iter(|| black_box(burns.forward(input.clone()).into_data()));
    });
    group.finish();
}

criterion_group!(benches, training, inference);
criterion_main!(benches);
