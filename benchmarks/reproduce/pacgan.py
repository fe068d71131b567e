"""PacGAN's ring and grid: does a discriminator that sees several samples at once find more modes? 1 to 2 minutes per run.

    OPENBLAS_NUM_THREADS=1 python benchmarks/reproduce/pacgan.py

Lin, Khetan, Fanti & Oh 2018, "PacGAN: The power of two samples in generative adversarial networks", table 1; the
protocol is that of their repository, github.com/fjxmlzn/PacGAN, synthetic_data_experiments:

    data        ring: 8 Gaussians on a circle of radius 1, σ = 0.01; grid: 5 × 5 Gaussians, 2 apart, σ = 0.05.
                {points:,} points drawn once
    G           2 → 400 → 400 → 400 → 400 → 2, BatchNorm and ReLU, no bias but the last
    D           2m → 200 → 200 → 200 → 1, each of the three layers the largest of five linear ones (maxout)
    weights     N(0, 0.02²), biases 0 (BatchNorm's scales N(1, 0.02²), theirs 1)
    training    the non-saturating loss, Adam {lr:g}, betas (0.8, 0.999); both players move at once, from the same
                losses; D sees {batch} packs of m real and as many of m generated samples: m = 1 (gan), 2 and 4
    evaluation  2,500 samples. A sample is good if it lies within 3σ of a mode; a mode is found if *one* good sample
                is nearest to it; reverse KL: KL(p_model ‖ p_data) over the modes that samples are nearest to

Published are ten runs of 400 epochs, {full:,} steps. Ours have {steps:,}, so that a run takes one to two minutes of one
core: a figure here is that of a run which has hardly begun, and cannot be compared with theirs as such. What can be
compared is the effect of packing. One deviation: the m·{batch} samples go through G as one batch, so that BatchNorm
takes its mean over all of them; theirs go through in m batches of {batch}.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import difference, mean_sd, parser, read, run, table  # noqa: E402

import tinygan  # noqa: E402
from tinygan import data, nn, plot, views  # noqa: E402
from tinygan.metrics import ceiling, mode_coverage  # noqa: E402
from tinygan.train import GAN  # noqa: E402

POINTS, BATCH, SAMPLES, LR, STEPS, FULL = 100_000, 100, 2500, 1e-4, 3000, 400_000
__doc__ = __doc__.format(points=POINTS, batch=BATCH, lr=LR, steps=STEPS, full=FULL)
METHODS = {"gan": 1, "pacgan2": 2, "pacgan4": 4}
DATA = {"ring": lambda: data.ring(8, 1.0, 0.01), "grid": lambda: data.grid(5, 2.0, 0.05)}
PUBLISHED = {("ring", "gan"): ("6.3 ± .5", "98.2 ± .2", ".45 ± .09"),
             ("ring", "pacgan2"): ("7.9 ± .1", "95.6 ± 2.0", ".07 ± .03"),
             ("ring", "pacgan4"): ("7.8 ± .1", "95.9 ± 1.4", ".07 ± .02"),
             ("grid", "gan"): ("17.3 ± .8", "94.8 ± .7", ".70 ± .07"),
             ("grid", "pacgan2"): ("23.8 ± .7", "91.3 ± .8", ".13 ± .04"),
             ("grid", "pacgan4"): ("24.8 ± .2", "93.6 ± .6", ".04 ± .01")}
COLUMNS = (("found", 1, 1), ("hq", 1, 100), ("reverse_kl", 2, 1), ("modes", 1, 1), ("width", 2, 1))  # key, digits, factor


class Maxout(nn.Module):
    """The largest of `pieces` linear layers, output by output: (N, in) → (N, out). Goodfellow et al. 2013."""

    def __init__(self, inputs, outputs, pieces=5):
        self.linear, self.outputs, self.pieces = nn.Linear(inputs, outputs * pieces), outputs, pieces

    def forward(self, x):
        y = self.linear(x).reshape((-1, self.pieces, self.outputs))                         # (N, pieces, out)
        return y.max(axis=1)            # along rows of many outputs; pieces as the last axis took 1.4 to 1.7 times as long


def make(method, seed):
    """The GAN of a method."""
    tinygan.seed(seed)
    m = METHODS[method]
    widths = (2, 400, 400, 400, 400)
    hidden = [layer for a, b in zip(widths, widths[1:], strict=False)
              for layer in (nn.Linear(a, b, bias=False), nn.BatchNorm(b, momentum=0.05), nn.ReLU())]
    g = nn.normal_(nn.Sequential(*hidden, nn.Linear(400, 2)))
    d = nn.normal_(nn.Sequential(Maxout(2 * m, 200), Maxout(200, 200), Maxout(200, 200), nn.Linear(200, 1)))
    return GAN(g, d, 2, lr=LR, betas=(0.8, 0.999), simultaneous=True, view=views.Pack(m) if m > 1 else None)


def one(mixture, method, seed, steps, picture=None):
    """One run, as a row."""
    name, mixture, gan = mixture, DATA[mixture](), make(method, seed)
    rng = gan.random.rng("batch")
    points, size = mixture.sample(POINTS, gan.random.rng("data")), BATCH * METHODS[method]
    for _ in range(steps):
        gan.step(points[rng.integers(POINTS, size=size)])
    samples = gan.sample(gan.latents(SAMPLES, "evaluate"))
    if picture:
        plot.save_image(picture, plot.density(samples, mixture.sample(2000, rng),
                                              title=f"{method}, {name}, {steps:,} steps"))
    return figures(samples, mixture)


def figures(samples, mixture):
    """What is counted."""
    hit, c = mode_coverage(samples, mixture, least=0.0), mode_coverage(samples, mixture)
    return {"found": hit.modes, "modes": c.modes, "hq": c.high_quality, "reverse_kl": c.reverse_kl,
            "width": c.std_ratio}


def error(values, digits):
    """Mean ± standard error, as published."""
    mean, sd = mean_sd(values)
    return f"{mean:.{digits}f}" + ("" if np.isnan(sd) else f" ± {sd / len(values) ** 0.5:.{digits}f}")


def published(text):
    """(mean, standard error) of a published cell."""
    return tuple(map(float, text.split(" ± ")))


def references(name):
    """Rows of what needs no training: as many samples of the mixture itself, and points all over its square."""
    mixture, rng = DATA[name](), tinygan.Randomness(0).rng("reference")
    reach = 1.25 * np.abs(mixture.centers).max()
    return [{"mixture": name, "method": method, **figures(samples, mixture)} for method, samples in (
        ("perfect sampler", mixture.sample(SAMPLES, rng)), ("uniform noise", rng.uniform(-reach, reach, (SAMPLES, 2))))]


def of(rows, name, method):
    """The figures of the runs of a mixture and method in the units of the page: one array (runs,) per column."""
    mine = [row for row in rows if (row["mixture"], row["method"]) == (name, method)]
    return [np.array([factor * row[key] for row in mine], float) for key, _, factor in COLUMNS]


def compare(rows):
    """Own and published figures side by side."""
    lines = []
    for name in DATA:
        for method in METHODS:
            values = of(rows, name, method)
            if len(values[0]):
                cells = [error(v, digits) for v, (_, digits, _) in zip(values, COLUMNS, strict=True)]
                apart = [difference((*mean_sd(v), len(v)), (*published(text), 1))       # 1: an error, not a deviation
                         for v, text in zip(values, PUBLISHED[name, method], strict=False)]
                pairs = [text for pair in zip(cells, PUBLISHED[name, method], strict=False) for text in pair]
                steps = next(row["steps"] for row in rows)
                lines.append([name, method, steps, len(values[0]), *pairs,
                              ", ".join(f"{x:+.1f}" for x in apart).replace("nan", "–"), *cells[3:]])
        for row in references(name):
            cells = [error(v, digits) for v, (_, digits, _) in zip(of([row], name, row["method"]), COLUMNS, strict=True)]
            lines.append([name, row["method"], "", "", cells[0], "", cells[1], "", cells[2], "", "", *cells[3:]])
    return table(["data", "method", "steps", "runs", "modes found by one sample", "published",
                  f"on a mode, % (ceiling {100 * ceiling():.1f})", "published", "reverse KL", "published",
                  "differences in standard errors", "modes with 1 %", "width"], lines)


def effects(rows):
    """What packing changes against the plain GAN, here and as published, ± standard errors."""
    lines = []
    for name in DATA:
        for method in list(METHODS)[1:]:
            packed, plain, cells = of(rows, name, method), of(rows, name, "gan"), []
            if min(len(packed[0]), len(plain[0])) > 1:
                for (_, digits, _), p, q, new, old in zip(COLUMNS, packed, plain, PUBLISHED[name, method],
                                                          PUBLISHED[name, "gan"], strict=False):
                    own = p.mean() - q.mean(), np.hypot(p.std(ddof=1) / len(p) ** 0.5, q.std(ddof=1) / len(q) ** 0.5)
                    (a, s), (b, t) = published(new), published(old)
                    cells += [f"{own[0]:+.{digits}f} ± {own[1]:.{digits}f}",
                              f"{a - b:+.{digits}f} ± {np.hypot(s, t):.{digits}f}"]
                lines.append([name, method, *cells])
    return table(["data", "packing", *(text for head in ("modes found", "on a mode, %", "reverse KL")
                                       for text in (head, "published"))], lines)


def together(folder):
    """The pictures of the first seed in one file, at half their size, a row per mixture; once all of them are there."""
    paths = [[folder / f"pacgan_{name}_{method}.png" for method in METHODS] for name in DATA]
    if all(path.exists() for row in paths for path in row):
        parts = [[np.asarray(Image.open(path).reduce(2)) for path in row] for row in paths]    # (320, 320, 3) each
        plot.save_image(folder / "pacgan.png", np.concatenate([np.concatenate(row, axis=1) for row in parts]))
        for row in paths:
            for path in row:
                path.unlink()


def main():
    """Command line."""
    options = parser(__doc__, "pacgan", METHODS, seeds=3)
    options.add_argument("--mixtures", nargs="+", default=list(DATA), choices=list(DATA))
    options.add_argument("--steps", type=int, default=STEPS, help=f"published: {FULL}; default: {STEPS}")
    args = options.parse_args()
    if args.job:
        names = args.job["mixture"], args.job["method"]
        picture = args.out / f"pacgan_{'_'.join(names)}.png" if args.job["seed"] == 0 else None
        return print(json.dumps(one(**args.job, picture=picture)))
    jobs = [dict(mixture=x, method=m, seed=s, steps=args.steps)
            for x in args.mixtures for s in range(args.seeds) for m in args.methods]
    run(__file__, jobs, args.out / "pacgan.csv", args.again)
    together(args.out)
    rows = read(args.out / "pacgan.csv")                    # of earlier commands too
    rows = [row for row in rows if row["steps"] == args.steps]
    print(compare(rows), effects(rows), sep="\n\n")


if __name__ == "__main__":
    main()
