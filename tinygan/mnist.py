"""MNIST's files: where they may lie, how they are read and checked, where they come from.

MNIST and Fashion-MNIST are four files each, with the same four names, in a format called IDX.
MNIST's contents are known by their SHA-256.
"""

import gzip
import hashlib
import io
import math
import os
import struct
import sys
import tempfile
import zlib
from http.client import HTTPException
from itertools import product
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from .files import write_atomically

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/",
           "https://storage.googleapis.com/cvdf-datasets/mnist/")

FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
         "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}
MOST = 60_000               # images in a file; the test set has 10,000

# SHA-256 of the *unpacked* contents: archives differ from mirror to mirror, contents must not.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

# Folders of $TINYGAN_DATA that are searched, in this order; "" is $TINYGAN_DATA itself.
PLACES = {"mnist": ("mnist", "MNIST", "MNIST/raw", ""),
          "fashion-mnist": ("fashion-mnist", "fashion", "FashionMNIST", "FashionMNIST/raw", "")}


class DownloadError(OSError):
    """A file could not be fetched from any mirror."""


def read(which, split="train"):
    """The images (N, 28, 28) and labels (N,), both uint8, of "mnist" or "fashion-mnist"."""
    if split not in FILES:
        raise ValueError(f"{which}: split must be 'train' or 'test', got {split!r}")
    images, labels = (find(which, name) for name in FILES[split])
    if len(images) != len(labels):
        raise ValueError(f"{which}: {len(images)} images in {FILES[split][0]}, but "
                         f"{len(labels)} labels in {FILES[split][1]}")
    return images, labels


def find(which, name):
    """The array in the file of this name, from the disk if it is there, else from a mirror."""
    for path in candidates(which, name):
        if os.path.isfile(path):
            return unpack(Path(path).read_bytes(), which, name, path)
    if which == "mnist":
        return download(name)
    raise ValueError(f"fashion-mnist: {name} not found; put Fashion-MNIST's four files into a "
                     "folder DIR/fashion-mnist and set TINYGAN_DATA=DIR")


def candidates(which, name):
    """The paths at which a file may lie: packed or not, with Kaggle's dot for a hyphen, in a folder
    of its own name, as Kaggle unpacks it.
    """
    root = os.environ.get("TINYGAN_DATA")
    places = [os.path.join(os.path.expanduser(root), place) for place in PLACES[which] if root]
    if which == "mnist":
        places.append(cache_folder())
    names = (name, name.replace("-idx", ".idx"))
    return [os.path.join(place, folder, spelling + end) for place, folder, spelling, end
            in product(places, ("", *names), names, (".gz", ""))]


def cache_folder():
    """Where downloads are kept; a user without a home directory gets a temporary place."""
    base = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    base = tempfile.gettempdir() if base.startswith("~") else base
    return os.path.join(base, "tinygan", "mnist")


def parse_idx(raw, name="file"):
    """The array in an IDX file of bytes: uint8, of the shape that its header gives.

    The header is two zeros, the type (8 for bytes), the number of axes, then the length of each
    axis as a big-endian 32-bit integer. Raises ValueError for a foreign, cut or overlong file.
    Source: the page of MNIST.
    """
    start = 4 + 4 * raw[3] if len(raw) > 3 else 4
    if raw[:3] != b"\0\0\x08" or len(raw) < start:
        raise ValueError(f"{name}: not an IDX file of bytes, or cut; it starts with {raw[:4]!r}")
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    expected, found = math.prod(shape), len(raw) - start
    if found != expected:
        raise ValueError(f"{name}: IDX shape {shape} needs {expected} bytes, found {found}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def unpack(raw, which, name, origin):
    """The array in a file's bytes, gzipped or not, after it has proved to be what it should be."""
    axes = (28, 28) if "images" in name else ()
    try:
        if raw[:2] == b"\x1f\x8b":         # 1 MB can unpack to 1 GB: one byte too many is refused
            most = 8 + 4 * len(axes) + MOST * math.prod(axes)
            raw = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{origin}: damaged gzip file ({error})") from error
    array = parse_idx(raw, origin)
    if array.ndim == 0 or array.shape[1:] != axes:
        raise ValueError(f"{origin}: expected IDX shape {('N', *axes)}, found {array.shape}")
    genuine = hashlib.sha256(raw).hexdigest() == SHA256[name]
    if genuine != (which == "mnist"):
        what = "this is MNIST itself" if genuine else "its SHA-256 is not that of MNIST's file"
        raise ValueError(f"{origin}: {what}. Fashion-MNIST's four files belong into "
                         "$TINYGAN_DATA/fashion-mnist, and its data are called fashion-mnist")
    return array


def download(name):
    """Fetch a file from the first mirror that has it right, and keep it in the cache: its array."""
    failures, kept = [], os.path.join(cache_folder(), f"{name}.gz")
    for mirror in MIRRORS:
        url = f"{mirror}{name}.gz"
        print(f"downloading {url}", file=sys.stderr)
        try:
            with urlopen(url, timeout=30) as response:
                packed = response.read(MOST * 28 * 28)          # the archives are a quarter of that
            array = unpack(packed, "mnist", name, url)
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{url}: {error}")
            continue
        os.makedirs(os.path.dirname(kept), exist_ok=True)
        write_atomically(kept, lambda file, packed=packed: file.write(packed))
        return array
    raise DownloadError(f"download failed ({'; '.join(failures)}). To work offline, put MNIST's "
                        "files into a folder DIR/mnist and set TINYGAN_DATA=DIR, or use the data "
                        "called digits")
