"""Where a run reports: a bar on a terminal, a line every few seconds elsewhere."""

import math
import os
import sys
import time

from tqdm import tqdm

EVERY = 5.0                 # seconds between two lines


class Progress:
    """The progress of a run from step `done` to `steps`, printed to `out` (default: standard
    output, which a program without a console does not have)."""

    def __init__(self, steps, done, out=None):
        self.out, self.printed = out or sys.stdout or open(os.devnull, "w"), -math.inf
        self.lost = None    # the error of output that fails: the reader of a pipe has gone, ...
        self.bar = tqdm(total=steps, initial=done, unit=" steps", file=self.out, dynamic_ncols=True,
                        disable=not getattr(self.out, "isatty", bool)())

    def step(self, row, seconds):
        """One step is done, after so many seconds of training in all; row: of the log, or None."""
        try:
            self.bar.update()
            if row:
                self._row(row, seconds, steps=self.bar.total)
        except (OSError, ValueError) as e:              # ValueError: the file was closed
            self.lost = e

    def _row(self, row, seconds, steps):
        losses, now = f"D {row['d_loss']:.3f}  G {row['g_loss']:.3f}", time.monotonic()
        self.bar.set_postfix_str(losses, refresh=False)
        if self.bar.disable and (now - self.printed > EVERY or row["step"] == steps):
            self.printed, rate = now, row["step"] / max(seconds, 1e-9)
            self.say(f"step {row['step']}/{steps}  {losses}  {rate:.1f} steps/s  "
                     f"{(steps - row['step']) / rate:.0f} s left")

    def say(self, text):
        """One line."""
        print(text, file=self.out, flush=True)
