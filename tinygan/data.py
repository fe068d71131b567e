"""Data sets: what they are, and how to get one by its name or from an array of your own.

A GAN sees its data as samples and nothing else, so a data set is one float32 array: points (N, D),
or images (N, H, W, C) in [−1, 1], which is the range of a generator that ends in tanh.

    load("digits"), load("ring"), load("folder:cats", size=32)      # by name, as the command does
    as_dataset(x), as_dataset(x, labels)                            # an array of your own

The samples themselves come from mixtures.py (points in the plane), mnist.py and images.py (a folder
of images).
"""

import hashlib
import os
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from . import images
from . import mnist as idx
from .backend import to_host, xp
from .checks import whole
from .files import require_regular
from .mixtures import Mixture, grid, ring, swissroll
from .mnist import DownloadError, parse_idx
from .randomness import Randomness

__all__ = ["CHOICES", "Dataset", "DownloadError", "Mixture", "array_file", "as_dataset", "digits",
           "fashion_mnist", "folder", "grid", "load", "mnist", "parse_idx", "ring", "swissroll"]

CHOICES = "digits, mnist, ring, grid, swissroll, folder:PATH, fashion-mnist, FILE.npy or FILE.npz"
RATIO, FREE = 100, 2 ** 26          # a .npz file may unpack to 64 MB, or to 100 times its size


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples, and what is known about them.

    x: points (N, D), or images (N, H, W, C) or (N, H, W); kept as float32. Images are floats in
        [−1, 1], or bytes (uint8), which become x / 127.5 − 1. Images in [0, 1] are accepted with a
        warning: they leave half the range of tanh unused.
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
    x = np.asarray(x) if xp(x) is np else x                     # arrays on the GPU stay there
    if x.ndim not in (2, 3, 4) or x.size == 0:
        raise ValueError(f"{who}: x must be points (N, D) or images (N, H, W, C), and not empty, "
                         f"got shape {x.shape}; x.reshape(-1, 1) makes points of plain numbers")
    image = x.ndim > 2
    x = x[..., None] if x.ndim == 3 else x                      # (N, H, W) → (N, H, W, 1)
    if image and x.shape[1] in (1, 3) and x.shape[2] == x.shape[3] > 4:
        raise ValueError(f"{who}: images must have their channels last, (N, H, W, C), got shape "
                         f"{x.shape}; use x.transpose(0, 2, 3, 1)")
    if image and x.dtype == np.uint8:
        x = x.astype(np.float32)
        x /= 127.5                                              # in place: data sets are large
        x -= 1
        return x
    if x.dtype.kind != "f":
        raise ValueError(f"{who}: x must be floats, or images of bytes, got {x.dtype}; use "
                         "x.astype('float32'), or x.astype('uint8') for images of 0 to 255")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32, copy=False)
    if not xp(x).isfinite(x).all():
        raise ValueError(f"{who}: x contains NaN, infinity, or numbers beyond float32")
    low, high = (float(x.min()), float(x.max())) if image else (-1, 1)
    if low < -1 or high > 1:
        raise ValueError(f"{who}: images must lie in [-1, 1], got [{low:g}, {high:g}]; scale bytes "
                         "(0 to 255) with x / 127.5 - 1, or cut off what is beyond with np.clip")
    if low >= 0 and high > 0:
        warnings.warn(f"{who}: images in [{low:g}, {high:g}]; if they run from 0 to 1, use "
                      "2 * x - 1 for the range [-1, 1] of a generator that ends in tanh",
                      stacklevel=5)
    return x


