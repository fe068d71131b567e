"""Is the game still a game? What `fit` looks at every 100 steps, so that no run fails in silence.

NaN and infinity stop the training; the message names the weight. Of three other ends of a game
there is one warning each: numbers of absurd size, a generator that always draws the same, and a
discriminator that has won.
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
SAME = 0.2          # of the data's spread; one mode of a ring has 0.07, two neighbours have 0.38
START = 20          # looks in a row for a G that was never wider, because every G starts narrow
STILL = 1e-3        # mean slope of L_D by a logit; where D does not know it is 0.5


class Diverged(ArithmeticError):
    """A number became NaN or infinite; the message says which, and at which step."""


def sizes(gan):
    """{name: max |θ|} of every Parameter that learns, with one transfer from the device."""
    params = gan.parameters()
    found = to_host(xp(params[0].data).stack([abs(p.data).max() for p in params]))
    return {p.name: size for p, size in zip(params, found.tolist(), strict=True)}


def row(gan, results):
    """The numbers worth logging of one step's results: losses, and D's mean verdicts.

    A verdict is σ(logit) where the loss makes that a probability, and else the logit. This is where
    a GPU run waits for its kernels. Raises `Diverged` if a loss is not finite.
    """
    loss_d, loss_g, *verdicts = (to_host(xp(r).asarray(r)).astype(np.float64) for r in results)
    for player, loss in (("discriminator", loss_d), ("generator", loss_g)):
        if not math.isfinite(loss):
            bad = [name for name, size in sizes(gan).items() if not math.isfinite(size)]
            raise Diverged(f"the {player}'s loss is {float(loss)} at step {gan.steps}; try a "
                           f"smaller learning rate{f' (not finite: {bad[0]})' if bad else ''}")
    if gan.loss.probability:
        verdicts = [np.exp(-np.logaddexp(-d, 0)) for d in verdicts]
    d_real, d_fake = (float(d.mean()) for d in verdicts)
    return {"step": gan.steps, "d_loss": float(loss_d), "g_loss": float(loss_g),
            "d_real": d_real, "d_fake": d_fake}


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
        self.wide, self.found = False, {}               # {what: how many looks in a row found it}

    def __call__(self, gan, results):
        """Look at the results of a step and the state that it left."""
        numbers = row(gan, results)
        found = {"D's loss": abs(numbers["d_loss"]), "G's loss": abs(numbers["g_loss"])}
        found.update(sizes(gan))
        for name, size in found.items():
            if not math.isfinite(size):
                raise Diverged(f"{name} holds NaN or infinity at step {gan.steps}; try a smaller "
                               "learning rate")
        name = max(found, key=found.get)
        self.note(gan, found[name] > ABSURD, f"{name} has reached {found[name]:.0e}",
                  "Lower the learning rate, or add a penalty on D's slope (wgan_gp, r1)", 1)
        narrow = spread(gan.sample(self.z, *self.given)) < SAME * self.spread
        self.wide = self.wide or not narrow
        self.note(gan, narrow, "G draws nearly the same sample for every z",
                  "Show D several samples at once (Pack, MinibatchStd), add r1, or lower lr",
                  PATIENCE if self.wide else START)

        logits = [Tensor(d) for d in results[2:]]
        slopes = grad(gan.loss.discriminator(*logits), logits)      # what D still wants to change
        self.note(gan, max(float(abs(g).sum()) for g in slopes) < STILL,
                  "D is sure of every sample and no longer learns; what it tells G is arbitrary",
                  "Lower D's learning rate, add a penalty (r1) or noise (views.Noise)")

    def note(self, gan, seen, what, advice, patience=PATIENCE):
        """Warn, once per GAN, of what so many looks in a row have seen."""
        self.found[advice] = self.found.get(advice, 0) + 1 if seen else 0
        if self.found[advice] >= patience and advice not in gan.warned:
            gan.warned.add(advice)
            warnings.warn(f"step {gan.steps}: {what}. {advice}.", stacklevel=4)
