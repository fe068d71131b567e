"""Stacked digits: does a GAN find all combinations of two digits? 60 to 90 s of one core per run.

    OPENBLAS_NUM_THREADS=1 python benchmarks/reproduce/stacked.py                           # 100 modes
    python benchmarks/reproduce/stacked.py --channels 3 --device gpu --steps 20000          # the published 1,000

An image has a digit in each channel, drawn independently, so that every combination is a mode: 10² with two channels. Published
are three channels and 1,000 modes (Srivastava et al. 2017, VEEGAN, section 5.2; Lin et al. 2018, PacGAN, Table 2), which
take hours of a GPU. **This is the same question at a tenth of the size, so the figures are no reproduction of
theirs**; --channels 3 is the full number of modes, with the networks here.

    data        the 10,000 digits that come with the package; a batch is {batch} fresh images
    G, D        the networks of `tinygan train` with so many channels: 64 → 256 → 256 → 7×7×32 → 14×14×16 → 28×28, and D with one
                dense layer
    training    Adam {lr:g}, {steps:,} steps of one move each
    dcgan       non-saturating loss, D with BatchNorm, G's rate three times D's, noise on what D sees, as `tinygan train` plays
    packed      the same, and D sees two images per verdict, side by side in its channels: half as many verdicts of as many
                images, where PacGAN takes as many verdicts of twice the images
    r3gan       relativistic loss with R1 and R2, D without BatchNorm (Huang et al. 2024)
    evaluation  26 samples per mode, as published. A classifier reads each channel; a mode is found if *one* sample is read as it;
                KL(shares of the modes ‖ 1/K) with the natural logarithm. The average of G's weights is judged; the last G is
                in the CSV file.

One sample is little, since a reader that errs once in 150 digits finds modes that nobody drew. So beside it stand the modes with
half of their share, 13 samples, and the share of images whose channels are all read with a confidence of 0.9. And three more
rows say what the figures can be: "perfect" (fresh stacks of training digits), "ten modes" (the same digit in all channels,
in different handwriting: exactly ten modes, and a KL of log(K / 10)), and "untrained".

The published protocol, by the code of PacGAN's authors (repository fjxmlzn/PacGAN, stacked_MNIST_experiments): 128,000 stacks
made once of all of MNIST, G and D with four convolutions of width 64 and BatchNorm, z uniform, Adam 2e-4, batch 64,
50 epochs of 2,000 steps, two moves of G per step, the last G. Here are two convolutions of width 16 and 32, a dense layer in
both networks, and in all a seventieth of the images.
"""

import json
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import parser, pm, read, run, table  # noqa: E402

import tinygan  # noqa: E402
from tinygan import backend, cpu, data, metrics, plot, recipes  # noqa: E402
from tinygan.autograd import no_grad  # noqa: E402

STEPS, PER_MODE = 3000, 26
CONFIG = dict(recipes.DEFAULTS["conv"], model="conv")
__doc__ = __doc__.format(batch=CONFIG["batch_size"], lr=CONFIG["lr"], steps=STEPS)
METHODS = {"dcgan": "non-saturating", "packed": "packed", "r3gan": "r3gan"}             # name: recipe
REFERENCES = ("perfect", "ten modes", "untrained")
PUBLISHED = {"dcgan": "99 / 3.40 (VEEGAN's), 78.9 ± 6.5 / 4.50 (PacGAN's)", "packed": "1000 / 0.06",
             "r3gan": "1000 / 0.078"}                                                   # of 1,000: modes / KL


def make(method, seed, channels, device="cpu"):
    """The GAN of a method, as `tinygan train` would build it for such images."""
    tinygan.seed(seed)
    return recipes.build(SimpleNamespace(**CONFIG, recipe=METHODS[method], device=device), (28, 28, channels))


def stacks(digits, rng, n, channels):
    """n images (n, 28, 28, channels) with a random digit in each channel."""
    x = digits[rng.integers(len(digits), size=(n, channels))]               # (n, C, 28, 28, 1)
    return np.ascontiguousarray(x[..., 0].transpose(0, 2, 3, 1))            # (n, 28, 28, C)


