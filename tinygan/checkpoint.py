"""Saving and loading: one `.npz` of plain arrays and a line of JSON, no pickle, so that opening a
stranger's file runs nothing.

A file is replaced as a whole or not at all (files.py), and refused from its headers if it cannot be
right (archive.py).
"""

import contextlib
import json

import numpy as np

from .archive import Archive
from .files import write_atomically

__all__ = ["Checkpoint", "CheckpointError", "load", "restore", "save", "write_atomically"]

FORMAT = "tinygan 2"
MOST = 10 ** 12             # what no count of steps reaches
FOREIGN = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
           RecursionError, MemoryError)         # what a damaged or foreign file can raise


class CheckpointError(ValueError):
    """A file that is missing, damaged, foreign, or made for other networks; the message says which
    file and what is wrong."""


class NotFinite(ValueError):
    """Weights that hold a NaN or infinity, and are therefore not saved."""


def reason(error):
    """An exception as part of a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextlib.contextmanager
def _naming(path):
    """Turn whatever a foreign file can raise into one line that names it."""
    try:
        yield
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except FOREIGN as e:
        problem = f"not a tinygan checkpoint, or damaged ({reason(e)})"
        raise CheckpointError(f"{path}: {problem}") from None


def save(path, parts, info):
    """Write {part: {name: array}} and `info` (anything JSON can hold) to one .npz file.

    Raises `NotFinite`, and leaves the file that is there, if an array holds a NaN or infinity: the
    last good checkpoint stays.
    """
    arrays = {f"{part}/{name}": np.asarray(a)
              for part, state in parts.items() for name, a in state.items()}
    for name, a in arrays.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise NotFinite(f"not saving {path}: {name} holds NaN or infinity")
    arrays["info"] = np.array(json.dumps({"format": FORMAT, **info}))
    write_atomically(path, lambda file: np.savez(file, **arrays))


class Checkpoint:
    """A file made by `save`, open for reading, of which only the headers and `info` are read at
    first. Use it with `with`.

    `shapes` is {part: {name: shape}}, `size` the length of the file. Everything here raises
    `CheckpointError`.
    """

    def __init__(self, path):
        self.path = path
        with _naming(path):
            self.archive = Archive(path)
        try:
            with _naming(path):
                self._read_info()
        except CheckpointError:
            self.archive.file.close()
            raise

    def _read_info(self):
        members, self.size = dict(self.archive.members), self.archive.size
        if "info" not in members or members.pop("info").dtype.kind != "U":
            raise ValueError("it has no text called info")
        self.info = json.loads(str(self.archive.read("info")))
        found = self.info.get("format") if isinstance(self.info, dict) else self.info
        if found != FORMAT:
            advice = ("; it is of an older tinygan, so train this run again (--force)"
                      if found == "tinygan 1" else "")
            raise CheckpointError(f"{self.path}: expected format {FORMAT!r}, "
                                  f"found {str(found)[:60]!r}{advice}")
        self.shapes, self.dtypes = {}, {}
        for name, member in members.items():
            part, _, key = name.partition("/")
            self.shapes.setdefault(part, {})[key] = member.shape
            self.dtypes.setdefault(part, {})[key] = member.dtype

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.archive.file.close()

    def parts(self):
        """All arrays: {part: {name: array}}. Numbers that are not finite and counts below 0 are
        refused."""
        parts = {}
        with _naming(self.path):
            for part, shapes in self.shapes.items():
                parts[part] = {key: self._array(f"{part}/{key}") for key in shapes}
        return parts

    def _array(self, name):
        a = self.archive.read(name)
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise ValueError(f"{name} holds NaN or infinity")
        if a.dtype.kind in "iu" and a.ndim == 0 and not 0 <= a <= MOST:
            raise ValueError(f"{name} is {a}, expected a count of 0 to {MOST:,}")
        return a

    def restore(self, target):
        """Hand the contents to an object with `state_dict` and `load_state_dict`, such as a GAN.

        Names, shapes and types are compared first; nothing is read unless all of them fit.
        """
        wanted = target.state_dict()
        if self.shapes.keys() != wanted.keys():
            raise CheckpointError(f"{self.path}: expected the parts {sorted(wanted)}, "
                                  f"found {sorted(self.shapes)[:20]}")
        for part, state in wanted.items():
            problem = _difference(state, self.shapes[part], self.dtypes[part])
            if problem:
                raise CheckpointError(f"{self.path}: part {part!r} does not fit: {problem}")
        restore(self.path, self.parts(), target)


def _difference(state, shapes, dtypes):
    """What tells the arrays of a state from the shapes and types of a part, or None. Texts may have
    any length."""
    missing, unexpected = sorted(state.keys() - shapes.keys()), sorted(shapes.keys() - state.keys())
    if missing or unexpected:
        return f"missing {missing[:10]}, unexpected {[name[:60] for name in unexpected[:10]]}"
    for name, a in state.items():
        if shapes[name] != a.shape:
            return f"{name} has shape {shapes[name]}, expected {a.shape}"
        if dtypes[name] != a.dtype and not dtypes[name].kind == a.dtype.kind == "U":
            return f"{name} is of type {dtypes[name]}, expected {a.dtype}"
    return None


def load(path):
    """Read a file made by `save`: ({part: {name: array}}, info). Raises `CheckpointError`."""
    with Checkpoint(path) as file:
        return file.parts(), file.info


def restore(path, parts, target):
    """Hand the parts of a loaded checkpoint to an object with `load_state_dict`, such as a GAN, or
    raise `CheckpointError`."""
    try:
        target.load_state_dict(parts)
    except FOREIGN as e:
        raise CheckpointError(f"{path}: {' '.join(str(e).split())[:300]}") from None
