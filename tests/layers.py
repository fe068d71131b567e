"""Every layer with the shape of an input for it, and what the tests of layers share."""

import numpy as np
import pytest

from tinygan import Tensor, backend, nn

RNG = np.random.default_rng(0)

# Every layer, and the shape of an input for it. Every test below that says "layer" runs on all of them.
LAYERS = {
    "Linear": (lambda: nn.Linear(5, 3), (4, 5)),
    "Linear without bias": (lambda: nn.Linear(5, 3, bias=False), (4, 5)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 5, 4, 2)),
    "Conv2d dilated": (lambda: nn.Conv2d(2, 2, 3, padding=2, dilation=2, bias=False), (2, 5, 4, 2)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), (2, 3, 2, 3)),
    "ConvTranspose2d pairs": (
        lambda: nn.ConvTranspose2d(2, 3, (3, 2), stride=(2, 3), padding=(0, 1), output_padding=(1, 2)),
        (2, 3, 2, 2),
    ),
    "BatchNorm": (lambda: nn.BatchNorm(3), (6, 3)),
    "BatchNorm of images": (lambda: nn.BatchNorm(2), (3, 2, 3, 2)),
    "BatchNorm in evaluation": (lambda: nn.BatchNorm(3).eval(), (6, 3)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (3, 4)),
    "InstanceNorm": (lambda: nn.InstanceNorm(2), (2, 3, 3, 2)),
    "Dropout": (lambda: nn.Dropout(0.4), (5, 6)),
    "Dropout of everything": (lambda: nn.Dropout(1.0), (5, 6)),
    "Reshape": (lambda: nn.Reshape(3, 2), (4, 6)),
    "Flatten": (lambda: nn.Flatten(), (4, 2, 3)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, stride=2, padding=1), (2, 5, 4, 2)),
    "AvgPool2d": (lambda: nn.AvgPool2d((2, 3)), (2, 4, 6, 2)),
    "Upsample": (lambda: nn.Upsample((2, 3)), (2, 2, 3, 2)),
    "ReLU": (lambda: nn.ReLU(), (3, 4)),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), (3, 4)),
    "Tanh": (lambda: nn.Tanh(), (3, 4)),
    "Sigmoid": (lambda: nn.Sigmoid(), (3, 4)),
    "Softmax": (lambda: nn.Softmax(), (3, 4)),
    "GRU": (lambda: nn.GRU(3, 2), (2, 3, 3)),
    "GRU without bias": (lambda: nn.GRU(3, 2, bias=False), (2, 3, 3)),
    "Linear on sequences": (lambda: nn.Linear(5, 3), (2, 3, 5)),
    "ConvTranspose2d with more output_padding than stride": (
        lambda: nn.ConvTranspose2d(2, 2, 2, stride=(1, 2), dilation=3, output_padding=(2, 1)),
        (2, 3, 2, 2),
    ),
    "Sequential": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2)), (3, 4)),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def points(*shape):
    """Random values that keep 0.1 away from 0, where ReLU has its kink, and from each other's ties."""
    x = np.random.default_rng(1).standard_normal(shape)
    return x + 0.1 * np.sign(x)


def host(x):
    return backend.to_host(x.data if isinstance(x, Tensor) else x)


def run(module, x, device):
    """module(x) on a device, as a float32 NumPy array."""
    return host(module.to(device)(Tensor(backend.to_device(np.asarray(x, np.float32), device))))


def randomise(module):
    """Give all parameters other values than the neutral ones (scale 1, bias 0) that hide mistakes."""
    for p in module.parameters():
        p.data = RNG.uniform(0.5, 1.5, p.shape).astype(np.float32)
    return module
