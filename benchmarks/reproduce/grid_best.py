"""25 Gaussians again: what keeps the samples off the modes, and how most of them get there. A minute per run.

    OPENBLAS_NUM_THREADS=1 python benchmarks/reproduce/grid_best.py

grid.py has the protocol and the published figures: with R1 + R2 at most about 10 % of the samples lie within 3σ of a
mode. Data, batch size and evaluation are the same here, and so are the networks but for what a method says. Four
things can keep a sample off the modes, and each method takes away some of them:

    D is flat       a slope costs γ/2 ‖∇D‖², and to tell 2σ from 4σ takes one of about 1/σ = 20. With γ = 1 that
                    costs 200, when a right verdict is worth less than 1. In all methods here γ falls from {first:g} to
                    {last:g} in the first half of the steps (`ring_best.falling`)
    many latents    G must learn the borders between the latents of one mode and those of the next as surfaces in 64
                    dimensions. {noise} latents are enough for points in a plane
    G is continuous a connected cloud of latents stays connected: what lies between the latents of two modes must cross
                    the gap. "jumps" draws one of {codes} codes along with {noise} normal numbers (`aids.coded`), so that
                    G may jump. It is not told that there are 25 modes
    D is smooth     2 → 256 → 256 → 1 learns slow waves first, and a mode is 40 times as narrow as its distance from the
                    next. "waves" shows D also sin b·x and cos b·x for {waves} fixed b ~ N(0, {speed:g}²), in two dimensions
                    (Tancik et al. 2020, "Fourier features let networks learn high frequency functions")

    steep           only the first: the networks and the latents of the protocol, N(0, 1) in 64 dimensions
    few             the first two: {noise} latents
    jumps           the first three: {noise} latents and a code
    waves           few, with waves for D

For all of them: the relativistic loss, Adam {lr_d:g} for D and {lr_g:g} for G, betas (0, 0.99), both falling to 0 in the
second half, the average of G's weights with decay 0.99, a batch of its own for either player. The settings were chosen
on the seed 100, which is not in the table.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import grid  # noqa: E402
import ring  # noqa: E402
from common import command, pm, table  # noqa: E402
from ring_best import falling, resting  # noqa: E402

import tinygan  # noqa: E402
from tinygan import aids, data, models, nn, ops, plot  # noqa: E402
from tinygan.metrics import ceiling  # noqa: E402
from tinygan.train import GAN  # noqa: E402

FIRST, LAST, LR_D, LR_G, STEPS = 1.0, 0.003, 1e-3, 3e-3, 4000
NOISE, CODES, WAVES, SPEED = 4, 100, 64, 5.0
__doc__ = __doc__.format(first=FIRST, last=LAST, lr_d=LR_D, lr_g=LR_G, noise=NOISE, codes=CODES, waves=WAVES,
                         speed=SPEED)
METHODS = ("steep", "few", "jumps", "waves")


class Waves(nn.Module):
    """x and sin(x B), cos(x B), B fixed: (N, 2) → (N, 2 + 2 WAVES)."""

    def __init__(self):
        self.b = (SPEED * tinygan.rng("init").standard_normal((2, WAVES))).astype(np.float32)

    def forward(self, x):
        y = x @ self.b                                                      # (N, WAVES)
        return ops.concatenate(x, ops.sin(y), ops.cos(y), axis=1)


def make(method, seed, steps=STEPS):
    """The GAN of a method."""
    tinygan.seed(seed)
    inputs = {"steep": grid.LATENT, "few": NOISE, "waves": NOISE, "jumps": NOISE + CODES}[method]
    g, average = grid.generator(inputs), grid.generator(inputs)
    d = (nn.Sequential(Waves(), models.mlp_discriminator((2 + 2 * WAVES,), (256, 256))) if method == "waves"
         else models.mlp_discriminator((2,), (256, 256)))
    return GAN(g, d, aids.coded(NOISE, CODES) if method == "jumps" else inputs, loss="relativistic",
               terms_d=falling(FIRST, LAST, steps), lr=(LR_D, LR_G), betas=(0.0, 0.99), schedule=resting(steps),
               average=average, decay=0.99)


def one(method, seed, steps, picture=None):
    """One run, as a row."""
    mixture, gan = data.grid(5, 2.0, 0.05), make(method, seed, steps)
    ring.play(gan, mixture, steps, grid.BATCH)
    samples = gan.sample(gan.latents(grid.SAMPLES, "evaluate"))
    if picture:
        plot.save_image(picture, plot.density(samples, mixture.sample(2000, gan.random.rng("batch")), extent=5,
                                              title=f"{method}, {steps:,} steps"))
    return grid.figures(samples, mixture)


def compare(rows):
    """The figures of the methods, and of uniform noise and a perfect sampler."""
    def cells(some):
        return [pm((factor * row[key] for row in some), digits) for key, digits, factor in (
            ("found", 1, 1), ("modes", 1, 1), ("share", 1, 100), ("tv", 3, 1), ("width", 2, 1))]
    chosen = {method: [row for row in rows if row["method"] == method] for method in METHODS}
    lines = [[m, mine[0]["steps"], len(mine), *cells(mine)] for m, mine in chosen.items() if mine]
    lines += [[name, "", "", *cells([f])] for name, f in grid.references()]
    return table(["method", "steps", "runs", "found by one sample", "modes with 1 %",
                  f"on a mode, % (published ≲ 10, ceiling {100 * ceiling():.1f})", "TV", "width"], lines)


def main():
    """Command line."""
    command(__file__, __doc__, METHODS, 3, STEPS, one, compare, "grid_best")


if __name__ == "__main__":
    main()
