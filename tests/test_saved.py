"""Reading a run: hostile or damaged folders are one CheckpointError, before networks are built or memory is spent."""

import io
import json
import os
import re
import struct
import zlib

import numpy as np
import pytest

from tinygan import checkpoint, plot, saved
from tinygan.checkpoint import CheckpointError
from tinygan.run import Config, Run, build, generator_of

OPTIONS = dict(data="ring", width=6, latent=3, batch_size=8, steps=4)


@pytest.fixture
def done(tmp_path, monkeypatch):
    """A finished run whose older checkpoints were kept."""
    monkeypatch.setattr(plot, "density", lambda *args, **kwargs: np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr(plot, "losses", lambda log: np.zeros((4, 4, 3), np.uint8))
    a_run = Run.start(Config(**OPTIONS), str(tmp_path / "run"))
    a_run.train(io.StringIO())
    return a_run


def change(a_run, **values):
    with open(a_run.path("config.json")) as file:
        config = json.load(file)
    with open(a_run.path("config.json"), "w") as file:
        json.dump({**config, **values}, file)


# ---- config.json ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("values", [
    dict(width=True), dict(width=[6]), dict(width=6.0), dict(width="6"), dict(width=10 ** 400), dict(width=-1),
    dict(latent=2 * 10 ** 7), dict(latent={"a": [[[]]]}), dict(lr=10 ** 400), dict(lr=float("inf")), dict(lr=float("nan")),
    dict(lr=0), dict(lr=True), dict(lr="0.1"), dict(steps=0), dict(steps=10 ** 12), dict(batch_size=1),
    dict(seed=-1), dict(seed=2 ** 200), dict(size=10 ** 6), dict(keep=0), dict(grey=1), dict(grey="no"), dict(data=5),
    dict(data=None), dict(device="tpu"), dict(device=["cpu"]), dict(model=["mlp"]), dict(model={}), dict(loss={"a": 1}),
    dict(fingerprint=3), dict(shape=[True]), dict(shape=[10 ** 9, 10 ** 9, 3]), dict(shape=[28, 28, 2.0]),
    dict(shape=[4096, 4096, 4]), dict(shape=[0]), dict(shape=[2.0]), dict(shape=[0, 8, 1]), dict(shape=None), dict(shape="2"), dict(more=1),
], ids=lambda values: str(values)[:40])
def test_every_option_is_checked(done, values):
    change(done, **values)
    with pytest.raises(CheckpointError, match=r"config\.json: not the configuration of a run") as error:
        generator_of(done.folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("values", [dict(steps=0), dict(model="x"), dict(seed=None), dict(keep=None), dict(lr="1"), dict(data=None),
                                    dict(device="tpu"), dict(grey=None)], ids=str)
def test_options_that_no_run_can_have_are_refused_when_they_are_given(values):
    with pytest.raises(ValueError, match=f"^{next(iter(values))}: expected .*got "):
        Config(**values)


@pytest.mark.parametrize("text", [b"[" * 200_000, b"{\"a\": " * 200_000, b" " * 2_000_000, b"\xff\xfe", b"1" * 10_000,
                                  b'{"shape": [2], "width": "\\ud800"}'], ids=len)
def test_a_config_that_is_no_config(done, text):
    with open(done.path("config.json"), "wb") as file:
        file.write(text)
    with pytest.raises(CheckpointError, match=r"config\.json: not the configuration of a run"):
        generator_of(done.folder)


@pytest.mark.parametrize("name", ["config.json", "weights.npz"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_pipes_devices_and_folders_in_the_place_of_files(done, name, kind):
    os.unlink(done.path(name))
    if kind == "pipe":
        os.mkfifo(done.path(name))
    elif kind == "device":
        os.symlink("/dev/zero", done.path(name))
    else:
        os.mkdir(done.path(name))
    for read in (generator_of, Run.resume):
        with pytest.raises(CheckpointError, match=re.escape(name) + ".*not a regular file"):
            read(done.folder)


@pytest.mark.parametrize("values", [dict(width=3000), dict(latent=65536), dict(model="mlp", shape=[1024, 1024, 3]),
                                    dict(model="conv", shape=[28, 28, 1], width=512)], ids=str)
def test_networks_larger_than_the_checkpoint_are_not_built(done, values, memory_below):
    change(done, **values)
    with memory_below(2_000_000):
        with pytest.raises(CheckpointError, match=r"weights\.npz: .*its generator has [\d,]+ numbers, fewer than"):
            generator_of(done.folder)


@pytest.mark.parametrize("model, shape", [("mlp", (2,)), ("mlp", (6, 6, 1)), ("mlp", (28, 28, 3)), *(
    ("conv", (size, size, channels)) for size in (8, 12, 14, 16, 28, 64, 96) for channels in (1, 3))])
@pytest.mark.parametrize("width, latent", [(1, 1), (2, 60), (7, 3)])
def test_the_least_number_of_weights_is_a_bound_and_not_far_off(model, shape, width, latent):
    config = Config(model=model, width=width, latent=latent, device="cpu", lr=0.1)
    found = sum(p.size for p in build(config, shape).g.parameters())
    least = saved.least_numbers(config, shape)
    assert least <= found <= 16 * least


# ---- weights.npz ------------------------------------------------------------------------------------------

INFO = {"log": [], "seconds": 0.0}


@pytest.mark.parametrize("part, name, value", [
    ("game", "steps", np.array("text")), ("game", "steps", np.array(-1)), ("game", "steps", np.array(4.0)),
    ("game", "steps", np.array(2 ** 62)), ("game", "steps", np.array([1, 2])), ("game", "random", np.array(1)),
    ("game", "random", np.array("[" * 100_000)), ("game", "random", np.array('{"seed": -1, "generators": {}}')),
    ("game", "random", np.array('{"seed": 0, "generators": {"init": {"bit_generator": "PCG64", "state": []}}}')),
    ("opt_d", "steps", np.array(-5)), ("opt_d", "lr", np.array(-1.0)),
    ("opt_g", "lr", np.array(True)), ("average", "steps", np.array(-3)),
    ("generator", "0.weight", np.zeros((3, 6), np.complex64)), ("generator", "0.weight", np.array([["a"] * 6] * 3)),
    ("generator", "0.weight", np.zeros((3, 6), np.float64)), ("generator", "0.weight", np.zeros((3, 6), ">f4")),
    ("generator", "more", np.zeros(3)), ("virus", "more", np.zeros(3)), ("", "", np.zeros(3)),
], ids=lambda v: str(v)[:30])
def test_every_array_is_checked(done, part, name, value):
    state = done.gan.state_dict()
    state.setdefault(part, {})[name] = value
    checkpoint.save(done.path("weights.npz"), state, INFO)
    for read in (generator_of, Run.resume):
        with pytest.raises(CheckpointError, match=r"weights\.npz: ") as error:
            read(done.folder)
        assert "\n" not in str(error.value) and len(str(error.value)) < 800


def test_weights_that_are_not_finite_are_refused(done, monkeypatch):
    state = done.gan.state_dict()
    state["generator"]["0.weight"][0, 0] = np.nan
    monkeypatch.setattr(np, "isfinite", lambda a: np.True_)             # save looks, too
    checkpoint.save(done.path("weights.npz"), state, INFO)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"weights\.npz: .*generator/0\.weight holds NaN or infinity"):
        generator_of(done.folder)


def test_gigabytes_in_a_member_that_nobody_needs_are_not_read(done, memory_below):
    """A sparse file of 2 GB: the extra member comes before the others."""
    state = done.gan.state_dict()
    checkpoint.save(done.path("weights.npz"), {"a": {"b": np.zeros(1, np.uint8)}, **state}, INFO)
    with open(done.path("weights.npz"), "rb") as file:
        raw = file.read()
    more = 2 ** 31
    text = b"(1,), }" + b" " * 12
    raw = bytearray(raw)
    at = raw.index(text)
    raw[at:at + len(text)] = f"({more + 1},), }}".encode().ljust(len(text))
    end = raw.index(b"\n", at) + 2                          # the header's end and the one byte
    old, new = end - raw.index(b"\x93NUMPY"), end - raw.index(b"\x93NUMPY") + more
    start = int.from_bytes(raw[-6:-2], "little")
    directory, tail = raw[start:-22], raw[-22:]
    for at in (directory.index(old.to_bytes(4, "little") * 2),):
        directory[at:at + 8] = new.to_bytes(4, "little") * 2
    at = 0
    while at < len(directory):                              # every later member has moved
        n = int.from_bytes(directory[at + 28:at + 30], "little")
        if at:
            moved = int.from_bytes(directory[at + 42:at + 46], "little") + more
            directory[at + 42:at + 46] = moved.to_bytes(4, "little")
        at += 46 + n
    at = raw.index(old.to_bytes(8, "little") * 2)
    raw[at:at + 16] = new.to_bytes(8, "little") * 2
    tail[16:20] = (start + more).to_bytes(4, "little")
    with open(done.path("weights.npz"), "wb") as file:
        file.write(raw[:end])
        file.seek(more, 1)
        file.write(raw[end:start] + directory + tail)
    with memory_below(2_000_000):
        with pytest.raises(CheckpointError, match=r"weights\.npz: made for other networks: missing \[\], unexpected \['a/b'\]"):
            generator_of(done.folder)


# ---- going on with an older checkpoint --------------------------------------------------------------------

@pytest.fixture
def kept(done):
    """The run, gone on to step 8 with the last three checkpoints kept."""
    again = Run.resume(done.folder, steps=8, keep=3)
    again.train(io.StringIO())
    return again


def test_the_last_checkpoints_are_kept_and_no_others(done, tmp_path, monkeypatch):
    monkeypatch.setattr("tinygan.run.PERIOD", -1)
    Run.resume(done.folder, steps=9, keep=3).train(io.StringIO())
    steps = []
    for name in ("weights.npz", *saved.earlier(done.place)):
        with np.load(done.path(name)) as file:
            steps.append(int(file["game/steps"]))
    assert steps == [9, 8, 7] and saved.earlier(done.place) == ["weights-8.npz", "weights-7.npz"]
    Run.resume(done.folder, keep=1).train(io.StringIO())
    assert saved.earlier(done.place) == [] and os.path.exists(done.path("weights.npz"))


def test_a_damaged_newest_checkpoint_is_passed_over_and_this_is_said(kept):
    expected, older = kept.gan.state_dict(), saved.earlier(kept.place)
    assert older == ["weights-7.npz", "weights-4.npz"]
    for name in ("weights.npz", "weights-7.npz"):
        with open(kept.path(name), "r+b") as file:
            file.truncate(1000)
    with pytest.warns(UserWarning, match=r"weights\.npz: .*; going on with weights-4\.npz, step 4$"):
        again = Run.resume(kept.folder)
    assert again.gan.steps == 4 and [row["step"] for row in again.log] == [1, 2, 3, 4]
    assert sorted(again.frames) == [0, 1, 2, 3, 4], "frames of steps that are to come again are dropped"
    again.train(io.StringIO())
    found = again.gan.state_dict()
    for part in expected:
        for name in expected[part]:
            np.testing.assert_array_equal(found[part][name], expected[part][name])
    with np.load(kept.path("weights-4.npz")) as file:
        assert file["game/steps"] == 4, "the damaged file did not take its place"


def test_a_kill_while_the_next_checkpoint_is_written_costs_nothing(done, tmp_path, monkeypatch):
    """The one before stands under both its names, and the run ends with the same weights."""
    whole = Run.resume(done.folder, steps=9, keep=3)
    whole.train(io.StringIO())
    part = Run.start(Config(**OPTIONS), str(tmp_path / "part"))
    part.train(io.StringIO())
    original = checkpoint.save

    def killed(path, parts, info):
        if path.endswith("weights.npz"):
            raise KeyboardInterrupt
        original(path, parts, info)

    again = Run.resume(part.folder, steps=9, keep=3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", killed)
        again.train(io.StringIO())
    assert saved.earlier(part.place) == ["weights-4.npz"]
    assert generator_of(part.folder)[0].steps == 4
    again = Run.resume(part.folder)
    again.train(io.StringIO())
    for name in ("weights.npz", "weights-4.npz"):
        found, expected = (checkpoint.load(run.path(name))[0] for run in (again, whole))
        assert found.keys() == expected.keys()
        for part, state in expected.items():
            for key, a in state.items():
                np.testing.assert_array_equal(found[part][key], a)


# ---- an older format --------------------------------------------------------------------------------------

def test_a_checkpoint_of_the_format_before_this_says_what_to_do(done):
    np.savez(done.path("weights.npz"), **{"generator/0.weight": np.zeros((3, 6), np.float32)},
             info=np.array('{"format": "tinygan 1", "step": 4}'))
    with pytest.raises(CheckpointError, match=r"found 'tinygan 1'; it is of an older tinygan, so train this run again"):
        generator_of(done.folder)


# ---- pictures ---------------------------------------------------------------------------------------------

def png(width, height):
    """A PNG file that claims to be of this size."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    start = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("frames", [{"0": b"no picture"}, {"0": png(9000, 9000)}, {"x": png(4, 4)}], ids=["text", "bomb", "no step"])
def test_pictures_that_no_run_drew_cannot_be_resumed(done, frames, memory_below):
    arrays = {step: np.frombuffer(raw, np.uint8) for step, raw in frames.items()}
    checkpoint.save(done.path("weights.npz"), {**done.gan.state_dict(), "frames": arrays}, INFO)
    with memory_below(4_000_000), pytest.raises(CheckpointError, match=r"weights\.npz: "):
        Run.resume(done.folder)
