"""Checkpoints: what was saved comes back, nothing else is believed, and a file is replaced as a whole or not at all."""

import io
import json
import os
import pickle
import stat
import struct
import sys
import zlib

import numpy as np
import pytest

from tinygan import checkpoint, models, nn
from tinygan.checkpoint import CheckpointError
from tinygan.optim import Adam
from tinygan.watch import Diverged

PARTS = {"net": {"0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "0.bias": np.zeros(3, np.float32)},
         "opt": {"steps": np.array(7), "0": np.ones((2, 3), np.float64)}}
INFO = {"step": 7, "log": [{"step": 1, "d_loss": 0.5}], "streams": {"batch": {"state": 2 ** 127 + 1}}}


@pytest.fixture
def path(tmp_path):
    """A good checkpoint."""
    checkpoint.save(tmp_path / "weights.npz", PARTS, INFO)
    return tmp_path / "weights.npz"


def assert_same(parts, expected):
    assert parts.keys() == expected.keys()
    for part, state in expected.items():
        assert parts[part].keys() == state.keys()
        for name, a in state.items():
            np.testing.assert_array_equal(parts[part][name], a)
            assert parts[part][name].dtype == a.dtype


class Several:
    """Some objects with a state, as one: what a GAN is to a checkpoint."""

    def __init__(self, **parts):
        self.parts = parts

    def state_dict(self):
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state):
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def test_what_was_saved_comes_back(path):
    parts, info = checkpoint.load(path)
    assert_same(parts, PARTS)
    assert {k: info[k] for k in INFO} == INFO


def test_a_network_and_its_optimiser_come_back(path):
    net, other = models.mlp_generator(3, hidden=(4,)), models.mlp_generator(3, hidden=(4,))
    opt, again = Adam(net.parameters()), Adam(other.parameters())
    opt.step([np.ones(p.shape, np.float32) for p in opt.params])
    checkpoint.save(path, {"net": net.state_dict(), "opt": opt.state_dict()}, {})
    parts, _ = checkpoint.load(str(path))
    Several(net=other, opt=again).load_state_dict(parts)
    assert_same(
        {"net": other.state_dict(), "opt": again.state_dict()}, {"net": net.state_dict(), "opt": opt.state_dict()}
    )


def test_the_file_holds_plain_arrays_that_numpy_alone_can_read(path):
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["net/0.weight"], PARTS["net"]["0.weight"])


def test_a_new_file_has_the_usual_permissions(path):
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


# ---- what is not believed ---------------------------------------------------------------------------------

class Bomb:
    """Unpickling this would run code."""

    def __reduce__(self):
        return (sys.exit, ("code from a checkpoint was run",))


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def objects():
    """An .npz with a pickled object in it."""
    return npz(**{"net/0.weight": np.array([Bomb()], dtype=object), "info": np.array('{"format": "tinygan 1"}')})


FOREIGN = {
    "empty": b"", "two bytes": b"PK", "text": b"hello", "a cut .npy": b"\x93NUMPY", "pickle": pickle.dumps(Bomb()),
    "noise": np.random.default_rng(0).bytes(1000), "object array": objects(), "no info": npz(a=np.zeros(3)),
    "info of numbers": npz(info=np.zeros(3)), "half of JSON": npz(info=np.array("{")),
    "a list": npz(info=np.array("[1]")), "no format": npz(info=np.array("{}")),
    "another format": npz(info=np.array('{"format": "tinygan 9"}')),
}


@pytest.mark.parametrize("contents", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_one_error_that_names_it(path, contents):
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=r"weights\.npz: ") as error:
        checkpoint.load(path)
    assert "\n" not in str(error.value)


def test_a_plain_npy_file_is_foreign(path):
    np.save(path.with_name("a.npy"), np.zeros(3))
    with pytest.raises(CheckpointError, match=r"a\.npy: not a tinygan checkpoint"):
        checkpoint.load(path.with_name("a.npy"))


def test_a_missing_file_and_a_folder(path):
    with pytest.raises(CheckpointError, match=r"none\.npz: no such file"):
        checkpoint.load(path.with_name("none.npz"))
    with pytest.raises(CheckpointError, match="not a regular file"):
        checkpoint.load(path.parent)


def test_every_truncation_is_noticed(path):
    whole = path.read_bytes()
    for n in range(0, len(whole), 13):
        path.write_bytes(whole[:n])
        with pytest.raises(CheckpointError, match=r"weights\.npz: "):
            checkpoint.load(path)


def test_no_flipped_bit_changes_a_number_unnoticed(path):
    """Every third byte: an error, or (in the archive's dates and the like) the very same contents."""
    whole = bytearray(path.read_bytes())
    rng, errors = np.random.default_rng(0), 0
    for i in range(0, len(whole), 3):
        bit = 1 << int(rng.integers(8))
        whole[i] ^= bit
        path.write_bytes(whole)
        try:
            parts, info = checkpoint.load(path)
        except CheckpointError as e:
            errors += 1
            assert "weights.npz: " in str(e)
        else:
            assert_same(parts, PARTS)
            assert {k: info[k] for k in INFO} == INFO
        whole[i] ^= bit
    assert errors > len(whole) / 6


