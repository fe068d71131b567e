"""Running a module with other parameters, or in evaluation mode, and putting everything back."""

import numpy as np
import pytest

from tinygan import Tensor, backend, grad, nn
from tinygan.functional import call
from tinygan.randomness import seed


@pytest.fixture(autouse=True)
def fresh_seed():
    seed(0)


def some(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Twice(nn.Module):
    """One layer in two places, and one in a list."""

    def __init__(self):
        self.first = nn.Linear(3, 3)
        self.second, self.rest = self.first, [nn.Linear(3, 2)]

    def forward(self, x):
        return self.rest[0](self.second(self.first(x)))


@pytest.mark.parametrize("make", [lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), Twice,
                                  lambda: nn.Sequential(nn.Sequential(nn.Linear(3, 2)), nn.LayerNorm(2))])
def test_a_network_with_another_ones_parameters_is_that_other_network(make, device):
    net, other = make().to(device), make().to(device)
    x, before = backend.to_device(some(5, 3), device), net.state_dict()
    own = net.named_parameters()
    found = call(net, other.named_parameters(), x)
    np.testing.assert_array_equal(backend.to_host(found.data), backend.to_host(other(x).data))
    assert all(net.named_parameters()[k] is p for k, p in own.items()), "the very same parameters are back"
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


def test_what_is_not_mentioned_is_used_as_it_is():
    net, x = nn.Linear(3, 2), some(4, 3)
    found = call(net, {"bias": Tensor(np.zeros(2, np.float32))}, x)
    np.testing.assert_allclose(found.data, x @ net.weight.data, rtol=1e-6)


def test_gradients_flow_through_an_update_that_is_on_the_tape():
    """L(w − lr ∂ℓ/∂w) by w, against the derivative by finite differences in float64."""
    net = nn.Linear(2, 1, bias=False)
    net.weight.data = net.weight.data.astype(np.float64)
    x, y = some(6, 2).astype(np.float64), some(6, 1, seed=1).astype(np.float64)

    def loss(w):
        inner = ((call(net, {"weight": w}, x) - y) ** 2).mean()
        g = grad(inner, w, create_graph=True)
        return (call(net, {"weight": w - 0.3 * g}, x) ** 4).sum()

    w, step = some(2, 1, seed=2).astype(np.float64), 1e-5
    expected = [(loss(Tensor(w + e)).item() - loss(Tensor(w - e)).item()) / (2 * step)
                for e in step * np.eye(2)[:, :, None]]
    t = Tensor(w)
    np.testing.assert_allclose(grad(loss(t), t)[:, 0], expected, rtol=1e-7)


def test_an_error_inside_leaves_the_network_as_it_was():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    own = net.parameters()
    with pytest.raises(ValueError):
        call(net, {"0.weight": Tensor(np.zeros((3, 2), np.float32))}, some(4, 7))
    assert all(p is q for p, q in zip(net.parameters(), own, strict=True))


@pytest.mark.parametrize("parameters", [{"0.wait": np.zeros((3, 2))}, {"0.weight": np.zeros((2, 3))}])
def test_a_name_or_shape_that_the_network_does_not_have_is_refused(parameters):
    net = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"call: the module has no parameter 0\.w.* \{'0\.weight': \(3, 2\)"):
        call(net, {k: Tensor(v) for k, v in parameters.items()}, some(4, 3))


def test_parameters_in_lists_and_dicts_are_reached_and_those_in_a_tuple_refused():
    class Boxes(nn.Module):
        def __init__(self, box):
            self.box = box([nn.Parameter(np.ones(2, np.float32)), nn.Parameter(np.ones(2, np.float32))])

        def forward(self, x):
            return x * self.box[0] + self.box[1]
    new = {"box.1": Tensor(np.full(2, 5, np.float32))}
    for box in (list, lambda ps: dict(enumerate(ps))):
        net = Boxes(box)
        np.testing.assert_array_equal(call(net, new, np.ones(2, np.float32)).data, [6, 6])
        np.testing.assert_array_equal(net(np.ones(2, np.float32)).data, [2, 2])
    with pytest.raises(ValueError, match="call: a parameter in a tuple cannot be replaced"):
        call(Boxes(tuple), new, np.ones(2, np.float32))
