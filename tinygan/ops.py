"""The derivative table: every op, its formula and one line per partial derivative.

Reading a docstring: y is the result, ȳ = ∂L/∂y what arrives from above, x̄ the share passed down to x. Reading a rule: `g` is ȳ,
`y` the result, then the op's own arguments. Sums over broadcast axes are left to the engine (autograd.unbroadcast), so `mul`
need not say what happens when a (3, 1) meets a (1, 4).

Arguments are arrays, Tensors or plain numbers of any shapes that broadcast, unless said otherwise. Called without any Tensor, an
op is an ordinary array function. Where a function has no derivative (ties, kinks, 0), the docstring names the value chosen.
Comparisons and `sign` are locally constant: they return plain arrays and record nothing.
"""

import builtins
import math

import numpy as np

from . import gpu
from .autograd import Tensor, data_of, op, sum_rows
from .backend import xp

# ------------------------------------------------------------------------------------------------ arithmetic


@op
def add(a, b):
    """y = a + b          ā = ȳ          b̄ = ȳ"""
    return a + b
add.vjps(lambda g, y, a, b: g,
         lambda g, y, a, b: g)


@op
def sub(a, b):
    """y = a − b          ā = ȳ          b̄ = −ȳ"""
    return a - b
sub.vjps(lambda g, y, a, b: g,
         lambda g, y, a, b: -g)


@op
def mul(a, b):
    """y = a b            ā = ȳ b        b̄ = ȳ a"""
    return a * b
mul.vjps(lambda g, y, a, b: g * b,
         lambda g, y, a, b: g * a)


@op
def div(a, b):
    """y = a / b          ā = ȳ / b      b̄ = −ȳ y / b"""
    return a / b
div.vjps(lambda g, y, a, b: g / b,
         lambda g, y, a, b: -g * y / b)


@op
def neg(x):
    """y = −x             x̄ = −ȳ"""
    return -x
neg.vjps(lambda g, y, x: -g)


@op
def pow(x, p):
    """y = xᵖ             x̄ = ȳ p xᵖ⁻¹   p̄ = ȳ y log x

    x⁰ has x̄ = 0 everywhere, also at x = 0; 0ᵖ has p̄ = 0; a negative x has p̄ = NaN.
    """
    return x ** p
pow.vjps(lambda g, y, x, p: g * p * _lower(x, p),
         lambda g, y, x, p: g * y * _log(x))


def _lower(x, p):
    """xᵖ⁻¹, where 0⁻¹ counts as 1 if p = 0: it is about to be multiplied by p."""
    if not hasattr(p, "dtype"):                     # a plain number
        return x ** (p - 1) if p else 1.0
    return (x + ((x == 0) & (p == 0))) ** (p - 1)


def _log(x):
    """log x, where log 0 counts as 0: it is about to be multiplied by 0ᵖ. (Of a plain number a plain number: float32 stays.)"""
    if not hasattr(x, "dtype"):
        return math.log(x) if x > 0 else 0.0 if x == 0 else math.nan
    return log(x + (x == 0))


@op
def exp(x):
    """y = eˣ             x̄ = ȳ y"""
    return xp(x).exp(x)
exp.vjps(lambda g, y, x: g * y)


@op
def log(x):
    """y = log x          x̄ = ȳ / x      (log 0 = −inf and log of a negative number = NaN, as in NumPy)"""
    return xp(x).log(x)
log.vjps(lambda g, y, x: g / x)


@op
def log1p(x):
    """y = log(1 + x)     x̄ = ȳ / (1 + x)"""
    return xp(x).log1p(x)
log1p.vjps(lambda g, y, x: g / (1 + x))


@op
def sqrt(x):
    """y = √x             x̄ = ȳ / (2 y)  (infinite at 0: for the length of a vector use `norm`)"""
    return xp(x).sqrt(x)
sqrt.vjps(lambda g, y, x: g / (2 * y))


@op
def sin(x):
    """y = sin x          x̄ = ȳ cos x"""
    return xp(x).sin(x)
sin.vjps(lambda g, y, x: g * cos(x))


@op
def cos(x):
    """y = cos x          x̄ = −ȳ sin x"""
    return xp(x).cos(x)
cos.vjps(lambda g, y, x: -g * sin(x))


