"""The two-player objectives and the gradient penalties, written as their formulas.

D gives one number per sample, a logit d. Both players minimise. With r = D(x) and f = D(G(z)):

| name                 | L_D                                      | L_G                       | see
|----------------------|------------------------------------------|---------------------------|-----
| minimax              | −E log σ(r) − E log(1 − σ(f))            | E log(1 − σ(f))           | 1
| non-saturating       | the same                                 | −E log σ(f)               | 1
| least-squares        | ½ E (r − 1)² + ½ E f²                    | ½ E (f − 1)²              | 2
| wasserstein          | E f − E r                                | −E f                      | 3
| hinge                | E max(0, 1 − r) + E max(0, 1 + f)        | −E f                      | 4
| relativistic         | −E log σ(r − f)                          | −E log σ(f − r)           | 5
| relativistic-average | −E log σ(r − E f) − E log σ(E r − f)     | L_D with r and f swapped  | 5

1 Goodfellow et al. 2014, eq. 1 and section 3. 2 Mao et al. 2017, eq. 9. 3 Arjovsky et al. 2017,
eq. 2 and 3. 4 Lim & Ye 2017. 5 Jolicoeur-Martineau 2019, section 4.

No loss ever sees a probability: log σ(d) = −softplus(−d) and log(1 − σ(d)) = −softplus(d) are
exact for every d. Minimax saturates: while D rejects all fakes, the slope of log(1 − σ(f)) vanishes
and G learns nothing. "wasserstein" needs a critic that is kept smooth, by a penalty or by clipping.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from .autograd import Tensor, grad
from .backend import device_of, to_device, xp
from .checks import number
from .ops import log_softmax, norm, relu, softplus
from .randomness import rng


class Loss(NamedTuple):
    """A two-player objective: two functions from logits to a scalar, and two facts about them.

    discriminator(d_real, d_fake). generator(d_fake), or generator(d_fake, d_real) if `paired`: then
    G's loss looks at real samples too. probability: σ(logit) is D's probability that a sample is
    real, so σ is what is logged and drawn; else it is the logit itself.
    """

    discriminator: object
    generator: object
    paired: bool = False
    probability: bool = True


def _logistic(r, f):
    return softplus(-r).mean() + softplus(f).mean()


def _average(r, f):
    return softplus(f.mean() - r).mean() + softplus(f - r.mean()).mean()


LOSSES = {
    "minimax": Loss(_logistic, lambda f: -softplus(f).mean()),
    "non-saturating": Loss(_logistic, lambda f: softplus(-f).mean()),
    "least-squares": Loss(lambda r, f: 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f ** 2).mean(),
                          lambda f: 0.5 * ((f - 1) ** 2).mean(), probability=False),
    "wasserstein": Loss(lambda r, f: f.mean() - r.mean(), lambda f: -f.mean(), probability=False),
    "hinge": Loss(lambda r, f: relu(1 - r).mean() + relu(1 + f).mean(), lambda f: -f.mean(),
                  probability=False),
    "relativistic": Loss(lambda r, f: softplus(f - r).mean(), lambda f, r: softplus(r - f).mean(),
                         paired=True, probability=False),
    "relativistic-average": Loss(_average, lambda f, r: _average(f, r), True, False),
}


def smoothed(t=0.9):
    """Non-saturating, but D's target is t and not 1 on real samples (Salimans et al. 2016, 3.4).

    L_D = −E [t log σ(r) + (1 − t) log(1 − σ(r))] − E log(1 − σ(f)). The best D is never sure: it
    has σ(d) = t p_r / (p_r + p_f), with p_r and p_f the densities of real and fake samples.
    """
    if not 0 < t <= 1:
        raise ValueError(f"smoothed: the target t must be in (0, 1], got {t!r}")
    return LOSSES["non-saturating"]._replace(
        discriminator=lambda r, f: (softplus(r) - t * r).mean() + softplus(f).mean())


# --------------------------------------------------------------------------- penalties on D's slope


def _uniform(real, shape):
    """Numbers ~ U(0, 1) of the samples' type and device, from the random generator 'penalty'."""
    if real.dtype.kind != "f":
        raise ValueError("gradient penalty: expected real samples of floating-point numbers, got "
                         f"{real.dtype}; convert them first: x.astype('float32')")
    u = rng("penalty").random(shape, dtype=np.float32).astype(real.dtype)
    return to_device(u, device_of(real))


def interpolate(real, fake):
    """x̂ = ε x + (1 − ε) G(z) with one ε ~ U(0, 1) *per sample* (Gulrajani et al. 2017, alg. 1)."""
    if real.shape != fake.shape:
        raise ValueError(f"interpolate: real {real.shape} and fake {fake.shape} differ in shape")
    eps = _uniform(real, (len(real),) + (1,) * (real.ndim - 1))
    return eps * real + (1 - eps) * fake


