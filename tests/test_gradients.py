"""The gradient suite: every property of table.py for every op, and random programs made of ops."""

import inspect
import itertools

import numpy as np
import pytest
import table
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from table import KINKS, ON_EVERY_DEVICE, OPS, PROPERTIES, ROWS, Case, draw, tally

from tinygan import losses, nn, ops
from tinygan.autograd import Tensor, grad
from tinygan.backend import to_device
from tinygan.checks import pair
from tinygan.gradcheck import check, check_module
from tinygan.randomness import seed


@pytest.fixture(autouse=True)
def warnings_are_errors(recwarn):
    """No op may warn at an ordinary point: neither forwards nor backwards, at either order."""
    np_state = np.seterr(all="warn", under="ignore")
    yield
    np.seterr(**np_state)
    assert not recwarn.list, [str(w.message) for w in recwarn.list]


def test_every_op_has_a_row():
    """An op cannot be added without entering the table; neither can a function made of ops."""
    assert not OPS.keys() - ROWS.keys(), f"ops without a row in tests/table.py: {sorted(OPS.keys() - ROWS.keys())}"
    helpers = {"output_size", "pooled_size", "sign", "axes_of", "count", "deviation", "may_repeat", "data_of", "op",
               "no_grad", "features_shape"}      # no derivative
    composites = {name for module in table.MODULES for name, f in vars(module).items()
                  if inspect.isfunction(f) and f.__module__ == module.__name__
                  and not name.startswith("_")} - helpers
    assert not composites - ROWS.keys(), f"functions without a row in tests/table.py: {sorted(composites - ROWS.keys())}"


@pytest.mark.parametrize("prop", ON_EVERY_DEVICE, ids=lambda p: p.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_property(name, prop, device):
    for case in ROWS[name]:
        prop(case, device)


@pytest.mark.parametrize("prop", [p for p in PROPERTIES if p not in ON_EVERY_DEVICE],
                         ids=lambda p: p.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_property_of_the_rules(name, prop):
    for case in ROWS[name]:
        prop(case, "cpu")


@pytest.mark.exhaustive
@pytest.mark.parametrize("prop", [p for p in PROPERTIES if p not in ON_EVERY_DEVICE],
                         ids=lambda p: p.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_property_of_the_rules_on_every_device(name, prop, device):
    for case in ROWS[name]:
        prop(case, device)


@pytest.mark.parametrize("name", KINKS)
def test_kinks_and_ties(name, device):
    table.kinks(name, device)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ROWS)
def test_third_order_and_more_directions(name, device):
    """Third derivatives, and five more random directions at each order."""
    for case in ROWS[name]:
        table.derivatives(case, device, seeds=range(2, 7 if device == "cpu" else 3))
        table.derivatives(case, device, seeds=[7], order=3)


GRID = [(size, kernel, stride, padding, dilation) for size, kernel, stride, padding,
        dilation in itertools.product(
    [(5, 6), (7, 4)], [(1, 1), (2, 3), (3, 1), (3, 3)], [1, (2, 1), 3], [0, 1, (0, 2)], [1, 2, (1, 3)])
    if all(n + 2 * p >= d * (k - 1) + 1 for n, k, p,
           d in zip(size, kernel, pair(padding, least=0), pair(dilation), strict=True))]


@pytest.mark.exhaustive
@pytest.mark.parametrize("setting", GRID, ids=str)
def test_convolution_grid(setting, device):
    """The trio and its windows at every combination of size, kernel, stride, padding and dilation."""
    size, kernel, stride, padding, dilation = setting
    before = {name: len(ROWS[name]) for name in ROWS}
    table.convolution(1, size, 2, 2, kernel, dict(stride=stride, padding=padding, dilation=dilation))
    try:
        for name, n in before.items():
            for case in ROWS[name][n:]:
                for prop in (table.value, table.derivatives, table.subsets)[:3 if device == "cpu" else 1]:
                    prop(case, device)
    finally:
        for name, n in before.items():
            del ROWS[name][n:]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "maximum", "minimum"])
def test_every_pair_of_shapes(name, device):
    """All pairs of shapes up to three axes of 0, 1 or 2 that broadcast."""
    shapes = [s for n in range(4) for s in itertools.product([0, 1, 2], repeat=n)]
    for i, (s, t) in enumerate(itertools.product(shapes, shapes)):
        try:
            np.broadcast_shapes(s, t)
        except ValueError:
            continue
        a, b = draw(s, 0.5, 1.4, i), draw(t, 1.5, 2, i)         # apart: nothing ties
        case = Case(name, getattr(ops, name),
                    getattr(np, {"sub": "subtract", "mul": "multiply", "div": "divide", "pow": "power"}.get(
            name, name)), (a, b), "")
        for prop in (table.value, table.derivatives, table.subsets)[:3 if device == "cpu" else 1]:
            prop(case, device)


