"""The CPU's engine room, continued: a second thread of our own.

NumPy's functions run on one core. Only its matrix products use more, and of a step of convolutional
networks they are less than half. On two cores it is therefore better that each product keeps to one
core, and that the other takes a part of whatever is done: half of the images, of the numbers, of
the gradients. The threads that OpenBLAS has for its products must sleep then, because they wait
actively and would keep that core from us.

`share_cores` arranges this. `tinygan train` calls it for convolutional networks, and importing
tinygan changes nothing. A task is divided by the sizes of its arrays and not by who is free, so the
results do not depend on it, and a run repeats bit for bit.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np

MOST = 3                # cores: with more of them products may need them all (not measured)
PIECE = 256             # rows that are added up before the sums of such pieces are added up
LARGE = 400_000         # bytes: handing over less takes as long as doing it


class Helper:
    """The second thread: `pool` is None where there is none, `free` is locked while it works."""

    pool, free = None, threading.Lock()

    @classmethod
    def ask(cls, job):
        """Have it run job() with the settings of this thread (`no_grad`, random generators).

        Returns a function that waits for the end of that and raises what it raised; if the helper
        is busy, one that does nothing.
        """
        if cls.pool is None or not cls.free.acquire(blocking=False):
            return lambda: None

        def run():
            try:
                job()
            finally:
                cls.free.release()
        future = cls.pool.submit(copy_context().run, run)
        return lambda: cls.free.release() if future.cancel() else future.result()

    @classmethod
    def forget(cls):
        """A process that was forked has no such thread."""
        cls.pool, cls.free = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Helper.forget)


def share_cores():
    """Give each matrix product one core, and start the second thread, on two or three cores.

    It does nothing on others, or where OPENBLAS_NUM_THREADS or OMP_NUM_THREADS allows one thread.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    allowed = (os.environ.get(f"{name}_NUM_THREADS", "") for name in ("OPENBLAS", "OMP"))
    if 2 <= min([cores, *(int(n) for n in allowed if n.isdigit())]) <= MOST:
        import threadpoolctl  # here, because few need it

        threadpoolctl.threadpool_limits(1, user_api="blas")
        Helper.pool = Helper.pool or ThreadPoolExecutor(1, thread_name_prefix="tinygan")


def pays(size):
    """Whether work on so many bytes should be divided."""
    return Helper.pool is not None and size >= 2 * LARGE


def halves(x):
    """Two indices, of the first and the second half of x, if that pays; else one, of all of it."""
    middle = len(x) // 2 if x.ndim and pays(x.nbytes) else 0
    return [slice(middle), slice(middle, None)] if middle else [...]


def groups(x, bytes_per_image, most):
    """Slices of the batch x that hold at most so many bytes of windows (or one image)."""
    size = max(1, most // max(1, bytes_per_image))
    return [slice(i, i + size) for i in range(0, len(x), size)]


def shared_groups(x, bytes_per_image, most):
    """The same, but two or more if that pays."""
    if pays(len(x) * bytes_per_image):
        most = min(most, -(-len(x) // 2) * bytes_per_image)
    return groups(x, bytes_per_image, most)


def each(f, items):
    """f(item) for each item, by both threads if the other one is free."""
    todo = [*items]
    if len(todo) == 1:
        return f(*todo)
    turn = threading.Lock()

    def work():
        try:
            while True:
                with turn:
                    if not todo:
                        return
                    item = todo.pop(0)
                f(item)
        finally:
            todo.clear()                                # after an error nothing more is begun
    end = Helper.ask(work)
    try:
        work()
    finally:
        end()


def both(size, wanted, *functions):
    """[the result of each function that is wanted, else None], for work on so many bytes."""
    if not pays(size):
        return [f() if w else None for f, w in zip(functions, wanted, strict=True)]
    found = [None] * len(functions)

    def call(i):
        found[i] = functions[i]()
    each(call, [i for i, w in enumerate(wanted) if w])
    return found


def sum_rows(x):
    """The array x (..., C) summed over all axes but the last, as a product with a vector of ones.

    NumPy's own sum runs on one core and, for few channels, in short loops. Rows of several pixels
    are joined, so that they are long. Thousands of rows are summed in pieces first, because
    float32 loses a digit where many numbers are added one after the other.
    """
    c = x.shape[-1]
    if x.size == 0:
        return np.zeros(c, dtype=x.dtype)
    wide = x.reshape(-1, c if x.ndim < 3 else x.shape[-2] * c)
    pieces = len(wide) // PIECE
    if pieces > 3:
        first = wide[:pieces * PIECE].reshape(pieces, PIECE, -1)
        ones, sums = np.ones(PIECE, x.dtype), np.empty((pieces, wide.shape[1]), x.dtype)
        each(lambda i: np.matmul(ones, first[i], out=sums[i]), halves(first))
        wide = np.concatenate([sums, wide[pieces * PIECE:]])
    return (np.ones(len(wide), dtype=x.dtype) @ wide).reshape(-1, c).sum(axis=0)
