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
    (np.zeros((0, 2)), r"shape \(N, 2\) with N > 0.*got \(0, 2\)"), (np.zeros((3, 3)), r"got \(3, 3\)"),
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


# ---- the judge and the whole evaluation -------------------------------------------------------------------

def test_the_judge_reads_its_held_out_images_and_never_saw_them():
    """Real figures are figures of images that neither the judge nor a GAN of the digits trained on."""
    judge, digits = metrics.judge(), data.digits()
    labels, confidence = classify(judge.module, judge.images)
    assert judge.images.shape == (2000, 28, 28, 1) and judge.images.dtype == np.float32
    assert judge.images.min() == -1 and judge.images.max() == 1
    assert (labels == judge.labels).mean() > 0.985 and judge.accuracy > 0.985
    known = {x.tobytes() for x in digits.x}
    assert not any(x.tobytes() in known for x in judge.images)
    labels, _ = classify(judge.module, digits.x[:1000])
    assert (labels == digits.labels[:1000]).mean() > 0.98       # bundled digits are unseen by it, too
    assert not judge.module.training and not any(m.training for m in judge.module.modules())


def test_features_are_what_the_last_layer_gets(device):
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Dropout(0.9), nn.Linear(5, 4)).to(device)
    x = np.random.default_rng(0).standard_normal((23, 3)).astype(np.float32)
    w, b, w2, b2 = (backend.to_host(p.data).astype(np.float64) for p in net.parameters())
    hidden = np.maximum(x @ w + b, 0)
    np.testing.assert_allclose(metrics.features(net, x, batch_size=5), hidden, rtol=1e-5, atol=1e-6)
    seen, p = metrics.read(net, x, batch_size=7)
    e = np.exp(hidden @ w2 + b2)
    np.testing.assert_allclose(p, e / e.sum(axis=1, keepdims=True), rtol=1e-5)
    assert seen.dtype == p.dtype == np.float64


def test_reading_puts_every_mode_back_also_after_an_error():
    """One part frozen by eval() stays frozen, and the others go on training."""
    net = nn.Sequential(nn.BatchNorm(3).eval(), nn.Dropout(0.5), nn.Linear(3, 2))
    for images in (np.zeros((4, 3), np.float32), np.zeros((4, 7), np.float32)):
        for f in (classify, metrics.read):
            if images.shape[1] == 7:
                with pytest.raises(ValueError):
                    f(net, images)
            else:
                f(net, images)
            assert [m.training for m in net.modules()] == [True, False, True, True]


def test_no_images_are_refused():
    with pytest.raises(ValueError, match=r"expected N > 0 images, got \(0, 3\)"):
        classify(nn.Linear(3, 2), np.zeros((0, 3), np.float32))


def test_reverse_kl_worked_out_by_hand():
    """Of ten samples seven are nearest to the first centre: 0.7 log 1.4 + 0.3 log 0.6."""
    samples = [[0, 0]] * 7 + [[10, 0]] * 2 + [[6, 0]]
    found = mode_coverage(samples, TWO)
    assert found.reverse_kl == pytest.approx(0.7 * math.log(1.4) + 0.3 * math.log(0.6))
    assert mode_coverage([[0, 0]], TWO).reverse_kl == pytest.approx(math.log(2))
    assert mode_coverage([[0, 0], [10, 0]], TWO).reverse_kl == 0


def test_uniform_noise_covers_the_grid_and_lies_on_few_modes():
    """25 discs of radius 3σ in a square that reaches 10σ beyond the centres: 25 π 0.15² / 9² = 2.2 %."""
    grid = data.grid()
    noise = metrics.uniform_noise(grid, 10_000, np.random.default_rng(0))
    assert np.abs(noise).max() <= 4.5 and noise.std(axis=0) == pytest.approx(9 / math.sqrt(12), rel=0.02)
    found = mode_coverage(noise, grid, least=0.0)
    assert found.modes == 25 and mode_coverage(noise, grid).modes == 0
    expected = 25 * math.pi * 0.15 ** 2 / 81
    assert found.high_quality == pytest.approx(expected, rel=0.25)


def test_sliced_wasserstein_of_a_shift_and_of_points():
    """A shift by t moves every projection by ⟨t, θ⟩: √ mean ⟨t, θ⟩² = |t| / √D over all directions."""
    a = np.random.default_rng(0).standard_normal((500, 3))
    shift = np.array([3.0, 0.0, 4.0])
    assert metrics.sliced_wasserstein(a, a + shift, 20_000) == pytest.approx(5 / math.sqrt(3), rel=0.01)
    assert metrics.sliced_wasserstein(a, a[::-1]) == 0
    line = np.array([[0.0], [1.0], [5.0]])                      # one axis: every θ is ±1
    assert metrics.sliced_wasserstein(line, [[2.0], [2.0], [2.0]]) == pytest.approx(math.sqrt(14 / 3))
    assert metrics.sliced_wasserstein(line, np.repeat(line, 4, axis=0)) == 0
    assert metrics.sliced_wasserstein(a, a + 1) == metrics.sliced_wasserstein(a, a + 1)
    with pytest.raises(ValueError, match=r"sliced_wasserstein: .*\(2, 3\) and \(2, 2\)"):
        metrics.sliced_wasserstein(np.zeros((2, 3)), np.zeros((2, 2)))


