"""Saving and loading: one `.npz` of plain arrays and a line of JSON, no pickle, so that opening a stranger's file runs nothing.

A file is replaced as a whole or not at all: it is written beside its place, flushed to the disk and then renamed.
"""

import json
import os
import tempfile
import zipfile
import zlib

import numpy as np

FORMAT = "tinygan 1"


class CheckpointError(ValueError):
    """A file that is missing, damaged, foreign, or made for other networks; the message says which file and what is wrong."""


def write_atomically(path, write):
    """Call write(file) on a temporary file in the same folder, then rename it to `path`: old file or new, never half."""
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)                     # the rename itself reaches the disk
    finally:
        os.close(directory)


def _umask():
    """The process's file mode mask, which mkstemp ignores."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save(path, parts, info):
    """Write {part: {name: array}} and `info` (anything JSON can hold) to one .npz file.

    Raises ValueError, and leaves the file that is there, if an array holds a NaN or infinity: the last good checkpoint stays.
    """
    arrays = {f"{part}/{name}": a for part, state in parts.items() for name, a in state.items()}
    for name, a in arrays.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise ValueError(f"not saving {path}: {name} holds NaN or infinity")
    arrays["info"] = np.array(json.dumps({"format": FORMAT, **info}))
    write_atomically(path, lambda file: np.savez(file, **arrays))


def load(path):
    """Read a file made by `save`: ({part: {name: array}}, info). Raises `CheckpointError`."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        info = json.loads(str(arrays.pop("info")))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error,
            NotImplementedError, RuntimeError, MemoryError, SyntaxError) as e:     # what a damaged or foreign file can raise
        raise CheckpointError(f"{path}: not a tinygan checkpoint, or damaged ({type(e).__name__}: {e})") from None
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected format {FORMAT!r}, "
                              f"found {info.get('format') if isinstance(info, dict) else info!r}")
    parts = {}
    for name, a in arrays.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, {})[key] = a
    return parts, info


def restore(path, parts, target):
    """Hand the parts of a loaded checkpoint to an object with `load_state_dict`, such as a GAN, or raise `CheckpointError`."""
    try:
        target.load_state_dict(parts)
    except (ValueError, TypeError, KeyError) as e:
        raise CheckpointError(f"{path}: {e}") from None
