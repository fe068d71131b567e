"""Optimisers: how a parameter moves, given its gradient.

    optimiser.step(grad(loss, parameters))

There is no stored `.grad` and nothing to zero. θ is a parameter, g its gradient, η the learning rate `lr`. Updates happen in place
and mark the parameter as changed, so that a loss computed before the step refuses to be differentiated after it.
"""

import math

import numpy as np

from . import gpu
from .backend import device_of, to_device, to_host, xp

BLOCK = 1 << 16         # numbers updated at a time: parameter, gradient and moments of a block fit into the core's cache


class Optimizer:
    """Base: holds the parameters and checks what it is given. Subclasses define `update(θ, g, *state)`, elementwise and in place.

    The parameters are moved into one flat array, of which each `p.data` becomes a view, so that an update is a few long operations
    instead of many short ones. `slots` is how many numbers the method remembers per parameter between steps (moments),
    all starting at 0.
    """

    slots = 0

    def __init__(self, params, lr):
        self.params, self.lr = list(params), _number("lr", lr, 0, math.inf)
        if not self.params:
            raise ValueError(f"{type(self).__name__}: no parameters to train")
        if len({id(p) for p in self.params}) < len(self.params):
            raise ValueError(f"{type(self).__name__}: a parameter is listed twice and would be updated twice per step")
        self.steps = 0
        module = xp(self.params[0].data)
        self.flat = module.concatenate([p.data.reshape(-1) for p in self.params])
        self.state = [module.zeros_like(self.flat) for _ in range(self.slots)]
        self.views, self.runs, start = [], [], 0
        for i, p in enumerate(self.params):
            p.data = self.flat[start:start + p.size].reshape(p.shape)
            self.views.append(p.data)
            # Small neighbours share a run, so that they are updated in one go; a large parameter has one for itself.
            begin, _, first, _ = self.runs.pop() if self.runs else (0, 0, 0, 0)
            if start + p.size - begin > BLOCK and first < i:
                self.runs.append((begin, start, first, i))
                begin, first = start, i
            self.runs.append((begin, start + p.size, first, i + 1))         # (start, stop) in flat, (first, last) in params
            start += p.size

    def step(self, grads):
        """Move every parameter by its gradient, given in the same order."""
        grads = list(grads)
        if [g.shape for g in grads] != [p.shape for p in self.params]:
            raise ValueError(f"{type(self).__name__}.step: expected one gradient per parameter, shapes "
                             f"{[p.shape for p in self.params]}, got {[g.shape for g in grads]}")
        for p, view in zip(self.params, self.views, strict=True):
            if p.data is not view:
                raise ValueError(f"{type(self).__name__}.step: the data of {p.name or 'a parameter'} were replaced after the "
                                 "optimiser was made; move the module to its device, or load it, before making the optimiser")
        self.steps += 1
        if xp(self.flat) is not np:             # on the GPU one long update: there, every operation has its price, however short
            self.update(self.flat, gpu.join(grads, self.flat.dtype), *self.state)
        else:
            self._update_in_blocks(grads)
        for p in self.params:
            p.touch()

    def _update_in_blocks(self, grads):
        """On the CPU: `update`, run by run and in blocks that stay in the core's cache."""
        for start, stop, first, last in self.runs:
            g = [g.reshape(-1) for g in grads[first:last]]
            g = g[0] if len(g) == 1 else np.concatenate(g)
            for i in range(start, stop, BLOCK):
                block = slice(i, min(i + BLOCK, stop))
                self.update(self.flat[block], g[i - start:block.stop - start], *(s[block] for s in self.state))

    def state_dict(self):
        """{name: NumPy array}: the step count and what is remembered."""
        return {"steps": np.array(self.steps), "lr": np.array(self.lr), **{str(i): np.array(to_host(s)) for i, s in enumerate(self.state)}}

    def load_state_dict(self, state):
        """Continue where `state_dict` left off; ValueError if it belongs to other parameters."""
        mine = {str(i): s for i, s in enumerate(self.state)}
        if state.keys() != mine.keys() | {"steps", "lr"} or any(state[k].shape != s.shape for k, s in mine.items()):
            raise ValueError(f"{type(self).__name__}.load_state_dict: expected steps and {len(mine)} arrays of {self.flat.shape}, "
                             f"found {({k: v.shape for k, v in state.items()})}")
        self.steps, self.lr = int(state["steps"]), float(state["lr"])
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
        # Both corrections as factors: θ −= η √c₂ / c₁ · m / (√v + ε √c₂) with cᵢ = 1 − βᵢᵗ.
        root = math.sqrt(1 - b2 ** self.steps)
        rate = self.lr * root / (1 - b1 ** self.steps)
        if gpu.handles(theta):
            return gpu.adam(theta, g, m, v, self.betas, rate, self.eps * root)
        m *= b1
        m += (1 - b1) * g
        v *= b2
        square = g * g
        square *= 1 - b2
        v += square
        move = xp(v).sqrt(v, out=square)
        move += self.eps * root
        xp(m).divide(m, move, out=move)
        move *= rate
        theta -= move


class EMA:
    """An exponential moving average of a network's weights: w̄ ← decay · w̄ + (1 − decay) w, with a warm-up.

    The average of a generator over its last 1 / (1 − decay) steps draws cleaner samples than any single step (Yazıcı et al. 2019).
    During the first steps the decay is at most (1 + t) / (10 + t), so that the random start is forgotten. State that is
    not trained (BatchNorm's averages) is copied as it is. `module` holds the average.
    """

    def __init__(self, source, average, decay=0.999):
        self.source, self.module, self.decay, self.steps = source, average, _number("decay", decay, 0, 1), 0
        average.load_state_dict(source.state_dict())

    def state_dict(self):
        """{name: NumPy array}: the averaged module's state and the count of steps."""
        return {**self.module.state_dict(), "steps": np.array(self.steps)}

    def load_state_dict(self, state):
        """Continue where `state_dict` left off; ValueError if it belongs to another network."""
        if "steps" not in state:
            raise ValueError("EMA.load_state_dict: no count of steps")
        self.module.load_state_dict({k: v for k, v in state.items() if k != "steps"})
        self.steps = int(state["steps"])

    def step(self):
        """Take in the source's present weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for mean, now in zip(self.module.parameters(), self.source.parameters(), strict=True):
            mean.data += (1 - decay) * (now.data - mean.data)
        for mean, now in zip(self.module.buffers(), self.source.buffers(), strict=True):
            mean[...] = now
