"""The CPU's engine room: shortcuts on NumPy arrays, and how the process keeps its memory.

Those of convolution and pooling stand in cpu_conv.py and cpu_winograd.py; cpu_threads.py says how
two threads share the work (`each`, `both`, `halves`).

Every class below computes what the definition of its name computes, and says what it does instead
and what that saves. `python benchmarks/tricks.py` times each of them, alone and in a training step;
the tests hold each to its definition. Three facts of this machine explain most of them:

- A matrix product runs on all cores, at twenty multiply-adds for each number that a plain NumPy
  function touches on its one core. Work that can be put as a product is nearly free.
- Memory that was just used is still in the cache, memory that is far away is not.
- NumPy's functions are quick over long rows and slow over short ones.
"""

import ctypes
import math
import os
import weakref

import numpy as np

from . import elementwise, nn, ops, optim, products, reductions, tape, train
from .cpu_threads import both, each, halves, sum_rows

GROUP = 6 << 20         # bytes of windows worked on at a time: they fit into the last-level cache
SMALL = 1 << 15         # numbers of a parameter that is joined with others of its kind
BLOCK = 1 << 16         # numbers that an optimiser moves at a time: all it reads stays in the cache


def keep_freed_memory():
    """Ask glibc to keep freed arrays in the process instead of handing their pages back.

    A training step frees and allocates the same sizes over and over, and every fresh page costs a
    fault: a chain of products of (64, 14, 14, 64) arrays takes four times as long without this, a
    training step of large convolutions about 5 % longer (benchmarks/tricks.py). The price is that
    the process keeps its peak memory until it ends. So the `tinygan` command calls this unless
    TINYGAN_KEEP_MEMORY=0, and importing tinygan only if it is 1. Without glibc it does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    trim_threshold, mmap_max, arena_max = -1, -4, -8            # names and numbers of <malloc.h>
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2 ** 31 - 1)
    mallopt(arena_max, 1)


if os.environ.get("TINYGAN_KEEP_MEMORY") == "1":
    keep_freed_memory()


# -------------------------------------------------------------------------- sums and activations


@tape.unbroadcast.shortcut("numpy")
class SumAsProduct:
    """The gradient of a bias, a sum over all axes but the last, as a product with ones."""

    def forward(g, *, shape):
        if g.ndim < 2 or len(shape) != 1 or shape[0] != g.shape[-1] or shape[0] == 1:
            return None
        return sum_rows(g), None


def where_positive(g, x, slope=0):
    """g where x > 0, and slope · g elsewhere."""
    share = np.empty(x.shape, dtype=g.dtype)

    def half(i):
        part = share[i]
        part[...] = x[i] > 0
        if slope:
            part *= 1 - slope
            part += slope
        part *= g[i]
    each(half, halves(x))
    return share


@elementwise.leaky_relu.shortcut("numpy")
class LargerOfTwo:
    """max(x, slope x) for slopes from 0 to 1: `where` takes four times as long."""

    def forward(x, *, slope=0.2):
        if not 0 <= slope <= 1:
            return None
        y = np.empty_like(x)

        def half(i):
            part = np.multiply(slope, x[i], out=y[i])
            np.maximum(x[i], part, out=part)
        each(half, halves(x))
        return y, None

    def vjp(g, y, saved, wanted, x, *, slope):
        return [where_positive(g, x, slope)]


@elementwise.relu.shortcut("numpy")
class LargerThanZero:
    """By halves. (x > 0) as numbers where it lies, without a third array."""

    def forward(x):
        y = np.empty_like(x)
        each(lambda i: np.maximum(x[i], 0, out=y[i]), halves(x))
        return y, None

    def vjp(g, y, saved, wanted, x):
        return [where_positive(g, x)]


@products.matmul.shortcut("numpy")
class Dot:
    """Matrices by np.dot. It gives BLAS a column times a row, too, as behind a head of one logit;
    @ takes 4 to 12 times as long for that."""

    def forward(a, b):
        fits = a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]
        return (np.dot(a, b), None) if fits else None

    def vjp(g, y, saved, wanted, a, b):
        if not a.ndim == b.ndim == 2:
            return None
        return both(b.nbytes, wanted, lambda: np.dot(g, b.T), lambda: np.dot(a.T, g))


@products.linear.shortcut("numpy")
class BiasInPlace:
    """The bias added to the product where it lies, without another array; the shares in one go."""

    def forward(x, w, b):
        if x.ndim != 2 or x.shape[1] != w.shape[0]:
            return None
        y = x @ w
        if b.dtype != y.dtype:
            return None
        y += b
        return y, None

    def vjp(g, y, saved, wanted, x, w, b):
        if b.ndim != 1 or b.shape[0] != g.shape[1]:
            return None
        return both(w.nbytes, wanted, lambda: np.dot(g, w.T), lambda: x.T @ g, lambda: sum_rows(g))


# ---------------------------------------------------------------------------------- both batches

ALONE = {layer.forward for layer in (               # what a layer of this kind makes of a sample
    nn.Sequential, nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.LayerNorm, nn.InstanceNorm,
    nn.Reshape, nn.MaxPool2d, nn.AvgPool2d, nn.Upsample, nn.ReLU, nn.LeakyReLU, nn.Tanh,
    nn.Sigmoid)}                                    # depends on that sample alone


@train.verdicts.shortcut("numpy")
class OnePass:
    """D(real) and D(fake) by one pass of both batches, where D consists of layers that look at each
    sample alone: half as many calls, longer products, no sum of two gradients.

    The last bias is added to both apart. Its two gradients are opposite numbers where only D(real)
    − D(fake) counts, and a sum over all samples would leave their rounding, which Adam enlarges.
    """

    def both(d, real, fake):
        alike = type(real) is type(fake) and real.dtype == fake.dtype
        if not isinstance(d, nn.Sequential) or not alike or real.shape[1:] != fake.shape[1:]:
            return None
        forwards = [m.forward for m in d.modules()]
        if not all(getattr(f, "__func__", f) in ALONE for f in forwards):
            return None
        *body, head = d
        if not body or type(head) is not nn.Linear:
            return None
        h = ops.concatenate(real, fake, axis=0)
        for layer in body:
            h = layer(h)
        if h.shape[1:] != (head.in_features,):
            return None
        y, n = h @ head.weight, len(real)
        return [part if head.bias is None else part + head.bias for part in (y[:n], y[n:])]


# -------------------------------------------------------------------------------- normalisation


def _wide(x, *channels):
    """x (..., W, C) as a matrix (rows, W·C), and each array of C numbers repeated W times."""
    w = x.shape[-2] if x.ndim > 2 else 1
    return x.reshape(-1, w * x.shape[-1]), *(np.tile(c, w) for c in channels)


def over_all_but_last(x, scale, shift, axis):
    """Whether these arguments of `normalize` are BatchNorm's: one number per channel of x."""
    return (axis == tuple(range(x.ndim - 1)) and x.size > 0
            and getattr(scale, "ndim", 0) < 2 and getattr(shift, "ndim", 0) < 2)


