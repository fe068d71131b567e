"""Where a run reports: a bar on a terminal, a line every few seconds elsewhere, and nothing that
can stop the training."""

import math
import os
import sys
import time

from tqdm import tqdm

EVERY = 5.0                 # seconds between two lines


class Progress:
    """The progress of a run from step `done` to `steps`, printed to `out` (default: standard
    output).

    Output that fails (a pipe whose reader has gone, a closed terminal, a full disk) is kept in
    `lost`, and nothing more is printed.
    """

    def __init__(self, steps, done, out=None):
        self.steps, self.lost, self.printed = steps, None, -math.inf
        # A program without a console has no standard output.
        self.out = out or sys.stdout or open(os.devnull, "w")
        self.bar = None
        if getattr(self.out, "isatty", lambda: False)():
            self.bar = self._try(tqdm, total=steps, initial=done, unit=" steps", file=self.out,
                                 dynamic_ncols=True)

    def _try(self, action, *args, **options):
        if self.lost is None:
            try:
                return action(*args, **options)
            except (OSError, ValueError) as e:          # ValueError: the file was closed
                self.lost = e

    def step(self):
        """One step is done."""
        if self.bar is not None:
            self._try(self.bar.update)

    def row(self, row, seconds):
        """A row of the log, after so many seconds of training in all."""
        losses, now = f"D {row['d_loss']:.3f}  G {row['g_loss']:.3f}", time.monotonic()
        if self.bar is not None:
            self._try(self.bar.set_postfix_str, losses, refresh=False)
        elif now - self.printed > EVERY or row["step"] == self.steps:
            self.printed, rate = now, row["step"] / max(seconds, 1e-9)
            self.say(f"step {row['step']}/{self.steps}  {losses}  {rate:.1f} steps/s  "
                     f"{(self.steps - row['step']) / rate:.0f} s left")

    def say(self, text):
        """One line."""
        self._try(print, text, file=self.out, flush=True)

    def close(self):
        """Leave the bar as it stands."""
        if self.bar is not None:
            self._try(self.bar.close)
