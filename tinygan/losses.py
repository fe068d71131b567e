"""The two-player objectives, written as their formulas.

D gives one number per sample, a logit d. Its probability that the sample is real is σ(d), but no loss ever sees it:
log σ(d) = −softplus(−d) and log(1 − σ(d)) = −softplus(d) are exact for every d. d_real = D(x), d_fake = D(G(z)). Both players
minimise.

| name           | L_D                                          | L_G                      |
|----------------|----------------------------------------------|--------------------------|
| minimax        | −E log σ(d_real) − E log(1 − σ(d_fake))      | E log(1 − σ(d_fake))     | Goodfellow et al. 2014, eq. 1
| non-saturating | the same                                     | −E log σ(d_fake)         | the same, section 3
| least-squares  | ½ E (d_real − 1)² + ½ E d_fake²              | ½ E (d_fake − 1)²        | Mao et al. 2017, eq. 9
| wasserstein    | E d_fake − E d_real                          | −E d_fake                | Arjovsky et al. 2017, eq. 2
| hinge          | E max(0, 1 − d_real) + E max(0, 1 + d_fake)  | −E d_fake                | Lim & Ye 2017

Minimax saturates: while D rejects all fakes, the slope of log(1 − σ(d)) vanishes and G learns nothing. "wasserstein" needs a critic
that is kept smooth, by `gradient_penalty`.
"""

from typing import NamedTuple

import numpy as np

from .autograd import Tensor, grad
from .backend import device_of, to_device, xp
from .ops import log_softmax, norm, relu, softplus
from .randomness import rng


class Loss(NamedTuple):
    """A two-player objective: discriminator(d_real, d_fake) and generator(d_fake), each logits → a scalar."""

    discriminator: object
    generator: object


def _logistic(d_real, d_fake):
    return softplus(-d_real).mean() + softplus(d_fake).mean()


LOSSES = {
    "minimax": Loss(_logistic, lambda d_fake: -softplus(d_fake).mean()),
    "non-saturating": Loss(_logistic, lambda d_fake: softplus(-d_fake).mean()),
    "least-squares": Loss(lambda d_real, d_fake: 0.5 * ((d_real - 1) ** 2).mean() + 0.5 * (d_fake ** 2).mean(),
                          lambda d_fake: 0.5 * ((d_fake - 1) ** 2).mean()),
    "wasserstein": Loss(lambda d_real, d_fake: d_fake.mean() - d_real.mean(), lambda d_fake: -d_fake.mean()),
    "hinge": Loss(lambda d_real, d_fake: relu(1 - d_real).mean() + relu(1 + d_fake).mean(), lambda d_fake: -d_fake.mean()),
}


def interpolate(real, fake):
    """x̂ = ε x + (1 − ε) G(z) with one ε ~ U(0, 1) *per sample*: where WGAN-GP looks at the slope (Gulrajani et al. 2017, alg. 1).

    real, fake: arrays of one shape (N, ...); ε comes from the random generator 'penalty'.
    """
    if real.shape != fake.shape:
        raise ValueError(f"interpolate: real {real.shape} and fake {fake.shape} must have one shape")
    eps = rng("penalty").random((len(real),) + (1,) * (real.ndim - 1), dtype=np.float32).astype(real.dtype)
    eps = to_device(eps, device_of(real))
    return eps * real + (1 - eps) * fake


def gradient_penalty(critic, x, center=1.0):
    """E (‖∇ₓ D(x)‖₂ − center)², the norm per sample over all its features, as a scalar that can be differentiated again.

    x: an array (N, ...). WGAN-GP: x = interpolate(real, fake), center = 1, weight 10 (Gulrajani et al. 2017, eq. 3).
    R1: x = real, center = 0, weight γ/2 (Mescheder et al. 2018, eq. 9). R2: the same at fake.
    The critic must treat samples one by one: no BatchNorm, or ∇ₓ D mixes samples. Add the penalty to the loss before taking the
    gradient: alone it may not depend on every parameter (the last bias never changes a slope), which `grad` refuses.
    """
    x = Tensor(x)
    slope = grad(critic(x).sum(), x, create_graph=True)         # the sum separates: each D(xₙ) depends on xₙ alone
    slope = slope.reshape((len(x), -1))                         # (N, features)
    if center == 0:
        return (slope ** 2).sum(axis=1).mean()
    return ((norm(slope, axis=1) - center) ** 2).mean()


def bce_with_logits(logits, target):
    """−E [t log σ(d) + (1 − t) log(1 − σ(d))] = E [softplus(d) − t d]; logits and targets t ∈ [0, 1] of one shape."""
    if logits.shape != target.shape:
        raise ValueError(f"bce_with_logits: logits {logits.shape} and targets {target.shape} must have one shape "
                         "(broadcasting (N, 1) against (N,) would compare every sample with every other)")
    if not ((target >= 0) & (target <= 1)).all():
        raise ValueError("bce_with_logits: targets must be in [0, 1]")
    return (softplus(logits) - target.astype(logits.dtype) * logits).mean()


def cross_entropy(logits, labels):
    """−E log softmax(logits)[label]: logits (N, K), integer labels (N,) in 0..K−1."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"cross_entropy: expected logits (N, K) and N integer labels, got {logits.shape} and "
                         f"{labels.shape} {labels.dtype}")
    if not ((labels >= 0) & (labels < logits.shape[1])).all():
        raise ValueError(f"cross_entropy: labels must be in 0..{logits.shape[1] - 1}, got {labels.min()}..{labels.max()}")
    rows = xp(labels).arange(labels.shape[0])
    return -log_softmax(logits)[rows, labels].mean()
