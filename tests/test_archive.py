"""Hostile .npz files: each is refused from its headers, with one error and little memory; what np.savez writes is read."""

import io
import os
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from tinygan.archive import Archive

ARRAYS = {
    "net/0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "turned": np.asfortranarray(np.arange(6.).reshape(2, 3)),
    "none": np.zeros((0, 4)), "count": np.array(7), "yes": np.array([True, False]), "text": np.array("some text"),
    "bytes": np.arange(5, dtype=np.uint8), "größe": np.float16([1.5]),
}


def npy(array=None, header=None, data=b"", magic=b"\x93NUMPY\1\0"):
    """A .npy file: of an array, or with any header."""
    if array is not None:
        file = io.BytesIO()
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
        return file.getvalue()
    return magic + struct.pack("<H", len(header)) + header + data


def header(descr="'<f4'", order="False", shape="(2,)"):
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    return text.encode().ljust(117) + b"\n"


def zipped(members, method=0, flags=0, comment=b"", between=b"", before=b"", extra=b"", entry_comment=b"", count=None,
           size=None, offset=None, shift=0, names=None):
    """A zip archive of (name, contents) pairs, with one thing or another wrong."""
    out, directory = io.BytesIO(), b""
    out.write(before)
    for i, (name, contents) in enumerate(members):
        start = out.tell() if offset is None else offset
        name, crc = name.encode(), zlib.crc32(contents)
        inner = names[i].encode() if names else name
        packed = zlib.compress(contents)[2:-4] if method == 8 else contents
        sizes = (crc, len(packed), len(contents) if size is None else size)
        out.write(struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, method, 0, 33, *sizes, len(inner), 0) + inner + packed + between)
        directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, flags, method, 0, 33, *sizes, len(name), len(extra),
                                 len(entry_comment), 0, 0, 0, start) + name + extra + entry_comment
    count = len(members) if count is None else count
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), out.tell() + shift, len(comment))
    return out.getvalue() + directory + end + comment


GOOD = [("a.npy", npy(np.zeros(2, np.float32))), ("b.npy", npy(np.ones(3)))]
ONE = npy(header=header(), data=bytes(8))


def one(contents):
    return zipped([("a.npy", contents)])


def savez(function=np.savez, **arrays):
    file = io.BytesIO()
    function(file, **arrays)
    return file.getvalue()


HOSTILE = {
    "nothing": b"", "an end only": zipped([]), "text": b"PK and so on" * 10,
    "compressed": savez(np.savez_compressed, a=np.zeros(10 ** 6)), "a bomb": zipped([("a.npy", bytes(10 ** 7))], method=8),
    "another method": zipped(GOOD, method=99), "encrypted": zipped(GOOD, flags=1), "sizes after the data": zipped(GOOD, flags=8),
    "a comment": zipped(GOOD, comment=b"x" * 1000), "a comment of an entry": zipped(GOOD, entry_comment=b"x"),
    "an extra field": zipped(GOOD, extra=b"\1\0\4\0abcd"), "bytes before": zipped(GOOD, before=b"#!/bin/sh\n"),
    "bytes between": zipped(GOOD, between=b"x"), "too many claimed": zipped(GOOD, count=60000), "too few": zipped(GOOD, count=1),
    "overlapping": zipped(GOOD, offset=0), "a directory elsewhere": zipped(GOOD, shift=5), "another size": zipped(GOOD, size=5),
    "a huge size": zipped(GOOD, size=2 ** 32 - 1), "the same name twice": zipped([GOOD[0], GOOD[0]]),
    "another name inside": zipped(GOOD, names=["x.npy", "b.npy"]), "no .npy name": zipped([("a.py", ONE)]),
    "a name with a line break": zipped([("a\n.npy", ONE)]), "one that np.load would unpickle": savez(a=np.array([print])),
    "no .npy": one(b"hello world, hello world"), "a cut .npy": one(b"\x93NUM"), "an empty member": one(b""),
    "version 2": one(npy(header=header(), magic=b"\x93NUMPY\2\0", data=bytes(8))),
    "a cut header": one(npy(header=b"{'descr': '<f4'")), "too little data": one(npy(header=header(), data=bytes(4))),
    "too much data": one(npy(header=header(), data=bytes(12))), "no data": one(npy(header=header(shape="(1000000000,)"))),
    "a shape that overflows": one(npy(header=header(shape="(4294967296, 4294967296)"))),
    "a negative shape": one(npy(header=header(shape="(-2,)"), data=bytes(8))),
    "a shape that is no tuple": one(npy(header=header(shape="2"), data=bytes(8))),
    "many axes": one(npy(header=header(shape="(" + "1, " * 9 + ")"), data=bytes(4))),
    "true for a number": one(npy(header=header(shape="(True, 2)"), data=bytes(8))),
    "brackets": one(npy(header=b"(" * 60000)), "an open string": one(npy(header=header(descr="'''"))),
    "bytes that are no text": one(npy(header=b"\xff" * 118)), "code": one(npy(header=header(descr="__import__('os')"))),
    "complex": savez(a=np.zeros(2, complex)), "bytes": savez(a=np.array(b"text")), "dates": savez(a=np.zeros(2, "M8[s]")),
    "a struct": savez(a=np.zeros(2, "i4,f4")), "f4 of five bytes": one(npy(header=header(descr="'<f5'"), data=bytes(10))),
    "a long text": savez(a=np.array("x" * 3_000_000)),
}


