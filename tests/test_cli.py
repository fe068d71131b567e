"""The command: every option does what it says, and bad input is one line on stderr with exit status 2."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tinygan import cli, data, plot
from tinygan.conditions import CONDITIONS
from tinygan.losses import LOSSES
from tinygan.randomness import seed
from tinygan.recipes import DEFAULTS, RECIPES

TINY = ["--steps", "2", "--width", "4", "--latent", "3", "--batch-size", "4"]


@pytest.fixture(scope="module")
def few():
    """The first 100 digits."""
    digits = data.digits()
    return data.Dataset("digits", digits.x[:100], digits.labels[:100])


class NoCupy:
    """An import hook that makes CuPy absent, also on machines that have it."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cupy":
            raise ModuleNotFoundError("No module named 'cupy'")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, few):
    """Every test has a folder of its own as the current one, 100 digits, an empty cache, and no GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "digits", lambda: few)
    monkeypatch.setattr(data, "mnist", lambda split: data.Dataset("mnist", few.x, few.labels))
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoCupy(), *sys.meta_path])
    return tmp_path


@pytest.fixture
def cheap(monkeypatch):
    """Figures take 0.3 s each; where a test is not about them, a small patch of grey will do."""
    monkeypatch.setattr(
        plot, "density", lambda fake, *args, **kwargs: np.uint8(fake[:3, :1].T.clip(0, 1) * 255).repeat(3, 0)
    )
    monkeypatch.setattr(plot, "losses", lambda log: np.zeros((4, 4, 3), np.uint8))


@pytest.fixture
def tinygan(capsys):
    """tinygan("train", ...) runs the command in this process: (exit status, stdout, stderr)."""
    def call(*args):
        try:
            status = cli.main([str(a) for a in args])
        except SystemExit as e:
            status = e.code
        return status, *capsys.readouterr()
    return call


@pytest.fixture
def images(here):
    """--data of twelve small colour images."""
    (here / "images").mkdir()
    for k, x in enumerate(np.random.default_rng(0).integers(0, 256, (12, 9, 10, 3), np.uint8)):
        Image.fromarray(x).save(here / "images" / f"{k}.png")
    return "folder:images"


def one_line(err):
    return err.endswith("\n") and err.count("\n") == 1 and "Traceback" not in err


def python(*args, **options):
    """A process of its own."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


# ---- train ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name, model", [("ring", "mlp"), ("folder", "conv"), ("folder", "mlp"), ("digits", "conv")])
def test_every_loss_trains_on_points_and_images_with_both_models(tinygan, cheap, images, loss, name, model):
    name = images if name == "folder" else name
    status, out, err = tinygan(
        "train", "--data", name, "--model", model, "--loss", loss, "--size", 8, *TINY, "--out", "run"
    )
    assert (status, err) == (0, "")
    assert " ".join(sorted(os.listdir("run"))) == "config.json log.csv losses.png samples.png training.gif weights.npz"
    with open("run/config.json") as file:
        config = json.load(file)
    assert (config["data"], config["model"], config["loss"], config["steps"]) == (
        name.replace("folder:", f"folder:{os.getcwd()}/"), model, loss, 2)
    assert out.splitlines()[-1].endswith("see run/samples.png and run/training.gif")
    with np.load("run/weights.npz", allow_pickle=False) as file:
        assert all(np.isfinite(file[k]).all() for k in file.files if file[k].dtype.kind == "f")


@pytest.mark.parametrize("name", ["digits", "mnist", "ring", "grid", "swissroll", "folder"])
def test_every_data_set_has_its_default_model_and_folder(tinygan, cheap, images, name):
    model = "mlp" if name in ("ring", "grid", "swissroll") else "conv"
    status, out, err = tinygan("train", "--data", images if name == "folder" else name, "--size", 8, *TINY)
    assert (status, err) == (0, "")
    first = out.splitlines()[0]
    assert f"{model} networks" in first and first.endswith(f"writing to runs/{name}-{model}")
    assert os.path.exists(f"runs/{name}-{model}/weights.npz")


