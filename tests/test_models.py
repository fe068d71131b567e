"""Networks: shapes, ranges, what they are built of, and sizes that cannot be."""

import numpy as np
import pytest

from tinygan import Tensor, backend, models, nn
from tinygan.conditions import CONDITIONS, LABEL
from tinygan.randomness import seed


@pytest.fixture(autouse=True)
def fresh_seed():
    seed(0)


def run(net, x, device):
    return backend.to_host(net.to(device)(Tensor(backend.to_device(x.astype(np.float32), device))).data)


def noise(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def kinds(net):
    return [type(m) for m in net]


@pytest.mark.parametrize("size, channels", [(8, 1), (10, 2), (28, 1), (32, 3), (64, 3)])
def test_convolutional_networks_make_and_judge_images_of_any_halvable_size(size, channels, device):
    g, d = models.conv_generator(5, size, channels, width=2), models.conv_discriminator(size, channels, width=2)
    images = run(g, noise(3, 5), device)
    assert images.shape == (3, size, size, channels) and images.dtype == np.float32
    assert -1 < images.min() < 0 < images.max() < 1                 # tanh
    logits = run(d, images, device)
    assert logits.shape == (3, 1) and logits.dtype == np.float32


@pytest.mark.parametrize("size", [1, 5, 7, 9, 27, 30, 31, 36, 100])
@pytest.mark.parametrize("network", [models.conv_generator, models.conv_discriminator])
def test_other_sizes_are_refused_with_a_hint(network, size):
    with pytest.raises(ValueError, match=rf"image size of \(4..7\) · 2ⁿ .* got {size}; try 28, 32 or 64"):
        network(size=size)


def test_every_size_that_is_not_refused_works():
    """What the message says is what holds: sizes from 4 to 7, doubled at least once."""
    fine = []
    for size in range(1, 65):
        try:
            fine.append(size if models.conv_discriminator(size, width=1) else None)
        except ValueError:
            pass
    assert fine == [8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]


def test_dcgans_channels_double_on_the_way_in_and_halve_on_the_way_out():
    g, d = models.conv_generator(100, 64, 3, width=8), models.conv_discriminator(64, 3, width=8)
    assert [m.weight.shape[2] for m in g if isinstance(m, nn.ConvTranspose2d)] == [32, 16, 8, 3]
    assert [m.weight.shape[3] for m in d if isinstance(m, nn.Conv2d)] == [8, 16, 32, 64]


def test_batchnorm_stands_where_dcgan_has_it():
    """Not at the discriminator's input, nor at the generator's output; and a layer before it needs no bias."""
    g, d = models.conv_generator(width=2), models.conv_discriminator(width=2)
    assert kinds(g)[:4] == [nn.Linear, nn.Reshape, nn.BatchNorm, nn.ReLU]
    assert kinds(g)[-2:] == [nn.ConvTranspose2d, nn.Tanh] and g[-2].bias is not None
    assert kinds(d)[:2] == [nn.Conv2d, nn.LeakyReLU] and kinds(d)[-2:] == [nn.Flatten, nn.Linear]
    for net in (g, d):
        layers = list(net)
        assert any(isinstance(m, nn.BatchNorm) for m in layers)
        for before, after in zip(layers, layers[1:], strict=False):
            if isinstance(after, nn.BatchNorm) and hasattr(before, "bias"):
                assert before.bias is None


def test_hidden_puts_one_dense_layer_per_number_before_the_convolutions():
    for hidden, shapes in ((None, []), (6, [(5, 6)]), ((6,), [(5, 6)]), ((6, 7), [(5, 6), (6, 7)])):
        g = models.conv_generator(5, 8, 1, width=2, hidden=hidden)
        *dense, last = [m.weight.shape for m in g if isinstance(m, nn.Linear)]
        assert dense == shapes and last == ([5, *(b for _, b in shapes)][-1], 4 * 4 * 2)
        assert kinds(g)[:3 * len(shapes)] == [nn.Linear, nn.BatchNorm, nn.ReLU] * len(shapes)


@pytest.mark.parametrize("size", [28, 64])
def test_a_critic_for_a_gradient_penalty_has_no_batchnorm_and_judges_samples_one_by_one(size, device):
    d = models.conv_discriminator(size, width=2, norm=False)
    assert nn.BatchNorm not in kinds(d) and all(m.bias is not None for m in d if isinstance(m, nn.Conv2d))
    x = noise(3, size, size, 1)
    np.testing.assert_allclose(run(d, x, device)[1:2], run(d, x[1:2], device), rtol=1e-4, atol=1e-6)
    assert d.training


def test_dcgans_weights_start_with_deviation_0_02():
    for net in (models.conv_generator(width=16), models.conv_discriminator(width=16)):
        for m in net:
            for name in ("weight", "bias"):
                p = getattr(m, name, None)
                if p is not None and name == "weight":
                    norm = isinstance(m, nn.BatchNorm)
                    assert abs(p.data.mean() - norm) < 5 * 0.02 / np.sqrt(p.size)
                    assert abs(p.data.std() / 0.02 - 1) < 5 / np.sqrt(2 * p.size)
                elif p is not None:
                    assert not p.data.any()


def test_perceptrons_for_points(device):
    g, d = models.mlp_generator(4, (2,), (6, 5)), models.mlp_discriminator((2,), (6, 5))
    # No tanh at the end: points know no bounds.
    assert kinds(g) == kinds(d) == [nn.Linear, nn.LeakyReLU, nn.Linear, nn.LeakyReLU, nn.Linear]
    assert [m.weight.shape for m in g if isinstance(m, nn.Linear)] == [(4, 6), (6, 5), (5, 2)]
    assert [m.weight.shape for m in d if isinstance(m, nn.Linear)] == [(2, 6), (6, 5), (5, 1)]
    points = run(g, noise(7, 4), device)
    assert points.shape == (7, 2) and run(d, points, device).shape == (7, 1)


def test_perceptrons_for_images(device):
    g, d = models.mlp_generator(4, (6, 5, 3), (8,)), models.mlp_discriminator((6, 5, 3), (8,))
    images = run(g, 100 * noise(7, 4), device)
    assert images.shape == (7, 6, 5, 3) and -1 <= images.min() < -0.9 and 0.9 < images.max() <= 1
    assert run(d, images, device).shape == (7, 1)


def test_no_hidden_layer_is_a_linear_network(device):
    assert kinds(models.mlp_generator(4, hidden=())) == kinds(models.mlp_discriminator(hidden=())) == [nn.Linear]
    assert run(models.mlp_generator(4, hidden=()), noise(3, 4), device).shape == (3, 2)


@pytest.mark.parametrize(
    "build",
    [
        lambda: models.mlp_generator(0),
        lambda: models.mlp_generator(hidden=(8, 0)),
        lambda: models.mlp_discriminator(hidden=(-1,)),
        lambda: models.conv_generator(0),
        lambda: models.conv_generator(channels=0),
        lambda: models.conv_generator(width=0),
        lambda: models.conv_discriminator(channels=0),
        lambda: models.conv_discriminator(width=0),
    ],
)
def test_sizes_below_one_are_refused(build):
    with pytest.raises(ValueError, match="must be an integer >= 1"):
        build()


def test_discriminators_end_in_a_logit():
    """No sigmoid at the end: the losses contain it."""
    for d in (models.conv_discriminator(width=2), models.mlp_discriminator()):
        assert isinstance(d[-1], nn.Linear) and nn.Sigmoid not in kinds(d)


# ---- features and conditions ----------------------------------------------------------------------------


@pytest.mark.parametrize("make, shape", [(lambda: models.mlp_discriminator((2,), (6, 5)), (2,)),
                                         (lambda: models.mlp_discriminator((4, 4, 1), (6,)), (4, 4, 1)),
                                         (lambda: models.conv_discriminator(8, 1, 2, hidden=7), (8, 8, 1))])
def test_the_head_of_the_features_is_the_logit(make, shape, device):
    d, x = make().to(device).eval(), Tensor(backend.to_device(noise(3, *shape).astype(np.float32), device))
    h = d.features(x)
    assert h.ndim == 2 and h.shape[1] == d[-1].weight.shape[0]
    np.testing.assert_array_equal(backend.to_host(d.head(h).data), backend.to_host(d(x).data))


def plain(net, x):
    """A Discriminator in NumPy: Linear and LeakyReLU only."""
    for m in net:
        x = x.reshape(len(x), -1) if isinstance(m, nn.Flatten) else x @ m.weight.data + m.bias.data if isinstance(
            m, nn.Linear) else np.maximum(x, 0.2 * x)
    return x


@pytest.mark.parametrize("shape", [(2,), (3, 4, 2)])
def test_the_four_ways_of_telling_the_label_are_their_formulas(shape):
    x, y = noise(5, *shape).astype(np.float32), np.array([2, 0, 1, 1, 2])
    d = {how: models.mlp_discriminator(shape, (6,), classes=3, condition=how) for how in CONDITIONS}
    onehot = np.broadcast_to(np.eye(3, dtype=np.float32)[y].reshape(5, *[1] * (len(shape) - 1), 3), (5, *shape[:-1], 3))
    expected = {"concatenate": plain(d["concatenate"].net, np.concatenate([x, onehot], axis=-1))}
    plane = d["embedding"].table.weight.data[y].reshape(5, *shape[:-1], 1)
    expected["embedding"] = plain(d["embedding"].net, np.concatenate([x, plane], axis=-1))
    h = plain(list(d["projection"].net)[:-1], x)
    expected["projection"] = plain([d["projection"].net[-1]], h) + (
        h * d["projection"].table.weight.data[y]).sum(axis=1, keepdims=True)
    expected["auxiliary"] = plain(d["auxiliary"].net, x)
    for how, net in d.items():
        np.testing.assert_allclose(net(x, y).data, expected[how], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(net.net.head(net.features(x, y)).data if how != "projection" else h,
                                   expected[how] if how != "projection" else net.features(x, y).data, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(d["auxiliary"].classify(x).data,
                               plain([d["auxiliary"].classifier], plain(list(d["auxiliary"].net)[:-1], x)), rtol=1e-4, atol=1e-5)


def test_a_conditional_generator_joins_the_latent_and_the_labels_vector():
    g = models.mlp_generator(4, hidden=(), classes=3)
    z, y = noise(5, 4).astype(np.float32), np.array([2, 0, 1, 1, 2])
    np.testing.assert_allclose(g(z, y).data, plain(g.net, np.concatenate([z, g.table.weight.data[y]], axis=1)), rtol=1e-5)
    assert g.table.weight.shape == (3, LABEL)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_convolutional_networks_take_labels_too(condition, device):
    g, d = models.conv_generator(5, 8, 2, 2, classes=3).to(device), models.conv_discriminator(
        8, 2, 2, classes=3, condition=condition).to(device)
    z, y = (backend.to_device(a, device) for a in (noise(4, 5).astype(np.float32), np.array([0, 1, 2, 0])))
    images = g(z, y)
    assert images.shape == (4, 8, 8, 2) and d(images, y).shape == (4, 1) and d.features(images, y).ndim == 2


def test_without_classes_the_weights_are_those_of_ever():
    """The same numbers are drawn in the same order, under the same names."""
    seed(3)
    plain_ = nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.2), nn.Linear(6, 2))
    seed(3)
    net = models.mlp_generator(4, hidden=(6,))
    for (k, v), (name, w) in zip(plain_.state_dict().items(), net.state_dict().items(), strict=True):
        assert k == name
        np.testing.assert_array_equal(v, w)


@pytest.mark.parametrize("build", [lambda: models.mlp_generator(0, classes=3), lambda: models.conv_generator(-3, classes=3),
                                   lambda: models.mlp_generator(classes=-1), lambda: models.mlp_discriminator(classes=-1),
                                   lambda: models.mlp_discriminator(classes=1.5), lambda: models.conv_discriminator(classes="3"),
                                   lambda: models.mlp_generator(2.5), lambda: models.conv_generator(width=1.5),
                                   lambda: models.conv_generator(hidden=0), lambda: models.mlp_discriminator((0,)),
                                   lambda: models.mlp_discriminator(condition="wish")])
def test_sizes_and_conditions_that_cannot_be_are_refused(build):
    with pytest.raises(ValueError, match="integer >= |expected one of"):
        build()


@pytest.mark.parametrize("value", range(3))
@pytest.mark.parametrize("make, shape", [(lambda **told: models.mlp_discriminator((2,), (128, 128), **told), (2,)),
                                         (lambda **told: models.mlp_discriminator((8, 8, 1), (64, 64), **told), (8, 8, 1)),
                                         (lambda **told: models.conv_discriminator(8, 1, 8, hidden=256, **told), (8, 8, 1))])
def test_a_new_discriminator_is_sure_of_nothing_because_of_the_label(make, shape, value):
    """How far the label moves the logit: its deviation over three labels, in the mean over samples.

    At most 0.27 for seeds 0 to 2. With the rows of a projection drawn from N(0, 1), as an `Embedding` has them, 0.39 to 7.8.
    """
    for how in ("concatenate", "embedding", "projection"):
        seed(value)
        d, x = make(classes=3, condition=how), np.random.default_rng(value).uniform(-1, 1, (64, *shape)).astype(np.float32)
        logits = [d(x, np.full(64, y)).data for y in range(3)]
        assert 0 < np.std(logits, axis=0).mean() < 0.35
