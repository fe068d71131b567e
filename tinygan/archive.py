"""Reading the `.npz` file of a stranger: nothing is believed, and what cannot be right is refused
before memory is spent on it.

An .npz file is a zip archive of .npy files. `np.savez` lays it out in the simplest way:

    member 0 | member 1 | ... | directory: one entry per member | end: where the directory is

and each member is a local header, a .npy header (type and shape as text) and the numbers. Only this
layout is read: members stored as they are, one after the other, without gaps, comments or
encryption. So a small file cannot unfold to a large one.
"""

import math
import os
import re
import struct
import zlib
from typing import NamedTuple

import numpy as np

from .files import open_regular

END = struct.Struct("<4s4H2IH")             # of the archive
ENTRY = struct.Struct("<4s6H3I5H2I")        # of the directory
LOCAL = struct.Struct("<4s5H3I2H")          # header of a member
MEMBERS = 10_000
TEXT = 1 << 23                              # bytes of one text
NPY = re.compile(rb"\{'descr': '([<>|][fiubU]\d{1,9})', 'fortran_order': (True|False), "
                 rb"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n")


class Member(NamedTuple):
    """One array of an archive: its type and shape, and where its bytes are."""

    dtype: np.dtype
    shape: tuple
    order: str
    start: int
    size: int
    header: bytes
    crc: int


class Archive:
    """An open .npz file. `members` {name: Member} comes from the headers; `read(name)` reads one
    array. Close it, or use `with`.

    Raises ValueError for everything that `np.savez` does not write, OSError if the file cannot be
    read.
    """

    def __init__(self, path):
        self.file = open_regular(path)
        try:
            self.size = os.fstat(self.file.fileno()).st_size
            self.members = {}
            position = 0
            count, directory, start = self._directory()
            for _ in range(count):
                name, member, directory, position = self._member(directory, position)
                if name in self.members:
                    raise ValueError(f"two members are called {name}")
                self.members[name] = member
            if directory or position != start:
                raise ValueError("the directory does not match the members")
        except BaseException:
            self.file.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def _bytes(self, start, size):
        """So many bytes from this place on; ValueError where the file ends before."""
        if start < 0 or start + size > self.size:
            raise ValueError("the file is cut")
        self.file.seek(start)
        raw = self.file.read(size)
        if len(raw) != size:
            raise ValueError("the file is cut")
        return raw

    def _directory(self):
        """(number of members, the directory's bytes, where it starts)"""
        end = self._bytes(self.size - END.size, END.size)
        kind, disk, first, here, count, size, start, comment = END.unpack(end)
        whole = start + size + END.size == self.size and here == count
        if kind != b"PK\5\6" or disk or first or comment or not whole:
            raise ValueError("no zip archive ends here")
        if not 0 < count <= MEMBERS or size > 1000 * count:
            raise ValueError(f"{count} members with a directory of {size} bytes")
        return count, self._bytes(start, size), start

    def _member(self, directory, position):
        """The first entry of the directory, whose member must start at `position`: (name, Member,
        other entries, its end)."""
        if len(directory) < ENTRY.size:
            raise ValueError("the directory is cut")
        (kind, _, _, flags, method, _, _, crc, packed, size, length, extra, comment, disk, _, _,
         start) = ENTRY.unpack_from(directory)
        name = directory[ENTRY.size:ENTRY.size + length]
        if method:
            raise ValueError("its members are compressed; save with np.savez, "
                             "not with np.savez_compressed")
        plain = not (flags & ~0x800 or extra or comment or disk)
        if kind != b"PK\1\2" or not plain or packed != size or start != position:
            raise ValueError("a member that np.savez does not write")
        if not name.endswith(b".npy") or not name.decode("utf-8").isprintable():
            raise ValueError(f"a member called {name[:60]!r}")
        start = self._local_header(position, name, flags, crc, size)
        return (name.decode("utf-8").removesuffix(".npy"), self._array(start, size, crc),
                directory[ENTRY.size + length:], start + size)

    def _local_header(self, position, name, flags, crc, size):
        """Check that a member's own header agrees with the directory. Returns where its contents
        start."""
        header = self._bytes(position, LOCAL.size)
        kind, _, found, method, _, _, check, packed, whole, length, extra = LOCAL.unpack(header)
        rest = self._bytes(position + LOCAL.size, length + extra)
        if extra == 20:                 # sizes of 64 bits, which np.savez always writes here
            number, length_, whole, packed = struct.unpack("<HHQQ", rest[length:])
            extra = 0 if (number, length_) == (1, 16) else extra
        expected = (b"PK\3\4", flags, 0, crc, size, size, name, 0)
        if (kind, found, method, check, packed, whole, rest[:length], extra) != expected:
            raise ValueError(f"the header of {name[:60]!r} differs from the directory")
        return position + LOCAL.size + len(rest)

    def _array(self, start, size, crc):
        """The Member whose .npy file has these bytes."""
        magic = self._bytes(start, min(size, 10))
        if len(magic) < 10 or magic[:8] != b"\x93NUMPY\1\0":
            raise ValueError("a member that is no .npy file of version 1")
        length = int.from_bytes(magic[8:], "little")
        header = magic + self._bytes(start + 10, min(length, size - 10))
        found = NPY.fullmatch(header[10:]) if length < 2000 else None
        if found is None:
            raise ValueError("a .npy header that np.save does not write for plain numbers or text")
        try:
            dtype = np.dtype(found[1].decode())
        except TypeError:
            raise ValueError(f"numbers of type {found[1][:20]!r}") from None
        shape = tuple(int(n) for n in found[3].replace(b",", b" ").split())
        if len(shape) > 8 or math.prod(shape) * dtype.itemsize != size - len(header):
            raise ValueError(f"a shape {shape} of {dtype} in {size - len(header)} bytes")
        if dtype.kind == "U" and size > TEXT:
            raise ValueError(f"a text of {size:,} bytes")
        order = "F" if found[2] == b"True" else "C"
        return Member(dtype, shape, order, start + len(header), size - len(header), header, crc)

    def read(self, name):
        """The array of this name; ValueError if its bytes are not those that were written."""
        m = self.members[name]
        raw = bytearray(m.size)
        self.file.seek(m.start)
        if self.file.readinto(raw) != m.size or zlib.crc32(raw, zlib.crc32(m.header)) != m.crc:
            raise ValueError(f"the contents of {name} are damaged (CRC-32)")
        return np.frombuffer(raw, m.dtype).reshape(m.shape, order=m.order)