# ---- restoring --------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda p: p.pop("b"), r"missing \['b/bias', 'b/weight'\], unexpected \[\]"),
        (lambda p: p.update(c={"x": np.zeros(1)}), r"missing \[\], unexpected \['c/x'\]"),
        (lambda p: p["b"].pop("bias"), r"missing \['b/bias'\]"),
        (lambda p: p["b"].update(more=np.zeros(1)), r"missing \[\], unexpected \['b/more'\]"),
        (
            lambda p: p["b"].update(weight=np.zeros((9, 9), np.float32)),
            r"b/weight has shape \(9, 9\), expected \(2, 1\)",
        ),
        (lambda p: p["b"].update(bias=np.array(["text"])), r"b/bias is of type <U4, expected float32"),
        (lambda p: p["b"].update(bias=np.zeros(1)), r"b/bias is of type float64, expected float32"),
    ],
)
def test_restoring_is_all_or_nothing_over_all_parts(path, spoil, message):
    a, b = nn.Linear(2, 3), nn.Linear(2, 1)
    before = {"a": a.state_dict(), "b": b.state_dict()}
    parts = {k: {n: v + 1 for n, v in state.items()} for k, state in before.items()}
    spoil(parts)
    checkpoint.save(path, parts, {})
    with pytest.raises(CheckpointError, match=r"weights\.npz: made for other networks: " + message):
        checkpoint.load(path, {"a": a.state_dict(), "b": b.state_dict()})
    assert_same({"a": a.state_dict(), "b": b.state_dict()}, before)


# ---- writing ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_and_the_old_file_stays(path, bad):
    before = path.read_bytes()
    broken = {"net": {"0.weight": np.array([1.0, bad])}}
    with pytest.raises(Diverged, match=r"not saving .*weights\.npz: net/0\.weight holds NaN or infinity"):
        checkpoint.save(path, broken, {})
    assert path.read_bytes() == before and os.listdir(path.parent) == ["weights.npz"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_halfway_leaves_the_old_file_and_nothing_else(path, error):
    def write(file):
        file.write(b"half of the n")
        raise error

    before = path.read_bytes()
    with pytest.raises(type(error)):
        checkpoint.write_atomically(path, write)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["weights.npz"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_at_the_end_leaves_the_old_file_and_nothing_else(path, step, monkeypatch):
    def fail(*args):
        raise OSError(5, "Input/output error")

    before = path.read_bytes()
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="Input/output"):
        checkpoint.save(path, {"net": {"a": np.zeros(3)}}, {})
    monkeypatch.undo()
    assert path.read_bytes() == before and os.listdir(path.parent) == ["weights.npz"]


def test_the_new_contents_are_on_the_disk_before_the_old_ones_go(path, monkeypatch):
    """Flush and fsync the file, then rename, then fsync the folder."""
    events, fsync, replace = [], os.fsync, os.replace

    def note_fsync(fd):
        events.append("fsync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"fsync {os.fstat(fd).st_size}")
        fsync(fd)

    def note_replace(a, b):
        assert os.path.dirname(a) == os.path.dirname(b)
        events.append("replace")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    checkpoint.write_atomically(str(path), lambda file: file.write(b"12345"))
    assert events == ["fsync 5", "replace", "fsync folder"]
    assert path.read_bytes() == b"12345"


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.save(tmp_path / "no" / "weights.npz", PARTS, INFO)


# ---- hostile files ----------------------------------------------------------------------------------------

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


def zipped(members, method=0, flags=0, size=None, offset=None, shift=0, names=None):
    """A zip archive of (name, contents) pairs, with one thing or another wrong."""
    out, directory = io.BytesIO(), b""
    for i, (name, contents) in enumerate(members):
        start = out.tell() if offset is None else offset
        name, crc = name.encode(), zlib.crc32(contents)
        inner = names[i].encode() if names else name
        packed = zlib.compress(contents)[2:-4] if method == 8 else contents
        sizes = (crc, len(packed), len(contents) if size is None else size)
        out.write(struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, method, 0, 33, *sizes, len(inner), 0) + inner + packed)
        directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, flags, method, 0, 33, *sizes, len(name), 0, 0, 0, 0, 0,
                                 start) + name
    count = len(members)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), out.tell() + shift, 0)
    return out.getvalue() + directory + end


ABOUT = json.dumps({"format": checkpoint.FORMAT})
GOOD = [("net/a.npy", npy(np.zeros(2, np.float32))), ("net/b.npy", npy(np.ones(3))), ("info.npy", npy(np.array(ABOUT)))]
ONE = npy(header=header(), data=bytes(8))


def one(contents, name="net/a.npy"):
    """A file that is good but for one member."""
    return zipped([(name, contents), GOOD[-1]])


def savez(a, function=np.savez):
    file = io.BytesIO()
    function(file, **{"net/a": a, "info": np.array(ABOUT)})
    return file.getvalue()