def test_points_are_set_beside_a_perfect_sampler_and_noise():
    grid = data.grid()
    halved = data.Mixture(grid.centers[:12], grid.std).sample(4000, np.random.default_rng(1))
    figures = metrics.evaluate_points(halved, grid, resamples=3)
    modes = figures["modes with 1% of the samples"]
    assert modes["samples"] == (12, 0) and modes["perfect sampler"] == (25, 0) and modes["uniform noise"][0] == 0
    assert figures["reverse KL"]["samples"][0] == pytest.approx(math.log(25 / 12), abs=0.02)
    share = figures["share on a mode"]
    assert abs(share["samples"][0] - ceiling()) < 0.01 > abs(share["perfect sampler"][0] - ceiling())
    distance = figures["sliced Wasserstein distance"]
    assert distance["samples"][0] > 3 * distance["perfect sampler"][0]
    assert figures == metrics.evaluate_points(halved, grid, resamples=3)
    lines = metrics.table(figures).split("\n")
    assert len(lines) == 1 + len(figures) and lines[0].endswith("  uniform noise")
    assert "12 ± 0" in lines[1]


@pytest.fixture(scope="module")
def evaluated():
    """A copier, a generator of one digit that is real, and noise, all small."""
    digits, judge = data.digits(), metrics.judge()
    real = judge.images[:600], judge.labels[:600]
    sets = {"copier": digits.x[:600], "one digit": judge.images[judge.labels == 3][:150],
            "noise": np.random.default_rng(0).uniform(-1, 1, (200, 28, 28, 1)).astype(np.float32)}
    return {name: metrics.evaluate_digits(x, train=digits.x[:2000], real=real, resamples=3)
            for name, x in sets.items()}


def test_the_evaluation_tells_failures_apart(evaluated):
    """Each kind of failure shows in its own figure, and the real side stays where a perfect one would be."""
    def of(name, figure, side="generated"):
        return evaluated[name][figure][side][0]
    for name in evaluated:
        assert of(name, "read with confidence 0.9", "real, held out") > 0.9
        assert abs(of(name, "nearer to training data", "real, held out") - 0.5) < 0.15
        assert of(name, "copies of training data", "real, held out") < 0.1
    assert of("copier", "copies of training data") == 1
    assert of("one digit", "copies of training data") < 0.1
    assert of("one digit", "rarest digit") == 0 and of("one digit", "recall") < 0.3
    assert of("one digit", "total variation of digits") > 0.85
    assert of("one digit", "inception-style score") < 2 < 8 < of("copier", "inception-style score")
    assert of("noise", "coverage") < 0.2 and of("noise", "MS-SSIM within a digit") < 0.05
    for name in ("one digit", "noise"):
        distance = evaluated[name]["classifier Fréchet distance"]
        assert distance["generated"][0] > 3 * distance["real, held out"][0]


def test_labels_that_were_asked_for_are_compared_with_what_is_read():
    judge = metrics.judge()
    x, wanted = judge.images[:60], (judge.labels[:60] + (np.arange(60) < 30)) % 10     # half of them wrong
    figures = metrics.evaluate_digits(x, wanted, real=(judge.images[60:160], judge.labels[60:160]),
                                      train=judge.images[200:300], resamples=4)
    mean, deviation = figures["reads as asked"]["generated"]
    assert abs(mean - 0.5) < 0.1 and 0 < deviation < 0.2
    assert figures["reads as asked"]["real, held out"][0] > 0.95


@pytest.mark.parametrize("images", [np.zeros((30, 28, 28)), np.zeros((19, 28, 28, 1)),
                                    np.full((30, 28, 28, 1), np.nan)])
def test_other_images_are_not_evaluated(images):
    with pytest.raises(ValueError, match="evaluate_digits: expected at least 20 finite images"):
        metrics.evaluate_digits(images.astype(np.float32))


@pytest.mark.parametrize("other", [dict(labels=np.zeros(29, int)), dict(train=np.zeros((99, 32, 32, 1))),
                                   dict(train=np.zeros((9, 28, 28, 1)))])
def test_labels_and_training_images_must_fit(other):
    with pytest.raises(ValueError, match="evaluate_digits: expected at least 20"):
        metrics.evaluate_digits(np.zeros((30, 28, 28, 1), np.float32), **other)
