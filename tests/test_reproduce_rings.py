"""Scripts on rings and grids of narrow Gaussians: true to their protocols on a small budget, exact in their counts."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygan import Tensor, grad, losses, plot

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "reproduce"
before = list(sys.path)
sys.path.insert(0, str(FOLDER))
common, grid_best, pacgan, ring, ring_best, veegan = (importlib.import_module(name) for name in (
    "common", "grid_best", "pacgan", "ring", "ring_best", "veegan"))
sys.path[:] = before


def shapes(net):
    return [p.shape for p in net.parameters() if p.ndim == 2]


# ----------------------------------------------------------------------------------- the best ring


def test_the_best_ring_has_the_published_networks_and_shows_every_seed(tmp_path, monkeypatch, capsys):
    gan, published = ring_best.make(0), ring.make("relativistic", 0, 0)
    assert shapes(gan.g) == shapes(published.g) == shapes(gan.average.module) and shapes(gan.d) == shapes(published.d)
    monkeypatch.setattr(sys, "argv", ["ring_best.py", "--seeds", "2", "--steps", "6", "--out", str(tmp_path)])
    ring_best.main()
    out = capsys.readouterr().out
    assert "– seed 0" in out and "– seed 1" in out and "published: paired" in out and "| perfect sampler |" in out
    assert (tmp_path / "ring_best.png").stat().st_size > 1000
    assert (tmp_path / "ring_few.png").is_file() and "| ours, 4 latents | 6 | 2 |" in out
    again = ring_best.one("best", 1, 6)
    row = common.read(tmp_path / "ring_best.csv")[1]
    assert {k: pytest.approx(v, rel=1e-8, nan_ok=True) for k, v in again.items()} == {k: row[k] for k in again}


def test_gamma_and_rates_fall_as_the_page_says():
    """γ: the first, halfway to the rest the geometric mean, then the last. Rates: 1 until then, and to 0."""
    gan = ring_best.make(0)
    x = np.float32([[0.5, -1.0], [2.0, 0.25]])

    class Round:
        real = fake = x
    unit = float((losses.r1(1.0)(gan.d, x, x) + losses.r2(1.0)(gan.d, x, x)).data)
    for step, gamma in ((0, 4.0), (25, 0.4), (50, 0.04), (99, 0.04)):
        gan.steps = step
        assert float(ring_best.falling(4.0, 0.04, 100)(gan, Round).data) == pytest.approx(gamma * unit, rel=1e-5)
    rates = [ring_best.resting(100)(step) for step in (0, 50, 75, 100)]
    assert rates == pytest.approx([1, 1, 0.501, 0.001])


# ------------------------------------------------------------------------------------------ 25 modes


@pytest.mark.parametrize("method, inputs, seen", [("steep", 64, 2), ("few", 4, 2), ("waves", 4, 130), ("jumps", 104, 2)])
def test_every_method_of_the_grid_has_the_networks_that_it_says_and_plays(method, inputs, seen):
    gan = grid_best.make(method, 0)
    assert shapes(gan.g) == shapes(gan.average.module) == [(inputs, 256), (256, 256), (256, 2)]
    assert shapes(gan.d) == [(seen, 256), (256, 256), (256, 1)]
    assert gan.latents(5).shape == (5, inputs)
    row = grid_best.one(method, 0, 2)
    assert 0 <= row["modes"] <= row["found"] <= 25 and 0 <= row["share"] <= 1


def test_waves_are_sines_and_cosines_that_do_not_learn():
    waves = grid_best.Waves()
    x = np.float32([[0.5, -1.0], [2.0, 0.25]])
    y = x @ waves.b
    np.testing.assert_allclose(waves(Tensor(x)).data, np.concatenate([x, np.sin(y), np.cos(y)], axis=1), atol=1e-6)
    assert waves.parameters() == [] and waves.b.std() == pytest.approx(grid_best.SPEED, rel=0.2)


# ------------------------------------------------------------------------------------------ VEEGAN


def test_a_ring_of_eight_with_both_ends_of_the_circle_has_seven_places_and_counts_as_eight():
    """The two rings by brute force, and what a perfect sampler of each is said to have found."""
    eight, seven = veegan.ring("eight"), veegan.ring("seven")
    assert len(eight.centers) == len(seven.centers) == 8
    for mixture, known in ((eight, 8), (seven, 7)):
        apart = np.hypot(*(mixture.centers[:, None] - mixture.centers).T)               # (8, 8)
        assert np.triu(apart < 1e-6, 1).sum() == 8 - known and len(veegan.places(mixture).centers) == known
    found = veegan.references()
    assert (found["eight"]["places"], found["eight"]["counted"]) == (8, 8)
    assert (found["seven"]["places"], found["seven"]["counted"]) == (7, 8)
    assert found["eight"]["first"] == pytest.approx(1 / 8, abs=0.03)
    assert found["seven"]["first"] == pytest.approx(2 / 8, abs=0.04)


def test_a_generator_with_one_place_has_found_one_however_it_is_counted():
    mixture = veegan.ring("eight")
    f = veegan.figures(mixture.centers[3] + 0.001 * np.eye(2)[[0, 1, 0, 1]], mixture)
    assert (f["places"], f["modes"], f["counted"], f["hq"]) == (1, 1, 1, 1.0)


@pytest.mark.parametrize("method", veegan.METHODS)
def test_every_method_of_the_narrow_ring_plays(method):
    gan = veegan.make(method, 0, 2)
    assert shapes(gan.g) == [(254, 128), (128, 128), (128, 2)]
    assert shapes(gan.d) == [(4 if method == "packed" else 2, 128), (128, 128), (128, 1)]
    row = veegan.one("seven", method, 0, 2)
    assert 0 <= row["places"] <= 7 and 0 <= row["counted"] <= 8 and 0 <= row["hq"] <= 1


# ------------------------------------------------------------------------------------------ PacGAN


def test_maxout_is_the_largest_of_its_pieces_and_its_slope_that_piece():
    layer = pacgan.Maxout(3, 2, pieces=4)
    x = np.float32([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]])
    pieces = (x @ layer.linear.weight.data + layer.linear.bias.data).reshape(2, 4, 2)
    np.testing.assert_allclose(layer(x).data, pieces.max(axis=1), rtol=1e-6)
    point = Tensor(x)
    best = 2 * pieces.argmax(axis=1) + np.arange(2)                                     # (N, out): the winner's column
    expected = layer.linear.weight.data[:, best].sum(axis=2).T                          # (N, in)
    np.testing.assert_allclose(grad(layer(point).sum(), point), expected, rtol=1e-5)


@pytest.mark.parametrize("method, m", pacgan.METHODS.items())
def test_the_networks_of_pacgan_are_the_published_ones(method, m):
    gan = pacgan.make(method, 0)
    assert shapes(gan.g) == [(2, 400), *3 * [(400, 400)], (400, 2)]
    assert shapes(gan.d) == [(2 * m, 1000), *2 * [(200, 1000)], (200, 1)]
    assert gan.simultaneous and (gan.opt_d.lr, gan.opt_d.betas) == (1e-4, (0.8, 0.999))
    weights = np.concatenate([p.data.ravel() for p in gan.d.parameters() if p.ndim == 2])
    assert weights.std() == pytest.approx(0.02, rel=0.01)


def test_packs_of_two_are_played_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pacgan.py", "--seeds", "1", "--steps", "2", "--methods", "pacgan2",
                                      "--mixtures", "ring", "--out", str(tmp_path)])
    pacgan.main()
    out = capsys.readouterr().out
    assert "| ring | pacgan2 | 2 | 1 |" in out and "7.9 ± .1" in out and "98.9" in out
    (row,) = common.read(tmp_path / "pacgan.csv")
    assert row["found"] <= 8 and row["reverse_kl"] <= np.log(8) + 1e-6


def test_what_packing_changes_is_given_with_the_error_of_the_difference():
    rows = [dict(mixture="ring", method=method, steps=2, found=found, hq=0.5, reverse_kl=0.1, modes=1, width=1.0)
            for method, values in (("gan", (2, 4)), ("pacgan2", (7, 7))) for found in values]
    cells = pacgan.effects(rows).splitlines()[2].split(" | ")               # 3 ± 1 and 7 ± 0; 7.9 ± .1 and 6.3 ± .5
    assert cells[2:6] == ["+4.0 ± 1.0", "+1.6 ± 0.5", "+0.0 ± 0.0", "-2.6 ± 2.0"]
    assert "| -9.0, -22.8, +1.0 |" in pacgan.compare(rows), "(7 − 7.9) / .1, (50 − 95.6) / 2, (.1 − .07) / .03"


def test_six_pictures_become_one_when_all_are_there(tmp_path):
    for i, (name, method) in enumerate((x, m) for x in pacgan.DATA for m in pacgan.METHODS):
        assert not (tmp_path / "pacgan.png").exists()
        plot.save_image(tmp_path / f"pacgan_{name}_{method}.png", np.full((4, 4, 3), 40 * i, np.uint8))
        pacgan.together(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pacgan.png"]
    picture = np.asarray(Image.open(tmp_path / "pacgan.png"))
    np.testing.assert_array_equal(picture[::2, ::2, 0], [[0, 40, 80], [120, 160, 200]])


# ------------------------------------------------------------------------------------------ the page


def test_the_page_shows_the_figures_of_the_files():
    """Every table of the page is what the scripts make of the saved rows."""
    page = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    for script in (ring_best, grid_best, veegan, pacgan):
        rows = common.read(common.RESULTS / f"{script.__name__}.csv")
        assert rows and script.compare(rows) in page
    assert pacgan.effects(rows) in page
