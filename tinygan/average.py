"""The average of a generator's weights, which draws cleaner samples than those of any one step."""

import numpy as np

from .checks import number, whole
from .norms import BatchNorm
from .tape import Tensor


class EMA:
    """An exponential moving average of weights: w̄ ← decay · w̄ + (1 − decay) w, with a warm-up.

    The average reaches back over about 1 / (1 − decay) steps (Yazıcı et al. 2019). During the first
    steps the decay is at most (1 + t) / (10 + t), so that the random start is forgotten.
    BatchNorm's means and variances are averaged likewise, because the source's belong to its
    present weights. Other state that is not trained is copied. `module` holds the average.
    """

    def __init__(self, source, average, decay=0.999):
        self.source, self.module, self.steps = source, average, 0
        self.decay = number("decay", decay, 0, 1)
        shared = {id(p) for p in source.parameters()} & {id(p) for p in average.parameters()}
        if average is source or shared:
            raise ValueError("EMA: the average must be a network of its own, not the one that is "
                             "averaged; build a second one, or take copy.deepcopy(source)")
        average.load_state_dict(source.state_dict())

    def state_dict(self):
        """{name: NumPy array}: the averaged module's state and the count of steps."""
        return {**self.module.state_dict(), "steps": np.array(self.steps)}

    def load_state_dict(self, state):
        """Continue where `state_dict` left off; ValueError if it belongs to another network."""
        steps = whole("EMA: steps", state.get("steps"), 0)
        self.module.load_state_dict({k: v for k, v in state.items() if k != "steps"})
        self.steps = steps

    def step(self):
        """Take in the source's present weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        pairs = zip(self.module.entries(), self.source.entries(), strict=True)
        for (_, owner, name), (_, source, its) in pairs:
            mean, now = getattr(owner, name), getattr(source, its)
            if isinstance(mean, Tensor):
                mean.data += (1 - decay) * (now.data - mean.data)
            elif isinstance(owner, BatchNorm):
                setattr(owner, name, mean + (1 - decay) * (now - mean))
            else:
                setattr(owner, name, now.copy())
