"""How good is a generator? Count, do not look.

A loss does not say it: in a game of two, "lower" means that the other player got worse. What says it is a question about the
samples:

- 2-D mixtures have known modes, so `mode_coverage` counts how many of them were found and how much lies on them. Even a *perfect*
  sampler has only 98.889 % of its samples within 3σ in the plane (`ceiling`); a higher figure means that the modes have shrunk.
- Digits have no known density, but a classifier that is right 98 times in 100 can read them. `class_shares` says how many samples
  it is sure about and whether all ten digits occur. Real digits, read by the same classifier, are the yardstick.

All shares and averages are accumulated in float64.
"""

import math
from typing import NamedTuple

import numpy as np

from . import randomness
from .autograd import grad, no_grad
from .backend import device_of, to_device, to_host
from .losses import cross_entropy
from .nn import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from .optim import Adam

# ------------------------------------------------------------------------------------------------ points in the plane


class Coverage(NamedTuple):
    """modes: how many were found. high_quality: the share of samples that lie on a mode. tv: the distance from equal shares,
    0 (perfect) to 1. std_ratio: the samples' spread within a mode by the mode's own, 1 if right, NaN if no mode holds two."""

    modes: int
    high_quality: float
    tv: float
    std_ratio: float


def ceiling(radius_sigmas=3.0):
    """1 − exp(−r²/2): the share of a round 2-D Gaussian within r standard deviations, so the best possible `high_quality`."""
    return 1 - math.exp(-radius_sigmas ** 2 / 2)


def mode_coverage(samples, mixture, radius_sigmas=3.0, least=0.01):
    """Compare samples (N, 2) with a `data.Mixture` of K modes. Returns a `Coverage`.

    A sample lies *on* a mode if it is within r = radius_sigmas standard deviations of the nearest centre. A mode is found if at
    least the share `least` of all samples lies on it, and no less than one sample: `least=0` counts lucky hits too, as many papers
    do. With pₖ the share of samples on mode k,

        high_quality = Σ pₖ        tv = ½ (Σ |pₖ − 1/K| + 1 − Σ pₖ)

    (total variation, with what lies on no mode as a class of its own).

    std_ratio is the standard deviation about each mode's own mean, pooled, by σ √(1 − (r²/2) e^(−r²/2) / (1 − e^(−r²/2))): that
    of the true Gaussian cut off at the same radius.
    """
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim != 2 or samples.shape[1] != 2 or len(samples) == 0:
        raise ValueError(f"mode_coverage: samples must have shape (N, 2) with N > 0, got {samples.shape}")
    if not np.isfinite(samples).all() or not mixture.std > 0:
        raise ValueError(f"mode_coverage: needs finite samples and a mixture with std > 0, got std {mixture.std}")
    k = len(mixture.centers)
    distance = np.stack([np.hypot(*(samples - c).T) for c in mixture.centers])     # (K, N)
    nearest = distance.argmin(axis=0)                                              # (N,)
    on = distance.min(axis=0) <= radius_sigmas * mixture.std
    counts = np.bincount(nearest[on], minlength=k)                                 # (K,)
    shares = counts / len(samples)
    modes = int(((counts > 0) & (shares >= least)).sum())
    tv = (np.abs(shares - 1 / k).sum() + 1 - shares.sum()) / 2

    squares, freedom = 0.0, 0
    for i in np.flatnonzero(counts > 1):
        group = samples[on & (nearest == i)]
        squares += ((group - group.mean(axis=0)) ** 2).sum()
        freedom += 2 * (len(group) - 1)
    inside = ceiling(radius_sigmas)
    true = mixture.std * math.sqrt(1 - radius_sigmas ** 2 / 2 * (1 - inside) / inside)
    return Coverage(modes, float(shares.sum()), float(tv), math.sqrt(squares / freedom) / true if freedom else math.nan)


# ------------------------------------------------------------------------------------------------ digits


def digit_classifier():
    """Images (N, 28, 28, 1) in [−1, 1] → logits (N, 10): two convolutions with pooling and two linear layers."""
    return Sequential(
        Conv2d(1, 16, 5, padding=2), MaxPool2d(2), ReLU(),          # (N, 14, 14, 16)
        Conv2d(16, 32, 5, padding=2), MaxPool2d(2), ReLU(),         # (N, 7, 7, 32)
        Flatten(), Linear(7 * 7 * 32, 128), ReLU(), Dropout(0.5),
        Linear(128, 10))


def train_classifier(images, labels, epochs=2, seed=0, batch_size=100, device="cpu"):
    """A `digit_classifier` trained on images (N, 28, 28, 1) with integer labels (N,): Adam, the rate falling linearly to 0.

    Two epochs of MNIST's training set: 98.8 % right on its test set. Calls `randomness.seed(seed)`. Returns the module, in
    evaluation mode.
    """
    if images.shape[1:] != (28, 28, 1) or labels.shape != images.shape[:1]:
        raise ValueError(f"train_classifier: expected images (N, 28, 28, 1) and labels (N,), got {images.shape} and {labels.shape}")
    if len(images) < batch_size:
        raise ValueError(f"train_classifier: batch_size {batch_size} is more than the {len(images)} images")
    randomness.seed(seed)
    module = digit_classifier().to(device)
    optimizer = Adam(module.parameters(), lr=2e-3)
    rate, per_epoch = optimizer.lr, len(images) // batch_size
    for epoch in range(epochs):
        order = randomness.rng("batch").permutation(len(images))
        for i in range(per_epoch):
            pick = order[i * batch_size:(i + 1) * batch_size]
            logits = module(to_device(images[pick], device))
            loss = cross_entropy(logits, to_device(labels[pick], device))
            optimizer.lr = rate * (1 - (epoch + i / per_epoch) / epochs)
            optimizer.step(grad(loss, optimizer.params))
    return module.eval()


def classify(module, images, batch_size=500):
    """What a classifier reads in images (N, ...): labels (N,) int64 and its confidence max softmax (N,) float64, in [1/K, 1]."""
    device, training = device_of(module.parameters()[0].data), module.training
    module.eval()
    with no_grad():
        logits = [to_host(module(to_device(images[i:i + batch_size], device)).data) for i in range(0, len(images), batch_size)]
    module.train(training)
    logits = np.concatenate(logits).astype(np.float64)                              # (N, K)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits.argmax(axis=1), 1 / e.sum(axis=1)                                 # the largest e is 1


class Shares(NamedTuple):
    """confident: the share of samples whose class is clear; smallest: that of the rarest class; classes: each class's, (K,)."""

    confident: float
    smallest: float
    classes: np.ndarray


def class_shares(labels, confidence, classes=10, least=0.9):
    """Sum up what `classify` returned: clear means a confidence ≥ least; the classes' shares are of all samples. Gives `Shares`.

    Compare with the same figures for real images: they are not 1 and 1/K either.
    """
    if len(labels) == 0 or labels.shape != confidence.shape:
        raise ValueError(f"class_shares: expected N > 0 labels and confidences, got {labels.shape} and {confidence.shape}")
    shares = np.bincount(labels, minlength=classes) / len(labels)
    return Shares(float((confidence >= least).mean()), float(shares.min()), shares)
