"""The layers: functions that own their parameters (module.py says how that works).

Arguments are spelled as in PyTorch, shapes as in Keras: points are (N, features), images
(N, H, W, C). Weights start as PyTorch's do, uniform in ±1/√fan_in, drawn from the random generator
'init'. A plain array that meets a layer with parameters is converted to their type; a Tensor keeps
its own.
"""

import math

import numpy as np

from . import conv, norms, ops
from .attributes import Parameter, overwrite
from .autograd import data_of
from .backend import device_of, to_device
from .module import Module, Sequential, summary, watching
from .norms import BatchNorm, InstanceNorm, LayerNorm
from .randomness import rng
from .recurrent import GRU
from .settings import bias_of, fraction, images, number, plain, uniform, whole

__all__ = ["AvgPool2d", "BatchNorm", "Conv2d", "ConvTranspose2d", "Dropout", "Embedding", "Flatten",
           "GRU", "InstanceNorm", "LayerNorm", "LeakyReLU", "Linear", "MaxPool2d", "Module",
           "Parameter", "ReLU", "Reshape", "Sequential", "Sigmoid", "Softmax", "Tanh", "Upsample",
           "normal_", "summary", "uniform", "watching"]


def normal_(module, std=0.02):
    """DCGAN's initialisation, in place: weights N(0, std²), scales of a norm N(1, std²), biases 0.

    Returns the module. (Radford et al. 2016, section 4.)
    """
    std = number("normal_", "a finite number >= 0", lambda v: 0 <= v < math.inf, std=std)
    for name, owner, attribute in module.entries():
        p, last = getattr(owner, attribute), name.rpartition(".")[2]
        if isinstance(p, Parameter):
            centre = 1.0 if isinstance(owner, norms.Norm) and last == "weight" else 0.0
            values = (np.zeros(p.shape) if last.startswith("bias")
                      else rng("init").normal(centre, std, p.shape))
            overwrite(p, values.astype(p.dtype))
    return module


# --------------------------------------------------------------------------- layers with weights


class Linear(Module):
    """y = x W + b: (..., in_features) → (..., out_features), W (in_features, out_features)."""

    def __init__(self, in_features, out_features, bias=True):
        k = whole("Linear", in_features=in_features)
        m = whole("Linear", out_features=out_features)
        self.weight = uniform((k, m), k, "Linear.weight")
        self.bias = bias_of("Linear", bias, m, k)

    def forward(self, x):
        x = plain(self, x, self.weight)
        k, m = self.weight.shape
        if x.ndim == 0 or x.shape[-1] != k:
            raise ValueError(f"Linear: expected x of shape (..., {k}) for a weight {(k, m)}, "
                             f"got {x.shape}")
        rows = x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), k))
        y = rows @ self.weight if self.bias is None else ops.linear(rows, self.weight, self.bias)
        return y if x.ndim == 2 else y.reshape((*x.shape[:-1], m))

    def describe(self):
        return "{}, {}".format(*self.weight.shape)


class _Conv(Module):
    """What both convolutions share: the settings and their repr."""

    def _settings(self, kernel_size, stride, padding, dilation):
        name = type(self).__name__
        self.how = dict(stride=conv.pair(stride, f"{name}: stride"),
                        padding=conv.pair(padding, f"{name}: padding", 0),
                        dilation=conv.pair(dilation, f"{name}: dilation"))
        return conv.pair(kernel_size, f"{name}: kernel_size")

    def describe(self):
        kh, kw, *channels = self.weight.shape
        ends = channels if isinstance(self, Conv2d) else channels[::-1]
        how = ", ".join(f"{name} {a}x{b}" for name, (a, b) in self.how.items())
        return "{}, {}, ".format(*ends) + f"kernel {kh}x{kw}, {how}"


