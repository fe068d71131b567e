"""The two-player loop: a discriminator D that tells real from fake, and a generator G that learns by being told.

One step, on a batch x of real samples and latents z ~ N(0, 1):

    fake = G(z)                                    once; both players use it
    D:  θ_D ← θ_D − η ∂L_D(D(x), D(fake)) / ∂θ_D    fake enters as plain data, so nothing flows back into G
    G:  θ_G ← θ_G − η ∂L_G(D(fake)) / ∂θ_G          fake enters with its history; D's weight gradients are never computed

Real and fake go through D in two separate batches, so that its BatchNorm never mixes their statistics.
"""

import json
import math

import numpy as np

from . import losses
from .autograd import grad, no_grad
from .backend import device_of, to_device, to_host, xp
from .optim import EMA, Adam
from .randomness import current, rng


class Diverged(ArithmeticError):
    """A loss became NaN or infinite; the message names the player and the step."""


def wgan_gp(weight=10.0):
    """The penalty of WGAN-GP, weight · E (‖∇D‖ − 1)² between real and fake, as a function (D, real, fake) → scalar."""
    return lambda d, real, fake: weight * losses.gradient_penalty(d, losses.interpolate(real, fake), center=1.0)


def r1(gamma=1.0):
    """R1, γ/2 · E ‖∇D‖² at real samples (Mescheder et al. 2018), as a function (D, real, fake) → scalar."""
    return lambda d, real, fake: gamma / 2 * losses.gradient_penalty(d, real, center=0.0)


class GAN:
    """A generator and a discriminator at play, with their optimisers.

    latent: size of z. loss: a name from `losses.LOSSES` or a `losses.Loss`. penalty: None or a function (D, real, fake) → scalar
    added to L_D, such as `wgan_gp()`. lr: one learning rate, or a pair (D's, G's). d_steps: G moves on every d_steps-th step only,
    so that D has time to become a good judge. average: a second generator of the same build, which follows the first as an
    exponential moving average (`EMA`), or None. For a schedule, assign to `opt_d.lr` and `opt_g.lr` between steps.
    """

    def __init__(self, generator, discriminator, latent, *, loss="non-saturating", penalty=None, lr=2e-4, betas=(0.5, 0.999),
                 d_steps=1, average=None, decay=0.999):
        if isinstance(loss, str) and loss not in losses.LOSSES:
            raise ValueError(f"loss: expected one of {', '.join(losses.LOSSES)}, got {loss!r}")
        self.g, self.d, self.latent, self.penalty = generator, discriminator, latent, penalty
        self.loss = losses.LOSSES[loss] if isinstance(loss, str) else loss
        lr_d, lr_g = lr if isinstance(lr, tuple) else (lr, lr)
        self.opt_g, self.opt_d = Adam(generator.parameters(), lr_g, betas), Adam(discriminator.parameters(), lr_d, betas)
        self.device = device_of(self.opt_g.params[0].data)
        self.average = EMA(generator, average, decay) if average is not None else None
        self.d_steps, self.steps = d_steps, 0
        self.random = current().copy()              # its own from here on, see randomness.py

    def latents(self, n, name="latent"):
        """n latents (n, latent) ~ N(0, 1) on the networks' device, from the random generator of this name."""
        return to_device(self.random.rng(name).standard_normal((n, self.latent), dtype=np.float32), self.device)

    def step(self, real):
        """One update of each player on real samples (N, ...). Returns the two losses and D's logits, as arrays on the device."""
        with self.random:
            return self._step(real)

    def _step(self, real):
        fake = self.g(self.latents(len(real)))

        d_real, d_fake = self.d(real), self.d(fake.data)
        loss_d = self.loss.discriminator(d_real, d_fake)
        if self.penalty is not None:
            loss_d = loss_d + self.penalty(self.d, real, fake.data)
        self.opt_d.step(grad(loss_d, self.opt_d.params))

        loss_g = self.loss.generator(self.d(fake))
        self.steps += 1
        if self.steps % self.d_steps == 0:
            self.opt_g.step(grad(loss_g, self.opt_g.params))
            if self.average is not None:
                self.average.step()
        return loss_d.data, loss_g.data, d_real.data, d_fake.data

    def _evaluate(self, net, x):
        """net(x) as a NumPy array, in evaluation mode and recording nothing."""
        training = net.training
        net.eval()
        with no_grad():
            out = net(to_device(x, self.device)).data
        net.train(training)
        return to_host(out)

    def sample(self, z):
        """Samples for latents z, as a NumPy array, from the averaged generator if there is one, in evaluation mode."""
        return self._evaluate(self.g if self.average is None else self.average.module, z)

    def logits(self, x):
        """What D says of each of x, as a NumPy array (N,), in evaluation mode."""
        return self._evaluate(self.d, x).reshape(-1)

    def score(self, x):
        """D's probability σ(logit) that each of x is real, as a NumPy array (N,), in evaluation mode."""
        return np.exp(-np.logaddexp(-self.logits(x), 0))

    def parts(self):
        """What has a state of its own: {name: object with state_dict and load_state_dict}."""
        parts = {"generator": self.g, "discriminator": self.d, "opt_g": self.opt_g, "opt_d": self.opt_d}
        return parts if self.average is None else {**parts, "average": self.average}

    def state_dict(self):
        """{part: {name: NumPy array}}: the whole state, step count and random generators included, so that a GAN that loads it
        goes on exactly as this one would."""
        game = {"steps": np.array(self.steps), "random": np.array(json.dumps(self.random.state_dict()))}
        return {**{name: part.state_dict() for name, part in self.parts().items()}, "game": game}

    def load_state_dict(self, state):
        """Continue where `state_dict` left off. All or nothing: ValueError if a part is missing or does not fit."""
        parts, before = self.parts(), self.state_dict()
        if state.keys() != before.keys():
            raise ValueError(f"GAN.load_state_dict: expected the parts {sorted(before)}, found {sorted(state)}")
        try:
            for name, part in parts.items():
                try:
                    part.load_state_dict(state[name])
                except (ValueError, TypeError, KeyError) as e:
                    raise ValueError(f"part {name!r} does not fit: {e}") from None
            self.random.load_state_dict(json.loads(str(state["game"]["random"])))
            self.steps = int(state["game"]["steps"])
        except (ValueError, TypeError, KeyError) as e:
            for name, part in parts.items():
                part.load_state_dict(before[name])
            raise ValueError(str(e)) from None