# ---------------------------------------------------------------------------- generated cases


@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3, min_side=0),
       st.sampled_from(["where", "mul", "fma"]))
def test_any_shapes_that_broadcast(shapes, kind):
    """Whatever shapes NumPy broadcasts, the gradients have the arguments' shapes and are right."""
    xs = [draw(s, seed=i) for i, s in enumerate(shapes.input_shapes)]
    f = {"where": lambda a, b, c: ops.where(a.data > 0, ops.sin(b), c * c) + a,
         "mul": lambda a, b, c: a * b * c,
         "fma": lambda a, b, c: a * b - c / (a * a + 1)}[kind]
    tally.report("broadcasting", check(f, *xs))


@st.composite
def indexed(draw_):
    """A shape and something NumPy accepts as an index into it."""
    shape = draw_(hnp.array_shapes(max_dims=3, max_side=4))
    return shape, draw_(st.one_of(
        hnp.basic_indices(shape, allow_newaxis=True),
        hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)),
        hnp.arrays(bool, shape)))


@given(indexed())
def test_any_index(shape_and_key):
    """x[key] and its gradient, for slices, integers, ..., None, integer arrays with repeats, and masks."""
    shape, key = shape_and_key
    x = draw(shape)
    value = ops.getitem(x, key=key)
    case = Case("getitem", lambda x: ops.getitem(x, key=key), lambda x: x[key], (x,), f"key={key!r}")
    for prop in (table.value, table.derivatives, table.clean):
        prop(case, "cpu")
    counts = np.zeros(shape)
    np.add.at(counts, key, 1.0)
    t = Tensor(x)
    got = grad(t[key].sum(), t)
    assert np.array_equal(got, counts) and np.shape(value) == x[key].shape
    tally.add("getitem", "counts")


UNARY = [ops.tanh, ops.sin, ops.cos, ops.sigmoid, ops.softplus, ops.gelu, ops.neg, lambda x: ops.log1p(x * x),
         lambda x: ops.exp(ops.sin(x)),
         lambda x: ops.sqrt(x * x + 1), lambda x: ops.logsumexp(x), lambda x: ops.mean(x, axis=0),
         lambda x: x.sum(axis=-1, keepdims=True),
         lambda x: ops.softmax(x), lambda x: ops.flip(x, axis=0), lambda x: x.T,
         lambda x: ops.cumsum(x, axis=0), lambda x: x[::-1],
         lambda x: ops.var(x, axis=-1, keepdims=True), lambda x: ops.concatenate(x, x * 0.5),
         lambda x: ops.norm(x + 3.0), lambda x: x / 1.7,
         lambda x: ops.standardize(x, axis=-1, eps=0.5), lambda x: x.reshape(-1), lambda x: x ** 2,
         lambda x: 0.5 ** x, lambda x: 1.0 - x]
BINARY = [ops.add, ops.sub, ops.mul, lambda a, b: a / (b * b + 1), lambda a, b: ops.softplus(a) ** b,
          lambda a, b: ops.where(a.data.sum() > b.data.sum(), a, b),
          lambda a, b: ops.einsum("i,j->ij", a.reshape(-1)[:3], b.reshape(-1)[:3])]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)),
                min_size=1, max_size=7),
       st.lists(st.sampled_from([(3,), (2, 3), (2, 1), (1, 3), (1,)]), min_size=1, max_size=3))
