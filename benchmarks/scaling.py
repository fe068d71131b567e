"""How the cost of a training step grows, and how much of it is matrix products.

    python benchmarks/scaling.py            about two minutes; writes benchmarks/results/scaling.png and .md

Three sweeps of DCGAN on synthetic images: batch size, width, image size. Each point is the median of some steps. Beside it stands
the roofline: the step's floating-point operations in products, counted layer by layer, divided by the rate that this
machine reaches on one large product. Their quotient is the share of the step that no Python could save.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from peer_tinygan import make
from workloads import Workload

from tinygan import models, nn
from tinygan.autograd import no_grad

SWEEPS = {
    "batch size": [dict(batch=b) for b in (8, 16, 32, 64, 128)],
    "width": [dict(width=w) for w in (8, 16, 32, 64, 96)],
    "image size": [dict(size=s) for s in (14, 28, 56)],
}


def layer_flops(module, shape):
    """[(layer, floating-point operations of one forward product)] for a batch of this shape.

    Every weight meets every output position once (in a transposed convolution: every input position), 2 operations each.
    """
    found, last = [], [shape]

    def watch(m, out):
        if not m.children():
            if hasattr(m, "weight") and m.weight.ndim > 1:
                image = last[0] if isinstance(m, nn.ConvTranspose2d) else out.shape
                positions = image[0] * (image[1] * image[2] if m.weight.ndim == 4 else 1)
                found.append(2 * m.weight.size * positions)
            last[0] = out.shape
    with nn.watching(watch), no_grad():
        module(np.zeros(shape, np.float32))
    return found


def step_flops(g, d, batch, latent, shape):
    """Products of one training step: forward, weight gradient and input gradient where they are needed."""
    fg, fd = layer_flops(g, (batch, latent)), layer_flops(d, (batch, *shape))
    generator = 3 * sum(fg) - fg[0]                     # forward, weights, inputs (but not the latents')
    on_real_and_fake = 2 * (3 * sum(fd) - fd[0])        # the same for D, twice
    through = 2 * sum(fd)                               # forward and inputs: the way from the loss to G
    return generator + on_real_and_fake + through


def gemm_rate():
    """Floating-point operations per second of one large float32 product: the best of several."""
    a = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    best = 0.0
    for _ in range(8):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * 2048 ** 3 / (time.perf_counter() - start))
    return best


def measure(batch=64, width=32, size=28, seconds=4.0):
    """(median seconds per step, floating-point operations per step) of DCGAN at this size."""
    w = Workload("scaling", (size, size, 1), batch, 100, "conv", (width,), (width,))
    step = make(w)
    flops = step_flops(models.conv_generator(100, size, 1, width), models.conv_discriminator(size, 1, width), batch, 100, w.shape)
    step()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times), flops


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="per point (default: 6)")
    args = parser.parse_args()
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    lines = ["| sweep | value | ms per step | ms in products at full rate | share |", "|---|---|---|---|---|"]
    for axes, (name, points) in zip(figure.subplots(1, 3), SWEEPS.items(), strict=True):
        xs, ys, floors = [], [], []
        for point in points:
            rate = gemm_rate()                          # measured beside each point: a busy machine slows both
            seconds, flops = measure(**point, seconds=args.seconds)
            (value,) = point.values()
            xs.append(value), ys.append(1e3 * seconds), floors.append(1e3 * flops / rate)
            lines.append(f"| {name} | {value} | {ys[-1]:.1f} | {floors[-1]:.1f} | {floors[-1] / ys[-1]:.0%} |")
            print(lines[-1], flush=True)
        axes.plot(xs, ys, "o-", color="#0072b2", label="training step")
        axes.plot(xs, floors, "s--", color="#d55e00", label="its products at full rate")
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel="ms")
        axes.set_xticks(xs, [str(x) for x in xs], minor=False)
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "scaling.png", dpi=130)
    (folder / "scaling.md").write_text("`python benchmarks/scaling.py`, DCGAN (batch 64, width 32, 28×28 where not swept)\n\n"
                                       + "\n".join(lines) + "\n")
    print(f"saved {folder}/scaling.png and .md")


if __name__ == "__main__":
    main()
