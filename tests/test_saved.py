"""Reading a run: hostile or damaged folders are one CheckpointError, before networks are built or memory is spent."""

import io
import json
import os
import re

import numpy as np
import pytest

from tinygan import checkpoint, plot, saved
from tinygan.checkpoint import CheckpointError
from tinygan.run import Config, Run, generator_of

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
    dict(fingerprint=3), dict(shape=[True]), dict(shape=[28, 28, 2.0]),
    dict(shape=[0]), dict(shape=[2.0]), dict(shape=[0, 8, 1]), dict(shape=None), dict(shape="2"), dict(more=1),
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


# ---- weights.npz ------------------------------------------------------------------------------------------

INFO = {"log": [], "seconds": 0.0}


@pytest.mark.parametrize("part, name, value", [
    ("game", "steps", np.array("text")), ("game", "steps", np.array(-1)), ("game", "steps", np.array(4.0)),
    ("game", "steps", np.array([1, 2])), ("game", "random", np.array(1)),
    ("game", "random", np.array("[" * 100_000)), ("game", "random", np.array('{"seed": -1, "generators": {}}')),
    ("game", "random", np.array('{"seed": 0, "generators": {"init": {"bit_generator": "PCG64", "state": []}}}')),
    ("opt_d", "steps", np.array(-5)), ("opt_d", "lr", np.array(-1.0)),
    ("opt_g", "lr", np.array(True)),
    ("generator", "0.weight", np.zeros((3, 6), np.complex64)), ("generator", "0.weight", np.array([["a"] * 6] * 3)),
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
    for name in ("weights.npz", "weights-8.npz", "weights-7.npz"):
        with np.load(done.path(name)) as file:
            steps.append(int(file["game/steps"]))
    assert steps == [9, 8, 7] and saved.earlier(done.place) == ["weights-8.npz", "weights-7.npz"]
    Run.resume(done.folder, keep=1).train(io.StringIO())
    assert saved.earlier(done.place) == [] and os.path.exists(done.path("weights.npz"))


def test_an_earlier_checkpoint_in_the_place_of_the_newest_is_gone_on_with(kept):
    """As a reader does who has lost that one."""
    expected = kept.gan.state_dict()
    assert saved.earlier(kept.place) == ["weights-7.npz", "weights-4.npz"]
    os.replace(kept.path("weights-4.npz"), kept.path("weights.npz"))
    again = Run.resume(kept.folder)
    assert again.gan.steps == 4 and [row["step"] for row in again.log] == [1, 2, 3, 4]
    assert sorted(again.frames) == [0, 1, 2, 3, 4], "the frames of that step"
    again.train(io.StringIO())
    found = again.gan.state_dict()
    for part in expected:
        for name in expected[part]:
            np.testing.assert_array_equal(found[part][name], expected[part][name])


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
