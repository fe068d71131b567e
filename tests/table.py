"""The table behind the gradient suite: for every op an independent truth and sample inputs, and the
properties all must have.

`ROWS[name]` lists the cases of an op; `PROPERTIES` are functions of one case that raise AssertionError.
pytest runs every property
of every row (test_gradients.py); mutants.py runs the same functions on ops with planted mistakes. Every
comparison of a computed
number, or array, with what it must be counts as one check in `tally`.
"""

import itertools
import math
import warnings
from collections import defaultdict
from unittest import mock

import numpy as np

from tinygan import (
    conv,
    cpu_winograd,
    elementwise,
    ops,
    pooling,
    products,
    reductions,
    shapes,
    tape,
    windows,
)
from tinygan.autograd import Op, Tensor, grad
from tinygan.backend import device_of, to_device, to_host
from tinygan.gradcheck import check

# ---------------------------------------------------------------------------- counting


class Tally:
    """How many checks were made, and the worst relative error of each op at each order."""

    def __init__(self):
        self.checks, self.errors = 0, defaultdict(dict)

    def add(self, name, what, error=0.0):
        self.checks += 1
        self.errors[name][what] = max(error, self.errors[name].get(what, 0.0))

    def report(self, name, report):
        """Take over the Report of a gradient check."""
        self.checks += report.checks
        for (_, order), error in report.errors.items():
            self.errors[name][order] = max(error, self.errors[name].get(order, 0.0))

    def table(self):
        """Lines of text: the worst relative error per op at each order."""
        columns = [c for c in (1, 2, 3, "float32") if any(c in e for e in self.errors.values())]
        lines = [f"{'op':<16}" + "".join(f"{c if c == 'float32' else f'order {c}':>11}" for c in columns)]
        for name in sorted(self.errors):
            worst = [self.errors[name].get(c) for c in columns]
            if any(e is not None for e in worst):
                lines.append(f"{name:<16}" + "".join(f"{'' if e is None else f'{e:.1e}':>11}" for e in worst))
        return lines


tally = Tally()

# ---------------------------------------------------------------------------- sample values


def draw(shape, low=-2.0, high=2.0, seed=0, kinks=()):
    """Distinct values evenly spread over (low, high) in random order, none within 0.05 of a kink."""
    rng = np.random.default_rng([seed, *shape])
    n = math.prod(shape)
    x = low + (high - low) * (rng.permutation(n) + rng.uniform(0.25, 0.75, n)) / max(n, 1)
    for kink in kinks:
        x = np.where(np.abs(x - kink) < 0.05, kink + 0.1, x)
    return x.reshape(shape)


class Case:
    """A function, its truth, and arguments; keyword arguments are already bound. Floating-point arrays
    are differentiated."""

    def __init__(self, name, f, truth, args, label):
        self.name, self.f, self.truth, self.args, self.label = name, f, truth, args, label

    def __repr__(self):
        shapes = [f"{a.dtype}{list(a.shape)}" if isinstance(a, np.ndarray) else repr(a) for a in self.args]
        return f"{self.name}({', '.join(shapes)}) {self.label}"


ROWS = defaultdict(list)


def add(name, f, truth, *args, **kwargs):
    """A row's case: f(*args, **kwargs) must be truth(*args, **kwargs)."""
    ROWS[name].append(Case(name, lambda *xs: f(*xs, **kwargs), lambda *xs: truth(*xs, **kwargs), args,
                           " ".join(f"{k}={v!r}" for k, v in kwargs.items())))


SHAPES = [(), (1,), (3,), (2, 3), (3, 1, 2), (0,), (2, 0, 3)]
PAIRS = [((), ()), ((2, 3), (2, 3)), ((3, 1), (1, 4)), ((4,), (2, 3, 4)), ((2, 3, 4), (4,)), ((1, 3), (2, 3)),
         ((2, 1, 3), (1,)),
         ((), (2, 3)), ((2, 3), ()), ((2, 3), (3, 2, 1)), ((1, 4), (1,)), ((1, 4), (1, 1)), ((2, 0), (1,)),
         ((1, 3), (0, 3))]


def unary(name, truth, low=-2.0, high=2.0, kinks=(), **kwargs):
    for shape in SHAPES:
        add(name, getattr(ops, name), truth, draw(shape, low, high, kinks=kinks), **kwargs)


def binary(name, truth, low=-2.0, high=2.0, b=None, scalar=1.3, apart=False):
    """Two arguments that broadcast: equal, scalars on either side, 0-d, size-1 and size-0 axes, the same
    array twice."""
    f, (low2, high2) = getattr(ops, name), b or (low, high)
    for i, (s, t) in enumerate(PAIRS):
        for seed in itertools.count(i):
            x, y = draw(s, low, high, seed), draw(t, low2, high2, seed + 100)
            if not apart or (np.abs(x - y) > 0.02).all():
                break
        add(name, f, truth, x, y)
    x = draw((2, 3), low, high)
    add(name, f, truth, x, scalar)
    add(name, f, truth, scalar, draw((2, 3), low2, high2))
    add(name, f, truth, draw((), low, high), scalar)
    if not apart:
        same = draw((2, 3), max(low, low2), min(high, high2))
        ROWS[name].append(Case(name, lambda z: f(z, z), lambda z: truth(z, z), (same,),
                               "the same tensor twice"))


# ---------------------------------------------------------------------------- elementwise

binary("add", lambda a, b: a + b)
binary("sub", lambda a, b: a - b)
binary("mul", lambda a, b: a * b)
binary("div", lambda a, b: a / b, 0.5, 2.5)
binary("div", lambda a, b: a / b, -2, 2, b=(-3, -1), scalar=-1.5)
binary("pow", lambda a, b: a ** b, 0.5, 2, b=(-2, 2))
binary("maximum", np.maximum, apart=True)
binary("minimum", np.minimum, apart=True)
for p in (-2, -1, 0, 0.5, 1, 2, 3, 2.5):
    add("pow", ops.pow, lambda x, p: x ** p, draw((2, 3), 0.5, 2), p)
for p in (-1, 0, 1, 2, 3):
    add("pow", ops.pow, lambda x, p: x ** p, draw((2, 3), -2, -0.5), p)
