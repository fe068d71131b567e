"""Checkpoints: what was saved comes back, nothing else is believed, and a file is replaced as a whole or not at all."""

import io
import os
import pickle
import stat
import sys

import numpy as np
import pytest

from tinygan import checkpoint, models, nn
from tinygan.checkpoint import CheckpointError
from tinygan.optim import Adam

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
    checkpoint.restore(path, parts, Several(net=other, opt=again))
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
        (lambda p: p.pop("b"), r"expected the parts \['a', 'b'\], found \['a'\]"),
        (lambda p: p.update(c={"x": np.zeros(1)}), r"expected the parts \['a', 'b'\], found \['a', 'b', 'c'\]"),
        (lambda p: p["b"].pop("bias"), r"part 'b' does not fit: .*missing \['bias'\]"),
        (lambda p: p["b"].update(more=np.zeros(1)), r"part 'b' does not fit: .*unexpected \['more'\]"),
        (
            lambda p: p["b"].update(weight=np.zeros((9, 9), np.float32)),
            r"part 'b' does not fit: .*weight has shape \(9, 9\), expected \(2, 1\)",
        ),
        (lambda p: p["b"].update(bias=np.array(["text"])), r"part 'b' does not fit: bias is of type <U4, expected float32"),
        (lambda p: p["b"].update(bias=np.zeros(1)), r"part 'b' does not fit: bias is of type float64, expected float32"),
    ],
)
def test_restoring_is_all_or_nothing_over_all_parts(path, spoil, message):
    a, b = nn.Linear(2, 3), nn.Linear(2, 1)
    before = {"a": a.state_dict(), "b": b.state_dict()}
    parts = {k: {n: v + 1 for n, v in state.items()} for k, state in before.items()}
    spoil(parts)
    checkpoint.save(path, parts, {})
    with checkpoint.Checkpoint(path) as file:
        with pytest.raises(CheckpointError, match=r"weights\.npz: " + message):
            file.restore(Several(a=a, b=b))
    assert_same({"a": a.state_dict(), "b": b.state_dict()}, before)


@pytest.mark.parametrize("state", [{}, {"0": np.zeros(9)}, {"steps": np.array(1), "0": np.zeros(2), "1": np.zeros(2)}])
def test_an_optimisers_state_that_does_not_fit_is_a_checkpoint_error(path, state):
    with pytest.raises(CheckpointError, match=r"weights\.npz: Adam.load_state_dict: expected"):
        checkpoint.restore(path, state, Adam(nn.Linear(2, 3).parameters()))


# ---- writing ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_and_the_old_file_stays(path, bad):
    before = path.read_bytes()
    broken = {"net": {"0.weight": np.array([1.0, bad])}}
    with pytest.raises(ValueError, match=r"not saving .*weights\.npz: net/0\.weight holds NaN or infinity"):
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
