"""The layers: functions that own their parameters (module.py says how that works).

Arguments are spelled as in PyTorch, shapes as in Keras: points are (N, features), images (N, H, W,
C). Weights start as PyTorch's do, uniform in ±1/√fan_in, drawn from the random generator 'init'. A
plain array that meets a layer with parameters is converted to their type; a Tensor keeps its own.
"""

import math
import operator

import numpy as np

from . import conv, ops
from .autograd import data_of, no_grad
from .backend import device_of, to_device, xp
from .checks import images, in_type_of, number, pair, whole
from .module import Module, Parameter, Sequential, watching
from .norms import BatchNorm, InstanceNorm, LayerNorm, Norm
from .randomness import rng

__all__ = ["AvgPool2d", "BatchNorm", "Conv2d", "ConvTranspose2d", "Dropout", "Embedding", "Flatten",
           "GRU", "InstanceNorm", "LayerNorm", "LeakyReLU", "Linear", "MaxPool2d", "Module",
           "Parameter", "ReLU", "Reshape", "Sequential", "Sigmoid", "Softmax", "Tanh", "Upsample",
           "normal_", "summary", "uniform", "watching"]


def uniform(shape, fan_in, name=None):
    """A Parameter uniform in ±1/√fan_in: PyTorch's default for weights and biases alike."""
    bound = 1 / math.sqrt(fan_in)
    return Parameter(rng("init").uniform(-bound, bound, shape).astype(np.float32), name)


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
        values = rng("init").standard_normal((self.num, self.dim), dtype=np.float32)
        self.weight = Parameter(values, "Embedding.weight")

    def forward(self, index):
        return ops.embedding(self.weight, index)


class GRU(Module):
    """A gated recurrent unit: reads a sequence step by step and keeps a state h (Cho et al. 2014).

        r = σ(x Wᵣ + bᵣ + h Uᵣ + cᵣ)            reset: how much of the old state the candidate sees
        z = σ(x W_z + b_z + h U_z + c_z)        update: how much of the old state stays
        n = tanh(x Wₙ + bₙ + r (h Uₙ + cₙ))     the candidate
        h ← (1 − z) n + z h

    x (N, T, input_size) and a first state (N, hidden_size), zeros unless given → the states after
    every step (N, T, hidden_size), and the last one (N, hidden_size). As in PyTorch r multiplies
    after the product with Uₙ (in the paper before it), and everything starts in ±1/√hidden_size.
    weight_x = (Wᵣ W_z Wₙ) is (input_size, 3 hidden_size), weight_h = (Uᵣ U_z Uₙ) likewise; bias_x
    and bias_h are the b and c. (PyTorch's weight_ih_l0 and weight_hh_l0 are their transposes.)
    """

    def __init__(self, input_size, hidden_size, bias=True):
        self.input_size = k = whole("GRU: input_size", input_size)
        self.hidden_size = h = whole("GRU: hidden_size", hidden_size)
        self.weight_x = uniform((k, 3 * h), h, "GRU.weight_x")
        self.weight_h = uniform((h, 3 * h), h, "GRU.weight_h")
        self.bias_x = uniform((3 * h,), h, "GRU.bias_x") if bias else None
        self.bias_h = uniform((3 * h,), h, "GRU.bias_h") if bias else None

    def forward(self, x, h=None):
        x = in_type_of(self, x, self.weight_x)
        k, size = self.input_size, self.hidden_size
        if x.ndim != 3 or x.shape[1] == 0 or x.shape[2] != k:
            raise ValueError(f"GRU: expected x of shape (N, T, {k}) with T >= 1, got {x.shape}")
        if h is None:
            h = xp(data_of(x)).zeros((x.shape[0], size), dtype=x.dtype)
        h = in_type_of(self, h, self.weight_h)
        if h.shape != (x.shape[0], size):
            raise ValueError(f"GRU: expected a state of shape {(x.shape[0], size)}, got {h.shape}")
        states = []
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
            states.append(h)
        return ops.stack(states, axis=1), h

    def step(self, x, h):
        """The next state, for one step of the sequence, x (N, input_size), and a state h."""
        size = self.hidden_size
        a, b = x @ self.weight_x, h @ self.weight_h             # (N, 3 hidden_size): for r, z and n
        if self.bias_x is not None:
            a, b = a + self.bias_x, b + self.bias_h
        gates = ops.sigmoid(a[:, :2 * size] + b[:, :2 * size])
        r, z = gates[:, :size], gates[:, size:]
        n = ops.tanh(a[:, 2 * size:] + r * b[:, 2 * size:])
        return n + z * (h - n)                                  # (1 − z) n + z h


# ------------------------------------------------------------------- layers without weights


class Dropout(Module):
    """In training set each value to 0 with probability p, and divide the others by 1 − p."""

    def __init__(self, p=0.5):
        self.p = number("Dropout: p", p, 0, 1, closed=True)

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        if self.p == 1:
            return x * 0.0
        keep = rng("dropout").random(x.shape, dtype=np.float32) >= self.p
        return x * to_device(keep.astype(x.dtype) / (1 - self.p), device_of(data_of(x)))


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