def test_any_program(program, shapes):
    """Random expression graphs, in which values are used once, often or not at all: all gradients to
    second order."""
    def f(*xs):
        values = list(xs)
        for binary, which, i, j in program:
            a, b = values[i % len(values)], values[j % len(values)]
            try:
                y = BINARY[which % len(BINARY)](a, b) if binary else UNARY[which % len(UNARY)](a)
            except ValueError:              # shapes that do not broadcast: leave this step out
                continue
            if y.ndim and y.size <= 24:
                values.append(ops.tanh(y))  # bounded, so that no program overflows
        return values[-1], values[len(values) // 2] * 0.5
    tally.report("programs", check(f, *[draw(s, -1, 1, i) for i, s in enumerate(shapes)], tolerance=1e-6))


# ---------------------------------------------------------------------------- layers, losses, a GAN step

LAYERS = [(nn.Linear(3, 4), (2, 3)), (nn.Linear(3, 2, bias=False), (2, 3)),
          (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=1), (2, 5, 4, 2)),
          (nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), (2, 2, 3, 3)),
          (nn.ConvTranspose2d(2, 1, 3, stride=2, padding=1, output_padding=1), (1, 3, 2, 2)),
          (nn.BatchNorm(3), (4, 3)), (nn.BatchNorm(2), (2, 3, 2, 2)), (nn.BatchNorm(3).eval(), (4, 3)),
          (nn.LayerNorm(4), (3, 4)),
          (nn.InstanceNorm(2), (2, 3, 2, 2)), (nn.Dropout(0.5), (3, 4)), (nn.Flatten(), (2, 3, 2)),
          (nn.Reshape(3, 2), (2, 6)),
          (nn.MaxPool2d(2), (1, 4, 4, 2)), (nn.AvgPool2d(3, 2, 1), (1, 4, 4, 2)),
          (nn.Upsample(2), (1, 2, 2, 2)), (nn.ReLU(), (2, 3)),
          (nn.LeakyReLU(), (2, 3)), (nn.Tanh(), (2, 3)), (nn.Sigmoid(), (2, 3)), (nn.Softmax(), (2, 3)),
          (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm(4), nn.LeakyReLU(), nn.Linear(4, 1)), (5, 3))]


@pytest.mark.parametrize("layer, shape", LAYERS, ids=lambda v: repr(v).split("(")[0].strip()
                         if isinstance(v, nn.Module) else str(v))
def test_layer(layer, shape, device):
    """A layer's gradients by its input and by every parameter, to second order."""
    layer.to(device)
    try:
        tally.report(type(layer).__name__, check_module(layer, to_device(draw(shape, kinks=[0]), device)))
    finally:
        layer.to("cpu")


def test_embedding_layer(device):
    layer = nn.Embedding(4, 3).to(device)
    tally.report("Embedding", check_module(layer, to_device(np.array([[0, 1], [1, 3]]), device)))


@pytest.mark.parametrize("name", losses.LOSSES)
def test_objective(name, device):
    """Both players' objectives, by the logits."""
    d_real, d_fake = (to_device(draw((5, 1), seed=i, kinks=[1, -1]), device) for i in range(2))
    tally.report(name, check(losses.LOSSES[name].discriminator, d_real, d_fake))
    loss = losses.LOSSES[name]
    tally.report(name, check(loss.generator, d_fake, d_real) if loss.paired else check(loss.generator, d_fake))


def test_other_losses(device):
    logits, target = to_device(draw((4, 3)), device), to_device(draw((4, 3), 0.1, 0.9, 1), device)
    tally.report("bce_with_logits", check(lambda x: losses.bce_with_logits(x, target), logits))
    labels = to_device(np.array([0, 2, 2, 1]), device)
    tally.report("cross_entropy", check(lambda x: losses.cross_entropy(x, labels), logits))


@pytest.mark.parametrize("center", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_whole_critic_step_with_gradient_penalty(kind, center, device):
    """The loss that a WGAN-GP critic minimises, penalty included, by all parameters of the critic: the
    derivative of a derivative."""
    seed(3)
    if kind == "mlp":
        critic, shape = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 4), nn.LeakyReLU(),
                                      nn.Linear(4, 1)), (4, 2)
    else:
        critic, shape = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.LeakyReLU(), nn.Flatten(),
                                      nn.Linear(8, 1)), (2, 4, 4, 1)
    critic.to(device)
    real, fake = (to_device(draw(shape, seed=i), device) for i in range(2))

    def loss():
        penalty = losses.gradient_penalty(critic, losses.interpolate(real, fake), center)
        return losses.LOSSES["wasserstein"].discriminator(critic(real), critic(fake)) + 10.0 * penalty
    tally.report("WGAN-GP step", check(loss, wrt=critic.parameters(), step=1e-4, tolerance=1e-6))


def test_whole_generator_step(device):
    """The generator's loss through a critic with BatchNorm in the generator, by all parameters of both."""
    seed(4)
    g = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm(4), nn.Tanh(), nn.Linear(4, 2)).to(device)
    d = nn.Sequential(nn.Linear(2, 4), nn.Softmax(), nn.Linear(4, 1)).to(device)
    z = to_device(draw((5, 2)), device)
    tally.report("generator step",
                 check(lambda: losses.LOSSES["non-saturating"].generator(d(g(z))),
                       wrt=g.parameters() + d.parameters()))
