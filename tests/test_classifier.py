"""The layers work beyond GANs: small classifiers made of them read MNIST's test set."""

import hashlib
import runpy
from pathlib import Path

import numpy as np
import pytest

from tinygan import classifier, data, metrics, randomness

MAKER = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "make_classifier.py"))
train_classifier = MAKER["train_classifier"]


def mnist(split):
    try:
        return data.mnist(split)
    except data.DownloadError as e:
        pytest.skip(f"MNIST could not be downloaded: {e}")


@pytest.mark.slow
def test_a_classifier_reads_98_percent_of_mnists_test_set():
    """Convolution, pooling, linear layers, dropout, cross-entropy, Adam: trained on one set, judged on the other."""
    train, test = mnist("train"), mnist("test")
    module = train_classifier(train.x, train.labels)
    labels, confidence = metrics.classify(module, test.x)
    right = (labels == test.labels).mean()
    shares = metrics.class_shares(labels, confidence)
    print(f"\nright on {right:.2%} of MNIST's test set; sure (>= 0.9) about {shares.confident:.2%}, "
          f"rarest class {shares.smallest:.2%}")
    assert right >= 0.98
    assert shares.confident > 0.9 and 0.08 < shares.smallest < 0.1
    assert (labels == test.labels)[confidence >= 0.9].mean() > 0.99, "where it is sure, it is right"


@pytest.mark.slow
def test_the_judge_is_what_its_file_says():
    """Its accuracy on the whole test set; its held-out images are test images, and no training image."""
    train, test, judge = mnist("train"), mnist("test"), metrics.judge()
    labels, _ = metrics.classify(judge.module, test.x)
    assert (labels == test.labels).mean() == judge.accuracy
    np.testing.assert_array_equal(judge.images, test.x[::5])
    np.testing.assert_array_equal(judge.labels, test.labels[::5])
    known = {hashlib.sha256(x.tobytes()).digest() for x in train.x}
    assert not any(hashlib.sha256(x.tobytes()).digest() in known for x in judge.images)


def test_the_command_makes_such_a_file(tmp_path, monkeypatch, capsys):
    """On small sets: trained without the first 10,000 images, and every fifth test image held out."""
    digits, seen = data.digits(), []
    monkeypatch.setattr(data, "mnist", lambda split: data.Dataset(
        "mnist", *((digits.x, digits.labels) if split == "train" else (digits.x[:50], digits.labels[:50]))))
    monkeypatch.setitem(MAKER["main"].__globals__, "train_classifier", lambda x, labels, epochs: (
        seen.append(len(x)) or train_classifier(digits.x[:200], digits.labels[:200], 1)))
    MAKER["main"](tmp_path / "made.npz")
    shipped = Path(classifier.__file__).with_name("classifier.npz")
    with np.load(tmp_path / "made.npz") as made, np.load(shipped) as shipped:
        assert {k: v.dtype for k, v in made.items()} == {k: v.dtype for k, v in shipped.items()}
        assert {k: v.shape[1:] for k, v in made.items()} == {k: v.shape[1:] for k, v in shipped.items()}
        np.testing.assert_array_equal(made["labels"], digits.labels[:50:5])
        np.testing.assert_allclose(made["images"] / 127.5 - 1, digits.x[:50:5, ..., 0], atol=1e-6)
    assert seen == [len(digits) - 10_000] and "of MNIST's test set" in capsys.readouterr().out


def test_training_the_classifier_learns_and_repeats():
    """Five hundred digits, eighty steps: far better than the 10 % of guessing, and repeatable."""
    digits = data.digits()
    before = randomness.rng("batch").bit_generator.state, randomness.current()
    first = train_classifier(digits.x[:500], digits.labels[:500], epochs=4, seed=1, batch_size=25)
    assert not first.training
    labels, _ = metrics.classify(first, digits.x[500:800])
    assert (labels == digits.labels[500:800]).mean() > 0.4
    again, third = (train_classifier(digits.x[:100], digits.labels[:100], epochs=1, seed=1, batch_size=25) for _ in "ab")
    for k, v in again.state_dict().items():
        np.testing.assert_array_equal(v, third.state_dict()[k])
    assert before == (randomness.rng("batch").bit_generator.state, randomness.current())