def test_options_reach_the_run(tinygan, cheap):
    options = ("--data ring --loss hinge --steps 3 --batch-size 5 --lr 0.01 --width 7 --latent 2 --seed 9 --device cpu "
               "--out run")
    status, _, _ = tinygan("train", *options.split())
    assert status == 0
    with open("run/config.json") as file:
        assert json.load(file) == {
            "data": "ring", "model": "mlp", "loss": "hinge", "steps": 3, "batch_size": 5, "lr": 0.01, "seed": 9,
            "device": "cpu", "size": 64, "grey": False, "width": 7, "latent": 2, "keep": 1, "shape": [2]}
    with np.load("run/weights.npz") as file:
        assert file["generator/0.weight"].shape == (2, 7)


def test_a_run_is_not_overwritten_without_force(tinygan, cheap):
    assert tinygan("train", "--data", "ring", *TINY)[0] == 0
    before = os.stat("runs/ring-mlp/weights.npz").st_mtime_ns
    status, out, err = tinygan("train", "--data", "ring", *TINY)
    assert status == 2 and one_line(err)
    assert "runs/ring-mlp already holds a run" in err and "--force" in err and "--resume" in err
    assert os.stat("runs/ring-mlp/weights.npz").st_mtime_ns == before
    assert tinygan("train", "--data", "ring", *TINY, "--force")[0] == 0
    assert os.stat("runs/ring-mlp/weights.npz").st_mtime_ns > before


def test_resume_goes_on_to_the_weights_of_an_uninterrupted_run(tinygan, cheap):
    tiny = ["--data", "ring", *TINY[2:]]
    assert tinygan("train", *tiny, "--steps", 5, "--out", "whole")[0] == 0
    assert tinygan("train", *tiny, "--steps", 2, "--out", "parts")[0] == 0
    seed(99)
    status, out, err = tinygan("train", "--resume", "parts", "--steps", 5)
    assert (status, err) == (0, "") and "step 5/5" in out
    with np.load("whole/weights.npz") as whole, np.load("parts/weights.npz") as parts:
        assert whole.files == parts.files
        for k in set(whole.files) - {"info"}:
            np.testing.assert_array_equal(whole[k], parts[k])


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_command_saves_and_exits(here, number, status):
    """In a process of its own; the signal comes after the first line of progress."""
    options = "--data ring --steps 50000 --width 4 --batch-size 4 --out run"
    process = python("-m", "tinygan", "train", *options.split(), cwd=here)
    try:
        for line in process.stdout:
            if line.startswith("step "):
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == status and "Traceback" not in err
    assert out.splitlines()[-1].startswith("stopped at step ") and out.endswith(
        "go on with: tinygan train --resume run\n"
    )
    assert {"weights.npz", "samples.png", "log.csv"} <= set(os.listdir(here / "run"))
    assert cli.main(["sample", str(here / "run"), "--out", str(here / "grid.png"), "--n", "4"]) == 0


def test_a_reader_that_goes_away_as_head_does_costs_nothing(here):
    """`tinygan train | head -1`: the pipe closes after one line. Saved, no traceback, and the run can go on."""
    process = python("-m", "tinygan", "train", *"--data ring --steps 9 --width 4 --batch-size 4 --out run".split(), cwd=here)
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 141 and one_line(err), err
    assert err.startswith("tinygan: output failed (BrokenPipeError): stopped at step ")
    assert err.endswith("go on with: tinygan train --resume run\n")
    out, err = python("-m", "tinygan", "train", "--resume", "run", cwd=here).communicate(timeout=120)
    assert "done in" in out and err == ""


