"""Data: 2-D mixtures, the bundled digits, MNIST, a folder of images.

A GAN sees its data as samples and nothing else, so a data set here is just a float32 array in host
memory: points (N, 2), or images (N, H, W, C) in [-1, 1], which is the range of a generator that ends in
tanh. The 2-D mixtures are the most instructive: their density is known, so whether a generator found
every mode is a matter of counting. The bundled digits need no network; MNIST is downloaded once.
"""

import gzip
import hashlib
import math
import os
import struct
import sys
import tempfile
import warnings
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from PIL import Image, ImageOps

CHOICES = "digits, mnist, ring, grid, swissroll, folder:PATH"

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/",
           "https://storage.googleapis.com/cvdf-datasets/mnist/")

MNIST = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
         "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}

# SHA-256 of the *decompressed* contents: archives differ from mirror to mirror, contents must not.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class DownloadError(OSError):
    """A file could not be fetched from any mirror."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples, and what is known about them.

    x: float32, points (N, 2) or images (N, H, W, C) in [-1, 1]. labels: int64 (N,) or None. mixture: the
    density that the points were drawn from, or None. Raises ValueError for anything else, NaN included.
    """
    name: str
    x: np.ndarray
    labels: np.ndarray | None = None
    mixture: "Mixture | None" = None

    def __post_init__(self):
        x, labels, who = self.x, self.labels, f"Dataset {self.name}"
        if x.size == 0:
            raise ValueError(f"{who}: x is empty, shape {x.shape}")
        if not (x.ndim == 4 or x.ndim == 2 and x.shape[1] == 2):
            raise ValueError(f"{who}: x must be points (N, 2) or images (N, H, W, C), got shape {x.shape}")
        if x.dtype != np.float32:
            raise ValueError(f"{who}: x must be float32, got {x.dtype}; "
                             "bytes (0 to 255) become images with x.astype('float32') / 127.5 - 1")
        if not np.isfinite(x).all():
            raise ValueError(f"{who}: x contains NaN or infinity")
        if self.is_image and (x.min() < -1 or x.max() > 1):
            raise ValueError(f"{who}: images must lie in [-1, 1], got [{x.min():g}, {x.max():g}]; "
                             "scale bytes (0 to 255) with x / 127.5 - 1")
        if labels is not None and (labels.shape != x.shape[:1] or labels.dtype != np.int64):
            raise ValueError(f"{who}: labels must be int64 of shape {x.shape[:1]}, "
                             f"got {labels.dtype} of shape {labels.shape}")

    def __len__(self):
        return len(self.x)

    @property
    def is_image(self):
        return self.x.ndim == 4


def load(spec, *, size=64, grey=False, n=50_000, seed=0, split="train"):
    """The Dataset named by spec: digits, mnist, ring, grid, swissroll or folder:PATH.

    n and seed are for the three 2-D sets, split ("train" or "test") for mnist, size and grey for folder.
    Raises ValueError for an unknown spec, DownloadError if MNIST is nowhere to be had.
    """
    rng = np.random.default_rng(seed)
    if spec == "digits":
        return digits()
    if spec == "mnist":
        return mnist(split)
    if spec in ("ring", "grid"):
        mixture = ring() if spec == "ring" else grid()
        return Dataset(spec, mixture.sample(n, rng), mixture=mixture)
    if spec == "swissroll":
        return Dataset(spec, swissroll(n, rng))
    if spec.startswith("folder:"):
        return folder(spec.removeprefix("folder:"), size, grey)
    raise ValueError(f"unknown data {spec!r}: choose one of {CHOICES}")


# ---- points in the plane ----------------------------------------------------------------------------------

@dataclass(frozen=True, eq=False)
class Mixture:
    """Equally likely round Gaussians: p(x) = 1/K Σₖ N(x; centersₖ, std² I), with centers (K, 2)."""
    centers: np.ndarray
    std: float

    def __post_init__(self):
        if self.centers.ndim != 2 or self.centers.shape[1] != 2 or len(self.centers) == 0:
            raise ValueError(f"Mixture: centers must have shape (K, 2) with K > 0, got {self.centers.shape}")
        if not self.std >= 0:
            raise ValueError(f"Mixture: std must be >= 0, got {self.std}")

    def sample(self, n, rng):
        """n independent points: (n, 2) float32."""
        k = rng.integers(len(self.centers), size=n)  # which Gaussian each point comes from
        return (self.centers[k] + self.std * rng.standard_normal((n, 2))).astype(np.float32)


def ring(modes=8, radius=2.0, std=0.1):
    """Gaussians at the angles 2πk/modes of a circle (Metz et al. 2017, "Unrolled GANs", appendix A)."""
    # Not linspace(0, 2π, modes): that counts the first angle twice, a "ring of 8" with 7 modes.
    angles = 2 * np.pi * np.arange(modes) / modes
    return Mixture(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), std)


def grid(side=5, spacing=2.0, std=0.05):
    """side × side Gaussians, spacing apart, centred on 0 (Lin et al. 2018, "PacGAN", section 4.1)."""
    ticks = spacing * (np.arange(side) - (side - 1) / 2)
    return Mixture(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2), std)


