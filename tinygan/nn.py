"""Layers: functions that own their parameters.

A `Module` is any object with a `forward` method. Its parameters are found by looking at its attributes: a `Parameter` is trained, a
bare array is state that is saved but not trained (BatchNorm's averages), a Module is a part with parameters of its own. There is
nothing to register.

Arguments are spelled as in PyTorch, shapes as in Keras: points are (N, features), images (N, H, W, C). Weights start as PyTorch's
do, uniform in ±1/√fan_in, drawn from the random generator 'init'.
"""

import math

import numpy as np

from . import conv, ops
from .autograd import Tensor, data_of, no_grad
from .backend import device_of, to_device, to_host, xp
from .randomness import rng


class Parameter(Tensor):
    """A Tensor that a Module trains."""

    __slots__ = ()


class Module:
    """Base of all layers and networks. Subclasses define `forward`; call the object to run it."""

    training = True
    _watch = None           # `summary` listens here

    def __call__(self, *inputs):
        out = self.forward(*inputs)
        if Module._watch is not None:
            Module._watch(self, out)
        return out

    def children(self):
        """(name, part) for each attribute that is a Module, and for each Module in an attribute that is a list."""
        return [part for name, v in vars(self).items() for part in _parts(name, v)]

    def modules(self):
        """This Module and all below it."""
        return [self, *(m for _, child in self.children() for m in child.modules())]

    def entries(self, prefix=""):
        """(dotted name, owner, attribute) of every parameter and state array, in the order of definition."""
        for name, v in vars(self).items():
            for part, module in _parts(name, v):
                yield from module.entries(f"{prefix}{part}.")
            if isinstance(v, Tensor) or hasattr(v, "dtype") and hasattr(v, "__setitem__"):     # a NumPy number is no state
                yield prefix + name, self, name

    def named_parameters(self):
        """{dotted name: Parameter}; a parameter that is used in two places is listed once, under its first name."""
        found = {}
        for name, owner, attribute in self.entries():
            p = getattr(owner, attribute)
            if isinstance(p, Parameter) and not any(p is q for q in found.values()):
                found[name] = p
        return found

    def parameters(self):
        """The list of Parameters, in the order of `named_parameters`."""
        return list(self.named_parameters().values())

    def buffers(self):
        """The list of arrays that are saved but not trained, in the order of definition."""
        return [v for v in (getattr(owner, attribute) for _, owner, attribute in self.entries()) if not isinstance(v, Tensor)]

    def state_dict(self):
        """{dotted name: NumPy array}: copies of all parameters and state."""
        values = {name: getattr(owner, attribute) for name, owner, attribute in self.entries()}
        return {name: np.array(to_host(v.data if isinstance(v, Tensor) else v)) for name, v in values.items()}

    def load_state_dict(self, state):
        """Copy the arrays of a `state_dict` into this Module. All or nothing.

        Raises ValueError naming the keys that are missing or unexpected, or the first array of another shape.
        """
        slots = {name: (owner, attribute) for name, owner, attribute in self.entries()}
        missing, unexpected = sorted(slots.keys() - state.keys()), sorted(state.keys() - slots.keys())
        if missing or unexpected:
            raise ValueError(f"load_state_dict: missing {missing}, unexpected {unexpected}")
        arrays = {}
        for name, (owner, attribute) in slots.items():
            v = getattr(owner, attribute)
            arrays[name] = np.asarray(state[name], dtype=v.dtype)
            if arrays[name].shape != v.shape:
                raise ValueError(f"load_state_dict: {name} has shape {arrays[name].shape}, expected {v.shape}")
        for name, (owner, attribute) in slots.items():
            v = getattr(owner, attribute)
            target = v.data if isinstance(v, Tensor) else v
            target[...] = to_device(arrays[name], device_of(target))
            if isinstance(v, Tensor):
                v.touch()

    def to(self, device):
        """Move all parameters and state to 'cpu' or 'gpu', in place; returns the Module. Do so before making an optimiser."""
        for _, owner, attribute in self.entries():
            v = getattr(owner, attribute)
            if isinstance(v, Tensor):
                v.data = to_device(v.data, device)
            else:
                setattr(owner, attribute, to_device(v, device))
        return self

    def train(self, training=True):
        """Switch to training: BatchNorm uses the batch's statistics, Dropout drops. Returns the Module."""
        for m in self.modules():
            m.training = training
        return self

    def eval(self):
        """Switch to evaluation: BatchNorm uses its running averages, Dropout does nothing. Returns the Module."""
        return self.train(False)

    def describe(self):
        """What `repr` shows between the parentheses."""
        return ""

    def __repr__(self):
        parts = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.children()]
        body = "\n" + "\n".join(parts) + "\n" if parts else self.describe()
        return f"{type(self).__name__}({body})"


