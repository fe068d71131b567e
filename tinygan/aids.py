"""What papers have added to the game, each as the layer, the term or the hook that it is.

A term is a function (gan, Round) → scalar that is added to a player's loss, see `train.GAN`.
"""

import numpy as np

from . import ops
from .autograd import data_of, grad
from .backend import xp
from .checks import number, whole
from .losses import cross_entropy
from .nn import Conv2d, ConvTranspose2d, Embedding, Linear, Module
from .optim import Adam
from .randomness import rng


def _places(module):
    """(container, key, value) of all that a Module's parts hold, in lists and dicts too."""
    boxes = [vars(part) for part in module.modules()]
    while boxes:
        box = boxes.pop()
        for key, value in list(box.items() if isinstance(box, dict) else enumerate(box)):
            yield box, key, value
            if isinstance(value, (list, dict)):
                boxes.append(value)


def call(module, parameters, *inputs):
    """module(*inputs), computed with other parameters: {dotted name: Tensor}, of the same shapes.

    Names are those of `module.named_parameters()`; what is not mentioned is used as it is. The
    gradient flows into the given Tensors, so they may come from an update that is on the tape:

        new = {name: p - lr * g for (name, p), g in zip(net.named_parameters().items(), slopes)}
        call(net, new, x)
    """
    own = module.named_parameters()
    for name, value in parameters.items():
        if name not in own or value.shape != own[name].shape:
            raise ValueError(f"call: the module has no parameter {name} of shape {value.shape}, "
                             f"but { {k: p.shape for k, p in own.items()} }")
    new = {id(own[name]): value for name, value in parameters.items()}
    places = [place for place in _places(module) if id(place[2]) in new]
    if {id(p) for _, _, p in places} < new.keys():
        raise ValueError("call: a parameter in a tuple cannot be replaced; keep it in a list")
    try:
        for box, key, p in places:
            box[key] = new[id(p)]
        return module(*inputs)
    finally:
        for box, key, p in places:
            box[key] = p


class SpectralNorm(Module):
    """A layer whose weight W is divided by its largest singular value: one of `LAYERS`.

    W is read as a matrix, all else by output channels; an Embedding's is that of a Linear on
    one-hot labels, so that no row is longer than 1. In training each pass makes one step of the
    power method, v ← W u / ‖W u‖, u ← Wᵀ v / ‖Wᵀ v‖. Then σ = vᵀ W u, where u and v count as
    constants and W does not (Miyato et al. 2018, algorithm 1). Check gradients in evaluation mode,
    where u and v stay as they are.
    """

    LAYERS = (Linear, Conv2d, ConvTranspose2d, Embedding)

    def __init__(self, layer):
        if not isinstance(layer, self.LAYERS):
            raise TypeError("SpectralNorm: expected a Linear, Conv2d, ConvTranspose2d or "
                            f"Embedding, got {type(layer).__name__}")
        self.layer = layer
        # ConvTranspose2d keeps its weight as (kh, kw, out, in), the others as (..., out).
        self.axis = 2 if isinstance(layer, ConvTranspose2d) else layer.weight.ndim - 1
        out = layer.weight.shape[self.axis]
        self.u = _unit(rng("init").standard_normal(out).astype(layer.weight.dtype))
        self.advance(self.matrix().data)

    def matrix(self):
        """The weight as a matrix (rest, output channels)."""
        w = self.layer.weight
        return w.swapaxes(self.axis, w.ndim - 1).reshape((-1, w.shape[self.axis]))

    def advance(self, w):
        """One step of the power method: new arrays, because the tape may hold the old ones."""
        self.v = _unit(w @ self.u)
        self.u = _unit(w.T @ self.v)

    def forward(self, x):
        matrix = self.matrix()
        if self.training:
            self.advance(matrix.data)
        sigma = self.v @ (matrix @ self.u)
        return call(self.layer, {"weight": self.layer.weight / sigma}, x)

    @classmethod
    def everywhere(cls, module):
        """Put every such layer of a network into a SpectralNorm, in place. Returns the network.

        Embeddings stay as they are: the slope in x is only made steeper by rows that x multiplies.
        """
        done = [m.layer for m in module.modules() if isinstance(m, cls)]
        for box, key, part in list(_places(module)):
            wanted = isinstance(part, cls.LAYERS) and not isinstance(part, Embedding)
            if wanted and part not in done:
                box[key] = cls(part)
        return module


def _unit(x):
    return x / (xp(x).sqrt((x * x).sum()) + 1e-12)


class MinibatchStd(Module):
    """One more channel, which says how much the batch varies: (N, ..., C) → (N, ..., C + 1).

    It holds everywhere the features' mean standard deviation over the batch, so that D sees a
    generator repeat itself (Karras et al. 2018, section 3).
    """

    def forward(self, x):
        spread = ops.sqrt(x.var(axis=0) + 1e-8).mean()
        plane = spread * xp(data_of(x)).ones((*x.shape[:-1], 1), x.dtype)
        return ops.concatenate(x, plane, axis=-1)


