"""Metrics: counts on hand-made samples, the perfect sampler's ceiling, and a classifier that learns."""

import math

import numpy as np
import pytest

from tinygan import backend, data, metrics, nn
from tinygan.metrics import ceiling, class_shares, classify, mode_coverage

TWO = data.Mixture(np.array([[0.0, 0.0], [10.0, 0.0]]), 1.0)


def test_the_ceiling_is_98_889_percent_in_the_plane():
    """1 − exp(−9/2); the familiar 99.7 % belongs to one dimension."""
    assert ceiling(3) == pytest.approx(0.98889, abs=1e-5)
    assert ceiling(0) == 0 and ceiling(50) == 1


@pytest.mark.parametrize("mixture", [data.ring(), data.grid()])
def test_a_perfect_sampler_reaches_the_ceiling_and_no_more(mixture):
    n = 200_000
    found = mode_coverage(mixture.sample(n, np.random.default_rng(0)), mixture)
    assert found.modes == len(mixture.centers)
    assert abs(found.high_quality - ceiling()) < 4 * math.sqrt(ceiling() * (1 - ceiling()) / n)
    # Besides what lies on no mode, only the sampling noise of the modes' shares.
    assert abs(found.tv - (1 - ceiling())) < 0.01
    assert found.std_ratio == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("radius", [1.0, 2.0, 3.0])
def test_the_spread_is_compared_with_a_gaussian_cut_off_at_the_same_radius(radius):
    samples = data.ring().sample(200_000, np.random.default_rng(0))
    found = mode_coverage(samples, data.ring(), radius)
    assert found.std_ratio == pytest.approx(1, abs=0.01)
    assert found.high_quality == pytest.approx(ceiling(radius), abs=0.005)


def test_shrunken_modes_show_above_the_ceiling_and_in_the_spread():
    centers = data.ring().centers
    samples = data.Mixture(centers, 0.05).sample(50_000, np.random.default_rng(0))
    found = mode_coverage(samples, data.ring(std=0.1))
    assert found.high_quality > 0.9999 > ceiling()
    assert found.std_ratio == pytest.approx(0.05 / (0.1 * math.sqrt(1 - 4.5 * (1 - ceiling()) / ceiling())), rel=0.01)


def test_counts_worked_out_by_hand():
    """Six samples on the first mode, one at the edge of the second, three on none."""
    samples = [[0, 0]] * 6 + [[10, 3]] + [[5, 0], [10, 3.01], [-4, 0]]
    found = mode_coverage(samples, TWO, least=0.2)
    assert found.modes == 1                                             # 1 of 10 is less than 20 %
    assert found.high_quality == pytest.approx(0.7)
    assert found.tv == pytest.approx((abs(0.6 - 0.5) + abs(0.1 - 0.5) + 0.3) / 2)
    assert found.std_ratio == 0                                         # all six in one point
    assert mode_coverage(samples, TWO, least=0.1).modes == 2
    assert mode_coverage(samples, TWO, least=0.0).modes == 2            # one sample is enough
    assert mode_coverage(samples[:6], TWO, least=0.0).modes == 1        # none is not


def test_the_spread_is_taken_about_each_modes_own_mean():
    """A mode that is shifted is not wider for it. (±1, 0) about (0.5, 0): the variance is 2 / (2 · 1) per axis."""
    found = mode_coverage([[1.5, 0], [-0.5, 0]], TWO)
    assert found.std_ratio == pytest.approx(1 / math.sqrt(1 - 4.5 * (1 - ceiling()) / ceiling()))


def test_one_mode_alone_and_none_at_all():
    one = mode_coverage(np.random.default_rng(0).standard_normal((1000, 2)) * 0.1, data.grid())
    assert one.modes == 1 and one.tv == pytest.approx(
        1 - (1 - one.high_quality) - 1 / 25 + (1 - one.high_quality), abs=1e-9
    )
    none = mode_coverage(np.full((10, 2), 1e6), data.ring())
    assert none[:3] == (0, 0.0, 1.0) and math.isnan(none.std_ratio)


def test_a_sample_between_overlapping_modes_counts_once():
    near = data.Mixture(np.array([[0.0, 0.0], [1.0, 0.0]]), 1.0)
    found = mode_coverage([[0.4, 0.0], [0.6, 0.0]], near)
    assert found.high_quality == 1 and found.tv == 0 and found.modes == 2