def _parts(name, value):
    """The Modules that an attribute holds, with their names: one, several in a list (name.0, name.1, ...), or none."""
    if isinstance(value, Module):
        return [(name, value)]
    return [(f"{name}.{i}", v) for i, v in enumerate(value) if isinstance(v, Module)] if isinstance(value, (list, tuple)) else []


class Sequential(Module):
    """One layer after the other: y = layerₙ(... layer₁(x)). Index it like a list."""

    def __init__(self, *layers):
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"Sequential: layer {i} must be a Module, got {layer!r}")
            setattr(self, str(i), layer)

    def __getitem__(self, i):
        return self.children()[i][1]

    def __len__(self):
        return len(self.children())

    def forward(self, x):
        for _, layer in self.children():
            x = layer(x)
        return x


def uniform(shape, fan_in, name):
    """A Parameter uniform in ±1/√fan_in: PyTorch's default for weights and biases alike."""
    bound = 1 / math.sqrt(fan_in)
    return Parameter(rng("init").uniform(-bound, bound, shape).astype(np.float32), name)


def normal_(module, std=0.02):
    """DCGAN's initialisation, in place: weights N(0, std²), BatchNorm scales N(1, std²), biases 0 (Radford et al. 2016, sec. 4)."""
    for m in module.modules():
        for name, p in vars(m).items():
            if isinstance(p, Parameter):
                centre = 1.0 if isinstance(m, _Norm) and name == "weight" else 0.0
                values = np.zeros(p.shape) if name == "bias" else rng("init").normal(centre, std, p.shape)
                p.data = to_device(values.astype(p.dtype), device_of(p.data))
    return module


def _positive(layer, **values):
    """Every value is an integer ≥ 1, or a ValueError says which is not."""
    for name, v in values.items():
        if not isinstance(v, int) or v < 1:
            raise ValueError(f"{layer}: {name} must be an integer >= 1, got {v!r}")


# ------------------------------------------------------------------------------------------------ layers with weights


class Linear(Module):
    """y = x W + b: (N, in_features) → (N, out_features), W (in_features, out_features)."""

    def __init__(self, in_features, out_features, bias=True):
        _positive("Linear", in_features=in_features, out_features=out_features)
        self.weight = uniform((in_features, out_features), in_features, "Linear.weight")
        self.bias = uniform((out_features,), in_features, "Linear.bias") if bias else None

    def forward(self, x):
        return x @ self.weight if self.bias is None else ops.linear(x, self.weight, self.bias)

    def describe(self):
        return "{}, {}".format(*self.weight.shape)


