"""What the discriminator is shown instead of the plain samples.

A view is a function (samples, step) → samples. A GAN applies it to real and fake samples alike
before D sees them. It must be differentiable, because G learns through it. `step` counts the
finished steps, for views that fade. Random numbers come from the random generator 'view'. A view
with a method `alone(x)` uses that where D is asked about samples one by one; others are left out.
"""

import numpy as np

from . import ops
from .autograd import data_of
from .backend import device_of, to_device
from .checks import number, whole
from .randomness import rng


class Pack:
    """m samples per verdict, side by side on the last axis: (N, ..., C) → (N/m, ..., m C).

    Two looks at once find out a generator that always draws the same (PacGAN, Lin et al. 2018,
    section 3). D must be built for m · C channels or features.
    """

    def __init__(self, m=2):
        self.m = whole("Pack: m", m)

    def __call__(self, x, step=0):
        if len(x) % self.m:
            raise ValueError(f"Pack: a batch of {len(x)} cannot be divided into packs of {self.m}")
        return ops.concatenate(*(x[i::self.m] for i in range(self.m)), axis=-1)

    def alone(self, x):
        """Packs of m times the same sample, so that there is a verdict for each: (N, ..., m C)."""
        return ops.concatenate(*[x] * self.m, axis=-1)


class Noise:
    """x + σ n with n ~ N(0, 1), so that real and fake overlap (Arjovsky & Bottou 2017, section 3).

    σ is `std` at first and falls linearly to 0 at step `until`, or stays if that is None.
    """

    def __init__(self, std=0.1, until=None):
        self.std = number("Noise: std", std, 0, np.inf)
        self.until = until if until is None else number("Noise: until", until, 0, np.inf, True)

    def __call__(self, x, step=0):
        std = self.std if self.until is None else self.std * max(0.0, 1 - step / self.until)
        if not std:
            return x
        n = rng("view").standard_normal(x.shape, dtype=np.float32).astype(x.dtype)
        return x + std * to_device(n, device_of(data_of(x)))


class DiffAugment:
    """Random brightness, translation and cutout of images (N, H, W, C), one draw per image.

    Applied to real and fake alike, it does not teach G to draw augmented images, but D can no
    longer learn a small data set by heart (Zhao et al. 2020). A number ~ U(−½, ½) · brightness is
    added. The image is moved by at most the share `translation` of its size; what comes in is 0. A
    square whose side is the share `cutout` of the size becomes 0. A setting of 0 leaves a part out.
    """

    def __init__(self, brightness=1.0, translation=1 / 8, cutout=1 / 2):
        self.brightness = brightness
        self.translation = number("DiffAugment: translation", translation, 0, 1, closed=True)
        self.cutout = number("DiffAugment: cutout", cutout, 0, 1, closed=True)

    def __call__(self, x, step=0):
        (n, h, w, _), draw, device = x.shape, rng("view"), device_of(data_of(x))
        i, j = np.arange(h)[None, :, None], np.arange(w)[None, None, :]     # (1, H, 1), (1, 1, W)
        if self.brightness:
            b = self.brightness * draw.uniform(-0.5, 0.5, (n, 1, 1, 1))
            x = x + to_device(b.astype(x.dtype), device)
        if self.translation:
            p, q = round(h * self.translation), round(w * self.translation)
            down, right = (draw.integers(2 * most + 1, size=(n, 1, 1)) for most in (p, q))
            key = np.broadcast_arrays(np.arange(n)[:, None, None], i + down, j + right)
            x = ops.pad(x, widths=((0, 0), (p, p), (q, q), (0, 0)))
            x = x[tuple(to_device(np.ascontiguousarray(k), device) for k in key)]
        if self.cutout:
            high, wide = round(h * self.cutout), round(w * self.cutout)
            top, left = (draw.integers(-(s // 2), size - s // 2 + 1, (n, 1, 1))
                         for s, size in ((high, h), (wide, w)))
            hole = (i >= top) & (i < top + high) & (j >= left) & (j < left + wide)
            x = x * to_device((~hole)[..., None].astype(x.dtype), device)
        return x
