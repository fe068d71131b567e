"""What options of a GAN may be: one function or several, one value or a pair, an optimiser or
what makes one; and what can play and learn."""

import inspect
from functools import partial

from .backend import device_of
from .checks import whole
from .data import as_dataset
from .losses import LOSSES, Loss
from .module import Module
from .norms import BatchNorm
from .optim import Adam, Optimizer


def functions(name, value):
    """A tuple of what may be None, one function or several."""
    found = tuple(value) if isinstance(value, (tuple, list)) else (value,) * (value is not None)
    if not all(map(callable, found)):
        raise TypeError(f"GAN: {name}: expected a function or several, got {value!r}")
    return found


def per_player(name, value):
    """(D's, G's) of one value for both, or of a pair."""
    both = value if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2:
        raise ValueError(f"GAN: {name}: expected one, or a pair (D's, G's), got {value!r}")
    return both


def optimizers(chosen, lr, betas, networks):
    """The Optimizers of D's and of G's networks, or of some of their parameters; Adam if None."""
    if chosen is None:
        betas = (0.5, 0.999) if betas is None else betas
        rates = per_player("lr", 2e-4 if lr is None else lr)
        chosen = [partial(Adam, lr=rate, betas=betas) for rate in rates]
    elif lr is not None or betas is not None:
        raise ValueError("GAN: lr and betas are the default optimizer's; give them to yours")
    made = []
    for one, nets in zip(per_player("optimizer", chosen), networks, strict=True):
        params = [p for net in nets for p in net.parameters()]
        opt = one(params) if callable(one) else one
        if not isinstance(opt, Optimizer) or {*map(id, opt.params)} - {*map(id, params)}:
            raise ValueError("GAN: optimizer: expected an Optimizer of the player's own parameters "
                             f"or a function that makes one, or a pair (D's, G's), got {one!r}")
        made.append(opt)
    return made


def can_play(gan, loss, average):
    """ValueError or TypeError for players and options that do not go together."""
    nets = gan.networks() | ({} if average is None else {"average": average})
    for role, net in nets.items():
        if not isinstance(net, Module) or not net.parameters():
            raise TypeError(f"GAN: the {role} must be a Module with parameters, got {net!r}")
    whole("GAN: d_steps", gan.d_steps)
    if not callable(gan.latent):
        whole("GAN: latent", gan.latent)
    if not isinstance(gan.loss, Loss):
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)} or a Loss, got {loss!r}")
    if len({device_of(p.data) for net in nets.values() for p in net.parameters()}) > 1:
        raise ValueError("GAN: all networks must be on one device; move each by .to(device)")
    mixes = any(isinstance(m, BatchNorm) and m.training for m in gan.d.modules())
    if mixes and any(getattr(p, "per_sample", False) for p in gan.penalty or ()):
        raise ValueError("GAN: a penalty on D's slope cannot work with BatchNorm in D, which "
                         "mixes the samples: leave it out (norm=False) or use LayerNorm")


def learnable(gan, x, given):
    """(samples, *conditions) on the GAN's device, checked, from arrays or a Dataset."""
    data = as_dataset(x)
    # Does G take more than z without a default?
    needs = inspect.signature(gan.g.forward).parameters.values()
    if not given and sum(a.default is a.empty and a.kind < a.VAR_POSITIONAL for a in needs) > 1:
        if data.labels is None:
            raise ValueError("fit: the generator takes a condition: hand over given=(labels,), or "
                             "a Dataset with labels")
        given = (data.labels,)
    x, *given = (gan._array(a) for a in (data.x, *given))
    for c in given:
        if c.shape[:1] != x.shape[:1]:
            raise ValueError(f"fit: expected {len(x)} conditions, one per sample, got {c.shape}")
    return x, *given
