"""A small classifier of 28×28 digits: what it reads in an image, and what it sees on the way.

Digits have no known density, but a network that is right 99 times in 100 can read them. `judge()`
is one that comes with the package. tinygan trained it itself (benchmarks/make_classifier.py) on
MNIST's training images 10,000 to 59,999: none of the bundled digits, and none of the held-out
images that come with it.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .autograd import data_of, no_grad
from .backend import device_of, to_device, to_host
from .nn import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from .ops import softmax
from .randomness import Randomness


def digit_classifier():
    """Images (N, 28, 28, 1) in [−1, 1] → logits (N, 10): three convolutions, two linear layers."""
    return Sequential(
        Conv2d(1, 16, 5, padding=2), MaxPool2d(2), ReLU(),                         # (N, 14, 14, 16)
        Conv2d(16, 32, 5, padding=2), MaxPool2d(2), ReLU(),                        # (N, 7, 7, 32)
        Conv2d(32, 32, 3, padding=1), MaxPool2d(2), ReLU(),                        # (N, 3, 3, 32)
        Flatten(), Linear(3 * 3 * 32, 64), ReLU(), Dropout(0.5), Linear(64, 10))


class Judge(NamedTuple):
    """A trained classifier, and images (M, 28, 28, 1) with labels (M,) that it has never seen."""

    module: Sequential
    images: np.ndarray
    labels: np.ndarray
    accuracy: float


def judge():
    """The classifier that comes with the package, with every fifth image of MNIST's test set.

    Its `accuracy`, the share of the whole test set (10,000 images) that it reads right, is 0.9931.
    """
    with np.load(Path(__file__).with_name("classifier.npz"), allow_pickle=False) as file:
        with Randomness(0):
            module = digit_classifier().eval()
        module.load_state_dict({name: file[name] for name in module.state_dict()})
        images = file["images"][..., None].astype(np.float32) / 127.5 - 1
        return Judge(module, images, file["labels"].astype(np.int64), float(file["accuracy"]))


def read(module, images, batch_size=500):
    """What a Sequential classifier makes of images (N, ...): (features, probabilities), float64.

    Features (N, F) are what its last layer gets, probabilities (N, K) the softmax of its logits.
    """
    seen = _outputs(module[:-1], images, batch_size, module)
    probabilities = softmax(_outputs(module[-1], seen, batch_size, module))
    return seen.reshape(len(seen), -1), probabilities


def features(module, images, batch_size=500):
    """What the last layer of a Sequential classifier gets for images (N, ...): (N, F) float64."""
    return read(module, images, batch_size)[0]


def classify(module, images, batch_size=500):
    """Labels (N,) int64 that a classifier reads in images (N, ...), and its confidence (N,).

    The confidence is the largest probability, float64 in [1/K, 1].
    """
    p = softmax(_outputs(module, images, batch_size, module))                      # (N, K)
    return p.argmax(axis=1), p.max(axis=1)


def _outputs(layers, inputs, batch_size, module):
    """What layers of a module in evaluation mode make of inputs (N, ...): float64 on the host."""
    if len(inputs) == 0:
        raise ValueError(f"classifier: expected N > 0 images, got {np.shape(inputs)}")
    device = device_of(module.parameters()[0].data)
    with module.evaluating(), no_grad():
        parts = [layers(to_device(np.asarray(inputs[i:i + batch_size]), device))
                 for i in range(0, len(inputs), batch_size)]
    return np.concatenate([np.asarray(to_host(data_of(y)), np.float64) for y in parts])


class Shares(NamedTuple):
    """What `class_shares` counts: shares of all samples."""

    confident: float            # have a clear class
    smallest: float             # have the rarest class
    classes: np.ndarray         # (K,): have class k


def class_shares(labels, confidence, classes=10, least=0.9):
    """Sum up what `classify` returned, as `Shares`: clear means a confidence ≥ least.

    Compare with the same figures for real images: they are not 1 and 1/K either.
    """
    labels, confidence = np.asarray(labels), np.asarray(confidence)
    if len(labels) == 0 or labels.shape != confidence.shape:
        raise ValueError("class_shares: expected N > 0 labels and confidences, "
                         f"got {labels.shape} and {confidence.shape}")
    shares = np.bincount(labels, minlength=classes) / len(labels)
    return Shares(float((confidence >= least).mean()), float(shares.min()), shares)
