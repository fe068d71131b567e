"""The benchmarks run, and time what they say they time. No test looks at a time."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygan import elementwise, models, optim, shortcuts, train
from tinygan.cpu import InBlocks, JoinedRows, LargerOfTwo, OnePass
from tinygan.reductions import normalize

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tricks(monkeypatch):
    """benchmarks/tricks.py as a module."""
    before = list(sys.path)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tricks
    monkeypatch.setattr(sys, "path", before)
    return tricks


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True)


def gan():
    g, d = models.conv_generator(4, 8, 1, 2), models.conv_discriminator(8, 1, 2)
    return train.GAN(g, d, 4), np.zeros((3, 8, 8, 1), np.float32)


def test_every_shortcut_on_numpy_is_timed(tricks):
    """There is no list to forget one in."""
    expected = {d.name for d, module, _ in shortcuts.REGISTERED if module == "numpy"}
    assert tricks.shortcuts().keys() == expected and len(expected) > 5
    assert tricks.shortcuts(["Adam"]) == {"Adam": (optim.Adam.definition, InBlocks)}


@pytest.mark.parametrize("definition, shortcut, parts", [
    (normalize, JoinedRows, {"forward", "vjp"}), (elementwise.leaky_relu, LargerOfTwo, {"forward", "vjp"}),
    (optim.Adam.definition, InBlocks, {"step"}), (train.verdicts, OnePass, {"both"})])
def test_recorded_calls_run_with_the_shortcut_and_without(definition, shortcut, parts, tricks, monkeypatch):
    """Recording changes no result and stays in place no longer than the step; a call that is run
    again takes the way that it is told."""
    player, x = gan()
    twin, _ = gan()
    twin.load_state_dict(player.state_dict())
    twin.step(x)
    calls = tricks.record(lambda: player.step(x), definition, shortcut)
    assert definition.shortcuts["numpy"] is shortcut and {part for part, _, _ in calls} == parts
    for a, b in zip(player.g.state_dict().values(), twin.g.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
    taken = []

    def spied(part, original):
        return lambda *args, **kwargs: taken.append(part) or original(*args, **kwargs)
    for part in parts:
        monkeypatch.setattr(shortcut, part, staticmethod(spied(part, getattr(shortcut, part))))
    for call in calls:
        tricks.run(definition, shortcut, *call)
    assert taken == [part for part, _, _ in calls]
    with shortcuts.plain(definition.name):
        for call in calls:
            tricks.run(definition, None, *call)
    assert len(taken) == len(calls), "the definition alone"


def test_a_step_is_timed_with_all_shortcuts_and_without_one(tricks, monkeypatch):
    """Each way as often as the others, and the only difference is the one that is switched off."""
    seen, clock = [], {("nothing",): 3.0, ("Adam",): 4.0, ("conv2d",): 3.0}

    def turn(step):
        seen.append(shortcuts._off.get())
        return clock[seen[-1]]
    monkeypatch.setattr(tricks, "turn", turn)
    assert tricks.saved(None, ["Adam", "conv2d"], 0) == {"Adam": 0.25, "conv2d": 0}
    assert sorted(seen) == sorted([*clock] * tricks.ROUNDS)
    assert seen[0] != seen[3], "another one goes first in the next round"


def test_the_table_has_a_line_for_each_shortcut():
    done = run("benchmarks/tricks.py", "--seconds", 0, "--workloads", "ring", "--only", "Adam", "leaky_relu", "max_pool")
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in lines[1:]] == ["| leaky_relu", "| Adam", "| max_pool"]
    assert lines[3].count("–") == 4 and all("–" not in line and "%" in line for line in lines[1:3])
    assert "Never called here: max_pool." in done.stdout


def test_two_checkouts_race(tmp_path):
    """Each process takes the tinygan that it is told to take: a copy that prints its name stands for another version."""
    for folder in ("tinygan", "benchmarks"):
        (tmp_path / folder).mkdir()
    for file in [*(ROOT / "tinygan").glob("*.py"), ROOT / "tinygan" / "kernels.cu", *(ROOT / "benchmarks").glob("*.py")]:
        (tmp_path / file.relative_to(ROOT)).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    with open(tmp_path / "tinygan" / "__init__.py", "a") as f:
        f.write("\nimport sys\nprint('the other tinygan', file=sys.stderr)\n")
    done = run("benchmarks/train_step.py", "ring", "--turns", 1, "--threads", 1, "--against", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[2].strip() for line in done.stdout.splitlines()[2:]]
    assert rows == ["tinygan", f"tinygan at {tmp_path}"]
    assert done.stderr.count("the other tinygan") == 1, done.stderr


def test_racing_against_something_else_is_refused(tmp_path):
    done = run("benchmarks/train_step.py", "ring", "--against", tmp_path)
    assert done.returncode == 2 and f"{tmp_path} is no checkout of tinygan" in done.stderr