# p = 0 is no special case
add("pow", ops.pow, lambda x, p: x ** p, draw((2, 3), 0.5, 2), np.array([[0.0, 1.0, 2.0]]))
add("pow", ops.pow, lambda x, p: x ** p, draw((2, 3), 0.5, 2), np.zeros(()))
add("pow", ops.pow, lambda x, p: x ** p, 0.7, draw((2, 3)))
unary("neg", lambda x: -x)
unary("exp", np.exp)
unary("log", np.log, 0.5, 3)
unary("log1p", lambda x: np.log(1 + x), -0.5, 3)
unary("sqrt", np.sqrt, 0.5, 3)
unary("sin", np.sin, -4, 4)
unary("cos", np.cos, -4, 4)
unary("abs", np.abs, kinks=[0])
for shape in SHAPES:
    add("clip", ops.clip, lambda x, low, high: np.minimum(np.maximum(x, low), high),
        draw(shape, kinks=[-0.7, 0.9]), low=-0.7, high=0.9)
add("clip", ops.clip, lambda x, low: np.maximum(x, low), draw((2, 3), kinks=[0.1]), low=0.1)
add("clip", ops.clip, lambda x, high: np.minimum(x, high), draw((2, 3), kinks=[0.1]), high=0.1)
mask = np.array([[True, False, True], [False, False, True]])
for args in [(mask, draw((2, 3)), draw((2, 3), seed=1)), (mask, draw((2, 1)), draw((3,), seed=1)),
             (mask[0], draw((2, 3)), 1.5),
             (mask, -0.5, draw((), seed=1)), (mask[:, :1], draw(()), draw((1, 3))),
             (np.array(True), draw((2, 3)), draw((3,))),
             (mask[:0], draw((0, 3)), draw((3,)))]:
    add("where", ops.where, lambda c, a, b: c * a + (~c) * b, *args)

unary("tanh", lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)))
unary("sigmoid", lambda x: 1 / (1 + np.exp(-x)), -5, 5)
unary("softplus", lambda x: np.log(1 + np.exp(x)), -5, 5)
unary("relu", lambda x: x * (x > 0), kinks=[0])
unary("leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x), kinks=[0])
unary("leaky_relu", lambda x, slope: np.where(x > 0, x, slope * x), kinks=[0], slope=0.01)
unary("elu", lambda x: np.where(x > 0, x, np.exp(x) - 1), kinks=[0])
unary("elu", lambda x, alpha: np.where(x > 0, x, alpha * (np.exp(x) - 1)), kinks=[0], alpha=0.7)
unary("gelu", lambda x: x / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))), -3, 3)

# ---------------------------------------------------------------------------- shape

for shape, to in [((2, 3), (3, 2)), ((2, 3), -1), ((2, 3), (1, 6, 1)), ((), (1, 1)), ((1,), ()),
                  ((2, 0), (0, 5)), ((4, 3), (2, -1))]:
    add("reshape", ops.reshape, lambda x, shape: np.array(list(x.flat)).reshape(shape), draw(shape), shape=to)
for shape, axes in [((2, 3), None), ((2, 3), (1, 0)), ((2, 3, 4), (1, 2, 0)), ((2, 3, 4), (-1, 0, -2)),
                    ((), ()), ((0, 3), (1, 0)),
                    ((3,), None), ((2, 1, 3, 2), (3, 0, 2, 1))]:
    add("transpose", ops.transpose, np.transpose, draw(shape), axes=axes)
add("transpose", ops.transpose, lambda x: np.moveaxis(x, 0, 1), draw((2, 3)))
add("swap", ops.swap, lambda x: np.moveaxis(x, -1, -2), draw((2, 3, 4)))
add("swap", ops.swap, lambda x: x.T, draw((2, 3)))
add("swapaxes", ops.swapaxes, np.swapaxes, draw((2, 3, 4)), i=0, j=-1)
ROWS["swapaxes"][-1].truth = lambda x: np.swapaxes(x, 0, -1)
for shape, axis in [((1, 3, 1), None), ((1, 3, 1), 0), ((1, 3, 1), (0, -1)), ((2, 3), None)]:
    add("squeeze", ops.squeeze, np.squeeze, draw(shape), axis=axis)
add("astype", ops.astype, lambda x, dtype: x + 0.0, draw((2, 3)), dtype="float64")
for shape, to in [((3,), (2, 3)), ((2, 1), (2, 4)), ((), (2, 3)), ((1, 3), (0, 3)), ((2, 3), (2, 3)),
                  ((2, 1, 3), (4, 2, 5, 3))]:
    add("broadcast_to", ops.broadcast_to, lambda x, shape: x + np.zeros(shape), draw(shape), shape=to)

for shape, to in [((2, 3), (3,)), ((2, 4), (2, 1)), ((2, 3), ()), ((0, 3), (1, 3)), ((2, 3), (2, 3)),
                  ((4, 2, 5, 3), (2, 1, 3)), ((4, 5, 3), (3,)), ((4, 2, 3, 2), (2,)), ((5, 1), (1,)), ((2, 0), (0,))]:
    add("unbroadcast", tape.unbroadcast, lambda x, shape: np.array(
        [sum((x[i] for i in np.ndindex(x.shape) if (np.arange(math.prod(shape)).reshape(shape) + np.zeros(x.shape))[i] == k),
             0.0) for k in range(math.prod(shape))]).reshape(shape), draw(shape), shape=to)

KEYS = [((3, 4), 1), ((3, 4), -1), ((3, 4), slice(None, None, -1)), ((3, 4), (slice(0, 2), slice(1, 4, 2))),
        ((3, 4), (Ellipsis, 0)),
        ((3, 4), (None, slice(1, 3))), ((3, 4), np.array([0, 0, 2])), ((3, 4), [2, 2, 1]),
        ((3, 4), (np.array([0, 1, 1]), np.array([3, 2, 2]))),
        ((3, 4), (slice(None), np.array([[0, 1], [1, -1]]))), ((3, 4), draw((3, 4)) > 0),
        ((3, 4), np.array([True, False, True])),
        ((3, 4), (np.array([0, 0]), slice(1, 3))), ((3, 4, 2), (0, np.array([1, 1]), slice(None))),
        ((3, 4, 2), (np.array([0, 2]), 1)),
        ((3, 4), np.int64(2)), ((3, 4), np.array([], dtype=int)), ((3, 4), slice(2, 2)),
        ((0, 3), (slice(None), 1)), ((4,), 2), ((3, 4), (1, 2)),
        ((3, 4), np.zeros(4, dtype=bool)[:3]), ((), None), ((3, 4), np.array(1)),
        ((2, 3, 4), (slice(None), np.array([0, 2]), None, np.array([1, 1])))]


