"""Every example runs, a few steps in a process of its own. That its claim holds takes its full length to see."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py"))
# What starts several processes: beside this Python, or else on the PATH. None where that or mpi4py is missing.
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}") \
    if find_spec("mpi4py") else None
NEEDS_MPI = 'needs MPI: pip install -e ".[mpi]"'
WITH_OPTIONS = [script for script in SCRIPTS if "argparse" in (EXAMPLES / script).read_text("utf-8")]


def run(script, folder, *options, launcher=(), timeout=120, warnings="error::RuntimeWarning"):
    """Start an example in a folder; its output, if it ended well."""
    env = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "PYTHONWARNINGS": warnings}
    # Small networks on few cores: threads of several tests at once would only wait for each other.
    env |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, sys.executable, EXAMPLES / script, *options], cwd=folder, env=env,
                          capture_output=True, encoding="utf-8", timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", sorted(set(SCRIPTS) - set(WITH_OPTIONS)))
def test_runs_and_prints(script, tmp_path):
    assert run(script, tmp_path)


@pytest.fixture(scope="module")
def short_runs(request, tmp_path_factory):
    """{script: (folder, future of what it prints)} of the scripts that will be asked for, two at a time."""
    asked = [item.callspec.params["script"] for item in request.session.items
             if getattr(item, "originalname", "") == "test_runs_draws_and_measures"]
    if MPIEXEC is None:
        asked = [script for script in asked if script != "data_parallel.py"]
    with ThreadPoolExecutor(2) as pool:
        folders = {script: tmp_path_factory.mktemp(Path(script).stem) for script in asked}
        yield {script: (folder, pool.submit(run, script, folder, "--device", "cpu", "--steps", "2", "--seed", "3"))
               for script, folder in folders.items()}


@pytest.mark.parametrize("script", WITH_OPTIONS)
def test_runs_draws_and_measures(script, short_runs):
    if script not in short_runs:
        pytest.skip(NEEDS_MPI)
    folder, future = short_runs[script]
    printed = future.result()
    pictures = [path for path in folder.iterdir() if path.suffix in {".png", ".gif", ".svg"}]
    assert [p.stem for p in pictures] == [Path(script).stem] and pictures[0].stat().st_size > 1000
    last = printed.splitlines()[-1]
    assert pictures[0].name in last and re.search(r"\d", last) and "perfect" in last


def test_help_is_the_docstring(tmp_path):
    with ThreadPoolExecutor(2) as pool:                     # most of the time goes into importing matplotlib
        printed = pool.map(lambda script: run(script, tmp_path, "--help"), WITH_OPTIONS)
        texts = dict(zip(WITH_OPTIONS, printed, strict=True))
    for script, text in texts.items():
        words = " ".join(text.split())
        for expected in ("--steps", "--seed", "--device", "--out", "the usual version gets wrong", "Takes ", "perfect"):
            assert expected in words, f"{script}: {expected}"
    assert not list(tmp_path.iterdir())                     # asking for help draws nothing


def test_readme_names_every_example_and_every_picture_is_there():
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    for script in SCRIPTS:
        assert f"examples/{script}" in readme
    shown = re.findall(r"\((pictures/[^)]+)\)", readme)
    assert len(shown) == len(WITH_OPTIONS) and all((EXAMPLES / picture).is_file() for picture in shown)
    sizes = {p.name: p.stat().st_size for p in (EXAMPLES / "pictures").iterdir()}
    assert sum(sizes.values()) < 6e6 and all(n < (1e6 if name.endswith(".gif") else 300e3) for name, n in sizes.items())
