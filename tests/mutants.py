"""Who checks the checkers? Plant wrong rules, one at a time, and see whether the suite notices.

    python tests/mutants.py [word ...]      all mutants, or those whose description contains one of the words

Four kinds of mutant:

1. every rule of every op, wrapped so that it is wrong in one systematic way: sign, factor, reversed entries, wrong only
   where it broadcasts, right at first order and wrong at second, float64 leaking out, an input overwritten ...
2. every rule, rewritten in the syntax tree: + for −, × for /, a dropped factor, one argument for another, another
   constant, a static argument forgotten ...
3. the same for the functions that rules call, and for the engine's summing over broadcast axes;
4. hand-picked mistakes, of the rules and of the engine.

A mutant is killed if a property of the table (table.py), an edge case (test_numerics.py) or a test of the engine
(test_autograd.py) fails on it. Wrappers that cannot make a difference (a cut where a rule reads no values, "wrong where
broadcast" where nothing broadcasts) are not planted. Every survivor is printed, with the reason why it is no mistake,
or as a missing check: then the exit status is 1.
"""

import ast
import collections
import contextlib
import copy
import functools
import inspect
import io
import itertools
import multiprocessing
import operator
import os
import re
import sys
import textwrap
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import table  # noqa: E402
import test_autograd  # noqa: E402
import test_numerics  # noqa: E402

from tinygan import (  # noqa: E402
    autograd,
    conv,
    cpu_winograd,
    elementwise,
    ops,
    products,
    reductions,
    shapes,
    tape,
    windows,
)
from tinygan.autograd import Op, Tensor, data_of, grad  # noqa: E402
from tinygan.shortcuts import plain  # noqa: E402

raw = data_of

# ---------------------------------------------------------------------------- 1. wrapped rules


def _twist(share, x):
    """1 in value, but with a slope: right at first order, wrong at second."""
    return share * (1 + (x - raw(x)).sum()) if isinstance(x, Tensor) else share


def _overwrite(share, x):
    raw(x)[...] += 0.001
    return share


def _leak(share):
    return share * (np.ones(()) if isinstance(share, Tensor) else np.float64(1))


_calls = itertools.count()


def _restless(share):
    return share * (1 + 1e-13 * (next(_calls) % 7))


def broadcast(g, i, a):
    return g.shape != np.shape(raw(a[i]))


# What is wrong, as (r, i, g, y, a, k) → share: r the rule, i its argument, a and k the op's arguments.
WRONG = {
    "sign": lambda r, i, g, y, a, k: -r(g, y, *a, **k),
    "factor 2": lambda r, i, g, y, a, k: r(g, y, *a, **k) * 2.0,
    "factor 1.00001": lambda r, i, g, y, a, k: r(g, y, *a, **k) * 1.00001,
    "zero": lambda r, i, g, y, a, k: r(g, y, *a, **k) * 0.0,
    "without ȳ": lambda r, i, g, y, a, k: r(g * 0 + 1, y, *a, **k),
    "ȳ²": lambda r, i, g, y, a, k: r(g * g, y, *a, **k),
    "|ȳ|": lambda r, i, g, y, a, k: r(ops.abs(g), y, *a, **k),
    "reversed": lambda r, i, g, y, a, k: (lambda share: share[..., ::-1] if share.ndim
                                          else share * 1.5)(r(g, y, *a, **k)),
    "transposed": lambda r, i, g, y, a, k: (lambda share: share.T.reshape(share.shape) if share.ndim > 1
                                            else share * 1.5)(r(g, y, *a, **k)),
    "offset 1e-9": lambda r, i, g, y, a, k: r(g, y, *a, **k) + 1e-9,
    "through float32": lambda r, i, g, y, a, k: r(g, y, *a, **k).astype("float32").astype(raw(g).dtype),
    "float64 leaks": lambda r, i, g, y, a, k: _leak(r(g, y, *a, **k)),
    "overwrites ȳ": lambda r, i, g, y, a, k: _overwrite(r(g, y, *a, **k), g),
    "overwrites y": lambda r, i, g, y, a, k: _overwrite(r(g, y, *a, **k), y),
    "overwrites x": lambda r, i, g, y, a, k: _overwrite(r(g, y, *a, **k), a[i]),
    "never the same twice": lambda r, i, g, y, a, k: _restless(r(g, y, *a, **k)),
    "result cut off": lambda r, i, g, y, a, k: raw(r(g, y, *a, **k)),
    "ȳ cut off": lambda r, i, g, y, a, k: r(raw(g), y, *a, **k),
    "twisted by x": lambda r, i, g, y, a, k: _twist(r(g, y, *a, **k), a[i]),
    "twisted by ȳ": lambda r, i, g, y, a, k: _twist(r(g, y, *a, **k), g),
    "wrong when recorded": lambda r, i, g, y, a, k: r(g, y, *a, **k) * (1.01 if isinstance(y, Tensor)
        else 1.0),
    "wrong when plain": lambda r, i, g, y, a, k: r(g, y, *a, **k) * (1.0 if isinstance(y, Tensor) else 1.01),
}
# Wrong only under a condition on (g, i, a).
SOMETIMES = {
    "broadcast": broadcast,
    "not broadcast": lambda g, i, a: not broadcast(g, i, a),
    "0-d": lambda g, i, a: np.ndim(raw(a[i])) == 0,
    "a size-1 axis": lambda g, i, a: 1 in np.shape(raw(a[i])),
    "two axes or more": lambda g, i, a: np.ndim(raw(a[i])) > 1,
    "a negative entry": lambda g, i, a: bool((raw(a[i]) < 0).any()),
    "an entry above 1": lambda g, i, a: bool((raw(a[i]) > 1).any()),
    "not contiguous": lambda g, i, a: not raw(a[i]).flags.c_contiguous,
    "float32": lambda g, i, a: raw(g).dtype == np.float32,
}
# Wrong in what the rule reads: planted where it reads the values of these at all.
READS = {
    "y cut off": ("y", lambda r, i, g, y, a, k: r(g, raw(y), *a, **k)),
    "x cut off": ("x", lambda r, i, g, y, a, k: r(g, y, *a[:i], raw(a[i]), *a[i + 1:], **k)),
    "the others cut off": ("others",
                           lambda r, i, g, y, a, k: r(g, y,
                               *[a[j] if j == i else raw(a[j]) for j in range(len(a))], **k)),
    "y for x": ("x", lambda r, i, g, y, a, k: r(g, y, *a[:i], y, *a[i + 1:], **k)),
    "x for y": ("y", lambda r, i, g, y, a, k: r(g, a[i], *a, **k)),
    "arguments exchanged": ("others", lambda r, i, g, y, a, k: r(g, y, *a[1:], a[0], **k)),
}


