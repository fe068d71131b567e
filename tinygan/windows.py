"""Windows: an image cut into the patches that a kernel sees, and patches added up again.

Convolution and pooling are made of these two. A *window* is the (kh, kw, C) block of pixels under
the kernel, a *tap* one of its kh·kw places. One row of 6 pixels, with a kernel of 3, stride 2 and
padding 1 (the dots are zeros):

    x          .  a  b  c  d  e  f  .
    window 0  [.  a  b]                     taps u = 0, 1, 2
    window 1        [b  c  d]               starts s = 2 pixels further on
    window 2              [d  e  f]

`unfold` lists the windows; `fold` adds windows up where they came from, so that here pixel b gets
tap 2 of window 0 plus tap 0 of window 1. Each is the other's adjoint, and its rule.

Images are (N, H, W, C). `stride` s, `padding` p and `dilation` d (the distance between taps) are
integers or pairs (vertical, horizontal).
"""

from .backend import xp
from .checks import pair
from .tape import op


def output_size(size, kernel, stride=1, padding=0, dilation=1):
    """(Ho, Wo) over images of (H, W): ⌊(H + 2p − d (k − 1) − 1) / s⌋ + 1, for pooling too."""
    steps, borders = pair(stride, "stride"), pair(padding, "padding", 0)
    out = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(
        size, kernel, steps, borders, pair(dilation, "dilation"), strict=True))
    if any(n < 1 for n in out):
        raise ValueError(f"kernel {tuple(kernel)} with dilation {dilation} does not fit into an "
                         f"image of {tuple(size)} with padding {padding}; use a smaller kernel or "
                         "more padding")
    return out


@op
def unfold(x, *, kernel, stride=1, padding=0, dilation=1):
    """All windows of x (N, H, W, C) → (N, Ho, Wo, kh, kw, C)      x̄ = fold(ȳ)

    They overlap, so each is only a view of the padded image: the same memory, counted differently.
    """
    if x.ndim != 4:
        raise ValueError(f"unfold: expected images (N, H, W, C), got {x.shape}")
    ho, wo = output_size(x.shape[1:3], kernel, stride, padding, dilation)
    (sh, sw), (ph, pw), (dh, dw) = pair(stride), pair(padding, least=0), pair(dilation)
    if ph or pw:
        x = xp(x).pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    n, h, w, c = x.strides                                  # bytes from one pixel to the next
    return xp(x).lib.stride_tricks.as_strided(
        x, (x.shape[0], ho, wo, *kernel, x.shape[3]), (n, h * sh, w * sw, h * dh, w * dw, c))
unfold.vjps(lambda g, y, x, kernel, stride, padding, dilation:
            fold(g, size=x.shape[1:3], stride=stride, padding=padding, dilation=dilation))


@op
def fold(v, *, size, stride=1, padding=0, dilation=1):
    """Add windows (N, Ho, Wo, kh, kw, C) up where they came from → (N, H, W, C)      v̄ = unfold(ȳ)

    This is the adjoint of unfold. size = (H, W).
    """
    (sh, sw), (ph, pw), (dh, dw) = pair(stride), pair(padding, least=0), pair(dilation)
    n, ho, wo, kh, kw, c = v.shape
    h, w = size
    x = xp(v).zeros((n, h + 2 * ph, w + 2 * pw, c), dtype=v.dtype)
    for i in range(kh):                                 # tap by tap: each lies on a regular grid
        for j in range(kw):
            rows = slice(i * dh, i * dh + sh * ho, sh)
            columns = slice(j * dw, j * dw + sw * wo, sw)
            x[:, rows, columns] += v[:, :, :, i, j]
    return x[:, ph:ph + h, pw:pw + w]
fold.vjps(lambda g, y, v, size, stride, padding, dilation:
          unfold(g, kernel=v.shape[3:5], stride=stride, padding=padding, dilation=dilation))
