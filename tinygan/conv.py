"""Convolution, its two adjoints, pooling and upsampling.

Images are (N, H, W, C), weights (kh, kw, C_in, C_out). A convolution cuts the image into windows, one per output pixel, and takes
the inner product of every window with every filter (the cross-correlation that deep learning calls convolution):

    y[n, i, j, o] = Σ_{u, v, c} x[n, i s + u d − p, j s + v d − p, c] w[u, v, c, o]         stride s, padding p, dilation d

Together with a third array g in y's shape this makes one number, linear in each of the three:

    T(x, w, g) = Σ_{n, i, j, o} g[n, i, j, o] y[n, i, j, o]

Its three partial derivatives are all there is to know:

    ∂T/∂g = conv2d(x, w)            the convolution itself
    ∂T/∂x = conv2d_input(g, w)      the transposed convolution: image from features, a generator's upsampling layer
    ∂T/∂w = conv2d_weight(x, g)     the weight gradient

and the rules of each op are the other two ops, because T is linear in each argument. Six one-line rules, and every order of
derivative follows. (Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", has the pictures.)

`stride`, `padding` and `dilation` are integers or pairs (vertical, horizontal).
"""

import math

from . import gpu
from .autograd import data_of, op
from .backend import xp
from .ops import _ties, broadcast_to, mean


def pair(value, name="value", least=1):
    """(v, v) of an integer v, or the pair itself; every entry an integer ≥ least."""
    both = (value, value) if not isinstance(value, (tuple, list)) else tuple(value)
    if len(both) != 2 or not all(isinstance(v, int) and v >= least for v in both):
        raise ValueError(f"{name}: expected an integer >= {least} or a pair of them, got {value!r}")
    return both


def output_size(size, kernel, stride=1, padding=0, dilation=1):
    """(Ho, Wo) of a convolution or pooling over images of (H, W): ⌊(H + 2p − d (k − 1) − 1) / s⌋ + 1."""
    out = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                for n, k, s, p, d in zip(size, kernel, pair(stride, "stride"), pair(padding, "padding", 0),
                                         pair(dilation, "dilation"), strict=True))
    if any(n < 1 for n in out):
        raise ValueError(f"kernel {tuple(kernel)} with dilation {dilation} does not fit into an image of {tuple(size)} "
                         f"with padding {padding}; use a smaller kernel or more padding")
    return out


# ------------------------------------------------------------------------------------------------ windows


def _border(x, padding, value):
    """x (N, H, W, C) with a border of one value. (NumPy's own `pad` takes up to three times as long.)"""
    ph, pw = padding
    if not (ph or pw):
        return x
    n, h, w, c = x.shape
    y = xp(x).zeros((n, h + 2 * ph, w + 2 * pw, c), dtype=x.dtype)
    if value:
        y[...] = value
    y[:, ph:ph + h, pw:pw + w] = x
    return y


@op
def unfold(x, *, kernel, stride=1, padding=0, dilation=1):
    """All windows of x (N, H, W, C) → (N, Ho, Wo, kh, kw, C)      x̄ = fold(ȳ)      (a view of the padded image)"""
    if x.ndim != 4:
        raise ValueError(f"unfold: expected images (N, H, W, C), got {x.shape}")
    ho, wo = output_size(x.shape[1:3], kernel, stride, padding, dilation)
    (sh, sw), (ph, pw), (dh, dw) = pair(stride), pair(padding, least=0), pair(dilation)
    if gpu.handles(x):
        return gpu.im2col(x, kernel, (ho, wo), (sh, sw), (ph, pw), (dh, dw))
    x = _border(x, (ph, pw), 0)
    n, h, w, c = x.strides
    return xp(x).lib.stride_tricks.as_strided(
        x, (x.shape[0], ho, wo, *kernel, x.shape[3]), (n, h * sh, w * sw, h * dh, w * dw, c))
unfold.vjps(lambda g, y, x, kernel, stride, padding, dilation:
            fold(g, size=x.shape[1:3], stride=stride, padding=padding, dilation=dilation))


@op
def fold(v, *, size, stride=1, padding=0, dilation=1):
    """The adjoint of unfold: add windows (N, Ho, Wo, kh, kw, C) back where they came from → (N, H, W, C)      v̄ = unfold(ȳ)"""
    (sh, sw), (ph, pw), (dh, dw) = pair(stride), pair(padding, least=0), pair(dilation)
    if gpu.handles(v):
        return gpu.col2im(v, size, (sh, sw), (ph, pw), (dh, dw))
    n, ho, wo, kh, kw, c = v.shape
    h, w = size
    x = xp(v).zeros((n, h + 2 * ph, w + 2 * pw, c), dtype=v.dtype)
    for i in range(kh):                                     # tap by tap: one long addition each
        for j in range(kw):
            x[:, i * dh:i * dh + sh * ho:sh, j * dw:j * dw + sw * wo:sw] += v[:, :, :, i, j]
    return x[:, ph:ph + h, pw:pw + w]
