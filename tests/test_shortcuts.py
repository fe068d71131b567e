"""Every registered shortcut computes what its definition computes; all can be switched off."""

import itertools
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import table
from table import ROWS, host, like, near, second, tensors

import tinygan
from tinygan import Tensor, aids, cpu, gpu, models, nn, ops, plain, shortcuts, train, views
from tinygan.autograd import Op, grad, op
from tinygan.backend import to_device, to_host
from tinygan.optim import Optimizer
from tinygan.shortcuts import REGISTERED

OF_OPS = [(d, room) for d, room, _ in REGISTERED if isinstance(d, Op)]
OF_OPTIMISERS = [(d, room) for d, room, _ in REGISTERED if not isinstance(d, Op) and d is not train.verdicts]


def classes(kind):
    return [kind, *(c for k in kind.__subclasses__() for c in classes(k))]


OPTIMISERS = {c.definition.name: c for c in classes(Optimizer)[1:]}
ROOMS = {"numpy": "cpu", "cupy": "gpu"}


def name_of(value):
    return getattr(value, "name", value)


def everything(case, device, dtype):
    """A case's value, plain gradients, and first and second derivatives in the recorded reading."""
    args, xs = tensors(case, device, dtype)
    y = case.f(*args)
    v, us = like([y], device, 1, dtype)[0], like(xs, device, 2, dtype)
    return [y.data, *grad(y, xs, v), *itertools.chain(*second(case.f, args, xs, v, us))]


def calls(definition, room, monkeypatch):
    """Count what the shortcut's functions do: [forward served, forward declined, vjp served, vjp declined]."""
    shortcut, counts = definition.shortcuts[room], [0, 0, 0, 0]

    def counted(f, at):
        def g(*args, **kwargs):
            done = f(*args, **kwargs)
            counts[at + (done is None)] += 1
            return done
        return staticmethod(g)
    for part, at in (("forward", 0), ("vjp", 2)):
        if hasattr(shortcut, part):
            monkeypatch.setattr(shortcut, part, counted(getattr(shortcut, part), at))
    return counts


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda t: t.__name__)
@pytest.mark.parametrize("definition, room", OF_OPS, ids=name_of)
def test_a_shortcut_is_its_definition(definition, room, dtype, device, monkeypatch):
    """Every case of the table: values, gradients in both readings, second derivatives. Some case must use it."""
    if device != ROOMS[room]:
        pytest.skip("the other room")
    monkeypatch.setattr(cpu, "GROUP", 300)          # bytes: groups and blocks of a single image
    monkeypatch.setattr(gpu, "COLUMNS", 300)
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    counts = calls(definition, room, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in ROWS[definition.name]:
            fast = everything(case, device, dtype)
            with plain(definition.name):
                slow = everything(case, device, dtype)
            for a, b in zip(fast, slow, strict=True):
                assert a.dtype == b.dtype
                near(case.name, "shortcut", a, b, tolerance, f"{definition.name} in {room}, {case}")
    shortcut = definition.shortcuts[room]
    assert counts[0] or not hasattr(shortcut, "forward"), "no case of the table is taken by the shortcut's forward"
    assert counts[2] or not hasattr(shortcut, "vjp"), "no case of the table is taken by the shortcut's vjp"


@pytest.mark.parametrize("definition", [d for d, room in OF_OPS if room == "numpy"], ids=name_of)
def test_a_shortcut_whose_work_two_threads_share_is_its_definition(definition, device, monkeypatch, two_threads):
    if device != "cpu":
        pytest.skip("the other room")
    monkeypatch.setattr(cpu, "GROUP", 300)
    for case in ROWS[definition.name]:
        fast = everything(case, device, np.float64)
        with plain(definition.name):
            slow = everything(case, device, np.float64)
        for a, b in zip(fast, slow, strict=True):
            near(case.name, "shortcut", a, b, 1e-12, f"{definition.name}, {case}")


SHAPES = [(3, 4), (5,), (), (700, 300)]         # the last is larger than a block


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda t: t.__name__)
@pytest.mark.parametrize("definition, room", OF_OPTIMISERS, ids=name_of)
def test_an_optimisers_shortcut_is_its_definition(definition, room, dtype, device):
    """Ten steps, several kinds of parameters; the state that is remembered is the same too, so that one can take over."""
    if device != ROOMS[room]:
        pytest.skip("the other room")
    kind = OPTIMISERS[definition.name]

    def run(switch):
        rng = np.random.default_rng(0)
        params = [Tensor(to_device(rng.standard_normal(s).astype(dtype), device)) for s in SHAPES]
        params.append(Tensor(to_device(rng.standard_normal((4, 3)).astype(dtype).T, device)))
        optimiser = kind(params, lr=0.01)
        for t in range(10):
            gs = [to_device(np.asarray(rng.standard_normal(p.shape) * 10.0 ** (t % 3), dtype), device) for p in params]
            with plain() if switch(t) else plain("nothing of this name"):
                optimiser.step(gs)
        return [*(host(p) for p in params), *optimiser.state_dict().values()]
    reference = run(lambda t: True)
    for switch in (lambda t: False, lambda t: t % 2 == 0):
        for a, b in zip(run(switch), reference, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12 if dtype == np.float64 else 2e-5, atol=1e-14 if dtype == np.float64 else 1e-6)


