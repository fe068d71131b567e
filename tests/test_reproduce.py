"""The scripts that reproduce published tables: exact where theory is exact, and true to their protocols on a small budget."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygan import Randomness, data, nn

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "reproduce"
before = list(sys.path)
sys.path.insert(0, str(FOLDER))
common, digits, dirac, grid, ring, stacked = (importlib.import_module(name) for name in (
    "common", "digits", "dirac", "grid", "ring", "stacked"))
sys.path[:] = before
LINEAR = [name for name, (_, coefficients, _) in dirac.METHODS.items() if coefficients]


# ------------------------------------------------------------------------------------------- Dirac


@pytest.mark.parametrize("order", dirac.ORDERS)
@pytest.mark.parametrize("method", LINEAR)
def test_rates_of_the_dirac_gan_are_the_predicted_ones(method, order):
    options, coefficients, _ = dirac.METHODS[method]
    rate = dirac.measured(dirac.trajectory(options, order, (1e-6, 1e-6), 200))
    assert rate == pytest.approx(dirac.predicted(coefficients, order), rel=1e-5)
    assert dirac.predicted(coefficients, order) == pytest.approx(
        np.abs(np.linalg.eigvals(dirac.matrix(coefficients, order))).max(), rel=1e-6)


def test_predictions_known_in_closed_form():
    """Spirals out by √(1 + η² a²), circles if G meets the new D, and consensus as in the literature."""
    for a in (0.5, 1.0):
        assert dirac.predicted((a, 0, 0), "simultaneous") == pytest.approx(np.hypot(1, dirac.ETA * a), rel=1e-12)
        assert dirac.predicted((a, 0, 0), "alternating") == pytest.approx(1, rel=1e-12)
    rates = [dirac.predicted(dirac.METHODS["consensus, γ = 1"][1], order) for order in dirac.ORDERS]
    assert rates == pytest.approx([0.987816, 0.9875], abs=5e-7)
    assert dirac.eigenvalues((0.5, 1.0, 0)) == "-0.5 (twice)", "the critical γ is 2 |ℓ'(0)|"
    assert dirac.eigenvalues((0.5, 0.6, 0)) == "-0.3 ± 0.4i"


@pytest.mark.parametrize("order", dirac.ORDERS)
def test_r1_walks_as_the_formulas_written_out(order):
    psi, theta, expected = 1.0, 1.0, [(1.0, 1.0)]
    for _ in range(50):
        s = 1 / (1 + np.exp(-psi * theta))
        after = psi - dirac.ETA * (s * theta + dirac.GAMMA * psi)
        told = psi if order == "simultaneous" else after
        theta += dirac.ETA * told / (1 + np.exp(told * theta))
        psi = after
        expected.append((psi, theta))
    options = dirac.METHODS[f"R1, γ = {dirac.GAMMA:g}"][0]
    np.testing.assert_allclose(dirac.trajectory(options, order, (1.0, 1.0), 50), expected, rtol=1e-12)


def test_wgan_gp_circles_where_r1_arrives():
    ends = {m: np.hypot(*dirac.trajectory(dirac.METHODS[m][0], "alternating", (1.0, 1.0), 600)[-200:].T)
            for m in ("WGAN-GP", "R1, γ = 0.5")}
    assert ends["WGAN-GP"].min() > 0.9 and ends["WGAN-GP"].max() < 1.6
    assert ends["R1, γ = 0.5"][-1] < 2e-3


# -------------------------------------------------------------------------------------------- ring


def test_a_table_of_runs_in_processes_is_made_once(tmp_path, monkeypatch, capsys):
    """Rows, table and picture; what the CSV has is not run again; and a run repeats to the last digit."""
    monkeypatch.setattr(sys, "argv", ["ring.py", "--seeds", "2", "--steps", "10", "--methods", "vanilla", "--out", str(tmp_path)])
    first, second = ((ring.main(), capsys.readouterr())[1] for _ in range(2))
    assert first.err.count("job") == 2 and second.err == "" and first.out == second.out
    rows = common.read(tmp_path / "ring.csv")
    assert [(row["method"], row["seed"]) for row in rows] == [("vanilla", 0), ("vanilla", 1)]
    again = ring.one("vanilla", 1, 10)
    assert {k: pytest.approx(v, rel=1e-8, nan_ok=True) for k, v in again.items()} == {k: rows[1][k] for k in again}
    assert "7.60 ± 0.89" in first.out and "0.226 ± 0.072" in first.out and "98.9" in first.out
    assert (tmp_path / "ring.png").stat().st_size > 1000


@pytest.mark.parametrize("method, inputs", [("vanilla", 2), ("relativistic", 2), ("packed", 4)])
def test_the_networks_and_the_optimiser_of_the_ring_are_the_published_ones(method, inputs):
    gan = ring.make(method, 0, 0)
    shapes = [[p.shape for p in net.parameters() if p.ndim == 2] for net in (gan.g, gan.d)]
    assert shapes == [[(16, 128), (128, 128), (128, 2)], [(inputs, 128), (128, 128), (128, 1)]]
    for opt in (gan.opt_g, gan.opt_d):
        assert (type(opt).__name__, opt.lr, opt.betas) == ("Adam", 2e-4, (0.5, 0.999))


def test_generator_and_discriminator_of_the_ring_meet_batches_of_their_own():
    seen = []
    gan = ring.make("vanilla", 0, 0)
    gan.terms_d = gan.terms_g = (lambda _, r: seen.append((r.real, r.z)) or 0.0,)
    ring.play(gan, data.ring(), 2)
    assert len(seen) == 4 and all(len(real) == len(z) == 256 for real, z in seen)
    assert len({array.tobytes() for pair in seen for array in pair}) == 8


def test_crossed_runs_share_the_weights_or_the_batches():
    gans = {k: ring.make("vanilla", *k) for k in ((0, 0), (0, 1), (1, 1))}
    weights = {k: g.g.parameters()[0].data.tobytes() for k, g in gans.items()}
    latents = {k: g.latents(5).tobytes() for k, g in gans.items()}
    assert weights[0, 0] == weights[0, 1] != weights[1, 1] and latents[0, 0] != latents[0, 1] == latents[1, 1]


def test_pytorch_plays_the_same_ring():
    """The control has the same weights, batches, latents and rules: after 20 steps it draws the same points."""
    pytest.importorskip("torch")
    gan = ring.make("vanilla", 0, 0)
    z, start = gan.latents(ring.SAMPLES, "evaluate"), ring.in_torch(0, 0)
    np.testing.assert_allclose(start, gan.sample(z), atol=1e-6)
    ring.play(gan, data.ring(), 20)
    ours, theirs = gan.sample(z), ring.in_torch(0, 20)
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    assert np.abs(ours - start).max() > 0.01, "it has moved"


def test_share_of_the_variance():
    """1 if the rows decide, −1/(m − 1) at the least, and in the mean 0 where they do not matter."""
    rng = Randomness(0).rng("test")
    assert ring.variance(np.outer([1.0, 2.0, 5.0], np.ones(4))) == 1
    assert ring.variance(np.array([[0.0, 1.0], [1.0, 0.0]])) == -1
    assert abs(np.mean([ring.variance(rng.standard_normal((6, 5))) for _ in range(300)])) < 0.05
    half = np.mean([ring.variance(rng.standard_normal((60, 5)) + rng.standard_normal((60, 1))) for _ in range(100)])
    assert half == pytest.approx(0.5, abs=0.04)


# -------------------------------------------------------------------------------------------- grid


def test_uniform_noise_finds_every_mode_and_a_perfect_sampler_stays_below_the_ceiling():
    (_, noise), (_, perfect) = grid.references()
    assert noise["found"] == 25 and noise["modes"] == 0
    assert noise["share"] == pytest.approx(25 * np.pi * 0.15 ** 2 / 100, abs=0.006)
    assert perfect["modes"] == 25 and perfect["share"] == pytest.approx(0.98889, abs=0.004)


@pytest.mark.parametrize("method", grid.METHODS)
def test_every_method_of_the_grid_plays(method):
    row = grid.one(method, 0, 3)
    assert 0 <= row["found"] <= 25 and 0 <= row["share"] <= 1
    gan = grid.make(0, **grid.METHODS[method])
    assert len(gan.penalty or ()) == (0 if method == "none" else 2) and gan.opt_d.betas == (0.0, 0.99)


# ------------------------------------------------------------------------------------------ digits


def norms(net):
    return any(isinstance(layer, nn.BatchNorm) for layer in net.modules())


def test_the_objectives_meet_on_the_same_networks():
    """Whatever the method: G and its average are alike, and D has the same weights, with BatchNorm or without. Only
    the control without dense layers has fewer, and none of 256 units."""
    gans = {method: digits.make(method, 0) for method in digits.METHODS}
    bare = gans.pop("no-dense")
    assert not any(256 in p.shape for net in bare.networks().values() for p in net.parameters())
    for net in (lambda gan: gan.g, lambda gan: gan.average.module, lambda gan: gan.d):
        assert len({str([p.shape for p in net(gan).parameters() if p.ndim > 1]) for gan in gans.values()}) == 1
    gans["no-dense"] = bare
    assert {method for method, gan in gans.items() if norms(gan.d)} == {"non-saturating", "least-squares", "hinge"}
    for method, gan in gans.items():
        assert norms(gan.g) and gan.opt_d.lr == (2e-4 if method in ("no-norm-slow", "no-dense") else 1e-3)
        assert gan.opt_g.lr == gan.opt_d.lr * (3 if norms(gan.d) or method == "no-norm" else 1)
    assert gans["no-norm"].loss is gans["non-saturating"].loss and gans["no-norm"].opt_d.betas == (0.5, 0.999)
    assert {method for method, gan in gans.items() if gan.d_steps == 2} == {"wgan-gp"}


def test_the_figures_of_digits_know_the_best_and_a_certain_way_to_fail():
    real, ten = (digits.figures(digits.reference(name, 0, 1000), 1000) for name in ("real", "ten pictures"))
    assert real["confident"] > 0.95 and real["tv"] < 0.06 and real["digits"] == 10
    assert min(real[key] for key in ("precision", "recall", "coverage")) > 0.8 and 0.8 < real["density"] < 1.2
    assert ten["recall"] == ten["spread"] == 0 and ten["coverage"] < 0.1 < real["spread"] and ten["digits"] == 10
    assert ten["frechet"] > 5 * real["frechet"]


def test_tv_of_a_single_digit_is_one_less_its_share():
    x, labels = data.digits().x, data.digits().labels
    sevens = x[labels == 7][:200]
    found = digits.figures(np.repeat(sevens[digits.m.classify(digits.m.judge().module, sevens)[0] == 7][:1], 30, axis=0), 30)
    assert found["tv"] == pytest.approx(1 - (labels == 7).mean()) and (found["smallest"], found["digits"]) == (0, 1)


def test_the_table_of_digits_is_made_of_runs_in_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(digits, "REFERENCES", ("real",))
    monkeypatch.setattr(sys, "argv", ["digits.py", "--seeds", "1", "--steps", "2", "--samples", "60", "--methods", "r3gan",
                                      "--out", str(tmp_path)])
    digits.main()
    shown, rows = capsys.readouterr().out, common.read(tmp_path / "digits.csv")
    assert [(row["method"], row["steps"]) for row in rows] == [("r3gan", 2), ("real", 0)]
    again = digits.one("r3gan", 0, 2, 60, tmp_path / "x.png")
    assert all(again[key] == pytest.approx(rows[0][key], rel=1e-6, nan_ok=True) for key in digits.FIGURES)
    assert digits.compare(rows) in shown and "| 82.5 ± 0.5 |" in shown and "0.126 ± 0.008" in shown
    assert all((tmp_path / name).stat().st_size > 100 for name in ("digits.png", "x.png"))


# ----------------------------------------------------------------------------------------- stacked


def test_channels_are_read_one_by_one():
    """A 3 in the first channel and a 7 in the second are mode 73, as sure as the less readable of both."""
    x, labels = data.digits().x, data.digits().labels
    threes, sevens = x[labels == 3][:100], x[labels == 7][:100]
    mode, sure = stacked.modes(np.concatenate([threes, sevens], axis=-1))
    assert (mode == 73).mean() > 0.95 and not (mode == 37).any()
    module = digits.m.judge().module
    np.testing.assert_allclose(sure, np.minimum(*(digits.m.classify(module, each)[1] for each in (threes, sevens))), rtol=1e-5)
    assert np.median(stacked.modes(np.concatenate([threes, sevens, threes], axis=-1))[0]) == 373


def test_kl_to_the_uniform_distribution():
    assert stacked.kl(np.full(100, 26)) == pytest.approx(0, abs=1e-12)
    assert stacked.kl(np.repeat([26, 0], [10, 90])) == pytest.approx(np.log(10))
    draws = Randomness(0).rng("test").multinomial(2600, np.full(100, 0.01), size=200)
    assert np.mean([stacked.kl(d) for d in draws]) == pytest.approx(99 / 5200, rel=0.05), "what chance alone makes"


def test_samplers_whose_modes_are_known():
    perfect, ten = (stacked.figures(stacked.reference(name, 0, 2, 600)) for name in ("perfect", "ten modes"))
    assert perfect["modes"] > 95 and perfect["kl"] == pytest.approx(99 / 1200, abs=0.03) and perfect["confident"] > 0.9
    assert 10 <= ten["half"] <= 12 and 0.9 * np.log(10) < ten["kl"] < np.log(10)
    assert 10 < ten["modes"] < 40, "errors of the reader find modes that nobody drew"


def test_both_players_see_the_channels_of_the_stack():
    for method, channels, seen in (("dcgan", 2, 2), ("packed", 2, 4), ("packed", 3, 6), ("r3gan", 3, 3)):
        gan = stacked.make(method, 0, channels)
        assert gan.d.parameters()[0].shape[2] == seen and gan.sample(gan.latents(2)).shape == (2, 28, 28, channels)
        assert norms(gan.d) == (method != "r3gan")
    x = stacked.stacks(np.arange(5, dtype=np.float32).repeat(784).reshape(5, 28, 28, 1), Randomness(0).rng("test"), 500, 2)
    assert x.shape == (500, 28, 28, 2) and (x.std(axis=(1, 2)) == 0).all(), "a channel is one digit"
    assert len({tuple(pair) for pair in x[:, 0, 0]}) == 25, "and the channels are independent"


def test_the_table_of_stacks_is_made_of_runs_in_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stacked, "REFERENCES", ("perfect",))
    monkeypatch.setattr(sys, "argv", ["stacked.py", "--seeds", "1", "--steps", "2", "--per-mode", "1", "--methods", "packed",
                                      "--out", str(tmp_path)])
    stacked.main()
    shown, rows = capsys.readouterr().out, common.read(tmp_path / "stacked.csv")
    assert [(row["method"], row["channels"]) for row in rows] == [("packed", 2), ("perfect", 2)]
    again = stacked.one("packed", 0, 2, 2, per_mode=1)
    assert {k: again[k] for k in ("modes", "half", "last_modes")} == {k: rows[0][k] for k in ("modes", "half", "last_modes")}
    assert stacked.compare(rows) in shown and "1000 / 0.06" in shown and "2.303" in shown
    assert all((tmp_path / name).stat().st_size > 500 for name in ("stacked.png", "stacked_packed2.png"))


# ------------------------------------------------------------------------------------ what they share


def test_a_csv_is_read_as_it_was_written(tmp_path):
    rows = [{"a": 1, "b": "one", "c": 0.25}, {"a": 2, "d": 1e-12}]
    common.write(tmp_path / "x.csv", rows)
    assert common.read(tmp_path / "x.csv") == [{"a": 1, "b": "one", "c": 0.25, "d": ""},
                                               {"a": 2, "b": "", "c": "", "d": 1e-12}]
    assert common.read(tmp_path / "none.csv") == []
    with pytest.raises(ValueError, match="no comma"):
        common.write(tmp_path / "x.csv", [{"a": "1, 2"}])


def test_a_job_that_fails_says_why_and_leaves_no_row(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("raise SystemExit('the reason')")
    with pytest.raises(RuntimeError, match="the reason"):
        common.run(script, [{"seed": 0}], tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()


def test_means_and_differences():
    assert common.mean_sd([1, 2, 3]) == (2, 1)
    assert (common.pm([1, 2, 3], 1), common.pm([2], 2)) == ("2.0 ± 1.0", "2.00")
    assert common.difference((1.0, 3.0, 9), (0.0, 4.0, 16)) == pytest.approx(1 / 2 ** 0.5)
    assert common.difference((1.0, 3.0, 18), (0.0, None, 18)) == pytest.approx(1)
    assert common.correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert np.isnan(common.correlation([1, 1, 1], [1, 2, 3]))


def test_the_page_shows_the_figures_of_the_files():
    """Every table of the page is what the scripts make of the saved rows."""
    page = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    saved = {name: common.read(common.RESULTS / f"{name}.csv")
             for name in ("dirac", "ring", "ring_crossed", "ring_control", "grid", "digits", "stacked")}
    assert all(saved.values())
    for shown in (dirac.compare(saved["dirac"]), ring.compare(saved["ring"]), ring.decides(saved["ring"]),
                  ring.crossed(saved["ring_crossed"], saved["ring"]), ring.control(saved["ring_control"], saved["ring"]),
                  grid.compare(saved["grid"]), digits.compare(saved["digits"]), digits.beside(saved["digits"]),
                  stacked.compare(saved["stacked"])):
        assert shown in page