def beside(x, key):
    """An index with its arrays where x lies."""
    if isinstance(key, tuple):
        return tuple(beside(x, k) for k in key)
    x = x.data if isinstance(x, Tensor) else x
    return to_device(np.array(key), device_of(x)) if isinstance(key, (np.ndarray, list)) else key


for shape, key in KEYS:
    add("getitem", lambda x, key: ops.getitem(x, key=beside(x, key)), lambda x, key: np.array(x[key]),
        draw(shape), key=key)

    def _put(v, key, shape):
        places = np.arange(math.prod(shape)).reshape(shape)[key]
        y = np.zeros(shape).reshape(-1)
        for place, value in zip(np.ravel(places), np.ravel(v), strict=True):
            y[place] += value
        return y.reshape(shape)
    add("add_at", lambda v, key, shape: ops.add_at(v, key=beside(v, key), shape=shape), _put,
        draw(np.empty(shape)[key].shape), key=key, shape=shape)

for sizes, axis in [([(2, 3), (1, 3)], 0), ([(2, 3), (2, 1), (2, 2)], 1), ([(2, 3), (2, 1)], -1),
                     ([(3,)], 0), ([(0, 3), (2, 3)], 0),
                     ([(2, 1, 3), (2, 2, 3)], -2), ([(2, 2), (2, 2), (2, 2), (2, 2)], 1)]:
    xs = [draw(s, seed=i) for i, s in enumerate(sizes)]
    add("concatenate", ops.concatenate, lambda *xs, axis: np.moveaxis(
        np.array([row for x in xs for row in np.moveaxis(x, axis, 0)]).reshape(
            (-1, *np.moveaxis(xs[0], axis, 0).shape[1:])), 0, axis), *xs, axis=axis)
add("concatenate", ops.concatenate, lambda a, b: np.array([*a, *b]), draw((2, 3)), draw((1, 3), seed=1))
for parts in ([(2, 3), (1, 3)], [(2,), (3, 2), ()], [(2, 2), (0, 3), (3, 1)]):
    add("concatenate", ops.concatenate, lambda *xs, axis: np.array([v for x in xs for v in np.ravel(x)]),
        *[draw(s, seed=i) for i, s in enumerate(parts)], axis=None)
ROWS["concatenate"].append(Case("concatenate", lambda x: ops.concatenate(x, x), lambda x: np.array([*x, *x]),
                                (draw((2, 3)),),
                                "the same tensor twice"))
for sizes, axis in [([(2, 3), (2, 3)], 0), ([(2, 3)] * 3, -1), ([(2, 3), (2, 3)], 1), ([(), ()], 0),
                     ([(0, 2)] * 2, 1)]:
    add("stack", lambda *xs, axis: ops.stack(xs, axis=axis),
        lambda *xs, axis: np.moveaxis(np.array(xs), 0, axis),
        *[draw(s, seed=i) for i, s in enumerate(sizes)], axis=axis)


def _pad(x, widths, value=0.0):
    y = np.full([b + n + a for (b, a), n in zip(widths, x.shape, strict=True)], value)
    y[tuple(slice(b, b + n) for (b, _), n in zip(widths, x.shape, strict=True))] = x
    return y


for shape, widths, kw in [((2, 3), ((1, 2), (0, 1)), {}), ((2, 3), ((0, 0), (2, 0)), dict(value=1.5)),
                          ((3,), ((1, 1),), {}), ((0, 2), ((1, 0), (0, 1)), {}),
                          ((2, 1, 2), ((0, 1), (2, 1), (0, 0)), dict(value=-2.0))]:
    add("pad", ops.pad, _pad, draw(shape), widths=widths, **kw)
for shape, axis in [((2, 3), 0), ((2, 3), -1), ((2, 3, 2), (0, 2)), ((3,), 0), ((0, 2), 1)]:
    add("flip", ops.flip, lambda x, axis: np.array(x)[tuple(
        slice(None, None, -1) if i in np.atleast_1d(axis) % x.ndim else slice(None) for i in range(x.ndim))],
        draw(shape), axis=axis)
for shape, axis in [((2, 3), 0), ((2, 3), 1), ((2, 3, 2), -2), ((4,), 0), ((0, 3), 0), ((2, 1), 1)]:
    add("cumsum", ops.cumsum, lambda x, axis: np.moveaxis(
        np.array([np.moveaxis(x, axis, 0)[:i + 1].sum(0)
                  for i in range(x.shape[axis])]).reshape(np.moveaxis(x, axis, 0).shape), 0, axis),
        draw(shape), axis=axis)
for shape in [(2, 3), (3,), (), (2, 1, 2), (0, 3)]:
    add("cumsum", ops.cumsum, lambda x: np.array([sum(np.ravel(x)[:i + 1]) for i in range(x.size)]), draw(shape))
    add("flip", ops.flip, lambda x: np.ravel(x)[::-1].reshape(x.shape), draw(shape))
for shape, widths in [((2, 3), 1), ((2, 3), (1, 2)), ((2, 3), ((1, 2),)), ((3,), 2), ((0, 2), 1)]:
    add("pad", ops.pad, lambda x, widths: _pad(x, np.broadcast_to(widths, (x.ndim, 2)).tolist()), draw(shape), widths=widths)
for index in (np.array([0, 2, 2]), np.array([[1, 1], [0, 3]]), np.array([], dtype=int), np.array(3)):
    add("embedding", ops.embedding, lambda w, i: np.eye(4)[i] @ w, draw((4, 3)), index)

# ---------------------------------------------------------------------------- reductions

REDUCTIONS = [((2, 3), {}), ((2, 3), dict(axis=0)), ((2, 3), dict(axis=1)),
              ((2, 3), dict(axis=-1, keepdims=True)), ((2, 3), dict(axis=(0, 1))),
              ((2, 3, 4), dict(axis=(0, -1))), ((2, 3, 4), dict(axis=(0, 2), keepdims=True)),
              ((2, 3, 4), dict(axis=1)), ((3,), {}),
              ((3,), dict(keepdims=True)), ((), {}), ((1,), {}), ((2, 1, 3), dict(axis=1)),
              ((3, 1), dict(axis=(0,))), ((0, 3), dict(axis=1)),
              ((2, 2), dict(axis=0)), ((2, 2), dict(axis=1))]


