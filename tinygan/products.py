"""The derivative table, 4: matrix products and Einstein sums.

See elementwise.py for how to read the table.
"""

import numpy as np

from .backend import xp
from .shapes import broadcast_to, swap
from .tape import op


@op
def matmul(a, b):
    """y = a b, matrices (..., n, k) (..., k, m), leading axes broadcast    ā = ȳ bᵀ   b̄ = aᵀ ȳ"""
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError("matmul: expected matrices (..., n, k) and (..., k, m), "
                         f"got {a.shape} and {b.shape}")
    return a @ b
matmul.vjps(lambda g, y, a, b: g @ swap(b),
            lambda g, y, a, b: swap(a) @ g)

@op
def linear(x, w, b):
    """y = x w + b, x (N, K), w (K, M), b (M,)      x̄ = ȳ wᵀ      w̄ = xᵀ ȳ      b̄ = ȳ

    b̄ is summed over N by the engine. (x @ w + b would do; one op can have a shortcut that adds b
    in place.)
    """
    if x.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ValueError(f"linear: expected x of shape (N, {w.shape[0]}) for a weight {w.shape}, "
                         f"got {x.shape}")
    return x @ w + b
linear.vjps(lambda g, y, x, w, b: g @ swap(w),
            lambda g, y, x, w, b: swap(x) @ g,
            lambda g, y, x, w, b: g)

def dot(a, b):
    """a @ b as NumPy means it: a vector stands for a row on the left, for a column on the right."""
    y = matmul(a[None, :] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b)
    if a.ndim == 1:
        y = y[..., 0, :]
    return y[..., 0] if b.ndim == 1 else y

@op
def contract(*xs, formula):
    """y = einsum(formula, *xs), with an explicit result and no index twice in one operand

    x̄ₖ = the same sum with ȳ and the k-th operand exchanged; an index that only operand k has was
    summed away, so its gradient is repeated. `einsum` checks the formula and calls this op.
    """
    return xp(*xs).einsum(formula, *xs)

def _contract_rule(k, g, y, *xs, formula):
    terms, result = formula.split("->")
    terms = terms.split(",")
    own, terms[k] = terms[k], result
    kept = [i for i in own if any(i in term for term in terms)]
    share = einsum(f"{','.join(terms)}->{''.join(kept)}", *xs[:k], g, *xs[k + 1:])
    sizes = iter(share.shape)
    share = share.reshape(tuple(next(sizes) if i in kept else 1 for i in own))
    # An operand of size 1 along an index was broadcast, and the engine sums over it.
    return broadcast_to(share, shape=np.broadcast_shapes(share.shape, xs[k].shape))
contract.vjps(each=_contract_rule)

def einsum(formula, *xs):
    """Einstein summation, e.g. einsum('bij,bjk->bik', a, b): NumPy's spelling, explicit result."""
    formula = formula.replace(" ", "")
    terms = formula.partition("->")[0].split(",")
    if ("->" not in formula or "." in formula or len(terms) != len(xs)
            or any(len(set(t)) < len(t) for t in terms)):
        raise ValueError("einsum: expected one term per operand, an explicit '->', no '...' and no "
                         f"index twice in a term, got {formula!r} for {len(xs)} operand(s)")
    return contract(*xs, formula=formula)
