"""The derivative table, 3: sums, means, extremes, norms, softmax, normalisation.

`axis` is None (all), an integer or a tuple, as in NumPy. See elementwise.py for how to read the
table.
"""

import math

import numpy as np

from .backend import xp
from .elementwise import exp, where
from .shapes import axes_of, broadcast_to, count
from .tape import data_of, op


def _restore(g, x, axis, keepdims):
    """View a reduced array with size-1 axes where x was reduced: it then broadcasts against x."""
    if axis is None or keepdims:
        return g                                    # broadcasts as it is
    axes = axes_of(x, axis)
    return g.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))

@op
def sum(x, *, axis=None, keepdims=False):
    """y = Σ x            x̄ = ȳ, repeated"""
    return x.sum(axis=axis, keepdims=keepdims)
sum.vjps(lambda g, y, x, axis, keepdims:
         broadcast_to(_restore(g, x, axis, keepdims), shape=x.shape))

@op
def mean(x, *, axis=None, keepdims=False):
    """y = Σ x / n        x̄ = ȳ / n, repeated"""
    return x.mean(axis=axis, keepdims=keepdims)
mean.vjps(lambda g, y, x, axis, keepdims:
          broadcast_to(_restore(g * (1 / count(x, axis)), x, axis, keepdims), shape=x.shape))

def deviation(x, axis):
    """(x − μ, μ) with μ the mean over `axis`, which is kept.

    Subtracting the first element first makes equal numbers deviate by exactly 0. Subtracting the
    mean twice removes the rounding error of the first mean, which matters where there are outliers.
    """
    n, axes = count(x, axis), axes_of(x, axis)
    mu = x[tuple(slice(1) if i in axes else slice(None) for i in range(x.ndim))]
    d = x - mu
    for _ in range(2):
        rest = d.sum(axis=axis, keepdims=True) / n
        d, mu = d - rest, mu + rest
    return d, mu

@op
def var(x, *, axis=None, keepdims=False):
    """y = Σ (x − μ)² / n with μ the mean      x̄ = ȳ 2 (x − μ) / n"""
    d, _ = deviation(x, axis)
    return (d * d).mean(axis=axis, keepdims=keepdims)
var.vjps(lambda g, y, x, axis, keepdims:
         _restore(g * (2 / count(x, axis)), x, axis, keepdims)
         * (x - mean(x, axis=axis, keepdims=True)))

def _ties(x, y, axis, keepdims):
    """Where x attains the extreme y: 1 divided by the number of places that tie."""
    hit = (x == _restore(data_of(y), x, axis, keepdims)).astype(x.dtype)
    return hit / hit.sum(axis=axis, keepdims=True)

@op
def max(x, *, axis=None, keepdims=False):
    """y = maxⱼ xⱼ        x̄ⱼ = ȳ where xⱼ = y, shared equally between ties"""
    return x.max(axis=axis, keepdims=keepdims)
max.vjps(lambda g, y, x, axis, keepdims:
         _restore(g, x, axis, keepdims) * _ties(x, y, axis, keepdims))

@op
def min(x, *, axis=None, keepdims=False):
    """y = minⱼ xⱼ        x̄ⱼ = ȳ where xⱼ = y, shared equally between ties"""
    return x.min(axis=axis, keepdims=keepdims)
min.vjps(lambda g, y, x, axis, keepdims:
         _restore(g, x, axis, keepdims) * _ties(x, y, axis, keepdims))

def _largest(x, axis):
    """The maximum over `axis`, which is kept; 0 where there is nothing to compare."""
    return x.max(axis=axis, keepdims=True) if x.size else x.sum(axis=axis, keepdims=True)

@op
def norm(x, *, axis=None, keepdims=False):
    """y = √Σ x²          x̄ = ȳ x / y    (0 at the zero vector, and finite at second order)

    Computed as m √Σ (x/m)² with m = max |x|, which neither overflows nor vanishes: (1e30, 1e30) is
    fine in float32.
    """
    m = _largest(xp(x).abs(x), axis)
    m = xp(x).where((m > 0) & (m < math.inf), m, 1)
    y = m * xp(x).sqrt(((x / m) ** 2).sum(axis=axis, keepdims=True))
    return y if keepdims else y.squeeze(axes_of(x, axis))