def test_what_numpy_writes_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    with Archive(tmp_path / "a.npz") as archive:
        assert list(archive.members) == list(ARRAYS)
        for name, a in ARRAYS.items():
            found = archive.read(name)
            np.testing.assert_array_equal(found, a)
            assert found.dtype == a.dtype and found.flags.writeable


def test_the_builder_of_this_file_makes_good_archives(tmp_path):
    (tmp_path / "a.npz").write_bytes(zipped(GOOD))
    with Archive(tmp_path / "a.npz") as archive, np.load(tmp_path / "a.npz") as file:
        for name in "ab":
            np.testing.assert_array_equal(archive.read(name), file[name])


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_one_error_and_no_memory(tmp_path, raw):
    (tmp_path / "a.npz").write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as error:
            Archive(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert type(error.value) in (ValueError, UnicodeDecodeError) and len(str(error.value)) < 500


def test_compressed_files_are_refused_with_the_way_out(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **ARRAYS)
    with pytest.raises(ValueError, match=r"save with np\.savez, not with np\.savez_compressed"):
        Archive(tmp_path / "a.npz")


def test_zip64_is_read_where_savez_writes_it_and_nowhere_else(tmp_path):
    """np.savez gives every member's own header sizes of 64 bits; zipfile does not unless told to."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("a.npy", npy(np.zeros(3)))
    with Archive(tmp_path / "a.npz") as archive:
        np.testing.assert_array_equal(archive.read("a"), np.zeros(3))
    np.savez(tmp_path / "b.npz", a=np.zeros(3))
    raw = (tmp_path / "b.npz").read_bytes()
    at = raw.index(struct.pack("<HH", 1, 16))                   # the extra field: its id, its length
    (tmp_path / "b.npz").write_bytes(raw[:at + 4] + b"\xff" * 8 + raw[at + 12:])
    with pytest.raises(ValueError, match="differs from the directory"):
        Archive(tmp_path / "b.npz")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
def test_what_is_no_regular_file_is_not_even_opened(tmp_path, kind):
    path = tmp_path / "a.npz"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path)
    with pytest.raises(OSError if kind == "loop" else ValueError, match=None if kind == "loop" else "not a regular file"):
        Archive(path)


def test_damage_in_the_numbers_is_found_when_they_are_read(tmp_path):
    raw = bytearray(zipped(GOOD))
    raw[raw.index(np.ones(3).tobytes()) + 3] ^= 1
    (tmp_path / "a.npz").write_bytes(raw)
    with Archive(tmp_path / "a.npz") as archive:
        archive.read("a")
        with pytest.raises(ValueError, match=r"b are damaged \(CRC-32\)"):
            archive.read("b")
