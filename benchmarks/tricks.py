"""What each fast path saves: the plain version and the fast one, side by side, in turns.

    python benchmarks/tricks.py            about half a minute

Docstrings quote these figures where the fast path stands. A trick that no longer pays shows here, and goes.
"""

import statistics
import subprocess
import sys
import time

import numpy as np

CHAIN = """
import time, statistics, numpy as np
x, times = np.ones((64, 14, 14, 64), np.float32), []
for _ in range(30):
    start, kept = time.perf_counter(), [x]
    for _ in range(6): kept.append(kept[-1] * 1.01)         # forward: everything is kept
    g = x
    for y in reversed(kept): g = g * y                      # backward
    del kept, y
    times.append(time.perf_counter() - start)
print(statistics.median(times))
"""


def compare(name, plain, fast, repeats=30):
    """Print the median milliseconds of both and their ratio."""
    times = {plain: [], fast: []}
    for _ in range(repeats):
        for f, t in times.items():
            start = time.perf_counter()
            f()
            t.append(time.perf_counter() - start)
    a, b = (1e3 * statistics.median(t) for t in times.values())
    print(f"| {name} | {a:.2f} | {b:.2f} | {a / b:.1f} |", flush=True)


def main():
    """Print the table."""
    print("| fast path | plain, ms | fast, ms | times faster |\n|---|---|---|---|")
    a, b = (1e3 * float(subprocess.run([sys.executable, "-c", first + CHAIN], capture_output=True, text=True, check=True).stdout)
            for first in ("", "import tinygan"))
    print(f"| keeping freed memory: 13 products of (64, 14, 14, 64), kept | {a:.2f} | {b:.2f} | {a / b:.1f} |", flush=True)

    from tinygan import conv, ops
    from tinygan.autograd import sum_rows
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 14, 14, 64), dtype=np.float32)
    scale, shift, axes = np.ones(64, np.float32), np.zeros(64, np.float32), (0, 1, 2)

    def normalize():        # of the x, scale and shift of the moment
        d = x - x.mean(axis=axes)
        return d * ((d * d).mean(axis=axes) + 1e-5) ** -0.5 * scale + shift

    compare("autograd.sum_rows: a product with ones, (64, 14, 14, 64)", lambda: x.sum(axis=axes), lambda: sum_rows(x))
    compare("ops.leaky_relu's rule: a product with the mask", lambda: np.where(x > 0, x, 0.2 * x), lambda: x * ops._slope(x, 0.2))
    x, scale, shift = rng.standard_normal((32, 14, 14, 16), dtype=np.float32), scale[:16], shift[:16]
    compare("ops.normalize: joined rows, sums as products, (32, 14, 14, 16)", normalize,
            lambda: ops.normalize.forward(x, scale, shift, axis=axes))
    image, w = rng.standard_normal((32, 28, 28, 1), dtype=np.float32), rng.standard_normal((4, 4, 1, 16), dtype=np.float32)
    how = dict(stride=2, padding=1)
    compare("conv.conv2d: one channel as planes, (32, 28, 28, 1)",
            lambda: conv.unfold(image, kernel=(4, 4), **how).reshape(-1, 16) @ w.reshape(16, 16),
            lambda: conv.conv2d(image, w, **how))
    for n, o, c in ((64, 128, 64), (32, 32, 16)):
        g, w = rng.standard_normal((n, 7, 7, o), dtype=np.float32), rng.standard_normal((4, 4, c, o), dtype=np.float32)
        compare(f"conv.conv2d_transpose: sub-pixels, ({n}, 7, 7, {o}) to {c} channels",
                lambda g=g, w=w, c=c: conv.fold((g.reshape(-1, w.shape[3]) @ w.reshape(-1, w.shape[3]).T).reshape(
                    -1, 7, 7, 4, 4, c), size=(14, 14), **how),
                lambda g=g, w=w: conv.conv2d_transpose(g, w, size=(14, 14), **how))
    x = rng.standard_normal((32, 28, 28, 64), dtype=np.float32)
    pool = dict(kernel=(2, 2), stride=(2, 2), padding=(0, 0))
    y = conv.max_pool(x, **pool)
    compare("conv.max_pool's rule: tap by tap, (32, 28, 28, 64)", lambda: conv.max_pool.rules[0](y, y, x, **pool),
            lambda: conv.max_pool.fast(y, y, None, [True], x, **pool))


if __name__ == "__main__":
    main()
