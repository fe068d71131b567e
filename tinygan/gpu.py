"""The kernels of kernels.cu: compiled by CuPy when first used, launched on CuPy arrays.

NumPy's functions, which CuPy has too, say most of what this library computes, and then one line serves both. Five things are
worth a kernel of their own: cutting images into windows and adding windows up again (a convolution is the former and one product of
matrices), max pooling with its gradient, adding at repeated indices in a fixed order, and Adam's update, which is a dozen launches
otherwise. Each is a few lines of C, and each has its NumPy equivalent where it is called (conv.py, ops.py, optim.py): the tests
compare it with that.

Nothing here copies to or from the host, and nothing waits for the GPU.
"""

import math
from functools import cache
from pathlib import Path

import numpy as np

from .backend import xp

COLUMNS = 256 << 20     # bytes of columns that a convolution holds at a time; what needs more is done in blocks of images
THREADS = 256           # per block
MOST = 2 ** 31 - 1024   # elements of one array: the kernels count in 32 bits


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
    """Run a kernel with one thread per element: integers go as int, numbers as `first`'s type, arrays must be contiguous."""
    if max(size, *(a.size for a in (first, *args) if hasattr(a, "size"))) > MOST:
        raise ValueError(f"{name}: arrays on the GPU are limited to {MOST:,} elements here; use a smaller batch")
    if not size:
        return
    real = first.dtype.type
    kernel = _kernel(xp(first), first.dtype.char, name)
    kernel((-(-size // THREADS),), (THREADS,), (first, *(
        np.int32(a) if isinstance(a, int) else real(a) if isinstance(a, float) else a for a in args)))


def im2col(x, kernel, size, stride, padding, dilation):
    """All windows of images x (N, H, W, C), of which there are size = (Ho, Wo) → (N, Ho, Wo, kh, kw, C); the rest are pairs."""
    cupy = xp(x)
    n, h, w, c = x.shape
    y = cupy.empty((n, *size, *kernel, c), dtype=x.dtype)
    _launch("im2col", y.size, cupy.ascontiguousarray(x), y, y.size, h, w, c, *size, *kernel, *stride, *padding, *dilation)
    return y


def col2im(v, size, stride, padding, dilation):
    """Windows v (N, Ho, Wo, kh, kw, C) added up where they lie in images of size = (H, W) → (N, H, W, C)."""
    cupy = xp(v)
    n, ho, wo, kh, kw, c = v.shape
    y = cupy.empty((n, *size, c), dtype=v.dtype)
    _launch("col2im", y.size, cupy.ascontiguousarray(v), y, y.size, *size, c, ho, wo, kh, kw, *stride, *padding, *dilation)
    return y


def max_pool(x, kernel, size, stride, padding):
    """The maximum of each of the size = (Ho, Wo) windows of images x (N, H, W, C) → (N, Ho, Wo, C)."""
    cupy = xp(x)
    n, h, w, c = x.shape
    y = cupy.empty((n, *size, c), dtype=x.dtype)
    _launch("max_pool", y.size, cupy.ascontiguousarray(x), y, y.size, h, w, c, *size, *kernel, *stride, *padding)
    return y


def max_pool_input(g, x, y, kernel, stride, padding):
    """The gradient of y = max_pool(x) for g in y's shape: each window's goes to its maximum, in equal parts if several tie."""
    cupy = xp(g)
    gradient = cupy.empty(x.shape, dtype=x.dtype)
    g, x, y = (cupy.ascontiguousarray(a, dtype=x.dtype) for a in (g, x, y))
    _launch("max_pool_input", x.size, g, x, y, gradient, x.size, *x.shape[1:], *y.shape[1:3],
            *kernel, *stride, *padding)
    return gradient


def put(v, key, shape):
    """zeros(shape) with v added at key, repeated indices in the order in which they come.

    The key is applied to the numbers 0, 1, 2, ... of the places, which says for each element of v where it goes. Sorted by place
    and stably so, what goes to one place lies side by side.
    """
    cupy = xp(v)
    places = cupy.arange(math.prod(shape), dtype=np.int64).reshape(shape)[key].reshape(-1)
    order = places.argsort(kind="stable")
    y = cupy.zeros(shape, dtype=v.dtype)
    _launch("add_at", places.size, cupy.ascontiguousarray(v), places[order], order, y, places.size)
    return y


def join(arrays, dtype):
    """The elements of all arrays as one flat array. (cupy.concatenate uploads a table of pointers for more than eight.)"""
    flat = xp(arrays[0]).empty(sum(a.size for a in arrays), dtype=dtype)
    start = 0
    for a in arrays:
        flat[start:start + a.size] = a.reshape(-1)
        start += a.size
    return flat


def adam(theta, g, m, v, betas, rate, eps):
    """Adam's update of flat arrays, in place: m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², θ ← θ − rate · m / (√v + eps)."""
    b1, b2 = betas
    _launch("adam", theta.size, theta, g, m, v, theta.size, b1, 1 - b1, b2, 1 - b2, float(rate), float(eps))