@reductions.normalize.shortcut("numpy")
class JoinedRows:
    """Statistics over all axes but the last (BatchNorm): sums as products, rows joined.

    With d = x − μ the result is one product and one sum per number, x̂ scale + shift = d a + b with
    a = r scale. The rules share their sums: x̄ = a (g − mean g − d r² mean(g d)).
    """

    def forward(x, scale, shift, *, axis, eps=1e-5, statistics=None):
        if not over_all_but_last(x, scale, shift, axis):
            return None
        n = x.size // x.shape[-1]
        mean = sum_rows(x) / n
        rows, mean_wide = _wide(x, mean)
        d, squares = np.empty_like(rows), np.empty_like(rows)

        def centre(i):
            part = np.subtract(rows[i], mean_wide, out=d[i])
            np.multiply(part, part, out=squares[i])
        each(centre, halves(d))
        variance, rest = sum_rows(squares.reshape(x.shape)) / n, 0.0
        if (mean * mean > 16 * variance).any():         # far from 0 the mean's rounding counts
            rest = sum_rows(d.reshape(x.shape)) / n     # see `deviation`
            variance = variance - rest * rest
        r = (np.maximum(variance, 0) + eps) ** -0.5
        a = r * scale
        _, a_wide, b_wide = _wide(x, a, shift - rest * a)

        def scale_and_shift(i):
            part = d[i]
            part *= a_wide
            part += b_wide
        each(scale_and_shift, halves(d))
        mean += rest
        if statistics is not None:
            kept = (1,) * (x.ndim - 1) + mean.shape
            statistics[:] = mean.reshape(kept), variance.reshape(kept)
        return d.reshape(x.shape), (mean, r)

    def vjp(g, y, saved, wanted, x, scale, shift, *, axis, eps, statistics):
        if saved is None:
            return None
        mean, r = saved
        n = x.size // x.shape[-1]
        rows, mean_wide = _wide(x, mean)
        g_rows, = _wide(g)
        d, gd = np.empty_like(rows), np.empty_like(rows)

        def products(i):
            np.multiply(g_rows[i], np.subtract(rows[i], mean_wide, out=d[i]), out=gd[i])
        each(products, halves(d))
        sum_g, sum_gd = sum_rows(g), sum_rows(gd.reshape(x.shape))
        if not wanted[0]:
            return None, sum_gd * r, sum_g
        a = r * scale
        _, k, c, a_wide = _wide(x, -a * r * r * sum_gd / n, -a * sum_g / n, a)

        def gradient(i):
            part, sum_ = d[i], np.multiply(g_rows[i], a_wide, out=gd[i])
            part *= k
            part += c
            sum_ += part
        each(gradient, halves(d))
        return gd.reshape(x.shape), sum_gd * r, sum_g