norm.vjps(lambda g, y, x, axis, keepdims:
          _restore(g, x, axis, keepdims) * (x / _restore(y + (y == 0), x, axis, keepdims)))

@op
def logsumexp(x, *, axis=None, keepdims=False):
    """y = log Σ eˣ       x̄ = ȳ eˣ⁻ʸ     (all −inf, or nothing at all, gives −inf with gradient 0)

    Shifted by the maximum, so that it never overflows.
    """
    m = _largest(x, axis)
    m = xp(x).where(xp(x).isfinite(m), m, 0.0)
    with np.errstate(divide="ignore"):              # log 0 = −inf is the right answer here
        y = xp(x).log(xp(x).exp(x - m).sum(axis=axis, keepdims=True)) + m
    return y if keepdims else y.squeeze(axes_of(x, axis))
logsumexp.vjps(lambda g, y, x, axis, keepdims: _restore(g, x, axis, keepdims) *
               exp(x - _restore(where(y > -math.inf, y, 0.0), x, axis, keepdims)))

@op
def softmax(x, *, axis=-1):
    """y = eˣ / Σ eˣ      x̄ = y (ȳ − Σ ȳ y)"""
    e = xp(x).exp(x - _largest(x, axis))
    return e / e.sum(axis=axis, keepdims=True)
softmax.vjps(lambda g, y, x, axis: y * (g - sum(g * y, axis=axis, keepdims=True)))

@op
def log_softmax(x, *, axis=-1):
    """y = x − log Σ eˣ   x̄ = ȳ − eʸ Σ ȳ (exact at ±1e4: shifted by the maximum)"""
    d = x - _largest(x, axis)
    with np.errstate(divide="ignore"):              # over an empty axis there is nothing to shift
        return d - xp(x).log(xp(x).exp(d).sum(axis=axis, keepdims=True))
log_softmax.vjps(lambda g, y, x, axis: g - exp(y) * sum(g, axis=axis, keepdims=True))

# -------------------------------------------------------------------------------- normalisation

@op
def normalize(x, scale, shift, *, axis, eps=1e-5, statistics=None):
    """y = x̂ scale + shift with x̂ = (x − μ) r, r = 1 / √(σ² + ε), mean μ, variance σ² over `axis`

    With ĝ = ȳ scale:     x̄ = r (ĝ − mean ĝ − x̂ mean(ĝ x̂))      scale̅ = ȳ x̂      shift̅ = ȳ
    scale, shift: whatever broadcasts against x, such as (C,).
    (Ioffe & Szegedy 2015, section 3, its equations combined.)

    `statistics`, a list, receives μ and σ² with the axes kept.
    """
    d, mu = deviation(x, axis)
    variance = (d * d).sum(axis=axis, keepdims=True) / count(x, axis)
    if statistics is not None:
        statistics[:] = mu, variance
    return d * (variance + eps) ** -0.5 * scale + shift

def _standardize_rule(g, x, axis, eps, statistics=None):
    if not x.size:
        return g                                        # nothing has no mean
    xhat = standardize(x, axis=axis, eps=eps)
    r = (var(x, axis=axis, keepdims=True) + eps) ** -0.5
    return r * (g - mean(g, axis=axis, keepdims=True)
                - xhat * mean(g * xhat, axis=axis, keepdims=True))
normalize.vjps(lambda g, y, x, scale, shift, **how: _standardize_rule(g * scale, x, **how),
               lambda g, y, x, scale, shift, axis, eps, **_: g * standardize(x, axis, eps),
               lambda g, y, x, scale, shift, **_: g)

def standardize(x, axis, eps=1e-5):
    """(x − μ) / √(σ² + ε): mean 0 and variance 1 over `axis`."""
    return normalize(x, 1.0, 0.0, axis=axis, eps=eps)