def test_float32_samples_are_counted_in_float64():
    """A million equal values: float32 sums would be wrong in the third digit."""
    samples = np.full((1_000_000, 2), 0.1, np.float32)
    found = mode_coverage(samples, TWO)
    assert found.high_quality == 1 and found.std_ratio == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("samples, message", [
    (np.zeros((0, 2)), r"shape \(N, 2\) with N > 0, got \(0, 2\)"), (np.zeros((3, 3)), r"got \(3, 3\)"),
    (np.zeros(2), r"got \(2,\)"), (np.array([[0, np.nan]]), "finite samples")])
def test_other_samples_are_refused(samples, message):
    with pytest.raises(ValueError, match=f"mode_coverage: .*{message}"):
        mode_coverage(samples, TWO)


def test_a_mixture_of_points_has_no_spread_to_compare_with():
    with pytest.raises(ValueError, match="std > 0"):
        mode_coverage(np.zeros((3, 2)), data.ring(std=0.0))


# ---- digits -----------------------------------------------------------------------------------------------

def test_classify_gives_the_likeliest_class_and_its_probability(device):
    """In batches, in evaluation mode, and leaving the mode as it was."""
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(3, 4)).to(device)
    x = np.random.default_rng(0).standard_normal((23, 3)).astype(np.float32)
    w, b = (backend.to_host(p.data).astype(np.float64) for p in net.parameters())
    p = np.exp(x @ w + b)
    p /= p.sum(axis=1, keepdims=True)
    labels, confidence = classify(net, x, batch_size=5)
    np.testing.assert_array_equal(labels, p.argmax(axis=1))
    np.testing.assert_allclose(confidence, p.max(axis=1), rtol=1e-5)
    assert labels.shape == confidence.shape == (23,) and confidence.dtype == np.float64
    assert net.training and net[0].training


def test_huge_logits_are_a_confidence_of_one():
    net = nn.Linear(1, 3)
    net.weight.data[...] = [[1e4, 0, -1e4]]
    labels, confidence = classify(net, np.float32([[1], [-1]]))
    assert labels.tolist() == [0, 2] and confidence.tolist() == [1, 1]


def test_class_shares_worked_out_by_hand():
    shares = class_shares(np.array([0, 0, 0, 2, 2]), np.array([1.0, 0.9, 0.89, 0.5, 0.95]), classes=3)
    assert shares.confident == pytest.approx(3 / 5) and shares.smallest == 0
    np.testing.assert_allclose(shares.classes, [0.6, 0, 0.4])
    assert class_shares(np.arange(10), np.ones(10)).smallest == pytest.approx(0.1)


def test_class_shares_refuses_what_does_not_pair_up():
    for labels, confidence in (([], []), ([1, 2], [1.0])):
        with pytest.raises(ValueError, match="class_shares: expected N > 0 labels and confidences"):
            class_shares(np.array(labels, int), np.array(confidence))


def test_the_classifier_takes_digits_to_ten_logits(device):
    net = metrics.digit_classifier().to(device)
    out = net(backend.to_device(np.zeros((2, 28, 28, 1), np.float32), device))
    assert out.shape == (2, 10) and out.dtype == np.float32


def test_training_the_classifier_learns_and_repeats():
    """Five hundred digits, twenty steps: far better than the 10 % of guessing, and repeatable."""
    digits = data.digits()
    first = metrics.train_classifier(digits.x[:500], digits.labels[:500], epochs=1, seed=1, batch_size=25)
    assert not first.training
    labels, _ = classify(first, digits.x[500:800])
    assert (labels == digits.labels[500:800]).mean() > 0.4
    again = metrics.train_classifier(digits.x[:100], digits.labels[:100], epochs=1, seed=1, batch_size=25)
    third = metrics.train_classifier(digits.x[:100], digits.labels[:100], epochs=1, seed=1, batch_size=25)
    for k, v in again.state_dict().items():
        np.testing.assert_array_equal(v, third.state_dict()[k])


@pytest.mark.parametrize("images, labels, message", [
    (np.zeros((3, 28, 28), np.float32), np.zeros(3, int), r"images \(N, 28, 28, 1\)"),
    (np.zeros((3, 28, 28, 1), np.float32), np.zeros(2, int), r"labels \(N,\), got \(3, 28, 28, 1\) and \(2,\)"),
    (np.zeros((3, 28, 28, 1), np.float32), np.zeros(3, int), "batch_size 100 is more than the 3 images")])
def test_the_classifier_refuses_other_data(images, labels, message):
    with pytest.raises(ValueError, match=f"train_classifier: .*{message}"):
        metrics.train_classifier(images, labels)
