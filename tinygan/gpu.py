"""The GPU's engine room: shortcuts on CuPy arrays, most of them kernels of kernels.cu.

NumPy's functions, which CuPy has too, say most of what this library computes, and then one line
serves both. Kernels of its own has what no library call does in one go: cutting images into windows
and adding windows up again (a convolution is the former and one product of matrices), max pooling,
adding at repeated indices in a fixed order, activations and batch normalisation, which are many
functions of NumPy's, and Adam's update. Each is a few lines of C, compiled by CuPy when first used.

Nothing here copies to or from the host, and nothing waits for the GPU.
"""

import math
from functools import cache
from pathlib import Path

import numpy as np

from . import conv, elementwise, optim, pooling, reductions, shapes, train, windows
from .backend import xp
from .checks import pair
from .cpu import OnePass, corrected, over_all_but_last
from .cpu_threads import groups
from .windows import output_size

COLUMNS = 256 << 20     # bytes of windows that a convolution holds at a time
THREADS = 256           # per block
MOST = 2 ** 31 - 1024   # elements of one array: the kernels count in 32 bits


train.verdicts.shortcut("cupy")(OnePass)        # serves here as it is


def handles(x):
    """Whether x is a GPU array of a type that the kernels are compiled for."""
    return xp(x) is not np and x.dtype.char in "fd"


@cache
def _kernel(cupy, char, name):
    """The kernel of this name for float ('f') or double ('d')."""
    return _module(cupy, char).get_function(name)


@cache
def _module(cupy, char):
    """kernels.cu, compiled."""
    source = (Path(__file__).parent / "kernels.cu").read_text(encoding="utf-8")
    return cupy.RawModule(code=source, options=("-DREAL=" + {"f": "float", "d": "double"}[char],))


def _launch(name, size, first, *args):
    """Run a kernel with one thread per element; arrays must be contiguous.

    Integers are handed over as int, other numbers in the type of `first`.
    """
    if max(size, *(a.size for a in (first, *args) if hasattr(a, "size"))) > MOST:
        raise ValueError(f"{name}: arrays on the GPU are limited to {MOST:,} elements here; use a "
                         "smaller batch")
    if not size:
        return
    real = first.dtype.type
    kernel = _kernel(xp(first), first.dtype.char, name)
    kernel((-(-size // THREADS),), (THREADS,), (first, *(
        np.int32(a) if isinstance(a, (int, np.integer)) else real(a) if isinstance(a, float) else a
        for a in args)))


def contiguous(x):
    """x in the order in which the kernels count."""
    return xp(x).ascontiguousarray(x)


# ------------------------------------------------------------------------------------ shortcuts


@windows.unfold.shortcut("cupy")
class Im2Col:
    """One kernel that writes every window, zeros of the border included."""

    def forward(x, *, kernel, stride=1, padding=0, dilation=1):
        if x.ndim != 4 or not handles(x):
            return None
        size = output_size(x.shape[1:3], kernel, stride, padding, dilation)
        n, h, w, c = x.shape
        y = xp(x).empty((n, *size, *kernel, c), dtype=x.dtype)
        _launch("im2col", y.size, contiguous(x), y, y.size, h, w, c, *size, *kernel,
                *pair(stride), *pair(padding, least=0), *pair(dilation))
        return y, None


@windows.fold.shortcut("cupy")
class Col2Im:
    """One kernel in which each pixel collects its value from all windows that it is part of."""

    def forward(v, *, size, stride=1, padding=0, dilation=1):
        if not handles(v):
            return None
        n, ho, wo, kh, kw, c = v.shape
        y = xp(v).empty((n, *size, c), dtype=v.dtype)
        _launch("col2im", y.size, contiguous(v), y, y.size, *size, c, ho, wo, kh, kw,
                *pair(stride), *pair(padding, least=0), *pair(dilation))
        return y, None


def _window_bytes(x, size, kernel):
    """Bytes of the windows of one image."""
    return math.prod((*size, *kernel, x.shape[3])) * x.itemsize


def _in_blocks(op, x, w, blocks, shape, how):
    """op of x and w in blocks of x, joined to an array (N, *shape); None if one block is enough."""
    if len(blocks) < 2:
        return None
    y = xp(x).empty((len(x), *shape), dtype=xp(x).result_type(x, w))
    for i in blocks:
        y[i] = op.forward(x[i], w, **how)
    return y, None


