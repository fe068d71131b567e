"""The CPU's engine room, continued: a second thread of our own.

NumPy's functions run on one core. Only its matrix products use more, and of a training step they
are less than half. On two cores it is therefore better to give each product one core, and the other
core to something else that can be done meanwhile: D(real) beside D(fake), the gradient by a layer's
weights beside that by its input, one half of the images beside the other. The threads that OpenBLAS
has for its products must sleep then, because they wait actively and would take that core.

`share_cores` arranges this. The `tinygan` command calls it; importing tinygan changes nothing. What
is added up is added up in the same order whichever thread gets there first, so a run repeats bit
for bit.
"""

import os
import threading
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import reduce
from heapq import heappop, heappush
from operator import add, itemgetter

import numpy as np

from . import autograd, conv, nn, products
from .tape import data_of

MOST = 3                # cores: with more of them the products keep them all busy (not measured)
LARGE = 200_000         # bytes: below, handing something over takes as long as doing it


class Helper:
    """A thread that does what it is asked to do, if it is free."""

    def __init__(self):
        self.pool, self.free = None, threading.Lock()

    def start(self):
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="tinygan")

    def ask(self, job):
        """Run job() in the other thread, with this one's settings (`no_grad`, random generators): a
        future, or None if that thread is busy or there is none."""
        if self.pool is None or not self.free.acquire(blocking=False):
            return None
        return self.pool.submit(copy_context().run, self._run, job)

    def _run(self, job):
        try:
            return job()
        finally:
            self.free.release()

    def forget(self):
        """After a fork the child has no such thread."""
        self.__init__()


helper = Helper()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=helper.forget)