@op
def abs(x):
    """y = |x|            x̄ = ȳ sign x   (0 at 0)"""
    return xp(x).abs(x)
abs.vjps(lambda g, y, x: g * sign(x))


def sign(x):
    """−1, 0 or 1, as a plain array: locally constant, so it records nothing."""
    x = data_of(x)
    return xp(x).sign(x)


def _share(first, second, like):
    """1 where `first` is chosen, 0 where `second` is, ½ where they tie: the weight of one argument in `maximum` or `minimum`."""
    return first.astype(like.dtype) + (~(first | second)).astype(like.dtype) * 0.5


@op
def maximum(a, b):
    """y = max(a, b)      ā = ȳ [a > b]  b̄ = ȳ [b > a]      a tie gives half to each"""
    return xp(a, b).maximum(a, b)
maximum.vjps(lambda g, y, a, b: g * _share(a > b, a < b, y),
             lambda g, y, a, b: g * _share(a < b, a > b, y))


@op
def minimum(a, b):
    """y = min(a, b)      ā = ȳ [a < b]  b̄ = ȳ [b < a]      a tie gives half to each"""
    return xp(a, b).minimum(a, b)
minimum.vjps(lambda g, y, a, b: g * _share(a < b, a > b, y),
             lambda g, y, a, b: g * _share(a > b, a < b, y))


@op
def where(condition, a, b):
    """y = a where the condition (a plain boolean array) holds, else b      ā = ȳ [condition]  b̄ = ȳ [not condition]

    Both branches are computed, so where(x > 0, sqrt(x), 0) has the gradient 0 · inf = NaN at x < 0. The safe spelling makes
    the argument harmless first: where(x > 0, sqrt(where(x > 0, x, 1)), 0).
    """
    return xp(condition, a, b).where(condition, a, b)
where.vjps(None,
           lambda g, y, condition, a, b: where(condition, g, 0.0),
           lambda g, y, condition, a, b: where(condition, 0.0, g))


@op
def clip(x, *, low=-math.inf, high=math.inf):
    """y = min(max(x, low), high) with numbers low ≤ high      x̄ = ȳ [low ≤ x ≤ high]      (passes at the bounds themselves)"""
    return xp(x).clip(x, low, high)
clip.vjps(lambda g, y, x, low, high: g * ((x >= low) & (x <= high)))


# ------------------------------------------------------------------------------------------------ activations


@op
def tanh(x):
    """y = tanh x         x̄ = ȳ (1 − y²)"""
    return xp(x).tanh(x)
tanh.vjps(lambda g, y, x: g * (1 - y * y))


@op
def softplus(x):
    """y = log(1 + eˣ)    x̄ = ȳ σ(x)     (by logaddexp: exact for any x, no threshold)"""
    return xp(x).logaddexp(x, 0)
softplus.vjps(lambda g, y, x: g * sigmoid(x))


@op
def sigmoid(x):
    """y = σ(x) = 1 / (1 + e⁻ˣ)           x̄ = ȳ y (1 − y)      (as e^−softplus(−x): never overflows)"""
    return xp(x).exp(-xp(x).logaddexp(-x, 0))
sigmoid.vjps(lambda g, y, x: g * y * (1 - y))


@op
def relu(x):
    """y = max(x, 0)      x̄ = ȳ [x > 0]  (0 at 0)"""
    return xp(x).maximum(x, 0)
relu.vjps(lambda g, y, x: g * (y > 0))


@op
def leaky_relu(x, *, slope=0.2):
    """y = x if x > 0 else slope · x      x̄ = ȳ if x > 0 else slope · ȳ      (slope at 0); 0 ≤ slope ≤ 1"""
    return xp(x).maximum(x, slope * x)
leaky_relu.vjps(lambda g, y, x, slope: g * _slope(data_of(x), slope))


def _slope(x, slope):
    """1 where x > 0, else `slope`, as a constant array.

    A product with it takes a quarter of the time of np.where (benchmarks/tricks.py).
    """
    s = (x > 0).astype(x.dtype)
    s *= 1 - slope
    s += slope
    return s