def batches(x, size):
    """Endless random batches of the array x (N, ...), drawn with replacement where x lies: only the indices are moved."""
    if not 1 <= size <= len(x):
        raise ValueError(f"batch size: expected 1..{len(x)} (the size of the data set), got {size}")
    while True:
        yield x[to_device(rng("batch").integers(len(x), size=size), device_of(x))]


def row(gan, results):
    """The numbers worth logging of one step's results: losses, and D's mean σ(logit) on real and on fake samples.

    This is where a GPU run waits for its kernels. Raises `Diverged` if a loss is not finite.
    """
    loss_d, loss_g, d_real, d_fake = (to_host(xp(r).asarray(r)) for r in results)
    for name, value in (("discriminator", loss_d), ("generator", loss_g)):
        if not math.isfinite(value):
            raise Diverged(f"the {name}'s loss is {float(value)} at step {gan.steps}; try a smaller learning rate")
    p_real, p_fake = (float(np.exp(-np.logaddexp(-d.astype(np.float64), 0)).mean()) for d in (d_real, d_fake))
    return {"step": gan.steps, "d_loss": float(loss_d), "g_loss": float(loss_g), "d_real": p_real, "d_fake": p_fake}


def fit(gan, x, steps, batch_size=64, on_step=None):
    """Play until `steps` steps are done in all; on_step(gan, results) runs after each and may return True to stop early."""
    data = batches(x, batch_size)
    while gan.steps < steps:
        with gan.random:
            real = next(data)
        results = gan.step(real)
        if on_step is not None and on_step(gan, results):
            break
