"""A folder of images, read by Pillow into one array of bytes.

Folders hold more than images: notes, broken downloads, links that lead nowhere, 16-bit scans. One
such file must not cost the data set, and none may vanish silently. So whatever cannot be used is
skipped, and one warning counts the files by reason.
"""

import os
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .module import whole

REASONS = {UnidentifiedImageError: "no image", PermissionError: "not readable",
           Image.DecompressionBombError: "too many pixels"}
RUN_PICTURES = {"samples.png", "losses.png", "training.gif"}    # of `tinygan train`


class Skipped(Exception):
    """An image that is not used; the message is the reason."""


def read(path, size=64, grey=False):
    """Every image below a folder as `data.folder` says: uint8 (N, size, size, 1 if grey else 3)."""
    size = whole("folder: size", size)
    root = os.path.abspath(os.path.expanduser(path))
    if not str(path).strip() or not os.path.isdir(root):
        raise ValueError(f"folder: no image found below {path}: there is no such folder; "
                         "folder:. is the current one")
    images, skipped = [], defaultdict(list)
    for file in _files(root, skipped):
        try:
            # Pillow warns of each flaw in each file; below, one warning speaks for all of them.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                images.append(_square(file, size, grey))
        except MemoryError:
            raise
        except Exception as e:                                  # damaged files raise anything
            reason = str(e) if isinstance(e, Skipped) else REASONS.get(type(e), "damaged")
            skipped[reason].append(file)
    if not images:
        raise ValueError(f"folder: no image found below {path}: {_count(skipped) or 'it is empty'}")
    if skipped:
        warnings.warn(f"folder {path}: {len(images)} image{'s' * (len(images) > 1)} read, "
                      f"{sum(map(len, skipped.values()))} skipped: {_count(skipped)}", stacklevel=4)
    return np.stack(images)


def _files(root, skipped):
    """The regular files below root, sorted. Others go into skipped, {reason: paths}.

    Links to folders are followed, and each folder is entered once. A run's own pictures, which its
    generator made, are left out.
    """
    files, seen = [], set()

    def unreadable(error):
        skipped["folder that cannot be read"].append(error.filename)
    for folder, below, names in os.walk(root, onerror=unreadable, followlinks=True):
        below.sort()
        if os.path.realpath(folder) in seen:
            below.clear()
            continue
        seen.add(os.path.realpath(folder))
        for name in set(names) - (RUN_PICTURES if "weights.npz" in names else set()):
            regular = os.path.isfile(os.path.join(folder, name))    # a FIFO would block for ever
            found = files if regular else skipped["no regular file or a broken link"]
            found.append(Path(folder, name))
    return sorted(files)


def _square(file, size, grey):
    """The central square of an image file: uint8 (size, size, channels)."""
    with Image.open(file) as image:
        if image.mode[0] in "IF":                               # 16- or 32-bit integers, floats
            raise Skipped("more than 8 bits a channel")
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        image = image.convert("RGB").convert("L" if grey else "RGB")
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        return np.asarray(image).reshape(size, size, -1)        # (H, W) → (H, W, 1)


def _count(files):
    """{reason: paths} as text: '2 × no image (a.txt, b.txt), 1 × damaged (c.png)'."""
    parts = []
    for reason, paths in sorted(files.items(), key=lambda item: -len(item[1])):
        # repr: no control characters
        names = [repr(os.path.basename(path))[1:-1] for path in sorted(map(str, paths))]
        names[3:] = ["..."] * (len(names) > 3)
        parts.append(f"{len(paths)} × {reason} ({', '.join(names)})")
    return ", ".join(parts)
