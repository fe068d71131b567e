"""The CPU's engine room, continued: convolutions of kernel 4 and stride 2, with 9 products for 16.

These are the layers of a DCGAN. First, let every 2×2 pixels of the padded image be one pixel of 4 C
channels, and every 2×2 taps one tap of 4 C inputs: then a kernel of 4 with stride 2 is a kernel of
2 with stride 1. Second, along one axis two neighbouring features of such a convolution see three
pixels d and two taps w. Four products, and with g the trilinear form of conv.py:

    g₀ (d₀ w₀ + d₁ w₁)  +  g₁ (d₁ w₀ + d₂ w₁)
        =  (d₀ − d₁) w₀ g₀  +  d₁ (w₀ + w₁) (g₀ + g₁)  +  (d₂ − d₁) w₁ g₁  =  Σᵣ Xᵣ Wᵣ Gᵣ

These are three: X = (d₀ − d₁, d₁, d₂ − d₁), W = (w₀, w₀ + w₁, w₁), G = (g₀, g₀ + g₁, g₁).
That is F(2, 2) of Winograd (1980; for convolutions Lavin & Gray 2016). Features are taken in pairs,
and their *tiles* of three pixels overlap by one:

    pixels      d₀   d₁   d₂                    the first tile
                          d₀   d₁   d₂          the next
    features    g₀   g₁   g₀   g₁

In the plane both axes are transformed, one after the other: a tile has 3×3 pixels for 2×2 features,
and nine products for sixteen. The sum over r is still the trilinear form, so its three derivatives
are those of conv.py, each of them nine matrix products between transforms:

    ∂T/∂g = Gᵀ(X W)      ∂T/∂x = Xᵀ(G Wᵀ)      ∂T/∂w = Wᵀ(Xᵀ G)

The outer ᵀ are the adjoints of the transforms. What the forward pass has transformed is kept, and
serves the backward pass too. Numbers are added up before they are multiplied, so in float32 the
results differ from the definition's by about 1e-6 of their size.
"""

import numpy as np

from . import cpu
from .windows import pair

LEAST = 50              # see `pay`