class Conv2d(Module):
    """Convolution (conv.conv2d) plus a bias per channel: (N, H, W, in_channels) → (N, Ho, Wo, out_channels)."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, bias=True):
        _positive("Conv2d", in_channels=in_channels, out_channels=out_channels)
        kh, kw = conv.pair(kernel_size, "Conv2d: kernel_size")
        self.how = dict(stride=conv.pair(stride, "Conv2d: stride"), padding=conv.pair(padding, "Conv2d: padding", 0),
                        dilation=conv.pair(dilation, "Conv2d: dilation"))
        self.weight = uniform((kh, kw, in_channels, out_channels), kh * kw * in_channels, "Conv2d.weight")
        self.bias = uniform((out_channels,), kh * kw * in_channels, "Conv2d.bias") if bias else None

    def forward(self, x):
        y = conv.conv2d(x, self.weight, **self.how)
        return y if self.bias is None else y + self.bias

    def describe(self):
        kh, kw, c, o = self.weight.shape
        return f"{c}, {o}, kernel {kh}×{kw}, " + ", ".join(f"{k} {v[0]}×{v[1]}" for k, v in self.how.items())


class ConvTranspose2d(Module):
    """The adjoint of a convolution used forwards (conv.conv2d_transpose), plus a bias: it enlarges images.

    (N, H, W, in_channels) → (N, s (H − 1) + d (k − 1) + 1 − 2p + output_padding, ..., out_channels). A generator's usual
    kernel 4, stride 2, padding 1 doubles the size.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, dilation=1, bias=True):
        _positive("ConvTranspose2d", in_channels=in_channels, out_channels=out_channels)
        kh, kw = conv.pair(kernel_size, "ConvTranspose2d: kernel_size")
        self.how = dict(stride=conv.pair(stride, "ConvTranspose2d: stride"),
                        padding=conv.pair(padding, "ConvTranspose2d: padding", 0),
                        dilation=conv.pair(dilation, "ConvTranspose2d: dilation"))
        self.output_padding = conv.pair(output_padding, "ConvTranspose2d: output_padding", 0)
        # As the weight of the convolution that this layer turns around: from out_channels to in_channels.
        self.weight = uniform((kh, kw, out_channels, in_channels), kh * kw * out_channels, "ConvTranspose2d.weight")
        self.bias = uniform((out_channels,), kh * kw * out_channels, "ConvTranspose2d.bias") if bias else None

    def forward(self, x):
        size = tuple(s * (n - 1) + d * (k - 1) + 1 - 2 * p + extra for n, k, s, p, d, extra in zip(
            x.shape[1:3], self.weight.shape, self.how["stride"], self.how["padding"], self.how["dilation"],
            self.output_padding, strict=False))
        y = conv.conv2d_transpose(x, self.weight, size=size, **self.how)
        return y if self.bias is None else y + self.bias

    def describe(self):
        kh, kw, o, c = self.weight.shape
        return f"{c}, {o}, kernel {kh}×{kw}, " + ", ".join(f"{k} {v[0]}×{v[1]}" for k, v in self.how.items())


class Embedding(Module):
    """A table of vectors: integers (...) in 0..num−1 → (..., dim). Starts as N(0, 1)."""

    def __init__(self, num, dim):
        _positive("Embedding", num=num, dim=dim)
        self.weight = Parameter(rng("init").standard_normal((num, dim), dtype=np.float32), "Embedding.weight")

    def forward(self, index):
        return ops.embedding(self.weight, index)

    def describe(self):
        return "{}, {}".format(*self.weight.shape)


# ------------------------------------------------------------------------------------------------ normalisation


class _Norm(Module):
    """y = (x − μ) / √(σ² + ε) · weight + bias, both one number per channel. Subclasses say over which axes μ and σ² run."""

    def __init__(self, features, eps=1e-5):
        _positive(type(self).__name__, features=features)
        self.eps = eps
        self.weight = Parameter(np.ones(features, np.float32), f"{type(self).__name__}.weight")
        self.bias = Parameter(np.zeros(features, np.float32), f"{type(self).__name__}.bias")

    def _channels(self, x):
        if x.shape[-1] != self.weight.shape[0]:
            raise ValueError(f"{type(self).__name__}: expected {self.weight.shape[0]} channels on the last axis, got {x.shape}")

    def forward(self, x):
        self._channels(x)
        return ops.normalize(x, self.weight, self.bias, axis=self.axis, eps=self.eps)

    def describe(self):
        return str(self.weight.shape[0])


