"""Weights as .safetensors: what is written can be read by the package itself."""

import io
import json

import numpy as np
import pytest

from tinygan import cli, plot, saved
from tinygan.run import Config, Run

try:
    import safetensors.numpy
except ImportError:
    safetensors = None

needs_package = pytest.mark.skipif(safetensors is None, reason="needs safetensors")


@pytest.fixture
def done(tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "density", lambda fake, *args, **kwargs: np.uint8(abs(fake) * 80 % 256)[..., None].repeat(3, 2))
    monkeypatch.setattr(plot, "losses", lambda log: np.zeros((4, 4, 3), np.uint8))
    a_run = Run.start(Config(data="ring", width=6, latent=3, batch_size=8, steps=4), str(tmp_path / "run"))
    a_run.train(io.StringIO())
    return a_run


def test_without_the_package_one_line_says_what_to_install(done, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    assert cli.main(["export", done.folder, "--out", done.path("g.safetensors")]) == 2
    assert capsys.readouterr().err == "tinygan export: this needs the package safetensors: pip install safetensors\n"


@needs_package
@pytest.mark.parametrize("part", ["average", "generator", "discriminator"])
def test_every_network_is_exported_as_plain_arrays(done, part):
    path = done.path("w.safetensors")
    saved.export(done.folder, path, part)
    found, state = safetensors.numpy.load_file(path), done.gan.state_dict()[part]
    assert found.keys() == state.keys() - {"steps"}
    for name, a in found.items():
        np.testing.assert_array_equal(a, state[name])
    with safetensors.safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["tinygan"])["part"] == part


@needs_package
def test_the_command_writes_the_average(done, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "run", "--out", "g.safetensors"]) == 0
    assert capsys.readouterr().out == "average of run: g.safetensors\n"
    found = safetensors.numpy.load_file("g.safetensors")
    np.testing.assert_array_equal(found["0.weight"], done.gan.average.module.state_dict()["0.weight"])
