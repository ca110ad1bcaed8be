"""Golden values for tests/lstm: PyTorch's LSTM in double precision on one small case, and how far
its own single precision strays from that on larger ones, norm-wise, for the output and for the
gradients by input, weight and bias.

Needs torch (written with 2.15.0, CPU); run:
python tests/golden/lstm_reference.py > tests/golden/lstm_reference.json
"""

import json

import numpy
import torch

# steps, batch, inputs, hidden
SIZES = [
    (1, 16, 3, 5),
    (7, 1, 4, 9),
    (24, 5, 7, 20),
    (30, 3, 5, 33),
    (52, 32, 4, 32),
    (168, 4, 16, 64),
    (336, 2, 38, 128),
]


def numbers(n, seed):
    """As `numbers` in tests/lstm/reference.rs: between -0.5 and 0.5, exact in single precision."""
    hashed = numpy.arange(n, dtype=numpy.uint32) + numpy.uint32(seed * 0x9E3779B9 % 2**32)
    hashed = (hashed ^ (hashed >> 16)) * numpy.uint32(0x85EBCA6B)
    hashed = (hashed ^ (hashed >> 13)) * numpy.uint32(0xC2B2AE35)
    return ((hashed ^ (hashed >> 16)) >> 8).astype(numpy.float64) / (1 << 24) - 0.5


def run(size, dtype):
    """Output and gradients by input, weight [inputs + hidden, 4 hidden] and bias."""
    steps, batch, inputs, hidden = size
    scale = 2.0 ** -round(numpy.log2(hidden) / 2 - 1)
    x = torch.tensor(4 * numbers(steps * batch * inputs, 1).reshape(steps, batch, inputs))
    weight = scale * numbers((inputs + hidden) * 4 * hidden, 2).reshape(-1, 4 * hidden)
    bias = numbers(4 * hidden, 3)
    loss = torch.tensor(numbers(steps * batch * hidden, 4).reshape(steps, batch, hidden))
    layer = torch.nn.LSTM(inputs, hidden).to(dtype)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor(weight[:inputs].T.copy()))
        layer.weight_hh_l0.copy_(torch.tensor(weight[inputs:].T.copy()))
        layer.bias_ih_l0.copy_(torch.tensor(bias))
        layer.bias_hh_l0.zero_()
    x = x.to(dtype).requires_grad_()
    output, _ = layer(x)
    (output * loss.to(dtype)).sum().backward()
    by_weight = torch.cat([layer.weight_ih_l0.grad.T, layer.weight_hh_l0.grad.T])
    found = [output.detach(), x.grad, by_weight, layer.bias_ih_l0.grad]
    return [value.double() for value in found]


def main():
    torch.manual_seed(0)
    cases = []
    for size in SIZES:
        exact, single = run(size, torch.float64), run(size, torch.float32)
        errors = [float((s - e).norm() / e.norm()) for s, e in zip(single, exact)]
        cases.append({"size": size, "single_precision_errors": errors})
    small = (4, 2, 3, 5)
    values = [value.flatten().tolist() for value in run(small, torch.float64)]
    print(json.dumps({
        "torch": torch.__version__,
        "cases": cases,
        "small": {"size": small, "values": values},
    }))


if __name__ == "__main__":
    main()
