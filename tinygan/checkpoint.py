"""Saving and loading: one `.npz` of plain arrays and a line of JSON, no pickle, so that opening a
stranger's file runs nothing.

An .npz file is a zip archive of .npy files, each a header (type and shape as text) and the numbers.
A stranger's file is believed in nothing: the headers are read first, and what cannot be right is
refused before memory is spent on it. Members must be stored as they are, so that a small file
cannot unfold to a large one.
"""

import contextlib
import io
import json
import math
import zipfile

import numpy as np

from .files import require_regular, write_atomically
from .watch import Diverged

__all__ = ["CheckpointError", "headers", "load", "save", "write_atomically"]

FORMAT = "tinygan 2"
MEMBERS = 2000              # of one file
DIRECTORY = 1 << 20         # bytes of the list of members
HEADER = 200                # bytes of a .npy header
TEXT = 1 << 23              # bytes of a text
COUNT = 10 ** 12            # what no count of steps reaches


class CheckpointError(ValueError):
    """A file that is missing, damaged, foreign, or made for other networks; the message says which
    file and what is wrong."""


@contextlib.contextmanager
def refused(path, expected):
    """Turn whatever a damaged or foreign file can raise into one line that names it."""
    try:
        yield
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except Exception as e:      # zipfile, NumPy's and JSON's parsers and Pillow raise anything
        reason = f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
        raise CheckpointError(f"{path}: not {expected}, or damaged ({reason})") from None


def save(path, parts, info):
    """Write {part: {name: array}} and `info` (anything JSON can hold) to one .npz file.

    Raises `Diverged`, and leaves the file that is there, if an array holds a NaN or infinity: the
    last good checkpoint stays.
    """
    arrays = {f"{part}/{name}": np.asarray(a)
              for part, state in parts.items() for name, a in state.items()}
    for name, a in arrays.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise Diverged(f"not saving {path}: {name} holds NaN or infinity; try a smaller "
                           "learning rate")
    arrays["info"] = np.array(json.dumps({"format": FORMAT, **info}))
    write_atomically(path, lambda file: np.savez(file, **arrays))


class _Slow(io.BufferedReader):
    """A file that gives a limited number of bytes at once. zipfile asks for the list of members in
    one go, however long it claims to be."""

    def read(self, size=-1):
        return super().read(min(size, DIRECTORY) if size >= 0 else DIRECTORY)


@contextlib.contextmanager
def _opened(path):
    """A file made by `save`, as (zip archive, {"part/name": (shape, type)}, info)."""
    with refused(path, "a tinygan checkpoint"):
        require_regular(path)
        with _Slow(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            size = file.seek(0, io.SEEK_END)
            if len(members) > MEMBERS or sum(m.file_size for m in members) > size:
                raise ValueError(f"{len(members)} members of more bytes than the file has")
            found = {m.filename.removesuffix(".npy"): _header(archive, m) for m in members}
            shape, kind = found.pop("info")
            if shape != () or kind.kind != "U":
                raise ValueError("its info is not a text")
            info = json.loads(str(_array(archive, "info")))
            if info["format"] != FORMAT:
                advice = ("; it is of an older tinygan, so train this run again (--force)"
                          if info["format"] == "tinygan 1" else "")
                raise CheckpointError(f"{path}: expected format {FORMAT!r}, "
                                      f"found {str(info['format'])[:60]!r}{advice}")
            yield archive, found, info


def _header(archive, member):
    """(shape, type) of the array in a member of a zip archive."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("its members are compressed; save with np.savez, "
                         "not with np.savez_compressed")
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("a member that np.savez does not write")
        shape, _, kind = np.lib.format.read_array_header_1_0(file, max_header_size=HEADER)
        size = file.tell() + math.prod(shape) * kind.itemsize
    if kind.kind not in "fiubU" or kind.kind == "U" and size > TEXT:
        raise ValueError(f"an array of type {kind}")
    if size != member.file_size or not member.filename.isprintable():
        raise ValueError(f"{member.filename[:60]!r} has a shape {shape} of {kind} "
                         f"in {member.file_size} bytes")
    return shape, kind


def _array(archive, name):
    """One array. Numbers that are not finite and counts below 0 are refused."""
    with archive.open(name + ".npy") as file:
        a = np.lib.format.read_array(file, allow_pickle=False)
    if a.dtype.kind == "f" and not np.isfinite(a).all():
        raise ValueError(f"{name} holds NaN or infinity")
    if a.dtype.kind in "iu" and a.ndim == 0 and not 0 <= a <= COUNT:
        raise ValueError(f"{name} is {a}, expected a count of 0 to {COUNT:,}")
    return a


def headers(path):
    """({"part/name": (shape, type)}, info) of a file made by `save`, of which no array is read.
    Raises `CheckpointError`."""
    with _opened(path) as (_, found, info):
        return found, info


def load(path, like=None):
    """Read a file made by `save`: ({part: {name: array}}, info). Raises `CheckpointError`.

    like: None, or a state {part: {name: array}}. Names, shapes and types must be those of this
    state, and nothing is read unless all of them are; only a run's pictures may be there, too.
    """
    with _opened(path) as (archive, found, info):
        problem = _difference(found, like) if like is not None else None
        if problem:
            raise CheckpointError(f"{path}: made for other networks: {problem}")
        parts = {}
        for name in found:
            part, _, key = name.partition("/")
            parts.setdefault(part, {})[key] = _array(archive, name)
        return parts, info


def _difference(found, like):
    """What tells the headers of a file from a state, or None. Texts may have any length."""
    wanted = {f"{part}/{name}": a for part, state in like.items() for name, a in state.items()}
    missing = sorted(wanted.keys() - found)
    unexpected = sorted(name for name in found.keys() - wanted if not name.startswith("frames/"))
    if missing or unexpected:
        return f"missing {missing[:10]}, unexpected {[name[:60] for name in unexpected[:10]]}"
    for name, a in wanted.items():
        shape, kind = found[name]
        if shape != a.shape:
            return f"{name} has shape {shape}, expected {a.shape}"
        if kind != a.dtype and not kind.kind == a.dtype.kind == "U":
            return f"{name} is of type {kind}, expected {a.dtype}"
    return None