class Opaque:
    """An array that shows its shape and type, and how it compares (which is locally constant), but not
    its values."""

    def __init__(self, x):
        self.x, self.shape, self.ndim, self.dtype, self.size = x, x.shape, x.ndim, x.dtype, x.size

    __len__ = lambda self: len(self.x)                              # noqa: E731
    __lt__, __le__, __gt__, __ge__, __eq__, __ne__ = (
        lambda self, b, c=c: getattr(operator, c)(self.x, getattr(b, "x", b))
        for c in ("lt", "le", "gt", "ge", "eq", "ne"))
    reshape = lambda self, *shape: Opaque(self.x.reshape(*shape))   # noqa: E731
    __array_ufunc__ = None


def reads(name, rule, i, what):
    """Whether a rule reads the values of y, of its own argument x or of the others, in any case of its
    row."""
    for case in table.ROWS[name]:
        args, _ = table.tensors(case, "cpu")
        seen = []
        o = table.OPS[name]
        with plain(), attribute(o, "forward",
                       lambda *a, seen=seen, real=o.forward, **k: (seen.append((a, k)), real(*a, **k))[1]):
            case.f(*args)
        a, k = seen[0][0], {**o.statics, **seen[0][1]}
        if i >= len(a) or not isinstance(a[i], np.ndarray):
            continue
        y = o(*a, **k)
        hidden = [Opaque(v) if isinstance(v, np.ndarray) and (j == i) == (what == "x") and what != "y" else v
                  for j, v in enumerate(a)]
        try:
            rule(np.ones(np.shape(y)), Opaque(np.asarray(y)) if what == "y" else y, *hidden, **k)
        except Exception:           # it wanted to know more
            return True
    return False


def holds(name, i, condition):
    """Whether a condition is ever met by what the row feeds to the op."""
    found = []
    o = table.OPS[name]

    def spy(g, y, *a, **k):
        found.append(condition(g, i, a))
        return o_rule(g, y, *a, **k)
    o_rule = functools.partial(o.each, i) if o.each else o.rules[i]
    with planted(o, i, spy):
        for case in table.ROWS[name]:
            args, xs = table.tensors(case, "cpu", np.float32)
            y = case.f(*args)
            grad(y, xs, raw(y) * 0, create_graph=True)
    return condition is SOMETIMES["not contiguous"] or any(found)


@contextmanager
def planted(o, i, rule):
    """The op with this rule for argument i."""
    before = o.rules, o.each
    if o.each is not None:
        each = o.each
        o.each = lambda k, *args, **kwargs: rule(*args, **kwargs) if k == i else each(k, *args, **kwargs)
    else:
        o.rules = (*o.rules[:i], rule, *o.rules[i + 1:])
    try:
        yield
    finally:
        o.rules, o.each = before


@contextmanager
def attribute(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def wrapped():
    """(description, ops that show it, context manager) for every wrapper of every rule, and of every
    shortcut."""
    for name, o in table.OPS.items():
        for i, rule in enumerate(o.rules) if o.each is None else [(j, functools.partial(o.each, j))
            for j in (0, 1)]:
            if rule is None:
                continue
            kinds = dict(WRONG)
            for what, condition in SOMETIMES.items():
                if holds(name, i, condition):
                    kinds["wrong for " + what] = lambda r, i, g, y, a, k, c=condition: r(g, y, *a,
                        **k) * (1.5 if c(g, i, a) else 1.0)
            for what, (needs, w) in READS.items():
                if reads(name, rule, i, needs):
                    kinds[what] = w
            for what, w in kinds.items():
                def mutant(g, y, *a, w=w, rule=rule, i=i, **k):
                    return w(rule, i, g, y, a, k)
                yield f"{name}[{i}]: {what}", name, functools.partial(planted, o, i, mutant)
            shortcut = o.shortcuts.get("numpy")
            if hasattr(shortcut, "vjp"):
                def fast(g, y, saved, wanted, *a, i=i, real=shortcut.vjp, **k):
                    shares = real(g, y, saved, wanted, *a, **k)
                    if shares is None:
                        return None
                    shares = list(shares)
                    shares[i] = shares[i] if shares[i] is None else shares[i] * (1 + 1e-9)
                    return shares
                yield f"{name}[{i}]: shortcut off by 1e-9", name, functools.partial(attribute, shortcut, "vjp",
                    staticmethod(fast))


def _forwards(what, real):
    """A shortcut's forward, wrong in one way."""
    def forward(*a, **k):
        done = real(*a, **k)
        if done is None:
            return None
        y, saved = done
        if what == "off by 1e-9":
            y = y * (1 + 1e-9)
        elif what == "float64":
            y = y * np.float64(1)
        elif what == "overwrites its argument":
            a[0][...] += 0.001
        elif what == "saves something else" and saved is not None:
            saved = tuple(s * 1.00001 for s in saved)
        elif what == "never the same twice":
            y = _restless(y)
        return y, saved
    return staticmethod(forward)


def shortcuts():
    """Every shortcut's forward pass, wrong in one way, and every edit of its text."""
    for name, o in table.OPS.items():
        shortcut = o.shortcuts.get("numpy")
        if shortcut is None:
            continue
        if hasattr(shortcut, "forward"):
            kinds = ["off by 1e-9", "float64", "overwrites its argument", "never the same twice"]
            for what in kinds + ["saves something else"] * hasattr(shortcut, "vjp") * (name == "normalize"):
                yield f"{name}'s shortcut: forward {what}", name, functools.partial(
                    attribute, shortcut, "forward", _forwards(what, shortcut.forward))
        for part in ("forward", "vjp"):
            if hasattr(shortcut, part):
                f = getattr(shortcut, part)
                tree = ast.parse(textwrap.dedent(inspect.getsource(f)))
                names = [a.arg for a in tree.body[0].args.args if a.arg not in ("saved", "wanted")]
                for change, mutant in rewrites(tree, names):
                    space = {}
                    exec(compile(mutant, "<mutant>", "exec"), vars(sys.modules[f.__module__]), space)    # noqa: S102
                    yield f"{name}'s shortcut, {part}: {change}", name, functools.partial(
                        attribute, shortcut, part, staticmethod(space[part]))


# ---------------------------------------------------------------------------- 2. rewritten rules


SWAPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Gt: ast.GtE,
         ast.Lt: ast.LtE, ast.GtE: ast.Gt, ast.LtE: ast.Lt,
         ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
         ast.Pow: ast.Mult, ast.In: ast.NotIn, ast.NotIn: ast.In,
         ast.MatMult: ast.Mult}