@conv.conv2d.shortcut("cupy")
class ConvolutionInBlocks:
    """The definition in blocks of images, where all windows at once would fill the memory."""

    def forward(x, w, *, stride=1, padding=0, dilation=1):
        how = dict(stride=stride, padding=padding, dilation=dilation)
        _, *shape = conv.features_shape("conv2d", x.shape, w.shape, **how)
        blocks = groups(x, _window_bytes(x, shape[:2], w.shape[:2]), COLUMNS)
        return _in_blocks(conv.conv2d, x, w, blocks, shape, how)


@conv.conv2d_transpose.shortcut("cupy")
class TransposedInBlocks:
    """The same for the transposed convolution."""

    def forward(g, w, *, size, stride=1, padding=0, dilation=1):
        how = dict(size=size, stride=stride, padding=padding, dilation=dilation)
        bytes_per_image = math.prod(g.shape[1:3]) * math.prod(w.shape[:3]) * g.itemsize
        return _in_blocks(conv.conv2d_transpose, g, w, groups(g, bytes_per_image, COLUMNS),
                          (*size, w.shape[2]), how)


@conv.conv2d_weight_gradient.shortcut("cupy")
class WeightsInBlocks:
    """The same for the weight gradient: the blocks' gradients add up."""

    def forward(x, g, *, kernel, stride=1, padding=0, dilation=1):
        how = dict(kernel=kernel, stride=stride, padding=padding, dilation=dilation)
        blocks = groups(x, _window_bytes(x, g.shape[1:3], kernel), COLUMNS)
        if len(blocks) < 2 or len(x) != len(g):
            return None
        return sum(conv.conv2d_weight_gradient.forward(x[i], g[i], **how) for i in blocks), None


@pooling.max_pool.shortcut("cupy")
class PoolingKernels:
    """One kernel forwards, and one in which each pixel collects its share of all its windows."""

    def forward(x, *, kernel, stride, padding=(0, 0)):
        if not handles(x):
            return None
        size = pooling.pooled_size(x.shape, kernel, stride, padding)
        n, h, w, c = x.shape
        y = xp(x).empty((n, *size, c), dtype=x.dtype)
        _launch("max_pool", y.size, contiguous(x), y, y.size, h, w, c, *size, *kernel, *stride,
                *padding)
        return y, None

    def vjp(g, y, saved, wanted, x, *, kernel, stride, padding):
        if not handles(x):
            return None
        gradient = xp(g).empty(x.shape, dtype=x.dtype)
        g, x, y = (xp(g).ascontiguousarray(a, dtype=x.dtype) for a in (g, x, y))
        _launch("max_pool_input", x.size, g, x, y, gradient, x.size, *x.shape[1:], *y.shape[1:3],
                *kernel, *stride, *padding)
        return [gradient]


@shapes.add_at.shortcut("cupy")
class AddInOrder:
    """Repeated indices are added in the order in which they come, so that a run repeats exactly.

    CuPy's add.at adds in another order every time. Here the key is applied to the numbers 0, 1, 2,
    ... of the places, which says for each element of v where it goes. Sorted by place and stably
    so, what goes to one place lies side by side.
    """

    def forward(v, *, key, shape):
        if not shapes.may_repeat(key) or not handles(v):
            return None
        cupy = xp(v)
        places = cupy.arange(math.prod(shape), dtype=np.int64).reshape(shape)[key].reshape(-1)
        order = places.argsort(kind="stable")
        y = cupy.zeros(shape, dtype=v.dtype)
        _launch("add_at", places.size, contiguous(v), places[order], order, y, places.size)
        return y, None