def _labels(labels, n, who):
    """Labels as a data set keeps them, or a ValueError. See `Dataset`."""
    labels = np.asarray(to_host(labels))
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        raise ValueError(f"{who}: labels must be {n} integers, got {labels.dtype} of shape "
                         f"{labels.shape}; use labels.astype(int) for whole numbers, "
                         "labels.argmax(axis=1) for one-hot rows")
    labels = labels.astype(np.int64, copy=False)
    if labels.min() < 0:
        raise ValueError(f"{who}: labels must be >= 0 and fit int64, got {labels.min()}")
    return labels


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
        n, rng = whole("load: n", n), Randomness(seed).rng("data")
        if spec == "swissroll":
            return Dataset(spec, swissroll(n, rng))
        mixture = ring() if spec == "ring" else grid()
        return Dataset(spec, mixture.sample(n, rng), mixture=mixture)
    if spec == "digits":
        return digits()
    if spec in ("mnist", "fashion-mnist"):
        return mnist(split) if spec == "mnist" else fashion_mnist(split)
    if spec.startswith("folder:"):
        return folder(spec.removeprefix("folder:"), size, grey, background)
    if spec.lower().endswith((".npy", ".npz")):
        return array_file(spec)
    raise ValueError(f"unknown data {spec!r}: choose one of {CHOICES}")


def digits():
    """The 10,000 handwritten digits that come with the package, (10000, 28, 28, 1), with labels.

    They are the first of MNIST's 60,000. Their origin and licence stand in digits.LICENSE.md, and
    how the file was made in benchmarks/make_digits.py of the repository.
    """
    return replace(array_file(Path(__file__).with_name("digits.npz")), path=None)


def mnist(split="train"):
    """MNIST: "train" (60000, 28, 28, 1) or "test" (10000, 28, 28, 1), with labels 0 to 9.

    Its files are looked for in $TINYGAN_DATA and its folder mnist, then in the user's cache folder,
    and else downloaded into that cache. ValueError for a file that is not MNIST's; `DownloadError`.
    Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    return Dataset("mnist", *idx.read("mnist", split))


def fashion_mnist(split="train"):
    """Fashion-MNIST: pictures of clothes in the format and sizes of MNIST, with labels 0 to 9.

    Its files are looked for in $TINYGAN_DATA/fashion-mnist, and never downloaded.
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
    return Dataset("folder", x, path=os.path.abspath(os.path.expanduser(path)))


def array_file(path):
    """An array of your own, from a .npy file or from a .npz file with x and perhaps labels.

    In a .npz file x is the array called x or images, else the only one besides the labels. Labels
    are called labels or y. No pickle is opened, so a stranger's file runs nothing. Raises
    ValueError for a file that is missing, damaged or of another kind.
    """
    path = os.path.abspath(os.path.expanduser(path))
    try:
        require_regular(path)
        with open(path, "rb") as file:
            if file.read(4) not in (b"\x93NUM", b"PK\3\4"):
                raise ValueError("no .npy or .npz file, or an empty one")
            file.seek(0)
            found = np.load(file, allow_pickle=False)
            if file.tell() != os.path.getsize(path) and isinstance(found, np.ndarray):
                raise ValueError("more follows after the array")
            found = {"x": found} if isinstance(found, np.ndarray) else found
            labels = next((name for name in ("labels", "y") if name in found), None)
            others = [name for name in found if name != labels]
            named = [name for name in ("x", "images") if name in others] or others
            if len(named) != 1:
                raise ValueError(f"which array is the data? Call it x; found {', '.join(found)}")
            size = 0 if isinstance(found, dict) else sum(
                m.file_size for m in found.zip.infolist()
                if m.filename.removesuffix(".npy") in (*named, labels))
            if size > RATIO * os.path.getsize(path) + FREE:
                raise ValueError(f"it would unpack to {size:,} bytes; if that is right, save it "
                                 "unpacked, with np.savez")
            x, labels = found[named[0]], labels and found[labels]
    except Exception as e:                                      # damaged files raise anything
        reason = getattr(e, "strerror", None) or str(e) or type(e).__name__
        raise ValueError(f"{path}: cannot be read ({' '.join(reason.split())})") from None
    return Dataset(Path(path).stem, x, labels, path=path)