def edits(node, names):
    """All single changes of one expression: new nodes to put in its place."""
    if isinstance(node, ast.BinOp):
        if type(node.op) in SWAPS:
            yield ast.BinOp(node.left, SWAPS[type(node.op)](), node.right)
        yield node.left
        yield node.right
        if isinstance(node.op, (ast.Sub, ast.Div, ast.Pow, ast.MatMult)):
            yield ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Invert)):
        yield node.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
        yield ast.Compare(node.left, [SWAPS[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        for other in names:
            if other != node.id:
                yield ast.Name(other, ast.Load())
    elif isinstance(node, ast.Call):
        for k, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                yield ast.Call(node.func, node.args, node.keywords[:k] + node.keywords[k + 1:])
        if len(node.args) == 1 and isinstance(node.func, ast.Name):
            yield node.args[0]
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse


def rewrites(tree, names):
    """(line, before → after, tree) of every single edit below a node."""
    nodes = list(ast.walk(tree))
    for place, node in enumerate(nodes):
        if isinstance(node, ast.arguments):
            continue
        for new in edits(node, names):
            mutant = copy.deepcopy(tree)
            target = list(ast.walk(mutant))[place]
            if type(target) is not type(node):
                continue
            old = ast.unparse(node)
            class Put(ast.NodeTransformer):
                def visit(self, n, target=target, new=new):
                    return ast.copy_location(copy.deepcopy(new), n) if n is target else self.generic_visit(n)
            mutant = ast.fix_missing_locations(Put().visit(mutant))
            yield f"{old}  →  {ast.unparse(new)}", mutant


def rewritten():
    """Every edit of every rule as it is written in the derivative table and in conv.py."""
    for module in table.MODULES:
        for statement in ast.parse(inspect.getsource(module)).body:
            call = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "vjps":
                name = call.func.value.id
                for i, rule in enumerate(call.args):
                    if isinstance(rule, ast.Lambda):
                        names = [a.arg for a in rule.args.args
                                 if a.arg not in ("axis", "keepdims", "eps", "statistics")]
                        for change, mutant in rewrites(rule.body, names):
                            new = ast.Expression(ast.Lambda(rule.args, mutant))
                            f = eval(compile(ast.fix_missing_locations(new), "<mutant>", "eval"),
                                     vars(module))    # noqa: S307
                            o = getattr(module, name)
                            yield f"{name}[{i}]: {change}", name, functools.partial(planted, o, i, f)


TRIO = "conv2d", "conv2d_transpose", "conv2d_weight_gradient"
HELPERS = {     # functions behind rules → the ops that show whether they are right
    (elementwise, "_lower"): ["pow"], (elementwise, "_log"): ["pow"], (elementwise, "_chosen"): ["maximum", "minimum"],
    (reductions, "_restore"): ["sum", "max", "var"], (shapes, "count"): ["mean", "var"], (reductions, "_ties"): ["max"],
    (shapes, "axes_of"): ["sum", "var", "max", "norm"], (reductions, "_largest"): ["norm", "logsumexp", "softmax"],
    (shapes, "swap"): ["matmul", "swap"],
    (shapes, "_piece"): ["concatenate"], (products, "_contract_rule"): ["contract"],
    (reductions, "_standardize_rule"): ["normalize"],
    **{(cpu_winograd.Tiles, name): list(TRIO) for name in vars(cpu_winograd.Tiles)
       if inspect.isfunction(vars(cpu_winograd.Tiles)[name]) and name != "pay"},
    **{(cpu_winograd, name): list(TRIO) for name in ("_blocks", "_pairs", "_overlap", "tiles")},
}


@contextmanager
def everywhere(name, before, after):
    """A function exchanged in every module that has it under this name."""
    places = [m for m in list(sys.modules.values()) if getattr(m, name, None) is before]
    for m in places:
        setattr(m, name, after)
    try:
        yield
    finally:
        for m in places:
            setattr(m, name, before)


def helpers():
    """Every edit of the functions that rules call."""
    for (module, name), shown in HELPERS.items():
        f = getattr(module, name, None)
        if f is None:
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(f)))
        names = [a.arg for a in tree.body[0].args.args]
        for change, mutant in rewrites(tree, names):
            space = {}
            exec(compile(mutant, "<mutant>", "exec"), vars(sys.modules[f.__module__]), space)    # noqa: S102
            users = [(o, "each") for o in table.OPS.values() if o.each is f]
            users += [(module, name)] if inspect.isclass(module) else []
            patch = functools.partial(attribute, *users[0], space[name]) if users else \
                functools.partial(everywhere, name, getattr(module, name), space[name])
            yield f"{name}: {change}", shown, patch


# ---------------------------------------------------------------------------- 3. hand-picked


def rule(name, i, f):
    o = table.OPS[name]
    return f"{name}[{i}], by hand: " + inspect.getsource(f).strip().split("lambda", 1)[-1][:90], name, \
        functools.partial(planted, o, i, f)


def _put_assigns(v, *, key, shape):
    y = np.zeros(shape, dtype=v.dtype)
    y[key] = v
    return y


def engine(function, old, new):
    """Plant a function of the engine with one piece of its text replaced, wherever it was imported."""
    f = getattr(autograd, function)
    source = textwrap.dedent(inspect.getsource(f))
    assert old in source, f"mutants.py: {function} no longer contains {old!r}"
    space = {}
    exec(compile(source.replace(old, new, 1), "<mutant>", "exec"), vars(sys.modules[f.__module__]), space)    # noqa: S102
    return everywhere(function, f, space[function])


@contextmanager
def method(owner, name, old, new):
    """Plant a mutated method (or property setter) of Tensor or Op; it sees tape.py's own globals."""
    before = owner.__dict__[name]
    f = before.fset if isinstance(before, property) else before
    source = textwrap.dedent(inspect.getsource(f))
    assert old in source, f"mutants.py: {owner.__name__}.{name} no longer contains {old!r}"
    source, space = source[source.index("def "):].replace(old, new, 1), {}
    exec(compile(source, "<mutant>", "exec"), vars(tape), space)    # noqa: S102
    f = space[f.__name__]
    setattr(owner, name, property(before.fget, f) if isinstance(before, property) else f)
    try:
        yield
    finally:
        setattr(owner, name, before)


ENGINE = ["the engine"]         # judged by test_autograd.py and a few ops


def by_hand():
    return [
        rule("tanh", 0, lambda g, y, x: g * (1 - y)),
        rule("tanh", 0, lambda g, y, x: g * (1 - x * x)),
        rule("sigmoid", 0, lambda g, y, x: g * y),
        rule("sigmoid", 0, lambda g, y, x: g * x * (1 - x)),
        rule("softplus", 0, lambda g, y, x: g * ops.sigmoid(-x)),
        rule("softplus", 0, lambda g, y, x: g * (1 - 1 / (1 + raw(ops.exp(x))))),
        rule("sqrt", 0, lambda g, y, x: g / y),
        rule("sqrt", 0, lambda g, y, x: g * 0.5 * raw(x) ** -0.5),
        rule("log1p", 0, lambda g, y, x: g / x),
        rule("log", 0, lambda g, y, x: g / raw(x)),
        rule("cos", 0, lambda g, y, x: g * ops.sin(x)),
        rule("div", 1, lambda g, y, a, b: -g * a / b),
        rule("div", 1, lambda g, y, a, b: -g / (b * b)),
        rule("div", 1, lambda g, y, a, b: -g * raw(y) / b),
        rule("pow", 0, lambda g, y, x, p: g * p * x ** p),
        rule("pow", 0, lambda g, y, x, p: g * p * y / x),
        rule("pow", 0, lambda g, y, x, p: g * p * x ** (p - 1 + (p == 0))),
        rule("pow", 1, lambda g, y, x, p: g * y * ops.log(x)),
        rule("pow", 1, lambda g, y, x, p: g * y * ops.log(p)),
        rule("pow", 1, lambda g, y, x, p: g * y * raw(ops.log(x + (x == 0)))),
        rule("pow", 1, lambda g, y, x, p: g * y * ops.log(x + (raw(x) == 0))),
        rule("abs", 0, lambda g, y, x: g * (2.0 * (raw(x) > 0) - 1.0)),
        rule("abs", 0, lambda g, y, x: g * ops.where(raw(x) >= 0, 1.0, -1.0)),
        rule("relu", 0, lambda g, y, x: g * (raw(x) >= 0)),
        rule("relu", 0, lambda g, y, x: ops.where(raw(x) > 0, 1.0, 0.0) * g),
        rule("leaky_relu", 0, lambda g, y, x, slope=0.2: ops.where(raw(x) >= 0, g, slope * g)),
        rule("leaky_relu", 0, lambda g, y, x, slope=0.2: ops.where(raw(x) > 0, g, 0.2 * g)),
        rule("leaky_relu", 0, lambda g, y, x, slope=0.2: g * np.where(raw(x) > 0, 1.0, slope)),
        rule("elu", 0, lambda g, y, x, alpha=1.0: ops.where(raw(x) > 0, g, g * (y + 1))),
        rule("elu", 0, lambda g, y, x, alpha=1.0: ops.where(raw(x) >= 0, g, g * (y + alpha))),
        rule("elu", 0, lambda g, y, x, alpha=1.0: ops.where(raw(x) > 0, g, g * (raw(y) + alpha))),
        rule("clip", 0, lambda g, y, x, low=-9e9, high=9e9: g * ((raw(x) > low) & (raw(x) < high))),
        rule("clip", 0, lambda g, y, x, low=-9e9, high=9e9: g),
        rule("maximum", 0, lambda g, y, a, b: g * (raw(a) >= raw(b))),
        rule("maximum", 1, lambda g, y, a, b: g * (raw(b) > raw(a))),
        rule("minimum", 0, lambda g, y, a, b: g * (raw(a) < raw(b))),
        rule("minimum", 0, lambda g, y, a, b: g * elementwise._chosen(raw(a) > raw(b), raw(a) < raw(b), y)),
        rule("max", 0, lambda g, y, x, axis=None, keepdims=False: reductions._restore(g, x, axis, keepdims) * (
            raw(x) == reductions._restore(raw(y), raw(x), axis, keepdims))),
        rule("where", 1, lambda g, y, c, a, b: g),
        rule("where", 2, lambda g, y, c, a, b: ops.where(c, g, 0.0)),
        rule("var", 0, lambda g, y, x, axis=None, keepdims=False: reductions._restore(g
            * (2 / (shapes.count(x, axis) - 1)), x, axis, keepdims) * (
            x - ops.mean(x, axis=axis, keepdims=True)) if shapes.count(x, axis) > 1 else g * 0 * x),
        rule("var", 0, lambda g, y, x, axis=None, keepdims=False: reductions._restore(g * (2 / shapes.count(x, axis)),
            x, axis, keepdims) * (
            x - raw(ops.mean(x, axis=axis, keepdims=True)))),
        rule("norm", 0, lambda g, y, x, axis=None, keepdims=False: reductions._restore(g, x, axis,
            keepdims) * (x / reductions._restore(y, x, axis, keepdims))),
        rule("norm", 0, lambda g, y, x, axis=None, keepdims=False: reductions._restore(g, x, axis, keepdims) * (
            x / (reductions._restore(y, x, axis, keepdims) + 1e-6))),
        rule("norm", 0, lambda g, y, x, axis=None, keepdims=False: reductions._restore(g, x, axis, keepdims) * (
            x / reductions._restore(raw(y) + (raw(y) == 0), x, axis, keepdims))),
        rule("softmax", 0, lambda g, y, x, axis=-1: y * g),
        rule("softmax", 0, lambda g, y, x, axis=-1: g * y * (1 - y)),
        rule("softmax", 0, lambda g, y, x, axis=-1: y * (g - ops.sum(g * y))),
        rule("softmax", 0, lambda g, y, x, axis=-1: y * (g - ops.sum(g * y, axis=-1, keepdims=True))),
        rule("softmax", 0, lambda g, y, x, axis=-1: y * (g - raw(ops.sum(g * y, axis=axis, keepdims=True)))),
        rule("log_softmax", 0, lambda g, y, x, axis=-1: g - ops.exp(y) * g),
        rule("log_softmax", 0, lambda g, y, x, axis=-1: g - raw(ops.exp(y)) * ops.sum(g, axis=axis,
            keepdims=True)),
        rule("log_softmax", 0, lambda g, y, x, axis=-1: g - ops.softmax(x, axis=-1) * ops.sum(g, axis=axis,
            keepdims=True)),
        rule("logsumexp", 0, lambda g, y, x, axis=None, keepdims=False: reductions._restore(g, x, axis,
            keepdims) * ops.softmax(x)),
        rule("logsumexp", 0, lambda g, y, x, axis=None, keepdims=False: reductions._restore(g, x, axis,
            keepdims) * ops.exp(
            x - reductions._restore(y, x, axis, keepdims))),
        rule("mean", 0, lambda g, y, x, axis=None, keepdims=False: ops.broadcast_to(
            reductions._restore(g * (1 / x.size if x.size else 1.0), x, axis, keepdims), shape=x.shape)),
        rule("sum", 0, lambda g, y, x, axis=None, keepdims=False: reductions._restore(g, x, axis, keepdims)),
        rule("sum", 0, lambda g, y, x, axis=None, keepdims=False: ops.broadcast_to(g.reshape((1,) * x.ndim)
            if axis is None else g, shape=x.shape)),
        rule("matmul", 0, lambda g, y, a, b: g @ b.T),
        rule("matmul", 1, lambda g, y, a, b: a.T @ g),
        rule("matmul", 1, lambda g, y, a, b: ops.swap(g) @ a),
        rule("linear", 2, lambda g, y, x, w, b: g.mean(axis=0)),
        rule("linear", 2, lambda g, y, x, w, b: g.sum(axis=1)),
        rule("cumsum", 0, lambda g, y, x, axis: ops.cumsum(g, axis=axis)),
        rule("cumsum", 0, lambda g, y, x, axis: ops.flip(ops.cumsum(g, axis=axis), axis=axis)),
        rule("flip", 0, lambda g, y, x, axis: g),
        rule("transpose", 0, lambda g, y, x, axes=None: g.transpose(axes)),
        rule("transpose", 0, lambda g, y, x, axes=None: g.transpose(None if axes is None
            else tuple(int(i) for i in np.argsort(axes)))),
        rule("reshape", 0, lambda g, y, x, shape: g.T.reshape(x.shape)),
        rule("broadcast_to", 0, lambda g, y, x, shape: g.mean() * (y.size / max(x.size, 1)) + x * 0),
        rule("pad", 0, lambda g, y, x, widths, value=0.0: g[tuple(slice(a, a + n) for (_, a),
            n in zip(widths, x.shape, strict=True))]),
        rule("normalize", 0, lambda g, y, x, s, t, axis, eps=1e-5, statistics=None: g * s
             * (ops.var(x, axis=axis, keepdims=True) + eps) ** -0.5),
        rule("normalize", 0, lambda g, y, x, s, t, axis, eps=1e-5, statistics=None: (ops.var(x, axis=axis,
            keepdims=True) + eps) ** -0.5 * (
            g * s - ops.mean(g * s, axis=axis, keepdims=True))),
        rule("normalize", 0, lambda g, y, x, s, t, axis, eps=1e-5, statistics=None: reductions._standardize_rule(g,
            x, axis, eps) * s),
        rule("normalize", 0, lambda g, y, x, s, t, axis, eps=1e-5, statistics=None: reductions._standardize_rule(g
            * s, x, axis, 1e-5)),
        rule("normalize", 0, lambda g, y, x, s, t, axis, eps=1e-5, statistics=None: reductions._standardize_rule(g
            * raw(s), x, axis, eps)),
        rule("normalize", 0, lambda g, y, x, s, t, axis, eps=1e-5, statistics=None: reductions._standardize_rule(g
            * s, raw(x), axis, eps)),
        rule("normalize", 1, lambda g, y, x, s, t, axis, eps=1e-5, statistics=None: g * (y - t)),
        rule("normalize", 1, lambda g, y, x, s, t, axis, eps=1e-5, statistics=None: g * x),
        ("add_at: assigns instead of adding", ["add_at", "getitem"],
         functools.partial(attribute, ops.add_at, "forward", _put_assigns)),
        ("_ties: every tie gets everything", "max",
         functools.partial(everywhere, "_ties", reductions._ties, lambda x, y, axis, keepdims: (
            raw(x) == reductions._restore(raw(y), raw(x), axis, keepdims)).astype(raw(x).dtype))),
        ("_ties: float64 mask", "max",
         functools.partial(everywhere, "_ties", reductions._ties, lambda x, y, axis, keepdims: np.where(
            raw(x) == reductions._restore(raw(y), raw(x), axis, keepdims), 1.0,
            0.0) / (raw(x) == reductions._restore(raw(y), raw(x), axis, keepdims)).sum(
                axis=axis, keepdims=True))),
        rule("unfold", 0, lambda g, y, x, kernel, stride=1, padding=0, dilation=1: windows.fold(g,
            size=x.shape[1:3], stride=stride, dilation=dilation)),
        rule("unfold", 0, lambda g, y, x, kernel, stride=1, padding=0, dilation=1: windows.fold(
            g, size=x.shape[1:3], stride=windows.pair(stride)[::-1], padding=padding, dilation=dilation)),
        rule("conv2d", 0, lambda g, y, x, w, **how: conv.conv2d_transpose(g, w[::-1, ::-1], size=x.shape[1:3],
            **how)),
        rule("conv2d", 0, lambda g, y, x, w, **how: conv.conv2d_transpose(g, raw(w), size=x.shape[1:3], **how)),
        rule("conv2d", 0, lambda g, y, x, w, **how: conv.conv2d_transpose(g, w, size=x.shape[1:3],
            **{**how, "padding": 0})
             if not how.get("padding") else conv.conv2d_transpose(g, w, size=x.shape[1:3], **how)[:, ::-1]),
        rule("conv2d", 1, lambda g, y, x, w, **how: conv.conv2d_weight_gradient(raw(x), g, kernel=w.shape[:2], **how)),
        rule("conv2d", 1, lambda g, y, x, w, **how: conv.conv2d_weight_gradient(x, g, kernel=w.shape[:2], **how)[::-1,
            ::-1]),
        rule("conv2d_transpose", 1, lambda g, y, f, w, size, **how: conv.conv2d_weight_gradient(g, raw(f),
            kernel=w.shape[:2], **how)),
        rule("conv2d_weight_gradient", 0, lambda g, y, x, f, kernel, **how: conv.conv2d_transpose(f,
            g.transpose((0, 1, 3, 2)), size=x.shape[1:3], **how)),
        rule("conv2d_weight_gradient", 1, lambda g, y, x, f, kernel, **how: conv.conv2d(x, raw(g), **how)),
        ("fold: assigns instead of adding", "fold",
         functools.partial(attribute, windows.fold, "forward", _fold_assigns)),
        # the engine
        *[(f"{function}: {what}", ENGINE, functools.partial(engine, function, old, new)) for function, what, old, new in [
            ("_walk", "the last share wins", "grads[p.number] + share if p.number in grads else share", "share"),
            ("_walk", "the first share wins", "grads[p.number] + share if p.number in grads else share",
             "grads.get(p.number, share)"),
            ("_walk", "adds in place", "grads[p.number] = grads[p.number] + share if p.number in grads else share",
             "grads[p.number] = np.add(grads[p.number], share, out=grads[p.number]) if p.number in grads else share"),
            ("_walk", "oldest first", "reversed(_tape(y, targets))", "_tape(y, targets)"),
            ("_walk", "shares are not summed down", "share = unbroadcast(share, shape=p.shape)", "pass"),
            ("_walk", "shares keep the result's type", "share = share.astype(p.dtype)", "pass"),
            ("_tape", "computes what nobody asked for", "if parent[1].number in leads]", "]"),
            ("_walk", "does not record", "needed, create_graph)", "needed, False)"),
            ("_walk", "records always", "needed, create_graph)", "needed, True)"),
            ("grad", "forgets unreached targets", "if t.number not in found:", "if False:"),
            ("grad", "zeros for a stale loss", "if used or not zeros:", "if not zeros:"),
            ("grad", "zeros without being asked", "if used or not zeros:", "if used:"),
            ("_walk", "the cotangent is ignored", "grads = {y.number: g if create_graph else data_of(g)}",
             "grads = {y.number: g * 0 + 1}"),
            ("_walk", "an intermediate target stops the walk", "found[t.number] = g\n", "found[t.number] = g\n            continue\n"),
            ("grad", "recorded results are not Tensors", "isinstance(g, Tensor) else Tensor(g)",
             "isinstance(g, Tensor) else g"),
            ("grad", "results share their memory", "return _owned(results, cotangent)", "return results"),
            ("_tape", "never looks for changes", "_refuse_changed_arguments(t)", "pass"),
            ("_tape", "walks below the oldest target", " and t.number >= oldest", ""),
            ("_tape", "one parent too few", "(parents := t.parents())", "(parents := t.parents()[:2])"),
            ("_cotangent", "not checked", "if cotangent.shape != y.shape:", "if False:"),
            ("_cotangent", "no scalar check", "if y.size != 1:", "if False:"),
            ("_cotangent", "ones of float64", "module.ones_like(y._data)", "np.ones(y.shape)"),
            ("_cotangent", "keeps its own type", "cotangent = cotangent.astype(y.dtype, copy=False)", "pass"),
            ("_shares", "shortcuts are told to skip", "i in places for", "False for"),
            ("_owned", "read-only results", "not writable or id", "id"),
            ("_owned", "two names for one memory", "not writable or id(_memory(g)) in taken", "not writable"),
            ("_owned", "the cotangent is handed back", "{id(_memory(data_of(cotangent)))}", "set()"),
            ("_refuse_changed_arguments", "only the argument itself", "if a.op is not None and a._data.base is not None:", "if False:"),
            ("_why_unreached", "does not see a stale loss", "t.number > node.number:", "False:"),
            ("_why_unreached", "does not see no_grad", "node.name == UNRECORDED", "False"),
            ("no_grad", "does not come back after an error", "finally:", "except KeyboardInterrupt:"),
            ("no_grad", "comes back recording", "_recording.set(before)\n", "_recording.set(True)\n"),
        ]],
        *[(f"{owner.__name__}.{name}: {what}", ENGINE, functools.partial(method, owner, name, old, new))
          for owner, name, what, old, new in [
            (Tensor, "touch", "keeps its number", "self.number = next(_numbers)", "pass"),
            (Tensor, "data", "assigning does not count as a change", "self.touch()", "pass"),
            (Tensor, "__init__", "shares the caller's memory", "data).copy()", "data)"),
            (Tensor, "parents", "a Tensor used twice counts once", "isinstance(a, Tensor)",
             "isinstance(a, Tensor) and not any(a is b for b in self.args[:i])"),
            (Op, "__call__", "records under no_grad", "if _recording.get():", "if True:"),
            (Op, "__call__", "never records", "if _recording.get():", "if False:"),
            (Op, "__call__", "constants are taken as they are", "if constants:", "if False:"),
            (Op, "_with_constants", "constants are not copied", "else a.copy()", "else a"),
            (Op, "_with_constants", "constants keep their type", "a.astype(dtype) if numbers else a.copy()", "a.copy()"),
            (Op, "differentiable", "every argument has a rule", "self.rules[i] is not None", "True"),
            (Op, "differentiable", "a missing rule is no rule", "if self.rules is None:",
             "if self.rules is None:\n        return False\n    if False:"),
            (Op, "_sorted", "static arguments by position are dropped", "**named, **kwargs", "**kwargs"),
        ]],
        ("unbroadcast: the mean", ["add", "linear", "unbroadcast"], functools.partial(
            attribute, tape.unbroadcast, "forward", lambda g, *, shape: _summed(g, shape, "mean"))),
        ("unbroadcast: the first copy", ["add", "linear", "unbroadcast"], functools.partial(
            attribute, tape.unbroadcast, "forward", lambda g, *, shape: _summed(g, shape, "first"))),
    ]


def _summed(g, shape, how):
    extra = g.ndim - len(shape)
    axes = tuple(i for i in range(g.ndim) if i < extra or shape[i - extra] == 1 != g.shape[i])
    if how == "mean":
        return g.mean(axis=axes).reshape(shape)
    return g[tuple(0 if i in axes else slice(None) for i in range(g.ndim))].reshape(shape)


def _fold_assigns(v, **how):
    source = textwrap.dedent(inspect.getsource(windows.fold.__wrapped__)).split("\n", 1)[1].replace("] += v",
        "] = v")
    space = {}
    exec(source, vars(windows), space)    # noqa: S102
    return space["fold"](v, **how)


# ---------------------------------------------------------------------------- judging


def functions(module):
    """The tests of a module that need nothing but a device: what the mutants of the engine are judged by."""
    for name, f in vars(module).items():
        if name.startswith("test_") and inspect.isfunction(f):
            needed = list(inspect.signature(getattr(f, "hypothesis", f) and f).parameters)
            if not hasattr(f, "hypothesis") and not getattr(f, "pytestmark",
                None) and set(needed) <= {"device"}:
                yield functools.partial(f, *["cpu"] * len(needed))


def served(name):
    """How often an op's shortcut answers, and how often it declines, over all cases of its row."""
    shortcut, counts = table.OPS[name].shortcuts.get("numpy") if name in table.OPS else None, []
    with contextlib.ExitStack() as stack:
        for part in ("forward", "vjp"):
            if hasattr(shortcut, part):
                real = getattr(shortcut, part)

                def counted(*a, real=real, part=part, **k):
                    done = real(*a, **k)
                    counts.append((part, done is not None))
                    return done
                stack.enter_context(attribute(shortcut, part, staticmethod(counted)))
        for case in table.ROWS[name] if shortcut else ():
            args, xs = table.tensors(case, "cpu")
            y = case.f(*args)
            grad(y, xs, raw(y) * 0)
    return collections.Counter(counts)


SERVED = {}


def survives(shown):
    """Whether no check fails, with the mutant planted."""
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), np.errstate(all="warn",
            under="ignore"):
            if shown is ENGINE:
                for test in functions(test_autograd):
                    test()
                shown = ["add", "mul", "concatenate", "where", "normalize", "unbroadcast"]
            shown = [shown] if isinstance(shown, str) else shown
            for name in shown:
                table.run(name)
                if name in ("linear", "relu", "leaky_relu", "max_pool"):    # whose shortcut answers in every plain case; test_shortcuts.py
                    with plain(name):                               # holds it to the rule
                        table.run(name)
                if SERVED.setdefault(name, served(name)) != served(name):       # it declines where the original did not
                    return False
            for test in functions(test_numerics):
                source = inspect.getsource(test.func)
                if any(f"ops.{name}" in source or name == "pow" and "**" in source for name in shown):
                    test()
    except (Exception, pytest.fail.Exception):      # any failure is a kill
        return False
    return True


