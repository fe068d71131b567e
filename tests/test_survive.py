"""What a run survives: kills, signals, races for one folder, damaged checkpoints. A few of each; hundreds with -m survive.

A run that was stopped somehow and went on must leave the same files, bit for bit, as one that was not.
"""

import csv
import io
import os
import random
import signal
import sys
import time

import numpy as np
import pytest

from tinygan import cli, plot, run, saved
from tinygan.checkpoint import CheckpointError
from tinygan.run import Config, Run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
STEPS = 40
OPTIONS = ["--data", "ring", "--width", "6", "--latent", "3", "--batch-size", "8", "--steps", str(STEPS)]
EXACT = ("samples.png", "training.gif", "losses.png", "config.json")


def counts(few, many):
    """A few rounds by default, many with -m survive."""
    return pytest.mark.parametrize("rounds", [few, pytest.param(many, marks=pytest.mark.survive)])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small pictures that depend on all they show, and a checkpoint after almost every step."""
    monkeypatch.setattr(run, "PERIOD", 0.002)
    monkeypatch.setattr(run, "FRAMES", 7)
    monkeypatch.setattr(run, "LOGS", 13)
    monkeypatch.setattr(plot, "density", lambda fake, *args, **kwargs: np.uint8(abs(fake[:20]) * 80 % 256)[..., None].repeat(3, 2))
    monkeypatch.setattr(plot, "losses", lambda log: np.uint8([[r["step"] % 256, r["g_loss"] * 99 % 256] for r in log]))


def fork(action):
    """Call action() in a process of its own, silently: its pid. The exit status is what action returns, 99 after an error."""
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        with open(os.devnull, "w") as null:
            sys.stdout = null
            sys.stderr = io.StringIO()
            status = action() or 0
    except BaseException as e:
        os.write(2, f"{type(e).__name__}: {e}\n".encode())
    finally:
        os._exit(status)


def ended(pid):
    """The exit status of a process, negative for a signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def command(folder):
    """`tinygan train` on a folder: a new run, or the one that is there."""
    new = not os.path.exists(os.path.join(folder, "config.json"))
    return cli.main(["train", *(OPTIONS if new else []), "--out" if new else "--resume", folder])


def finish(folder):
    """Start the run, or go on with it, to its end: the exit status."""
    return ended(fork(lambda: command(folder)))


def contents(folder):
    """What two runs of one seed have in common, as one dict of bytes and lists."""
    result = {}
    for name in EXACT:
        with open(os.path.join(folder, name), "rb") as file:
            result[name] = file.read()
    with np.load(os.path.join(folder, "weights.npz"), allow_pickle=False) as file:
        result |= {k: (file[k].dtype.str, file[k].tobytes()) for k in file.files if k != "info"}
    with open(os.path.join(folder, "log.csv"), newline="") as file:
        result["log"] = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return result


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert [k for k in expected if found[k] != expected[k]] == []


@pytest.fixture
def whole(tmp_path, quick):
    """(contents of an uninterrupted run, how many seconds it took)"""
    begin = time.monotonic()
    assert finish(str(tmp_path / "whole")) == 0
    return contents(tmp_path / "whole"), time.monotonic() - begin


def stop_again_and_again(folder, number, duration, rng, times):
    """Start the run, or go on with it, and send it a signal at a random moment, so many times or until it is done:
    the exit statuses."""
    statuses = []
    for _ in range(times):
        pid = fork(lambda: command(folder))
        time.sleep(rng.uniform(0, duration))
        os.kill(pid, number(rng) if callable(number) else number)
        statuses.append(ended(pid))
        if statuses[-1] == 0:
            break
    return statuses


@counts(5, 200)
def test_killed_at_any_moment_a_run_goes_on_to_the_very_same_files(tmp_path, whole, rounds):
    expected, duration = whole
    rng, killed, chain = random.Random(0), 0, 0
    while killed < rounds:
        chain += 1
        folder = str(tmp_path / f"run{chain}")
        statuses = stop_again_and_again(folder, signal.SIGKILL, duration, rng, 5)
        assert set(statuses) <= {0, -signal.SIGKILL}
        killed += statuses.count(-signal.SIGKILL)
        assert finish(folder) == 0
        assert_same(contents(folder), expected)
        assert set(os.listdir(folder)) == {"config.json", "log.csv", "losses.png", "samples.png",
                                           "training.gif", "weights.npz"}, "no lock, no temporary file"


@counts(6, 78)
def test_stopped_by_a_signal_at_any_moment_a_run_goes_on_to_the_very_same_files(tmp_path, whole, rounds):
    expected, duration = whole
    rng, stopped, chain = random.Random(1), 0, 0
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    while stopped < rounds:
        chain += 1
        folder, number = str(tmp_path / f"run{chain}"), signals[chain % 3]
        statuses = stop_again_and_again(folder, number, duration, rng, 3)
        stopped += len(statuses)
        # -number: before the command had set its handlers
        assert set(statuses) <= {0, 128 + number, -number}
        assert finish(folder) == 0
        assert_same(contents(folder), expected)
        assert "lock" not in os.listdir(folder)


@counts(3, 40)
def test_of_two_that_start_in_one_folder_at_once_one_wins(tmp_path, whole, rounds):
    expected, _ = whole
    for i in range(rounds):
        folder = str(tmp_path / f"run{i}")
        at = time.monotonic() + 0.05

        def start(folder=folder, at=at):
            while time.monotonic() < at:
                pass
            return cli.main(["train", *OPTIONS, "--out", folder])
        pids = [fork(start) for _ in range(2)]
        assert sorted(map(ended, pids)) == [0, 2]
        assert_same(contents(folder), expected)
        assert "lock" not in os.listdir(folder)


# ---- damage -----------------------------------------------------------------------------------------------

@pytest.fixture
def small(tmp_path):
    """A finished run: (its weights.npz, a function that reads it as a run does)."""
    a_run = Run.start(Config(data="ring", width=3, latent=2, batch_size=4, steps=4), str(tmp_path / "run"))
    a_run.train(io.StringIO())

    def read():
        config, shape = saved.read_config(a_run.folder)
        gan, frames, info, _ = saved.load_gan(a_run.folder, config, shape)
        return {f"{p}/{k}": v.tobytes() for p, state in gan.state_dict().items() for k, v in state.items()}, frames, info["log"]
    return tmp_path / "run" / "weights.npz", read


@counts(100, 400)
def test_a_flipped_bit_is_refused_or_changes_nothing(small, rounds):
    path, read = small
    whole, good, rng, refused = bytearray(path.read_bytes()), read(), random.Random(2), 0
    for _ in range(rounds):
        place, bit = rng.randrange(len(whole)), 1 << rng.randrange(8)
        whole[place] ^= bit
        path.write_bytes(whole)
        whole[place] ^= bit
        try:
            assert read() == good
        except CheckpointError as e:
            refused += 1
            assert "weights.npz: " in str(e) and "\n" not in str(e)
    assert refused > rounds / 2


@counts(60, 400)
def test_every_truncation_is_refused(small, rounds):
    path, read = small
    whole, rng = path.read_bytes(), random.Random(3)
    for _ in range(rounds):
        path.write_bytes(whole[:rng.randrange(len(whole))])
        with pytest.raises(CheckpointError, match=r"weights\.npz: "):
            read()