def player(device, d=(), **how):
    """A GAN in float64 on points, with these layers in the middle of its discriminator."""
    tinygan.seed(0)
    nets = models.mlp_generator(3, (2,), (5,)), nn.Sequential(nn.Linear(2, 5), *d, nn.Linear(5, 1))
    for p in (p for net in nets for p in net.parameters()):
        p.data = p.data.astype(np.float64)
    return train.GAN(*(net.to(device) for net in nets), 3, **how)


def play(gan, device):
    """Three steps: how many samples D's first layer saw at a time, and all weights afterwards."""
    x, sizes = np.random.default_rng(0).standard_normal((6, 2)), []
    for _ in range(3):
        with nn.watching(lambda m, y: sizes.append(len(y)) if m is gan.d[0] else None):
            gan.step(to_device(x, device))
    return sizes, np.concatenate([to_host(p.data).ravel() for p in gan.parameters()])


@pytest.mark.parametrize("how", [{}, {"loss": "wasserstein", "penalty": train.wgan_gp()}, {"view": views.Noise(0.1)},
                                 {"view": lambda x, step: x * 2}, {"loss": "relativistic"}], ids=lambda h: "-".join(h) or "plain")
def test_one_pass_of_both_batches_is_two_passes(how, device):
    """D answers 12 samples at once instead of 6 and 6, and every weight ends up where it would have."""
    d = lambda: [nn.LeakyReLU(0.2), nn.LayerNorm(5)]        # noqa: E731
    sizes, weights = play(player(device, d(), **how), device)
    with plain("verdicts"):
        apart, expected = play(player(device, d(), **how), device)
    assert 12 in sizes and 12 not in apart and len(sizes) == len(apart) - 3
    np.testing.assert_allclose(weights, expected, rtol=1e-10, atol=1e-10)    # Adam makes much of rounding


class Centred(nn.LeakyReLU):
    """A layer of a reader's own that mixes the samples."""

    def forward(self, x):
        return x - x.mean(axis=0)


@pytest.mark.parametrize("layer", [lambda: nn.BatchNorm(5), Centred, lambda: nn.Dropout(0.5), lambda: nn.Softmax(0),
                                   lambda: aids.SpectralNorm(nn.Linear(5, 5))],
                         ids=["batch", "own", "dropout", "softmax", "spectral"])
def test_samples_that_are_mixed_keep_two_passes(layer, device):
    """What draws random numbers, keeps a state or is unknown counts as mixing, too."""
    assert 12 not in play(player(device, [layer()]), device)[0]


def test_what_a_layer_was_given_as_forward_keeps_two_passes(device):
    gan = player(device, [nn.ReLU()])
    gan.d[1].forward = lambda x: x - x.mean(axis=0)
    assert 12 not in play(gan, device)[0]


@pytest.mark.parametrize("definition, room", OF_OPS, ids=name_of)
def test_a_shortcut_changes_nothing_that_it_is_given(definition, room, device):
    if device != ROOMS[room]:
        pytest.skip("the other room")
    for case in ROWS[definition.name]:
        table.clean(case, device)


def test_both_rooms_are_registered_once_each():
    names = [(d.name, room) for d, room, _ in REGISTERED]
    assert len(names) == len(set(names)) and {room for _, room in names} == {"numpy", "cupy"}
    for _, _, shortcut in REGISTERED:
        assert shortcut.__doc__, f"{shortcut.__name__} does not say what it does instead, and what it saves"
        assert shortcut.__module__ in ("tinygan.cpu", "tinygan.cpu_conv", "tinygan.gpu")


