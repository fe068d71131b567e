"""A folder of images, read by Pillow into one array of bytes.

Folders hold more than images: notes, broken downloads, links that lead nowhere, 16-bit scans. One
such file must not cost the data set, and none may vanish silently. So whatever cannot be used is
skipped, and one warning counts the files by reason.
"""

import json
import os
import stat
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

# What each EXIF orientation asks for, so that the image stands upright; 1 is upright already.
_T = Image.Transpose
TURNS = {2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE,
         6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90}

# Pillow scales pixels of 2 or 4 bits to 0..255, but not the level of grey that is transparent.
GREYS = {"L;2": 85, "L;4": 17}

RUN = {"data", "loss", "latent", "shape"}                       # what every run's config.json says
RUN_PICTURES = {"samples.png", "losses.png", "training.gif"}


class Skipped(Exception):
    """An image that is not used; the message is the reason."""


def read(path, size=64, grey=False, background="white"):
    """Every image below a folder, sorted by name: uint8 (N, size, size, 1 if grey else 3).

    `data.folder` tells the rules that it follows.
    """
    if not isinstance(size, (int, np.integer)) or size < 1:
        raise ValueError(f"folder: size must be an integer > 0, got {size!r}")
    ground = _colour(background)
    images, skipped, flawed = [], defaultdict(list), defaultdict(list)
    for file in _files(_root(path), skipped):
        try:
            # Pillow warns of each flaw in each file; below, one warning speaks for all of them.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image, flaw = _square(file, size, grey, ground)
        except MemoryError:
            raise
        except Exception as e:                                  # damaged files raise anything
            skipped[_reason(e)].append(file)
        else:
            images.append(image)
            if flaw:
                flawed[flaw].append(file)
    if not images:
        raise ValueError(f"folder: no image found below {path}: {_count(skipped) or 'it is empty'}")
    if skipped or flawed:
        number = sum(map(len, skipped.values()))
        text = f"folder {path}: {len(images)} image{'s' * (len(images) > 1)} read, {number} skipped"
        text += f": {_count(skipped)}" if skipped else ""
        warnings.warn(text + (f"; not turned: {_count(flawed)}" if flawed else ""), stacklevel=4)
    return np.stack(images)


def _colour(background):
    """(R, G, B, 255) of a colour's name or of its three numbers."""
    try:
        rgb = background
        if isinstance(background, str):
            rgb = ImageColor.getrgb(background)[:3]
        if len(rgb) == 3 and all(value in range(256) for value in rgb):
            return (*map(int, rgb), 255)
    except (ValueError, TypeError, AttributeError):
        pass
    raise ValueError("folder: background must be a colour such as 'white', '#8090a0' or "
                     f"(128, 144, 160), got {background!r}")


def _root(path):
    """The absolute path of a folder, or a ValueError that says what is there instead."""
    if not str(path).strip():
        raise ValueError("folder: the path is empty; write folder:PATH, or folder:. for this one")
    root = os.path.abspath(os.path.expanduser(path))
    if not os.path.isdir(root):
        what = "that is a file" if os.path.exists(root) else "there is no such folder"
        raise ValueError(f"folder: no image found below {path}: {what}")
    return root


def _files(root, skipped):
    """The regular files below root, sorted. Others go into skipped, {reason: paths}.

    Links to folders are followed, and each folder is entered once. The folder of a tinygan run is
    left out, since its pictures are made by a generator. Where root itself holds a run, only the
    pictures of that run are left out.
    """
    files, seen = [], set()

    def unreadable(error):
        skipped["folder that cannot be read"].append(error.filename)
    for folder, below, names in os.walk(root, onerror=unreadable, followlinks=True):
        below.sort()
        real = os.path.realpath(folder)
        if real in seen or folder != root and _is_run(folder):
            if real not in seen:
                skipped["folder of a tinygan run"].append(folder)
            below.clear()
            continue
        seen.add(real)
        own = {"config.json", *RUN_PICTURES} if _is_run(folder) else ()
        for path in (os.path.join(folder, name) for name in names if name not in own):
            reason = _no_file(path)
            if reason:
                skipped[reason].append(path)
            else:
                files.append(Path(path))
    return sorted(files)


def _no_file(path):
    """Why there is nothing to open at path (a FIFO would block for ever), or None."""
    try:
        info = os.stat(path)
    except OSError:
        return "link that leads nowhere" if os.path.islink(path) else "not readable"
    if not stat.S_ISREG(info.st_mode):
        return "no regular file"
    return None if info.st_size else "empty file"


def _is_run(folder):
    """Whether `tinygan train` writes, or has written, to this folder."""
    path = os.path.join(folder, "config.json")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            values = json.loads(file.read(2 ** 16))
        return isinstance(values, dict) and values.keys() >= RUN
    except (OSError, ValueError, RecursionError):
        return False


def _square(file, size, grey, ground):
    """(the central square of an image file, uint8 (size, size, channels); its flaw or None)."""
    with Image.open(file) as image:
        if image.mode[0] in "IF":                               # 16- or 32-bit integers, floats
            raise Skipped("more than 8 bits a channel")
        packing = image.tile[0][3] if image.tile else None      # forgotten once it is loaded
        image.load()
        if packing in GREYS and isinstance(image.info.get("transparency"), int):
            image.info["transparency"] *= GREYS[packing]
        image, flaw = _upright(image)
        image = _opaque(image, ground).convert("RGB").convert("L" if grey else "RGB")
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        return np.asarray(image).reshape(size, size, -1), flaw  # (H, W) → (H, W, 1)


def _upright(image):
    """(the image turned as its EXIF data say, a word on them if they are damaged)."""
    try:
        orientation = image.getexif().get(0x0112, 1)
        if orientation in range(9):     # 0 stands in no standard, but in many files
            turn = TURNS.get(orientation)
            return image if turn is None else image.transpose(turn), None
    except MemoryError:
        raise
    except Exception:                   # damaged EXIF data raise anything
        pass
    return image, "damaged EXIF data"


def _opaque(image, ground):
    """The image without transparency, laid over one colour: α · image + (1 − α) · ground."""
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), image.convert("RGBA"))


def _reason(error):
    for kind, reason in ((Skipped, str(error)), (UnidentifiedImageError, "no image"),
                         (PermissionError, "not readable"),
                         (Image.DecompressionBombError, "too many pixels")):
        if isinstance(error, kind):
            return reason
    return "damaged"


def _count(files):
    """{reason: paths} as text: '2 × no image (a.txt, b.txt), 1 × damaged (c.png)'."""
    parts = []
    for reason, paths in sorted(files.items(), key=lambda item: -len(item[1])):
        names = [repr(os.path.basename(path))[1:-1] for path in paths[:3]]  # no control characters
        more = ", ..." if len(paths) > 3 else ""
        parts.append(f"{len(paths)} × {reason} ({', '.join(names)}{more})")
    return ", ".join(parts)
