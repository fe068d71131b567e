"""The layers: functions that own their parameters (module.py says how that works).

Arguments are spelled as in PyTorch, shapes as in Keras: points are (N, features), images (N, H, W,
C). Weights start as PyTorch's do, uniform in ±1/√fan_in, drawn from the random generator 'init'. A
plain array that meets a layer with parameters is converted to their type; a Tensor keeps its own.
Two kinds of layers have files of their own: norms.py and recurrent.py.
"""

import math
import operator

import numpy as np

from . import conv, ops
from .autograd import data_of, no_grad
from .backend import device_of, to_device, xp
from .checks import images, in_type_of, number, pair, whole
from .module import Module, Parameter, Sequential, uniform, watching
from .norms import BatchNorm, InstanceNorm, LayerNorm, Norm
from .randomness import rng
from .recurrent import GRU

__all__ = ["AvgPool2d", "BatchNorm", "Conv2d", "ConvTranspose2d", "Dropout", "Embedding", "Flatten",
           "GRU", "InstanceNorm", "LayerNorm", "LeakyReLU", "Linear", "MaxPool2d", "Module",
           "Parameter", "ReLU", "Reshape", "Sequential", "Sigmoid", "Softmax", "Tanh", "Upsample",
           "normal_", "summary", "uniform", "watching"]


def normal_(module, std=0.02):
    """DCGAN's initialisation, in place: weights N(0, std²), scales of a norm N(1, std²), biases 0.

    Returns the module. (Radford et al. 2016, section 4.)
    """
    std = number("normal_: std", std, 0, math.inf)
    for name, owner, attribute in module.entries():
        p, last = getattr(owner, attribute), name.rpartition(".")[2]
        if isinstance(p, Parameter):
            centre = 1.0 if isinstance(owner, Norm) and last == "weight" else 0.0
            values = (np.zeros(p.shape) if last.startswith("bias")
                      else rng("init").normal(centre, std, p.shape))
            p.data = to_device(values.astype(p.dtype), device_of(p.data))
    return module


# ------------------------------------------------------------------- layers with weights


class Linear(Module):
    """y = x W + b: (..., in_features) → (..., out_features), W (in_features, out_features)."""

    def __init__(self, in_features, out_features, bias=True):
        self.in_features = k = whole("Linear: in_features", in_features)
        self.out_features = m = whole("Linear: out_features", out_features)
        self.weight = uniform((k, m), k, "Linear.weight")
        self.bias = uniform((m,), k, "Linear.bias") if bias else None

    def forward(self, x):
        x = in_type_of(self, x, self.weight)
        *lead, k = x.shape or (None,)
        if k != self.in_features:
            raise ValueError(f"Linear: expected x of shape (..., {self.in_features}) for a weight "
                             f"{self.weight.shape}, got {x.shape}")
        if len(lead) != 1:
            return self.forward(x.reshape((math.prod(lead), k))).reshape((*lead, self.out_features))
        return x @ self.weight if self.bias is None else ops.linear(x, self.weight, self.bias)


class _Conv(Module):
    """What both convolutions share: settings, weights, the check of the input, a bias."""

    transposed = False

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1,
                 bias=True):
        name = type(self).__name__
        self.in_channels = c = whole(f"{name}: in_channels", in_channels)
        self.out_channels = o = whole(f"{name}: out_channels", out_channels)
        self.kernel_size = pair(kernel_size, f"{name}: kernel_size")
        self.stride = pair(stride, f"{name}: stride")
        self.padding = pair(padding, f"{name}: padding", 0)
        self.dilation = pair(dilation, f"{name}: dilation")
        shape = (*self.kernel_size, *((o, c) if self.transposed else (c, o)))
        fan_in = math.prod(shape[:3])
        self.weight = uniform(shape, fan_in, f"{name}.weight")
        self.bias = uniform((o,), fan_in, f"{name}.bias") if bias else None

    def forward(self, x):
        x = in_type_of(self, x, self.weight)
        images(self, x, self.in_channels)
        y = self.convolve(x, dict(stride=self.stride, padding=self.padding, dilation=self.dilation))
        return y if self.bias is None else y + self.bias


class Conv2d(_Conv):
    """Convolution (conv.conv2d) plus a bias per channel.

    (N, H, W, in_channels) → (N, Ho, Wo, out_channels), Ho = ⌊(H + 2p − d (k − 1) − 1) / s⌋ + 1.
    """

    def convolve(self, x, how):
        return conv.conv2d(x, self.weight, **how)


