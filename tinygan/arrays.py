"""An array of one's own from a .npy or .npz file, read without trusting the file.

No pickle is opened, so a stranger's file runs nothing. Shape and type are read from the header and
compared with the size of the file before anything is allocated.
"""

import math
import os
import stat
import zipfile

import numpy as np

RATIO, FREE = 100, 2 ** 26          # an archive may unpack to 64 MB, or to 100 times its size


def read(path):
    """(x, labels) from a file. A .npy file is x, without labels; a .npz file may hold both.

    In a .npz file x is the array called x or images, else the only one besides the labels. Labels
    are called labels or y. Raises ValueError for every file that is missing, damaged or not of this
    kind.
    """
    try:
        info = os.stat(path)                                    # a FIFO would block for ever
        if not stat.S_ISREG(info.st_mode):
            raise ValueError(f"{path}: not a regular file")
        with open(path, "rb") as file:
            if str(path).lower().endswith(".npy"):
                return _array(file, info.st_size, path), None
            return _archive(file, info.st_size, path)
    except OSError as e:
        raise ValueError(f"{path}: cannot be read ({e.strerror or e})") from None


def _array(file, size, who):
    """The array in an open .npy file of this size, if its header is honest."""
    try:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0,
                  (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = header(file)
        expected, found = math.prod(shape) * dtype.itemsize, size - file.tell()
        pickled = dtype.hasobject
    except MemoryError:
        raise
    except Exception as e:                                      # damaged headers raise anything
        raise ValueError(f"{who}: no array of NumPy's, or damaged ({type(e).__name__})") from None
    if pickled:
        raise ValueError(f"{who}: an array of Python objects, which only pickle could read; "
                         "save one of numbers, such as np.save(path, x.astype('float32'))")
    if min(shape, default=0) < 0 or expected != found:
        raise ValueError(f"{who}: damaged, {dtype} of shape {shape} needs {expected} bytes, "
                         f"found {found}")
    return np.ndarray(shape, dtype, file.read(expected), order="F" if fortran else "C")


def _archive(file, size, path):
    """(x, labels) from an open .npz file of this size."""
    try:
        archive = zipfile.ZipFile(file)
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}

        def member(name):
            m, who = members[name], f"{path}, {name}"
            if m.file_size > RATIO * size + FREE:
                raise ValueError(f"{who}: would unpack {m.file_size} bytes from a file of {size}; "
                                 "if that is right, save it unpacked, with np.savez")
            with archive.open(m) as stream:
                return _array(stream, m.file_size, who)
        labels = next((name for name in ("labels", "y") if name in members), None)
        rest = [name for name in members if name != labels]
        x = next((name for name in ("x", "images") if name in members), None)
        if x is None and len(rest) == 1:
            x = rest[0]
        if x is None:
            raise ValueError(f"{path}: which array is the data? Call it x; found "
                             f"{', '.join(members) or 'none'}")
        return member(x), labels and member(labels)
    except (ValueError, MemoryError):
        raise
    except Exception as e:                                      # damaged archives raise anything
        raise ValueError(f"{path}: no .npz file, or damaged ({type(e).__name__}: {e})") from None
