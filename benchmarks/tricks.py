"""What each shortcut saves: the definition and the shortcut in turns, alone and within a training step.

    python benchmarks/tricks.py                                 every shortcut, every workload: some minutes
    python benchmarks/tricks.py --workloads mlp dcgan28 --only Adam conv2d --seconds 60

There is no list here. Every shortcut that is registered for NumPy arrays is timed, and so is keeping
freed memory. The rule that the table serves: what saves under 3 % of every workload is deleted.

Alone: the calls of the definition during one step of each workload are recorded with their
arguments, those made inside of other definitions too, and run again, once with the shortcut and
once without it. The milliseconds are the sums over the workloads, forwards and backwards.

Of the step: one process trains, and takes turns with all shortcuts and with one of them switched
off (`tinygan.plain`). A turn is one step that does not count and then steps for a tenth of a second;
the first of the turns moves on from round to round. Shown is the share of the step's time that the
shortcut saves. A dash says that the workload never calls the definition.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from peer_tinygan import make  # noqa: E402
from train_step import Peer, race  # noqa: E402
from workloads import WORKLOADS  # noqa: E402

from tinygan.autograd import unbroadcast  # noqa: E402
from tinygan.shortcuts import REGISTERED, plain  # noqa: E402

TURN, ROUNDS = 0.1, 3           # seconds of a turn, rounds at least
NOTHING, MEMORY = "nothing", "keep_freed_memory"
CHAIN = """
import time, statistics, numpy as np, tinygan
x, times = np.ones((64, 14, 14, 64), np.float32), []
for _ in range(30):
    start, kept = time.perf_counter(), [x]
    for _ in range(6): kept.append(kept[-1] * 1.01)         # forward: everything is kept
    g = x
    for y in reversed(kept): g = g * y                      # backward
    del kept, y
    times.append(time.perf_counter() - start)