def gradient_penalty(critic, x, center=1.0, one_sided=False):
    """E (‖∇ₓ D(x)‖₂ − center)², the norm per sample over all its features, as a scalar Tensor.

    It can be differentiated again. x: an array (N, ...). one_sided: E max(0, ‖∇ₓ D‖ − center)², so
    that only steep slopes count. The critic must treat samples one by one: no BatchNorm, or ∇ₓ D
    mixes samples. Add the penalty to the loss before taking the gradient: alone it may not depend
    on every parameter (the last bias never changes a slope), which `grad` refuses.
    """
    x = Tensor(x)
    slope = grad(critic(x).sum(), x, create_graph=True)     # each D(xₙ) depends on xₙ alone
    slope = slope.reshape((len(x), -1))                     # (N, features)
    if center == 0:                 # ‖·‖² needs no square root, whose slope at 0 is infinite
        return (slope ** 2).sum(axis=1).mean()
    excess = norm(slope, axis=1) - center                   # (N,); norm's own slope at 0 is 0
    return ((relu(excess) if one_sided else excess) ** 2).mean()


WHERE = {
    "real": lambda real, fake: real,
    "fake": lambda real, fake: fake,
    "between": interpolate,
    "around": lambda real, fake: real + 0.5 * real.std() * _uniform(real, real.shape),
}


def penalty(where, center, weight=10.0, one_sided=False):
    """weight · E (‖∇D(x)‖ − center)² as a function (D, real, fake) → scalar, to be added to L_D.

    where: 'real', 'fake', 'between' the two, or 'around' the real samples, x + ½ s u with s their
    standard deviation and u ~ U(0, 1) for every value. The papers' choices:

        wgan_gp(weight)       between  1             Gulrajani et al. 2017, eq. 3; weight λ
        wgan_lp(weight)       between  1, one-sided  Petzka et al. 2018, eq. 8
        dragan(weight)        around   1             Kodali et al. 2017
        zero_centred(weight)  between  0             Thanh-Tung et al. 2019
        r1(gamma), r2(gamma)  real, fake  0          Mescheder et al. 2018, eq. 9 and 10; weight γ/2
    """
    if where not in WHERE:
        raise ValueError(f"penalty: where must be one of {', '.join(WHERE)}, got {where!r}")
    center, weight = (number(f"penalty: {name}", value, 0, np.inf)
                      for name, value in (("center", center), ("weight", weight)))

    def term(d, real, fake):
        return weight * gradient_penalty(d, WHERE[where](real, fake), center, one_sided)
    term.per_sample = True          # `GAN` refuses it for a D with BatchNorm
    return term


wgan_gp = partial(penalty, "between", 1.0)
wgan_lp = partial(penalty, "between", 1.0, one_sided=True)
dragan = partial(penalty, "around", 1.0)
zero_centred = partial(penalty, "between", 0.0)


def r1(gamma=1.0):
    """γ/2 · E ‖∇D‖² at real samples, see `penalty`."""
    return penalty("real", 0.0, gamma / 2)


def r2(gamma=1.0):
    """γ/2 · E ‖∇D‖² at fake samples, see `penalty`."""
    return penalty("fake", 0.0, gamma / 2)


# -------------------------------------------------------------------------- losses of classifiers


def bce_with_logits(logits, target):
    """−E [t log σ(d) + (1 − t) log(1 − σ(d))] = E [softplus(d) − t d].

    Logits and targets t ∈ [0, 1] of one shape.
    """
    if logits.shape != target.shape:            # (N, 1) against (N,) would compare all with all
        raise ValueError(f"bce_with_logits: logits {logits.shape} and targets {target.shape} must "
                         "have one shape")
    if not ((target >= 0) & (target <= 1)).all():
        raise ValueError("bce_with_logits: targets must be in [0, 1]")
    return (softplus(logits) - target.astype(logits.dtype) * logits).mean()


def cross_entropy(logits, labels):
    """−E log softmax(logits)[label]: logits (N, K), integer labels (N,) in 0..K−1."""
    if not hasattr(labels, "dtype"):
        labels = to_device(np.asarray(labels), device_of(logits.data))
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"cross_entropy: expected logits (N, K) and N integer labels, got "
                         f"{logits.shape} and {labels.shape} {labels.dtype}")
    if not ((labels >= 0) & (labels < logits.shape[1])).all():
        raise ValueError(f"cross_entropy: labels must be in 0..{logits.shape[1] - 1}, "
                         f"got {labels.min()}..{labels.max()}")
    rows = xp(labels).arange(labels.shape[0])
    return -log_softmax(logits)[rows, labels].mean()
