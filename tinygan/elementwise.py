"""The derivative table, 1: functions that work element by element.

Reading a docstring: y is the result, ȳ = ∂L/∂y the gradient by it, x̄ the share passed on to x; [c]
is 1 where the condition c holds, and else 0. Reading a rule: `g` is ȳ, `y` the result, then the
op's own arguments. Sums over broadcast axes are left to the engine, so `mul` need not say what
happens when a (3, 1) meets a (1, 4).

Arguments are arrays, Tensors or plain numbers of any shapes that broadcast, unless said otherwise.
Called without any Tensor, an op is an ordinary array function. Where a function has no derivative
(ties, kinks, 0), the docstring names the value chosen. Comparisons and `sign` are locally constant:
they return plain arrays and record nothing. Names are NumPy's, so that in these files `pow`, `abs`,
`sum`, `max` and `min` are ops and not Python's functions.
"""

import math

import numpy as np

from .backend import xp
from .tape import data_of, op

# ----------------------------------------------------------------------------------- arithmetic

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

    x⁰ has x̄ = 0 everywhere, also at x = 0. 0ᵖ has p̄ = 0 where p ≥ 0, and NaN where p < 0, since y
    is infinite there. A negative x has p̄ = NaN.
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
    """log x, where log 0 counts as 0: it is about to be multiplied by 0ᵖ."""
    if not hasattr(x, "dtype"):                     # a plain number stays one, and float32 float32
        return math.log(x) if x > 0 else 0.0 if x == 0 else math.nan
    return log(x + (x == 0))

@op
def exp(x):
    """y = eˣ             x̄ = ȳ y"""
    return xp(x).exp(x)
exp.vjps(lambda g, y, x: g * y)

@op
def log(x):
    """y = log x          x̄ = ȳ / x      (log 0 = −inf, log of a negative number = NaN)"""
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

def _chosen(first, second, like):
    """Which argument of `maximum` or `minimum` was chosen: 1 for it, 0 against, ½ for a tie."""
    return first.astype(like.dtype) + (~(first | second)).astype(like.dtype) * 0.5

@op
def maximum(a, b):
    """y = max(a, b)      ā = ȳ [a > b]  b̄ = ȳ [b > a]      a tie gives half to each"""
    return xp(a, b).maximum(a, b)
maximum.vjps(lambda g, y, a, b: g * _chosen(a > b, a < b, y),
             lambda g, y, a, b: g * _chosen(a < b, a > b, y))

@op
def minimum(a, b):
    """y = min(a, b)      ā = ȳ [a < b]  b̄ = ȳ [b < a]      a tie gives half to each"""
    return xp(a, b).minimum(a, b)
minimum.vjps(lambda g, y, a, b: g * _chosen(a < b, a > b, y),
             lambda g, y, a, b: g * _chosen(a > b, a < b, y))

@op
def where(condition, a, b):
    """y = a where the condition holds, else b      ā = ȳ [condition]  b̄ = ȳ [not condition]

    The condition is a plain boolean array. Both branches are computed, so where(x > 0, sqrt(x), 0)
    has the gradient 0 · inf = NaN at x < 0. The safe spelling makes the argument harmless first:
    where(x > 0, sqrt(where(x > 0, x, 1)), 0).
    """
    return xp(condition, a, b).where(condition, a, b)
where.vjps(None,
           lambda g, y, condition, a, b: where(condition, g, 0.0),
           lambda g, y, condition, a, b: where(condition, 0.0, g))

@op
def clip(x, *, low=None, high=None):
    """y = min(max(x, low), high), low ≤ high, None: no bound      x̄ = ȳ [y = x], at bounds too"""
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    if not np.all(low <= high):
        raise ValueError(f"clip: low must not exceed high, got low={low} and high={high}")
    return xp(x).clip(x, low, high)
clip.vjps(lambda g, y, x, low, high: g * (y == x))

# ---------------------------------------------------------------------------------- activations

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
    """y = σ(x) = 1 / (1 + e⁻ˣ)      x̄ = ȳ y (1 − y)    (as e^−softplus(−x): never overflows)"""
    return xp(x).exp(-xp(x).logaddexp(-x, 0))
sigmoid.vjps(lambda g, y, x: g * y * (1 - y))

@op
def relu(x):
    """y = max(x, 0)      x̄ = ȳ [x > 0]  (0 at 0)"""
    return xp(x).maximum(x, 0)
relu.vjps(lambda g, y, x: g * (y > 0))

@op
def leaky_relu(x, *, slope=0.2):
    """y = x if x > 0 else slope · x      x̄ = ȳ if x > 0 else slope · ȳ      (slope at 0)"""
    return xp(x).where(x > 0, x, slope * x)
leaky_relu.vjps(lambda g, y, x, slope: g * ((x > 0).astype(x.dtype) * (1 - slope) + slope))

@op
def elu(x, *, alpha=1.0):
    """y = x if x > 0 else α (eˣ − 1)     x̄ = ȳ if x > 0 else ȳ (y + α)

    (Clevert et al. 2016, eq. 15)
    """
    return xp(x).where(x > 0, x, alpha * xp(x).expm1(xp(x).minimum(x, 0)))
elu.vjps(lambda g, y, x, alpha: where(x > 0, g, g * (y + alpha)))

def gelu(x):
    """½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), about x Φ(x) (Hendrycks & Gimpel 2016, sec. 2)."""
    return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