def slices(reduce, x, axis=None, keepdims=False):
    """A reduction by the book: reduce([numbers]) for every group of elements that differ along `axis`
    alone."""
    axes = sorted({a % x.ndim
                   for a in np.atleast_1d(range(x.ndim) if axis is None
                                          else axis).astype(int)}) if x.ndim else []
    kept = [i for i in range(x.ndim) if i not in axes]
    groups = x.transpose(*kept,
                         *axes).reshape([*(x.shape[i] for i in kept), math.prod(x.shape[i] for i in axes)])
    y = np.array([reduce([float(v) for v in row])
                  for row in groups.reshape(math.prod(groups.shape[:-1]), groups.shape[-1])])
    return y.reshape([1 if i in axes else n for i, n in enumerate(x.shape)] if keepdims
                     else [x.shape[i] for i in kept])


def _var(row):
    return math.fsum((v - math.fsum(row) / len(row)) ** 2 for v in row) / len(row)


for name, reduce in dict(sum=math.fsum, mean=lambda r: math.fsum(r) / len(r), var=_var, max=max, min=min,
                         norm=lambda r: math.hypot(*r),
                         logsumexp=lambda r: math.log(math.fsum(map(math.exp, r)))).items():
    for shape, kw in REDUCTIONS:
        # the norm of one number has a kink, as abs has: see KINKS
        if name != "norm" or shape not in [(), (1,)]:
            add(name, getattr(ops, name), lambda x, reduce=reduce, **kw: slices(reduce, x, **kw),
                draw(shape, seed=1, kinks=[0]), **kw)
add("sum", ops.sum, lambda x, axis: np.zeros(3), np.zeros((0, 3)), axis=0)
for shape, axis in [((3,), -1), ((2, 3), -1), ((2, 3), 0), ((2, 3, 2), 1), ((1, 1), 0), ((1, 3), -1),
                    ((3, 1), 0), ((0, 3), -1), ((3, 3), 0)]:
    x = draw(shape, -3, 3)
    add("softmax", ops.softmax, lambda x, axis: np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True), x,
        axis=axis)
    add("log_softmax", ops.log_softmax, lambda x, axis: x - np.log(np.exp(x).sum(axis=axis, keepdims=True)),
        x, axis=axis)
add("softmax", ops.softmax, lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True), draw((2, 3)))
add("log_softmax", ops.log_softmax, lambda x: x - np.log(np.exp(x).sum(axis=-1, keepdims=True)), draw((2, 3)))

# ---------------------------------------------------------------------------- products


def _product(a, b):
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = a + np.zeros((*lead, 1, 1)), b + np.zeros((*lead, 1, 1))
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


for s, t in [((2, 3), (3, 4)), ((2, 2), (2, 2)), ((5, 2, 3), (5, 3, 2)), ((5, 1, 2, 3), (4, 3, 2)),
             ((2, 3), (5, 3, 2)), ((2, 3), (3, 3, 4)), ((1, 2, 3), (4, 3, 1)),
             ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((1, 1), (1, 1)), ((2, 3, 4), (4, 2))]:
    add("matmul", ops.matmul, _product, draw(s), draw(t, seed=1))
ROWS["matmul"].append(Case("matmul", lambda x: ops.matmul(x, x), lambda x: _product(x, x), (draw((3, 3)),),
                           "the same tensor twice"))
for s, t in [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)),
             ((2, 3), (3, 2))]:
    add("dot", ops.dot, lambda a, b: np.tensordot(a, b, (-1, -2 if b.ndim > 1 else -1)), draw(s),
        draw(t, seed=1))
for n, k, m in [(2, 3, 4), (2, 2, 2), (1, 3, 1), (0, 3, 2)]:
    add("linear", ops.linear, lambda x, w, b: _product(x, w) + b, draw((n, k)), draw((k, m), seed=1),
        draw((m,), seed=2))
for formula, *sizes in [("ij,jk->ik", (2, 3), (3, 2)), ("ij,ij->", (2, 3), (2, 3)), ("ij->", (2, 3)),
                         ("ij->j", (2, 3)), ("ij->ji", (2, 3)),
                         ("bij,bjk->bik", (2, 3, 2), (2, 2, 4)), ("i,j->ij", (2,), (3,)),
                         ("i,i,i->i", (3,), (3,), (3,)), ("ij,k->j", (2, 3), (4,)),
                         ("ijk,kl,jm->ilm", (2, 3, 2), (2, 2), (3, 2)), (",i->i", (), (3,)),
                         ("ij,ij->ij", (2, 1), (2, 3)), ("ij,ij->", (1, 3), (2, 3)),
                         ("ij,jk->ik", (0, 3), (3, 2)), ("ij,ji->ij", (2, 2), (2, 2))]:
    xs = [draw(s, seed=i) for i, s in enumerate(sizes)]

    def _einsum(formula, *xs):
        terms, result = formula.split("->")
        size = {}
        for t, x in zip(terms.split(","), xs, strict=True):
            for i, n in zip(t, x.shape, strict=True):
                size[i] = max(n, size.get(i, n)) if n and size.get(i, n) else 0
        y = np.zeros([size[i] for i in result])
        for point in itertools.product(*(range(n) for n in size.values())):
            at = dict(zip(size, point, strict=True))
            y[tuple(at[i] for i in result)] += math.prod(
                x[tuple(at[i] if n > 1 else 0 for i, n in zip(t, x.shape, strict=True))] for t,
                x in zip(terms.split(","), xs, strict=True))
        return y
    add("einsum", lambda *xs, formula: ops.einsum(formula, *xs), lambda *xs, formula: _einsum(formula, *xs),
        *xs, formula=formula)
    add("contract", ops.contract, lambda *xs, formula: _einsum(formula, *xs), *xs, formula=formula)


def _normalize(x, scale, shift, axis, eps=1e-5, statistics=None):
    mean = slices(lambda r: math.fsum(r) / len(r), x, axis, True)
    return (x - mean) / np.sqrt(slices(_var, x, axis, True) + eps) * scale + shift