print(1e3 * statistics.median(times))
"""


def shortcuts(only=()):
    """{name of the definition: (definition, shortcut)} of all that is registered for NumPy arrays."""
    return {d.name: (d, s) for d, module, s in REGISTERED
            if module == "numpy" and (not only or d.name in only)}


# ------------------------------------------------------------------------------------------ alone


def record(step, definition, shortcut):
    """[(part, args, kwargs)] of all calls in one step of those parts that the shortcut has."""
    calls = []

    def noted(part):
        def call(*args, **kwargs):
            calls.append((part, args, kwargs))
            return getattr(shortcut, part)(*args, **kwargs)
        return call
    parts = [part for part in ("forward", "vjp", "step", "both") if hasattr(shortcut, part)]
    definition.shortcuts["numpy"] = SimpleNamespace(**{part: noted(part) for part in parts})
    try:
        step()
    finally:
        definition.shortcuts["numpy"] = shortcut
    return calls


def run(definition, shortcut, part, args, kwargs):
    """One recorded call: by the shortcut, or where that is None or declines, by the definition."""
    if part == "forward":
        definition.compute(args, kwargs)
    elif part == "step":
        (shortcut.step if shortcut else type(args[0]).update_each)(*args)
    elif part == "both":
        if not shortcut or shortcut.both(*args) is None:
            d, *batches = args
            [d(x) for x in batches]
    elif not shortcut or shortcut.vjp(*args, **kwargs) is None:
        g, y, _, wanted, *raw = args
        for i in (i for i, wants in enumerate(wanted) if wants):
            share = definition.rule(i)(g, y, *raw, **kwargs)
            if share.shape != raw[i].shape:
                unbroadcast(share, shape=raw[i].shape)      # as the engine does after the rule


def alone(calls, definition, shortcut, seconds):
    """Median seconds of all calls (without, with) the shortcut, in turns."""
    times, start = {None: [], shortcut: []}, time.perf_counter()
    while len(times[shortcut]) < ROUNDS or time.perf_counter() - start < seconds:
        for way, found in times.items():
            with plain(NOTHING if way else definition.name):
                begin = time.perf_counter()
                for call in calls:
                    run(definition, way, *call)
                found.append(time.perf_counter() - begin)
    return [statistics.median(t) for t in times.values()]


# ---------------------------------------------------------------------------------- of the step


def turn(step):
    """Median seconds of the steps of one turn."""
    step()
    times = []
    while sum(times) < TURN:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def saved(step, names, seconds):
    """{name: share of the step's time that this shortcut saves}."""
    times, start, rounds = {name: [] for name in (NOTHING, *names)}, time.perf_counter(), 0
    while rounds < ROUNDS or time.perf_counter() - start < seconds:
        order = list(times)
        for name in order[rounds % len(order):] + order[:rounds % len(order)]:
            with plain(name):
                times[name].append(turn(step))
        rounds += 1
    medians = {name: statistics.median(t) for name, t in times.items()}
    return {name: 1 - medians[NOTHING] / medians[name] for name in names}


def measure(name, entries, seconds):
    """({definition: (seconds without, with the shortcut)}, {definition: share of the step saved})."""
    step = make(WORKLOADS[name])
    step()
    called = [k for k, entry in entries.items() if record(step, *entry)]
    shares = saved(step, called, seconds)
    times = {}
    for k in called:
        times[k] = alone(record(step, *entries[k]), *entries[k], seconds / 10)
    return times, shares


# ------------------------------------------------------------------------------- keeping memory


def memory_alone():
    """Milliseconds of a chain of 13 products of (64, 14, 14, 64) (without, with) kept memory."""
    return [float(subprocess.run([sys.executable, "-c", CHAIN], capture_output=True, text=True, check=True,
                                 cwd=HERE.parent, env={**os.environ, "TINYGAN_KEEP_MEMORY": keep}).stdout)
            for keep in "01"]


def memory_saved(name, threads, seconds):
    """The share of the step's time that is saved by keeping freed memory; in processes of their own."""
    group = [Peer("tinygan", name, threads=threads, env={"TINYGAN_KEEP_MEMORY": keep}) for keep in "01"]
    race(group, seconds, turns=None if seconds > 1 else ROUNDS)
    without, kept = (statistics.median(p.times) for p in group)
    return 1 - kept / without


# ------------------------------------------------------------------------------------- the table


def table(labels, times, shares, names):
    """Markdown: one line per shortcut."""
    lines = ["| shortcut | alone: plain, ms | fast, ms | times faster | "
             + " | ".join(f"saved of {n}" for n in names) + " |", "|---|" + "---|" * (3 + len(names))]
    for key, label in labels.items():
        if key in times:
            without, fast = times[key]
            cells = [f"{without:.2f}", f"{fast:.2f}", f"{without / fast:.1f}"]
        else:
            cells = ["–"] * 3
        cells += [f"{shares[n][key]:.1%}".replace("%", " %") if key in shares[n] else "–" for n in names]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*shortcuts(), MEMORY]
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS), metavar="NAME",
                        help=f"default: {', '.join(WORKLOADS)}")
    parser.add_argument("--only", nargs="+", default=known, choices=known, metavar="NAME",
                        help=f"of the definition: {', '.join(known)}")
    parser.add_argument("--seconds", type=float, default=30, help="per workload, for the steps (default: 30)")
    args = parser.parse_args()
    threads = int(os.environ.get("OPENBLAS_NUM_THREADS") or len(os.sched_getaffinity(0)))
    entries = {k: v for k, v in shortcuts().items() if k in args.only}
    labels = {k: f"{k}: {s.__name__}" for k, (_, s) in entries.items()}
    times, shares = {}, {}
    if MEMORY in args.only:
        labels = {MEMORY: "keeping freed memory (alone: a chain of products)", **labels}
        times[MEMORY] = memory_alone()
    for name in args.workloads:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found, shares[name] = measure(name, entries, args.seconds)
        for key, pair in found.items():
            times[key] = [a + 1e3 * b for a, b in zip(times.get(key, (0, 0)), pair, strict=True)]
        if MEMORY in args.only:
            shares[name][MEMORY] = memory_saved(name, threads, args.seconds / 3)
    print(table(labels, times, shares, args.workloads))
    called = [k for k in labels if any(k in s for s in shares.values())]
    low = [k for k in called if all(s.get(k, 0) < 0.03 for s in shares.values())]
    print(f"\nUnder 3 % of every workload here: {', '.join(low) or 'none'}. "
          f"Never called here: {', '.join(k for k in labels if k not in called) or 'none'}.")


if __name__ == "__main__":
    main()