fold.vjps(lambda g, y, v, size, stride, padding, dilation:
          unfold(g, kernel=v.shape[3:5], stride=stride, padding=padding, dilation=dilation))


# ------------------------------------------------------------------------------------------------ the convolution trio


GROUP = 6 << 20         # bytes of columns worked on at a time: they stay in the last-level cache between being written and read


def _check(name, ok, message):
    if not ok:
        raise ValueError(f"{name}: {message}")


def _groups(x, bytes_per_image):
    """Slices of the batch x whose columns fill about GROUP bytes. (One group of all images costs up to 1.5 times as much.)

    On the GPU, few long products are faster; there it is the memory that sets the limit.
    """
    size = max(1, (gpu.COLUMNS if gpu.handles(x) else GROUP) // max(1, bytes_per_image))
    return [slice(i, i + size) for i in range(0, len(x), size)]


def _columns(x, kernel, how):
    """The windows of x as a matrix (N·Ho·Wo, kh·kw·C).

    With few channels a window's rows are short stretches of memory (kw·C numbers), so the matrix is laid out column by column (as
    planes of all pixels) instead: 1.4 times as fast for one channel (benchmarks/tricks.py).
    """
    v = unfold(x, kernel=kernel, **how)                                     # (N, Ho, Wo, kh, kw, C), a view
    n, ho, wo, kh, kw, c = v.shape
    if c < 4 and not gpu.handles(x):
        return xp(x).ascontiguousarray(v.transpose(3, 4, 5, 0, 1, 2)).reshape(kh * kw * c, n * ho * wo).T
    return v.reshape(n * ho * wo, kh * kw * c)


@op
def conv2d(x, w, *, stride=1, padding=0, dilation=1):
    """y = ∂T/∂g: (N, H, W, C) * (kh, kw, C, O) → (N, Ho, Wo, O)      x̄ = conv2d_input(ȳ, w)      w̄ = conv2d_weight(x, ȳ)"""
    _check("conv2d", x.ndim == 4 and w.ndim == 4 and x.shape[3] == w.shape[2],
           f"expected images (N, H, W, C) and weights (kh, kw, C, O) with the same C, got {x.shape} and {w.shape}")
    how = dict(stride=stride, padding=padding, dilation=dilation)
    ho, wo = output_size(x.shape[1:3], w.shape[:2], **how)
    kernel, o = w.shape[:2], w.shape[3]
    matrix = w.reshape(w.size // o, o)                                      # (kh·kw·C, O)
    y = xp(x).empty((len(x), ho, wo, o), dtype=xp(x).result_type(x, w))
    for i in _groups(x, ho * wo * len(matrix) * x.itemsize):
        xp(x).matmul(_columns(x[i], kernel, how), matrix, out=y[i].reshape(-1, o))
    return y


@op
def conv2d_input(g, w, *, size, stride=1, padding=0, dilation=1):
    """y = ∂T/∂x: (N, Ho, Wo, O) * (kh, kw, C, O) → (N, H, W, C), (H, W) = size      ḡ = conv2d(ȳ, w)   w̄ = conv2d_weight(ȳ, g)"""
    _check("conv2d_input", g.ndim == 4 and w.ndim == 4 and g.shape[3] == w.shape[3],
           f"expected features (N, Ho, Wo, O) and weights (kh, kw, C, O) with the same O, got {g.shape} and {w.shape}")
    how = dict(stride=stride, padding=padding, dilation=dilation)
    _check("conv2d_input", g.shape[1:3] == output_size(size, w.shape[:2], **how),
           f"features of {g.shape[1:3]} do not come from an image of {tuple(size)} with kernel {w.shape[:2]}, "
           f"stride {stride}, padding {padding}, dilation {dilation}")
    n, ho, wo, o = g.shape
    kh, kw, c, _ = w.shape
    if not gpu.handles(g) and _few_extra_products(g.shape, w.shape, size, **how):
        return _subpixel(g, w, size, stride, padding)
    matrix = w.reshape(kh * kw * c, o)
    y = xp(g).empty((n, *size, c), dtype=xp(g).result_type(g, w))
    for i in _groups(g, ho * wo * len(matrix) * g.itemsize):
        flat = g[i].reshape(-1, o)
        if c < 4 and not gpu.handles(g):                                    # as planes, see _columns
            v = (matrix @ flat.T).reshape(kh, kw, c, -1, ho, wo).transpose(3, 4, 5, 0, 1, 2)
        else:
            v = (flat @ matrix.T).reshape(-1, ho, wo, kh, kw, c)
        block = fold(v, size=size, **how)
        if len(block) == n and gpu.handles(g):                              # (on the CPU it is a cropped view: the copy stays)
            return block
        y[i] = block
    return y


def _phases(k, s, p, size):
    """For one axis of `_subpixel`: taps per phase, the first row number a, and how many rows."""
    return -(-k // s), p // s, (p + size - 1) // s - p // s + 1


def _few_extra_products(g, w, size, stride, padding, dilation):
    """Whether `_subpixel` pays: positions beyond g's edge and taps beyond the kernel's are products that `fold` has no need of.

    g and w are shapes. An addition in `fold`, scattered as it is, costs about as much as 80 products, and there is one for every
    O products that are needed. Planes of a single channel (see `_columns`) are added up faster than that.
    """
    if pair(dilation) != (1, 1) or w[2] == 1 or 0 in size:
        return False
    done, needed = 1, g[1] * g[2] * w[0] * w[1]
    for k, s, p, n in zip(w[:2], pair(stride), pair(padding, least=0), size, strict=True):
        taps, _, count = _phases(k, s, p, n)
        done *= count * taps * s
    return (done / needed - 1) * w[3] < 80


def _subpixel(g, w, size, stride, padding):
    """conv2d_input as an ordinary convolution of g, without adding anything up pixel by pixel (Shi et al. 2016, arXiv:1609.07009).

    Number the rows of the padded image r + p = s a + ρ with 0 ≤ ρ < s (and its columns s b + σ, likewise). Only taps u = s m + ρ
    reach such a row, and they come from row a − m of g:

        y[s a + ρ − p] = Σ_m g[a − m] w[s m + ρ]

    For each of the s·s phases (ρ, σ) that is a convolution with stride 1 and a small kernel, so all are one product with s·s·C
    columns; sorting the pixels comes last. 1.1 to 2 times as fast as `fold` in the usual layers (benchmarks/tricks.py).
    """
    (sh, sw), (ph, pw) = pair(stride), pair(padding, least=0)
    (kh, kw, c, o), (h, width) = w.shape, size
    (mh, a0, rows), (mw, b0, cols) = _phases(kh, sh, ph, h), _phases(kw, sw, pw, width)
    whole = xp(w).zeros((mh * sh, mw * sw, c, o), dtype=w.dtype)
    whole[:kh, :kw] = w
    taps = whole.reshape(mh, sh, mw, sw, c, o)[::-1, :, ::-1]               # backwards: row a − m of g, the first, meets the last m
    matrix = taps.transpose(1, 3, 4, 0, 2, 5).reshape(sh * sw * c, mh * mw * o)
    top, left = a0 - mh + 1, b0 - mw + 1                                    # the first row and column of g in any window
    inner = g[:, max(top, 0):a0 + rows, max(left, 0):b0 + cols]
    y = xp(g).empty((len(g), h, width, c), dtype=xp(g).result_type(g, w))
    for i in _groups(g, rows * cols * mh * mw * o * g.itemsize):
        x = xp(g).zeros((len(g[i]), rows + mh - 1, cols + mw - 1, o), dtype=g.dtype)
        x[:, max(-top, 0):, max(-left, 0):][:, :inner.shape[1], :inner.shape[2]] = inner[i]
        v = (_columns(x, (mh, mw), {}) @ matrix.T).reshape(-1, rows, cols, sh, sw, c)
        v = v.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows * sh, cols * sw, c)
        y[i] = v[:, ph - a0 * sh:, pw - b0 * sw:][:, :h, :width]
    return y


@op
def conv2d_weight(x, g, *, kernel, stride=1, padding=0, dilation=1):
    """y = ∂T/∂w: (N, H, W, C) * (N, Ho, Wo, O) → (kh, kw, C, O), (kh, kw) = kernel    x̄ = conv2d_input(g, ȳ)   ḡ = conv2d(x, ȳ)"""
    how = dict(stride=stride, padding=padding, dilation=dilation)
    _check("conv2d_weight", x.ndim == 4 and g.ndim == 4 and x.shape[0] == g.shape[0] and
           g.shape[1:3] == output_size(x.shape[1:3], kernel, **how),
           f"features {g.shape} do not come from images {x.shape} with kernel {tuple(kernel)}, "
           f"stride {stride}, padding {padding}, dilation {dilation}")
    groups = _groups(x, math.prod((*g.shape[1:3], *kernel, x.shape[3])) * x.itemsize) if gpu.handles(x) else []
    if len(groups) > 1:
        return sum(conv2d_weight(x[i], g[i], kernel=kernel, **how) for i in groups)
    columns, o = _columns(x, kernel, how), g.shape[3]                       # all images at once: the product adds them up
    return (columns.T @ g.reshape(len(columns), o)).reshape(*kernel, x.shape[3], o)


conv2d.vjps(
    lambda g, y, x, w, **how: conv2d_input(g, w, size=x.shape[1:3], **how),
    lambda g, y, x, w, **how: conv2d_weight(x, g, kernel=w.shape[:2], **how))
conv2d_input.vjps(                                  # f: the features, whose name elsewhere is taken by ȳ
    lambda g, y, f, w, size, **how: conv2d(g, w, **how),
    lambda g, y, f, w, size, **how: conv2d_weight(g, f, kernel=w.shape[:2], **how))
conv2d_weight.vjps(
    lambda g, y, x, f, kernel, **how: conv2d_input(f, g, size=x.shape[1:3], **how),
    lambda g, y, x, f, kernel, **how: conv2d(x, g, **how))


# ------------------------------------------------------------------------------------------------ pooling and upsampling
# Averages and upsampling are built from ops that have rules, so they need none of their own.


def _taps(x, kernel, stride, size):
    """For each place in the window, what all windows have there: kh·kw views of x, each (N, Ho, Wo, C)."""
    (sh, sw), (ho, wo) = stride, size
    return [x[:, i:i + sh * ho:sh, j:j + sw * wo:sw] for i in range(kernel[0]) for j in range(kernel[1])]


@op
def max_pool(x, *, kernel, stride, padding=(0, 0)):
    """The maximum of each window (N, H, W, C) → (N, Ho, Wo, C)      x̄ = fold(ȳ w)

    w is 1 where the window attains its maximum, shared equally between ties. The padding never wins. All settings are pairs.
    """
    _check("max_pool", all(2 * p <= k for p, k in zip(padding, kernel, strict=True)),
           f"padding {padding} is more than half the kernel {kernel}; use less padding or a larger kernel")
    size = output_size(x.shape[1:3], kernel, stride, padding)
    if gpu.handles(x):
        return gpu.max_pool(x, kernel, size, stride, padding), None
    first, *others = _taps(_border(x, padding, -math.inf), kernel, stride, size)
    y = first.copy()
    for tap in others:
        xp(x).maximum(y, tap, out=y)
    return y, None


def _pool_rule(g, y, x, kernel, stride, padding):
    n, ho, wo, c = y.shape
    x, y = data_of(x), data_of(y)
    w = _ties(unfold(_border(x, padding, math.nan), kernel=kernel, stride=stride), y, (3, 4), False)
    return fold(g.reshape((n, ho, wo, 1, 1, c)) * w, size=x.shape[1:3], stride=stride, padding=padding)
max_pool.vjps(_pool_rule)


@max_pool.fast_vjp
def _pool_backward(g, y, saved, wanted, x, kernel, stride, padding):
    """The rule tap by tap, which takes half the time (benchmarks/tricks.py), or as a kernel."""
    if gpu.handles(g):
        return [gpu.max_pool_input(g, x, y, kernel, stride, padding)]
    x = _border(x, padding, math.nan)
    hits = [tap == y for tap in _taps(x, kernel, stride, y.shape[1:3])]
    share = g / sum(hit.astype(g.dtype) for hit in hits)
    whole = xp(g).zeros_like(x, dtype=g.dtype)
    for hit, tap in zip(hits, _taps(whole, kernel, stride, y.shape[1:3]), strict=True):
        tap += share * hit
    (ph, pw), (_, h, w, _) = padding, whole.shape
    return [whole[:, ph:h - ph, pw:w - pw]]


def max_pool2d(x, kernel, stride=None, padding=0):
    """The maximum of each window (N, H, W, C) → (N, Ho, Wo, C); stride: the kernel's size unless given."""
    kernel, padding = pair(kernel, "kernel"), pair(padding, "padding", 0)
    return max_pool(x, kernel=kernel, stride=kernel if stride is None else pair(stride, "stride"), padding=padding)


def avg_pool2d(x, kernel, stride=None, padding=0):
    """The mean of each window (N, H, W, C) → (N, Ho, Wo, C), zeros of the padding included."""
    kernel = pair(kernel, "kernel")
    return mean(unfold(x, kernel=kernel, stride=kernel if stride is None else stride, padding=padding), axis=(3, 4))


def upsample(x, factor=2):
    """Every pixel repeated factor × factor times: (N, H, W, C) → (N, H·fh, W·fw, C)."""
    fh, fw = pair(factor, "factor")
    n, h, w, c = x.shape
    x = broadcast_to(x.reshape((n, h, 1, w, 1, c)), shape=(n, h, fh, w, fw, c))
    return x.reshape((n, h * fh, w * fw, c))