def drawn(net, z):
    """A generator's images for latents, in evaluation mode."""
    with net.evaluating(), no_grad():
        return np.concatenate([backend.to_host(net(z[i:i + 500]).data) for i in range(0, len(z), 500)])


def modes(images):
    """Which of the 10^C modes each image (N, 28, 28, C) is read as, and the least confidence of its channels: (N,) each.

    The digit of the first channel counts once, that of the second ten times, and so on.
    """
    judge, channels = metrics.judge().module, images.shape[-1]
    seen = [metrics.classify(judge, images[..., c:c + 1]) for c in range(channels)]
    digits, confidence = (np.stack(each) for each in zip(*seen, strict=True))           # (C, N) each
    return np.tensordot(10 ** np.arange(channels), digits, axes=1), confidence.min(axis=0)


def kl(counts):
    """KL(shares ‖ uniform) = Σ p log(K p): 0 to log K. K − 1 over 2N of it is chance, if all are equally likely."""
    p = counts[counts > 0] / counts.sum()
    return float((p * np.log(len(counts) * p)).sum())


def figures(images):
    """What the images (N, 28, 28, C) are read as."""
    (mode, sure), n, k = modes(images), len(images), 10 ** images.shape[-1]
    found, clear = np.bincount(mode, minlength=k), np.bincount(mode[sure >= 0.9], minlength=k)
    return {"modes": int((found > 0).sum()), "half": int((found >= n / k / 2).sum()), "kl": kl(found),
            "confident": float(clear.sum() / n), "clear_modes": int((clear > 0).sum())}


def reference(name, seed, channels, n):
    """n images of a sampler whose modes are known."""
    digits, rng = data.digits(), tinygan.Randomness(seed).rng("reference")
    if name == "perfect":
        return stacks(digits.x, rng, n, channels)
    if name == "untrained":
        gan = make("dcgan", seed, channels)
        return drawn(gan.g, gan.latents(n, "evaluate"))
    images = np.empty((n, 28, 28, channels), np.float32)
    wanted = np.arange(n) % 10
    for k in range(10):
        images[wanted == k] = stacks(digits.x[digits.labels == k], rng, (wanted == k).sum(), channels)
    return images


def one(method, seed, channels, steps, device="cpu", per_mode=PER_MODE, picture=None):
    """One run, as a row."""
    n = per_mode * 10 ** channels
    if method in REFERENCES:
        return figures(reference(method, seed, channels, n))
    gan, digits, start = make(method, seed, channels, device), data.digits().x, time.process_time()
    rng = gan.random.rng("batch")
    for _ in range(steps):
        gan.step(backend.to_device(stacks(digits, rng, CONFIG["batch_size"], channels), gan.device))
    seconds, z = time.process_time() - start, gan.latents(n, "evaluate")
    images, last = drawn(gan.average.module, z), figures(drawn(gan.g, z))
    if picture:
        portrait(images, picture)
    return {**figures(images), "last_modes": last["modes"], "last_kl": last["kl"], "seconds": seconds}


# ---------------------------------------------------------------------------------------- the page


