"""Pooling and upsampling: images made smaller and larger without weights.

Averages and upsampling are built from ops that have rules, so they need none of their own.
"""

import math

from .checks import pair
from .reductions import _ties, mean
from .shapes import broadcast_to, pad
from .tape import data_of, op
from .windows import fold, output_size, unfold


def _windows(x, kernel, stride, padding, border):
    """The windows of x (N, H, W, C) with a border of one value → (N, Ho, Wo, kh, kw, C)."""
    ph, pw = padding
    x = pad(x, widths=((0, 0), (ph, ph), (pw, pw), (0, 0)), value=border)
    return unfold(x, kernel=kernel, stride=stride)


def pooled_size(x, kernel, stride, padding):
    """(Ho, Wo) for images of shape x, or a ValueError if the kernel or the padding is too large."""
    if not all(2 * p <= k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"max_pool: padding {padding} is more than half the kernel {kernel}; use "
                         "less padding or a larger kernel")
    return output_size(x[1:3], kernel, stride, padding)


@op
def max_pool(x, *, kernel, stride, padding=(0, 0)):
    """The maximum of each window (N, H, W, C) → (N, Ho, Wo, C)      x̄ = fold(ȳ h)

    h is 1 where the window attains its maximum, shared equally between ties. The padding never
    wins. All settings are pairs.
    """
    pooled_size(x.shape, kernel, stride, padding)
    return _windows(x, kernel, stride, padding, -math.inf).max(axis=(3, 4))


def _max_pool_rule(g, y, x, kernel, stride, padding):
    windows = _windows(data_of(x), kernel, stride, padding, math.nan)
    h = _ties(windows, data_of(y), (3, 4), False)           # the padding, NaN, equals no maximum
    g = g.reshape((*y.shape[:3], 1, 1, y.shape[3]))
    return fold(g * h, size=x.shape[1:3], stride=stride, padding=padding)
max_pool.vjps(_max_pool_rule)


def max_pool2d(x, kernel, stride=None, padding=0):
    """The maximum of each window (N, H, W, C) → (N, Ho, Wo, C); stride: the kernel if None."""
    kernel, padding = pair(kernel, "kernel"), pair(padding, "padding", 0)
    return max_pool(x, kernel=kernel, padding=padding,
                    stride=kernel if stride is None else pair(stride, "stride"))


def avg_pool2d(x, kernel, stride=None, padding=0):
    """The mean of each window (N, H, W, C) → (N, Ho, Wo, C), zeros of the padding included."""
    kernel = pair(kernel, "kernel")
    return mean(unfold(x, kernel=kernel, stride=kernel if stride is None else stride,
                       padding=padding), axis=(3, 4))


def upsample(x, factor=2):
    """Every pixel repeated factor × factor times: (N, H, W, C) → (N, H·fh, W·fw, C)."""
    fh, fw = pair(factor, "factor")
    n, h, w, c = x.shape
    x = broadcast_to(x.reshape((n, h, 1, w, 1, c)), shape=(n, h, fh, w, fw, c))
    return x.reshape((n, h * fh, w * fw, c))
