"""Reverse-mode automatic differentiation: the whole engine.

Calling an op on Tensors computes its value and remembers what it was computed from. That memory is
the *tape*: every Tensor knows the op that made it and the arguments it was made from, which are
older Tensors. `grad` walks the tape from the newest Tensor to the oldest and applies the chain
rule at each step.

For y = f(a, b, ...) and a scalar loss L, write ȳ = ∂L/∂y. An op supplies one rule per argument that
turns ȳ into that argument's share, ā = ȳ ∂y/∂a (a vector-Jacobian product, "vjp"). Where a Tensor
is used several times its shares add up.

Four ideas keep this file short:

1. Creation order is a topological order. Tensors are numbered as they are made, and arguments are
   older than results, so "newest first" visits every Tensor after all its uses. No order has to be
   searched for, there is no recursion, and a graph that is 10,000 deep is no special case.
2. Every rule is read in two ways. Given arrays it computes arrays: a plain backward pass that
   records nothing. Given Tensors (`create_graph=True`) the same line records itself, so that
   gradients can be differentiated again, to any order.
3. Rules are applied only on paths that lead from the loss to what was asked for. Training a
   generator through a discriminator never computes the discriminator's weight gradients; there is
   no `.grad`, nothing to zero and nothing to detach.
4. A change is a new number. A Tensor whose data was changed becomes younger than what was made from
   it. An argument that is younger than its result is how `grad` sees that a loss is stale.

Memory is freed by counting references. A Tensor points at what it was made from and never the other
way, so there are no cycles: when the last name of a loss goes, its whole tape goes with it.

An array is NumPy's or CuPy's, and `xp(x)` is the module that made it (backend.py). That is all the
engine knows of devices. tape.py has Tensors and ops, this file has `grad`.

An op may have a *shortcut*, a faster forward and backward that is registered from outside; `saved`
is what its forward left for its backward (shortcuts.py). A first reading can ignore both: without
them everything is the same, only slower.
"""

import numpy as np

from .backend import xp
from .tape import UNRECORDED, Op, Tensor, data_of, no_grad, op, unbroadcast

__all__ = ["Op", "Tensor", "ancestors", "data_of", "grad", "no_grad", "op", "unbroadcast"]


def grad(y, wrt, cotangent=None, create_graph=False, zeros=False):
    """The gradient of y with respect to one Tensor or a list of Tensors.

    y: a scalar Tensor, or one of any shape together with `cotangent`, an array or Tensor ȳ of y's
    shape (the result is then Σ ȳ ∂y/∂w). Returns one array per Tensor of `wrt`, in its shape and
    type, each writable and with memory of its own; with `create_graph=True` Tensors that can be
    differentiated again. A list gives a list, a single Tensor a single gradient.

    zeros: what y does not depend on gets a gradient of zeros. Otherwise it is an error, because a
    forgotten connection is the usual reason.

    Raises ValueError if y is no scalar and has no cotangent, if y does not depend on something in
    `wrt`, or if a Tensor on the way was changed (say, by an optimiser) after y was made from it;
    TypeError if y or something in `wrt` is no Tensor.
    """
    if isinstance(wrt, Tensor):
        return grad(y, [wrt], cotangent, create_graph, zeros)[0]
    targets = list(wrt)
    if not isinstance(y, Tensor) or not all(isinstance(t, Tensor) for t in targets):
        raise TypeError("grad: expected a Tensor and the Tensors to differentiate by; wrap inputs "
                        "first: x = Tensor(array)")
    found = _walk(y, _cotangent(y, cotangent), targets, create_graph)
    for t in targets:
        if t.number not in found:
            used = any(a is t for a in ancestors(y))    # so changed since: an error even with zeros
            if used or not zeros:
                raise ValueError(_why_unreached(y, t))
            found[t.number] = xp(t._data).zeros_like(t._data)
    results = [found[t.number] for t in targets]
    if create_graph:
        return [g if isinstance(g, Tensor) else Tensor(g) for g in results]
    return _owned(results, cotangent)


def _walk(y, g, targets, create_graph):
    """{number: gradient} of the targets that were reached, given the gradient g of y.

    Newest first: when a Tensor's turn comes, all its uses have added their share to its gradient.
    """
    asked, found = {t.number for t in targets}, {}
    grads = {y.number: g if create_graph else data_of(g)}
    for t, needed in reversed(_tape(y, targets)):
        g = grads.pop(t.number)
        if t.number in asked:
            found[t.number] = g
        if not needed:
            continue
        shares = _shares(t, g, needed, create_graph)
        for (_, p), share in zip(needed, shares, strict=True):
            if share.shape != p.shape:
                share = unbroadcast(share, shape=p.shape)
            if p.dtype != t.dtype:
                share = share.astype(p.dtype)
            grads[p.number] = grads[p.number] + share if p.number in grads else share
    return found


