"""How long is a training step, here and elsewhere? One command, one table.

    python benchmarks/train_step.py                       every workload against PyTorch (pip install -e ".[bench]")
    python benchmarks/train_step.py ring mlp --turns 20   some workloads
    python benchmarks/train_step.py --peers torch jax     other libraries, where they are installed: torch, torch_default (Adam
                                                          not fused), torch_joined (one pass of D), autograd, jax
    python benchmarks/train_step.py --guard               before and after a change: under two minutes, tinygan against PyTorch
    python benchmarks/train_step.py --against PATH        this checkout against another one (git worktree add PATH REF)

Each library runs in a process of its own, and the processes take turns, so that all meet the same noise. A turn is a pause, one
step that does not count, and steps for a sixth of a second; the pause is there because the threads of OpenBLAS and of OpenMP wait
actively for a while after their work, and would otherwise take a core from the next library. Printed per library are the median of
its turns' median steps, the ratio of the medians (tinygan / peer: below 1, tinygan is faster), the 10th to 90th percentile of
that ratio turn by turn, and the peak memory of its process. The table and a plot are saved under benchmarks/results/.
"""

import argparse
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))

from workloads import WORKLOADS  # noqa: E402

TURN, PAUSE = 1 / 6, 0.1        # seconds


def worker(peer, name, device, layout, root):
    """The child process: make the step, then take a turn per line of input; answer with its median step and the peak memory.

    root: the checkout whose tinygan is meant. Its own benchmarks/peer_tinygan.py knows how to call it; the workloads are ours.
    """
    options = {"layout": layout} if layout else {}
    sys.path[:0] = [str(Path(root) / "benchmarks"), root]
    try:
        module = importlib.import_module(f"peer_{peer}")
        step = module.make(WORKLOADS[name], device, **options)
    except (ImportError, NotImplementedError) as e:
        return print(f"skipped: {e}", flush=True)
    if peer == "tinygan" and Path(sys.modules["tinygan"].__file__).resolve().parents[1] != Path(root).resolve():
        raise RuntimeError(f"the tinygan of {root} is meant, but {sys.modules['tinygan'].__file__} was imported")
    finish = getattr(module, "finish", lambda: None)
    memory = getattr(module, "memory", lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print("ready", flush=True)
    for _ in sys.stdin:
        step()
        finish()
        times = []
        while sum(times) < TURN:
            start = time.perf_counter()
            step()
            finish()
            times.append(time.perf_counter() - start)
        print(statistics.median(times), memory(), flush=True)


class Peer:
    """A library at work in a process of its own. root: the checkout of tinygan; env: what is different in its environment."""

    def __init__(self, peer, name, device="cpu", threads=1, layout=None, label=None, root=HERE.parent, env=None):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads), BENCH_THREADS=str(threads),
                   **env or {})
        command = [sys.executable, __file__, "--worker", peer, name, device, layout or "", str(root)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        answer = self.process.stdout.readline().strip()
        if not answer.startswith(("ready", "skipped")):
            raise RuntimeError(f"{peer} could not start on {name}")
        self.skipped = answer.partition("skipped: ")[2]
        self.label, self.layout, self.times, self.memory = label or peer, layout, [], 0.0

    def turn(self):
        """Take a turn and wait for its end; returns the median seconds per step."""
        time.sleep(PAUSE)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if not answer:
            raise RuntimeError(f"{self.label} stopped; its error stands above")
        seconds, self.memory = map(float, answer)
        return seconds

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def race(group, seconds, turns=None):
    """Let the processes take turns, for at least eight turns each and so many seconds; their `times` hold the medians."""
    for p in group:
        p.turn()                                                # warm up: compile, fill caches
    start, done = time.perf_counter(), 0
    while done < (turns or 10_000) and (turns or done < 8 or time.perf_counter() - start < seconds):
        for p in group:
            p.times.append(p.turn())
        done += 1
    for p in group:
        p.close()


def measure(name, peers, device, threads, seconds, turns=None, against=None):
    """{library: {median, ratio, low, high, memory}} for one workload, all libraries interleaved. against: {label: checkout}."""
    w = WORKLOADS[name]
    group = []
    for p in ["tinygan", *peers]:
        layouts = ("contiguous", "channels_last") if p.startswith("torch") and w.net == "conv" else (None,)
        group += [Peer(p, name, device, threads, layout) for layout in layouts]
    group += [Peer("tinygan", name, device, threads, label=label, root=root) for label, root in (against or {}).items()]
    for p in group:
        if p.skipped:
            print(f"{name}: without {p.label} ({p.skipped})", file=sys.stderr)
    group = [p for p in group if not p.skipped]
    race(group, seconds, turns)
    best = {}
    for p in group:
        if p.label not in best or statistics.median(p.times) < statistics.median(best[p.label].times):
            best[p.label] = p
    mine, rows = best["tinygan"].times, {}
    for label, p in best.items():
        ratios = sorted(a / b for a, b in zip(mine, p.times, strict=True))
        rows[label] = {"ms": 1e3 * statistics.median(p.times), "memory": p.memory, "turns": len(mine), "layout": p.layout,
                       "ratio": statistics.median(mine) / statistics.median(p.times),
                       "low": ratios[len(ratios) // 10], "high": ratios[-1 - len(ratios) // 10]}
    return rows


def table(results):
    """The results as Markdown."""
    lines = ["| workload | library | ms per step | tinygan / it | 10–90 % | peak MiB |", "|---|---|---|---|---|---|"]
    for name, rows in results.items():
        for label, r in rows.items():
            ratio = "" if label == "tinygan" else f"{r['ratio']:.2f}"
            spread = "" if label == "tinygan" else f"{r['low']:.2f}–{r['high']:.2f}"
            shown = label + (f" ({r['layout']})" if r["layout"] else "")
            lines.append(f"| {name} | {shown} | {r['ms']:.2f} | {ratio} | {spread} | {r['memory']:.0f} |")
    return "\n".join(lines)


def plot(results, path):
    """One bar per workload and peer: tinygan's time over the peer's."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    peers = sorted({p for rows in results.values() for p in rows} - {"tinygan"}, key=lambda p: (p != "torch", p))
    for k, peer in enumerate(peers):
        names = [n for n in results if peer in results[n]]
        x = [list(results).index(n) + 0.8 * (k - (len(peers) - 1) / 2) / len(peers) for n in names]
        y = [results[n][peer]["ratio"] for n in names]
        low = [max(0, results[n][peer]["ratio"] - results[n][peer]["low"]) for n in names]
        high = [max(0, results[n][peer]["high"] - results[n][peer]["ratio"]) for n in names]
        axes.bar(x, y, 0.75 / len(peers), yerr=[low, high], label=f"tinygan / {peer}", capsize=2, ecolor="#555555")
    axes.axhline(1, color="black", linewidth=1)
    axes.set_xticks(range(len(results)), list(results))
    axes.set_ylabel("time per step, ratio (below 1: tinygan is faster)")
    axes.legend(frameon=False, ncols=len(peers), loc="lower center", bbox_to_anchor=(0.5, 1))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main():
    """Command line."""
    if len(sys.argv) > 1 and sys.argv[1] == "--worker":
        return worker(*sys.argv[2:7])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=[], help=f"default: all of {', '.join(WORKLOADS)}")
    parser.add_argument("--peers", nargs="*", help="default: torch; with --against, none")
    parser.add_argument("--against", metavar="PATH", help="another checkout of tinygan: a race of two versions, nothing saved")
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--seconds", type=float, default=30, help="per workload (default: 30)")
    parser.add_argument("--turns", type=int, help="a fixed number of turns per workload instead")
    parser.add_argument("--guard", action="store_true", help="short: 12 s per workload, nothing saved")
    parser.add_argument("--name", default="train_step", help="of the files under benchmarks/results/ (default: train_step)")
    args = parser.parse_args()
    unknown = set(args.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; choose from {', '.join(WORKLOADS)}")
    against, peers = {}, ["torch"] if args.peers is None else args.peers
    if args.against:
        root = Path(args.against).resolve()
        if not (root / "tinygan" / "__init__.py").exists() or not (root / "benchmarks" / "peer_tinygan.py").exists():
            parser.error(f"--against: {root} is no checkout of tinygan with benchmarks/peer_tinygan.py in it")
        against, peers = {f"tinygan at {args.against}": root}, args.peers or []
    results = {}
    for name in args.workloads or WORKLOADS:
        results[name] = measure(name, peers, args.device, args.threads, 12 if args.guard else args.seconds, args.turns, against)
        for line in table({name: results[name]}).splitlines()[2 if len(results) > 1 else 0:]:
            print(line, flush=True)
    if not args.guard and not args.against:
        folder = HERE / "results"
        folder.mkdir(exist_ok=True)
        machine = f"{platform.processor() or platform.machine()}, {args.threads} threads, Python {platform.python_version()}"
        command = " ".join([Path(__file__).name, *sys.argv[1:]])
        (folder / f"{args.name}.md").write_text(f"{machine}; `python benchmarks/{command}`\n\n{table(results)}\n")
        (folder / f"{args.name}.json").write_text(json.dumps(results, indent=1) + "\n")
        plot(results, folder / f"{args.name}.png")
        print(f"saved {folder / args.name}.md, .json and .png")


if __name__ == "__main__":
    main()