def test_the_book_imports_neither_room():
    """Imported without tinygan/__init__.py's last lines, the book computes by its definitions."""
    code = ("import sys, types, pathlib\n"
            "package = types.ModuleType('tinygan'); package.__path__ = [sys.argv[1]]\n"
            "sys.modules['tinygan'] = package\n"
            "import tinygan.train, tinygan.gradcheck, tinygan.conv\n"
            "from tinygan.shortcuts import REGISTERED\n"
            "assert not REGISTERED and not {'tinygan.cpu', 'tinygan.cpu_conv'} & sys.modules.keys() and 'tinygan.gpu' not in sys.modules\n")
    folder = os.path.dirname(shortcuts.__file__)
    subprocess.run([sys.executable, "-c", code, folder], check=True)


def test_plain_switches_all_off_or_some_and_comes_back():
    @op
    def double(x):
        return x + x
    double.vjps(lambda g, y, x: g * 2)
    seen = []

    @double.shortcut("numpy")
    class _:
        def forward(x):
            seen.append("forward")
            return 2 * x, None

        def vjp(g, y, saved, wanted, x):
            seen.append("vjp")
            return [g * 2]
    REGISTERED.pop()
    x = Tensor(np.ones(2))

    def used():
        seen.clear()
        grad(double(x).sum(), x)
        return list(seen)
    assert used() == ["forward", "vjp"]
    with plain():
        assert used() == []
        with plain("other"):
            assert used() == []
    with plain("other"):
        assert used() == ["forward", "vjp"]
        with plain("double"):
            assert used() == []
    with pytest.raises(RuntimeError), plain():
        raise RuntimeError
    assert used() == ["forward", "vjp"]
    with plain():
        y = double(x).sum()
    grad(y, x)                              # the forward pass was plain: vjp gets saved=None
    assert seen[-1] == "vjp"


def test_the_environment_switches_all_off():
    code = ("import numpy as np, tinygan\nfrom tinygan import ops\nfrom tinygan.shortcuts import REGISTERED\n"
            "assert all(d.faster('forward', (np.ones(2),)) is None and d.faster('step', (np.ones(2),)) is None for d, _, _ in REGISTERED)\n")
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TINYGAN_PLAIN": "1"}, check=True)
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "TINYGAN_PLAIN": "0"}, check=True, capture_output=True)


def test_a_room_must_exist():
    with pytest.raises(ValueError, match="exp.shortcut: expected 'numpy' or 'cupy', got 'cuda'"):
        ops.exp.shortcut("cuda")


def test_a_training_step_is_the_same_with_and_without_shortcuts():
    """A convolutional critic with a penalty and a generator with BatchNorm: three steps, weights equal to rounding."""
    from tinygan import models, seed
    from tinygan.train import GAN, wgan_gp

    def weights():
        seed(0)
        g, d = models.conv_generator(5, 8, 2, width=4, hidden=6), models.conv_discriminator(8, 2, width=4, norm=False, hidden=6)
        gan = GAN(g, d, 5, loss="wasserstein", penalty=wgan_gp(), lr=1e-3)
        x = np.random.default_rng(0).uniform(-1, 1, (6, 8, 8, 2)).astype(np.float32)
        for _ in range(3):
            gan.step(x)
        return np.concatenate([p.data.ravel() for p in g.parameters() + d.parameters()])
    fast = weights()
    with plain():
        slow = weights()
    assert np.abs(fast - slow).max() < 3e-5


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("outlier", [3.0, 30.0, 1e3, 1e5])
@pytest.mark.parametrize("n", [200, 20_000])
def test_batchnorm_bears_outliers_wherever_they_stand(n, outlier, place, device):
    """float32 against float64 by the formula; a variance from E d² − (E d)² about the first pixel was off by 1e3."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 3)).astype(np.float32)
    x[{"first": 0, "middle": n // 2, "last": -1}[place], 1] = outlier
    v = rng.standard_normal((n, 3)).astype(np.float32)
    exact, u = x.astype(np.float64), v.astype(np.float64)
    d = exact - exact.mean(0)
    r = (d * d).mean(0) + 1e-5
    xhat = d * r ** -0.5
    expected = (u - u.mean(0) - xhat * (u * xhat).mean(0)) * r ** -0.5
    layer, t = nn.BatchNorm(3).to(device), Tensor(to_device(x, device))
    y = layer(t)
    # PyTorch's own float32 errors in this sweep reach 1.2e-6 and 4e-5 of the largest number. (What stands in for a
    # GPU adds up one number after the other, where a GPU adds up in a tree.)
    assert np.abs(host(y) - xhat).max() < (4e-6 if device == "cpu" else 4e-5) * np.abs(xhat).max()
    assert np.abs(to_host(grad(y, t, to_device(v, device))) - expected).max() < 1e-4 * np.abs(expected).max()
    assert (to_host(layer.running_var) > 0).all()