# Survivors that compute the same as the original for every input: a pattern of the description → why.
EQUIVALENT = {
    r"astype\[0\]: float64 leaks|astype\[0\], by hand.*": "the engine itself converts a share whose type is not its argument's",
    r"pad\[0\]: x  →  [gy]": "only asked for its number of axes",
    r"normalize's shortcut, forward: (scale  →  shift|shift  →  scale)": "both are asked alike whether they are one number per channel",
    r"unbroadcast's shortcut, forward: 1  →  2": "declines two columns instead of one: either way is right",
    r"_restore: axis  →  .*": "a 0-d array has no axis to restore",
    r"_largest: .*": "only over an empty axis, where a sum of nothing follows",
    r"_standardize_rule: (x  →  g|g  →  x)": "asked for its size, or returned where it has no elements",

    r"conv2d(_transpose)?'s shortcut, forward: (ho \* wo.*|[xgw]  →  [xgw]|1  →  2)": "only the size of a group of images, or a type that all have",
    r"conv2d_transpose's shortcut, forward: (c < 4  →  c <= 4|4  →  5)": "only how the windows lie in memory",
    r"normalize's shortcut, forward: (mean \* mean > 16.*|16.*  →  (17|variance))":
        "only from where on the mean is corrected; on both sides of that the result is right",
    r"(conv2d.*|linear|matmul)'s shortcut, vjp: .* if wanted.*": "computes a share that nobody has asked for",
    r"linear's shortcut, vjp: (sum_rows\(g\)  →  g|g  →  [yw])": "the engine sums down what was broadcast; asked for its columns only",
    r"matmul's shortcut, forward: a  →  b": "np.dot is the product of matrices for more axes on the left, too",
    r"matmul's shortcut, vjp: [ab]  →  [gy]": "both have two axes exactly if the result has",
    r"__init__: (height - ph  →  .*|width - pw  →  .*)": "some pixels are seen by no window only where there is no border",
    r"_overlap: first  →  middle": "asked for how many there are, which is the same",
    r"__init__: 0  →  1": "the first two numbers of rows and of columns are equal",
    r"images_to_tiles: np\.zeros.*": "the differences are written into tiles of the right type",
    r"(tiles_to_images|tiles_to_weights|tiles_to_features): (0  →  1|[xw]  →  [xw])": "of one type, and of one shape where that is asked for",
    r"conv2d's shortcut, forward: len\(x\)  →  x": "a number of images that only a comparison looks at",
    r"_groups: .*": "only the size of a group of images",
    r"features_to_tiles: (self\.[hw]o % 2.*|2  →  3)": "copies features of an even size too",
    r"(images_to_tiles|tiles_to_images|_overlap|features_to_tiles): 1  →  2":
        "in 2 n + 1 rows, every other one before the last but one is the same; NumPy takes −2 for −1 in a shape",
    r"tiles_to_images: ([gw]  →  [gw]|.*zip\(rows.*|True  →  False)|_padded: np\.zeros.*|images_to_tiles: True  →  False":
        "of one type and one length",
    r"tiles: tuple\(kernel\)  →  kernel": "a tuple wherever an op is called by another",
    r"linear's shortcut, forward: x  →  w": "both have two axes wherever the product is defined",
    r"max_pool's shortcut, vjp: (.*zip\(hits.*|True  →  False|np.zeros_like.*|[gyx]  →  [gyx])": "of one length, one type, one shape",
    r"(relu|leaky_relu)'s shortcut, vjp: [xg]  →  [xyg]": "x and y have the same sign, and all have one type and shape",
    r"linear's shortcut, vjp: w  →  [ybgx]|matmul's shortcut, vjp: b  →  a": "asked for its size only, by which two threads share",
    r"conv2d_weight_gradient's shortcut, forward: g  →  x": "asked for its size only, likewise",
    r"normalize's shortcut, vjp: x  →  [yg]": "asked for its shape only, which is that of all",
    r"abs\[0\]: x cut off": "sign x is locally constant",
    r"max_pool\[0\]: x cut off": "which place wins is locally constant",
    r"where\[[12]\]: the others cut off": "only the condition is read, and it is no Tensor",
    r"var\[0\]: wrong for (0-d|not broadcast)": "the variance of one number has the gradient 0, and 1.5 · 0 = 0",
    r"(maximum|minimum)\[[01]\]: y  →  [abg]": "y is asked for its type only, which is that of all",
    r"(maximum|minimum)\[[01]\]: [ab]  →  y": "a exceeds b exactly if the result does",
    r"clip\[0\]: (low|high)  →  y": "x reaches a bound exactly if it reaches the clipped x",
    r"(relu|leaky_relu|elu)\[0\]: .*[xy]  →  [xy]": "x and y have the same sign",
    r"leaky_relu\[0\]: x  →  g": "asked for its type only, which is that of all",
    r"pad\[0\]: .*(True  →  False|strict=True.*)": "the forward pass has already refused widths of another length",
    r"norm\[0\]: y \+ \(y == 0\)  →  y - \(y == 0\)": "at the zero vector any finite divisor does: x̄ = 0 / ±1",
    r"logsumexp\[0\]: 0\.0  →  1\.0": "only for y = −inf, where e^(−inf − 1) = e^(−inf − 0) = 0",
    r"_lower: .*  →  x - .*": "only where p = 0, which multiplies it: 0 · (±1)⁻¹",
    r"_lower: 1\.0  →  2\.0": "only for p = 0, which multiplies it",
    r"_chosen: like  →  (first|second)": "a mask adds to a float array as 0 and 1, whether converted before or not",
    r"transpose\[0\]: (tuple.*|x  →  [gy])": "NumPy takes the axes as a list, too; and all have as many axes",
    r"count: 1  →  2": "only for an empty reduction, whose gradient has no elements",
    r"_ties: (x  →  y|data_of\(y\)  →  y)": "x and y have one type, and comparing a Tensor gives a plain array",
    r"_piece: g  →  y": "ȳ has as many axes as y",
    r"unbroadcast: (1  →  2|tuple\(range.*|shape  →  g|g  →  shape|g\.ndim - 1  →  .*)":
        "chooses between two ways to compute one sum (sum_rows and sum); both are tested",
}


