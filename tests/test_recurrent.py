"""The gated recurrent unit against its equations, to second order, and against PyTorch's."""

import numpy as np
import pytest

from tinygan import Tensor, gradcheck, nn
from tinygan.autograd import grad
from tinygan.randomness import seed


def draw(*shape):
    return np.random.default_rng(3).standard_normal(shape)


def float64(layer):
    for p in layer.parameters():
        p.data = np.random.default_rng(p.size).standard_normal(p.shape)
    return layer


def naive_gru(x, h, wx, wh, bx, bh):
    """One number at a time, straight from the four equations."""
    def sigmoid(v):
        return 1 / (1 + np.exp(-v))
    (n, steps, k), size = x.shape, h.shape[1]
    states = np.zeros((n, steps, size))
    for i in range(n):
        now = h[i]
        for t in range(steps):
            new = np.zeros(size)
            for j in range(size):
                a = [sum(x[i, t, c] * wx[c, g * size + j] for c in range(k)) + bx[g * size + j] for g in range(3)]
                b = [sum(now[c] * wh[c, g * size + j] for c in range(size)) + bh[g * size + j] for g in range(3)]
                r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
                new[j] = (1 - z) * np.tanh(a[2] + r * b[2]) + z * now[j]
            now = states[i, t] = new
    return states


@pytest.mark.parametrize("given", [False, True])
def test_gru_against_its_equations(given):
    layer, x = float64(nn.GRU(3, 4)), draw(2, 5, 3)
    h = draw(2, 4) if given else np.zeros((2, 4))
    states, last = layer(x, h) if given else layer(x)
    expected = naive_gru(x, h, *(p.data for p in layer.parameters()))
    np.testing.assert_allclose(states.data, expected, rtol=1e-12)
    np.testing.assert_array_equal(last.data, states.data[:, -1])


def test_gru_passes_the_gradient_check_to_second_order_also_by_the_first_state():
    gradcheck.check_module(nn.GRU(2, 3), draw(2, 3, 2), draw(2, 3))
    gradcheck.check_module(nn.GRU(2, 3, bias=False), draw(2, 3, 2))


def test_reading_in_two_pieces_with_the_state_handed_on_is_reading_at_once():
    layer, x = float64(nn.GRU(3, 4)), draw(2, 6, 3)
    first, h = layer(x[:, :2])
    second, last = layer(x[:, 2:], h)
    whole, end = layer(x)
    np.testing.assert_allclose(np.concatenate([first.data, second.data], axis=1), whole.data, rtol=1e-14)
    np.testing.assert_allclose(last.data, end.data, rtol=1e-14)


def test_gru_starts_within_one_over_the_root_of_the_hidden_size_and_computes_in_float32():
    seed(0)
    layer = nn.GRU(7, 100)
    assert list(layer.named_parameters()) == ["weight_x", "weight_h", "bias_x", "bias_h"]
    assert all(0.09 < np.abs(p.data).max() <= 0.1 for p in layer.parameters())
    assert layer(draw(2, 3, 7))[0].dtype == np.float32


@pytest.mark.parametrize("call, message", [
    (lambda: nn.GRU(0, 3), "GRU: input_size must be an integer >= 1, got 0"),
    (lambda: nn.GRU(3, 2.5), "GRU: hidden_size must be an integer >= 1, got 2.5"),
    (lambda: nn.GRU(3, 2)(draw(4, 3)), r"GRU: expected x of shape \(N, T, 3\) with T >= 1, got \(4, 3\)"),
    (lambda: nn.GRU(3, 2)(draw(4, 0, 3)), r"GRU: expected x of shape \(N, T, 3\) with T >= 1"),
    (lambda: nn.GRU(3, 2)(draw(4, 5, 3), draw(1, 4, 2)), r"GRU: expected a state of shape \(4, 2\), got \(1, 4, 2\)"),
])
def test_bad_sizes_name_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_gru_is_pytorchs_on_the_same_weights():
    torch = pytest.importorskip("torch")
    layer, theirs = float64(nn.GRU(5, 4)), torch.nn.GRU(5, 4, batch_first=True).double()
    pairs = list(zip(layer.parameters(), theirs.parameters(), strict=True))
    with torch.no_grad():
        for p, q in pairs:
            q.copy_(torch.tensor(p.data.T))
    x, h = draw(3, 6, 5), draw(3, 4)
    states, last = layer(Tensor(x), Tensor(h))
    expected, end = theirs(torch.tensor(x), torch.tensor(h)[None])
    np.testing.assert_allclose(states.data, expected.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(last.data, end[0].detach().numpy(), rtol=1e-12)
    (expected ** 2).sum().backward()
    for g, (_, q) in zip(grad((states ** 2).sum(), layer.parameters()), pairs, strict=True):
        np.testing.assert_allclose(g, q.grad.numpy().T, rtol=1e-10, atol=1e-12)