for shape, axis in [((4, 3), (0,)), ((4, 3), 0), ((2, 3, 2, 2), (0, 1, 2)), ((2, 3, 2, 2), (1, 2)),
                    ((2, 4), (-1,)), ((3, 3), 1)]:
    for c, eps in [((shape[-1],), 1e-5), ((), 0.03), ((1,) * (len(shape) - 1) + shape[-1:], 0.1),
                   (shape, 0.2)]:
        add("normalize", ops.normalize, _normalize, draw(shape), draw(c, seed=1), draw(c, seed=2), axis=axis,
            eps=eps)
    add("normalize", ops.normalize, _normalize, draw(shape), draw(shape[-1:], seed=1),
        draw(shape[-1:], seed=2), axis=axis)
    add("normalize", ops.normalize, _normalize, draw(shape), 1.5, -0.5, axis=axis, eps=0.1, statistics=[])
    add("standardize", ops.standardize, lambda x, axis, eps: _normalize(x, 1.0, 0.0, axis, eps), draw(shape),
        axis=axis, eps=1e-3)
    add("standardize", ops.standardize, lambda x, axis: _normalize(x, 1.0, 0.0, axis), draw(shape), axis=axis)

# ---------------------------------------------------------------------------- convolution

CONVOLUTIONS = [
    # N, (H, W), C, O, kernel, how
    (2, (5, 4), 2, 3, (3, 3), {}), (1, (5, 6), 2, 2, (3, 2), dict(stride=2)),
    (2, (4, 5), 1, 2, (2, 3), dict(padding=1)),
    (1, (6, 7), 2, 1, (2, 2), dict(dilation=2)),
    (2, (6, 5), 2, 2, (3, 2), dict(stride=(2, 1), padding=(1, 0))),
    (1, (7, 8), 1, 2, (2, 3), dict(stride=(1, 3), padding=(0, 2), dilation=(2, 1))),
    (1, (4, 4), 2, 2, (1, 1), {}),
    (1, (4, 4), 2, 2, (4, 4), dict(stride=2, padding=1)), (1, (3, 4), 2, 3, (3, 4), {}),
    (1, (5, 5), 1, 1, (1, 2), dict(stride=3)),
    (0, (4, 4), 2, 3, (3, 3), dict(padding=1)),
    (1, (8, 7), 1, 1, (3, 3), dict(stride=2, padding=2, dilation=2)),
    # enough channels for rows instead of planes: with and without sub-pixels
    (2, (4, 5), 5, 2, (2, 2), dict(dilation=2)), (1, (4, 4), 4, 2, (4, 4), dict(stride=2, padding=1)),
    (2, (3, 3), 4, 1, (3, 2), dict(padding=(2, 1), dilation=(1, 2))),
]


TILED = [       # a DCGAN's kernel: whole and cut tiles, more and less border than the tiles need
    (2, (4, 8), 1, 2, (4, 4), dict(stride=2, padding=1)), (1, (6, 9), 2, 1, (4, 4), dict(stride=2, padding=(1, 0))),
    (1, (5, 4), 1, 1, (4, 4), dict(stride=2, padding=(0, 3))), (1, (3, 7), 1, 1, (4, 4), dict(stride=2, padding=(4, 1))),
    (1, (12, 4), 1, 1, (4, 4), dict(stride=2, padding=(0, 1))),
]


def _two(v):
    return v if isinstance(v, tuple) else (v, v)


def trilinear(x, w, g, stride=1, padding=0, dilation=1):
    """∂T/∂f, ∂T/∂x and ∂T/∂w of T = Σ f x w, by the formula at the head of conv.py, one product at a time."""
    (sh, sw), (ph, pw), (dh, dw) = _two(stride), _two(padding), _two(dilation)
    (n_, h_, w_, c_), (kh, kw, _, o_) = x.shape, w.shape
    ho, wo = (h_ + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w_ + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    y, gx, gw = np.zeros((n_, ho, wo, o_)), np.zeros(x.shape), np.zeros(w.shape)
    g = np.zeros(y.shape) if g is None else g
    for i, j, u, v in itertools.product(range(ho), range(wo), range(kh), range(kw)):
        r, s = i * sh + u * dh - ph, j * sw + v * dw - pw
        if 0 <= r < h_ and 0 <= s < w_:
            for c, o in itertools.product(range(c_), range(o_)):
                y[:, i, j, o] += x[:, r, s, c] * w[u, v, c, o]
                gx[:, r, s, c] += g[:, i, j, o] * w[u, v, c, o]
                gw[u, v, c, o] += (g[:, i, j, o] * x[:, r, s, c]).sum()
    return y, gx, gw


def _windows(x, kernel, stride=1, padding=0, dilation=1):
    w = np.zeros((*kernel, 1, 1))
    columns = []
    for u, v in itertools.product(range(kernel[0]), range(kernel[1])):
        w[:] = 0
        w[u, v] = 1
        columns.append(np.concatenate([trilinear(x[..., c:c + 1], w, None, stride, padding, dilation)[0]
                                       for c in range(x.shape[3])], -1))
    y = np.stack(columns, 3)
    return y.reshape(*y.shape[:3], *kernel, x.shape[3])


def _fold(v, size, stride=1, padding=0, dilation=1):
    (sh, sw), (ph, pw), (dh, dw) = _two(stride), _two(padding), _two(dilation)
    x = np.zeros((v.shape[0], *size, v.shape[5]))
    for i, j, u, w in itertools.product(*(range(n) for n in v.shape[1:5])):
        r, s = i * sh + u * dh - ph, j * sw + w * dw - pw
        if 0 <= r < size[0] and 0 <= s < size[1]:
            x[:, r, s] += v[:, i, j, u, w]
    return x


def tiled(f):
    """The op f, where the CPU's Winograd tiles are taken although they do not pay for so small an array."""
    def always(*args, **how):
        with mock.patch.object(cpu_winograd, "LEAST", -math.inf):
            return f(*args, **how)
    return always


def convolution(n, size, c, o, kernel, how, way=lambda f: f):
    """Rows for the three ops of one setting, and for the windows below them."""
    x, w = draw((n, *size, c)), draw((*kernel, c, o), seed=1)
    g = draw((n, *conv.output_size(size, kernel, **how), o), seed=2)
    add("conv2d", way(conv.conv2d), lambda x, w, **how: trilinear(x, w, None, **how)[0], x, w, **how)
    add("conv2d_transpose", way(conv.conv2d_transpose),
        lambda g, w, size, **how: trilinear(np.zeros(x.shape), w, g, **how)[1], g, w, size=size, **how)
    add("conv2d_weight_gradient", way(conv.conv2d_weight_gradient),
        lambda x, g, kernel, **how: trilinear(x, np.zeros(w.shape), g, **how)[2], x, g, kernel=kernel, **how)
    if n:
        add("unfold", conv.unfold, _windows, x, kernel=kernel, **how)
        add("fold", conv.fold, _fold, draw((n, *g.shape[1:3], *kernel, c), seed=3), size=size, **how)


for setting in CONVOLUTIONS:
    convolution(*setting)
for setting in TILED:
    convolution(*setting, way=tiled)


def _pooled(reduce, x, kernel, stride=None, padding=0):
    edge = -np.inf if reduce is np.max else 0.0
    ph, pw = _two(padding)
    (kh, kw), (sh, sw) = _two(kernel), _two(stride or kernel)
    x = _pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)), edge)
    ho, wo = (x.shape[1] - kh) // sh + 1, (x.shape[2] - kw) // sw + 1
    return np.array([[[reduce(im[i * sh:i * sh + kh, j * sw:j * sw + kw], axis=(0, 1)) for j in range(wo)]
                      for i in range(ho)] for im in x])


