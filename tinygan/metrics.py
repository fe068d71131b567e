"""How good is a generator? Count, do not look.

A loss does not say it: in a game of two, "lower" means that the other player got worse. What says
it is a question about the samples, and the same question about real data that nobody trained on:
their figure is what a perfect generator would reach. Points are counted in coverage.py, digits read
in classifier.py and compared in distances.py; all of it is found under the name `metrics`.

`evaluate_points` and `evaluate_digits` ask everything at once, and `table` prints their answer:
{figure: {column: (mean, deviation)}} over random halves of the samples. The deviation over halves
of a set is the standard error of an average over the whole set.
"""

import numpy as np

from . import classifier, coverage, data, distances
from .classifier import *  # noqa: F403  (metrics is the public name of all three)
from .coverage import *  # noqa: F403
from .distances import *  # noqa: F403
from .randomness import Randomness


def evaluate_points(samples, mixture, least=0.01, resamples=10, seed=0):
    """All figures of samples (N, 2), beside those of a perfect sampler and of uniform noise."""
    samples, rng = np.asarray(samples, np.float64), Randomness(seed).rng("evaluate")
    n, rows = max(len(samples) // 2, 1), []

    def figures(x, fresh):
        c = coverage.mode_coverage(x, mixture, least=least)
        return {f"modes with {least:.0%} of the samples": c.modes,
                "modes with one sample": coverage.mode_coverage(x, mixture, least=0.0).modes,
                "share on a mode": c.high_quality, "total variation": c.tv,
                "reverse KL": c.reverse_kl, "width of the modes": c.std_ratio,
                "sliced Wasserstein distance": distances.sliced_wasserstein(x, fresh)}
    for _ in range(resamples):
        fresh = mixture.sample(n, rng)
        rows.append({"samples": figures(samples[rng.permutation(len(samples))[:n]], fresh),
                     "perfect sampler": figures(mixture.sample(n, rng), fresh),
                     "uniform noise": figures(coverage.uniform_noise(mixture, n, rng), fresh)})
    return _summary(rows)


def evaluate_digits(images, labels=None, train=None, real=None, resamples=10, seed=0):
    """All figures of generated digits (N, 28, 28, 1), beside those of real digits held out.

    labels: the digits (N,) that were asked for, if any. train: the images that the generator was
    trained on (the bundled digits). real: (images, labels) that neither it nor the judge was
    trained on (2,000 of MNIST's test set).

    Each resample splits the real images into halves: n images to compare with, and as many that
    stand in for a perfect generator. n generated images meet the same half.
    """
    module, held_images, held_labels, _ = classifier.judge()
    held_images, held_labels = real or (held_images, held_labels)
    images, train = np.asarray(images), data.digits().x if train is None else np.asarray(train)
    n = min(len(images), len(held_images), 5000) // 2
    if not images.shape[1:] == train.shape[1:] == (28, 28, 1) or n < 10 or len(train) < n \
            or not np.isfinite(images).all() or labels is not None and len(labels) != len(images):
        raise ValueError("evaluate_digits: expected at least 20 finite images (N, 28, 28, 1), a "
                         "label for each or None, and N/2 or more images in train, got "
                         f"{images.shape}, {np.shape(labels)} and {train.shape}")

    def side(x, wanted):
        seen, p = classifier.read(module, x)
        nearest = [distances.pairwise(x, train[i:i + 2000]).min(axis=1)
                   for i in range(0, len(train), 2000)]         # in parts, which saves memory
        known = {"images": x, "features": seen, "p": p, "to train": np.min(nearest, axis=0)}
        return known if labels is None else {**known, "labels": np.asarray(wanted)}
    generated, held, rows = side(images, labels), side(held_images, held_labels), []
    for i in range(resamples):
        rng = Randomness(seed + i).rng("evaluate")
        fake, order = rng.permutation(len(images))[:n], rng.permutation(len(held_images))
        unseen = {k: v[order[:n]] for k, v in held.items()}
        seen = train[rng.permutation(len(train))[:n]]
        sides = {"generated": (generated, fake), "real, held out": (held, order[n:2 * n])}
        rows.append({name: _figures({k: v[pick] for k, v in s.items()}, unseen, seen, rng)
                     for name, (s, pick) in sides.items()})
    return _summary(rows)


def _figures(s, unseen, seen, rng):
    """Every figure of one side, given real images it has not seen, and as many it may have seen."""
    images, read_as, pair = s["images"], s["p"].argmax(axis=1), (unseen["features"], s["features"])
    shares = classifier.class_shares(read_as, s["p"].max(axis=1), s["p"].shape[1])
    precision, recall = distances.precision_recall(*pair)
    density, covered = distances.density_coverage(*pair)
    near, far = (distances.pairwise(images, real).min(axis=1) for real in (seen, unseen["images"]))
    # Random pairs that read alike: neighbours in a random order, sorted by what is read in them.
    order = rng.permutation(len(images))
    order = order[np.argsort(read_as[order], kind="stable")]
    a, b = order[:-1:2], order[1::2]
    alike = read_as[a] == read_as[b]
    similar = distances.ms_ssim(images[a][alike], images[b][alike])
    obeyed = {"reads as asked": (read_as == s["labels"]).mean()} if "labels" in s else {}
    return {
        "read with confidence 0.9": shares.confident, **obeyed,
        "rarest digit": shares.smallest,
        "total variation of digits": np.abs(shares.classes - 1 / len(shares.classes)).sum() / 2,
        "classifier Fréchet distance": distances.frechet(*pair),
        "kernel distance": distances.kernel_distance(*pair),
        "inception-style score": distances.inception_score(s["p"]),
        "precision": precision, "recall": recall, "density": density, "coverage": covered,
        "MS-SSIM within a digit": similar.mean() if len(similar) else np.nan,
        "spread within a digit": distances.within_class_spread(images, read_as),
        "nearer to training data": distances.overfit(near, far)[0],
        "copies of training data": distances.copies(s["to train"], unseen["to train"])}


def _summary(rows):
    """{figure: {column: (mean, deviation)}} of [{column: {figure: value}}]."""
    def of(column, figure):
        v = np.array([row[column][figure] for row in rows], np.float64)
        return float(v.mean()), float(v.std(ddof=int(len(v) > 1)))
    figures = next(iter(rows[0].values()))
    return {figure: {column: of(column, figure) for column in rows[0]} for figure in figures}


def table(figures):
    """What `evaluate_points` or `evaluate_digits` returned, as lines of text: mean ± deviation."""
    lines = [f"{'':<30}" + "".join(f"{name:<20}" for name in next(iter(figures.values())))]
    lines += [f"{figure:<30}" + "".join(f"{f'{mean:.4g} ± {deviation:.2g}':<20}"
                                        for mean, deviation in columns.values())
              for figure, columns in figures.items()]
    return "\n".join(line.rstrip() for line in lines)