# ------------------------------------------------------------------------------------ optimisers


def corrected(optimiser):
    """(β₁, β₂, rate, ε) of Adam's next step, with the counts n of both sums in them.

    θ −= η (m / n₁) / (√(v / n₂) + ε) = (η √n₂ / n₁) m / (√v + ε √n₂)
    """
    n1, n2 = optimiser.counts()
    root = math.sqrt(n2)
    return *optimiser.betas, float(optimiser.lr * root / n1), float(optimiser.eps * root)


@optim.Adam.definition.shortcut("numpy")
class InBlocks:
    """Adam in place and in blocks that stay in the core's cache, small parameters side by side.

    Ten operations on ten numbers take as long as on a thousand, so the gradients of the small
    parameters are joined first; what is remembered of them stays joined from step to step.
    """

    def step(optimiser, grads):
        how, params = corrected(optimiser), optimiser.params
        small, joined = _small_parameters(optimiser)
        for i, (p, g, m, v) in enumerate(zip(params, grads, *optimiser.memory, strict=True)):
            if i in small:
                continue
            if not all(a.flags.c_contiguous for a in (p.data, m, v)):
                optimiser.update(p.data, g, m, v)
                continue
            theta, g, m, v = (a.reshape(-1) for a in (p.data, g, m, v))

            def move(block, theta=theta, g=g, m=m, v=v):
                theta[block] -= InBlocks.move(g[block], m[block], v[block], *how)
            each(move, [slice(k, k + BLOCK) for k in range(0, p.size, BLOCK)])
        if small:
            move = InBlocks.move(np.concatenate([grads[i].reshape(-1) for i in small]),
                                 *joined, *how)
            start = 0
            for i in small:
                p = params[i].data
                p -= move[start:start + p.size].reshape(p.shape)
                start += p.size

    def move(g, m, v, b1, b2, rate, eps):
        m *= b1
        m += g
        v *= b2
        move = g * g
        v += move
        np.sqrt(v, out=move)
        move += eps
        np.divide(m, move, out=move)
        move *= rate
        return move


_joined = weakref.WeakKeyDictionary()       # optimiser → its small parameters and their memory


def _small_parameters(optimiser):
    """(places of the small parameters, per slot one array with what is remembered of them).

    The entries of optimiser.memory become views of these arrays, once for every optimiser.
    """
    if optimiser not in _joined:
        small = [i for i, p in enumerate(optimiser.params)
                 if p.size <= SMALL and p.data.flags.c_contiguous
                 and p.dtype == optimiser.params[0].dtype]
        joined = []
        for slot in optimiser.memory if small else ():
            joined.append(np.concatenate([slot[i].reshape(-1) for i in small]))
            start = 0
            for i in small:
                slot[i] = joined[-1][start:start + slot[i].size].reshape(slot[i].shape)
                start += slot[i].size
        _joined[optimiser] = small, joined
    return _joined[optimiser]
