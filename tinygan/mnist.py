"""MNIST's files: where they may lie, how they are read and checked, where they come from.

MNIST and Fashion-MNIST are four files each, with the same four names, in a format called IDX.
Copies of them go round under several spellings, gzipped or not, so all of those are looked for.
Nobody else's file is trusted: no more is unpacked than the header announces, and MNIST's contents
are known by their SHA-256.
"""

import gzip
import hashlib
import io
import math
import os
import struct
import sys
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
    """The images (N, 28, 28) and labels (N,), both uint8, of "mnist" or "fashion-mnist".

    Raises ValueError for files that are damaged or belong to other data, `DownloadError` if MNIST
    is missing and no mirror answers. Fashion-MNIST is only looked for on the disk.
    """
    if split not in FILES:
        raise ValueError(f"{which}: split must be 'train' or 'test', got {split!r}")
    images, labels = (find(which, name) for name in FILES[split])
    if len(images) != len(labels):
        raise ValueError(f"{which}: {len(images)} images in {FILES[split][0]}, but {len(labels)} "
                         f"labels in {FILES[split][1]}: the two files do not belong together")
    return images, labels


def find(which, name):
    """The array in the file of this name, from the disk if it is there, else from a mirror."""
    places, root, cache = [], os.environ.get("TINYGAN_DATA"), cache_folder()
    if root:
        places = [Path(os.path.expanduser(root), place) for place in PLACES[which]]
    if which == "mnist" and cache is not None:
        places.append(cache)
    for place, spelling in product(places, spellings(name)):
        if (place / spelling).is_file():
            with open(place / spelling, "rb") as file:
                return unpack(file, which, name, place / spelling)
    if which == "mnist":
        return download(name, cache)
    raise ValueError(f"fashion-mnist: {name} not found; put Fashion-MNIST's four files into a "
                     "folder DIR/fashion-mnist and set TINYGAN_DATA=DIR")


def spellings(name):
    """The names under which copies of a file go round.

    Packed or not; with Kaggle's dot for a hyphen; in a folder of that name, as Kaggle unpacks it.
    """
    names = (name, name.replace("-idx", ".idx"))
    return [folder + spelling + end for folder, spelling, end in
            product(("", *(n + "/" for n in names)), names, (".gz", ""))]


def cache_folder():
    """Where downloads are kept, or None for a user without a home directory."""
    base = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return None if base.startswith("~") else Path(base, "tinygan", "mnist")


def parse_header(raw, name="file"):
    """(where the data start, their shape) from the first bytes of an IDX file.

    The header is two zeros, the type (8 for bytes), the number of axes, then the length of each
    axis as a big-endian 32-bit integer. Source: the page of MNIST.
    """
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise ValueError(f"{name}: not an IDX file of bytes, it starts with {raw[:4]!r}")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise ValueError(f"{name}: truncated IDX header, {len(raw)} bytes of {start}")
    return start, struct.unpack(f">{raw[3]}I", raw[4:start])


def parse_idx(raw, name="file"):
    """The array in an IDX file: its bytes → uint8 of the shape that its header gives.

    Raises ValueError for a foreign, cut or overlong file.
    """
    start, shape = parse_header(raw, name)
    expected, found = math.prod(shape), len(raw) - start
    if found != expected:
        raise ValueError(f"{name}: IDX shape {shape} needs {expected} bytes, found {found}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def unpack(file, which, name, origin):
    """The array in an open file, gzipped or not, after it has proved to be what it should be.

    A gzip file of 1 MB can unpack to 1 GB. So the header is unpacked first, and then no more than
    the size that it announces and one byte, which would be one too many.
    """
    axes = (28, 28) if "images" in name else ()
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream = gzip.GzipFile(fileobj=file) if packed else file
    try:
        head = stream.read(8 + 4 * len(axes))
        start, shape = parse_header(head, origin)
        if shape[1:] != axes or len(shape) == 0 or shape[0] > MOST:
            raise ValueError(f"{origin}: expected IDX shape {('N', *axes)} with N <= {MOST}, "
                             f"found {shape}")
        raw = head + stream.read(start + math.prod(shape) + 1 - len(head))
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{origin}: damaged gzip file ({error})") from error
    array = parse_idx(raw, origin)
    genuine = hashlib.sha256(raw).hexdigest() == SHA256[name]
    if which == "mnist" and not genuine:
        raise ValueError(f"{origin}: the format is right, but its SHA-256 is not that of MNIST's "
                         f"{name}, {SHA256[name]}. If it is Fashion-MNIST, put its four files into "
                         "$TINYGAN_DATA/fashion-mnist and ask for the data called fashion-mnist")
    if which != "mnist" and genuine:
        raise ValueError(f"{origin}: this is MNIST itself, the data called mnist; put "
                         "Fashion-MNIST's four files into $TINYGAN_DATA/fashion-mnist")
    return array


def download(name, cache):
    """Fetch a file from the first mirror that has it right, and keep it in the cache: its array."""
    if cache is None:
        raise DownloadError("no home directory to download MNIST to; name a folder for it in "
                            "XDG_CACHE_HOME, or one that has MNIST's files in TINYGAN_DATA")
    failures = []
    for mirror in MIRRORS:
        url = f"{mirror}{name}.gz"
        print(f"downloading {url}", file=sys.stderr)
        try:
            with urlopen(url, timeout=30) as response:
                packed = response.read(MOST * 28 * 28)          # the archives are a quarter of that
            array = unpack(io.BytesIO(packed), "mnist", name, url)
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{url}: {error}")
            continue
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(cache / f"{name}.gz", lambda file, packed=packed: file.write(packed))
        return array
    raise DownloadError(f"download failed ({'; '.join(failures)}). To work offline, put MNIST's "
                        "files into a folder DIR/mnist and set TINYGAN_DATA=DIR, or use the data "
                        "called digits")