class Tiles:
    """The transforms and their adjoints, for images (N, H, W, C) and features (N, Ho, Wo, O).

    There are th × tw tiles per image, enough to cover all features; what lies beyond is zero.
    """

    def __init__(self, images, features, padding):
        self.n, *self.size, self.c = images
        _, self.ho, self.wo, self.o = features
        self.padding = pair(padding, least=0)
        self.th, self.tw = -(-self.ho // 2), -(-self.wo // 2)
        self.padded = 4 * self.th + 2, 4 * self.tw + 2      # pixels that the tiles cover
        (h, w), (ph, pw), (rows, cols) = self.size, self.padding, self.padded
        h, w = min(h, rows - ph), min(w, cols - pw)         # pixels that any window sees
        self.seen, self.place = np.s_[:, :h, :w], np.s_[:, ph:ph + h, pw:pw + w]

    def pay(self):
        """Whether the products that are saved cost more than the transforms.

        A tile saves 16 · (pixels y) − 36 of 36 products per pair of channels. A transformed number
        costs as much as about 50 products, and takes part in as many as the other array has
        channels (or rows, for W).
        """
        tiles = self.th * self.tw
        if not tiles:
            return False
        saved = 16 * self.ho * self.wo / (36 * tiles) - 1
        return saved * min(self.o, 2 * self.c, self.n * tiles) >= LEAST

    def images_to_tiles(self, x):
        """X of the images: (9, N·th·tw, 4 C), a few images at a time."""
        tiles = np.empty((3, 3, self.n, self.th, self.tw, 2, 2 * self.c), dtype=x.dtype)
        for i in self._groups(x.itemsize):
            blocks = _blocks(self._padded(x[i]))
            odd = blocks[:, 1::2]
            for u, rows in enumerate((blocks[:, :-1:2] - odd, odd, blocks[:, 2::2] - odd)):
                middle = rows[:, :, 1::2]
                np.subtract(rows[:, :, :-1:2], middle, out=tiles[u, 0, i])
                tiles[u, 1, i] = middle
                np.subtract(rows[:, :, 2::2], middle, out=tiles[u, 2, i])
        return tiles.reshape(9, -1, 4 * self.c)

    def tiles_to_images(self, g, w):
        """Xᵀ(G Wᵀ): (N, H, W, C), for transformed features and weights."""
        w = w.transpose(0, 2, 1)
        g = g.reshape(9, self.n, -1, self.o)
        x = np.zeros((self.n, *self.size, self.c), dtype=np.result_type(g, w))
        for i in self._groups(x.itemsize):
            products = np.matmul(g[:, i].reshape(9, -1, self.o), w)
            products = products.reshape(3, 3, -1, self.th, self.tw, 2, 2 * self.c)
            rows = np.empty((*products.shape[1:4], 2 * self.tw + 1, 2, 2 * self.c), x.dtype)
            for row, (first, middle, last) in zip(rows, products, strict=True):
                _overlap(row.swapaxes(1, 2), *(p.swapaxes(1, 2) for p in (first, middle, last)))
            padded = np.empty((rows.shape[1], *self.padded, self.c), x.dtype)
            _overlap(_blocks(padded), *rows)
            x[i][self.seen] = padded[self.place]
        return x

    def weights_to_tiles(self, w):
        """W of the weights: (9, 4 C, O)."""
        tiles = np.empty((3, 3, 2, 2 * self.c, self.o), dtype=w.dtype)
        taps = self._taps(w)
        tiles[::2, ::2] = taps
        np.add(taps[:, 0], taps[:, 1], out=tiles[::2, 1])
        np.add(tiles[0], tiles[2], out=tiles[1])
        return tiles.reshape(9, 4 * self.c, self.o)

    def tiles_to_weights(self, x, g):
        """Wᵀ(Xᵀ G): (4, 4, C, O), for transformed images and features."""
        products = np.matmul(x.transpose(0, 2, 1), g).reshape(3, 3, 2, 2 * self.c, self.o)
        w = np.empty((4, 4, self.c, self.o), dtype=products.dtype)
        _pairs(products, lambda a, b: self._taps(w)[a, b])
        return w

    def features_to_tiles(self, g):
        """G of the features: (9, N·th·tw, O)."""
        if self.ho % 2 or self.wo % 2:
            even = np.zeros((self.n, 2 * self.th, 2 * self.tw, self.o), dtype=g.dtype)
            even[:, :self.ho, :self.wo] = g
            g = even
        pixels = self._pixels(g)
        tiles = np.empty((3, 3, self.n, self.th, self.tw, self.o), dtype=g.dtype)
        tiles[::2, ::2] = pixels
        np.add(tiles[::2, 0], tiles[::2, 2], out=tiles[::2, 1])
        np.add(tiles[0], tiles[2], out=tiles[1])
        return tiles.reshape(9, -1, self.o)

    def tiles_to_features(self, x, w):
        """Gᵀ(X W): (N, Ho, Wo, O), for transformed images and weights."""
        products = np.matmul(x, w).reshape(3, 3, self.n, self.th, self.tw, self.o)
        y = np.empty((self.n, 2 * self.th, 2 * self.tw, self.o), dtype=products.dtype)
        _pairs(products, lambda a, b: self._pixels(y)[a, b])
        return np.ascontiguousarray(y[:, :self.ho, :self.wo])

    def _groups(self, itemsize):
        """Slices of the batch whose tiles stay in the cache."""
        return cpu.groups(range(self.n), 36 * self.th * self.tw * self.c * itemsize, cpu.GROUP)

    def _padded(self, x):
        """x with its border of zeros, and as large as the tiles."""
        padded = np.zeros((len(x), *self.padded, self.c), dtype=x.dtype)
        padded[self.place] = x[self.seen]
        return padded

    def _taps(self, w):
        """w (4, 4, C, O) as 2×2 taps of 4 C inputs: a view (2, 2, 2, 2 C, O)."""
        return w.reshape(2, 2, 2, 2 * self.c, self.o).swapaxes(1, 2)

    def _pixels(self, y):
        """y (N, Ho, Wo, O) by place in the tile: a view (2, 2, N, th, tw, O)."""
        y = y.reshape(self.n, self.th, 2, self.tw, 2, self.o)
        return y.transpose(2, 4, 0, 1, 3, 5)


def _blocks(x):
    """x (N, 2 H, 2 W, C) as 2×2 pixels of 4 C channels: a view (N, H, W, 2, 2 C)."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2 * c).swapaxes(2, 3)


def _pairs(products, place):
    """The adjoint of (a, a + b, b) along both axes, written to place(0 or 1, 0 or 1)."""
    for a in (0, 1):
        sums = products[a] + products[a + 1]
        for b in (0, 1):
            np.add(sums[b], sums[b + 1], out=place(a, b))


def _overlap(d, first, middle, last):
    """The adjoint of (d₀ − d₁, d₁, d₂ − d₁) along axis 1, where each tile's d₂ is the next one's
    d₀."""
    d[:, :-1:2], d[:, -1] = first, 0
    d[:, 2::2] += last
    np.subtract(middle, first, out=d[:, 1::2])
    d[:, 1::2] -= last


def tiles(images, features, kernel, stride, padding, dilation):
    """The `Tiles` for arrays of these shapes, or None where they do not fit or do not pay."""
    if tuple(kernel) != (4, 4) or pair(stride) != (2, 2) or pair(dilation) != (1, 1):
        return None
    found = Tiles(images, features, padding)
    return found if found.pay() else None
