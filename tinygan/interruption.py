"""Ctrl-C (SIGINT), SIGTERM and the hang-up of a terminal (SIGHUP): what they do at each moment of
the command.

    while Python imports          say "interrupted" and leave: nothing has begun
    before and after training     raise `Stopped`, so that files and locks are tidied up
    while training                finish the step and save (`Interruption`)

After `nohup` a hang-up stays ignored. Handlers can only be set in a program's main thread; a run in
another thread goes on without.
"""

import os
import signal
import sys
import threading

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]            # Windows has no SIGHUP


class Stopped(KeyboardInterrupt):
    """A signal that ends the command; `status` is 128 + its number, as shells have it."""

    def __init__(self, number):
        super().__init__("interrupted")
        self.status = 128 + number


class Handlers:
    """Within this block `handler(number, frame)` answers the signals of SIGNALS."""

    def __init__(self, handler):
        self.handler, self.before = handler, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                ignored = before == signal.SIG_IGN and number != signal.SIGINT
                if before is not None and not ignored:      # None: something else has set it
                    self.before[number] = signal.signal(number, self.handler)
        return self

    def __exit__(self, *exception):
        for number, handler in self.before.items():
            signal.signal(number, handler)


class Interruption(Handlers):
    """Within this block the first signal is only noted, in `signal`. A second Ctrl-C stops the
    program at once; a closing terminal often sends several of the others."""

    def __init__(self):
        super().__init__(self.note)
        self.signal = None

    def note(self, number, frame):
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number


def stop(number, frame):
    """A handler that raises `Stopped`."""
    raise Stopped(number)


def leave(number, frame):
    """A handler that ends the process without any more Python: an import that is cut short fails in
    unpredictable ways."""
    os.write(2, b"tinygan: interrupted\n")
    os._exit(128 + number)


# While the command `tinygan` or `python -m tinygan` imports; `cli.main` then takes over.
_name = os.path.basename((getattr(sys, "argv", None) or [""])[0])
if _name.removesuffix(".exe") == "tinygan" or _name == "-m" and "tinygan" in sys.orig_argv:
    Handlers(leave).__enter__()