def feature_matching(weight=1.0):
    """For G: weight · ‖E h(x) − E h(G(z))‖², h = D.features (Salimans et al. 2016, section 3.1)."""
    def term(gan, r):
        h_real, h_fake = (gan.d.features(x, *r.given).mean(axis=0) for x in (r.real, r.fake))
        return weight * ((h_real - h_fake) ** 2).sum()
    return term


def auxiliary(where, weight=1.0):
    """−weight · E log P(label | x) by D.classify, with x the 'real' or the 'fake' samples.

    Both belong to D's loss, the second to G's as well (Odena et al. 2017, eq. 3):

        GAN(..., terms_d=(auxiliary("real"), auxiliary("fake")), terms_g=(auxiliary("fake"),))
    """
    if where not in ("real", "fake"):
        raise ValueError(f"auxiliary: where must be 'real' or 'fake', got {where!r}")
    return lambda gan, r: weight * cross_entropy(gan.d.classify(getattr(r, where)), r.given[0])


def coded(noise, categories):
    """A function n → latents (n, noise + categories): noise ~ N(0, 1) and a random one-hot code."""
    def latent(n):
        z = rng("latent").standard_normal((n, noise), dtype=np.float32)
        code = np.eye(categories, dtype=np.float32)[rng("code").integers(categories, size=n)]
        return np.concatenate([z, code], axis=1)
    return latent


def information(categories, weight=1.0):
    """For G: −weight · E log Q(c | G(z)), c the code at the end of z (Chen et al. 2016, eq. 5).

    Q is the GAN's extra network of that name. It reads D's features and learns along with G:

        GAN(G, D, coded(16, 10), extra_g={"q": Linear(128, 10)}, terms_g=(information(10),))
    """
    def term(gan, r):
        guess = gan.extras["q"](gan.d.features(r.fake))
        return weight * cross_entropy(guess, r.z[:, -categories:].argmax(axis=1))
    return term


def clip_weights(limit=0.01):
    """For `after_d`: every weight of D into [−limit, limit] (Arjovsky et al. 2017, algorithm 1)."""
    limit = number("clip_weights: limit", limit, 0, np.inf, above=True)

    def clip(gan):
        for p in gan.d.parameters():
            xp(p.data).clip(p.data, -limit, limit, out=p.data)
            p.touch()
    return clip


def unrolled(steps, lr=None):
    """For `judge`: G plays against the D that `steps` more moves would make. D itself stays.

    θₖ₊₁ = θₖ − lr ∂L_D/∂θₖ, or without `lr` as D's own Adam goes on from where it is. G's gradient
    flows through every θₖ (Metz et al. 2017, eq. 7). There G plays for −L_D(θₖ) with both its
    terms, since D(real) depends on G now: a `paired` Loss, as in benchmarks/reproduce/veegan.py.
    """
    steps = whole("unrolled: steps", steps, 0)
    lr = lr if lr is None else number("unrolled: lr", lr, 0, np.inf, above=True)

    def judge(gan, r):
        learns, seen = {*map(id, gan.opt_d.params)}, (gan.see(r.real), gan.see(r.fake))
        theta = {k: p for k, p in gan.d.named_parameters().items() if id(p) in learns}
        move = (lambda slopes: [lr * g for g in slopes]) if lr else _adam(gan.opt_d, theta.values())
        for _ in range(steps):
            loss = gan.loss.discriminator(*(call(gan.d, theta, x, *r.given) for x in seen))
            slopes = grad(loss, list(theta.values()), create_graph=True)
            theta = {k: p - d for (k, p), d in zip(theta.items(), move(slopes), strict=True)}
        return lambda x: call(gan.d, theta, x, *r.given)
    return judge


def _adam(opt, params):
    """A function slopes → η m̂ / √(v̂ + ε²) of each, on the tape: Adam's next moves, one per call.

    m and v start as the optimiser's, which stay. ε is under the root, whose slope at 0 is infinite.
    """
    if not isinstance(opt, Adam):
        raise TypeError(f"unrolled: D's optimiser is no Adam but {type(opt).__name__}; give a lr")
    place = {id(p): i for i, p in enumerate(opt.params)}
    m, v = ([slot[place[id(p)]] for p in params] for slot in opt.memory)
    (b1, b2), ahead = opt.betas, 0

    def move(slopes):
        nonlocal m, v, ahead
        ahead += 1
        m, v = ([b1 * a + g for a, g in zip(m, slopes, strict=True)],
                [b2 * a + g * g for a, g in zip(v, slopes, strict=True)])
        n1, n2 = opt.counts(ahead)
        return [opt.lr / n1 * a / ops.sqrt(b / n2 + opt.eps ** 2)
                for a, b in zip(m, v, strict=True)]
    return move
