"""The two-player loop: a discriminator D tells real from fake, a generator G learns by being told.

One step, on a batch x of real samples and latents z ~ N(0, 1):

    fake = G(z)                                    once; both players use it
    D:  θ_D ← θ_D − η ∂L_D(D(x), D(fake)) / ∂θ_D    fake is plain data; its history is not needed
    G:  θ_G ← θ_G − η ∂L_G(D(fake)) / ∂θ_G          fake has its history; D's weights stay

Real and fake go through D in two batches, so that its BatchNorm never takes one mean of both. (A
shortcut joins them where no layer of D mixes samples.) All else is an option of `GAN`: the losses
and what is added to them, what D is shown, what both players are told, who moves when and how.

On a GPU a step sends there what was drawn on the host: the latents, which samples to take, and the
random numbers of a penalty, a view or Dropout. Nothing comes back until `watch.row` reads a loss.
"""

import json
import threading
from typing import NamedTuple

import numpy as np

from .autograd import data_of, grad, no_grad
from .average import EMA
from .backend import device_of, to_device, to_host
from .checks import number, whole
from .losses import LOSSES, r1, wgan_gp
from .options import can_play, functions, learnable, optimizers, per_player
from .randomness import current, rng
from .shortcuts import Definition
from .watch import EVERY, Diverged, Watch, row

__all__ = ["GAN", "Diverged", "Round", "batches", "fit", "r1", "row", "wgan_gp"]


verdicts = Definition("verdicts")       # D(real) and D(fake), in GAN._loss_d


class Round(NamedTuple):
    """What a move is computed from: latents z, what both players are told, real samples, and fake
    ones, which are a Tensor in G's move and an array in D's."""

    z: object
    given: tuple
    real: object
    fake: object


