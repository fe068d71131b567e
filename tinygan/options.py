"""What options of a GAN may be: one function or several, one value or a pair, an optimiser or
what makes one."""

from .optim import Optimizer


def functions(name, value):
    """A tuple of what may be None, one function or several."""
    found = tuple(value) if isinstance(value, (tuple, list)) else (value,) * (value is not None)
    if not all(map(callable, found)):
        raise TypeError(f"GAN: {name}: expected a function or several, got {value!r}")
    return found


def pair(name, value):
    """(D's, G's) of one value for both, or of a pair."""
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"GAN: {name}: expected one, or a pair (D's, G's), got {value!r}")
    return pair


def optimizer_of(chosen, nets):
    """The Optimizer of these networks, or of some of their parameters."""
    params = [p for net in nets for p in net.parameters()]
    opt = chosen(params) if callable(chosen) else chosen
    if not isinstance(opt, Optimizer) or {*map(id, opt.params)} - {*map(id, params)}:
        raise ValueError("GAN: optimizer: expected an Optimizer of the player's own parameters or "
                         f"a function that makes one, or a pair (D's, G's), got {chosen!r}")
    return opt