@op
def elu(x, *, alpha=1.0):
    """y = x if x > 0 else α (eˣ − 1)     x̄ = ȳ if x > 0 else ȳ (y + α)      (Clevert et al. 2016, eq. 15)"""
    return xp(x).where(x > 0, x, alpha * xp(x).expm1(xp(x).minimum(x, 0)))
elu.vjps(lambda g, y, x, alpha: where(x > 0, g, g * (y + alpha)))


def gelu(x):
    """½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), the approximation of x Φ(x) in Hendrycks & Gimpel 2016, section 2."""
    return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


# ------------------------------------------------------------------------------------------------ shape


@op
def reshape(x, *, shape):
    """The same elements in another shape (−1: whatever is left)      x̄ = ȳ in x's shape"""
    return x.reshape(shape)
reshape.vjps(lambda g, y, x, shape: g.reshape(x.shape))


@op
def transpose(x, *, axes=None):
    """Axes in another order (None: reversed)      x̄ = ȳ with the inverse order"""
    return x.transpose(axes)
transpose.vjps(lambda g, y, x, axes: g.transpose(None if axes is None else _inverse(axes)))


def _inverse(axes):
    """The order of axes that undoes this one."""
    return tuple(sorted(range(len(axes)), key=lambda i: axes[i] % len(axes)))


@op
def astype(x, *, dtype):
    """The same values in another floating-point type      x̄ = ȳ in x's type"""
    return x.astype(dtype)
astype.vjps(lambda g, y, x, dtype: g.astype(x.dtype))


def swap(x):
    """x with its last two axes exchanged: the transpose of a (batch of) matrices."""
    return x.transpose((*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


@op
def broadcast_to(x, *, shape):
    """x repeated along new and size-1 axes      x̄ = ȳ summed over them (by the engine)"""
    return xp(x).broadcast_to(x, shape)
broadcast_to.vjps(lambda g, y, x, shape: g)


@op
def getitem(x, *, key):
    """y = x[key]: slices, integers, None, ..., integer arrays, masks      x̄ = zeros with ȳ added at key"""
    return x[key]
getitem.vjps(lambda g, y, x, key: put(g, key=key, shape=x.shape))


@op
def put(v, *, key, shape):
    """y = zeros(shape); y[key] += v, counting every repeated index      v̄ = ȳ[key]      (the adjoint of getitem)"""
    parts = key if isinstance(key, tuple) else (key,)
    repeats = not all(k is None or k is Ellipsis or isinstance(k, (slice, int, np.integer)) for k in parts)
    if repeats and gpu.handles(v):      # CuPy's add.at adds in a different order every time
        return gpu.put(v, key, shape)
    y = xp(v).zeros(shape, dtype=v.dtype)
    if repeats:
        xp(v).add.at(y, key, v)
    else:
        y[key] = v
    return y
put.vjps(lambda g, y, v, key, shape: g[key])


@op
def concatenate(*xs, axis=0):
    """The arguments one after the other along an axis      x̄ₖ = the k-th piece of ȳ"""
    return xp(*xs).concatenate(xs, axis=axis)


def _piece(k, g, y, *xs, axis):
    start = builtins.sum(x.shape[axis] for x in xs[:k])
    return g[(slice(None),) * (axis % g.ndim) + (slice(start, start + xs[k].shape[axis]),)]
concatenate.vjps(each=_piece)


def stack(xs, axis=0):
    """Join tensors of one shape along a new axis."""
    axis = axis % (xs[0].ndim + 1)
    return concatenate(*(x.reshape((*x.shape[:axis], 1, *x.shape[axis:])) for x in xs), axis=axis)


@op
def pad(x, *, widths, value=0.0):
    """A border of one value around x, widths = ((before, after), ...) per axis      x̄ = the inner part of ȳ"""
    return xp(x).pad(x, widths, constant_values=value)
pad.vjps(lambda g, y, x, widths, value: g[tuple(slice(b, b + n) for (b, _), n in zip(widths, x.shape, strict=True))])


@op
def flip(x, *, axis):
    """x with the order along an axis (or several) reversed      x̄ = ȳ reversed"""
    return xp(x).flip(x, axis)
flip.vjps(lambda g, y, x, axis: flip(g, axis=axis))


@op
def cumsum(x, *, axis):
    """yᵢ = Σⱼ≤ᵢ xⱼ along an axis      x̄ⱼ = Σᵢ≥ⱼ ȳᵢ      (the running sum from the other end)"""
    return xp(x).cumsum(x, axis=axis)
cumsum.vjps(lambda g, y, x, axis: flip(cumsum(flip(g, axis=axis), axis=axis), axis=axis))


def embedding(weight, index):
    """Rows of a table: weight (K, D), index integers (...) in 0..K−1 → (..., D)."""
    if getattr(getattr(index, "dtype", None), "kind", None) not in ("i", "u"):
        raise TypeError(f"embedding: index must be an array of integers, got {getattr(index, 'dtype', type(index).__name__)}")
    if index.size and not (0 <= int(index.min()) and int(index.max()) < weight.shape[0]):
        raise ValueError(f"embedding: index must be in 0..{weight.shape[0] - 1}, got {index.min()}..{index.max()}")
    return weight[index]


# ------------------------------------------------------------------------------------------------ reductions
# axis: None (all), an integer or a tuple, as in NumPy. A reduced gradient is brought back to x's shape by `_restore`.


def _restore(g, x, axis, keepdims):
    """View a reduced array with size-1 axes where x was reduced, so that it broadcasts against x."""
    if axis is None or keepdims:
        return g                                    # broadcasts as it is
    axes = {a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))}
    return g.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def _count(x, axis):
    """How many elements each result of a reduction is made of (1 where there are none: their gradient is empty)."""
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return math.prod(x.shape[a] for a in axes) or 1


