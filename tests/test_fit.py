"""What `fit` refuses to learn from, and what it makes of the rest."""

import math

import numpy as np
import pytest

from tinygan import Tensor, backend, data, models, nn
from tinygan.randomness import seed
from tinygan.train import GAN, fit, learnable


@pytest.fixture(autouse=True)
def fresh_seed():
    seed(0)


def some(*shape):
    return np.random.default_rng(5).uniform(-1, 1, shape).astype(np.float32)


def points(device="cpu", classes=0):
    return GAN(models.mlp_generator(3, classes=classes).to(device), models.mlp_discriminator(classes=classes).to(device), 3)


def images():
    return GAN(models.mlp_generator(3, (4, 4, 1)), models.mlp_discriminator((4, 4, 1)), 3)


def with_one(x, value):
    x[3, 1] = value
    return x


BAD = {
    "integers": (points, np.zeros((9, 2), int), "x must be floats, or images of bytes, got int64"),
    "truth": (points, np.zeros((9, 2), bool), "x must be floats, or images of bytes, got bool"),
    "complex": (points, np.zeros((9, 2), complex), "got complex128"),
    "bytes as floats": (images, 255 * np.abs(some(9, 4, 4, 1)), r"images must lie in \[-1, 1\], got \[.*\]; scale bytes"),
    "slightly too bright": (images, 1.01 * np.ones((9, 4, 4, 1), np.float32), r"got \[1.01, 1.01\]"),
    "nan": (points, with_one(some(9, 2), math.nan), "x contains NaN, infinity"),
    "infinity": (points, with_one(some(9, 2), -math.inf), "x contains NaN, infinity"),
    "no features": (points, some(9), r"x must be points \(N, D\) or images .* got shape \(9,\)"),
    "nothing": (points, some(0, 2), r"empty, .*shape \(0, 2\)"),
    "a number": (points, 3.0, r"got shape \(\)"),
    "a tensor": (points, Tensor(some(9, 2)), "a Tensor does not turn into a NumPy array by itself.*take its .data"),
}


@pytest.mark.parametrize("make, x, message", BAD.values(), ids=BAD)
def test_samples_that_cannot_be_learnt_are_refused_with_advice(make, x, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(make(), x, 1, 4)


def test_images_of_bytes_become_numbers_from_minus_one_to_one():
    (found,) = learnable(images(), np.uint8([0, 255] * 72).reshape(9, 4, 4, 1), ())
    assert {*found.ravel().tolist()} == {-1.0, 1.0} and found.dtype == np.float32


def test_points_may_lie_anywhere_and_lists_and_other_precisions_become_the_networks_type():
    gan, x = points(), 300 * some(9, 2)
    for given in (x, x.tolist(), x.astype(np.float64)):
        (found,) = learnable(gan, given, ())
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, x, rtol=1e-6)
    fit(gan, x.astype(np.float64), 2, 4)
    assert all(p.dtype == np.float32 for p in gan.parameters())


def test_data_go_to_the_networks_device_and_data_sets_are_accepted(device):
    dataset = data.Dataset("mine", some(9, 2), np.arange(9) % 2)
    for x in (dataset, dataset.x):
        (found,) = learnable(points(device), x, ())
        assert backend.device_of(found) == device
    found, labels = learnable(points(device, 2), dataset, ())
    assert labels.dtype == np.int64 and backend.device_of(labels) == device
    found, own = learnable(points(device, 2), dataset, (1 - dataset.labels,))
    np.testing.assert_array_equal(backend.to_host(own), 1 - dataset.labels)
    fit(points(device), dataset, 1, 4)


def test_a_conditional_gan_needs_conditions_one_per_sample():
    with pytest.raises(ValueError, match=r"fit: the generator takes a condition: hand over given=\(labels,\), or a Dataset"):
        fit(points(classes=2), some(9, 2), 1, 4)
    with pytest.raises(ValueError, match=r"fit: expected 9 conditions, one per sample, got \(8,\)"):
        fit(points(classes=2), some(9, 2), 1, 4, given=(np.zeros(8, int),))


def test_a_condition_is_an_argument_without_a_default():
    """Only such a generator is told the labels of a data set."""
    class Truncated(nn.Linear):
        def forward(self, z, psi=1.0):
            return psi * super().forward(z)

    class Told(nn.Linear):
        def forward(self, z, y):
            return super().forward(z)

    class Any(nn.Linear):
        def forward(self, *inputs):
            return super().forward(inputs[0])
    dataset = data.Dataset("mine", some(9, 2), np.arange(9) % 2)
    for kind, arrays in ((nn.Linear, 1), (Truncated, 1), (Told, 2), (Any, 1)):
        assert len(learnable(GAN(kind(3, 2), models.mlp_discriminator(), 3), dataset, ())) == arrays


@pytest.mark.parametrize("steps", [-1, 1.5, None, "3", True])
def test_a_number_of_steps_is_a_natural_number(steps):
    with pytest.raises(ValueError, match="fit: steps must be an integer >= 0"):
        fit(points(), some(9, 2), steps, 4)


@pytest.mark.parametrize("size", [0, 10, 2.0, None])
def test_a_batch_size_is_a_number_of_samples(size):
    with pytest.raises(ValueError, match=r"batch size: expected 1..9 \(the size of the data set\)"):
        fit(points(), some(9, 2), 1, size)