@reductions.normalize.shortcut("cupy")
class BatchKernels:
    """BatchNorm's statistics by CuPy's means, everything else in one kernel per channel and one per
    number: eleven launches forwards and five backwards, instead of fifty."""

    def forward(x, scale, shift, *, axis, eps=1e-5, statistics=None):
        c = x.shape[-1] if x.ndim else 0
        if not (over_all_but_last(x, scale, shift, axis) and handles(x)
                and all(getattr(a, "shape", ()) == (c,) and a.dtype == x.dtype
                        for a in (scale, shift))):
            return None
        cupy, x = xp(x), contiguous(x)
        first = x.reshape(-1, c)[0]                     # a constant x is 0 after that, exactly
        d = x - first
        mean = d.mean(axis=axis)
        d -= mean
        mean += first
        rest = d.mean(axis=axis)                        # see `deviation`
        d -= rest
        mean += rest
        variance = (d * d).mean(axis=axis)
        r, slope = (cupy.empty((c,), dtype=x.dtype) for _ in range(2))
        _launch("channels", c, contiguous(scale), variance, r, slope, c, float(eps))
        if statistics is not None:
            kept = (1,) * (x.ndim - 1) + (c,)
            statistics[:] = mean.reshape(kept), variance.reshape(kept)
        y = cupy.empty(x.shape, dtype=x.dtype)
        _launch("scaled", y.size, d, slope, contiguous(shift), y, y.size, c)
        return y, (mean, r)

    def vjp(g, y, saved, wanted, x, scale, shift, *, axis, eps, statistics):
        if saved is None:
            return None
        mean, r = saved
        cupy, c = xp(x), x.shape[-1]
        g, x = cupy.ascontiguousarray(g, dtype=x.dtype), contiguous(x)
        gd = cupy.empty(x.shape, dtype=x.dtype)
        _launch("centred_product", x.size, g, x, mean, gd, x.size, c)
        sum_g, sum_gd = g.sum(axis=axis), gd.sum(axis=axis)
        if wanted[0]:
            _launch("normalize_input", x.size, g, x, mean, r, contiguous(scale), sum_g, sum_gd,
                    gd, x.size, c, x.size // c)
        return gd, sum_gd * r, sum_g


@elementwise.leaky_relu.shortcut("cupy")
class LeakyKernels:
    """One kernel forwards and one backwards, instead of three and five."""

    def forward(x, *, slope=0.2):
        if not handles(x):
            return None
        y = xp(x).empty(x.shape, dtype=x.dtype)
        _launch("leaky_relu", x.size, contiguous(x), y, y.size, float(slope))
        return y, None

    def vjp(g, y, saved, wanted, x, *, slope):
        if not handles(x):
            return None
        gradient = xp(x).empty(x.shape, dtype=x.dtype)
        g = xp(x).ascontiguousarray(g, dtype=x.dtype)
        _launch("leaky_relu_input", x.size, g, contiguous(x), gradient, x.size, float(slope))
        return [gradient]


@elementwise.softplus.shortcut("cupy")
class LogisticKernel:
    """One kernel backwards instead of five."""

    def vjp(g, y, saved, wanted, x):
        if not handles(x) or not x.size:
            return None
        gradient, one = xp(x).empty(x.shape, dtype=x.dtype), not any(g.strides)
        g = g[(slice(1),) * g.ndim] if one else g           # of a mean: one number for all
        g = xp(x).ascontiguousarray(g, dtype=x.dtype)
        _launch("softplus_input", x.size, g, contiguous(x), gradient, x.size, 0 if one else 1)
        return [gradient]


@optim.Adam.definition.shortcut("cupy")
class FusedAdam:
    """One kernel for eight parameters instead of a dozen for each."""

    def step(optimiser, grads):
        b1, b2, rate, eps = corrected(optimiser)
        together = {}                                       # {type: what the kernel moves}
        for p, g, m, v in zip(optimiser.params, grads, *optimiser.memory, strict=True):
            if not handles(p.data) or not all(a.flags.c_contiguous for a in (p.data, m, v)):
                optimiser.update(p.data, g, m, v)
            elif p.size:
                g = xp(g).ascontiguousarray(g, dtype=p.data.dtype)
                together.setdefault(p.data.dtype.char, []).append((p.data, g, m, v, p.size))
        for moved in together.values():
            for i in range(0, len(moved), 8):
                eight = moved[i:i + 8]
                size = sum(entry[-1] for entry in eight)
                eight += [(*eight[0][:-1], 0)] * (8 - len(eight))
                _launch("adam", size, *(a for entry in eight for a in entry), size, b1, b2, rate,
                        eps)
