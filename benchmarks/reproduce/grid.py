"""25 Gaussians with zero-centred penalties: all modes are found, but how much lies on them? Minutes per run.

    OPENBLAS_NUM_THREADS=1 python benchmarks/reproduce/grid.py --methods sharp --seeds 3

Published: the repository `smolix/d2l-neu`, chapter on the convergence of GANs. Protocol of the first three methods:

    data        a grid of 5 × 5 Gaussians, 2 apart, σ = 0.05; every batch is drawn anew, both moves share it
    G, D        64 → 256 → 256 → 2, ReLU, and 2 → 256 → 256 → 1, LeakyReLU 0.2
    training    Adam 2e-4, betas (0, 0.99), batch 256, one move of D and one of G per step, 20,000 steps
    losses      none: non-saturating; GAN + R1 + R2: with γ/2 E ‖∇D‖² at real and at generated samples, γ = 1;
                RpGAN + R1 + R2: the relativistic pairing loss with the same penalties (R3GAN, Huang et al. 2024)
    evaluation  10,000 samples; a mode is found if *one* of them lies within 3σ of it

Published: without penalty never 25 of 25; with R1 + R2 25 of 25 on every seed; the share of samples on a mode is at
most about 0.10 for all three. The two figures that the table needs beside them are those of uniform noise over
[−5, 5]², which finds 25 of 25 by that count as well, and of a perfect sampler, 98.889 % of whose samples lie
on a mode.

The fourth method, "sharp", beats that share with the same networks and the same loss as the third:

    γ = {gamma:g}       a large γ flattens D, and a flat D cannot tell 3σ = 0.15 from 0.5
    Adam {lr:g}     falling to 0 over the last half of the training, or the two players never settle
    EMA             the average of G's weights is judged, decay {decay:g}
    steps           {steps:,}
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import parser, pm, read, run, table  # noqa: E402

import tinygan  # noqa: E402
from tinygan import data, losses, models, nn, plot  # noqa: E402
from tinygan.metrics import ceiling, mode_coverage  # noqa: E402
from tinygan.train import GAN  # noqa: E402

SHARP = dict(gamma=0.1, lr=1e-3, decay=0.99, steps=4500)
__doc__ = __doc__.format(**SHARP)
METHODS = {"none": dict(loss="non-saturating", gamma=0),
           "r1r2": dict(loss="non-saturating", gamma=1.0),
           "r3gan": dict(loss="relativistic", gamma=1.0),
           "sharp": dict(SHARP, loss="relativistic")}
PUBLISHED = {"none": ("under 25", "≲ 10"), "r1r2": ("25 on every seed", "≲ 10"), "r3gan": ("25 on every seed", "≲ 10")}
LATENT, BATCH, SAMPLES, STEPS = 64, 256, 10_000, 20_000


def generator(latent=LATENT):
    """64 → 256 → 256 → 2 with ReLU."""
    return nn.Sequential(nn.Linear(latent, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))


def make(seed, loss, gamma, lr=2e-4, decay=None, steps=STEPS):
    """The GAN of a method."""
    tinygan.seed(seed)
    g, d = generator(), models.mlp_discriminator((2,), (256, 256))
    average = {} if decay is None else dict(average=generator(), decay=decay,
                                            schedule=lambda t: min(1.0, 2.002 - 2 * t / steps))
    return GAN(g, d, LATENT, loss=loss, penalty=(losses.r1(gamma), losses.r2(gamma)) if gamma else None,
               lr=lr, betas=(0.0, 0.99), **average)


def figures(samples, mixture):
    """The modes found, by one sample and by 1 % of all, the share on a mode, TV and width."""
    c = mode_coverage(samples, mixture)
    return {"found": mode_coverage(samples, mixture, least=0.0).modes, "modes": c.modes, "share": c.high_quality,
            "tv": c.tv, "width": c.std_ratio}


def one(method, seed, steps, picture=None):
    """One run, as a row."""
    mixture, gan = data.grid(5, 2.0, 0.05), make(seed, **{**METHODS[method], "steps": steps})
    rng = gan.random.rng("batch")
    for _ in range(steps):
        gan.step(mixture.sample(BATCH, rng))
    samples = gan.sample(gan.latents(SAMPLES, "evaluate"))
    if picture:
        plot.save_image(picture, plot.density(samples, mixture.sample(2000, rng), field=gan.logits, extent=5,
                                              title=f"{method}, {steps:,} steps"))
    return figures(samples, mixture)


def references():
    """The figures of uniform noise and of a perfect sampler, as rows."""
    mixture, rng = data.grid(5, 2.0, 0.05), tinygan.Randomness(0).rng("reference")
    return [("uniform noise", figures(rng.uniform(-5, 5, (SAMPLES, 2)), mixture)),
            ("perfect sampler", figures(mixture.sample(SAMPLES, rng), mixture))]


def compare(rows):
    """Own and published figures side by side."""
    lines = []
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        if not mine:
            continue
        cells = [pm((factor * row[key] for row in mine), digits) for key, digits, factor in (
            ("found", 1, 1), ("modes", 1, 1), ("share", 1, 100), ("tv", 3, 1), ("width", 2, 1))]
        known = PUBLISHED.get(method, ("–", "–"))
        lines.append([method, mine[0]["steps"], len(mine), cells[0], known[0], cells[1], cells[2], known[1], *cells[3:]])
    for name, f in references():
        lines.append([name, "", "", f["found"], "", f["modes"], f"{100 * f['share']:.1f}", "", f"{f['tv']:.3f}",
                      f"{f['width']:.2f}"])
    return table(["method", "steps", "runs", "found by one sample", "published", "modes with 1 %",
                  f"on a mode, % (ceiling {100 * ceiling():.1f})", "published", "TV", "width"], lines)


def main():
    """Command line."""
    options = parser(__doc__, "grid", METHODS, seeds=3)
    options.add_argument("--steps", type=int, help="default: as published, or as the method says")
    args = options.parse_args()
    if args.job:
        picture = args.out / f"grid_{args.job['method']}.png" if args.job["seed"] == 0 else None
        return print(json.dumps(one(**args.job, picture=picture)))
    jobs = [dict(method=m, seed=s, steps=args.steps or METHODS[m].get("steps", STEPS))
            for s in range(args.seeds) for m in args.methods]
    run(__file__, jobs, args.out / "grid.csv", args.again)
    print(compare(read(args.out / "grid.csv")))             # what earlier commands have made, too


if __name__ == "__main__":
    main()
