"""Optimisers: how a parameter moves, given its gradient.

    optimiser.step(grad(loss, parameters))

There is no stored `.grad` and nothing to zero. θ is a parameter, g its gradient, η the learning rate `lr`. Updates happen in place
and mark the parameter as changed, so that a loss computed before the step refuses to be differentiated after it.
"""

import math

import numpy as np

from .backend import device_of, to_device, to_host, xp


class Optimizer:
    """Base: holds the parameters and checks what it is given. Subclasses define `update(θ, g, slots)` for one parameter.

    `slots` is how many arrays of θ's shape the method remembers between steps (moments), all starting at 0.
    """

    slots = 0

    def __init__(self, params, lr):
        self.params, self.lr = list(params), _number("lr", lr, 0, math.inf)
        if not self.params:
            raise ValueError(f"{type(self).__name__}: no parameters to train")
        if len({id(p) for p in self.params}) < len(self.params):
            raise ValueError(f"{type(self).__name__}: a parameter is listed twice and would be updated twice per step")
        self.steps = 0
        self.state = [[xp(p.data).zeros_like(p.data) for _ in range(self.slots)] for p in self.params]

    def step(self, grads):
        """Move every parameter by its gradient, given in the same order."""
        grads = list(grads)
        if [g.shape for g in grads] != [p.shape for p in self.params]:
            raise ValueError(f"{type(self).__name__}.step: expected one gradient per parameter, shapes "
                             f"{[p.shape for p in self.params]}, got {[g.shape for g in grads]}")
        self.steps += 1
        for p, g, state in zip(self.params, grads, self.state, strict=True):
            self.update(p.data, g, *state)
            p.touch()

    def state_dict(self):
        """{name: NumPy array}: the step count and all remembered arrays."""
        arrays = {f"{i}.{j}": np.array(to_host(s)) for i, state in enumerate(self.state) for j, s in enumerate(state)}
        return {"steps": np.array(self.steps), **arrays}

    def load_state_dict(self, state):
        """Continue where `state_dict` left off; ValueError if it belongs to other parameters."""
        mine = {f"{i}.{j}": s for i, arrays in enumerate(self.state) for j, s in enumerate(arrays)}
        if state.keys() - {"steps"} != mine.keys() or any(state[k].shape != s.shape for k, s in mine.items()):
            raise ValueError(f"{type(self).__name__}.load_state_dict: the state does not fit these parameters")
        self.steps = int(state["steps"])
        for k, s in mine.items():
            s[...] = to_device(np.asarray(state[k], dtype=s.dtype), device_of(s))


def _number(name, value, low, high):
    """The value as a float if low < value < high (low itself too, for coefficients), else a ValueError."""
    ok = isinstance(value, (int, float, np.number)) and (low < value < high or (name != "lr" and value == low))
    if not ok:
        raise ValueError(f"{name}: expected a number {'>' if name == 'lr' else '>='} {low} and < {high}, got {value!r}")
    return float(value)


class SGD(Optimizer):
    """v ← momentum · v + g,   θ ← θ − η v      (without momentum: θ ← θ − η g)"""

    def __init__(self, params, lr, momentum=0.0):
        self.momentum = _number("momentum", momentum, 0, 1)
        self.slots = 1 if momentum else 0
        super().__init__(params, lr)

    def update(self, theta, g, v=None):
        if v is not None:
            v *= self.momentum
            v += g
            g = v
        theta -= self.lr * g


class RMSProp(Optimizer):
    """s ← α s + (1 − α) g²,   θ ← θ − η g / (√s + ε)      (Hinton 2012, lecture 6e; ε as in PyTorch)"""

    slots = 1

    def __init__(self, params, lr, alpha=0.99, eps=1e-8):
        self.alpha, self.eps = _number("alpha", alpha, 0, 1), _number("eps", eps, 0, math.inf)
        super().__init__(params, lr)

    def update(self, theta, g, s):
        s *= self.alpha
        s += (1 - self.alpha) * g * g
        theta -= self.lr * g / (xp(s).sqrt(s) + self.eps)


class Adam(Optimizer):
    """m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²,   θ ← θ − η m̂ / (√v̂ + ε)

    with m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ) at step t = 1, 2, ... (Kingma & Ba 2015, algorithm 1). For GANs β₁ = 0.5
    is usual (Radford et al. 2016).
    """

    slots = 2

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.betas = tuple(_number("betas", b, 0, 1) for b in betas)
        self.eps = _number("eps", eps, 0, math.inf)
        super().__init__(params, lr)

    def update(self, theta, g, m, v):
        b1, b2 = self.betas
        m *= b1
        m += (1 - b1) * g
        v *= b2
        v += (1 - b2) * g * g
        step = self.lr / (1 - b1 ** self.steps)
        root = xp(v).sqrt(v)
        root /= math.sqrt(1 - b2 ** self.steps)
        root += self.eps
        theta -= step * m / root


class EMA:
    """An exponential moving average of a network's weights: w̄ ← decay · w̄ + (1 − decay) w, with a warm-up.

    The average of a generator over its last 1 / (1 − decay) steps draws cleaner samples than any single step (Yazıcı et al. 2019).
    During the first steps the decay is at most (1 + t) / (10 + t), so that the random start is forgotten. State that is
    not trained (BatchNorm's averages) is copied as it is. `module` holds the average.
    """

    def __init__(self, source, average, decay=0.999):
        self.source, self.module, self.decay, self.steps = source, average, _number("decay", decay, 0, 1), 0
        average.load_state_dict(source.state_dict())

    def step(self):
        """Take in the source's present weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for (_, a, name), (_, b, _) in zip(self.module._slots(), self.source._slots(), strict=True):
            mean, now = getattr(a, name), getattr(b, name)
            if hasattr(now, "data") and hasattr(now, "touch"):
                mean.data += (1 - decay) * (now.data - mean.data)
            else:
                mean[...] = now
