"""Weights as .safetensors: what is written can be read by the package itself, and sampled from again."""

import io
import json
import os
import struct

import numpy as np
import pytest

from tinygan import cli, export, plot
from tinygan.checkpoint import CheckpointError
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
    export.save(done.folder, path, part)
    found, state = safetensors.numpy.load_file(path), done.gan.state_dict()[part]
    assert found.keys() == state.keys() - {"steps"}
    for name, a in found.items():
        np.testing.assert_array_equal(a, state[name])
    with safetensors.safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["tinygan"])["part"] == part


@needs_package
def test_an_exported_generator_draws_what_the_run_draws(done, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "run", "--out", "g.safetensors"]) == 0
    assert cli.main(["sample", "run", "--out", "a.png", "--n", "5"]) == 0
    assert cli.main(["sample", "g.safetensors", "--out", "b.png", "--n", "5"]) == 0
    assert capsys.readouterr().out == "average of run: g.safetensors\n5 samples: a.png\n5 samples: b.png\n"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@needs_package
@pytest.mark.parametrize("spoil", ["empty", "cut", "foreign", "a huge network", "a discriminator", "text", "nan", "pipe"])
def test_other_files_are_one_error(done, spoil):
    path = done.path("g.safetensors")
    export.save(done.folder, path, "discriminator" if spoil == "a discriminator" else "average")
    with open(path, "rb") as file:
        raw = file.read()
    arrays = safetensors.numpy.load(raw)
    text = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])["__metadata__"]["tinygan"]
    if spoil == "nan":
        arrays["0.weight"][0, 0] = np.nan
    os.unlink(path)
    if spoil == "pipe":
        os.mkfifo(path)
    else:
        contents = {"empty": b"", "cut": raw[:-5], "text": b"hello world" * 9, "foreign": safetensors.numpy.save(arrays),
                    "a huge network": safetensors.numpy.save(arrays, {"tinygan": text.replace('"width": 6', '"width": 6000')}),
                    "nan": safetensors.numpy.save(arrays, {"tinygan": text})}.get(spoil, raw)
        with open(path, "wb") as file:
            file.write(contents)
    with pytest.raises(CheckpointError, match=r"g\.safetensors: not a generator of tinygan export") as error:
        export.load(path)
    assert "\n" not in str(error.value)
