"""Is the game still a game? What `fit` looks at every 100 steps, so that no run fails in silence.

NaN and infinity stop the training; the message names the weight. Of four other ends of a game there
is one warning each: numbers of absurd size, a generator that always draws the same, a discriminator
that has won, a generator that no gradient reaches.
"""

import math
import warnings

import numpy as np

from .autograd import Tensor, grad
from .backend import to_host, xp
from .randomness import Randomness

EVERY = 100         # steps between two looks; a look costs less than a step
PATIENCE = 5        # looks in a row that must agree, except on absurd sizes
ABSURD = 1e6        # float32 has seven digits: at 1e6 a weight no longer feels a step below 0.06
SAME = 0.1          # of the widest spread so far (1 is the data's); one mode of the ring has 0.07
START = 0.2         # a generator starts narrow: what the widest spread is taken for at first
STILL = 1e-3        # mean slope of L_D by a logit; where D does not know it is 0.5
VANISHED = 1e-8     # Adam's ε: smaller gradients no longer move a weight as they should

ADVICE = {
    "size": "Lower the learning rate, or add a penalty on D's slope (wgan_gp, r1)",
    "collapse": "Show D several samples at once (Pack, MinibatchStd), add r1, or lower lr",
    "discriminator": "Lower D's learning rate, add a penalty (r1) or noise (views.Noise)",
    "generator": "Use a loss that does not saturate, lower lr, look for dead units (ReLU)",
}


class Diverged(ArithmeticError):
    """A number became NaN or infinite; the message says which, and at which step."""


def _sizes(gan):
    """[(parameter, max |θ|)] of all that learns, with one transfer from the device."""
    params = gan.parameters()
    sizes = xp(params[0].data).stack([abs(p.data).max() for p in params])
    return list(zip(params, to_host(sizes).tolist(), strict=True))


def check_losses(gan, *losses):
    """Raise `Diverged` if a loss, D's or G's, is not finite."""
    for player, loss in zip(("discriminator", "generator"), losses, strict=True):
        if not math.isfinite(loss):
            bad = [p.name for p, size in _sizes(gan) if not math.isfinite(size)]
            raise Diverged(f"the {player}'s loss is {float(loss)} at step {gan.steps}; try a "
                           f"smaller learning rate{f' (not finite: {bad[0]})' if bad else ''}")


def spread(x):
    """√ of the features' mean variance over the samples (N, ...)."""
    return math.sqrt(np.asarray(x, np.float64).reshape(len(x), -1).var(axis=0).mean())


class Watch:
    """Looks at a GAN that learns from data = (samples, *conditions)."""

    def __init__(self, gan, data):
        n = min(64, len(data[0]))
        self.given = [to_host(c[:n]) for c in data[1:]]
        self.spread = spread(to_host(data[0][:1000]))
        self.z = gan.latents(n, random=Randomness(0))   # the GAN's own generators are left alone
        self.widest = START
        self.found = {}                                 # {what: how many looks in a row found it}

    def __call__(self, gan, results):
        """Look at the results of a step and the state that it left."""
        loss_d, loss_g = (float(to_host(r)) for r in results[:2])
        check_losses(gan, loss_d, loss_g)
        sizes = [("D's loss", loss_d), ("G's loss", loss_g)]
        sizes += [(p.name, size) for p, size in _sizes(gan)]
        for name, size in sizes:
            if not math.isfinite(size):
                raise Diverged(f"{name} holds NaN or infinity at step {gan.steps}; try a smaller "
                               "learning rate")
        name, size = max(sizes, key=lambda pair: abs(pair[1]))
        self.note(gan, "size", abs(size) > ABSURD, f"{name} has reached {size:.0e}", patience=1)
        share = spread(gan.sample(self.z, *self.given)) / (self.spread or math.inf)
        self.widest = max(self.widest, min(share, 1.0))
        self.note(gan, "collapse", self.spread > 0 and share < SAME * self.widest,
                  "G draws nearly the same sample for every z")
        self.note(gan, "discriminator", _slope(gan, *results[2:]) < STILL,
                  "D is sure of every sample and no longer learns; what it tells G is arbitrary")
        gone = gan.slopes is not None and all(float(abs(g).max()) < VANISHED for g in gan.slopes)
        self.note(gan, "generator", gone, "no gradient reaches G")

    def note(self, gan, kind, found, what, patience=PATIENCE):
        """Warn, once per GAN, of what so many looks in a row have found."""
        self.found[kind] = self.found.get(kind, 0) + 1 if found else 0
        if self.found[kind] >= patience and kind not in gan.warned:
            gan.warned.add(kind)
            warnings.warn(f"step {gan.steps}: {what}. {ADVICE[kind]}.", stacklevel=4)


def _slope(gan, d_real, d_fake):
    """The larger of E |∂L_D/∂d| over real and over fake samples: what D still wants to change."""
    logits = [Tensor(d) for d in (d_real, d_fake)]
    return max(float(abs(g).sum()) for g in grad(gan.loss.discriminator(*logits), logits))
