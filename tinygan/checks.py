"""What is refused before a game starts: players and options that do not fit, unfit data."""

import inspect

import numpy as np

from .autograd import Tensor
from .backend import device_of, to_device
from .data import as_dataset
from .losses import LOSSES, Loss
from .module import whole
from .nn import BatchNorm, Module


def pair(name, value):
    """(D's, G's) of one value for both, or of a pair."""
    if isinstance(value, (tuple, list)) and len(value) != 2:
        raise ValueError(f"GAN: {name}: expected one, or a pair (D's, G's), got {value!r}")
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def several(value):
    """A tuple of what may be None, one function or several."""
    return (value,) if callable(value) else tuple(value or ())


def check_game(gan, average):
    """Raise a ValueError or TypeError for what a GAN cannot be made of."""
    nets = gan.networks() | ({} if average is None else {"average": average})
    owner, devices = {}, set()
    for role, net in nets.items():
        if not isinstance(net, Module) or not net.parameters():
            raise TypeError(f"GAN: the {role} must be a Module with parameters, got {net!r}")
        for name, p in net.named_parameters().items():
            devices.add(device_of(p.data))
            first = owner.setdefault(id(p), role)
            if first != role and role in ("discriminator", "average"):
                raise ValueError(f"GAN: the {role} shares the parameter {name} with the {first}; "
                                 "it must be a network of its own")
    shapes = [{name: p.shape for name, p in net.named_parameters().items()}
              for net in (gan.g, average or gan.g)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"GAN: the average must be built as the generator is, with {shapes[0]}, "
                         f"got {shapes[1]}")
    if len(devices) > 1:
        raise ValueError("GAN: all networks must be on one device; move each by .to(device)")
    if gan.extras.keys() & {"generator", "discriminator", "average", "opt_d", "opt_g", "game"}:
        raise ValueError(f"GAN: extra networks need names of their own, got {list(gan.extras)}")
    if not callable(gan.latent):
        whole("GAN: latent", gan.latent)
    whole("GAN: d_steps", gan.d_steps)
    if not isinstance(gan.loss, Loss):
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)} or a Loss, got {gan.loss!r}")
    for name in ("schedule", "judge", "after_d", "views", "penalty", "terms_d", "terms_g"):
        hooks = getattr(gan, name)
        for hook in hooks if isinstance(hooks, tuple) else (hooks,):
            if hook is not None and not callable(hook):
                raise TypeError(f"GAN: {name}: expected a function, got {hook!r}")
    if any(getattr(p, "per_sample", False) for p in gan.penalty or ()) and any(
            isinstance(m, BatchNorm) and m.training for m in gan.d.modules()):
        raise ValueError("GAN: a penalty on D's slope at each sample cannot work with BatchNorm in "
                         "D, which mixes the samples: leave it out (norm=False) or use LayerNorm")


def is_conditional(generator):
    """Whether its forward takes more than the latents."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    arguments = inspect.signature(generator.forward).parameters.values()
    return sum(a.kind in kinds and a.default is a.empty for a in arguments) > 1


def check_data(gan, x, given=()):
    """(samples, *conditions) on the GAN's device, from arrays or a Dataset (see `train.fit`)."""
    if any(isinstance(a, Tensor) for a in (x, *given)):
        raise TypeError("fit: expected arrays, got a Tensor; take its .data")
    data = as_dataset(x)
    if not given and is_conditional(gan.g):
        if data.labels is None:
            raise ValueError("fit: the generator takes a condition: hand over given=(labels,), or "
                             "a Dataset with labels")
        given = (data.labels,)
    given = [c if hasattr(c, "dtype") else np.asarray(c) for c in given]
    for c in given:
        if c.shape[:1] != data.x.shape[:1]:
            raise ValueError(f"fit: expected {len(data)} conditions, one per sample, got {c.shape}")
    dtype = gan.parameters()[0].dtype
    return tuple(to_device(a.astype(dtype, copy=False) if a.dtype.kind == "f" else a, gan.device)
                 for a in (data.x, *given))