def swissroll(n, rng, noise=0.03):
    """n points along a spiral, within about [-2, 2]: (n, 2) float32, noise the deviation across it.

    (t cos t, t sin t) / 7.5, t uniform in [1.5π, 4.5π]. Source: Gulrajani et al. 2017, "Improved Training
    of Wasserstein GANs", figure 1.
    """
    t = rng.uniform(1.5 * np.pi, 4.5 * np.pi, size=n)
    points = np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / 7.5  # (n, 2)
    return (points + noise * rng.standard_normal((n, 2))).astype(np.float32)


# ---- images -----------------------------------------------------------------------------------------------

def digits():
    """10,000 handwritten digits that come with the package, (10000, 28, 28, 1): the first of MNIST's 60,000.

    Origin and licence stand in digits.LICENSE.md, how the file was made in make_digits.py.
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        return Dataset("digits", _scaled(file["images"][..., None]), file["labels"].astype(np.int64))


def mnist(split="train"):
    """MNIST: "train" (60000, 28, 28, 1) or "test" (10000, 28, 28, 1), with labels 0 to 9.

    The IDX files, gzipped or not, are looked for in $TINYGAN_DATA/mnist, then in the user's cache folder, and
    else downloaded into that cache. Raises ValueError for a file that is not MNIST's, DownloadError if no
    mirror answers.
    Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    if split not in MNIST:
        raise ValueError(f"mnist: split must be 'train' or 'test', got {split!r}")
    images, labels = (parse_idx(_mnist_file(name), name) for name in MNIST[split])
    return Dataset("mnist", _scaled(images[..., None]), labels.astype(np.int64))


def folder(path, size=64, grey=False):
    """Every image below path, by name, its central square resized: (N, size, size, 1 if grey else 3).

    What Pillow cannot read, or has more than 8 bits a channel (which it would clip), is skipped with one
    warning. Raises ValueError if no image is left.
    """
    if size < 1:
        raise ValueError(f"folder: size must be > 0, got {size}")
    images, skipped = [], []
    for file in sorted(p for p in Path(path).expanduser().rglob("*") if p.is_file()):
        try:
            with Image.open(file) as image:
                if image.mode[0] in "IF":  # 16- or 32-bit integers, floats
                    raise ValueError("more than 8 bits a channel")
                upright = ImageOps.exif_transpose(image).convert("L" if grey else "RGB")
                square = ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # Pillow raises any of these
            skipped.append(file.name)
        else:
            images.append(np.asarray(square).reshape(size, size, -1))  # (H, W) or (H, W, 3) -> (H, W, C)
    if not images:
        raise ValueError(f"folder: no image found below {path} ({len(skipped)} other files)")
    if skipped:
        names = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else "")
        warnings.warn(f"folder {path}: read: {len(images)}, skipped: {len(skipped)} ({names})", stacklevel=2)
    return Dataset("folder", _scaled(np.stack(images)))


def _scaled(images):
    """Bytes 0 to 255 to float32 -1 to 1."""
    return images.astype(np.float32) / 127.5 - 1


# ---- MNIST's files ----------------------------------------------------------------------------------------

def parse_idx(raw, name="file"):
    """The array of bytes in an IDX file: raw bytes -> uint8 of the shape given in its header.

    The header is two zeros, the type (8: unsigned byte), the number of axes, then the length of each axis as
    a big-endian 32-bit integer. Raises ValueError for a foreign or truncated file. Source: the MNIST page.
    """
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise ValueError(f"{name}: not an IDX file of bytes, it starts with {raw[:4]!r}")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise ValueError(f"{name}: truncated IDX header, {len(raw)} bytes of {start}")
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    expected, found = math.prod(shape), len(raw) - start
    if found != expected:
        raise ValueError(f"{name}: IDX shape {shape} needs {expected} bytes, found {found}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _mnist_file(name):
    """The contents of one MNIST file, from disk if it is there, else from a mirror."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tinygan" / "mnist"
    folders = [cache]
    if os.environ.get("TINYGAN_DATA"):
        folders.insert(0, Path(os.environ["TINYGAN_DATA"]).expanduser() / "mnist")
    for place in folders:
        for path in (place / f"{name}.gz", place / name):
            if path.exists():
                return _verified(path.read_bytes(), name, path)
    return _download(name, cache)


def _verified(raw, name, origin):
    """raw, unzipped if need be; ValueError unless it is exactly the MNIST file called name."""
    try:
        contents = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{origin}: damaged gzip file ({error})") from error
    found = hashlib.sha256(contents).hexdigest()
    if found != SHA256[name]:
        raise ValueError(f"{origin}: not MNIST's {name}: SHA-256 of the contents is {found}, "
                         f"expected {SHA256[name]}")
    return contents


def _download(name, cache):
    """Fetch name from the first mirror that has it right, keep it in cache, return its contents."""
    failures = []
    for mirror in MIRRORS:
        url = f"{mirror}{name}.gz"
        print(f"downloading {url}", file=sys.stderr)
        try:
            with urlopen(url, timeout=30) as response:
                packed = response.read()
            contents = _verified(packed, name, url)
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{url}: {error}")
            continue
        # Written elsewhere and renamed when complete, so that nobody ever finds half a file in the cache.
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as partial:
            Path(partial, name).write_bytes(packed)
            os.replace(Path(partial, name), cache / f"{name}.gz")
        return contents
    raise DownloadError(f"download failed ({'; '.join(failures)}). To work offline, put MNIST's files "
                        "into a folder DIR/mnist and set TINYGAN_DATA=DIR, or use the data called digits")