def portrait(images, path):
    """40 images, the channels as red, green and blue, beside how many samples each mode has."""
    channels = images.shape[-1]
    found = np.bincount(modes(images)[0], minlength=10 ** channels)
    figure = plot.Figure(figsize=(9, 2.7), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    shown = np.concatenate([images[:40], -np.ones((*images[:40].shape[:3], 3 - channels), np.float32)], axis=-1)
    left.imshow(plot.to_grid(shown, columns=10))
    left.axis("off")
    fair = len(images) / len(found)
    shades = right.imshow(found.reshape(-1, 10), cmap="Blues", vmin=0, vmax=3 * fair, aspect="auto")
    right.set_xlabel("digit in the first channel")
    right.set_ylabel("in the others")
    figure.colorbar(shades, label=f"samples (fair: {fair:g})")
    figure.savefig(path, dpi=110)


def groups(rows):
    """{(method, channels, steps): its rows}, fewest channels first."""
    keys = sorted({(row["method"], row["channels"], row["steps"]) for row in rows},
                  key=lambda key: (key[1], (*METHODS, *REFERENCES).index(key[0]), key[2]))
    return {key: [row for row in rows if (row["method"], row["channels"], row["steps"]) == key] for key in keys}


def compare(rows):
    """The figures of every method, mean ± standard deviation over its runs, and what was published for 1,000 modes."""
    lines = []
    for (method, channels, steps), mine in groups(rows).items():
        cells = [pm((factor * row[key] for row in mine), digits) for key, digits, factor in (
            ("modes", 1, 1), ("half", 1, 1), ("kl", 3, 1), ("clear_modes", 1, 1), ("confident", 1, 100))]
        lines.append([method, 10 ** channels, steps or "", len(mine), *cells,
                      pm((row["seconds"] for row in mine), 0) if steps else "", PUBLISHED.get(method, "")])
    return table(["method", "modes there are", "steps", "runs", "found by one sample", "with half their share",
                  "KL", "found with confidence", "confident, %", "seconds", "published for 1,000: found / KL"], lines)


def draw(rows, path):
    """Modes with half their share, KL and confidence of every run with two channels."""
    shown = (("half", 1, "modes with half their share (of 100)"), ("kl", 1, "KL to uniform"), ("confident", 100, "confident, %"))
    figure = plot.Figure(figsize=(9, 2.8), layout="constrained")
    two = {key: mine for key, mine in groups(rows).items() if key[1] == 2}
    trained = [key for key in two if key[0] in METHODS]
    for axes, (name, factor, title) in zip(figure.subplots(1, 3), shown, strict=True):
        for i, key in enumerate(trained):
            values = [factor * row[name] for row in two[key]]
            axes.plot(np.full(len(values), i), values, "o", color=plot.ORANGE, ms=5, alpha=0.7)
        for reference_, style in (("perfect", "-"), ("ten modes", ":")):
            values = [factor * row[name] for row in rows if row["method"] == reference_ and row["channels"] == 2]
            if values:
                axes.axhline(np.mean(values), color=plot.BLUE, ls=style, lw=1, label=reference_)
        axes.set_xticks(range(len(trained)), [f"{method}, {steps:,}" for method, _, steps in trained], fontsize=8)
        axes.set_title(title, fontsize=9)
    if any(axes.get_legend_handles_labels()[0]):
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    """Command line."""
    options = parser(__doc__, "stacked", METHODS, seeds=3)
    options.add_argument("--channels", type=int, default=2, choices=(1, 2, 3), help="digits per image (default: 2)")
    options.add_argument("--steps", type=int, default=STEPS, help=f"default: {STEPS}")
    options.add_argument("--device", default="cpu", choices=("cpu", "gpu"), help="where to train (default: cpu)")
    options.add_argument("--per-mode", type=int, default=PER_MODE, help=f"samples that are judged (default: {PER_MODE})")
    args = options.parse_args()
    if args.job:
        cpu.keep_freed_memory()
        name = f"stacked_{args.job['method']}{args.job['channels']}.png"
        return print(json.dumps(one(**args.job, picture=args.out / name if args.job["seed"] == 0 else None)))
    same = dict(channels=args.channels, device=args.device, per_mode=args.per_mode)
    jobs = [dict(method=name, seed=s, steps=args.steps, **same) for s in range(args.seeds) for name in args.methods]
    jobs += [dict(method=name, seed=s, steps=0, **same) for s in range(args.seeds) for name in REFERENCES]
    run(__file__, jobs, args.out / "stacked.csv", args.again)
    rows = [row for row in read(args.out / "stacked.csv") if row["per_mode"] == args.per_mode]  # of earlier commands too
    print(compare(rows))
    print(f"\nTen modes of {10 ** args.channels}, evenly: KL log({10 ** args.channels} / 10) = "
          f"{math.log(10 ** (args.channels - 1)):.3f}")
    draw(rows, args.out / "stacked.png")


if __name__ == "__main__":
    main()
