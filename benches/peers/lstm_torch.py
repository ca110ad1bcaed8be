"""Windows per second of the benchmark's LSTM autoencoder in PyTorch, on the CPU.

The same model and sizes as `benches/lstm.rs`. PyTorch 2.15 was used for the README's figures:

    python3 -m venv venv && venv/bin/pip install torch numpy
    venv/bin/python benches/peers/lstm_torch.py --threads 2

Prints one JSON line: median windows per second over the measured time, training and inference.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn

STEPS, METRICS, HIDDEN, ENCODING = 168, 16, 64, 32


class Autoencoder(nn.Module):
    """Two layers in, the last state repeated, two layers out, a linear output."""

    def __init__(self):
        super().__init__()
        sizes = [(METRICS, HIDDEN), (HIDDEN, ENCODING), (ENCODING, ENCODING), (ENCODING, HIDDEN)]
        self.layers = nn.ModuleList(nn.LSTM(inputs, hidden) for inputs, hidden in sizes)
        self.output = nn.Linear(HIDDEN, METRICS)

    def forward(self, x):
        steps = x.shape[0]
        for place, layer in enumerate(self.layers):
            if place == 2:
                x = x[-1:].expand(steps, -1, -1)
            x, _ = layer(x)
        return self.output(x)


def rate(work, windows, seconds):
    """Median windows per second of `work`, after two calls that do not count."""
    work()
    work()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return round(windows / statistics.median(times), 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x = torch.rand(STEPS, arguments.batch, METRICS) * 2 - 1

    def train():
        optimizer.zero_grad(set_to_none=True)
        loss = ((model(x) - x) ** 2).mean()
        loss.backward()
        optimizer.step()

    def infer():
        with torch.inference_mode():
            model(x)

    print(json.dumps({
        "torch": torch.__version__,
        "threads": arguments.threads,
        "batch": arguments.batch,
        "train_windows_per_s": rate(train, arguments.batch, arguments.seconds),
        "infer_windows_per_s": rate(infer, arguments.batch, arguments.seconds / 2),
    }))


if __name__ == "__main__":
    main()
