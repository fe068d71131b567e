"""Saving and loading: one `.npz` of plain arrays and a line of JSON, no pickle, so that opening a
stranger's file runs nothing.

An .npz file is a zip archive of .npy files, which holds a check sum of each: damage is noticed.
Compressed members are refused, as a small file of them can unfold to a large one.
"""

import contextlib
import json
import os

import numpy as np

from .files import require_regular, write_atomically
from .watch import Diverged

__all__ = ["CheckpointError", "load", "save", "write_atomically"]

FORMAT = "tinygan 2"


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


def load(path):
    """Read a file made by `save`: ({part: {name: array}}, info). Raises `CheckpointError`."""
    with refused(path, "a tinygan checkpoint"):
        require_regular(path)
        with np.load(path, allow_pickle=False) as file:
            if sum(member.file_size for member in file.zip.infolist()) > os.path.getsize(path):
                raise ValueError("its members are compressed; save with np.savez, "
                                 "not with np.savez_compressed")
            arrays = {name: file[name] for name in file}
        info, parts = json.loads(str(arrays.pop("info"))), {}
        if info["format"] != FORMAT:
            raise CheckpointError(f"{path}: expected format {FORMAT!r}, found "
                                  f"{str(info['format'])[:60]!r}, of another version of tinygan")
        for name, a in arrays.items():
            part, _, key = name.partition("/")
            parts.setdefault(part, {})[key] = a
        return parts, info
