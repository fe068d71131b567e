"""Makes tinygan/classifier.npz, the classifier of digits that comes with the package.

    TINYGAN_DATA=DIR python benchmarks/make_classifier.py      # DIR/mnist holds MNIST's files

It is trained on MNIST's training images 10,000 to 59,999. The first 10,000 are the bundled
digits, on which GANs train; the test set is held out. The file holds the weights as float16,
every fifth test image with its label, and the share of the whole test set that the classifier
reads right.
"""

from pathlib import Path

import numpy as np

from tinygan import Randomness, classifier, data, grad, losses
from tinygan.optim import Adam

FILE = Path(classifier.__file__).with_name("classifier.npz")


def train_classifier(images, labels, epochs=5, seed=0, batch_size=100):
    """A `digit_classifier` trained on images (N, 28, 28, 1) and labels (N,), in evaluation mode.

    Adam, the rate falling linearly to 0. Draws from generators of its own, made from `seed`.
    """
    with Randomness(seed) as randomness:
        module = classifier.digit_classifier()
        optimizer = Adam(module.parameters(), lr=2e-3)
        rate, per_epoch = optimizer.lr, len(images) // batch_size
        for epoch in range(epochs):
            order = randomness.rng("batch").permutation(len(images))
            for i in range(per_epoch):
                pick = order[i * batch_size:(i + 1) * batch_size]
                loss = losses.cross_entropy(module(images[pick]), labels[pick])
                optimizer.lr = rate * (1 - (epoch + i / per_epoch) / epochs)
                optimizer.step(grad(loss, optimizer.params))
    return module.eval()


def main(path=FILE, epochs=5):
    """Train, measure and save."""
    train, test = data.mnist("train"), data.mnist("test")
    module = train_classifier(train.x[10_000:], train.labels[10_000:], epochs)
    weights = {name: v.astype(np.float16) for name, v in module.state_dict().items()}
    module.load_state_dict(weights)
    accuracy = (classifier.classify(module, test.x)[0] == test.labels).mean()
    images = np.rint((test.x[::5, ..., 0] + 1) * 127.5).astype(np.uint8)    # from every writer
    np.savez_compressed(path, **weights, images=images, labels=test.labels[::5].astype(np.uint8),
                        accuracy=accuracy)
    print(f"right on {accuracy:.2%} of MNIST's test set; {path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
