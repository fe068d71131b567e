"""Whole settings by name: which loss goes with which penalty, betas, steps and kind of network.

`build(config, shape)` makes the GAN of a configuration; `tinygan train` uses nothing else.
"""

from functools import partial

from . import losses, models
from .aids import SpectralNorm, auxiliary, clip_weights
from .optim import RMSProp
from .train import GAN
from .views import Noise, Pack

HIDDEN = 256        # units of a dense layer in the convolutional networks: G has two, D has one
G_RATE = 3          # G's learning rate by D's, where both are convolutional with BatchNorm
WARM = 500          # steps until it is, see `warm_up`
NOISE = 0.3, 4000   # σ of what is added there to all that D sees, and the step when it has gone
DEFAULTS = {
    "conv": dict(steps=5500, batch_size=32, lr=1e-3, width=16, latent=64),
    "mlp": dict(steps=4000, batch_size=64, lr=2e-4, width=256, latent=64),
    "points": dict(steps=5000, batch_size=256, lr=1e-3, width=128, latent=16),
}

# What differs from the defaults of `GAN`. penalty, after_d: a function of a strength, the strength
# for images, that for points. And norm: has D BatchNorm? pack: how many samples does it see per
# verdict? spectral: are its layers in SpectralNorm?
CRITIC = dict(loss="wasserstein", d_steps=2, betas=(0.0, 0.9), norm=False)
RECIPES = {
    **{name: dict(loss=name) for name in losses.LOSSES},
    "wasserstein": dict(CRITIC, penalty=(losses.wgan_gp, 10.0, 0.1)),
    "wgan-gp": dict(CRITIC, penalty=(losses.wgan_gp, 10.0, 0.1)),
    "wgan-lp": dict(CRITIC, penalty=(losses.wgan_lp, 10.0, 0.1)),
    "wgan-clip": dict(loss="wasserstein", d_steps=2, optimizer=RMSProp, norm=False,
                      after_d=(clip_weights, 0.01, 0.2)),
    "r1": dict(betas=(0.0, 0.99), penalty=(losses.r1, 10.0, 0.1), norm=False),
    "r3gan": dict(loss="relativistic", betas=(0.0, 0.99), norm=False,           # Huang et al. 2024
                  penalty=(lambda gamma: (losses.r1(gamma), losses.r2(gamma)), 1.0, 0.1)),
    "dragan": dict(penalty=(losses.dragan, 10.0, 0.1), norm=False),
    "packed": dict(pack=2),
    "spectral": dict(loss="hinge", betas=(0.0, 0.9), norm=False, spectral=True),
}


def build(config, shape):
    """The GAN of a configuration, for samples of this shape: (2,) or (H, W, C).

    config has model ('mlp' or 'conv'), loss or recipe, width, latent, lr, device, and may have
    batch_size, pack, classes and condition (see conditions.py).
    """
    name = getattr(config, "recipe", None) or config.loss
    if name not in RECIPES:
        raise ValueError(f"recipe: expected one of {', '.join(RECIPES)}, got {name!r}")
    options = {"norm": True, "pack": 1, "spectral": False, **RECIPES[name]}
    norm, pack, spectral = (options.pop(key) for key in ("norm", "pack", "spectral"))
    pack = getattr(config, "pack", None) or pack
    if (getattr(config, "batch_size", None) or pack) % pack:
        raise ValueError(f"{name}: a batch of {config.batch_size} cannot be divided into packs "
                         f"of {pack}")
    if pack > 1 and getattr(config, "classes", 0):
        raise ValueError(f"{name}: packed samples have several labels, but D takes one: leave out "
                         "either the classes or the packing")

    d, generator = players(config, tuple(shape), norm, pack)
    if spectral:
        SpectralNorm.everywhere(d)
        if getattr(config, "condition", None) == "projection":
            d.table = SpectralNorm(d.table)
    g, average, d = (net.to(config.device) for net in (generator(), generator(), d))
    for key in options.keys() & {"penalty", "after_d"}:
        make, *strengths = options[key]
        options[key] = make(strengths[len(shape) == 1])
    if getattr(config, "condition", None) == "auxiliary":
        options |= dict(terms_d=(auxiliary("real"), auxiliary("fake")), terms_g=auxiliary("fake"))
    views = [Pack(pack)] if pack > 1 else []
    if "optimizer" in options:
        options["optimizer"] = partial(options["optimizer"], lr=config.lr)
    elif config.model == "conv" and norm:
        options |= dict(lr=(config.lr, config.lr * G_RATE), schedule=warm_up)
        views.append(Noise(*NOISE))
    else:
        options["lr"] = config.lr
    return GAN(g, d, config.latent, average=average, decay=0.998, view=views, **options)


def warm_up(step):
    """(D's, G's) factors on the rates: G's rises to G_RATE times D's during the first WARM steps.

    Where it was that from the first step on, one seed of 20 collapsed before step 400.
    """
    return 1, (1 + (G_RATE - 1) * min(1, step / WARM)) / G_RATE


def players(config, shape, norm, pack):
    """D, and a function that makes a generator, for samples of this shape."""
    *places, channels = shape
    w, latent, k = config.width, config.latent, getattr(config, "classes", 0) or 0
    told = dict(classes=k, condition=getattr(config, "condition", None) or "embedding")
    if config.model == "conv":
        if len(places) != 2 or places[0] != places[1]:
            raise ValueError(f"model conv needs square images (H, H, C), got samples {shape}")
        return (models.conv_discriminator(places[0], channels * pack, w, norm, HIDDEN, **told),
                partial(models.conv_generator, latent, places[0], channels, w, (HIDDEN,) * 2, k))
    wide = (w, 2 * w, 4 * w) if places else (w, w)
    return (models.mlp_discriminator((*places, channels * pack), wide[1::-1], **told),
            partial(models.mlp_generator, latent, shape, wide, k))


def for_projection(config):
    """The non-saturating loss gets its R1 where a projection would meet BatchNorm, as conditions.py
    says why; other recipes of that kind are refused."""
    name = config.recipe or config.loss
    told = getattr(config, "condition", None) == "projection"
    if told and config.model == "conv" and RECIPES[name].get("norm", True):
        if name != "non-saturating" or config.recipe:
            raise ValueError(
                f"--condition projection: not with {name}, whose D has BatchNorm and would be led "
                "to accept one picture per label; leave the loss out, or take --recipe r1 or r3gan")
        config.recipe = "r1"


def field(gan):
    """What to draw behind 2-D samples: D's probability that a point is real, or its plain logit."""
    return gan.score if gan.loss.probability else gan.logits