def _cotangent(y, cotangent):
    """ȳ as an array (or Tensor) of y's shape and type."""
    module = xp(y._data)
    if cotangent is None:
        if y.size != 1:
            raise ValueError(f"grad: y has shape {y.shape}, so it has no single gradient; "
                             "reduce it with .sum() or .mean(), or pass cotangent=")
        return module.ones_like(y._data)
    if not isinstance(cotangent, Tensor):
        cotangent = module.asarray(cotangent)
        if cotangent.dtype.kind not in "fiu":
            raise TypeError(f"grad: cotangent must be real numbers, got {cotangent.dtype}")
        cotangent = cotangent.astype(y.dtype, copy=False)
    if cotangent.shape != y.shape:
        raise ValueError(f"grad: cotangent has shape {cotangent.shape}, expected y's shape "
                         f"{y.shape}")
    return cotangent


def _tape(y, targets):
    """The Tensors between the targets and y, oldest first: [(Tensor, needed)].

    needed: (position, Tensor) of each of its arguments through which a target is reached.
    """
    leads = {t.number for t in targets}                 # of what a target is, or leads to
    oldest = min(leads, default=0)                      # what is older was made from no target
    reached, todo = {}, [y]
    while todo:
        t = todo.pop()
        if t.number not in reached and t.number >= oldest:
            reached[t.number] = t, (parents := t.parents())
            todo.extend(p for _, p in parents)
    between = []
    for n in sorted(reached):
        t, parents = reached[n]
        needed = [parent for parent in parents if parent[1].number in leads]
        if needed:
            leads.add(n)
            _refuse_changed_arguments(t)
        if n in leads:
            between.append((t, needed))
    return between


def _shares(t, g, needed, create_graph):
    """The shares of the parents of t that are needed: Tensors with `create_graph`, else arrays."""
    y, args = t, t.args
    if not create_graph:
        y, args = t._data, [a._data if isinstance(a, Tensor) else a for a in t.args]
        vjp = t.op.faster("vjp", (g,)) if t.op.shortcuts else None
        if vjp is not None:
            places = {i for i, _ in needed}
            wanted = [i in places for i in range(len(args))]
            shares = vjp(g, y, t.saved, wanted, *args, **t.kwargs)
            if shares is not None:
                return [shares[i] for i, _ in needed]
    return [t.op.rule(i)(g, y, *args, **t.kwargs) for i, _ in needed]


def _owned(arrays, cotangent):
    """The arrays, copied where they are read-only or two names would share one memory."""
    taken, owned = {id(_memory(data_of(cotangent)))}, []
    for g in arrays:
        if isinstance(g, np.generic):               # a sum over everything is a NumPy number
            g = np.asarray(g)
        writable = getattr(g.flags, "writeable", True) and 0 not in g.strides
        if not writable or id(_memory(g)) in taken:
            g = g.copy()
        taken.add(id(_memory(g)))
        owned.append(g)
    return owned


def _memory(a):
    """The array that owns the memory of a."""
    while getattr(a, "base", None) is not None:
        a = a.base
    return a


def _refuse_changed_arguments(t):
    """ValueError if an argument of t changed after t was made.

    A result that is only a view (reshape, slice) shares memory with what it was made from, so look
    through views as well.
    """
    todo = list(t.args)
    while todo:
        a = todo.pop()
        if isinstance(a, Tensor):
            if a.number > t.number:             # a change renumbers: younger than its own result
                raise ValueError(_stale(a, t.op.name))
            if a.op is not None and a._data.base is not None:
                todo.extend(a.args)


def _stale(t, where):
    return (f"grad: {t.name or 'a Tensor'} of shape {t.shape} was changed after it was used in "
            f"{where}; compute the loss again after an update, or take every gradient before the "
            "first update")


def ancestors(y):
    """y and every Tensor that it was computed from."""
    seen, todo = {}, [y]
    while todo:
        t = todo.pop()
        if id(t) not in seen:
            seen[id(t)] = t
            todo.extend(a for a in (t.args if t.op else ()) if isinstance(a, Tensor))
    return seen.values()


def _why_unreached(y, t):
    """The message for a y that has no gradient by t."""
    name, nodes = f"{t.name or 'the given Tensor'} of shape {t.shape}", ancestors(y)
    for node in nodes:
        if node.op and any(a is t for a in node.args) and t.number > node.number:
            return _stale(t, node.op.name)
    message = f"grad: y does not depend on {name}"
    if any(node.name == UNRECORDED for node in nodes):
        return (f"{message}, because it, or something on the way, was computed within no_grad(), "
                "which records nothing; compute it outside of that block")
    return f"{message}; if it need not, pass zeros=True for a gradient of zeros"
