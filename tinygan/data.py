"""Data sets: what they are, and how to get one by its name or from an array of your own.

A GAN sees its data as samples and nothing else, so a data set is one float32 array: points (N, D),
or images (N, H, W, C) in [−1, 1], which is the range of a generator that ends in tanh.

    load("digits"), load("ring"), load("folder:cats", size=32)      # by name, as the command does
    as_dataset(x), as_dataset(x, labels)                            # an array of your own

The samples themselves come from mixtures.py (points in the plane), mnist.py, images.py (a folder of
images) and arrays.py (.npy and .npz files).
"""

import hashlib
import os
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from . import arrays, images
from . import mnist as idx
from .backend import to_host, xp
from .mixtures import Mixture, grid, ring, swissroll
from .mnist import DownloadError, parse_idx
from .randomness import Randomness

__all__ = ["CHOICES", "Dataset", "DownloadError", "Mixture", "array_file", "as_dataset", "digits",
           "fashion_mnist", "folder", "grid", "load", "mnist", "parse_idx", "ring", "swissroll"]

CHOICES = ("digits, mnist, ring, grid, swissroll, folder:PATH, fashion-mnist, "
           "FILE.npy or FILE.npz")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples, and what is known about them.

    x: points (N, D) for any D ≥ 1, or images (N, H, W, C) or (N, H, W); kept as float32. Points are
        floats. Images are floats in [−1, 1], or bytes (uint8), which become x / 127.5 − 1. Images
        in [0, 1] are accepted with a warning: they leave half the range of tanh unused.
    labels: N integers ≥ 0, as an array or a list, or None; kept as int64.
    mixture: the density that the points were drawn from, or None.
    path: the absolute path of the files that the samples were read from, or None.

    Anything else is a ValueError that says what to do, NaN and infinity included.
    """

    name: str
    x: np.ndarray
    labels: np.ndarray | None = None
    mixture: Mixture | None = None
    path: str | None = None

    def __post_init__(self):
        who = f"Dataset {self.name}"
        object.__setattr__(self, "x", _samples(self.x, who))    # the way to set what is frozen
        if self.labels is not None:
            object.__setattr__(self, "labels", _labels(self.labels, len(self.x), who))

    def __len__(self):
        return len(self.x)

    @property
    def is_image(self):
        """Whether the samples are images rather than points."""
        return self.x.ndim == 4

    @cached_property
    def fingerprint(self):
        """16 hexadecimal digits that tell these samples and labels from any others (SHA-256)."""
        digest = hashlib.sha256(str(self.x.shape).encode())
        for array in (self.x, self.labels):
            if array is not None:
                digest.update(np.ascontiguousarray(to_host(array)))
        return digest.hexdigest()[:16]


def as_dataset(x, labels=None, name="array"):
    """A `Dataset` of an array of your own, with labels or without; a Dataset is returned as it is.

    See `Dataset` for what x and labels may be. CuPy arrays stay on the GPU.
    """
    if isinstance(x, Dataset):
        return x if labels is None else replace(x, labels=labels)
    return Dataset(name, x, labels)


def _samples(x, who):
    """x as a data set keeps it, or a ValueError. See `Dataset`."""
    x = _array(x, f"{who}: x")
    if x.size == 0:
        raise ValueError(f"{who}: x is empty, shape {x.shape}")
    if x.ndim not in (2, 3, 4):
        advice = "; x.reshape(-1, 1) makes points of numbers" if x.ndim == 1 else ""
        raise ValueError(f"{who}: x must be points (N, D) or images (N, H, W, C), "
                         f"got shape {x.shape}{advice}")
    x = x[..., None] if x.ndim == 3 else x                      # (N, H, W) → (N, H, W, 1)
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[2] == x.shape[3] > 4:
        raise ValueError(f"{who}: images must have their channels last, (N, H, W, C), got shape "
                         f"{x.shape}; use x.transpose(0, 2, 3, 1)")
    if x.dtype == np.uint8 and x.ndim == 4:
        x = x.astype(np.float32)
        x /= 127.5                                              # in place: data sets are large
        x -= 1
        return x
    if x.dtype.kind != "f":
        advice = "points are floats: x.astype('float32')"
        if x.ndim == 4:
            advice = "images of 0 to 255 are bytes: x.astype('uint8')"
        raise ValueError(f"{who}: x must be floats, or images of bytes, got {x.dtype}; {advice}")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32, copy=False)
    if not xp(x).isfinite(x).all():
        raise ValueError(f"{who}: x contains NaN, infinity, or numbers beyond float32")
    if x.ndim == 4:
        _check_range(float(x.min()), float(x.max()), who)
    return x


def _check_range(low, high, who):
    if low < -1 or high > 1:
        raise ValueError(f"{who}: images must lie in [-1, 1], got [{low:g}, {high:g}]; scale bytes "
                         "(0 to 255) with x / 127.5 - 1, or cut off what is beyond with np.clip")
    if low >= 0 and high > 0:
        warnings.warn(f"{who}: images in [{low:g}, {high:g}]; if they run from 0 to 1, use "
                      "2 * x - 1 for the range [-1, 1] of a generator that ends in tanh",
                      stacklevel=5)


def _labels(labels, n, who):
    """Labels as a data set keeps them, or a ValueError. See `Dataset`."""
    labels = to_host(_array(labels, f"{who}: labels"))
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        raise ValueError(f"{who}: labels must be {n} integers, got {labels.dtype} of shape "
                         f"{labels.shape}; use labels.astype(int) for whole numbers, "
                         "labels.argmax(axis=1) for one-hot rows")
    if labels.min() < 0 or labels.max() >= 2 ** 63:
        raise ValueError(f"{who}: labels must be >= 0 and fit int64, "
                         f"got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64, copy=False)


def _array(values, who):
    """Values as an array: NumPy's for lists and the like, CuPy's where they are one already."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{who} has masked values; fill them in with x.filled(...)")
    try:
        return values if xp(values) is not np else np.asarray(values)
    except Exception as e:                                      # a foreign object raises anything
        raise ValueError(f"{who} cannot be made an array: {e}") from None