def share_cores():
    """Give each matrix product one core, and start the second thread, on two or three cores.

    Does nothing on others, or where OPENBLAS_NUM_THREADS or OMP_NUM_THREADS allows one thread.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    allowed = (os.environ.get(f"{name}_NUM_THREADS", "") for name in ("OPENBLAS", "OMP"))
    if 2 <= min([cores, *(int(n) for n in allowed if n.isdigit())]) <= MOST:
        import threadpoolctl  # here, because few need it

        threadpoolctl.threadpool_limits(1, user_api="blas")
        helper.start()


def pays(size):
    """Whether arrays of so many bytes in all should be divided among two threads."""
    return helper.pool is not None and size >= 2 * LARGE


def halves(x):
    """Two indices, of the first and the second half of x, if that pays; else one, of all of it."""
    middle = len(x) // 2 if pays(x.nbytes) else 0
    return [slice(middle), slice(middle, None)] if middle else [...]


def each(f, items):
    """f(item) for each item, by both threads if the other one is free."""
    todo = deque(items)
    if len(todo) == 1:
        return f(*todo)

    def work():
        while todo:
            try:
                item = todo.popleft()
            except IndexError:                              # the other thread took the last one
                return
            f(item)
    other = helper.ask(work)
    try:
        work()
    finally:
        todo.clear()                                        # after an error nothing more is begun
        if other:
            other.result()


def both(wanted, *functions):
    """[the result of each function that is wanted, else None]"""
    found = [None] * len(functions)

    def call(i):
        found[i] = functions[i]()
    each(call, [i for i in range(len(functions)) if wanted[i]])
    return found


def two_passes(d, real, fake):
    """(D(real), D(fake), []) at the same time, for a D of layers that leave no trace but BatchNorm's
    averages.

    The second pass goes through norms of the same weights whose average is the last value alone,
    and with that the true average is then moved, as if the passes had come one after the other.
    """
    if not pays(2 * LARGE) or not d.training or any(isinstance(m, nn.Sequential) for m in d):
        return None
    if type(data_of(real)) is not np.ndarray:
        return None
    twin, norms = [], []
    for m in d:
        if isinstance(m, nn.BatchNorm):
            norms.append((m, copy_of(m)))
            m = norms[-1][1]
        twin.append(m)
    found = both((True, True), lambda: d(real), lambda: nn.Sequential(*twin)(fake))
    for norm, second in norms:
        norm.running_mean = norm.moved(norm.running_mean, second.running_mean)
        norm.running_var = norm.moved(norm.running_var, second.running_var)
    return *found, []


def copy_of(norm):
    """A BatchNorm with the same Parameters, whose averages become the last value."""
    second = nn.BatchNorm(norm.features, norm.eps, momentum=1)
    second.weight, second.bias, second.training = norm.weight, norm.bias, norm.training
    return second


# -------------------------------------------------------------------------------- backward passes


@autograd.backward.shortcut("numpy")
class TwoAtATime:
    """Shares of gradients that do not wait for each other, two at a time."""

    def walk(y, g, targets):
        if helper.pool is None:
            return None
        tape = autograd.between(y, targets)
        if max((t.size * t.dtype.itemsize for t, _ in tape), default=0) < LARGE:
            return None
        return Walk(tape, targets).run(y.number, g)


def parts(t, needed):
    """The arguments of t whose shares are computed apart: those of a product, one by one."""
    product = t.op in (conv.conv2d, conv.conv2d_transpose, products.linear, products.matmul)
    if product and t.saved is None and t.size * t.dtype.itemsize >= LARGE:
        return [[one] for one in needed]
    return [needed]


class Walk:
    """One backward pass by two threads.

    A task is a Tensor, its gradient, and some of its arguments, whose shares are wanted. It is
    ready once all uses of the Tensor have given theirs. These are added up in an order that depends
    on the graph alone.
    """

    def __init__(self, tape, targets):
        self.needed = {t.number: (t, needed) for t, needed in tape}
        self.order = self.found_in_order(tape[-1][0].number)
        self.asked, self.found = {t.number for t in targets}, {}
        self.waiting = Counter(p.number for _, needed in tape for _, p in needed)
        self.shares = {number: [] for number in self.waiting}
        self.ready, self.left, self.busy = [], 0, False     # a heap, the newest first
        self.change, self.error = threading.Condition(), None

    def found_in_order(self, newest):
        """{number: place}, by the graph alone: numbers depend on which thread was first."""
        order, todo = {}, [newest]
        while todo:
            number = todo.pop()
            if number not in order:
                order[number] = len(order)
                todo.extend(p.number for _, p in self.needed[number][1])
        return order

    def run(self, number, g):
        """The gradients {number: array} of the targets, given that of the newest Tensor."""
        other = None
        self.give(number, g)
        try:
            while task := self.take():
                if self.ready:                              # there is more to do meanwhile
                    other = helper.ask(self.help) or other
                self.do(*task)
                self.busy = False
        finally:
            with self.change:
                self.ready.clear()
            if other:
                other.result()
        return self.found

    def take(self):
        """The next task of the thread that asked for the gradients, which waits for one; None when
        all is done."""
        with self.change:
            self.change.wait_for(lambda: self.ready or not self.left or self.error)
            if self.error or not self.left:
                return None
            self.busy = True
            return heappop(self.ready)

    def help(self):
        """The other thread's work, as long as there is more than the first one takes. It does not
        wait, so that it can help within the next task."""
        try:
            while True:
                with self.change:
                    if len(self.ready) < 2 - self.busy:
                        return
                    task = heappop(self.ready)
                self.do(*task)
        except BaseException as e:
            with self.change:
                self.error = e
                self.change.notify()
            raise

    def do(self, age, part, g, needed):
        """Compute some shares of a Tensor's gradient g, and pass on what is complete by that."""
        t, _ = self.needed[-age]
        place = self.order[t.number], part
        for p, share in autograd.shares(t, g, needed, False):
            with self.change:
                self.shares[p.number].append((place, share))
                self.waiting[p.number] -= 1
                complete = not self.waiting[p.number]
            if complete:
                found = sorted(self.shares.pop(p.number), key=itemgetter(0))
                self.give(p.number, reduce(add, map(itemgetter(1), found)))
        with self.change:
            self.left -= 1
            self.change.notify()

    def give(self, number, g):
        """The gradient of a Tensor is complete, and its tasks are ready."""
        t, needed = self.needed[number]
        if number in self.asked:
            self.found[number] = g
        if needed:
            with self.change:
                for part, some in enumerate(parts(t, needed)):
                    self.left += 1
                    heappush(self.ready, (-number, part, g, some))
                self.change.notify()
