"""The CPU's engine room, continued: convolution and pooling on NumPy arrays.

A convolution is one matrix product, and the copying of windows around it. All shortcuts here save
copies, or make them while the numbers are in the cache, for a few images at a time.
"""

import math

import numpy as np

from . import conv, cpu, pooling, windows
from .checks import pair
from .cpu_threads import each, halves, shared_groups
from .cpu_winograd import tiles
from .windows import output_size


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
    """By Winograd's tiles where they pay (cpu_winograd.py); elsewhere a few images at a time, whose
    windows are still in the cache when the product reads them."""

    def forward(x, w, *, stride=1, padding=0, dilation=1):
        how, kernel = dict(stride=stride, padding=padding, dilation=dilation), w.shape[:2]
        shape = conv.features_shape("conv2d", x.shape, w.shape, **how)
        t = tiles(x.shape, shape, kernel, **how)
        if t:
            x, w = t.images_to_tiles(x), t.weights_to_tiles(w)
            return t.tiles_to_features(x, w), (t, x, w)
        _, ho, wo, o = shape
        matrix = w.reshape(w.size // o, o)                                  # (kh·kw·C, O)
        y = np.empty(shape, dtype=np.result_type(x, w))

        def some(i):
            np.matmul(_columns(x[i], kernel, how), matrix, out=y[i].reshape(-1, o))
        each(some, shared_groups(x, ho * wo * len(matrix) * x.itemsize, cpu.GROUP))
        return y, None

    def vjp(g, y, saved, wanted, *args, **how):
        if saved is None:
            return None
        t, x, w = saved
        g = t.features_to_tiles(g)
        return [t.tiles_to_images(g, w) if wanted[0] else None,
                t.tiles_to_weights(x, g) if wanted[1] else None]


@conv.conv2d_weight_gradient.shortcut("numpy")
class WeightsFromColumns:
    """By Winograd's tiles where they pay; elsewhere the definition, with the windows of few
    channels laid out as planes."""

    def forward(x, g, *, kernel, stride=1, padding=0, dilation=1):
        how = dict(stride=stride, padding=padding, dilation=dilation)
        shape = *kernel, *x.shape[3:], *g.shape[3:]
        conv.features_shape("conv2d_weight_gradient", x.shape, shape, g.shape, **how)
        t = tiles(x.shape, g.shape, kernel, **how)
        if t:
            x, g = t.images_to_tiles(x), t.features_to_tiles(g)
            return t.tiles_to_weights(x, g), (t, x, g)
        parts, sums = halves(g), {}

        def some(i):
            columns = _columns(x[parts[i]], kernel, how)
            sums[i] = columns.T @ g[parts[i]].reshape(len(columns), g.shape[3])
        each(some, range(len(parts)))
        return sum(sums[i] for i in range(len(parts))).reshape(shape), None

    def vjp(g, y, saved, wanted, *args, **how):
        if saved is None:
            return None
        t, x, f = saved
        w = t.weights_to_tiles(g)
        return [t.tiles_to_images(f, w) if wanted[0] else None,
                t.tiles_to_features(x, w) if wanted[1] else None]


@conv.conv2d_transpose.shortcut("numpy")
class SubPixels:
    """By Winograd's tiles where they pay; else by an ordinary convolution whose outputs are sorted
    into place, where that pays (see below); elsewhere the definition, a few images at a time.

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
        shape = *g.shape[:1], *size, *w.shape[2:3]
        conv.features_shape("conv2d_transpose", shape, w.shape, g.shape, **how)
        t = tiles(shape, g.shape, w.shape[:2], **how)
        if t:
            g, w = t.features_to_tiles(g), t.weights_to_tiles(w)
            return t.tiles_to_images(g, w), (t, g, w)
        if _sub_pixels_pay(g.shape, w.shape, size, **how):
            return _sub_pixels(g, w, size, stride, padding), None
        (_, ho, wo, o), (kh, kw, c, _) = g.shape, w.shape
        matrix = w.reshape(kh * kw * c, o)
        y = np.empty(shape, dtype=np.result_type(g, w))

        def some(i):
            flat = g[i].reshape(-1, o)
            if c < 4:                                                       # as planes
                v = (matrix @ flat.T).reshape(kh, kw, c, -1, ho, wo).transpose(3, 4, 5, 0, 1, 2)
            else:
                v = (flat @ matrix.T).reshape(-1, ho, wo, kh, kw, c)
            y[i] = windows.fold(v, size=size, **how)
        each(some, shared_groups(g, ho * wo * len(matrix) * g.itemsize, cpu.GROUP))
        return y, None

    def vjp(g, y, saved, wanted, *args, **how):
        if saved is None:
            return None
        t, f, w = saved
        x = t.images_to_tiles(g)
        return [t.tiles_to_features(x, w) if wanted[0] else None,
                t.tiles_to_weights(x, f) if wanted[1] else None]


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

    def some(i):
        x = np.zeros((len(g[i]), rows + mh - 1, cols + mw - 1, o), dtype=g.dtype)
        x[:, max(-top, 0):, max(-left, 0):][:, :inner.shape[1], :inner.shape[2]] = inner[i]
        v = (_columns(x, (mh, mw), {}) @ matrix.T).reshape(-1, rows, cols, sh, sw, c)
        v = v.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows * sh, cols * sw, c)
        y[i] = v[:, ph - a0 * sh:, pw - b0 * sw:][:, :h, :width]
    each(some, shared_groups(g, rows * cols * mh * mw * o * g.itemsize, cpu.GROUP))
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
        size = pooling.pooled_size(x.shape, kernel, stride, padding)
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
