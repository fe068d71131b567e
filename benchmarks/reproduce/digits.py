"""Five objectives on handwritten digits, the same networks, widths and steps. A minute of one core per run.

    OPENBLAS_NUM_THREADS=1 python benchmarks/reproduce/digits.py

Which loss is best? Lucic et al. 2018 ("Are GANs created equal?") found that with the same networks and the same effort
no loss is better than the original one throughout. This is such a comparison at the size of one core. Shared by all
five, and the defaults of `tinygan train` but for the number of steps:

    data        the 10,000 digits that come with the package, batches of {batch} drawn with replacement
    G           64 → 256 → 256 → 7×7×32 → 14×14×16 → 28×28, with BatchNorm
    D           28×28 → 14×14×16 → 7×7×32 → 256 → 1
    training    {steps:,} steps, one move of D per step, D's Adam at a rate of {lr:g}
    judged      the average of G's weights (decay 0.998) by {samples:,} samples

Why these five: the three losses that take the same D, rates and betas (non-saturating, least-squares, hinge), and the
two best known ways to hold D's slope down, by a penalty between real and fake (wgan-gp) and at both (r3gan, which is
the relativistic loss with R1 and R2). What belongs to an objective, as its recipe has it:

    the three   BatchNorm in D, betas (0.5, 0.999), G's rate three times D's
    wgan-gp     no BatchNorm in D, since a penalty on its slope needs samples that do not mix; betas (0, 0.9); G moves
                on every second step only; G's rate is D's
    r3gan       no BatchNorm in D; betas (0, 0.99); two penalties, so a step takes about one and a half times as long;
                G's rate is D's

G's rate of these two was decided by one trial each, 1,000 steps with seed 100, which is in no table. With a threefold
rate wgan-gp had a Fréchet distance of 479 instead of 502 and a recall of 0.01 instead of 0.07, r3gan 526 instead of 343
and 0.03 instead of 0.17: no clear gain for the one, a loss for the other. For least-squares and hinge the threefold rate
was taken over from non-saturating untried, as `tinygan train` does. No other setting was tried here. But Adam's rate,
the widths and the dense layers were all chosen with the non-saturating loss and a D with BatchNorm.

Controls, which tell BatchNorm in D and the objective apart:

    no-norm         non-saturating without BatchNorm in D, and nothing else changed
    no-norm-slow    that at the rate of the published runs, {slow:g} for both players
    no-dense        that again without dense layers in either network, as the published ones have none

Figures, and what they are at best and at worst: three more rows are "real" (as many digits drawn from the training set:
what a perfect sampler has), "ten pictures" (one training image per digit, repeated: all readable, all alike) and
"untrained" (the generator before the first step).

    Fréchet                 distance of Gaussians fitted to the features of {pairs:,} samples and of {pairs:,} images of
                            MNIST's test set, in the classifier that comes with the package: it and G have seen none
                            of those
    precision and recall    shares of samples near a real one, and of real ones near a sample; density and coverage
                            likewise
    confident               share read with a probability of 0.9 or more
    spread                  a pixel's standard deviation within a digit, over what is read with confidence
    TV                      ½ Σ |share of digit k − its share in the training set|; rarest: the smallest of these shares

Published, as neighbours and not as the same protocol: the repository `paired-discriminator` (docs/MNIST.md and
results/mnist-v1/REPORT.md, five seeds). Its TV and its threshold are those above, with 10,000 samples as here. But both
networks are four times as wide and have no dense layer between image and code, D has three convolutions and no
BatchNorm, all 60,000 digits are learned from, batch 128, Adam 2e-4, 10,000 and 50,000 steps, the last G is judged and
not an average, and the judge is another classifier. Its method "paired" shows D a real and a fake image at once, in
random order, and asks which is real: of ours, r3gan is nearest to it, for its loss compares the two as well.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import difference, mean_sd, parser, pm, read, run, table  # noqa: E402

import tinygan  # noqa: E402
from tinygan import cpu, data, distances, models, plot, recipes  # noqa: E402
from tinygan import metrics as m  # noqa: E402
from tinygan.train import GAN, fit  # noqa: E402

STEPS, SAMPLES, PAIRS, SLOW = 2000, 10_000, 2000, 2e-4
CONFIG = dict(recipes.DEFAULTS["conv"], model="conv", device="cpu")
__doc__ = __doc__.format(batch=CONFIG["batch_size"], lr=CONFIG["lr"], slow=SLOW, steps=STEPS, samples=SAMPLES,
                         pairs=PAIRS)
METHODS = ("non-saturating", "least-squares", "hinge", "wgan-gp", "r3gan", "no-norm", "no-norm-slow", "no-dense")
REFERENCES = ("real", "ten pictures", "untrained")
FIGURES = {"frechet": ("Fréchet", 1, 1), "precision": ("precision", 2, 1), "recall": ("recall", 2, 1),
           "density": ("density", 2, 1), "coverage": ("coverage", 2, 1), "confident": ("confident, %", 1, 100),
           "spread": ("spread", 3, 1), "tv": ("TV", 3, 1), "smallest": ("rarest, %", 1, 100)}     # name, digits, factor
PUBLISHED = {("vanilla", 10_000): dict(confident=(0.76304, 0.00199), tv=(0.140, 0.019), digits=(10, 0)),
             ("vanilla", 50_000): dict(confident=(0.85026, 0.00905), tv=(0.341, 0.064), digits=(8.8, 0.447)),
             ("paired", 10_000): dict(confident=(0.77300, 0.00619), tv=(0.082, 0.011), digits=(10, 0)),
             ("paired", 50_000): dict(confident=(0.82458, 0.00511), tv=(0.126, 0.008), digits=(10, 0))}
NEIGHBOURS = (("non-saturating", "vanilla"), ("r3gan", "paired"))


def make(method, seed):
    """The GAN of a method: the recipe of its name, as `tinygan train` would build it."""
    tinygan.seed(seed)
    config, shape = SimpleNamespace(**CONFIG, recipe=method), (28, 28, 1)
    if not method.startswith("no-"):
        return recipes.build(config, shape)
    dense = method != "no-dense"
    d = models.conv_discriminator(28, 1, config.width, norm=False, hidden=recipes.HIDDEN if dense else None)
    g, average = (models.conv_generator(config.latent, 28, 1, config.width, (recipes.HIDDEN,) * 2 * dense)
                  for _ in range(2))
    rates = (config.lr, recipes.G_RATE * config.lr) if method == "no-norm" else SLOW
    return GAN(g, d, config.latent, average=average, decay=0.998, lr=rates)


def drawn(gan, n):
    """n samples of the averaged generator."""
    z = gan.latents(n, "evaluate")
    return np.concatenate([gan.sample(z[i:i + 500]) for i in range(0, n, 500)])


def figures(images, pairs=PAIRS):
    """All figures of images (N, 28, 28, 1): the distances from `pairs` of them, what is read in them from all."""
    judge, learned = m.judge(), np.bincount(data.digits().labels) / len(data.digits())
    seen, p = m.read(judge.module, images)
    digit, sure = p.argmax(axis=1), p.max(axis=1)
    shares = m.class_shares(digit, sure)
    real, fake = m.features(judge.module, judge.images[:pairs]), seen[:pairs]
    precision, recall = distances.precision_recall(real, fake)
    density, coverage = distances.density_coverage(real, fake)
    return {"frechet": distances.frechet(real, fake), "precision": precision, "recall": recall, "density": density,
            "coverage": coverage, "confident": shares.confident,
            "spread": distances.within_class_spread(images[sure >= 0.9], digit[sure >= 0.9]),
            "tv": float(np.abs(shares.classes - learned).sum() / 2), "smallest": shares.smallest,
            "digits": int((shares.classes >= 0.01).sum())}


def reference(name, seed, n):
    """n images that stand for the best or for a certain way to fail."""
    digits, rng = data.digits(), tinygan.Randomness(seed).rng("reference")
    if name == "real":
        return digits.x[rng.integers(len(digits), size=n)]
    if name == "untrained":
        return drawn(make("non-saturating", seed), n)
    ten = np.array([rng.choice(np.flatnonzero(digits.labels == k)) for k in range(10)])
    return digits.x[ten[rng.integers(10, size=n)]]


def one(method, seed, steps, samples=SAMPLES, picture=None):
    """One run, as a row."""
    if method in REFERENCES:
        return figures(reference(method, seed, samples), min(PAIRS, samples))
    gan, start = make(method, seed), time.process_time()
    fit(gan, data.digits().x, steps, CONFIG["batch_size"])
    seconds = time.process_time() - start
    images = drawn(gan, samples)
    if picture:
        plot.save_image(picture, plot.to_grid(images[:24], columns=12))
    return {**figures(images, min(PAIRS, samples)), "seconds": seconds}


# ---------------------------------------------------------------------------------------- the page


def groups(rows):
    """{(method, steps): its rows}, in the order of METHODS and then of REFERENCES."""
    keys = sorted({(row["method"], row["steps"]) for row in rows},
                  key=lambda key: ((*METHODS, *REFERENCES).index(key[0]), key[1]))
    return {key: [row for row in rows if (row["method"], row["steps"]) == key] for key in keys}


def compare(rows):
    """The figures of every method, mean ± standard deviation over its runs."""
    lines = [[method, steps or "", len(mine), *(pm((factor * row[key] for row in mine), digits).replace("nan", "–")
                                                for key, (_, digits, factor) in FIGURES.items()),
              "" if method in REFERENCES else pm((row["seconds"] for row in mine), 0)]
             for (method, steps), mine in groups(rows).items()]
    return table(["method", "steps", "runs", *(name for name, *_ in FIGURES.values()), "seconds"], lines)


def beside(rows):
    """Own figures beside the published neighbours, with the difference of the means in standard errors."""
    lines = []
    for (method, steps), mine in groups(rows).items():
        for neighbour in (theirs for ours, theirs in NEIGHBOURS if ours == method):
            for (name, length), known in PUBLISHED.items():
                if name == neighbour:
                    cells, apart = [], []
                    for key, digits, factor in (("confident", 1, 100), ("tv", 3, 1), ("digits", 1, 1)):
                        values, theirs = [row[key] for row in mine], known[key]
                        cells += [pm((factor * v for v in values), digits),
                                  f"{factor * theirs[0]:.{digits}f} ± {factor * theirs[1]:.{digits}f}"]
                        apart.append(difference((*mean_sd(values), len(mine)), (*theirs, 5)))
                    lines.append([f"{method}, {steps:,} steps", f"{name}, {length:,} steps", *cells,
                                  ", ".join("–" if np.isnan(z) else f"{z:+.1f}" for z in apart[:2])])
    return table(["here", "published", "confident, %", "published", "TV", "published", "digits with 1 %", "published",
                  "difference of confident and TV in standard errors"], lines)


def draw(rows, path):
    """Every run of every method, and the real digits as a line, for four figures."""
    shown, found = ("frechet", "recall", "confident", "tv"), groups(rows)
    figure = plot.Figure(figsize=(11, 3.4), layout="constrained")
    trained = [key for key in found if key[0] in METHODS]
    for axes, key in zip(figure.subplots(1, len(shown)), shown, strict=True):
        name, _, factor = FIGURES[key]
        for i, which in enumerate(trained):
            values = [factor * row[key] for row in found[which]]
            axes.plot(np.full(len(values), i), values, "o", color=plot.ORANGE, ms=4, alpha=0.7)
        real = [factor * row[key] for (method, _), mine in found.items() if method == "real" for row in mine]
        if real:
            axes.axhline(np.mean(real), color=plot.BLUE, lw=1)
        several = len({steps for _, steps in trained}) > 1
        axes.set_xticks(range(len(trained)), [f"{name}, {steps:,}" if several else name for name, steps in trained],
                        rotation=60, ha="right", fontsize=7)
        axes.set_title(name, fontsize=9)
        axes.set_yscale("log" if key == "frechet" else "linear")
    figure.savefig(path, dpi=110)


def main():
    """Command line."""
    options = parser(__doc__, "digits", METHODS, seeds=5)
    options.add_argument("--steps", type=int, default=STEPS, help=f"default: {STEPS}")
    options.add_argument("--samples", type=int, default=SAMPLES, help=f"that are judged (default: {SAMPLES})")
    args = options.parse_args()
    if args.job:
        cpu.keep_freed_memory()
        first = args.job["seed"] == 0 and args.job["steps"] == STEPS
        picture = args.out / f"digits_{args.job['method']}.png" if first else None
        return print(json.dumps(one(**args.job, picture=picture)))
    jobs = [dict(method=name, seed=s, steps=args.steps, samples=args.samples)
            for s in range(args.seeds) for name in args.methods]
    jobs += [dict(method=name, seed=s, steps=0, samples=args.samples) for s in range(args.seeds) for name in REFERENCES]
    run(__file__, jobs, args.out / "digits.csv", args.again)
    rows = [row for row in read(args.out / "digits.csv") if row["samples"] == args.samples]    # of earlier commands too
    print(compare(rows) + "\n")
    print(beside(rows))
    draw(rows, args.out / "digits.png")


if __name__ == "__main__":
    main()
