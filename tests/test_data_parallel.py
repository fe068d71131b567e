"""Several processes do what one would have done, and no end of one of them leaves the others waiting."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_examples import EXAMPLES, MPIEXEC, NEEDS_MPI

from tinygan import checkpoint

SCRIPT = EXAMPLES / "data_parallel.py"
pytestmark = pytest.mark.skipif(MPIEXEC is None, reason=NEEDS_MPI)


def start(folder, ranks, *options):
    """The example on some processes, in a folder."""
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parent.parent), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen([MPIEXEC, "-n", str(ranks), sys.executable, SCRIPT, *options], cwd=folder, env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")


def ended(process):
    """Everything that it printed, once it has ended by itself."""
    try:
        return process.communicate(timeout=60)[0]
    finally:
        process.kill()


def ranks_of(folder):
    """The numbers of the Python processes that work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").resolve() == folder.resolve() and b"python" in (path / "exe").resolve().name.encode():
                found.append(int(path.name))
        except OSError:                                                 # ended meanwhile, or somebody else's
            continue
    return found


def test_two_processes_do_what_one_does_and_one_goes_on(tmp_path):
    process = start(tmp_path, 2, "--steps", "30")
    printed = ended(process)
    assert process.returncode == 0, printed                             # it stops if the ranks' weights ever differ
    off = float(re.search(r"differ by ([\d.]+)% of their way", printed)[1])
    assert off < 1, "equal shares of equal batches, so only rounding may differ"
    assert ": 2 processes" in printed.splitlines()[-1] and (tmp_path / "data_parallel.png").stat().st_size > 1000

    saved = tmp_path / "data_parallel.npz"
    assert checkpoint.load(saved)[0]["game"]["steps"] == 30             # no hundredth step, but the last

    process = start(tmp_path, 1, "--steps", "31", "--resume")
    assert ": 1 processes" in ended(process).splitlines()[-1] and process.returncode == 0
    assert checkpoint.load(saved)[0]["game"]["steps"] == 31


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the ranks in /proc")
def test_the_death_of_a_rank_ends_all_and_leaves_the_checkpoint(tmp_path):
    process, saved = start(tmp_path, 2, "--steps", "1000000"), tmp_path / "data_parallel.npz"
    deadline = time.monotonic() + 60
    while not saved.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    ranks = ranks_of(tmp_path)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    ended(process)
    assert process.returncode != 0 and not ranks_of(tmp_path)
    parts, _ = checkpoint.load(saved)
    assert parts["game"]["steps"] >= 1


def test_an_error_in_one_rank_ends_all(tmp_path):
    process = start(tmp_path, 2, "--steps", "1000000", "--out", "no/such/folder/a.png")
    printed = ended(process)                                            # only rank 0 saves, and cannot
    assert process.returncode != 0 and "FileNotFoundError" in printed
