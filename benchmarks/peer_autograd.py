"""The MLP workloads in HIPS autograd, the library whose idea tinygan's tape is closest to (pip install -e ".[peers]").

G's backward pass is kept open while D is updated (`make_vjp`), so the fake batch is made once. Adam is plain NumPy, in place.
"""

import math

import autograd.numpy as anp
import numpy as np
from autograd import grad
from autograd.core import make_vjp
from autograd.tracer import getval
from workloads import BETAS, LR


def softplus(x):
    """log(1 + eˣ)."""
    return anp.logaddexp(x, np.float32(0))


def mean(x):
    """The mean in x's own precision; the gradient of `anp.mean` is float64."""
    return anp.sum(x) * np.float32(1 / x.size)


def mlp(params, x, end):
    """Linear layers with LeakyReLU(0.2) between."""
    for i in range(0, len(params), 2):
        x = anp.dot(x, params[i]) + params[i + 1]
        if i + 2 < len(params):
            x = x * np.where(getval(x) > 0, np.float32(1), np.float32(0.2))
    return end(x)


class Adam:
    """Adam on a list of arrays, in place."""

    def __init__(self, params):
        self.params, self.t = params, 0
        self.state = [(np.zeros_like(p), np.zeros_like(p)) for p in params]

    def step(self, grads):
        """Move every array by its gradient."""
        (b1, b2), self.t = BETAS, self.t + 1
        root = math.sqrt(1 - b2 ** self.t)
        for p, g, (m, v) in zip(self.params, grads, self.state, strict=True):
            m += (1 - b1) * (g - m)
            v += (1 - b2) * (g * g - v)
            p -= LR * root / (1 - b1 ** self.t) * m / (np.sqrt(v) + 1e-8 * root)


def make(w, device="cpu"):
    """A function that runs one training step of the workload."""
    if w.net != "mlp" or device != "cpu":
        raise NotImplementedError("autograd has no convolution worth timing and no GPU")
    rng, features = np.random.default_rng(0), math.prod(w.shape)

    def network(sizes):
        params = []
        for a, b in zip(sizes, sizes[1:]):  # noqa: B905
            params += [rng.uniform(-1, 1, (a, b)).astype(np.float32) / np.float32(math.sqrt(a)), np.zeros(b, np.float32)]
        return params
    end = anp.tanh if len(w.shape) > 1 else lambda x: x
    theta_g, theta_d = network((w.latent, *w.g, features)), network((features, *w.d, 1))
    opt_g, opt_d = Adam(theta_g), Adam(theta_d)
    real = rng.uniform(-1, 1, (w.batch, features)).astype(np.float32)

    def d(theta, x):
        return mlp(theta, x, lambda y: y)

    def loss_d(theta, fake, eps):
        d_real, d_fake = d(theta, real), d(theta, fake)
        if w.loss == "wasserstein":
            loss = mean(d_fake) - mean(d_real)
        else:
            loss = mean(softplus(-d_real)) + mean(softplus(d_fake))
        if w.penalty:
            slope = grad(lambda x: anp.sum(d(theta, x)))(eps * real + (1 - eps) * fake)
            off = anp.sqrt(anp.sum(slope * slope, axis=1)) - 1
            loss = loss + 10 * mean(off * off)
        return loss

    def loss_g(fake, theta):
        logits = d(theta, fake)
        return -mean(logits) if w.loss == "wasserstein" else mean(softplus(-logits))

    def step():
        z = rng.standard_normal((w.batch, w.latent), dtype=np.float32)
        backward, fake = make_vjp(lambda theta: mlp(theta, z, end), theta_g)
        opt_d.step(grad(loss_d)(theta_d, fake, rng.random((w.batch, 1), dtype=np.float32)))
        opt_g.step(backward(grad(loss_g)(fake, theta_d)))
    return step