class GAN:
    """A generator G(z, *given) and a discriminator D(x, *given) at play, with their optimisers.

    latent        size of z, or a function n → array of n latents
    loss          a name from `losses.LOSSES`, or a `losses.Loss`
    penalty       a function (D, real, fake) → scalar added to L_D, such as `wgan_gp()`, or several
    lr, betas     Adam's: one rate or a pair (D's, G's), by default 2e-4; betas (0.5, 0.999)
    optimizer     instead: a function parameters → Optimizer, an Optimizer, or a pair of them
    schedule      a function step → factor on the learning rates, or a pair (D's, G's); or several
                  such functions. Steps count from 0
    d_steps       G moves on every d_steps-th step only, so that D can become a good judge
    simultaneous  both move from the same position; else G meets the D that has just moved
    average       a second generator that follows the first as its average (`EMA`), with `decay`
    view          a function (samples, step) → samples, or several: what D is shown, see `views`
    terms_d       and terms_g: functions (gan, Round) → scalar, added to a player's loss, see `aids`
    extra_d       and extra_g: {name: Module}, networks that learn along; all are in `extras`
    judge         a function (gan, Round) → (x → logits): whom G plays against, see `aids.unrolled`
    after_d       called with the GAN after each move of D, see `aids.clip_weights`

    Between steps the learning rates `opt_d.lr` and `opt_g.lr` may be set. Several threads may use
    one GAN: they sample between two steps, never within one.
    """

    def __init__(self, generator, discriminator, latent, *, loss="non-saturating", penalty=None,
                 lr=None, betas=None, optimizer=None, schedule=None, d_steps=1, simultaneous=False,
                 average=None, decay=0.999, view=None, terms_d=(), terms_g=(), extra_d=None,
                 extra_g=None, judge=None, after_d=None):
        self.g, self.d, self.latent = generator, discriminator, latent
        self.loss = LOSSES.get(loss, loss) if isinstance(loss, str) else loss
        self.d_steps, self.simultaneous, self.steps = d_steps, simultaneous, 0
        extra_d, extra_g = extra_d or {}, extra_g or {}
        self.extras = {**extra_d, **extra_g}
        self.penalty, self.view = functions("penalty", penalty) or None, functions("view", view)
        self.terms_d, self.terms_g = functions("terms_d", terms_d), functions("terms_g", terms_g)
        self.schedule = functions("schedule", schedule)
        self.after_d = functions("after_d", after_d)
        self.judge, = functions("judge", judge or GAN.told)         # told: the D of now
        can_play(self, loss, average)
        for role, net in self.networks().items():
            net.name_parameters(f"{role}.")     # so that a message says which weight it means
        self.opt_d, self.opt_g = optimizers(optimizer, lr, betas, [
            [discriminator, *extra_d.values()], [generator, *extra_g.values()]])
        self.rates = self.opt_d.lr, self.opt_g.lr
        self.device = device_of(self.opt_g.params[0].data)
        self.average = None if average is None else EMA(generator, average, decay)
        self.random = current().copy()          # its own from here on, see randomness.py
        self.loss_g = None                      # of G's last move
        self.warned, self.lock = set(), threading.RLock()

    def networks(self):
        """{role: Module} of all that learns."""
        return {"generator": self.g, "discriminator": self.d, **self.extras}

    def parameters(self):
        """The list of all Parameters that learn."""
        return [p for net in self.networks().values() for p in net.parameters()]

    def step(self, real, *given, then=None):
        """One step on a batch: real samples and what both players are told, arrays (N, ...).

        then: a batch (real, *given) for G's move, which else shares D's. Returns L_D, L_G and the
        logits D(real), D(fake) of D's move, as arrays on the device. On a step without a move of G,
        L_G is that of its last move.
        """
        if real.dtype.kind != "f":
            raise TypeError(f"GAN.step: expected floating-point samples, got {real.dtype}; "
                            "bytes (0 to 255) become samples by x.astype('float32') / 127.5 - 1")
        with self.lock, self.random:
            self._set_rates()
            r = self._deal(real, given)
            loss_d, d_real, d_fake = self._loss_d(r._replace(fake=r.fake.data))
            slopes_d = grad(loss_d, self.opt_d.params)
            if not self.simultaneous:
                self._move_d(slopes_d)

            g_moves = (self.steps + 1) % self.d_steps == 0
            if g_moves and then is not None:
                r = self._deal(then[0], tuple(then[1:]))
            if g_moves or self.loss_g is None:              # the first loss is wanted for the log
                loss_g = self._loss_g(r)
                self.loss_g = loss_g.data
            if g_moves:
                slopes_g = grad(loss_g, self.opt_g.params)
            if self.simultaneous:
                self._move_d(slopes_d)
            if g_moves:
                self.opt_g.step(slopes_g)
                if self.average is not None:
                    self.average.step()
            self.steps += 1
        return loss_d.data, self.loss_g, d_real.data, d_fake.data

    def _deal(self, real, given):
        """A Round with new latents; its fake samples have their history."""
        z = self.latents(len(real))
        return Round(z, given, real, self.g(z, *given))

    def _loss_d(self, r):
        """L_D with all that is added to it, and the logits D(real) and D(fake)."""
        d, real, fake = self.told(r), self.see(r.real), self.see(r.fake)
        both = verdicts.faster("both", (data_of(real),))
        d_real, d_fake = (both and both(d, real, fake)) or (d(real), d(fake))
        loss = self.loss.discriminator(d_real, d_fake)
        loss = sum((penalty(d, real, fake) for penalty in self.penalty or ()), start=loss)
        return sum((term(self, r) for term in self.terms_d), start=loss), d_real, d_fake

    def _loss_g(self, r):
        """L_G with all that is added to it."""
        d, samples = self.judge(self, r), (r.fake, r.real) if self.loss.paired else (r.fake,)
        loss = self.loss.generator(*(d(self.see(x)) for x in samples))
        return sum((term(self, r) for term in self.terms_g), start=loss)

    def _move_d(self, slopes):
        self.opt_d.step(slopes)
        for hook in self.after_d:
            hook(self)

    def _set_rates(self):
        who, rates = f"GAN: schedule at step {self.steps}", self.rates
        for schedule in self.schedule:
            factors = [number(who, factor, 0, np.inf, above=True)
                       for factor in per_player("schedule", schedule(self.steps))]
            rates = [rate * factor for rate, factor in zip(rates, factors, strict=True)]
            self.opt_d.lr, self.opt_g.lr = rates

    def latents(self, n, name="latent", random=None):
        """n latents on the networks' device: N(0, 1), or what the function `latent` returns.
        random: the `Randomness` to draw from, by default the GAN's own; name: which of its streams.
        """
        random = random or self.random
        if not callable(self.latent):
            z = random.rng(name).standard_normal((n, self.latent), dtype=np.float32)
            return to_device(z, self.device)
        with random:
            return to_device(self.latent(n), self.device)

    def see(self, x):
        """What D is shown of the samples x."""
        for view in self.view:
            x = view(x, self.steps)
        return x

    def told(self, r):
        """D as a function of samples alone, told what belongs to the Round."""
        return (lambda x: self.d(x, *r.given)) if r.given else self.d

    def _array(self, x):
        """x as an array on the networks' device, floating-point numbers in the networks' type."""
        x = data_of(x) if hasattr(x, "dtype") else np.asarray(x)
        dtype = self.opt_g.params[0].dtype if x.dtype.kind == "f" else x.dtype
        return to_device(x.astype(dtype, copy=False), self.device)

    def _evaluate(self, net, *inputs):
        """net(*inputs) as a NumPy array, in evaluation mode and recording nothing."""
        with self.lock, net.evaluating(), no_grad():
            return to_host(net(*map(self._array, inputs)).data)

    def sample(self, z, *given):
        """Samples for latents z and conditions, as a NumPy array, in evaluation mode: from the
        averaged generator if there is one."""
        return self._evaluate(self.g if self.average is None else self.average.module, z, *given)

    def logits(self, x, *given):
        """What D says of each of x, as a NumPy array (N,), in evaluation mode."""
        x = self._array(x)
        for view in self.view:
            x = view.alone(x) if hasattr(view, "alone") else x
        return self._evaluate(self.d, x, *given).reshape(-1)

    def score(self, x, *given):
        """D's probability σ(logit) that each of x is real, as a NumPy array (N,), likewise."""
        return np.exp(-np.logaddexp(-self.logits(x, *given), 0))

    def parts(self):
        """What has a state of its own: {name: object with state_dict and load_state_dict}."""
        parts = {**self.networks(), "opt_g": self.opt_g, "opt_d": self.opt_d}
        return parts if self.average is None else {**parts, "average": self.average}

    def state_dict(self):
        """{part: {name: NumPy array}}: the whole state, step count and random generators included,
        so that a GAN that loads it goes on exactly as this one would."""
        with self.lock:
            loss_g = np.float32(0) if self.loss_g is None else to_host(self.loss_g)
            game = {"steps": np.array(self.steps), "loss_g": np.array(loss_g),
                    "random": np.array(json.dumps(self.random.state_dict()))}
            return {name: part.state_dict() for name, part in self.parts().items()} | {"game": game}

    def load_state_dict(self, state):
        """Continue where `state_dict` left off. All or nothing: ValueError if it does not fit."""
        with self.lock:
            before = self.state_dict()
            if state.keys() != before.keys():
                raise ValueError(f"GAN.load_state_dict: expected {[*before]}, found {[*state]}")
            try:
                self._load(state)
            except ValueError:
                self._load(before)
                raise

    def _load(self, state):
        name, game = "game", state["game"]
        try:
            steps = whole("game: steps", np.asarray(game["steps"])[()], 0)
            loss_g = self._array(np.float64(float(game["loss_g"]))) if steps else None
            self.random.load_state_dict(json.loads(str(game["random"])))
            for name, part in self.parts().items():
                part.load_state_dict(state[name])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as e:
            raise ValueError(f"part {name!r} does not fit: {e}") from None
        self.steps, self.loss_g = steps, loss_g

    def __getstate__(self):
        return vars(self) | {"lock": None}

    def __setstate__(self, state):
        vars(self).update(state, lock=threading.RLock())        # a copy has a lock of its own


