"""Optimisers: how a parameter moves, given its gradient.

    optimiser.step(grad(loss, parameters))

θ is a parameter, g its gradient, η the learning rate `lr`. Updates happen in place and mark the
parameter as changed, so that a loss computed before the step cannot be differentiated after it.
The average of a network's weights over the steps, `EMA`, stands in average.py.
"""

import math

import numpy as np

from .average import EMA  # noqa: F401
from .backend import device_of, to_device, to_host, xp
from .checks import number, whole
from .shortcuts import Definition
from .tape import Tensor, data_of


class Optimizer:
    """Base: holds the parameters and what is remembered of each between steps.

    A subclass defines `update(θ, g, *memory)`, elementwise and in place, for one parameter. `slots`
    is how many arrays in θ's shape it remembers per parameter (its moments), all starting at 0.
    """

    slots = 0

    def __init_subclass__(cls):
        if {"update", "update_each"} & vars(cls).keys():
            cls.definition = Definition(cls.__name__)   # shortcuts.py: a new update has none yet

    def __init__(self, params, lr):
        who = type(self).__name__
        if isinstance(params, Tensor) or hasattr(params, "parameters"):
            raise TypeError(f"{who}: expected a list of parameters, got a {type(params).__name__}; "
                            f"write {who}(module.parameters(), ...) or {who}([p], ...)")
        self.params, self.lr = list(params), number("lr", lr, 0, math.inf, above=True)
        if not self.params:
            raise ValueError(f"{who}: no parameters to train")
        for p in self.params:
            if not isinstance(p, Tensor):
                raise TypeError(f"{who}: expected Tensors, got {type(p).__name__}")
        if len({id(p) for p in self.params}) < len(self.params):
            raise ValueError(f"{who}: a parameter is listed twice and would be updated twice per "
                             "step")
        self.steps = 0
        self.memory = [[xp(p.data).zeros_like(p.data) for p in self.params]
                       for _ in range(self.slots)]

    def step(self, grads):
        """Move every parameter by its gradient, given in the same order."""
        grads, data = [data_of(g) for g in grads], [p.data for p in self.params]
        who, shapes = type(self).__name__, [a.shape for a in data]
        if [g.shape for g in grads] != shapes:
            raise ValueError(f"{who}.step: expected one gradient per parameter, shapes {shapes}, "
                             f"got {[g.shape for g in grads]}")
        for slot in self.memory:
            for p, a, m in zip(self.params, data, slot, strict=True):
                if m.shape != a.shape or type(m) is not type(a):
                    raise ValueError(f"{who}.step: {p.name or 'a parameter'} has changed its shape "
                                     "or its device since the optimiser was made; make a new one")
        step = self.definition.faster("step", grads) or type(self).update_each
        step(self, grads)
        self.steps += 1
        for p in self.params:
            p.touch()

    def update_each(self, grads):
        """The definition of a step: `update` for one parameter after the other."""
        for p, g, *remembered in zip(self.params, grads, *self.memory, strict=True):
            self.update(p.data, g, *remembered)

    def state_dict(self):
        """{name: NumPy array}: step count, rate, and per slot what is remembered, as one array."""
        flat = {f"slot{i}": np.concatenate([to_host(m).reshape(-1) for m in slot])
                for i, slot in enumerate(self.memory)}
        return {"steps": np.array(self.steps), "lr": np.array(self.lr), **flat}

    def load_state_dict(self, state):
        """Continue where `state_dict` left off; ValueError if it belongs to other parameters."""
        mine = self.state_dict()
        if state.keys() != mine.keys() or any(np.shape(state[k]) != mine[k].shape for k in mine):
            raise ValueError(f"{type(self).__name__}.load_state_dict: expected arrays of shapes "
                             f"{({k: v.shape for k, v in mine.items()})}, found "
                             f"{({k: np.shape(v) for k, v in state.items()})}")
        self.steps, self.lr = (whole("steps", state["steps"], 0),
                               number("lr", state["lr"].item(), 0, math.inf, above=True))
        ends = np.cumsum([p.size for p in self.params])[:-1]
        for i, slot in enumerate(self.memory):
            for m, values in zip(slot, np.split(np.asarray(state[f"slot{i}"]), ends), strict=True):
                m[...] = to_device(values.reshape(m.shape).astype(m.dtype), device_of(m))


class SGD(Optimizer):
    """v ← momentum · v + g,   θ ← θ − η v      (without momentum: θ ← θ − η g)"""

    def __init__(self, params, lr, momentum=0.0):
        self.momentum = number("momentum", momentum, 0, 1)
        self.slots = 1 if momentum else 0
        super().__init__(params, lr)

    def update(self, theta, g, v=None):
        if v is not None:
            v *= self.momentum
            v += g
            g = v
        theta -= self.lr * g


class RMSProp(Optimizer):
    """s ← α s + (1 − α) g²,   θ ← θ − η g / (√s + ε)      (Hinton 2012, lecture 6e)"""

    slots = 1

    def __init__(self, params, lr, alpha=0.99, eps=1e-8):
        self.alpha, self.eps = number("alpha", alpha, 0, 1), number("eps", eps, 0, math.inf)
        super().__init__(params, lr)

    def update(self, theta, g, s):
        s *= self.alpha
        s += (1 - self.alpha) * g * g
        theta -= self.lr * g / (xp(s).sqrt(s) + self.eps)


class Adam(Optimizer):
    """m ← β₁ m + g,   v ← β₂ v + g²,   θ ← θ − η m̂ / (√v̂ + ε)

    m̂ = m / (1 + β₁ + … + β₁ᵗ⁻¹) and v̂ = v / (1 + β₂ + … + β₂ᵗ⁻¹) at step t = 1, 2, ... are means
    of all gradients so far, and of their squares, in which a step counts β times as much as the
    next. (Kingma & Ba 2015, algorithm 1; their m and v are 1 − β times the sums here, which would
    cost two more multiplications per number.) For GANs β₁ = 0.5 is usual (Radford et al. 2016).
    """

    slots = 2

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"betas: expected a pair such as (0.5, 0.999), got {betas!r}")
        self.betas = tuple(number("betas", b, 0, 1) for b in betas)
        self.eps = number("eps", eps, 0, math.inf)
        super().__init__(params, lr)

    def counts(self, ahead=1):
        """1 + β + … + βᵗ⁻¹ = (1 − βᵗ) / (1 − β) for both β, at the next step t or one further."""
        return [(1 - b ** (self.steps + ahead)) / (1 - b) for b in self.betas]

    def update(self, theta, g, m, v):
        (b1, b2), (n1, n2) = self.betas, self.counts()
        m *= b1
        m += g
        v *= b2
        v += g * g
        theta -= self.lr * (m / n1) / (xp(v).sqrt(v / n2) + self.eps)
