"""tinygan: a minimal, from-scratch GAN library to read, run and check."""

from . import interruption  # first, for a Ctrl-C while the others are imported

# isort: split
from . import (  # the engine rooms: what they register makes the book faster
    backend,
    conv,
    cpu,
    cpu_conv,
    cpu_threads,
    data,
    gpu,
    gradcheck,
    losses,
    metrics,
    models,
    nn,
    ops,
    optim,
    plot,
    train,
)
from .autograd import Op, Tensor, grad, no_grad, op
from .backend import pick_device, to_device, to_host
from .randomness import Randomness, rng, seed
from .shortcuts import plain

__version__ = "0.1.0"

__all__ = [
    "Op", "Randomness", "Tensor", "backend", "conv", "cpu", "cpu_conv", "cpu_threads",
    "data", "gpu", "grad", "gradcheck", "interruption", "losses", "metrics", "models", "nn",
    "no_grad", "op", "ops", "optim", "pick_device", "plain", "plot", "rng", "seed", "to_device",
    "to_host", "train",
]