def repeated(raw, times):
    """An archive whose directory names each member several times."""
    *_, count, size, start, _ = struct.unpack("<4s4H2IH", raw[-22:])
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count * times, count * times, size * times, start, 0)
    return raw[:start] + raw[start:-22] * times + end


HOSTILE = {
    "nothing": b"", "an end only": zipped([]), "text": b"PK and so on" * 10,
    "compressed": savez(np.zeros(10 ** 6), np.savez_compressed), "a bomb": zipped([("a.npy", bytes(10 ** 7))], method=8),
    "another method": zipped(GOOD, method=99), "encrypted": zipped(GOOD, flags=1),
    "the same bytes for two names": zipped(GOOD, offset=0),
    "a directory elsewhere": zipped(GOOD, shift=5), "another size": zipped(GOOD, size=5),
    "a huge size": zipped(GOOD, size=2 ** 32 - 1), "another name inside": zipped(GOOD, names=["x.npy", "b.npy", "info.npy"]),
    "the same member many times": repeated(zipped(GOOD), 9),
    "a name with a line break": one(ONE, "net/a\n.npy"), "one that np.load would unpickle": savez(np.array([print])),
    "more members than any network": zipped([(f"net/{i}.npy", b"") for i in range(5000)] + GOOD),
    "no .npy": one(b"hello world, hello world"), "a cut .npy": one(b"\x93NUM"), "an empty member": one(b""),
    "version 2": one(npy(header=header(), magic=b"\x93NUMPY\2\0", data=bytes(8))),
    "a cut header": one(npy(header=b"{'descr': '<f4'")), "too little data": one(npy(header=header(), data=bytes(4))),
    "too much data": one(npy(header=header(), data=bytes(12))), "no data": one(npy(header=header(shape="(1000000000,)"))),
    "a shape that overflows": one(npy(header=header(shape="(4294967296, 4294967296)"))),
    "a negative shape": one(npy(header=header(shape="(-2,)"), data=bytes(8))),
    "a shape that is no tuple": one(npy(header=header(shape="2"), data=bytes(8))),
    "brackets": one(npy(header=b"(" * 60000)), "an open string": one(npy(header=header(descr="'''"))),
    "bytes that are no text": one(npy(header=b"\xff" * 118)), "code": one(npy(header=header(descr="__import__('os')"))),
    "complex": savez(np.zeros(2, complex)), "bytes": savez(np.array(b"text")), "dates": savez(np.zeros(2, "M8[s]")),
    "a struct": savez(np.zeros(2, "i4,f4")), "f4 of five bytes": one(npy(header=header(descr="'<f5'"), data=bytes(10))),
    "a long text": savez(np.array("x" * 3_000_000)),
}


def test_what_numpy_writes_is_read(path):
    checkpoint.save(path, {"net": ARRAYS}, {})
    assert_same(checkpoint.load(path)[0], {"net": ARRAYS})
    found, _ = checkpoint.headers(path)
    assert found == {f"net/{name}": (a.shape, a.dtype) for name, a in ARRAYS.items()}


def test_the_builder_of_this_file_makes_good_archives(path):
    path.write_bytes(zipped(GOOD))
    parts, _ = checkpoint.load(path)
    with np.load(path) as file:
        for name in "ab":
            np.testing.assert_array_equal(parts["net"][name], file[f"net/{name}"])


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_one_error_from_its_headers_and_no_memory(path, raw, memory_below):
    path.write_bytes(raw)
    with memory_below(4_000_000):
        with pytest.raises(CheckpointError, match=r"weights\.npz: not a tinygan checkpoint, or damaged") as error:
            checkpoint.headers(path)
    assert len(str(error.value)) < 700 and "\n" not in str(error.value) and "called info" not in str(error.value)


def test_compressed_files_are_refused_with_the_way_out(path):
    np.savez_compressed(path, **ARRAYS)
    with pytest.raises(CheckpointError, match=r"save with np\.savez, not with np\.savez_compressed"):
        checkpoint.load(path)


@pytest.mark.parametrize("kind", ["pipe", "device", "loop"])
def test_what_is_no_regular_file_is_not_read(path, kind):
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    with pytest.raises(CheckpointError, match="Too many levels" if kind == "loop" else "not a regular file"):
        checkpoint.load(path)


def test_a_directory_of_gigabytes_is_not_read(path, memory_below):
    """A sparse file whose list of members claims to be 1 GB long."""
    size = 2 ** 30
    with open(path, "wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, size, 0, 0))
    with memory_below(4_000_000):
        with pytest.raises(CheckpointError, match="BadZipFile"):
            checkpoint.load(path)


def test_damage_in_the_numbers_is_found_when_they_are_read(path):
    a = np.ones(30_000)
    checkpoint.save(path, {"net": {"a": a}}, {})
    raw = bytearray(path.read_bytes())
    raw[raw.index(a.tobytes()) + 200_003] ^= 1
    path.write_bytes(raw)
    checkpoint.headers(path)
    with pytest.raises(CheckpointError, match="Bad CRC-32"):
        checkpoint.load(path)