for shape, kw in [((2, 4, 4, 2), dict(kernel=2)), ((1, 5, 6, 1), dict(kernel=(2, 3), stride=1)),
                  ((2, 5, 4, 2), dict(kernel=3, stride=2, padding=1)),
                  ((1, 4, 6, 1), dict(kernel=(1, 2), stride=(2, 1), padding=(0, 1)))]:
    add("max_pool2d", conv.max_pool2d, lambda x, **kw: _pooled(np.max, x, **kw), draw(shape), **kw)
    add("max_pool", conv.max_pool, lambda x, **kw: _pooled(np.max, x, **kw), draw(shape),
        **{"stride": _two(kw.get("stride") or kw["kernel"]), **{k: _two(v) for k, v in kw.items()}})
    add("avg_pool2d", conv.avg_pool2d, lambda x, **kw: _pooled(np.mean, x, **kw), draw(shape), **kw)
for shape, factor in [((2, 2, 3, 2), 2), ((1, 2, 2, 1), (3, 1)), ((0, 2, 2, 1), 2)]:
    add("upsample", conv.upsample, lambda x, factor: np.kron(x, np.ones((1, *_two(factor), 1))), draw(shape),
        factor=factor)

MODULES = (tape, elementwise, shapes, reductions, products, windows, conv, pooling)
OPS = {f.name: f for module in MODULES for f in vars(module).values() if isinstance(f, Op)}

# ---------------------------------------------------------------------------- kinks, ties and other choices
# (function, arguments, cotangent, the gradients that the docstring of the op promises)

_half, _zero = np.full(2, 0.5), np.zeros(2)
KINKS = {
    "relu": [(ops.relu, [np.array([0.0, -0.0, 1, -1])], np.full(4, 2.0), [[0, 0, 2, 0]])],
    "leaky_relu": [(lambda x: ops.leaky_relu(x, slope=0.1), [np.array([0.0, 1, -1])], np.ones(3),
                    [[0.1, 1, 0.1]])],
    "elu": [(lambda x: ops.elu(x, alpha=0.5), [np.array([0.0, 1])], np.ones(2), [[0.5, 1]])],
    "abs": [(ops.abs, [np.array([0.0, 2, -2])], np.full(3, 3.0), [[0, 3, -3]])],
    "clip": [(lambda x: ops.clip(x, low=-1, high=2), [np.array([-1.0, 2, -1.5, 2.5, 0])], np.full(5, 3.0),
              [[3, 3, 0, 0, 3]])],
    "maximum": [(ops.maximum, [np.array([1.0, 2, 3]), np.array([1.0, 3, 2])], np.full(3, 2.0),
                 [[1, 0, 2], [1, 2, 0]]),
                (ops.maximum, [np.zeros((2, 1)), np.zeros(3)], np.ones((2, 3)),
                 [np.full((2, 1), 1.5), np.ones(3)]),
                (lambda x: ops.maximum(x, 0.0), [np.array([0.0, -1, 1])], np.ones(3), [[0.5, 0, 1]]),
                (lambda x: ops.maximum(x, x), [np.array([1.0, -1])], np.ones(2), [[1, 1]])],
    "minimum": [(ops.minimum, [np.array([1.0, 2, 3]), np.array([1.0, 3, 2])], np.full(3, 2.0),
                 [[1, 2, 0], [1, 0, 2]]),
                (ops.minimum, [np.zeros((2, 1)), np.zeros(3)], np.ones((2, 3)),
                 [np.full((2, 1), 1.5), np.ones(3)])],
    "max": [(ops.max, [np.array([1.0, 3, 3, 2])], np.array(2.0), [[0, 1, 1, 0]]),
            (lambda x: ops.max(x, axis=1), [np.array([[1.0, 1, 1, 0], [0, 0, 5, 0]])], np.array([3.0, 1]),
             [[[1, 1, 1, 0], [0, 0, 1, 0]]]),
            (lambda x: ops.max(x, axis=(0, 1), keepdims=True), [np.zeros((2, 2))], np.ones((1, 1)),
             [np.full((2, 2), 0.25)])],
    "min": [(ops.min, [np.array([1.0, 3, 1, 2])], np.array(2.0), [[1, 0, 1, 0]]),
            (lambda x: ops.min(x, axis=0), [np.array([[1.0, 0], [1, 2]])], np.array([1.0, 1]),
             [[[0.5, 1], [0.5, 0]]])],
    "max_pool2d": [(lambda x: conv.max_pool2d(x, 2), [np.zeros((1, 2, 2, 1))], np.ones((1, 1, 1, 1)),
                    [np.full((1, 2, 2, 1), 0.25)])],
    "max_pool": [(lambda x: conv.max_pool2d(x, 2, 1), [np.array([[0.0, 1, 1], [0, 1, 0]]).reshape(1, 2, 3, 1)],
                  np.array([2.0, 3]).reshape(1, 1, 2, 1), [np.array([[0, 2, 1], [0, 2, 0.0]]).reshape(1, 2, 3, 1)]),
                 (lambda x: conv.max_pool2d(x, 2, 2, 1), [np.full((1, 2, 2, 1), -math.inf)], np.ones((1, 2, 2, 1)),
                  [np.ones((1, 2, 2, 1))])],
    "norm": [(ops.norm, [np.zeros(3)], np.array(2.0), [[0, 0, 0]]),
             (ops.norm, [np.array([-3.0])], np.array(2.0), [[-2]]),
             (lambda x: ops.norm(x, axis=1), [np.array([[0.0, 0], [3, 4]])], np.ones(2),
              [[[0, 0], [0.6, 0.8]]])],
    "pow": [(ops.pow, [np.array([0.0, 2]), np.zeros(2)], np.ones(2), [[0, 0], [0, math.log(2)]]),
            (ops.pow, [np.zeros(2), np.array([1.0, 2])], np.ones(2), [[1, 0], [0, 0]]),
            (lambda x: ops.pow(x, 0), [np.array([0.0, -1, 3])], np.ones(3), [[0, 0, 0]]),
            (lambda x: ops.pow(x, 1), [np.array([0.0, -1])], np.full(2, 2.0), [[2, 2]]),
            (lambda x: ops.pow(x, 2), [np.array([0.0, -1])], np.full(2, 2.0), [[0, -4]]),
            (lambda p: ops.pow(0.0, p), [np.array([0.0, 2])], np.ones(2), [[0, 0]])],
    "logsumexp": [(ops.logsumexp, [np.full(3, -np.inf)], np.array(1.0), [[0, 0, 0]]),
                  (lambda x: ops.logsumexp(x, axis=0), [np.array([[-np.inf, 0], [-np.inf, -np.inf]])],
                   np.ones(2), [[[0, 1], [0, 0]]])],
    "where": [(lambda x: ops.where(x.data > 0, ops.sqrt(ops.where(x.data > 0, x, 1.0)), 0.0),
               [np.array([4.0, -4, 0])], np.ones(3), [[0.25, 0, 0]])],
}