def batches(x, size):
    """Endless random batches of x (N, ...). A sample may occur twice.

    x may be a tuple of arrays (N, ...), samples and conditions; then each batch is such a tuple.
    """
    arrays = x if isinstance(x, tuple) else (x,)
    n = len(arrays[0])
    if not isinstance(size, (int, np.integer)) or not 1 <= size <= n:
        raise ValueError(f"batch size: expected 1..{n} (the size of the data set), got {size}")
    while True:
        rows = to_device(rng("batch").integers(n, size=size), device_of(arrays[0]))
        batch = tuple(a[rows] for a in arrays)
        yield batch if isinstance(x, tuple) else batch[0]


def fit(gan, x, steps, batch_size=64, on_step=None, *, given=(), fresh=False):
    """Play until `steps` steps are done in all.

    x: a `data.Dataset`, or an array that can be one (`data.as_dataset`). given: arrays (N, ...)
    that both players are told; a Dataset's labels if G takes a condition and nothing is given.
    fresh: G's move gets a batch of its own. on_step(gan, results) runs after each step and may
    return True to stop early. Raises `Diverged` for NaN and infinity, and warns of games that have
    gone wrong, see watch.py.
    """
    arrays, steps = learnable(gan, x, given), whole("fit: steps", steps, 0)
    stream, watch, stop = batches(arrays, batch_size), Watch(gan, arrays), False
    while gan.steps < steps and not stop:
        with gan.random:
            batch = next(stream)
            own = fresh and (gan.steps + 1) % gan.d_steps == 0
            more = {"then": next(stream)} if own else {}
        results = gan.step(*batch, **more)
        stop = on_step is not None and on_step(gan, results)
        if stop or gan.steps % EVERY == 0 or gan.steps == steps:
            watch(gan, results)
