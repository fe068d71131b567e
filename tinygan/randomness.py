"""Random numbers: named generators made from one seed.

Whoever needs random numbers asks for a generator by its purpose: `rng("init")` for weights,
`rng("batch")`, `rng("latent")`, `rng("dropout")`, `rng("data")`, `rng("picture")`, ... Each name
has a generator of its own, so drawing one more dropout mask does not change which batch comes next.
They are always drawn by NumPy on the host: a run on the GPU sees the same initial weights, batches
and latents as the run on the CPU.

**Who owns them.** A `Randomness` is one seed with its generators. `seed(3)` gives the running
thread a new one, and `rng` draws from it. A thread that has not called `seed` has one of seed 0, as
a new program has; threads share nothing. A GAN takes a copy when it is made and draws from that
copy ever after, so that several GANs, trained in several threads or in turns, see the numbers that
they would see alone.

    with Randomness(3):             # within the block, rng("...") draws from these
        ...
"""

import copy
import zlib
from contextvars import ContextVar

import numpy as np

_stack = ContextVar("random generators of this thread", default=())     # the last one is in use


class Randomness:
    """One seed (an integer ≥ 0) and the generators made from it, by name."""

    def __init__(self, seed=0):
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
            raise ValueError(f"seed: expected an integer >= 0, got {seed!r}")
        self.seed, self.generators = int(seed), {}

    def rng(self, name):
        """The `numpy.random.Generator` of this name; it starts when it is first asked for."""
        if name not in self.generators:
            key = zlib.crc32(name.encode())
            self.generators[name] = np.random.default_rng([self.seed, key])
        return self.generators[name]

    def copy(self):
        """Generators that go on from here on their own."""
        return copy.deepcopy(self)

    def state_dict(self):
        """The seed and every generator's state, as integers and strings that JSON can hold."""
        states = {name: g.bit_generator.state for name, g in self.generators.items()}
        return {"seed": self.seed, "generators": states}

    def load_state_dict(self, state):
        """Continue exactly where `state_dict` left off; ValueError for anything else."""
        try:
            new = Randomness(state["seed"])
            for name, s in state["generators"].items():
                new.rng(name).bit_generator.state = s
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as e:
            raise ValueError("Randomness.load_state_dict: not the state of random generators "
                             f"({type(e).__name__}: {e})") from None
        self.seed, self.generators = new.seed, new.generators

    def __enter__(self):
        _stack.set((*_stack.get(), self))
        return self

    def __exit__(self, *exception):
        _stack.set(_stack.get()[:-1])


def current():
    """The `Randomness` that `rng` draws from in this thread, or within this `with` block."""
    if not _stack.get():
        seed(0)
    return _stack.get()[-1]


def seed(value):
    """Start anew from one seed (an integer ≥ 0), in this thread. Without a call, the seed is 0."""
    _stack.set((*_stack.get()[:-1], Randomness(value)))


def rng(name):
    """The random generator of this name, see above."""
    return current().rng(name)