class Conv2d(_Conv):
    """Convolution (conv.conv2d) plus a bias per channel.

    (N, H, W, in_channels) → (N, Ho, Wo, out_channels), Ho = ⌊(H + 2p − d (k − 1) − 1) / s⌋ + 1.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1,
                 bias=True):
        c = whole("Conv2d", in_channels=in_channels)
        o = whole("Conv2d", out_channels=out_channels)
        kh, kw = self._settings(kernel_size, stride, padding, dilation)
        self.weight = uniform((kh, kw, c, o), kh * kw * c, "Conv2d.weight")
        self.bias = bias_of("Conv2d", bias, o, kh * kw * c)

    def forward(self, x):
        x = plain(self, x, self.weight)
        images(self, x, self.weight.shape[2])
        y = conv.conv2d(x, self.weight, **self.how)
        return y if self.bias is None else y + self.bias


class ConvTranspose2d(_Conv):
    """The transposed convolution plus a bias per channel: it enlarges images.

    (N, H, W, in_channels) → (N, Ho, Wo, out_channels) with
    Ho = s (H − 1) + d (k − 1) + 1 − 2p + output_padding. A generator's usual kernel 4, stride 2,
    padding 1 doubles the size. As in PyTorch, output_padding must be less than the stride or less
    than the dilation. Its weight is that of the convolution it turns around, from out_channels to
    in_channels: (kh, kw, out_channels, in_channels).
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0,
                 output_padding=0, dilation=1, bias=True):
        c = whole("ConvTranspose2d", in_channels=in_channels)
        o = whole("ConvTranspose2d", out_channels=out_channels)
        kh, kw = self._settings(kernel_size, stride, padding, dilation)
        extra = conv.pair(output_padding, "ConvTranspose2d: output_padding", 0)
        limits = map(max, self.how["stride"], self.how["dilation"])
        if any(e >= limit for e, limit in zip(extra, limits, strict=True)):
            raise ValueError("ConvTranspose2d: output_padding must be less than the stride or less "
                             f"than the dilation, got {extra} with {self.how}")
        self.output_padding = extra
        self.weight = uniform((kh, kw, o, c), kh * kw * o, "ConvTranspose2d.weight")
        self.bias = bias_of("ConvTranspose2d", bias, o, kh * kw * o)

    def forward(self, x):
        x = plain(self, x, self.weight)
        images(self, x, self.weight.shape[3])
        size = tuple(s * (n - 1) + d * (k - 1) + 1 - 2 * p + e for n, k, s, p, d, e in zip(
            x.shape[1:3], self.weight.shape, *self.how.values(), self.output_padding, strict=False))
        if min(size) < 1:
            raise ValueError(f"ConvTranspose2d: padding {self.how['padding']} leaves nothing of an "
                             f"image of {x.shape[1:3]} with kernel {self.weight.shape[:2]}: its "
                             f"size would be {size}; use less padding, or a larger kernel or image")
        # An output_padding of a whole stride is one more row of zeros below x.
        rows, cols = (e // s for e, s in zip(self.output_padding, self.how["stride"], strict=True))
        if rows or cols:
            x = ops.pad(x, widths=((0, 0), (0, rows), (0, cols), (0, 0)))
        y = conv.conv2d_transpose(x, self.weight, size=size, **self.how)
        return y if self.bias is None else y + self.bias


class Embedding(Module):
    """A table of vectors: integers (...) in 0..num−1 → (..., dim). Starts as N(0, 1)."""

    def __init__(self, num, dim):
        shape = whole("Embedding", num=num), whole("Embedding", dim=dim)
        values = rng("init").standard_normal(shape, dtype=np.float32)
        self.weight = Parameter(values, "Embedding.weight")

    def forward(self, index):
        return ops.embedding(self.weight, index)

    def describe(self):
        return "{}, {}".format(*self.weight.shape)


# --------------------------------------------------------------------------- layers without weights


class Dropout(Module):
    """In training set each value to 0 with probability p and divide the rest by 1 − p.

    In evaluation do nothing.
    """

    def __init__(self, p=0.5):
        self.p = fraction("Dropout", p=p)

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        if self.p == 1:
            return x * 0.0
        keep = rng("dropout").random(x.shape, dtype=np.float32) >= self.p
        return x * to_device(keep.astype(x.dtype) / (1 - self.p), device_of(data_of(x)))

    def describe(self):
        return f"p={self.p:g}"


class Reshape(Module):
    """(N, ...) → (N, *shape). One of the numbers may be −1: whatever is left."""

    def __init__(self, *shape):
        if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
            shape = shape[0]
        name = type(self).__name__
        self.shape = tuple(whole(name, -1, shape=n) for n in shape)
        if self.shape.count(-1) > 1 or 0 in self.shape:
            raise ValueError(f"{name}: expected numbers >= 1, and at most one -1, got {self.shape}")

    def forward(self, x):
        known, size = math.prod(n for n in self.shape if n != -1), math.prod(x.shape[1:])
        shape = tuple(size // known if n == -1 else n for n in self.shape)
        if x.ndim == 0 or math.prod(shape) != size:
            raise ValueError(f"{type(self).__name__}: an input of {x.shape} does not fit into "
                             f"(N, {self.describe()})")
        return x.reshape((x.shape[0], *shape))

    def describe(self):
        return ", ".join(map(str, self.shape))


class Flatten(Reshape):
    """(N, ...) → (N, features)."""

    def __init__(self):
        super().__init__(-1)


class _Pool(Module):
    """Base of the poolings: windows of `kernel_size`, `stride` pixels apart or side by side."""

    def __init__(self, kernel_size, stride=None, padding=0):
        name = type(self).__name__
        self.kernel_size = conv.pair(kernel_size, f"{name}: kernel_size")
        self.stride = self.kernel_size if stride is None else conv.pair(stride, f"{name}: stride")
        self.padding = conv.pair(padding, f"{name}: padding", 0)

    def forward(self, x):
        images(self, x)
        return self.pool(x, self.kernel_size, self.stride, self.padding)

    def describe(self):
        return f"{self.kernel_size}, stride {self.stride}"


class MaxPool2d(_Pool):
    """The maximum of each window: (N, H, W, C) → (N, Ho, Wo, C)."""

    pool = staticmethod(conv.max_pool2d)


class AvgPool2d(_Pool):
    """The mean of each window: (N, H, W, C) → (N, Ho, Wo, C)."""

    pool = staticmethod(conv.avg_pool2d)


class Upsample(Module):
    """Every pixel repeated factor × factor times: (N, H, W, C) → (N, factor·H, factor·W, C)."""

    def __init__(self, factor=2):
        self.factor = conv.pair(factor, "Upsample: factor")

    def forward(self, x):
        images(self, x)
        return conv.upsample(x, self.factor)

    def describe(self):
        return f"{self.factor}"


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x):
        return ops.relu(x)


class LeakyReLU(Module):
    """x where positive, slope · x elsewhere, 0 ≤ slope ≤ 1."""

    def __init__(self, slope=0.2):
        self.slope = fraction("LeakyReLU", slope=slope)

    def forward(self, x):
        return ops.leaky_relu(x, slope=self.slope)

    def describe(self):
        return f"{self.slope:g}"


class Tanh(Module):
    """tanh x, in (−1, 1): the last layer of a generator of images."""

    def forward(self, x):
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ). Not for a discriminator here: its losses take logits."""

    def forward(self, x):
        return ops.sigmoid(x)


class Softmax(Module):
    """eˣ / Σ eˣ along an axis. Not before `losses.cross_entropy`, which contains it."""

    def __init__(self, axis=-1):
        self.axis = whole("Softmax", -math.inf, axis=axis)

    def forward(self, x):
        return ops.softmax(x, axis=self.axis)