@op
def sum(x, *, axis=None, keepdims=False):
    """y = Σ x            x̄ = ȳ, repeated"""
    return x.sum(axis=axis, keepdims=keepdims)
sum.vjps(lambda g, y, x, axis, keepdims: broadcast_to(_restore(g, x, axis, keepdims), shape=x.shape))


@op
def mean(x, *, axis=None, keepdims=False):
    """y = Σ x / n        x̄ = ȳ / n, repeated"""
    return x.mean(axis=axis, keepdims=keepdims)
mean.vjps(lambda g, y, x, axis, keepdims:
          broadcast_to(_restore(g * (1 / _count(x, axis)), x, axis, keepdims), shape=x.shape))


def _deviation(x, axis):
    """(x − μ, μ), the mean taken of x minus its first element: no rounding where x is constant, little where it is far from 0."""
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
    first = x[tuple(slice(1) if i in axes else slice(None) for i in range(x.ndim))]
    d = x - first
    mu = d.mean(axis=axis, keepdims=True)
    d -= mu
    return d, first + mu


@op
def var(x, *, axis=None, keepdims=False):
    """y = Σ (x − μ)² / n with μ the mean      x̄ = ȳ 2 (x − μ) / n      (two passes, never E x² − μ²)"""
    d, _ = _deviation(x, axis)
    return (d * d).mean(axis=axis, keepdims=keepdims)
var.vjps(lambda g, y, x, axis, keepdims:
         _restore(g * (2 / _count(x, axis)), x, axis, keepdims) * (x - mean(x, axis=axis, keepdims=True)))


def _ties(x, y, axis, keepdims):
    """Where x attains the extreme y: 1 divided by the number of places that tie."""
    hit = (x == _restore(data_of(y), x, axis, keepdims)).astype(x.dtype)
    return hit / hit.sum(axis=axis, keepdims=True)


@op
def max(x, *, axis=None, keepdims=False):
    """y = maxⱼ xⱼ        x̄ⱼ = ȳ where xⱼ = y, shared equally between ties"""
    return x.max(axis=axis, keepdims=keepdims)
max.vjps(lambda g, y, x, axis, keepdims: _restore(g, x, axis, keepdims) * _ties(x, y, axis, keepdims))


@op
def min(x, *, axis=None, keepdims=False):
    """y = minⱼ xⱼ        x̄ⱼ = ȳ where xⱼ = y, shared equally between ties"""
    return x.min(axis=axis, keepdims=keepdims)
min.vjps(lambda g, y, x, axis, keepdims: _restore(g, x, axis, keepdims) * _ties(x, y, axis, keepdims))


