"""The ring of eight narrow Gaussians that VEEGAN is compared on, and a "ring of eight" that has seven modes.

    OPENBLAS_NUM_THREADS=1 python benchmarks/reproduce/veegan.py

Published: Srivastava et al. 2017, "VEEGAN: Reducing mode collapse in GANs using implicit variational learning", table
1, modes found and share of good samples: GAN 1 and 99.3 %, ALI 2.8 and 0.13 %, Unrolled GAN 7.6 and 35.6 %, VEEGAN 8
and 52.9 %. Protocol here:

    data        8 Gaussians on a circle of radius 1, σ = 0.01; every batch is drawn anew
    G, D        {latent} → 128 → 128 → 2 and 2 → 128 → 128 → 1, ReLU
    training    Adam 1e-3, betas (0.5, 0.999), batch {batch}, one move of D and one of G per step, {steps:,} steps
    evaluation  2,500 samples. A sample is good if it lies within 3σ of a mode, and a mode is found if *one* good
                sample is nearest to it

Radius, σ and evaluation are those that Lin et al. 2018 (PacGAN) repeat for their table 1. The sizes, Adam's settings
and the batch are those of ports of the authors' notebook to newer software; the notebook itself we could not read. The
ports play up to 100,000 steps. Ours are fewer, so that a run takes a minute or two: compare the order of the methods,
and not the last digit.

    gan         the non-saturating loss
    packed      the same, D sees two samples at once (Lin et al. 2018)
    unrolled    minimax: G plays for −L_D, with both its terms, of the D that {unrolled} further moves of D's own Adam
                would make (Metz et al. 2017: f(θ_G, θ_D^K), eq. 7); both rates fall to 0 in the second half
    sharp       the relativistic loss with R1 + R2 (Huang et al. 2024), betas (0, 0.99), γ falling from {first:g} to
                {last:g} in the first half, both rates falling to 0 in the second, and G's average is judged

**A ring of eight with seven modes.** In the notebook that demonstrates unrolled GANs (github.com/poolio/unrolled_gan,
"Unrolled GAN demo.ipynb", `sample_mog`) the angles are linspace(0, 2π, 8), and so they are in code that came after it
(github.com/M-Elfeki/GDPP, gdppgan_Synthetic.py, `sample_ring` and `evaluate_samples`). linspace has both ends, and 2π
is 0: there are seven places, 360° / 7 apart, and one of them is drawn twice as often. --rings seven plays on that ring.
What is then reported as the number of modes depends on a rounding error. sin(2π) is −2.4e-16 in floating-point
numbers, so the double place has two centres which differ by that much. A sample there is nearest to the one or to the
other, depending on the side that it lies on, and both are found: seven places make "8 of 8" (column `as counted`).
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import parser, pm, read, run, table  # noqa: E402
from ring_best import falling, resting  # noqa: E402

import tinygan  # noqa: E402
from tinygan import aids, data, nn, plot, views  # noqa: E402
from tinygan.losses import LOSSES  # noqa: E402
from tinygan.metrics import ceiling, mode_coverage  # noqa: E402
from tinygan.train import GAN  # noqa: E402

LATENT, BATCH, SAMPLES, STEPS = 254, 500, 2500, 2500
UNROLLED = 5
FIRST, LAST = 0.1, 1e-3
__doc__ = __doc__.format(latent=LATENT, batch=BATCH, steps=STEPS, unrolled=UNROLLED, first=FIRST, last=LAST)
METHODS = ("gan", "packed", "unrolled", "sharp")
RINGS = ("eight", "seven")
MINIMAX = LOSSES["minimax"]
WHOLE = MINIMAX._replace(generator=lambda f, r: -MINIMAX.discriminator(r, f), paired=True)     # D(real) depends on G now
PUBLISHED = {"gan": ("1", "99.3"), "unrolled": ("7.6", "35.6")}


def ring(name):
    """The mixture: eight modes, or seven of which one counts twice."""
    if name == "eight":
        return data.ring(8, 1.0, 0.01)
    angles = np.linspace(0, 2 * np.pi, 8)
    return data.Mixture(np.stack([np.sin(angles), np.cos(angles)], axis=1), 0.01)


def places(mixture):
    """The mixture with each place once."""
    once = np.unique(mixture.centers.round(9) + 0.0, axis=0)        # + 0.0: −0 is 0
    return data.Mixture(once, mixture.std)


def figures(samples, mixture):
    """What is counted, with the places as they are and as the mixture lists them."""
    once = places(mixture)
    hit, c = mode_coverage(samples, once, least=0.0), mode_coverage(samples, once)
    nearest = np.hypot(*(samples[:, None].astype(np.float64) - once.centers).T).argmin(axis=0)      # (N,)
    top = np.abs(once.centers - mixture.centers[0]).sum(axis=1).argmin()        # the double place, if there is one
    return {"places": hit.modes, "modes": c.modes, "counted": mode_coverage(samples, mixture, least=0.0).modes,
            "hq": c.high_quality, "width": c.std_ratio, "first": float((nearest == top).mean())}


def net(*widths):
    """Linear layers of these widths with ReLU between them."""
    layers = [layer for a, b in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def make(method, seed, steps=STEPS):
    """The GAN of a method."""
    tinygan.seed(seed)
    pack = 2 if method == "packed" else 1
    g, d = net(LATENT, 128, 128, 2), net(2 * pack, 128, 128, 1)
    options = {"gan": dict(), "packed": dict(view=views.Pack(2)),
               "unrolled": dict(loss=WHOLE, judge=aids.unrolled(UNROLLED), schedule=resting(steps)),
               "sharp": dict(loss="relativistic", terms_d=falling(FIRST, LAST, steps), schedule=resting(steps),
                             average=net(LATENT, 128, 128, 2), decay=0.99)}[method]
    return GAN(g, d, LATENT, lr=1e-3, betas=(0.0, 0.99) if method == "sharp" else (0.5, 0.999), **options)


def one(ring_name, method, seed, steps, picture=None):
    """One run, as a row."""
    mixture, gan = ring(ring_name), make(method, seed, steps)
    rng = gan.random.rng("batch")
    for _ in range(steps):
        gan.step(mixture.sample(BATCH, rng))
    samples = gan.sample(gan.latents(SAMPLES, "evaluate"))
    if picture:
        plot.save_image(picture, plot.density(samples, mixture.sample(2000, rng), field=gan.logits, extent=1.4,
                                              title=f"{method}, ring of {ring_name}"))
    return figures(samples, mixture)


def references():
    """The figures of perfect samplers of both rings, as rows."""
    rng = tinygan.Randomness(0).rng("reference")
    return {name: figures(ring(name).sample(SAMPLES, rng), ring(name)) for name in RINGS}


def compare(rows):
    """Own and published figures side by side."""
    lines = []
    for name, perfect in references().items():
        for method in METHODS:
            mine = [row for row in rows if (row["ring"], row["method"]) == (name, method)]
            if mine:
                cells = [pm((factor * row[key] for row in mine), digits) for key, digits, factor in (
                    ("places", 1, 1), ("modes", 1, 1), ("counted", 1, 1), ("hq", 1, 100), ("width", 2, 1),
                    ("first", 1, 100))]
                cells[4] = cells[4].replace("nan", "–")             # a run without two samples on a mode
                modes, hq = PUBLISHED.get(method, ("–", "–"))
                lines.append([name, method, mine[0]["steps"], len(mine), *cells[:3], modes, cells[3], hq, *cells[4:]])
        lines.append([name, "perfect sampler", "", "", perfect["places"], perfect["modes"], perfect["counted"], "",
                      f"{100 * perfect['hq']:.1f}", "", f"{perfect['width']:.2f}", f"{100 * perfect['first']:.1f}"])
    return table(["ring of", "method", "steps", "runs", "places found by one sample", "with 1 %", "as counted",
                  "published", f"on a mode, % (ceiling {100 * ceiling():.1f})", "published", "width",
                  "nearest to the first place, %"], lines)


def main():
    """Command line."""
    options = parser(__doc__, "veegan", METHODS, seeds=3)
    options.add_argument("--rings", nargs="+", default=["eight"], choices=RINGS)
    options.add_argument("--steps", type=int, default=STEPS, help=f"default: {STEPS}")
    args = options.parse_args()
    if args.job:
        name, method = args.job["ring"], args.job["method"]
        picture = args.out / f"veegan_{name}_{method}.png" if args.job["seed"] == 0 and method == "sharp" else None
        return print(json.dumps(one(name, **{k: v for k, v in args.job.items() if k != "ring"}, picture=picture)))
    jobs = [dict(ring=r, method=m, seed=s, steps=args.steps)
            for r in args.rings for s in range(args.seeds) for m in args.methods]
    run(__file__, jobs, args.out / "veegan.csv", args.again)
    rows = read(args.out / "veegan.csv")                    # of earlier commands too
    print(compare([row for row in rows if row["steps"] == args.steps]))


if __name__ == "__main__":
    main()
