"""Shortcuts: other ways to the same numbers, registered from outside.

The book says *what* is computed, in the plainest way. Where a cleverer way is faster, it is
registered for one definition (mostly an op) and one array module, "numpy" or "cupy":

    @leaky_relu.shortcut("numpy")
    class Name:
        "What is done instead, and what it saves."
        def forward(x, *, slope): ...                   -> (y, saved), or None to decline
        def vjp(g, y, saved, wanted, x, slope): ...     -> a share per argument, or None to decline

Either function may be missing. `saved` is whatever `forward` wants `vjp` to have; it is None when
the definition computed y. `wanted[i]` says whether the share of argument i is needed. A shortcut
must not change any of the arrays that it is given. That of an optimiser has `step(optimiser,
grads)` instead, and moves the parameters in place; that of the discriminator's verdicts in train.py
has `both(d, real, fake)`.

All shortcuts live in the engine rooms, cpu.py with cpu_conv.py and gpu.py. tests/test_shortcuts.py
holds each of them to its definition. `plain()` switches them off, so that a debugger steps through
the definitions; so does the environment variable TINYGAN_PLAIN=1, for a whole program.
"""

import os
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from .backend import xp

REGISTERED = []         # (definition, array module's name, shortcut), in order of registration
ALL = "all"
_off = ContextVar("names of the shortcuts that are switched off",
                  default=ALL if os.environ.get("TINYGAN_PLAIN", "0") not in ("", "0") else None)


@contextmanager
def plain(*names):
    """Within this block the definitions compute: all of them, or those of the given names."""
    before = _off.get()
    _off.set(ALL if not names or before == ALL else (*(before or ()), *names))
    try:
        yield
    finally:
        _off.set(before)


class Definition:
    """Something that can have shortcuts; it has a `name`."""

    def __init__(self, name):
        self.name, self.shortcuts = name, {}

    def shortcut(self, module):
        """Decorator: register a class as the shortcut for arrays of "numpy" or "cupy"."""
        if module not in ("numpy", "cupy"):
            raise ValueError(f"{self.name}.shortcut: expected 'numpy' or 'cupy', got {module!r}")

        def register(shortcut):
            self.shortcuts[module] = shortcut
            REGISTERED.append((self, module, shortcut))
            return shortcut
        return register

    def faster(self, part, arrays):
        """The shortcut's function `part` (such as "forward") for these arrays, or None."""
        off = _off.get()
        if off and (off == ALL or self.name in off):
            return None
        room = "numpy" if type(arrays[0]) is np.ndarray or xp(*arrays) is np else "cupy"
        return getattr(self.shortcuts.get(room), part, None)