class BatchNorm(_Norm):
    """Normalise each channel over the batch, for (N, C) as for (N, H, W, C) (Ioffe & Szegedy 2015).

    In training μ and σ² are the batch's and running averages are kept, average ← (1 − momentum) average + momentum value; in
    evaluation those averages are used. `momentum` is 0.1 by default, as in PyTorch; the second positional argument is eps.
    """

    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__(features, eps)
        self.momentum = momentum
        self.running_mean = np.zeros(features, np.float32)
        self.running_var = np.ones(features, np.float32)

    def forward(self, x):
        self._channels(x)
        if not self.training:
            r = self.weight * (self.running_var + self.eps) ** -0.5
            return x * r + (self.bias - self.running_mean * r)
        n = x.size // x.shape[-1]
        if n < 2:
            raise ValueError(f"BatchNorm: training needs more than one value per channel, got {x.shape}; "
                             "use a larger batch, or eval()")
        statistics = []
        y = ops.normalize(x, self.weight, self.bias, axis=tuple(range(x.ndim - 1)), eps=self.eps, statistics=statistics)
        mean, var = (s.reshape(-1) for s in statistics)
        self.running_mean += self.momentum * (mean - self.running_mean)
        self.running_var += self.momentum * (var * (n / (n - 1)) - self.running_var)    # unbiased, as PyTorch keeps it
        return y


class LayerNorm(_Norm):
    """Normalise each position over its channels (the last axis) (Ba et al. 2016)."""

    axis = (-1,)


class InstanceNorm(_Norm):
    """Normalise each channel of each image over its pixels: (N, H, W, C) (Ulyanov et al. 2016)."""

    axis = (1, 2)

    def _channels(self, x):
        super()._channels(x)
        if x.ndim != 4:
            raise ValueError(f"InstanceNorm: expected images (N, H, W, C), got {x.shape}")


# ------------------------------------------------------------------------------------------------ layers without weights


class Dropout(Module):
    """In training, set each value to 0 with probability p and divide the rest by 1 − p; in evaluation, do nothing."""

    def __init__(self, p=0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must be in [0, 1], got {p!r}")
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        if self.p == 1:
            return x * 0.0
        keep = rng("dropout").random(x.shape, dtype=np.float32) >= self.p
        return x * to_device(keep.astype(x.dtype) / (1 - self.p), device_of(data_of(x)))

    def describe(self):
        return f"p={self.p}"


class Reshape(Module):
    """(N, ...) → (N, *shape)."""

    def __init__(self, *shape):
        self.shape = shape

    def forward(self, x):
        return x.reshape((x.shape[0], *self.shape))

    def describe(self):
        return ", ".join(map(str, self.shape))


class Flatten(Reshape):
    """(N, ...) → (N, features)."""

    def __init__(self):
        super().__init__(-1)


class _Pool(Module):
    def __init__(self, kernel_size, stride=None, padding=0):
        self.kernel_size = conv.pair(kernel_size, f"{type(self).__name__}: kernel_size")
        self.stride = self.kernel_size if stride is None else conv.pair(stride, f"{type(self).__name__}: stride")
        self.padding = conv.pair(padding, f"{type(self).__name__}: padding", 0)

    def forward(self, x):
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
        return conv.upsample(x, self.factor)

    def describe(self):
        return f"{self.factor}"


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x):
        return ops.relu(x)


class LeakyReLU(Module):
    """x where positive, slope · x elsewhere."""

    def __init__(self, slope=0.2):
        self.slope = slope

    def forward(self, x):
        return ops.leaky_relu(x, slope=self.slope)

    def describe(self):
        return f"{self.slope}"


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
        self.axis = axis

    def forward(self, x):
        return ops.softmax(x, axis=self.axis)


# ------------------------------------------------------------------------------------------------ a table of a network


def summary(module, shape):
    """A table of the layers of a network, with output shapes and parameter counts, for inputs of (N, *shape).

    Runs one batch of two zeros in evaluation mode, so nothing changes.
    """
    rows, modes = [], [(m, m.training) for m in module.modules()]
    first = next(iter(module.parameters()), None)
    zeros = (np if first is None else xp(first.data)).zeros((2, *shape), dtype=np.float32)

    def watch(m, out):
        if not m.children():
            rows.append((repr(m), str(("N", *out.shape[1:])).replace("'", ""),
                         f"{sum(p.size for p in m.parameters()):,}"))
    module.eval()
    Module._watch = watch
    try:
        with no_grad():
            module(zeros)
    finally:
        Module._watch = None
        for m, training in modes:
            m.training = training
    rows = [("layer", "output", "parameters"), *rows, ("total", "", f"{sum(p.size for p in module.parameters()):,}")]
    widths = [max(len(r[i]) for r in rows) for i in range(3)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)
