"""Normalisation: layers that give every channel mean 0 and variance 1, then a scale and a shift."""

import math

import numpy as np

from . import ops
from .checks import images, in_type_of, number, whole
from .module import Module, Parameter


class Norm(Module):
    """y = (x − μ) / √(σ² + ε) · weight + bias, weight and bias one number per channel.

    Subclasses say over which axes the mean μ and the variance σ² run.
    """

    least = 1                   # channels

    def __init__(self, features, eps=1e-5):
        name = type(self).__name__
        self.features = n = whole(f"{name}: features", features, self.least)
        self.eps = number(f"{name}: eps", eps, 0, math.inf, above=True)
        self.weight = Parameter(np.ones(n, np.float32), f"{name}.weight")
        self.bias = Parameter(np.zeros(n, np.float32), f"{name}.bias")

    def _checked(self, x):
        x = in_type_of(self, x, self.weight)
        if x.ndim < 2 or x.shape[-1] != self.features:
            raise ValueError(f"{type(self).__name__}: expected {self.features} channels on the "
                             f"last axis, got {x.shape}")
        return x

    def forward(self, x):
        return ops.normalize(self._checked(x), self.weight, self.bias, axis=self.axis, eps=self.eps)


class BatchNorm(Norm):
    """Normalise each channel over the batch, for (N, C) as for (N, H, W, C) (Ioffe & Szegedy 2015).

    In training μ and σ² are the batch's, and running averages are kept,
    average ← (1 − momentum) average + momentum value; in evaluation those averages are used.
    `momentum` is 0.1 by default, as in PyTorch; the second positional argument is eps.
    """

    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__(features, eps)
        self.momentum = number("BatchNorm: momentum", momentum, 0, 1, closed=True)
        self.running_mean = np.zeros(self.features, np.float32)
        self.running_var = np.ones(self.features, np.float32)

    def forward(self, x):
        x = self._checked(x)
        if not self.training:
            r = self.weight * (self.running_var + self.eps) ** -0.5
            return x * r + (self.bias - self.running_mean * r)
        n = x.size // x.shape[-1]
        if n < 2:
            raise ValueError("BatchNorm: training needs more than one value per channel, "
                             f"got {x.shape}; use a larger batch, or eval()")
        statistics = []
        y = ops.normalize(x, self.weight, self.bias, axis=tuple(range(x.ndim - 1)), eps=self.eps,
                          statistics=statistics)
        mean, var = (s.reshape(-1) for s in statistics)
        self.running_mean = self._moved(self.running_mean, mean)
        self.running_var = self._moved(self.running_var, var, n / (n - 1))  # as PyTorch keeps it
        return y

    def _moved(self, average, value, factor=1):
        """The running average after one more factor · value, a new array of the same type."""
        kept, new = 1 - self.momentum, self.momentum * factor
        return (kept * average + new * value).astype(average.dtype, copy=False)


class LayerNorm(Norm):
    """Normalise each position over its channels (the last axis), 2 or more (Ba et al. 2016)."""

    axis, least = (-1,), 2


class InstanceNorm(Norm):
    """Normalise each channel of each image over its pixels: (N, H, W, C) (Ulyanov et al. 2016)."""

    axis = (1, 2)

    def _checked(self, x):
        x = super()._checked(x)
        images(self, x)
        if x.shape[1] * x.shape[2] == 1:
            raise ValueError("InstanceNorm: one pixel minus its mean is 0 whatever it was; use "
                             f"larger images, or another norm; got {x.shape}")
        return x