@op
def norm(x, *, axis=None, keepdims=False):
    """y = √Σ x²          x̄ = ȳ x / y    (0 at the zero vector, and finite at second order)

    Computed as m √Σ (x/m)² with m = max |x|, which neither overflows nor vanishes: (1e30, 1e30) is fine in float32.
    """
    m = xp(x).abs(x).max(axis=axis, keepdims=True)
    m = m + (m == 0)
    y = m * xp(x).sqrt(((x / m) ** 2).sum(axis=axis, keepdims=True))
    return y if keepdims else y.squeeze(axis)
norm.vjps(lambda g, y, x, axis, keepdims:
          _restore(g, x, axis, keepdims) * (x / _restore(y + (y == 0), x, axis, keepdims)))


@op
def logsumexp(x, *, axis=None, keepdims=False):
    """y = log Σ eˣ       x̄ = ȳ eˣ⁻ʸ     (shifted by the maximum; all −inf gives −inf, with gradient 0)"""
    m = x.max(axis=axis, keepdims=True)
    m = xp(x).where(xp(x).isfinite(m), m, 0.0)
    with np.errstate(divide="ignore"):              # log 0 = −inf is the right answer here
        y = xp(x).log(xp(x).exp(x - m).sum(axis=axis, keepdims=True)) + m
    return y if keepdims else y.squeeze(axis)
logsumexp.vjps(lambda g, y, x, axis, keepdims: _restore(g, x, axis, keepdims) *
               exp(x - _restore(where(y > -math.inf, y, 0.0), x, axis, keepdims)))


@op
def softmax(x, *, axis=-1):
    """y = eˣ / Σ eˣ      x̄ = y (ȳ − Σ ȳ y)"""
    e = xp(x).exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)
softmax.vjps(lambda g, y, x, axis: y * (g - sum(g * y, axis=axis, keepdims=True)))


@op
def log_softmax(x, *, axis=-1):
    """y = x − log Σ eˣ   x̄ = ȳ − eʸ Σ ȳ (exact at ±1e4: shifted by the maximum)"""
    d = x - x.max(axis=axis, keepdims=True)
    return d - xp(x).log(xp(x).exp(d).sum(axis=axis, keepdims=True))
log_softmax.vjps(lambda g, y, x, axis: g - exp(y) * sum(g, axis=axis, keepdims=True))


# ------------------------------------------------------------------------------------------------ products


@op
def matmul(a, b):
    """y = a b, matrices (..., n, k) (..., k, m), leading axes broadcast      ā = ȳ bᵀ      b̄ = aᵀ ȳ"""
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul: expected matrices (..., n, k) and (..., k, m), got {a.shape} and {b.shape}")
    return a @ b
matmul.vjps(lambda g, y, a, b: g @ swap(b),
            lambda g, y, a, b: swap(a) @ g)


@op
def linear(x, w, b):
    """y = x w + b, x (N, K), w (K, M), b (M,)      x̄ = ȳ wᵀ      w̄ = xᵀ ȳ      b̄ = ȳ (summed over N by the engine)"""
    if x.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ValueError(f"linear: expected x of shape (N, {w.shape[0]}) for a weight {w.shape}, got {x.shape}")
    y = x @ w
    y += b
    return y
linear.vjps(lambda g, y, x, w, b: g @ swap(w),
            lambda g, y, x, w, b: swap(x) @ g,
            lambda g, y, x, w, b: g)


@op
def contract(*xs, formula):
    """y = einsum(formula, *xs), formula with an explicit result such as 'ij,jk->ik', no index twice in one operand

    x̄ₖ = the same sum with ȳ and the k-th operand exchanged; an index that only operand k has is repeated along.
    """
    return xp(*xs).einsum(formula, *xs)


def _contract_rule(k, g, y, *xs, formula):
    terms, result = formula.split("->")
    terms = terms.split(",")
    others = [t for i, t in enumerate(terms) if i != k]
    known = "".join([result, *others])
    kept = "".join(i for i in terms[k] if i in known)
    share = einsum(",".join([result, *others]) + "->" + kept, g, *(x for i, x in enumerate(xs) if i != k))
    sizes = iter(share.shape)
    share = share.reshape(tuple(next(sizes) if i in known else 1 for i in terms[k]))
    return broadcast_to(share, shape=np.broadcast_shapes(share.shape, xs[k].shape))
contract.vjps(each=_contract_rule)


