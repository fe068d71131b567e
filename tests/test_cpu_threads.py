"""The second thread: who does what may not matter to the numbers, to errors, or to anybody else."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from tinygan import Tensor, cpu_threads, losses, models, no_grad, seed
from tinygan.cpu_threads import Helper, both, each, halves
from tinygan.train import GAN, fit


def test_each_item_is_done_once_and_two_at_the_same_time(two_threads):
    """Two that wait for each other would never end one after the other."""
    meet, done = threading.Barrier(2, timeout=20), []

    def f(item):
        if item < 2:
            meet.wait()
        done.append((item, threading.get_ident()))
    each(f, range(50))
    assert sorted(item for item, _ in done) == [*range(50)]
    assert len({thread for _, thread in done}) == 2
    assert not Helper.free.locked()


def test_without_a_second_thread_the_order_is_kept():
    done = []
    each(done.append, range(5))
    assert Helper.pool is None and done == [*range(5)]
    each(done.append, [])
    assert len(done) == 5


def test_what_is_asked_within_a_task_is_done_by_whoever_asks(two_threads):
    found = []
    each(lambda i: each(lambda j: found.append((i, j)), range(3)), range(4))
    assert sorted(found) == [(i, j) for i in range(4) for j in range(3)]


@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_in_either_thread_arrives_and_nothing_more_is_begun(bad, two_threads):
    meet, begun = threading.Barrier(2, timeout=20), []

    def f(item):
        begun.append(item)
        if item < 2:
            meet.wait()
        if item == bad:
            raise ZeroDivisionError(item)
        threading.Event().wait(0.2 if item < 2 else 0)          # so that the other one meets its error first
    with pytest.raises(ZeroDivisionError, match=str(bad)):
        each(f, range(100))
    assert len(begun) < 100
    done = []
    each(done.append, range(4))
    assert sorted(done) == [*range(4)], "and then all goes on"


def test_the_other_thread_has_this_ones_settings(two_threads):
    meet, w, recorded = threading.Barrier(2, timeout=20), Tensor(np.ones(2)), []

    def f(item):
        meet.wait()
        recorded.append((w * 2).op is not None)
    with no_grad():
        each(f, range(2))
    each(f, range(2))
    assert recorded == [False, False, True, True]


def test_both_gives_what_is_wanted_in_its_place(two_threads):
    for size in (0, 100):
        assert both(size, (True, False, True), lambda: "a", lambda: 1 / 0, lambda: "c") == ["a", None, "c"]


def test_halves_are_all_of_it(two_threads, monkeypatch):
    for x in (np.arange(7.0), np.ones((2, 3)), np.ones((1, 9)), np.array(3.0), np.ones((0, 4))):
        y = np.zeros_like(x)
        for i in halves(x):
            y[i] += x[i]
        np.testing.assert_array_equal(x, y)
    assert len(halves(np.ones(7))) == 2
    monkeypatch.setattr(cpu_threads, "LARGE", 1000)
    assert halves(np.ones(7)) == [...]


def play(penalty):
    seed(0)
    d = models.conv_discriminator(12, 1, 4, norm=not penalty)
    gan = GAN(models.conv_generator(5, 12, 1, 4), d, 5, loss="wasserstein" if penalty else "hinge", lr=1e-3,
              penalty=losses.wgan_gp() if penalty else None)
    fit(gan, np.tanh(np.random.default_rng(0).standard_normal((40, 12, 12, 1), dtype=np.float32)), 3, 8)
    return np.concatenate([p.data.ravel() for p in gan.parameters()])


@pytest.mark.parametrize("penalty", [False, True])
def test_a_training_does_not_depend_on_who_was_free(penalty, two_threads):
    """Bit for bit: with a helper that is free, with one that is busy, and again; and nearly the same without any."""
    first, again = play(penalty), play(penalty)
    with Helper.free:
        alone = play(penalty)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, alone)
    Helper.pool = None
    np.testing.assert_allclose(play(penalty), first, atol=2e-4)


def test_several_threads_may_train_at_once(two_threads):
    found, expected = {}, play(False)
    threads = [threading.Thread(target=lambda k=k: found.update({k: play(False)})) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k in range(3):
        np.testing.assert_array_equal(found[k], expected)


def run(code, **env):
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], env={**clean, **env}, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


SHARE = """
import os
cores = %d
os.sched_getaffinity = lambda pid: range(cores)
import threadpoolctl, tinygan
from tinygan import cpu_threads
blas = lambda: max([p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"], default=1)
before = blas()
cpu_threads.share_cores()
print(cpu_threads.Helper.pool is not None, blas() == 1, blas() == before)
"""


def test_cores_are_shared_on_two_or_three_of_them_unless_one_is_allowed():
    assert run(SHARE % 2)[:2] == run(SHARE % 3, OMP_NUM_THREADS="2")[:2] == ["True", "True"]
    for cores, env in ((1, {}), (8, {}), (2, dict(OPENBLAS_NUM_THREADS="1")), (2, dict(OMP_NUM_THREADS="1"))):
        assert run(SHARE % cores, **env)[::2] == ["False", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_works_alone():
    assert run("""
import os
os.sched_getaffinity = lambda pid: range(2)
from tinygan import cpu_threads
cpu_threads.share_cores()
cpu_threads.each(lambda i: None, range(3))
if os.fork() == 0:
    print(cpu_threads.Helper.pool, sum([cpu_threads.each(lambda i: None, range(3)) is None]), flush=True)
    os._exit(0)
assert os.wait()[1] == 0
""") == ["None", "1"]
