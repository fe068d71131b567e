"""Everything there is to do on a machine with a GPU, as one command:

    pip install -e ".[gpu,test,bench]" && python benchmarks/gpu.py

1. The suite's GPU part: every test that runs on a device, on this one. Nothing is timed before it passes.
2. All workloads of workloads.py against PyTorch eager and PyTorch with the step captured as a CUDA graph, twice: with TF32 off on
   both sides, and with TF32 on. Libraries take turns, a step each, and every step is waited for.
3. One report, benchmarks/results/gpu.md, with the machine's name and all versions.

Where there is no GPU it says so in one line.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
import train_step  # noqa: E402
from workloads import WORKLOADS  # noqa: E402

from tinygan import backend  # noqa: E402


def torch_version():
    """PyTorch's version and its CUDA's, or why it cannot take part."""
    try:
        import torch
    except ImportError:
        return None, "PyTorch is not installed"
    if not torch.cuda.is_available():
        return None, f"PyTorch {torch.__version__} does not find the GPU"
    return torch.__version__, f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}"


def driver():
    """The driver's version, as nvidia-smi tells it."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return "driver " + subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "driver unknown"


def correct():
    """Run the tests that have a device on the GPU: (did they pass, the last line that pytest prints)."""
    command = [sys.executable, "-m", "pytest", "-q", "-k", "gpu", str(HERE.parent / "tests")]
    done = subprocess.run(command, cwd=HERE.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        print("\n".join(lines[-60:]))
    summary = [line for line in lines if re.search(r"\d+ (passed|failed)", line)] or lines[-1:] or ["no output"]
    return done.returncode == 0, summary[-1].strip("= ")


def timed(names, peers, threads, seconds, tf32):
    """The table of all workloads, with TF32 as said in every library."""
    os.environ["CUPY_TF32"] = os.environ["BENCH_TF32"] = str(int(tf32))
    results = {}
    for name in names:
        results[name] = train_step.measure(name, peers, "gpu", threads, seconds)
        print("\n".join(train_step.table({name: results[name]}).splitlines()[2:]), flush=True)
    return train_step.table(results)


def main():
    """Command line. Returns 0, 1 if a test fails, 2 if there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", choices=[[], *WORKLOADS], help=f"default: all of {', '.join(WORKLOADS)}")
    parser.add_argument("--seconds", type=float, default=20, help="per workload and setting (default: 20)")
    parser.add_argument("--untested", action="store_true", help="skip the tests; the report says so")
    args = parser.parse_args()
    try:
        backend.pick_device("gpu")
    except backend.DeviceError as e:
        print(f"benchmarks/gpu.py needs a GPU: {e}", file=sys.stderr)
        return 2
    found, torch = torch_version()
    machine = (f"{backend.gpu_name()}, {driver()}; {platform.platform()}; Python {platform.python_version()}, "
               f"NumPy {np.__version__}; {torch}")
    print(machine, flush=True)
    passed, summary = (True, "tests not run (--untested)") if args.untested else correct()
    print(summary, flush=True)
    if not passed:
        return 1
    peers = ["torch", "torch_graph"] if found else []
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    command = " ".join(["python benchmarks/gpu.py", *sys.argv[1:]])
    report = ["# tinygan on a GPU", "", machine, "", f"`{command}`", "", f"Correctness: {summary}", ""]
    for tf32 in (False, True):
        title = f"## TF32 {'on' if tf32 else 'off'} in all libraries"
        print(title, flush=True)
        report += [title, "", timed(args.workloads or WORKLOADS, peers, threads, args.seconds, tf32), ""]
    path = HERE / "results" / "gpu.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(report), encoding="utf-8")
    print(f"saved {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