@pytest.mark.parametrize("args", [["info"], ["--help"]])
def test_other_commands_do_not_complain_of_a_closed_pipe(here, args):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen([sys.executable, "-m", "tinygan", *args], stdout=write, stderr=subprocess.PIPE, cwd=here,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    os.close(write)
    assert process.communicate(timeout=60)[1] == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_imports_is_one_line(here, number):
    """A module that the command imports sends it."""
    (here / "tqdm.py").write_text(f"import os; os.kill(os.getpid(), {int(number)})")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(here), *sys.path]))}
    found = subprocess.run([sys.executable, "-m", "tinygan", "info"], cwd=here, env=env, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (128 + number, "", "tinygan: interrupted\n")


def test_importing_the_library_sets_no_handlers(here):
    code = "import signal; a = signal.getsignal(2), signal.getsignal(15); import tinygan; print(a == (signal.getsignal(2), " \
           "signal.getsignal(15)))"
    assert python("-c", code, cwd=here).communicate(timeout=60) == ("True\n", "")


def test_a_signal_before_the_training_is_one_line(tinygan, monkeypatch):
    monkeypatch.setattr(data, "digits", lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert tinygan("train") == (143, "", "tinygan: interrupted\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_keep_keeps_checkpoints(tinygan, cheap, monkeypatch):
    monkeypatch.setattr("tinygan.run.PERIOD", -1)
    assert tinygan("train", "--data", "ring", *TINY, "--steps", 5, "--keep", 3, "--out", "run")[0] == 0
    assert {n for n in os.listdir("run") if n.endswith(".npz")} == {
        "weights.npz", "weights-4.npz", "weights-3.npz"}
    with open("run/config.json") as file:
        assert json.load(file)["keep"] == 3
    assert tinygan("train", "--data", "ring", *TINY, "--force", "--out", "run")[0] == 0
    assert {n for n in os.listdir("run") if n.endswith(".npz")} == {"weights.npz"}


def test_a_run_that_diverges_exits_1_with_one_line(tinygan, cheap, monkeypatch):
    def nan(d_fake):
        return d_fake.mean() * np.float32(np.nan)

    monkeypatch.setitem(LOSSES, "hinge", LOSSES["hinge"]._replace(generator=nan))
    status, _, err = tinygan("train", "--data", "ring", "--loss", "hinge", *TINY, "--out", "run")
    assert status == 1 and one_line(err) and "the generator's loss is nan at step 1; try a smaller learning rate" in err


def test_a_failed_download_exits_1_with_a_hint(tinygan, monkeypatch):
    def mnist(split):
        raise data.DownloadError("download failed (...). To work offline, ...")

    monkeypatch.setattr(data, "mnist", mnist)
    status, _, err = tinygan("train", "--data", "mnist", *TINY)
    assert status == 1 and one_line(err) and "To work offline" in err


def test_a_full_disk_exits_1(tinygan, cheap, monkeypatch):
    def fsync(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    status, _, err = tinygan("train", "--data", "ring", *TINY, "--out", "run")
    assert status == 1 and one_line(err) and "No space left on device" in err
    assert os.listdir("run") == []


def test_networks_that_do_not_fit_into_memory_exit_1(tinygan, monkeypatch):
    def uniform(*args):
        raise MemoryError("Unable to allocate 3.64 TiB")

    monkeypatch.setattr("tinygan.nn.uniform", uniform)
    status, _, err = tinygan("train", "--data", "ring", *TINY, "--out", "run")
    assert status == 1 and one_line(err) and "Unable to allocate" in err


def test_files_that_are_no_images_are_skipped_with_one_line(here, images):
    """A warning of one line, without the source code that Python would print with it."""
    (here / "images" / "notes.txt").write_text("not an image")
    process = python(
        "-m", "tinygan", "train", "--data", images, "--size", "8", "--model", "mlp", *TINY, "--out", "run", cwd=here
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and one_line(err), err
    assert err.startswith("tinygan: folder images: ") and "1 skipped: 1 × no image (notes.txt)" in err


# ---- sample, info, help -----------------------------------------------------------------------------------

@pytest.fixture
def digits_run(tinygan, cheap):
    assert tinygan("train", "--model", "mlp", *TINY, "--out", "run")[0] == 0
    return "run"


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_sample_draws_n_digits_of_a_seed(tinygan, digits_run):
    assert tinygan("sample", digits_run, "--n", 6, "--out", "a.png") == (0, "6 samples: a.png\n", "")
    a = picture("a.png")
    assert a.dtype == np.uint8 and a.shape == (2 * 58 + 2, 3 * 58 + 2)  # 2 rows of 3, enlarged to 56, with borders of 2
    tinygan("sample", digits_run, "--n", 6, "--out", "b.png")
    tinygan("sample", digits_run, "--n", 6, "--seed", 1, "--out", "c.png")
    np.testing.assert_array_equal(picture("b.png"), a)
    assert not np.array_equal(picture("c.png"), a)


def test_sample_writes_64_to_grid_png_by_default(tinygan, digits_run):
    assert tinygan("sample", digits_run) == (0, "64 samples: grid.png\n", "")
    assert picture("grid.png").shape == (8 * 58 + 2, 8 * 58 + 2)


def test_sample_gives_the_first_ones_of_a_larger_draw(tinygan, digits_run):
    """More than a batch of 256, and the same for any n."""
    assert tinygan("sample", digits_run, "--n", 300, "--out", "many.png")[1].startswith("300 samples")
    tinygan("sample", digits_run, "--n", 2, "--out", "two.png")
    np.testing.assert_array_equal(picture("many.png")[:58, :118], picture("two.png")[:58, :118])


def test_sample_replaces_a_link_and_leaves_the_old_picture_on_a_full_disk(tinygan, here, digits_run, monkeypatch):
    tinygan("sample", digits_run, "--n", 2, "--out", "old.png")
    (here / "a.png").symlink_to("old.png")
    before = (here / "old.png").read_bytes()
    assert tinygan("sample", digits_run, "--n", 4, "--out", "a.png")[0] == 0
    assert not (here / "a.png").is_symlink() and (here / "old.png").read_bytes() == before

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _, err = tinygan("sample", digits_run, "--n", 9, "--out", "old.png")
    assert status == 1 and one_line(err) and (here / "old.png").read_bytes() == before


def test_interpolate_walks_along_each_row(tinygan, digits_run):
    assert tinygan("sample", digits_run, "--n", 16, "--interpolate", "--out", "walk.png")[:2] == (
        0,
        "16 samples: walk.png\n",
    )
    assert picture("walk.png").shape == (2 * 58 + 2, 8 * 58 + 2)


@pytest.mark.parametrize("extra", [(), ("--interpolate",)])
def test_sample_of_points_draws_them_over_the_data(tinygan, cheap, monkeypatch, extra):
    assert tinygan("train", "--data", "ring", *TINY, "--out", "run")[0] == 0
    seen = []
    monkeypatch.setattr(plot, "density", lambda fake, real, field: (seen.append((fake, real, field(real[:5]))),
                                                                    np.zeros((4, 4, 3), np.uint8))[1])
    assert tinygan("sample", "run", "--n", 24, "--out", "points.png", *extra)[0] == 0
    (fake, real, field), = seen
    assert fake.shape == (24, 2) and abs(np.hypot(*real.T).mean() - 2) < 0.1 and field.shape == (5,)
    assert picture("points.png").shape == (4, 4, 3)


def test_walks_keep_the_length_that_latents_have():
    """A straight line between two latents comes down to 71 % of their length; this arc does not."""
    a, b = np.random.default_rng(0).standard_normal((2, 100_000)).astype(np.float32)
    steps = cli.walk(a, b, 9)
    assert steps.dtype == np.float32
    np.testing.assert_allclose(steps[[0, -1]], [a, b], atol=1e-5)
    np.testing.assert_allclose(steps.std(axis=1), 1, rtol=1e-2)
    turns = [np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)) for u, v in zip(steps, steps[1:], strict=False)]
    np.testing.assert_allclose(turns, turns[0], rtol=2e-2)                      # equal angles


def test_info_names_versions_blas_cores_and_the_gpu(tinygan):
    status, out, err = tinygan("info")
    assert (status, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["tinygan", "Python", "NumPy", "matplotlib", "threads", "GPU"]
    assert np.__version__ in out and "BLAS" in out and "none: no usable GPU" in out


def test_help_shows_worked_examples(tinygan):
    for command in ([], ["train"]):
        status, out, _ = tinygan(*command, "--help")
        assert status == 0 and "tinygan train   " in out and "tinygan train --data ring --recipe wgan-gp" in out
    assert "tinygan sample runs/digits-conv --interpolate" in tinygan("sample", "--help")[1]


def test_python_dash_m_is_the_same_command(tinygan):
    out, err = python("-m", "tinygan", "--help").communicate(timeout=30)
    assert (err, out) == ("", tinygan("--help")[1])


def test_the_examples_in_the_help_are_valid_commands():
    for line in (cli.TRAIN_HELP + cli.SAMPLE_HELP).splitlines():
        if line.startswith("  tinygan "):
            command = line.strip().partition("   ")[0]          # the explanation stands apart
            cli.parser().parse_args(command.split()[1:])


def test_help_of_train_shows_every_default(tinygan):
    status, out, _ = tinygan("train", "--help")
    out = " ".join(out.split())
    assert status == 0 and data.CHOICES in out and all(loss in out for loss in LOSSES)
    for key in ("steps", "batch_size", "lr", "width", "latent"):
        assert ", ".join(f"{values[key]} for {kind}" for kind, values in DEFAULTS.items()) in out


# ---- bad input --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("args, words", [
    ([], "required"),
    (["fly"], "invalid choice: 'fly'"),
    (["--fly"], "--fly|required"),
    (["train", "--fly"], "unrecognized arguments: --fly"),
    (["train", "ring"], "unrecognized arguments: ring"),
    (["train", "--data"], "--data: expected one argument"),
    (["train", "--data", "cifar"], "unknown data 'cifar': choose one of digits, mnist, ring"),
    (["train", "--data", "d"], "unknown data 'd'"),
    (["train", "--data", "folder:none"], "no image found below none"),
    (["train", "--data", "ring", "--model", "conv"], "conv needs images, but ring is made of points"),
    (["train", "--model", "big"], "--model: invalid choice: 'big'"),
    (["train", "--loss", "gan"], "--loss: invalid choice: 'gan'"),
    (["train", "--steps", "0"], "steps: expected an integer from 1 to 1000000000, got 0"),
    (["train", "--steps", "1.5"], "--steps: invalid int value: '1.5'"),
    (["train", "--steps", "many"], "--steps: invalid int value: 'many'"),
    (["train", "--batch-size", "1"], "batch_size: expected an integer from 2"),
    (["train", "--batch-size", "101"], "--batch-size 101 is more than the 100 samples of digits"),
    (["train", "--lr", "0"], "lr: expected a number from 1e-12 to 10.0, got 0.0"),
    (["train", "--lr", "-1"], "lr: expected a number from"),
    (["train", "--lr", "nan"], "lr: expected a number from"),
    (["train", "--lr", "inf"], "lr: expected a number from"),
    (["train", "--width", "0"], "width: expected an integer from 1"),
    (["train", "--latent", "-3"], "latent: expected an integer from 1"),
    (["train", "--size", "5"], "size: expected an integer from 6 to 1024"),
    (["train", "--seed", "-1"], "seed: expected an integer from 0"),
    (["train", "--device", "tpu"], "--device: invalid choice: 'tpu'"),
    (["train", "--device", "gpu"], "no usable GPU .*pip install cupy-cuda13x"),
    (["train", "--resume", "none"], "none holds no run"),
    (["train", "--resume", ""], "--resume: expected a path, got an empty text"),
    (["train", "--out", ""], "--out: expected a path, got an empty text"),
    (["train", "--resume", "none", "--lr", "0.1"], "--lr: not with --resume, as the run in none keeps its own options"),
    (["train", "--resume", "none", "--data", "digits", "--batch-size", "5", "--seed", "0", "--grey"],
     "--data, --batch-size, --grey, --seed: not with --resume"),
    (["train", "--resume", "none", "--out", "other", "--force"], "--out, --force: not with --resume"),
    (["train", "--width", "100000"], "width: expected an integer from 1 to 8192"),
    (["train", "--keep", "0"], "keep: expected an integer from 1"),
    (["sample", ""], "expected a path, got an empty text"),
    (["sample", "none", "--out", ""], "--out: expected a path, got an empty text"),
    (["export", "none"], "--out"),
    (["train", "--out", "file"], "file"),
    (["train", "--out", "file/run"], "file/run"),
    (["train", "--out", "/proc/run"], "/proc/run"),
    (["sample"], "required: RUN"),
    (["sample", "none"], "none holds no run"),
    (["sample", "file"], "file"),
    (["sample", "run", "--n", "0"], "--n: expected an integer from 1"),
    (["sample", "run", "--seed", "x"], "--seed: invalid int value: 'x'"),
    (["sample", "run", "--device", "gpu"], "no usable GPU .*pip install cupy-cuda13x"),
    (["info", "more"], "unrecognized arguments: more"),
], ids=" ".join)
def test_bad_options_are_one_line_and_exit_status_2(tinygan, cheap, here, args, words):
    (here / "file").write_text("in the way")
    status, out, err = tinygan(*args, *(TINY[:4] if args[:2] in (["train", "--out"],) else []))
    assert status == 2 and out == ""
    assert one_line(err) and err.startswith("tinygan")
    assert re.search(words, err), err
    assert sorted(os.listdir(here)) == ["file"], "nothing was made"


@pytest.mark.parametrize(
    "args, words",
    [
        (["--out", "none/grid.png"], "none/grid.png"),
        (["--out", "file/grid.png"], "file/grid.png"),
        (["--out", "grid.xyz"], "xyz"),
        (["--out", "null.png"], "null.png: not a regular file"),
        (["--out", "."], "no picture format has the suffix"),
    ],
)
def test_pictures_that_cannot_be_written_are_one_line_and_exit_status_2(tinygan, here, digits_run, args, words):
    (here / "file").write_text("in the way")
    (here / "null.png").symlink_to(os.devnull)
    status, out, err = tinygan("sample", digits_run, "--n", 2, *args)
    assert (status, out) == (2, "") and one_line(err) and re.search(words, err), err


@pytest.mark.parametrize(
    "name, contents",
    [
        ("weights.npz", b""),
        ("weights.npz", b"PK\3\4 and so on"),
        ("weights.npz", None),
        ("config.json", b"{"),
        ("config.json", None),
        ("config.json", b'{"shape": [28, 28, 1]}'),
    ],
)
@pytest.mark.parametrize("command", [["sample"], ["train", "--resume"]])
def test_a_damaged_run_is_one_line_and_exit_status_2(tinygan, digits_run, command, name, contents):
    path = os.path.join(digits_run, name)
    os.unlink(path)
    if contents is not None:
        with open(path, "wb") as file:
            file.write(contents)
    if (name, contents) == ("weights.npz", None) and "--resume" in command:
        with pytest.warns(UserWarning, match="run holds no checkpoint: it starts from the beginning"):
            assert tinygan(*command, digits_run)[0] == 0
    else:
        status, out, err = tinygan(*command, digits_run)
        assert (status, out) == (2, "") and one_line(err) and digits_run in err


def test_weights_of_another_run_are_refused_with_their_name(tinygan, cheap, digits_run):
    assert tinygan("train", "--model", "mlp", *TINY, "--width", 5, "--out", "other")[0] == 0
    os.replace("other/weights.npz", "run/weights.npz")
    status, _, err = tinygan("sample", "run")
    assert status == 2 and one_line(err)
    assert "run/weights.npz: made for other networks: generator/0.weight" in err and "has shape (3, 5), expected (3, 4)" in err


def test_a_newer_format_is_refused_with_both_names(tinygan, digits_run, monkeypatch):
    monkeypatch.setattr("tinygan.checkpoint.FORMAT", "tinygan 3")
    status, _, err = tinygan("sample", digits_run)
    assert status == 2 and one_line(err) and "expected format 'tinygan 3', found 'tinygan 2'" in err


# ---- recipes, labels, figures -----------------------------------------------------------------------------

@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_resumes_and_draws(tinygan, cheap, recipe):
    status, out, err = tinygan("train", "--data", "ring", "--recipe", recipe, *TINY, "--out", "run")
    assert (status, err) == (0, "") and f"recipe {recipe}" in out and "of 8 modes" in out
    assert tinygan("train", "--resume", "run", "--steps", 3)[0] == 0
    assert tinygan("sample", "run", "--n", 4, "--out", "s.png")[0] == 0


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_run_that_is_told_labels_trains_resumes_draws_and_is_measured(tinygan, cheap, condition):
    x = np.random.default_rng(0).uniform(-1, 1, (40, 28, 28, 1)).astype(np.float32)
    np.savez("mine.npz", x=x, labels=np.arange(40) % 3)
    status, out, err = tinygan("train", "--data", "mine.npz", "--condition", condition, *TINY, "--out", "run")
    assert (status, err) == (0, "")
    with open("run/config.json") as file:
        config = json.load(file)
    assert (config["classes"], config["condition"]) == (3, condition)
    assert config.get("recipe") == ("r1" if condition == "projection" else None)
    assert tinygan("train", "--resume", "run", "--steps", 3)[0] == 0
    for more in ([], ["--interpolate"]):
        assert tinygan("sample", "run", "--n", 16, "--out", "s.png", *more)[0] == 0
    status, out, err = tinygan("evaluate", "run", "--n", 30)
    assert (status, err) == (0, "") and "reads as asked" in out and "real, held out" in out


def test_points_are_measured_beside_a_perfect_sampler_and_noise(tinygan, cheap):
    assert tinygan("train", "--data", "ring", *TINY, "--out", "run")[0] == 0
    status, out, err = tinygan("evaluate", "run", "--n", 200)
    assert (status, err) == (0, "") and "perfect sampler" in out and "uniform noise" in out


@pytest.mark.parametrize("args, words", [
    (["train", "--data", "ring", "--condition", "embedding"], "--condition: ring has no labels"),
    (["train", "--recipe", "r1", "--loss", "hinge"], "--loss: not with --recipe"),
    (["train", "--recipe", "packed", "--condition", "embedding"], "leave out either"),
    (["train", "--loss", "hinge", "--condition", "projection"], "not with hinge, whose D has BatchNorm"),
    (["train", "--recipe", "non-saturating", "--condition", "projection"], "not with non-saturating, whose D has BatchNorm"),
    (["train", "--recipe", "packed", "--batch-size", "33"], "cannot be divided into packs"),
    (["evaluate", "nowhere"], "nowhere holds no run")])
def test_what_cannot_go_together_is_one_line(tinygan, here, args, words):
    status, out, err = tinygan(*args)
    assert (status, out) == (2, "") and one_line(err) and words in err


def test_a_run_without_known_figures_is_refused(tinygan, cheap):
    np.save("mine.npy", np.random.default_rng(0).normal(size=(50, 3)))
    assert tinygan("train", "--data", "mine.npy", *TINY, "--out", "run")[0] == 0
    status, _, err = tinygan("evaluate", "run")
    assert status == 2 and one_line(err) and "no figures are known for" in err
