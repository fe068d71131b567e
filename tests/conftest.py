"""Every test that takes `device` runs on each backend that works here; the end of the run counts the
gradient checks."""

import os
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: tests share the cores with the programs that they start

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))      # for table.py, whatever pytest's import mode

import standin  # noqa: E402
from table import tally  # noqa: E402

from tinygan import backend, cpu_threads  # noqa: E402

settings.register_profile("tinygan", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("tinygan")


def devices():
    """'cpu', and 'gpu': CuPy where it has run a kernel, elsewhere what stands in for it (standin.py),
    given a C++ compiler."""
    try:
        backend.pick_device("gpu")
    except backend.DeviceError:
        return ["cpu", pytest.param("gpu", id="stand-in")] if standin.COMPILER else ["cpu"]
    return ["cpu", "gpu"]


DEVICES = devices()


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    """'cpu' or 'gpu'. Inputs go there by `to_device`, results come back by `to_host`: nothing else
    crosses over."""
    if request.param == "gpu" and "gpu" not in DEVICES:
        monkeypatch.setitem(sys.modules, "cupy", standin.cupy)
    return request.param


@pytest.fixture
def two_threads(monkeypatch):
    """A second thread, which is asked however small the work is."""
    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(cpu_threads.Helper, "pool", pool)
        monkeypatch.setattr(cpu_threads, "LARGE", 1)
        yield


@pytest.fixture
def memory_below():
    """`with memory_below(n):` fails if what runs in it holds n bytes or more at any moment."""
    @contextmanager
    def below(most):
        tracemalloc.start()
        try:
            yield
            assert tracemalloc.get_traced_memory()[1] < most
        finally:
            tracemalloc.stop()
    return below


def pytest_addoption(parser):
    parser.addoption("--gradient-table", action="store_true", help="print the worst relative error per op at each order")


def pytest_terminal_summary(terminalreporter, config):
    if tally.checks:
        if config.getoption("--gradient-table"):
            terminalreporter.section("worst relative error seen, per op")
            for line in tally.table():
                terminalreporter.write_line(line)
        terminalreporter.write_line(f"{tally.checks:,} gradient checks")
