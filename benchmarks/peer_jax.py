"""The workloads in JAX, the whole training step compiled as one function (pip install -e ".[peers]").

Images are (N, H, W, C) as here; parameters and moments are updated in place (`donate_argnums`). BatchNorm's running averages are
left out. The first call compiles, which is not timed.
"""

import math
import os

if os.environ.get("BENCH_THREADS") == "1":
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from workloads import BETAS, LR


def linear(a, b, bias=True):
    """(parameters, function) of y = x W + b."""
    def init(rng):
        return [rng.uniform(-1, 1, (a, b)) / math.sqrt(a)] + ([np.zeros(b)] if bias else [])
    return init, lambda p, x: x @ p[0] + p[1] if bias else x @ p[0]


DOWN = dict(window_strides=(2, 2), padding=((1, 1), (1, 1)))
UP = dict(window_strides=(1, 1), padding=((2, 2), (2, 2)), lhs_dilation=(2, 2))     # DOWN, transposed


def conv(c, o, how, bias=True):
    """Convolution, kernel 4, stride 2, padding 1, or the transposed one."""
    def init(rng):
        return [0.02 * rng.standard_normal((4, 4, c, o))] + ([np.zeros(o)] if bias else [])

    def apply(p, x):
        y = lax.conv_general_dilated(x, p[0], **how, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + p[1] if bias else y
    return init, apply


def batch_norm(c):
    """Batch normalisation with the batch's statistics."""
    def apply(p, x):
        axes = tuple(range(x.ndim - 1))
        mean, var = x.mean(axes), x.var(axes)
        return (x - mean) * (lax.rsqrt(var + 1e-5) * p[0]) + p[1]
    return lambda rng: [np.ones(c), np.zeros(c)], apply


def plain(function):
    """A layer without parameters."""
    return lambda rng: [], lambda p, x: function(x)


LEAKY, RELU, TANH = plain(lambda x: jnp.maximum(x, 0.2 * x)), plain(lambda x: jnp.maximum(x, 0)), plain(jnp.tanh)
FLAT = plain(lambda x: x.reshape(len(x), -1))


def mlp(sizes, end=()):
    """Linear layers with LeakyReLU(0.2) between."""
    layers = []
    for a, b in zip(sizes, sizes[1:]):  # noqa: B905
        layers += [linear(a, b), LEAKY]
    return [*layers[:-1], *end]


def networks(w):
    """(G, D) of the workload, as lists of layers."""
    features = math.prod(w.shape)
    if w.net == "mlp":
        return mlp((w.latent, *w.g, features), (TANH,) if len(w.shape) > 1 else ()), mlp((features, *w.d, 1))
    (times, size), channels, width = w.levels(), w.shape[2], w.g[0]
    c = width * 2 ** (times - 1)
    g = [linear(w.latent, size * size * c, bias=False), plain(lambda x, c=c: x.reshape(-1, size, size, c)), batch_norm(c), RELU]
    for _ in range(times - 1):
        g += [conv(c, c // 2, UP, bias=False), batch_norm(c // 2), RELU]
        c //= 2
    g += [conv(c, channels, UP), TANH]
    d = [conv(channels, width, DOWN), LEAKY]
    c = width
    for _ in range(times - 1):
        d += [conv(c, 2 * c, DOWN, bias=w.penalty), *([] if w.penalty else [batch_norm(2 * c)]), LEAKY]
        c *= 2
    return g, [*d, FLAT, linear(size * size * c, 1)]


def run(layers, params, x):
    """The network's output."""
    for (_, apply), p in zip(layers, params, strict=True):
        x = apply(p, x)
    return x


def adam(theta, g, state):
    """(θ, state) after one step of Adam, state = (m, v, t)."""
    (b1, b2), (m, v, t) = BETAS, state
    t = t + 1
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, g)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, g)
    root = jnp.sqrt(1 - b2 ** t)
    theta = jax.tree.map(lambda p, m, v: p - LR * root / (1 - b1 ** t) * m / (jnp.sqrt(v) + 1e-8 * root), theta, m, v)
    return theta, (m, v, t)


def make(w, device="cpu"):
    """A function that runs one training step of the workload."""
    if jax.default_backend() != device:
        raise NotImplementedError(f"JAX runs on {jax.default_backend()} here")
    rng = np.random.default_rng(0)
    g, d = networks(w)
    pg, pd = ([[jnp.asarray(p, jnp.float32) for p in init(rng)] for init, _ in net] for net in (g, d))
    shape = (w.batch, *w.shape) if w.net == "conv" else (w.batch, math.prod(w.shape))
    real = jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32)

    def loss_d(pd, real, fake, key):
        d_real, d_fake = run(d, pd, real), run(d, pd, fake)
        if w.loss == "wasserstein":
            loss = d_fake.mean() - d_real.mean()
        else:
            loss = jax.nn.softplus(-d_real).mean() + jax.nn.softplus(d_fake).mean()
        if w.penalty:
            eps = jax.random.uniform(key, (w.batch,) + (1,) * (real.ndim - 1))
            slope = jax.grad(lambda x: run(d, pd, x).sum())(eps * real + (1 - eps) * fake)
            loss = loss + 10 * ((jnp.sqrt((slope.reshape(w.batch, -1) ** 2).sum(1)) - 1) ** 2).mean()
        return loss

    def loss_g(fake, pd):
        logits = run(d, pd, fake)
        return -logits.mean() if w.loss == "wasserstein" else jax.nn.softplus(-logits).mean()

    def step(real, pg, pd, sg, sd, key):
        key, kz, ke = jax.random.split(key, 3)
        z = jax.random.normal(kz, (w.batch, w.latent))
        fake, backward = jax.vjp(lambda p: run(g, p, z), pg)
        pd, sd = adam(pd, jax.grad(loss_d)(pd, real, fake, ke), sd)
        pg, sg = adam(pg, backward(jax.grad(loss_g)(fake, pd))[0], sg)
        return pg, pd, sg, sd, key

    compiled = jax.jit(step, donate_argnums=(1, 2, 3, 4, 5))
    start = [(jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p), jnp.float32(0)) for p in (pg, pd)]
    state = [pg, pd, *start, jax.random.key(0)]

    def train():
        state[:] = jax.block_until_ready(compiled(real, *state))
    return train