def einsum(formula, *xs):
    """Einstein summation with NumPy's spelling and an explicit result, e.g. einsum('bij,bjk->bik', a, b)."""
    formula = formula.replace(" ", "")
    terms = formula.partition("->")[0].split(",")
    if "->" not in formula or "." in formula or any(len(set(t)) < len(t) for t in terms) or len(terms) != len(xs):
        raise ValueError(f"einsum: expected one term per operand, an explicit '->', no '...' and no index twice in a term, "
                         f"got {formula!r} for {len(xs)} operand(s)")
    return contract(*xs, formula=formula)


# ------------------------------------------------------------------------------------------------ normalisation


@op
def normalize(x, scale, shift, *, axis, eps=1e-5, statistics=None):
    """y = x̂ scale + shift with x̂ = (x − μ) r, r = 1 / √(σ² + ε), mean μ and variance σ² over `axis`

    With ĝ = ȳ scale:     x̄ = r (ĝ − mean ĝ − x̂ mean(ĝ x̂))      scale̅ = ȳ x̂      shift̅ = ȳ
    (Ioffe & Szegedy 2015, section 3, solved for x̄.) `statistics`, a list, receives μ and σ² with the axes kept.
    The variance is the mean squared deviation, so a constant batch gives exactly `shift`.
    """
    if axis == tuple(range(x.ndim - 1)) and getattr(scale, "ndim", 0) < 2 and getattr(shift, "ndim", 0) < 2:
        return _batch_forward(x, scale, shift, eps, statistics)
    d, mu = _deviation(x, axis)
    variance = (d * d).mean(axis=axis, keepdims=True)
    if statistics is not None:
        statistics[:] = mu, variance
    d *= (variance + eps) ** -0.5
    return d * scale + shift, None


def _standardize_rule(g, x, axis, eps):
    xhat = standardize(x, axis=axis, eps=eps)
    r = (var(x, axis=axis, keepdims=True) + eps) ** -0.5
    return r * (g - mean(g, axis=axis, keepdims=True) - xhat * mean(g * xhat, axis=axis, keepdims=True))
normalize.vjps(lambda g, y, x, scale, shift, axis, eps, statistics: _standardize_rule(g * scale, x, axis, eps),
               lambda g, y, x, scale, shift, axis, eps, statistics: g * standardize(x, axis=axis, eps=eps),
               lambda g, y, x, scale, shift, axis, eps, statistics: g)


# The shortcut for statistics over all axes but the last (BatchNorm): sums as products with ones (autograd.sum_rows), and rows of
# several pixels joined so that the C numbers per channel do not make for short loops: twice as fast as the lines above
# for (32, 14, 14, 16) (benchmarks/tricks.py).


def _wide(x, *channels):
    """x (..., W, C) as a matrix (rows, W·C), and each array of C numbers repeated W times."""
    w = x.shape[-2] if x.ndim > 2 else 1
    return x.reshape(-1, w * x.shape[-1]), *(xp(x).tile(c, w) for c in channels)


def _batch_forward(x, scale, shift, eps, statistics):
    """Mean and variance of d = x − x₀ with x₀ the first pixel, then x̂ scale + shift = d a + b in place."""
    n, first = x.size // x.shape[-1], x.reshape(-1, x.shape[-1])[:1].reshape(-1)
    rows, start = _wide(x, first)
    d = rows - start
    mean = sum_rows(d.reshape(x.shape)) / n
    variance = sum_rows((d * d).reshape(x.shape)) / n - mean * mean        # shifted: d is of the size of the deviation
    r = (xp(x).maximum(variance, 0) + eps) ** -0.5
    a = r * scale
    _, a_wide, b_wide = _wide(x, a, shift - mean * a)
    d *= a_wide
    d += b_wide
    mean += first
    if statistics is not None:
        statistics[:] = mean, variance
    return d.reshape(x.shape), (mean, r)


