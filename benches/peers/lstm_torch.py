"""The benchmark's LSTM autoencoder in PyTorch beside ours, on the CPU or on an NVIDIA GPU.

The same model and sizes as `benches/lstm.rs`, which this script runs. Both sides take turns, so that
what else the machine does falls on both; ratios are those of the medians, by the clock and (`_cpu`)
per second of processor time.

    python3 -m venv venv && venv/bin/pip install torch numpy
    venv/bin/python benches/peers/lstm_torch.py --threads 1
    venv/bin/python benches/peers/lstm_torch.py --device gpu            # eager cuDNN, plain f32
    venv/bin/python benches/peers/lstm_torch.py --device gpu --tf32 --compile

PyTorch 2.15 was used for the README's figures. `--alone` leaves our side out.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time

import torch
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]

# steps, metrics, hidden, encoding, batch: as in benches/lstm.rs
SIZES = [(168, 16, 64, 32, 64), (168, 16, 64, 32, 1024), (52, 4, 32, 16, 256), (336, 38, 128, 64, 256)]


class Autoencoder(nn.Module):
    """Two layers in, the last state for every step, two layers out, a linear output."""

    def __init__(self, metrics, hidden, encoding):
        super().__init__()
        sizes = [(metrics, hidden), (hidden, encoding), (encoding, encoding), (encoding, hidden)]
        self.layers = nn.ModuleList(nn.LSTM(inputs, width) for inputs, width in sizes)
        self.output = nn.Linear(hidden, metrics)
        with torch.no_grad():
            for layer in self.layers:
                # Open forget gates, as on our side: else gradients vanish into subnormal numbers.
                layer.bias_ih_l0.chunk(4)[1].fill_(1.0)

    def forward(self, x):
        steps = x.shape[0]
        for place, layer in enumerate(self.layers):
            if place == 2:
                x = x[-1:].expand(steps, -1, -1)
            x, _ = layer(x)
        return self.output(x)


def rate(work, wait, windows, seconds, times):
    """Windows per second of `work` (median) and per second of processor time, after calls that do not
    count; waits every `times`."""
    work()
    work()
    wait()
    spent = []
    cpu = time.process_time()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(spent) < 5:
        start = time.perf_counter()
        for _ in range(times):
            work()
        wait()
        spent.append(time.perf_counter() - start)
    cpu = time.process_time() - cpu
    return windows * times / statistics.median(spent), windows * times * len(spent) / cpu


def theirs(size, arguments):
    """In training and in inference: windows per second, and per second of processor time."""
    steps, metrics, hidden, encoding, batch = size
    cuda = arguments.device != "cpu"
    device = torch.device("cuda" if cuda else "cpu")
    torch.manual_seed(0)
    model = Autoencoder(metrics, hidden, encoding).to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    run = torch.compile(model) if arguments.compile else model
    x = (torch.rand(steps, batch, metrics) * 2 - 1).to(device)
    wait = torch.cuda.synchronize if cuda else lambda: None
    times = 20 if cuda else 1

    def train():
        optimizer.zero_grad(set_to_none=True)
        ((run(x) - x) ** 2).mean().backward()
        optimizer.step()

    def infer():
        with torch.inference_mode():
            run(x).sum()

    trained = rate(train, wait, batch, arguments.seconds, times)
    return trained, rate(infer, wait, batch, arguments.seconds / 2, times)


def ours(size, arguments):
    """The same of `benches/lstm.rs`."""
    command = arguments.bench.split() if arguments.bench else ["cargo", "bench", "--bench", "lstm", "--"]
    command += ["--size", ",".join(map(str, size)), "--threads", str(arguments.threads)]
    command += ["--device", arguments.device, "--seconds", str(arguments.seconds)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return [
        (found[f"{what}_windows_per_s"], found[f"{what}_windows_per_cpu_s"]) for what in ["train", "infer"]
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or gpu")
    parser.add_argument("--seconds", type=float, default=3.0, help="of training, per size and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", action="append", help="steps,metrics,hidden,encoding,batch")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--tf32", action="store_true", help="let cuDNN round products to TF32")
    parser.add_argument("--alone", action="store_true", help="PyTorch only")
    parser.add_argument("--bench", help="our bench's executable, where it is built already")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.allow_tf32 = arguments.tf32
    torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    sizes = [tuple(map(int, size.split(","))) for size in arguments.size or []] or SIZES
    for size in sizes:
        rounds = []
        for _ in range(arguments.rounds):
            rounds.append((theirs(size, arguments), None if arguments.alone else ours(size, arguments)))
        line = {"size": size, "device": arguments.device, "threads": arguments.threads}
        line["torch"] = torch.__version__
        for place, what in enumerate(["train", "infer"]):
            for clock, name in enumerate(["", "_cpu"] if arguments.device == "cpu" else [""]):
                peer = statistics.median(their[place][clock] for their, _ in rounds)
                line[f"{what}{name}_torch"] = round(peer)
                if not arguments.alone:
                    own = statistics.median(our[place][clock] for _, our in rounds)
                    line[f"{what}{name}_ours"] = round(own)
                    line[f"{what}{name}_ratio"] = round(own / peer, 2)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
