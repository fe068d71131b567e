"""The derivative table, 2: functions that move, copy and add elements.

Each is linear, apart from the border that `pad` adds. The rule of a linear function is its
*adjoint*, the function of the transposed matrix: where one copies, the other adds. Two pairs are
each other's adjoint: `getitem` and `add_at`, `broadcast_to` and `unbroadcast`. See elementwise.py
for how to read the table.
"""

import math

import numpy as np

from .backend import xp
from .tape import data_of, op, unbroadcast


@op
def reshape(x, *, shape):
    """The same elements in another shape (−1: whatever is left)      x̄ = ȳ in x's shape"""
    return x.reshape(shape)
reshape.vjps(lambda g, y, x, shape: g.reshape(x.shape))

@op
def transpose(x, *, axes=None):
    """Axes in another order (None: reversed)      x̄ = ȳ with the inverse order"""
    return x.transpose(axes)
transpose.vjps(lambda g, y, x, axes: g.transpose(
    None if axes is None else tuple(sorted(range(x.ndim), key=lambda i: axes[i] % x.ndim))))

@op
def astype(x, *, dtype):
    """The same values in another floating-point type      x̄ = ȳ, which the engine converts back"""
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"astype: a Tensor holds floating-point numbers, got {np.dtype(dtype)}; "
                        "for a plain array of another type use x.data.astype(...)")
    return x.astype(dtype)
astype.vjps(lambda g, y, x, dtype: g)

@op
def broadcast_to(x, *, shape):
    """x repeated along new and size-1 axes      x̄ = unbroadcast(ȳ): summed over them"""
    return xp(x).broadcast_to(x, shape)
broadcast_to.vjps(lambda g, y, x, shape: g)
unbroadcast.vjps(lambda g, y, x, shape: broadcast_to(g, shape=x.shape))

@op
def getitem(x, *, key):
    """y = x[key]: slices, integers, None, ..., integer arrays, masks      x̄ = add_at(ȳ, key)"""
    return x[key]
getitem.vjps(lambda g, y, x, key: add_at(g, key=key, shape=x.shape))

@op
def add_at(v, *, key, shape):
    """y = zeros(shape); y[key] += v, counting every repeated index      v̄ = ȳ[key]"""
    y = xp(v).zeros(shape, dtype=v.dtype)
    if may_repeat(key):
        xp(v).add.at(y, key, v)
    else:
        y[key] = v
    return y
add_at.vjps(lambda g, y, v, key, shape: g[key])

def may_repeat(key):
    """Whether an index may name one place several times: arrays may, slices never."""
    parts = key if isinstance(key, tuple) else (key,)
    return not all(k is None or k is Ellipsis or isinstance(k, (slice, int, np.integer))
                   for k in parts)

@op
def concatenate(*xs, axis=0):
    """The arrays one after the other along an axis (None: flattened)   x̄ₖ = the k-th piece of ȳ"""
    return xp(*xs).concatenate(xs, axis=axis)

def _piece(k, g, y, *xs, axis):
    if axis is None:
        start = sum(x.size for x in xs[:k])
        return g[start:start + xs[k].size].reshape(xs[k].shape)
    start = sum(x.shape[axis] for x in xs[:k])
    before = (slice(None),) * (axis % g.ndim)
    return g[(*before, slice(start, start + xs[k].shape[axis]))]
concatenate.vjps(each=_piece)

def stack(xs, axis=0):
    """Join arrays of one shape along a new axis."""
    at = np.lib.array_utils.normalize_axis_index(axis, xs[0].ndim + 1, "stack")
    return concatenate([x.reshape((*x.shape[:at], 1, *x.shape[at:])) for x in xs], axis=at)

@op
def pad(x, *, widths, value=0.0):
    """A border of one value around x      x̄ = the inner part of ȳ

    widths as in NumPy: one number, (before, after), or such a pair per axis.
    """
    return xp(x).pad(x, widths, constant_values=value)
pad.vjps(lambda g, y, x, widths, value: g[tuple(
    slice(b, b + n) for (b, _), n in zip(np.broadcast_to(widths, (x.ndim, 2)).tolist(), x.shape,
                                         strict=True))])

@op
def flip(x, *, axis=None):
    """x with the order along an axis (or several, None: all) reversed      x̄ = ȳ reversed"""
    return xp(x).flip(x, axis)
flip.vjps(lambda g, y, x, axis: flip(g, axis=axis))

@op
def cumsum(x, *, axis=None):
    """yᵢ = Σⱼ≤ᵢ xⱼ along an axis (None: of x flattened)      x̄ⱼ = Σᵢ≥ⱼ ȳᵢ, summed from the end"""
    return xp(x).cumsum(x, axis=axis)
cumsum.vjps(lambda g, y, x, axis:
            flip(cumsum(flip(g, axis=axis), axis=axis), axis=axis).reshape(x.shape))

def squeeze(x, axis=None):
    """x without its size-1 axes, or without the given ones."""
    return x.reshape(data_of(x).squeeze(axis).shape)

def swapaxes(x, i, j):
    """x with axes i and j exchanged."""
    axes = list(range(x.ndim))
    axes[i], axes[j] = axes[j], axes[i]
    return x.transpose(tuple(axes))

def swap(x):
    """x with its last two axes exchanged: the transpose of a (batch of) matrices."""
    return x.transpose((*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))

def embedding(weight, index):
    """Rows of a table: weight (K, D), index integers (...) in 0..K−1 → (..., D)."""
    if getattr(getattr(index, "dtype", None), "kind", None) not in ("i", "u"):
        raise TypeError("embedding: index must be an array of integers, got "
                        f"{getattr(index, 'dtype', type(index).__name__)}")
    if index.size and not (0 <= int(index.min()) and int(index.max()) < weight.shape[0]):
        raise ValueError(f"embedding: index must be in 0..{weight.shape[0] - 1}, "
                         f"got {index.min()}..{index.max()}")
    return weight[index]

def count(x, axis):
    """How many elements are reduced to one over `axis`; 1 if there are none, to divide by it."""
    return math.prod(x.shape[i] for i in axes_of(x, axis)) or 1

def axes_of(x, axis):
    """`axis` as NumPy takes it (None, an integer, a tuple) as a tuple of numbers ≥ 0."""
    if axis is None or x.ndim == 0:                 # a single number has no axis but 0 and −1
        return tuple(range(x.ndim))
    return tuple(a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,)))