@normalize.fast_vjp
def _batch_backward(g, y, saved, wanted, x, scale, shift, axis, eps, statistics):
    """x̄ = a (g − mean g − d r² mean(g d)) with d = x − μ and a = r scale: the rules with their sums shared."""
    if saved is None:
        return [rule(g, y, x, scale, shift, axis, eps, statistics) if w else None
                for rule, w in zip(normalize.rules, wanted, strict=True)]
    mean, r = saved
    n = x.size // x.shape[-1]
    rows, mean_wide = _wide(x, mean)
    d = rows - mean_wide
    g_rows, = _wide(g)
    gd = g_rows * d
    sum_g, sum_gd = sum_rows(g), sum_rows(gd.reshape(x.shape))
    if not wanted[0]:
        return None, sum_gd * r, sum_g
    a = r * scale
    _, k, c, a_wide = _wide(x, -a * r * r * sum_gd / n, -a * sum_g / n, a)
    d *= k
    d += c
    xp(x).multiply(g_rows, a_wide, out=gd)
    gd += d
    return gd.reshape(x.shape), sum_gd * r, sum_g


def standardize(x, axis, eps=1e-5):
    """(x − μ) / √(σ² + ε): mean 0 and variance 1 over `axis`."""
    return normalize(x, 1.0, 0.0, axis=axis, eps=eps)


# ------------------------------------------------------------------------------------------------ Tensor's operators and methods


def dot(a, b):
    """a @ b as NumPy means it: `matmul`, with a vector standing for a row on the left and a column on the right."""
    y = matmul(a[None, :] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b)
    if a.ndim == 1:
        y = y[..., 0, :]
    return y[..., 0] if b.ndim == 1 else y


def squeeze(x, axis=None):
    """x without its size-1 axes, or without the given ones."""
    return x.reshape(data_of(x).squeeze(axis).shape)


def swapaxes(x, i, j):
    """x with axes i and j exchanged."""
    axes = list(range(x.ndim))
    axes[i], axes[j] = axes[j], axes[i]
    return x.transpose(tuple(axes))


def _args(args):
    """Accept x.reshape(2, 3) as well as x.reshape((2, 3))."""
    return args[0] if len(args) == 1 else args or None


for _name, _method in {
    "__add__": lambda a, b: add(a, b), "__radd__": lambda a, b: add(b, a),
    "__sub__": lambda a, b: sub(a, b), "__rsub__": lambda a, b: sub(b, a),
    "__mul__": lambda a, b: mul(a, b), "__rmul__": lambda a, b: mul(b, a),
    "__truediv__": lambda a, b: div(a, b), "__rtruediv__": lambda a, b: div(b, a),
    "__pow__": lambda a, b: pow(a, b), "__rpow__": lambda a, b: pow(b, a),
    "__matmul__": lambda a, b: dot(a, b), "__rmatmul__": lambda a, b: dot(b, a),
    "__neg__": lambda a: neg(a), "__abs__": lambda a: abs(a), "__getitem__": lambda a, key: getitem(a, key=key),
    "__lt__": lambda a, b: a.data < data_of(b), "__le__": lambda a, b: a.data <= data_of(b),
    "__gt__": lambda a, b: a.data > data_of(b), "__ge__": lambda a, b: a.data >= data_of(b),
    "__eq__": lambda a, b: a.data == data_of(b), "__ne__": lambda a, b: a.data != data_of(b),
    "__hash__": object.__hash__,
    "sum": lambda x, axis=None, keepdims=False: sum(x, axis=axis, keepdims=keepdims),
    "mean": lambda x, axis=None, keepdims=False: mean(x, axis=axis, keepdims=keepdims),
    "var": lambda x, axis=None, keepdims=False: var(x, axis=axis, keepdims=keepdims),
    "max": lambda x, axis=None, keepdims=False: max(x, axis=axis, keepdims=keepdims),
    "min": lambda x, axis=None, keepdims=False: min(x, axis=axis, keepdims=keepdims),
    "reshape": lambda x, *shape: reshape(x, shape=_args(shape)),
    "transpose": lambda x, *axes: transpose(x, axes=_args(axes)), "T": property(lambda x: transpose(x)),
    "ravel": lambda x: reshape(x, shape=-1), "flatten": lambda x: reshape(x, shape=-1),
    "squeeze": squeeze, "swapaxes": swapaxes, "dot": dot,
    "clip": lambda x, low, high: clip(x, low=low, high=high),
    "cumsum": lambda x, axis: cumsum(x, axis=axis), "astype": lambda x, dtype: astype(x, dtype=dtype),
}.items():
    setattr(Tensor, _name, _method)
