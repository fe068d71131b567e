"""The layers work beyond GANs: a small classifier made of them reads MNIST's test set."""

import pytest

from tinygan import data, metrics


def mnist(split):
    try:
        return data.mnist(split)
    except data.DownloadError as e:
        pytest.skip(f"MNIST is nowhere to be had: {e}")


@pytest.mark.slow
def test_a_classifier_reads_98_percent_of_mnists_test_set():
    """Convolution, pooling, linear layers, dropout, cross-entropy, Adam: trained on one set, judged on the other."""
    train, test = mnist("train"), mnist("test")
    module = metrics.train_classifier(train.x, train.labels)
    labels, confidence = metrics.classify(module, test.x)
    right = (labels == test.labels).mean()
    shares = metrics.class_shares(labels, confidence)
    print(f"\nright on {right:.2%} of MNIST's test set; sure (>= 0.9) about {shares.confident:.2%}, "
          f"rarest class {shares.smallest:.2%}")
    assert right >= 0.98
    assert shares.confident > 0.9 and 0.08 < shares.smallest < 0.1
    assert (labels == test.labels)[confidence >= 0.9].mean() > 0.99, "where it is sure, it is right"