def judge(part, parts, words):
    """[(kind, description, survived)] of every parts-th mutant."""
    found = []
    for make in (wrapped, shortcuts, rewritten, helpers, by_hand):
        for j, (description, shown, patch) in enumerate(make()):
            if j % parts == part and (not words or any(w in description for w in words)):
                with patch():
                    found.append((make.__name__, description, survives(shown)))
    return found


def main(words):
    start, parts = time.time(), os.cpu_count()
    for name in table.ROWS:
        assert survives(name), f"the original {name} fails: python -m pytest tests/test_gradients.py -k {name}"
    assert survives(ENGINE), "the original engine fails: python -m pytest tests/test_autograd.py"
    with multiprocessing.get_context("fork").Pool(parts) as pool:
        found = [m for some in pool.map(functools.partial(judge, parts=parts, words=words), range(parts))
                 for m in some]
    for kind in dict.fromkeys(k for k, _, _ in found):
        alive = [survived for k, _, survived in found if k == kind]
        print(f"{kind:<10} {len(alive):5} mutants, {len(alive) - sum(alive):5} killed")
    survivors, missing = [d for _, d, survived in found if survived], 0
    for d in survivors:
        reason = next((why for pattern, why in EQUIVALENT.items() if re.fullmatch(pattern, d)), None)
        missing += reason is None
        print(f"survived: {d}\n          {'equivalent: ' + reason if reason else 'A CHECK IS MISSING'}")
    killed, equivalent = len(found) - len(survivors), len(survivors) - missing
    print(f"{killed:,} of {len(found):,} mutants killed ({100 * killed / len(found):.1f} %); of {len(survivors)} survivors "
          f"{equivalent} are equivalent to the original and {missing} show a missing check; {time.time() - start:.0f} s")
    return missing


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
