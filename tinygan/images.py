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

from .checks import whole

REASONS = {UnidentifiedImageError: "no image", PermissionError: "not readable",
           Image.DecompressionBombError: "too many pixels"}
RUN = {"config.json", "weights.npz"}            # `tinygan train` writes them before any picture
RUN_PICTURES = {"samples.png", "losses.png", "training.gif"}


class Skipped(Exception):
    """An image that is not used; the message is the reason."""


def read(path, size=64, grey=False, background="white"):
    """Every image below a folder as `data.folder` says: uint8 (N, size, size, 1 if grey else 3)."""
    size = whole("folder: size", size)
    background = Image.new("RGB", (1, 1), background).getpixel((0, 0))      # (R, G, B)
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
                images.append(_square(file, size, grey, background))
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

    Links to folders are followed, and each folder is entered once. The folders of tinygan's runs
    are left out, since their pictures are made by a generator; of a run in root itself, only those.
    """
    files, seen = [], set()

    def unreadable(error):
        skipped["folder that cannot be read"].append(error.filename)
    for folder, below, names in os.walk(root, onerror=unreadable, followlinks=True):
        below.sort()
        real, of_run = os.path.realpath(folder), RUN <= set(names)
        if of_run and folder != root:
            skipped["folder of a tinygan run"].append(folder)
        if real in seen or of_run and folder != root:
            below.clear()
            continue
        seen.add(real)
        for name in names:
            path = Path(folder, name)
            if not os.path.isfile(path):                            # a FIFO would block for ever
                skipped["no regular file or a broken link"].append(path)
            elif not of_run or name not in RUN_PICTURES:
                files.append(path)
    return sorted(files)


def _square(file, size, grey, background):
    """The central square of an image file: uint8 (size, size, channels)."""
    with Image.open(file) as image:
        if image.mode[0] in "IF":                               # 16- or 32-bit integers, floats
            raise Skipped("more than 8 bits a channel")
        if image.format == "PNG" and isinstance(image.info.get("transparency"), int):
            # Pillow scales greys of 2 or 4 bits to 0..255, but not the level that is transparent.
            image.info["transparency"] *= {"L;2": 85, "L;4": 17}.get(image.tile[0][3], 1)
        if image.getexif().get(0x0112, 1) not in range(9):      # 1 to 8 are turns, 0 is common
            raise Skipped("damaged EXIF data")
        image = _opaque(ImageOps.exif_transpose(image), background)
        image = image.convert("L" if grey else "RGB")
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        return np.asarray(image).reshape(size, size, -1)        # (H, W) → (H, W, 1)


def _opaque(image, background):
    """The image in RGB, laid over one colour: α · image + (1 − α) · background."""
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(canvas, image.convert("RGBA"))
    return image.convert("RGB")


def _count(files):
    """{reason: paths} as text: '2 × no image (a.txt, b.txt), 1 × damaged (c.png)'."""
    parts = []
    for reason, paths in sorted(files.items(), key=lambda item: -len(item[1])):
        # repr: no control characters
        names = [repr(os.path.basename(path))[1:-1] for path in sorted(map(str, paths))]
        names[3:] = ["..."] * (len(names) > 3)
        parts.append(f"{len(paths)} × {reason} ({', '.join(names)})")
    return ", ".join(parts)
