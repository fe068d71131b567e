"""Convolution and its two adjoints: one trilinear form with three partial derivatives.

Images are (N, H, W, C), weights (kh, kw, C, O). A convolution cuts the image into windows, one per
output pixel (windows.py), and takes the inner product of every window with every filter (the
cross-correlation that deep learning calls convolution):

    y[n, i, j, o] = Σ_{u, v, c} x[n, i s + u d − p, j s + v d − p, c] w[u, v, c, o]

with stride s, padding p and dilation d. Together with a third array f in y's shape, the features,
this makes one number that is linear in each of its three arguments:

    T(x, w, f) = Σ_{n, i, j, o} f[n, i, j, o] y[n, i, j, o]

Its three partial derivatives are all there is to know:

    ∂T/∂f = conv2d(x, w)                    the convolution itself
    ∂T/∂x = conv2d_transpose(f, w)          image from features: a generator's upsampling layer
    ∂T/∂w = conv2d_weight_gradient(x, f)    what a weight contributes, summed over all windows

and the rules of each op are the other two ops, because T is linear in each argument. Six one-line
rules, and every order of derivative follows. (Dumoulin & Visin 2016, "A guide to convolution
arithmetic for deep learning", has the pictures.)
"""

from .pooling import avg_pool2d, max_pool, max_pool2d, upsample  # noqa: F401
from .tape import op
from .windows import fold, output_size, unfold  # noqa: F401


@op
def conv2d(x, w, *, stride=1, padding=0, dilation=1):
    """y = ∂T/∂f: (N, H, W, C) * (kh, kw, C, O) → (N, Ho, Wo, O)

    x̄ = conv2d_transpose(ȳ, w)      w̄ = conv2d_weight_gradient(x, ȳ)
    """
    how = dict(stride=stride, padding=padding, dilation=dilation)
    n, ho, wo, o = features_shape("conv2d", x.shape, w.shape, **how)
    kh, kw, c, _ = w.shape
    windows = unfold(x, kernel=(kh, kw), **how).reshape(n * ho * wo, kh * kw * c)
    return (windows @ w.reshape(kh * kw * c, o)).reshape(n, ho, wo, o)


@op
def conv2d_transpose(f, w, *, size, stride=1, padding=0, dilation=1):
    """y = ∂T/∂x: (N, Ho, Wo, O) * (kh, kw, C, O) → (N, H, W, C), (H, W) = size

    f̄ = conv2d(ȳ, w)      w̄ = conv2d_weight_gradient(ȳ, f)
    """
    how = dict(stride=stride, padding=padding, dilation=dilation)
    shape = *f.shape[:1], *size, *w.shape[2:3]                  # (N, H, W, C)
    features_shape("conv2d_transpose", shape, w.shape, f.shape, **how)
    (n, ho, wo, o), (kh, kw, c, _) = f.shape, w.shape
    windows = f.reshape(n * ho * wo, o) @ w.reshape(kh * kw * c, o).T
    return fold(windows.reshape(n, ho, wo, kh, kw, c), size=size, **how)


@op
def conv2d_weight_gradient(x, f, *, kernel, stride=1, padding=0, dilation=1):
    """y = ∂T/∂w: (N, H, W, C) * (N, Ho, Wo, O) → (kh, kw, C, O), (kh, kw) = kernel

    x̄ = conv2d_transpose(f, ȳ)      f̄ = conv2d(x, ȳ)
    """
    how = dict(stride=stride, padding=padding, dilation=dilation)
    shape = *kernel, *x.shape[3:], *f.shape[3:]                 # (kh, kw, C, O)
    features_shape("conv2d_weight_gradient", x.shape, shape, f.shape, **how)
    (n, ho, wo, o), (kh, kw, c, _) = f.shape, shape
    windows = unfold(x, kernel=kernel, **how).reshape(n * ho * wo, kh * kw * c)
    return (windows.T @ f.reshape(n * ho * wo, o)).reshape(shape)


conv2d.vjps(
    lambda g, y, x, w, **how: conv2d_transpose(g, w, size=x.shape[1:3], **how),
    lambda g, y, x, w, **how: conv2d_weight_gradient(x, g, kernel=w.shape[:2], **how))
conv2d_transpose.vjps(
    lambda g, y, f, w, size, **how: conv2d(g, w, **how),
    lambda g, y, f, w, size, **how: conv2d_weight_gradient(g, f, kernel=w.shape[:2], **how))
conv2d_weight_gradient.vjps(
    lambda g, y, x, f, kernel, **how: conv2d_transpose(f, g, size=x.shape[1:3], **how),
    lambda g, y, x, f, kernel, **how: conv2d(x, g, **how))


def features_shape(name, x, w, f=None, **how):
    """The shape of f for images and weights of shapes x and w; ValueError if they do not fit.

    f: None, or the shape that the features have.
    """
    if len(x) == len(w) == 4 and x[3] == w[2]:
        shape = x[0], *output_size(x[1:3], w[:2], **how), w[3]
        if f in (None, shape):
            return shape
    raise ValueError(f"{name}: expected images (N, H, W, C), weights (kh, kw, C, O) and features "
                     f"(N, Ho, Wo, O) that fit, got {x}, {w} and {f or 'features to be made'}, "
                     + ", ".join(f"{k} {v}" for k, v in how.items()))