def kinks(name, device):
    """At kinks and ties the gradient is the one its docstring names."""
    for f, args, v, expected in KINKS.get(name, []):
        for dtype in (np.float64, np.float32):
            xs = [Tensor(to_device(a.astype(dtype), device)) for a in args]
            got = grad(f(*xs), xs, to_device(v.astype(dtype), device))
            again = grad(f(*xs), xs, to_device(v.astype(dtype), device), create_graph=True)
            for x, a, b, e in zip(xs, got, again, expected, strict=True):
                assert a.dtype == b.dtype == dtype, f"{name} turns the gradient into {a.dtype}, {b.dtype} at {x}"
                np.testing.assert_allclose(to_host(a), e, rtol=1e-6, atol=0, err_msg=f"{name} at {x}")
                np.testing.assert_allclose(to_host(b.data), e, rtol=1e-6, atol=0,
                                           err_msg=f"{name}, recorded, at {x}")
                tally.add(name, "kinks")
                tally.add(name, "kinks")


# ---------------------------------------------------------------------------- what every case must satisfy


def is_float(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def host(x):
    """A Tensor or an array of any device as a NumPy array."""
    return to_host(x.data if isinstance(x, Tensor) else x)


def tensors(case, device, dtype=np.float64, layout=lambda a: a):
    """The case's arguments with a Tensor for every floating-point array, and the list of these Tensors."""
    def leaf(a):
        t = Tensor(to_device(a.astype(dtype), device))
        t.data = to_device(layout(a.astype(dtype)), device)         # taken as it lies in memory, where Tensor(...) copies
        return t
    args = [leaf(a) if is_float(a) else to_device(a, device) if isinstance(a, np.ndarray) else a for a in case.args]
    return args, [a for a in args if isinstance(a, Tensor)]


def like(arrays, device, seed, dtype=np.float64):
    """Random arrays of the same shapes."""
    rng = np.random.default_rng(seed)
    return [to_device(rng.uniform(0.5, 1.5, a.shape).astype(dtype) * rng.choice([-1, 1],
        a.shape).astype(dtype), device) for a in arrays]


def second(f, args, xs, v, us):
    """First and second derivatives: J(x)ᵀ v, recorded, and the gradient of ⟨u, J(x)ᵀ v⟩ by every x and
    by v."""
    v = Tensor(v)
    first = grad((f(*args) * v).sum(), xs, create_graph=True)
    s = (v * 0.0).sum()
    for g, x, u in zip(first, xs, us, strict=True):
        s = s + (g * u).sum() + (x * 0.0).sum()
    return [g.data for g in first], grad(s, [*xs, v])


def near(name, what, got, expected, tolerance, message):
    """One check: two arrays agree, relative to the largest element."""
    got, expected = np.asarray(to_host(got), dtype=np.float64), np.asarray(to_host(expected),
        dtype=np.float64)
    assert got.shape == expected.shape, f"{message}: shape {got.shape}, expected {expected.shape}"
    error = float(np.abs(got - expected).max(initial=0.0)) / max(float(np.abs(expected).max(initial=0.0)),
        1e-300)
    assert error <= tolerance, f"{message}: relative error {error:.2g}, got {got}, expected {expected}"
    tally.add(name, what, error)


def value(case, device):
    """The forward pass is the function it is said to be, with and without a Tensor among the arguments."""
    args, _ = tensors(case, device)
    with np.errstate(all="ignore"):
        expected = np.asarray(case.truth(*case.args))
    y = case.f(*args)
    near(case.name, "value", y.data, expected, 1e-12, f"value of {case}")
    plain = case.f(*[a.data if isinstance(a, Tensor) else a for a in args])
    assert not isinstance(plain, Tensor), f"{case}: arrays gave a Tensor"
    near(case.name, "value", plain, expected, 1e-12, f"value of {case} on arrays")


def derivatives(case, device, seeds=None, order=2):
    """First and second derivatives agree with finite differences, to 1e-7, by the library's own checker."""
    args, _ = tensors(case, device)
    small = sum(x.size for x in args if isinstance(x, Tensor)) <= 30
    for seed in seeds or ([0, 1] if device == "cpu" and small else [0]):
        tally.report(case.name, check(case.f, *args, order=order, seed=seed))


def every_entry(case, device):
    """Every single entry of the Jacobian agrees with finite differences (small cases)."""
    args, xs = tensors(case, device)
    if 0 < sum(x.size for x in xs) * case.f(*args).size <= 40:
        tally.report(case.name, check(case.f, *args, order=1, jacobian=True))


def _shifted(a):
    if a.ndim == 0:
        return np.array(a)
    big = np.full([n + 2 for n in a.shape], np.nan, a.dtype)
    inside = big[tuple(slice(1, n + 1) for n in a.shape)]
    inside[...] = a
    return inside


LAYOUTS = {"transposed": lambda a: np.array(a.T, order="C").T,
           "negative strides": lambda a: np.array(a[(slice(None, None, -1),) * a.ndim])[(slice(None, None,
               -1),) * a.ndim],
           "0-stride": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim else a,
           "inside a larger array": _shifted}


def layouts(case, device):
    """How the arguments lie in memory changes nothing: values, first and second derivatives."""
    def everything(layout):
        args, xs = tensors(case, device, layout=layout)
        y = case.f(*args)
        v, us = to_device(layout(to_host(like([y], device, 1)[0])), device), like(xs, device, 2)
        return [y.data, *grad(y, xs, v), *itertools.chain(*second(case.f, args, xs, v, us))]
    plain = everything(lambda a: np.array(a, order="C"))
    repeated = everything(lambda a: np.array(LAYOUTS["0-stride"](a), order="C"))
    for name, layout in LAYOUTS.items():
        for a, b in zip(everything(layout), repeated if name == "0-stride" else plain, strict=True):
            near(case.name, "layouts", a, b, 1e-12, f"{name} arguments of {case}")


def float32(case, device):
    """float32 goes in, float32 comes out, at every order and in both readings, and it agrees with float64."""
    results = []
    for dtype in (np.float32, np.float64):
        args, xs = tensors(case, device, layout=lambda a, dtype=dtype: a.astype(np.float32).astype(dtype))
        y = case.f(*args)
        v, us = like([y], device, 1, np.float32)[0].astype(dtype), [u.astype(dtype)
            for u in like(xs, device, 2, np.float32)]
        results.append([y.data, *grad(y, xs, v), *itertools.chain(*second(case.f, args, xs, v, us))])
    # what lies behind astype has the type asked for
    asked = [0, len(results[0]) - 1] if case.name == "astype" else []
    for i, (a, b) in enumerate(zip(*results, strict=True)):
        if i not in asked:
            assert a.dtype == np.float32, f"{case}: {'the result' if i == 0 else f'gradient {i}'} became {a.dtype}"
        near(case.name, "float32", a, b, 1e-4, f"float32 in {case}")


def clean(case, device):
    """A backward pass changes none of its inputs, gives the same bits twice, and each gradient its
    argument's shape and type."""
    args, xs = tensors(case, device)
    y = case.f(*args)
    v = like([y], device, 1)[0]
    us = like(xs, device, 2)
    arrays = [v, y.data, *(x.data for x in xs), *us]
    before = [np.array(to_host(a)) for a in arrays]
    for a in arrays:
        if device == "cpu" and isinstance(a, np.ndarray):
            a.flags.writeable = False
    results = [[*grad(y, xs, v), *grad(y, xs, v, create_graph=True),
                *itertools.chain(*second(case.f, args, xs, v, us))] for _ in range(2)]
    for a, b in zip(arrays, before, strict=True):
        assert np.array_equal(to_host(a), b), f"{case}: an input was changed"
        tally.add(case.name, "unchanged")
    for a, b in zip(*results, strict=True):
        assert np.array_equal(host(a), host(b)), f"{case}: two backward passes differ"
        tally.add(case.name, "same bits")
    for x, g in zip(xs, results[0], strict=False):
        assert (g.shape, g.dtype) == (x.shape,
                                      x.dtype), f"{case}: a gradient is {g.shape} {g.dtype}, its argument {x.shape} {x.dtype}"
        tally.add(case.name, "shapes")


def linear(case, device):
    """J(x)ᵀ v is linear in v: zero gives exactly zero, and J(x)ᵀ (v + 2 w) = J(x)ᵀ v + 2 J(x)ᵀ w."""
    args, xs = tensors(case, device)
    y = case.f(*args)
    (v,), (w,) = like([y], device, 1), like([y], device, 2)
    for g in [*grad(y, xs, v * 0.0), *grad(y, xs, v * 0.0, create_graph=True)]:
        assert not np.any(host(g)), f"{case}: a zero cotangent gives a gradient"
        tally.add(case.name, "zero")
    for a, b, c in zip(grad(y, xs, v), grad(y, xs, w), grad(y, xs, v + 2 * w), strict=True):
        near(case.name, "linear", c, a + 2 * b, 1e-12, f"{case} is not linear in the cotangent")


def subsets(case, device):
    """What else is differentiated changes nothing, and the plain reading (also op.fast) equals the
    recorded one: for each subset."""
    args, xs = tensors(case, device)
    y = case.f(*args)
    v = like([y], device, 1)[0]
    every = [g.data for g in grad(y, xs, v, create_graph=True)]
    for chosen in itertools.product([False, True], repeat=len(xs)) if len(xs) <= 3 else [(True,) * len(xs)]:
        if any(chosen):
            some = [a for a in args]
            picked = iter(chosen)
            some = [a if not isinstance(a, Tensor) or next(picked) else a.data for a in some]
            again = case.f(*some)
            wanted = [x for x, c in zip(xs, chosen, strict=True) if c]
            near(case.name, "subsets", again.data, y.data, 0, f"value of {case} with some constant arguments")
            for loss in (y, again):
                for g, e in zip(grad(loss, wanted, v), (e for e, c in zip(every, chosen, strict=True) if c),
                                strict=True):
                    near(case.name, "subsets", g, e, 1e-12,
                         f"{case}: plain against recorded, differentiating {chosen}")


PROPERTIES = [value, derivatives, every_entry, layouts, float32, clean, linear, subsets]
# where another array module could behave differently; the rest is mathematics
ON_EVERY_DEVICE = [value, derivatives, float32, clean]


def run(name, device="cpu"):
    """Everything about one op: raises at the first failure. Warnings are failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kinks(name, device)
        # the most telling cases first
        for case in sorted(ROWS[name], key=lambda c: abs(8 - sum(np.size(a) for a in c.args))):
            for prop in PROPERTIES:
                prop(case, device)
