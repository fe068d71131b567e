"""The CPU's engine room: shortcuts on NumPy arrays, and how the process keeps its memory.

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

from . import conv, elementwise, optim, pooling, products, reductions, tape, windows
from .windows import output_size, pair

SMALL = 1 << 15         # numbers of a parameter that is joined with others of its kind
BLOCK = 1 << 16         # numbers that an optimiser moves at a time: all it reads stays in the cache
PIECE = 256             # rows that are added up before the sums of such pieces are added up
GROUP = 6 << 20         # bytes of windows worked on at a time: they fit into the last-level cache


def keep_freed_memory():
    """Ask glibc to keep freed arrays in the process instead of handing their pages back.

    A training step frees and allocates the same sizes over and over, and every fresh page costs a
    fault: a chain of products of (64, 14, 14, 64) arrays takes four to five times as long without
    this (benchmarks/tricks.py). The price is that the process keeps its peak memory until it ends;
    TINYGAN_KEEP_MEMORY=0 leaves glibc as it is. Elsewhere than on glibc this does nothing.
    """
    if os.environ.get("TINYGAN_KEEP_MEMORY", "1") == "0":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    trim_threshold, mmap_max, arena_max = -1, -4, -8            # names and numbers of <malloc.h>
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2 ** 31 - 1)
    mallopt(arena_max, 1)


keep_freed_memory()


# -------------------------------------------------------------------------- sums and activations


def sum_rows(x):
    """The array x (..., C) summed over all axes but the last, as a product with a vector of ones.

    NumPy's own sum runs on one core and, for few channels, in short loops. Rows of several pixels
    are joined, so that they are long. Thousands of rows are summed in pieces first, because
    float32 loses a digit where many numbers are added one after the other.
    """
    c = x.shape[-1]
    if x.size == 0:
        return np.zeros(c, dtype=x.dtype)
    wide = x.reshape(-1, c if x.ndim < 3 else x.shape[-2] * c)
    pieces = len(wide) // PIECE
    if pieces > 3:
        first = wide[:pieces * PIECE].reshape(pieces, PIECE, -1)
        sums = np.ones(PIECE, dtype=x.dtype) @ first                    # (pieces, W·C)
        wide = np.concatenate([sums, wide[pieces * PIECE:]])
    return (np.ones(len(wide), dtype=x.dtype) @ wide).reshape(-1, c).sum(axis=0)


@tape.unbroadcast.shortcut("numpy")
class SumAsProduct:
    """The gradient of a bias, a sum over all axes but the last, as a product with ones."""

    def forward(g, *, shape):
        if g.ndim < 2 or len(shape) != 1 or shape[0] != g.shape[-1] or shape[0] == 1:
            return None
        return sum_rows(g), None


@elementwise.leaky_relu.shortcut("numpy")
class LargerOfTwo:
    """max(x, slope x) for slopes from 0 to 1: `where` takes four times as long."""

    def forward(x, *, slope=0.2):
        if not 0 <= slope <= 1:
            return None
        return np.maximum(x, slope * x), None

    def vjp(g, y, saved, wanted, x, *, slope):
        share = (x > 0).astype(g.dtype)
        share *= 1 - slope
        share += slope
        share *= g
        return [share]


@products.linear.shortcut("numpy")
class BiasInPlace:
    """The bias added to the product where it lies, without another array."""

    def forward(x, w, b):
        if x.ndim != 2 or x.shape[1] != w.shape[0] or not x.dtype == w.dtype == b.dtype:
            return None
        y = x @ w
        y += b
        return y, None


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
        d = rows - mean_wide
        rest = sum_rows(d.reshape(x.shape)) / n         # rounding of the mean, see `deviation`
        variance = sum_rows((d * d).reshape(x.shape)) / n - rest * rest
        r = (np.maximum(variance, 0) + eps) ** -0.5
        a = r * scale
        _, a_wide, b_wide = _wide(x, a, shift - rest * a)
        d *= a_wide
        d += b_wide
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
        np.multiply(g_rows, a_wide, out=gd)
        gd += d
        return gd.reshape(x.shape), sum_gd * r, sum_g


# ----------------------------------------------------------------------------------- convolution


def _bordered(x, padding, value=0):
    """x (N, H, W, C) with a border of one value, in a third of the time that np.pad takes."""
    ph, pw = padding
    if not (ph or pw):
        return x
    n, h, w, c = x.shape
    y = np.zeros((n, h + 2 * ph, w + 2 * pw, c), dtype=x.dtype)
    if value:
        y[...] = value
    y[:, ph:ph + h, pw:pw + w] = x
    return y


@windows.unfold.shortcut("numpy")
class QuickBorder:
    """The border of zeros by one assignment."""

    def forward(x, *, kernel, stride=1, padding=0, dilation=1):
        if x.ndim != 4:
            return None
        output_size(x.shape[1:3], kernel, stride, padding, dilation)        # or a clear error
        x = _bordered(x, pair(padding, least=0))
        return windows.unfold.forward(x, kernel=kernel, stride=stride, dilation=dilation), None


def _groups(x, bytes_per_image):
    """Slices of the batch x whose windows fill about GROUP bytes."""
    size = max(1, GROUP // max(1, bytes_per_image))
    return [slice(i, i + size) for i in range(0, len(x), size)]


def _columns(x, kernel, how):
    """The windows of x as a matrix (N·Ho·Wo, kh·kw·C).

    With few channels a window's rows are short stretches of memory (kw·C numbers), so the matrix is
    laid out column by column instead, as planes of all pixels.
    """
    v = windows.unfold(x, kernel=kernel, **how)             # (N, Ho, Wo, kh, kw, C), a view
    n, ho, wo, kh, kw, c = v.shape
    if c < 4:
        planes = np.ascontiguousarray(v.transpose(3, 4, 5, 0, 1, 2))
        return planes.reshape(kh * kw * c, n * ho * wo).T
    return v.reshape(n * ho * wo, kh * kw * c)


@conv.conv2d.shortcut("numpy")
class ConvolutionInGroups:
    """A few images at a time, whose windows are still in the cache when the product reads them."""

    def forward(x, w, *, stride=1, padding=0, dilation=1):
        conv.check_conv2d(x.shape, w.shape)
        how = dict(stride=stride, padding=padding, dilation=dilation)
        ho, wo = output_size(x.shape[1:3], w.shape[:2], **how)
        kernel, o = w.shape[:2], w.shape[3]
        matrix = w.reshape(w.size // o, o)                                  # (kh·kw·C, O)
        y = np.empty((len(x), ho, wo, o), dtype=np.result_type(x, w))
        for i in _groups(x, ho * wo * len(matrix) * x.itemsize):
            np.matmul(_columns(x[i], kernel, how), matrix, out=y[i].reshape(-1, o))
        return y, None


@conv.conv2d_weight_gradient.shortcut("numpy")
class WeightsFromColumns:
    """The definition, with the windows of few channels laid out as planes."""

    def forward(x, g, *, kernel, stride=1, padding=0, dilation=1):
        how = dict(stride=stride, padding=padding, dilation=dilation)
        conv.check_weight_gradient(x.shape, g.shape, kernel, how)
        columns, o = _columns(x, kernel, how), g.shape[3]
        return (columns.T @ g.reshape(len(columns), o)).reshape(*kernel, x.shape[3], o), None


@conv.conv2d_transpose.shortcut("numpy")
class SubPixels:
    """An ordinary convolution whose outputs are sorted into place, where that pays (see below);
    elsewhere the definition, a few images at a time.

    `fold` adds each window's pixels in scattered places. Sub-pixels avoid the additions (Shi et al.
    2016, arXiv:1609.07009). One row, kernel 4, stride 2, padding 1: an output pixel sees two of
    the four taps, the even ones or the odd ones, by its *phase* (whether its place in the padded
    row is even or odd).

        padded row     (.)  0   1   2   3   4   5  (.)      place r + p = s a + ρ, phase ρ = 0 or 1
        from g[0]       w0  w1  w2  w3
        from g[1]               w0  w1  w2  w3          pixel 1 (a = 1, ρ = 0): w2 g[0] + w0 g[1]
        from g[2]                       w0  w1  w2  w3  pixel 2 (a = 1, ρ = 1): w3 g[0] + w1 g[1]

    In general only taps u = s m + ρ reach a row of phase ρ, and they come from row a − m of g:

        y[s a + ρ − p] = Σ_m g[a − m] w[s m + ρ]

    For each of the s·s phases of rows and columns that is a convolution of g with stride 1 and a
    small kernel. All phases are one product with s·s·C columns; sorting the pixels comes last.
    """

    def forward(g, w, *, size, stride=1, padding=0, dilation=1):
        how = dict(stride=stride, padding=padding, dilation=dilation)
        conv.check_transpose(g.shape, w.shape, size, how)
        if _sub_pixels_pay(g.shape, w.shape, size, **how):
            return _sub_pixels(g, w, size, stride, padding), None
        (n, ho, wo, o), (kh, kw, c, _) = g.shape, w.shape
        matrix = w.reshape(kh * kw * c, o)
        y = np.empty((n, *size, c), dtype=np.result_type(g, w))
        for i in _groups(g, ho * wo * len(matrix) * g.itemsize):
            flat = g[i].reshape(-1, o)
            if c < 4:                                                       # as planes
                v = (matrix @ flat.T).reshape(kh, kw, c, -1, ho, wo).transpose(3, 4, 5, 0, 1, 2)
            else:
                v = (flat @ matrix.T).reshape(-1, ho, wo, kh, kw, c)
            y[i] = windows.fold(v, size=size, **how)
        return y, None


def _phases(k, s, p, size):
    """Along one axis: taps per phase, the first place a, and how many places."""
    return -(-k // s), p // s, (p + size - 1) // s - p // s + 1


def _sub_pixels_pay(g, w, size, stride, padding, dilation):
    """Whether the products that sub-pixels waste cost less than the additions that they save.

    Products with places beyond g's edge and taps beyond the kernel's are wasted. One scattered
    addition costs as much as about 80 products, and `fold` has one for every O products that are
    needed. Planes of a single channel are added up faster than that. g and w are shapes.
    """
    if pair(dilation) != (1, 1) or w[2] == 1 or 0 in size:
        return False
    done, needed = 1, g[1] * g[2] * w[0] * w[1]
    for k, s, p, n in zip(w[:2], pair(stride), pair(padding, least=0), size, strict=True):
        taps, _, count = _phases(k, s, p, n)
        done *= count * taps * s
    return (done / needed - 1) * w[3] < 80


def _sub_pixels(g, w, size, stride, padding):
    """conv2d_transpose by phases."""
    (sh, sw), (ph, pw) = pair(stride), pair(padding, least=0)
    (kh, kw, c, o), (h, width) = w.shape, size
    (mh, a0, rows), (mw, b0, cols) = _phases(kh, sh, ph, h), _phases(kw, sw, pw, width)
    whole = np.zeros((mh * sh, mw * sw, c, o), dtype=w.dtype)
    whole[:kh, :kw] = w
    # Backwards, because the first row of g in a window, a − m, meets the last m.
    taps = whole.reshape(mh, sh, mw, sw, c, o)[::-1, :, ::-1]
    matrix = taps.transpose(1, 3, 4, 0, 2, 5).reshape(sh * sw * c, mh * mw * o)
    top, left = a0 - mh + 1, b0 - mw + 1            # the first row and column of g in any window
    inner = g[:, max(top, 0):a0 + rows, max(left, 0):b0 + cols]
    y = np.empty((len(g), h, width, c), dtype=np.result_type(g, w))
    for i in _groups(g, rows * cols * mh * mw * o * g.itemsize):
        x = np.zeros((len(g[i]), rows + mh - 1, cols + mw - 1, o), dtype=g.dtype)
        x[:, max(-top, 0):, max(-left, 0):][:, :inner.shape[1], :inner.shape[2]] = inner[i]
        v = (_columns(x, (mh, mw), {}) @ matrix.T).reshape(-1, rows, cols, sh, sw, c)
        v = v.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows * sh, cols * sw, c)
        y[i] = v[:, ph - a0 * sh:, pw - b0 * sw:][:, :h, :width]
    return y


# --------------------------------------------------------------------------------------- pooling


def _taps(x, kernel, stride, size):
    """For each tap, what all windows have there: kh·kw views of x, each (N, Ho, Wo, C)."""
    (sh, sw), (ho, wo) = stride, size
    return [x[:, i:i + sh * ho:sh, j:j + sw * wo:sw]
            for i in range(kernel[0]) for j in range(kernel[1])]


@pooling.max_pool.shortcut("numpy")
class TapByTap:
    """The running maximum over the taps, and its gradient added tap by tap."""

    def forward(x, *, kernel, stride, padding=(0, 0)):
        size = output_size(x.shape[1:3], kernel, stride, padding)
        if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            return None                                     # the definition says what is wrong
        first, *others = _taps(_bordered(x, padding, -math.inf), kernel, stride, size)
        y = first.copy()
        for tap in others:
            np.maximum(y, tap, out=y)
        return y, None

    def vjp(g, y, saved, wanted, x, *, kernel, stride, padding):
        x = _bordered(x, padding, math.nan)
        hits = [tap == y for tap in _taps(x, kernel, stride, y.shape[1:3])]
        share = g / sum(hit.astype(g.dtype) for hit in hits)
        whole = np.zeros_like(x, dtype=g.dtype)
        for hit, tap in zip(hits, _taps(whole, kernel, stride, y.shape[1:3]), strict=True):
            tap += share * hit
        (ph, pw), (_, h, w, _) = padding, whole.shape
        return [whole[:, ph:h - ph, pw:w - pw]]


# ------------------------------------------------------------------------------------ optimisers


@optim.Adam.shortcut("numpy")
class InBlocks:
    """Adam in place and in blocks that stay in the core's cache, small parameters side by side.

    Both corrections become factors: θ −= η √c₂ / c₁ · m / (√v + ε √c₂) with cᵢ = 1 − βᵢᵗ. A dozen
    operations on ten numbers take as long as on a thousand, so the small parameters and their
    gradients are joined first; what is remembered of them stays joined from step to step.
    """

    def step(optimiser, grads):
        (b1, b2), t = optimiser.betas, optimiser.steps + 1
        root = math.sqrt(1 - b2 ** t)
        how = b1, b2, optimiser.lr * root / (1 - b1 ** t), optimiser.eps * root
        params = optimiser.params
        small, joined = _small_parameters(optimiser)
        for i, (p, g, m, v) in enumerate(zip(params, grads, *optimiser.memory, strict=True)):
            if i in small:
                continue
            if not all(a.flags.c_contiguous for a in (p.data, m, v)):
                optimiser.update(p.data, g, m, v)
            else:
                flat = [a.reshape(-1) for a in (p.data, g, m, v)]
                for k in range(0, p.size, BLOCK):
                    InBlocks.update(*(a[k:k + BLOCK] for a in flat), *how)
        if small:
            theta, g = (np.concatenate([a.reshape(-1) for a in arrays]) for arrays in (
                [params[i].data for i in small], [grads[i] for i in small]))
            InBlocks.update(theta, g, *joined, *how)
            start = 0
            for i in small:
                p = params[i].data
                p[...] = theta[start:start + p.size].reshape(p.shape)
                start += p.size

    def update(theta, g, m, v, b1, b2, rate, eps):
        m *= b1
        m += (1 - b1) * g
        v *= b2
        square = g * g
        square *= 1 - b2
        v += square
        move = np.sqrt(v, out=square)
        move += eps
        np.divide(m, move, out=move)
        move *= rate
        theta -= move


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
        for slot in optimiser.memory:
            joined.append(np.concatenate([slot[i].reshape(-1) for i in small])) if small else None
            start = 0
            for i in small:
                slot[i] = joined[-1][start:start + slot[i].size].reshape(slot[i].shape)
                start += slot[i].size
        _joined[optimiser] = small, joined
    return _joined[optimiser]
