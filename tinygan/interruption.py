"""Ctrl-C (SIGINT), SIGTERM and the hang-up of a terminal (SIGHUP).

While Python imports they end the command with one line (`leave`): nothing has begun. Before and
after the training they end it by an exception, so that files and locks are tidied up (`stop`).
While it trains, the step is finished and everything is saved (`noted`).

After `nohup` a hang-up stays ignored. Handlers can only be set in a program's main thread; a run in
another thread goes on without.
"""

import contextlib
import os
import signal
import sys
import threading
from types import SimpleNamespace

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]            # Windows has no SIGHUP


@contextlib.contextmanager
def handled(handler):
    """Within this block `handler(number, frame)` answers the signals of SIGNALS."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: old for number in SIGNALS if main
              and (old := signal.getsignal(number)) is not None}      # None: set by something else
    try:
        for number, old in before.items():
            if old != signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def noted():
    """Within this block the first signal is only noted, in `.signal` of what `with` gives. A second
    Ctrl-C stops the program at once; a closing terminal often sends several of the others."""
    found = SimpleNamespace(signal=None)

    def note(number, frame):
        if found.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        found.signal = found.signal or number
    with handled(note):
        yield found


def stop(number, frame):
    """A handler that raises KeyboardInterrupt(number)."""
    raise KeyboardInterrupt(number)


def leave(number, frame):
    """A handler that ends the process without any more Python: an import that is cut short fails in
    unpredictable ways."""
    os.write(2, b"tinygan: interrupted\n")
    os._exit(128 + number)


# While the command `tinygan` or `python -m tinygan` imports; `cli.main` then takes over.
_name = os.path.basename((getattr(sys, "argv", None) or [""])[0])
if _name.removesuffix(".exe") == "tinygan" or _name == "-m" and "tinygan" in sys.orig_argv:
    for _number in SIGNALS:
        if _number == signal.SIGINT or signal.getsignal(_number) == signal.SIG_DFL:
            signal.signal(_number, leave)