class ConvTranspose2d(_Conv):
    """The transposed convolution plus a bias per channel: it enlarges images.

    (N, H, W, in_channels) → (N, Ho, Wo, out_channels) with
    Ho = s (H − 1) + d (k − 1) + 1 − 2p + output_padding. A generator's usual kernel 4, stride 2,
    padding 1 doubles the size. As in PyTorch, output_padding must be less than the stride or less
    than the dilation. Its weight is that of the convolution it turns around, from out_channels to
    in_channels: (kh, kw, out_channels, in_channels).
    """

    transposed = True

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0,
                 output_padding=0, dilation=1, bias=True):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, bias)
        extra = pair(output_padding, "ConvTranspose2d: output_padding", 0)
        if any(e >= max(s, d) for e, s, d in zip(extra, self.stride, self.dilation, strict=True)):
            raise ValueError("ConvTranspose2d: output_padding must be less than the stride or less "
                             f"than the dilation, got {extra} with {self.stride}, {self.dilation}")
        self.output_padding = extra

    def convolve(self, x, how):
        size = tuple(s * (n - 1) + d * (k - 1) + 1 - 2 * p + e for n, k, s, p, d, e in zip(
            x.shape[1:3], self.kernel_size, self.stride, self.padding, self.dilation,
            self.output_padding, strict=True))
        if min(size) < 1:
            raise ValueError(f"ConvTranspose2d: padding {self.padding} leaves nothing of an image "
                             f"of {x.shape[1:3]} with kernel {self.kernel_size}: its size would be "
                             f"{size}; use less padding, or a larger kernel or image")
        # An output_padding of a whole stride is one more row of zeros below x.
        rows, cols = (e // s for e, s in zip(self.output_padding, self.stride, strict=True))
        if rows or cols:
            x = ops.pad(x, widths=((0, 0), (0, rows), (0, cols), (0, 0)))
        return conv.conv2d_transpose(x, self.weight, size=size, **how)


class Embedding(Module):
    """A table of vectors: integers (...) in 0..num−1 → (..., dim). Starts as N(0, 1)."""

    def __init__(self, num, dim):
        self.num, self.dim = whole("Embedding: num", num), whole("Embedding: dim", dim)
        self.weight = Parameter(rng("init").standard_normal((self.num, self.dim), dtype=np.float32),
                                "Embedding.weight")

    def forward(self, index):
        return ops.embedding(self.weight, index)


# ------------------------------------------------------------------- layers without weights


class Dropout(Module):
    """In training set each value to 0 with probability p, and divide the others by 1 − p."""

    def __init__(self, p=0.5):
        self.p = number("Dropout: p", p, 0, 1, closed=True)

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        keep = rng("dropout").random(x.shape, dtype=np.float32) >= self.p       # nothing if p = 1
        return x * to_device(keep.astype(x.dtype) / (1 - self.p or 1), device_of(data_of(x)))


class Reshape(Module):
    """(N, ...) → (N, *shape). One of the numbers may be −1: whatever is left."""

    def __init__(self, *shape):
        if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
            shape = shape[0]
        name = type(self).__name__
        self.shape = tuple(whole(f"{name}: shape", n, -1) for n in shape)
        if self.shape.count(-1) > 1 or 0 in self.shape:
            raise ValueError(f"{name}: expected numbers >= 1, and at most one -1, got {self.shape}")

    def forward(self, x):
        known, size = math.prod(n for n in self.shape if n != -1), math.prod(x.shape[1:])
        shape = tuple(size // known if n == -1 else n for n in self.shape)
        if x.ndim == 0 or math.prod(shape) != size:
            raise ValueError(f"{type(self).__name__}: an input of {x.shape} does not fit into "
                             f"(N, {', '.join(map(str, self.shape))})")
        return x.reshape((x.shape[0], *shape))


class Flatten(Reshape):
    """(N, ...) → (N, features)."""

    def __init__(self):
        super().__init__(-1)


class _Pool(Module):
    """Windows of `kernel_size`, `stride` pixels apart, or side by side if None."""

    def __init__(self, kernel_size, stride=None, padding=0):
        name = type(self).__name__
        self.kernel_size = pair(kernel_size, f"{name}: kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, f"{name}: stride")
        self.padding = pair(padding, f"{name}: padding", 0)

    def forward(self, x):
        images(self, x)
        return self.pool(x, self.kernel_size, self.stride, self.padding)


class MaxPool2d(_Pool):
    """The maximum of each window: (N, H, W, C) → (N, Ho, Wo, C)."""

    pool = staticmethod(conv.max_pool2d)


class AvgPool2d(_Pool):
    """The mean of each window: (N, H, W, C) → (N, Ho, Wo, C)."""

    pool = staticmethod(conv.avg_pool2d)


class Upsample(Module):
    """Every pixel repeated factor × factor times: (N, H, W, C) → (N, factor·H, factor·W, C)."""

    def __init__(self, factor=2):
        self.factor = pair(factor, "Upsample: factor")

    def forward(self, x):
        images(self, x)
        return conv.upsample(x, self.factor)


class ReLU(Module):
    """max(x, 0)."""

    forward = staticmethod(ops.relu)


class LeakyReLU(Module):
    """x where positive, slope · x elsewhere, 0 ≤ slope ≤ 1."""

    def __init__(self, slope=0.2):
        self.slope = number("LeakyReLU: slope", slope, 0, 1, closed=True)

    def forward(self, x):
        return ops.leaky_relu(x, slope=self.slope)


class Tanh(Module):
    """tanh x, in (−1, 1): the last layer of a generator of images."""

    forward = staticmethod(ops.tanh)


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ). Not for a discriminator here: its losses take logits."""

    forward = staticmethod(ops.sigmoid)


class Softmax(Module):
    """eˣ / Σ eˣ along an axis. Not before `losses.cross_entropy`, which contains it."""

    def __init__(self, axis=-1):
        self.axis = operator.index(axis)

    def forward(self, x):
        return ops.softmax(x, axis=self.axis)


def summary(module, shape):
    """A table of a network's layers, with output shapes and parameter counts, for (N, *shape).

    Runs a batch of two all-zero samples in evaluation mode, so nothing changes.
    """
    rows = [("layer", "output", "parameters")]
    like = next((p.data for p in module.parameters()), np.zeros(0, np.float32))

    def watch(m, out):
        if not m.children():
            outs = out if isinstance(out, (tuple, list)) else [out]
            shapes = [str(("N", *o.shape[1:])).replace("'", "") for o in outs]
            rows.append((repr(m), " ".join(shapes), f"{sum(p.size for p in m.parameters()):,}"))
    with module.evaluating(), watching(watch), no_grad():
        module(xp(like).zeros((2, *shape), dtype=like.dtype))
    rows.append(("total", "", f"{sum(p.size for p in module.parameters()):,}"))
    a, b, c = (max(len(row[i]) for row in rows) for i in range(3))
    return "\n".join(f"{row[0]:<{a}}  {row[1]:<{b}}  {row[2]:>{c}}" for row in rows)
