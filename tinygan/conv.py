"""Convolution and its two adjoints: one trilinear form with three partial derivatives.

Images are (N, H, W, C), weights (kh, kw, C, O). A convolution cuts the image into windows, one per
output pixel (windows.py), and takes the inner product of every window with every filter (the
cross-correlation that deep learning calls convolution):

    y[n, i, j, o] = Σ_{u, v, c} x[n, i s + u d − p, j s + v d − p, c] w[u, v, c, o]

with stride s, padding p and dilation d. Together with a third array g in y's shape this makes one
number that is linear in each of its three arguments:

    T(x, w, g) = Σ_{n, i, j, o} g[n, i, j, o] y[n, i, j, o]

Its three partial derivatives are all there is to know:

    ∂T/∂g = conv2d(x, w)                    the convolution itself
    ∂T/∂x = conv2d_transpose(g, w)          image from features: a generator's upsampling layer
    ∂T/∂w = conv2d_weight_gradient(x, g)    what a weight contributes, summed over all windows

and the rules of each op are the other two ops, because T is linear in each argument. Six one-line
rules, and every order of derivative follows. (Dumoulin & Visin 2016, "A guide to convolution
arithmetic for deep learning", has the pictures.)

`stride`, `padding` and `dilation` are integers or pairs (vertical, horizontal).
"""

from .pooling import avg_pool2d, max_pool, max_pool2d, upsample
from .tape import op
from .windows import fold, output_size, pair, unfold

__all__ = ["avg_pool2d", "conv2d", "conv2d_transpose", "conv2d_weight_gradient", "fold", "max_pool",
           "max_pool2d", "output_size", "pair", "unfold", "upsample"]


@op
def conv2d(x, w, *, stride=1, padding=0, dilation=1):
    """y = ∂T/∂g: (N, H, W, C) * (kh, kw, C, O) → (N, Ho, Wo, O)

    x̄ = conv2d_transpose(ȳ, w)      w̄ = conv2d_weight_gradient(x, ȳ)
    """
    check_conv2d(x.shape, w.shape)
    kh, kw, c, o = w.shape
    windows = unfold(x, kernel=(kh, kw), stride=stride, padding=padding, dilation=dilation)
    n, ho, wo = windows.shape[:3]
    y = windows.reshape(n * ho * wo, kh * kw * c) @ w.reshape(kh * kw * c, o)
    return y.reshape(n, ho, wo, o)


@op
def conv2d_transpose(g, w, *, size, stride=1, padding=0, dilation=1):
    """y = ∂T/∂x: (N, Ho, Wo, O) * (kh, kw, C, O) → (N, H, W, C), (H, W) = size

    ḡ = conv2d(ȳ, w)      w̄ = conv2d_weight_gradient(ȳ, g)
    """
    how = dict(stride=stride, padding=padding, dilation=dilation)
    check_transpose(g.shape, w.shape, size, how)
    (n, ho, wo, o), (kh, kw, c, _) = g.shape, w.shape
    windows = g.reshape(n * ho * wo, o) @ w.reshape(kh * kw * c, o).T
    return fold(windows.reshape(n, ho, wo, kh, kw, c), size=size, **how)


@op
def conv2d_weight_gradient(x, g, *, kernel, stride=1, padding=0, dilation=1):
    """y = ∂T/∂w: (N, H, W, C) * (N, Ho, Wo, O) → (kh, kw, C, O), (kh, kw) = kernel

    x̄ = conv2d_transpose(g, ȳ)      ḡ = conv2d(x, ȳ)
    """
    how = dict(stride=stride, padding=padding, dilation=dilation)
    check_weight_gradient(x.shape, g.shape, kernel, how)
    (n, ho, wo, o), (kh, kw), c = g.shape, kernel, x.shape[3]
    windows = unfold(x, kernel=kernel, **how).reshape(n * ho * wo, kh * kw * c)
    return (windows.T @ g.reshape(n * ho * wo, o)).reshape(kh, kw, c, o)


conv2d.vjps(
    lambda g, y, x, w, **how: conv2d_transpose(g, w, size=x.shape[1:3], **how),
    lambda g, y, x, w, **how: conv2d_weight_gradient(x, g, kernel=w.shape[:2], **how))
conv2d_transpose.vjps(                          # f: the features; g is taken by ȳ
    lambda g, y, f, w, size, **how: conv2d(g, w, **how),
    lambda g, y, f, w, size, **how: conv2d_weight_gradient(g, f, kernel=w.shape[:2], **how))
conv2d_weight_gradient.vjps(
    lambda g, y, x, f, kernel, **how: conv2d_transpose(f, g, size=x.shape[1:3], **how),
    lambda g, y, x, f, kernel, **how: conv2d(x, g, **how))


def _check(name, ok, message):
    if not ok:
        raise ValueError(f"{name}: {message}")


def check_conv2d(x, w):
    """ValueError unless images and weights of these shapes go together."""
    _check("conv2d", len(x) == len(w) == 4 and x[3] == w[2], "expected images (N, H, W, C) and "
           f"weights (kh, kw, C, O) with the same C, got {x} and {w}")


def check_transpose(g, w, size, how):
    """ValueError unless features and weights of these shapes make images of this size."""
    _check("conv2d_transpose", len(g) == len(w) == 4 and g[3] == w[3], "expected features "
           f"(N, Ho, Wo, O) and weights (kh, kw, C, O) with the same O, got {g} and {w}")
    _check("conv2d_transpose", g[1:3] == output_size(size, w[:2], **how),
           f"features of {g[1:3]} do not come from an image of {tuple(size)} with kernel {w[:2]}, "
           + ", ".join(f"{k} {v}" for k, v in how.items()))


def check_weight_gradient(x, g, kernel, how):
    """ValueError unless features of shape g come from images of shape x."""
    _check("conv2d_weight_gradient", len(x) == len(g) == 4 and x[0] == g[0]
           and g[1:3] == output_size(x[1:3], kernel, **how),
           f"features {g} do not come from images {x} with kernel {tuple(kernel)}, "
           + ", ".join(f"{k} {v}" for k, v in how.items()))