def load(spec, *, size=64, grey=False, background="white", n=50_000, seed=0, split="train"):
    """The `Dataset` of this name: digits, mnist, ring, ..., folder:PATH, FILE.npy (see CHOICES).

    n and seed are for ring, grid and swissroll; split ("train" or "test") is for mnist and
    fashion-mnist; size, grey and background are for folder. Raises ValueError for an unknown name,
    `DownloadError` if MNIST is missing and cannot be fetched.
    """
    if not isinstance(spec, (str, os.PathLike)):
        raise TypeError(f"load: expected the name of a data set, got {type(spec).__name__}; for an "
                        "array of your own use as_dataset(x)")
    spec = os.fspath(spec)
    if spec in ("ring", "grid", "swissroll"):
        rng = Randomness(seed).rng("data")
        if not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"load: n, the number of points, must be an integer > 0, got {n!r}")
        if spec == "swissroll":
            return Dataset(spec, swissroll(n, rng))
        mixture = ring() if spec == "ring" else grid()
        return Dataset(spec, mixture.sample(n, rng), mixture=mixture)
    if spec == "digits":
        return digits()
    if spec == "mnist":
        return mnist(split)
    if spec == "fashion-mnist":
        return fashion_mnist(split)
    if spec.startswith("folder:"):
        return folder(spec.removeprefix("folder:"), size, grey, background)
    if spec.lower().endswith((".npy", ".npz")):
        return array_file(spec)
    raise ValueError(f"unknown data {spec!r}: choose one of {CHOICES}")


def digits():
    """The 10,000 handwritten digits that come with the package, (10000, 28, 28, 1), with labels.

    They are the first of MNIST's 60,000. Their origin and licence stand in digits.LICENSE.md, and
    how the file was made in make_digits.py.
    """
    return Dataset("digits", *arrays.read(Path(__file__).with_name("digits.npz")))


def mnist(split="train"):
    """MNIST: "train" (60000, 28, 28, 1) or "test" (10000, 28, 28, 1), with labels 0 to 9.

    Its files are looked for in $TINYGAN_DATA and its folder mnist, then in the user's cache folder,
    and else downloaded into that cache. Raises ValueError for a file that is not MNIST's, and
    `DownloadError` if no mirror answers.
    Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    return Dataset("mnist", *idx.read("mnist", split))


def fashion_mnist(split="train"):
    """Fashion-MNIST: pictures of clothes in the format and sizes of MNIST, with labels 0 to 9.

    Its files are looked for in $TINYGAN_DATA/fashion-mnist, and never downloaded: ValueError if
    they are missing or damaged.
    Source: Xiao, Rasul and Vollgraf 2017, "Fashion-MNIST".
    """
    return Dataset("fashion-mnist", *idx.read("fashion-mnist", split))


def folder(path, size=64, grey=False, background="white"):
    """Every image below a folder, sorted by name, its central square resized: (N, size, size, C).

    C is 1 if grey, else 3. Images are turned as their EXIF data say. What is transparent in them
    shows `background`: a colour's name, '#8090a0' or (128, 144, 160). What Pillow cannot read, or
    has more than 8 bits a channel (which it would clip), is skipped; one warning counts such files
    by reason. The folders of tinygan's own runs are left out. Raises ValueError if no image is
    left.
    """
    x = images.read(path, size, grey, background)
    return Dataset("folder", x, path=_absolute(path))


def array_file(path):
    """An array of your own, from a .npy file or from a .npz file with x and perhaps labels.

    See `Dataset` for what x and labels may be, and arrays.py for the names that they may have.
    Raises ValueError for anything else.
    """
    path = _absolute(path)
    return Dataset(Path(path).stem, *arrays.read(path), path=path)


def _absolute(path):
    return os.path.abspath(os.path.expanduser(path))
