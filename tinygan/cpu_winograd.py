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

import itertools
import math

import numpy as np

from . import cpu
from .checks import pair
from .cpu_threads import each, shared_groups

LEAST = 60              # see `pay`
NINE = list(itertools.product(range(3), repeat=2))


class Tiles:
    """The transforms and their adjoints, for images (N, H, W, C) and features (N, Ho, Wo, O).

    A transform is a dictionary of nine arrays by their place (u, v) in rows and columns. There are
    as many tiles as cover the features. Where Ho or Wo is odd, the last tile has one feature: its
    g₁ is 0, so the third product falls away.
    """

    def __init__(self, images, features, padding):
        self.n, h, w, self.c = images
        _, ho, wo, self.o = features
        self.size, self.features = (h, w), (ho, wo)
        self.rows, self.columns = ((n - n // 2, n - n // 2, n // 2) for n in self.features)
        self.padded = 4 * self.rows[0] + 2, 4 * self.columns[0] + 2     # pixels that tiles cover
        (ph, pw), (height, width) = pair(padding, least=0), self.padded
        h, w = min(h, height - ph), min(w, width - pw)                  # pixels that windows see
        self.seen, self.place = np.s_[:, :h, :w], np.s_[:, ph:ph + h, pw:pw + w]

    def pay(self):
        """Whether the products that are saved cost more than the transforms.

        A transformed number costs as much as about 60 products, and takes part in as many as the
        other array has channels (or rows, for W).
        """
        done, needed = 4 * sum(self.rows) * sum(self.columns), 16 * math.prod(self.features)
        tiles = self.n * self.rows[0] * self.columns[0]
        return needed > 0 and (needed / done - 1) * min(self.o, 2 * self.c, tiles) >= LEAST

    def images_to_tiles(self, x):
        """X of the images: nine (N, rows, columns, 4 C), made of a few images at a time."""
        tiles, last = self._nine(self.n, 4 * self.c, x.dtype), self.columns[2]

        def some(i):
            padded = np.zeros((len(x[i]), *self.padded, self.c), dtype=x.dtype)
            padded[self.place] = x[i][self.seen]
            d = _blocks(padded)
            middle = d[:, 1::2]
            rows = d[:, :-1:2] - middle, middle, (d[:, 2::2] - middle)[:, :self.rows[2]]
            for u, d in enumerate(rows):
                part = [_blocked(tiles[u, v][i]) for v in range(3)]
                middle = d[:, :, 1::2]
                np.subtract(d[:, :, :-1:2], middle, out=part[0])
                part[1][...] = middle
                np.subtract(d[:, :, 2::2][:, :, :last], middle[:, :, :last], out=part[2])
        each(some, self._groups(x.itemsize))
        return tiles

    def tiles_to_images(self, g, w):
        """Xᵀ(G Wᵀ): (N, H, W, C), for transformed features and weights."""
        x = np.zeros((self.n, *self.size, self.c), dtype=np.result_type(g[0, 0], w[0, 0]))

        def some(i):
            n = len(x[i])
            tiles = self._nine(n, 4 * self.c, x.dtype)
            for r in NINE:
                np.matmul(_rows(g[r][i]), w[r].T, out=_rows(tiles[r]))
            tiles = {r: _blocked(tile) for r, tile in tiles.items()}
            rows = [np.empty((n, count, self.padded[1] // 2, 2, 2 * self.c), x.dtype)
                    for count in self.rows]
            for u, d in enumerate(rows):
                _overlap(d.swapaxes(1, 2), *(tiles[u, v].swapaxes(1, 2) for v in range(3)))
            padded = np.empty((n, *self.padded, self.c), x.dtype)
            _overlap(_blocks(padded), *rows)
            x[i][self.seen] = padded[self.place]
        each(some, self._groups(x.itemsize))
        return x

    def weights_to_tiles(self, w):
        """W of the weights: nine (4 C, O)."""
        taps = self._taps(w)                                            # (2, 2, 4 C, O)
        rows = taps[0], taps[0] + taps[1], taps[1]
        tiles = {}
        for u, (first, second) in enumerate(rows):
            tiles[u, 0], tiles[u, 1], tiles[u, 2] = first, first + second, second
        return {r: tile.reshape(4 * self.c, self.o) for r, tile in tiles.items()}

    def tiles_to_weights(self, x, g):
        """Wᵀ(Xᵀ G): (4, 4, C, O), for transformed images and features."""
        products = {}

        def multiply(r):
            products[r] = (_rows(x[r]).T @ _rows(g[r])).reshape(2, 2 * self.c, self.o)
        each(multiply, NINE)
        w = np.empty((4, 4, self.c, self.o), dtype=products[0, 0].dtype)
        taps = self._taps(w)
        for b in (0, 1):
            columns = [products[u, b] + products[u, b + 1] for u in range(3)]
            for a in (0, 1):
                np.add(columns[a], columns[a + 1], out=taps[a, b])
        return w

    def features_to_tiles(self, g):
        """G of the features: nine (N, rows, columns, O)."""
        tiles = self._nine(self.n, self.o, g.dtype)

        def some(i):
            for u, row in enumerate(_sums(g[i])):
                for v, tile in enumerate(_sums(row.swapaxes(1, 2))):
                    tiles[u, v][i] = tile.swapaxes(1, 2)
        each(some, self._groups(g.itemsize))
        return tiles

    def tiles_to_features(self, x, w):
        """Gᵀ(X W): (N, Ho, Wo, O), for transformed images and weights."""
        y = np.empty((self.n, *self.features, self.o), np.result_type(x[0, 0], w[0, 0]))

        def some(i):
            products = self._nine(len(y[i]), self.o, y.dtype)
            for r in NINE:
                np.matmul(_rows(x[r][i]), w[r], out=_rows(products[r]))
            for b, columns in enumerate(self.columns[1:]):
                part = [products[u, b][:, :, :columns] + products[u, b + 1] for u in range(3)]
                for a, rows in enumerate(self.rows[1:]):
                    np.add(part[a][:, :rows], part[a + 1], out=y[i][:, a::2, b::2])
        each(some, self._groups(y.itemsize))
        return y

    def _nine(self, n, channels, dtype):
        """Nine arrays for the tiles of n images."""
        return {(u, v): np.empty((n, self.rows[u], self.columns[v], channels), dtype)
                for u, v in NINE}

    def _groups(self, itemsize):
        """Slices of the batch whose tiles stay in the cache."""
        size = 4 * sum(self.rows) * sum(self.columns) * self.c * itemsize
        return shared_groups(range(self.n), size, cpu.GROUP)

    def _taps(self, w):
        """w (4, 4, C, O) as 2×2 taps of 4 C inputs: a view (2, 2, 2, 2 C, O)."""
        return w.reshape(2, 2, 2, 2 * self.c, self.o).swapaxes(1, 2)


def _blocks(x):
    """x (N, 2 H, 2 W, C) as 2×2 pixels of 4 C channels: a view (N, H, W, 2, 2 C)."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2 * c).swapaxes(2, 3)


def _blocked(tile):
    """A tile's array (..., 4 C) in the shape of `_blocks`, (..., 2, 2 C)."""
    return tile.reshape(*tile.shape[:-1], 2, tile.shape[-1] // 2)


def _rows(a):
    """An array (..., channels) as a matrix."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _sums(g):
    """(g₀, g₀ + g₁, g₁) along axis 1; where the number is odd, the last g₁ is 0."""
    first, second = g[:, ::2], g[:, 1::2]
    both = first.copy(order="K")
    both[:, :second.shape[1]] += second
    return first, both, second


def _overlap(d, first, middle, last):
    """The adjoint of (d₀ − d₁, d₁, d₂ − d₁) along axis 1, where each tile's d₂ is the next one's
    d₀, written to d."""
    n, count = first.shape[1], last.shape[1]
    d[:, 0], d[:, 2 * n] = first[:, 0], last[:, -1] if count == n else 0
    np.add(first[:, 1:], last[:, :n - 1], out=d[:, 2:2 * n:2])
    np.subtract(middle, first, out=d[:, 1::2])
    d[:, 1:2 * count:2] -= last


def tiles(images, features, kernel, stride, padding, dilation):
    """The `Tiles` for arrays of these shapes, or None where they do not fit or do not pay."""
    if tuple(kernel) != (4, 4) or pair(stride) != (2, 2) or pair(dilation) != (1, 1):
        return None
    found = Tiles(images, features, padding)
    return found if found.pay() else None
