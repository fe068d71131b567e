"""Layers that read a sequence step by step."""

from . import ops
from .autograd import data_of
from .backend import xp
from .checks import in_type_of, whole
from .module import Module, uniform


class GRU(Module):
    """A gated recurrent unit: reads a sequence step by step and keeps a state h (Cho et al. 2014).

        r = σ(x Wᵣ + bᵣ + h Uᵣ + cᵣ)            reset: how much of the old state the candidate sees
        z = σ(x W_z + b_z + h U_z + c_z)        update: how much of the old state stays
        n = tanh(x Wₙ + bₙ + r (h Uₙ + cₙ))     the candidate
        h ← (1 − z) n + z h

    x (N, T, input_size) and a first state (N, hidden_size), zeros unless given → the states after
    every step (N, T, hidden_size), and the last one (N, hidden_size). As in PyTorch r multiplies
    after the product with Uₙ (in the paper before it), and everything starts in ±1/√hidden_size.
    weight_x = (Wᵣ W_z Wₙ) is (input_size, 3 hidden_size), weight_h = (Uᵣ U_z Uₙ) likewise; bias_x
    and bias_h are the b and c. (PyTorch's weight_ih_l0 and weight_hh_l0 are their transposes.)
    """

    def __init__(self, input_size, hidden_size, bias=True):
        self.input_size = k = whole("GRU: input_size", input_size)
        self.hidden_size = h = whole("GRU: hidden_size", hidden_size)
        self.weight_x = uniform((k, 3 * h), h, "GRU.weight_x")
        self.weight_h = uniform((h, 3 * h), h, "GRU.weight_h")
        self.bias_x = uniform((3 * h,), h, "GRU.bias_x") if bias else None
        self.bias_h = uniform((3 * h,), h, "GRU.bias_h") if bias else None

    def forward(self, x, h=None):
        x = in_type_of(self, x, self.weight_x)
        k, size = self.input_size, self.hidden_size
        if x.ndim != 3 or x.shape[1] == 0 or x.shape[2] != k:
            raise ValueError(f"GRU: expected x of shape (N, T, {k}) with T >= 1, got {x.shape}")
        if h is None:
            h = xp(data_of(x)).zeros((x.shape[0], size), dtype=x.dtype)
        h = in_type_of(self, h, self.weight_h)
        if h.shape != (x.shape[0], size):
            raise ValueError(f"GRU: expected a state of shape {(x.shape[0], size)}, got {h.shape}")
        states = []
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
            states.append(h)
        return ops.stack(states, axis=1), h

    def step(self, x, h):
        """The next state, for one step of the sequence, x (N, input_size), and a state h."""
        size = self.hidden_size
        a, b = x @ self.weight_x, h @ self.weight_h             # (N, 3 hidden_size): for r, z and n
        if self.bias_x is not None:
            a, b = a + self.bias_x, b + self.bias_h
        gates = ops.sigmoid(a[:, :2 * size] + b[:, :2 * size])
        r, z = gates[:, :size], gates[:, size:]
        n = ops.tanh(a[:, 2 * size:] + r * b[:, 2 * size:])
        return n + z * (h - n)                                  # (1 − z) n + z h
