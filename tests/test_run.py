"""Runs: what stands in the folder, stopping and going on to the very same weights, divergence, damaged folders."""

import csv
import io
import json
import os
import shlex
import signal
import threading

import numpy as np
import pytest
from PIL import Image

from tinygan import checkpoint, cli, data, nn, plot, recipes, run, train
from tinygan.checkpoint import CheckpointError
from tinygan.losses import LOSSES
from tinygan.randomness import rng, seed
from tinygan.run import Config, Run, generator_of, resume_command

FILES = {"config.json", "log.csv", "losses.png", "samples.png", "training.gif", "weights.npz"}


@pytest.fixture(scope="module")
def few():
    """The first 100 digits."""
    digits = data.digits()
    return data.Dataset("digits", digits.x[:100], digits.labels[:100])


@pytest.fixture
def cheap(monkeypatch, few):
    """Figures take 0.3 s each, digits 0.2 s: where a test is not about them, a patch of grey and 100 digits will do."""
    monkeypatch.setattr(data, "digits", lambda: few)
    monkeypatch.setattr(
        plot, "density", lambda fake, *args, **kwargs: np.uint8(fake[:3, :1].T.clip(0, 1) * 255).repeat(3, 0)
    )
    monkeypatch.setattr(plot, "losses", lambda log: np.zeros((4, 4, 3), np.uint8))


@pytest.fixture
def images(tmp_path):
    """A folder of twenty small colour images, as --data folder:PATH."""
    (tmp_path / "images").mkdir()
    for k, x in enumerate(np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)):
        Image.fromarray(x).save(tmp_path / "images" / f"{k}.png")
    return f"folder:{tmp_path / 'images'}"


def ring(**options):
    return Config(**{"data": "ring", "width": 6, "latent": 3, "batch_size": 8, "steps": 4, **options})


def finish(a_run):
    out = io.StringIO()
    return a_run.train(out), out.getvalue()


def weights(folder):
    with np.load(os.path.join(folder, "weights.npz"), allow_pickle=False) as file:
        return {k: file[k] for k in file.files if k != "info"}


def log(folder):
    with open(os.path.join(folder, "log.csv"), newline="") as file:
        return list(csv.DictReader(file))


# ---- what a run leaves ------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    "config, size", [(ring(), (640, 640)), (Config(data="digits", model="mlp", width=4, batch_size=8, steps=4), None)]
)
def test_the_folder_of_a_run(tmp_path, config, size):
    """With nothing replaced: real pictures, real data."""
    folder = str(tmp_path / "a" / "run")
    a_run = Run.start(config, folder)
    status, out = finish(a_run)
    assert status == 0 and out.splitlines()[-1].startswith("done in") and f"{folder}/samples.png" in out
    assert set(os.listdir(folder)) == FILES

    with Image.open(f"{folder}/samples.png") as image:
        image.load()
        assert image.size == size if size else min(image.size) >= 8 * 28
    with Image.open(f"{folder}/training.gif") as gif:
        assert gif.n_frames == 5 and gif.info["loop"] == 0          # the start and four steps
    with Image.open(f"{folder}/losses.png") as image:
        image.load()
    with open(f"{folder}/config.json") as file:
        values = json.load(file)
    assert values["data"] == config.data and values["seed"] == 0 and values["device"] in ("cpu", "gpu")
    assert None not in values.values(), "a config holds what was really used"
    rows = log(folder)
    assert [int(r["step"]) for r in rows] == [1, 2, 3, 4]
    assert list(rows[0]) == ["step", "d_loss", "g_loss", "d_real", "d_fake", "seconds"]
    assert all(np.isfinite(float(v)) for r in rows for v in r.values()) and 0 < float(rows[0]["d_real"]) < 1


@pytest.mark.parametrize("steps, frames, rows", [(3, 4, 3), (20, 5, 10), (21, 5, 11), (39, 5, 13)])
def test_frames_and_rows_are_spread_over_a_long_run(tmp_path, cheap, monkeypatch, steps, frames, rows):
    """FRAMES and LOGS of them, or a few more; the start has a frame and the last step a row."""
    monkeypatch.setattr(run, "FRAMES", 4)
    monkeypatch.setattr(run, "LOGS", 10)
    a_run = Run.start(ring(steps=steps), str(tmp_path / "run"))
    finish(a_run)
    assert len(a_run.frames) == frames and len(a_run.log) == rows == len(log(tmp_path / "run"))


def test_pictures_show_the_same_latents_throughout(tmp_path, cheap):
    a_run = Run.start(ring(steps=2), str(tmp_path / "run"))
    before, picture = a_run.latents.copy(), a_run.picture()
    np.testing.assert_array_equal(a_run.picture(), picture)
    finish(a_run)
    np.testing.assert_array_equal(a_run.latents, before)


def test_plain_lines_without_a_terminal_and_a_bar_with_one(tmp_path, cheap):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    _, out = finish(Run.start(ring(), str(tmp_path / "a")))
    assert "\r" not in out and "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].startswith("step 1/4  D ") and lines[1].startswith("step 4/4  D ") and "steps/s" in lines[1]
    out = Terminal()
    Run.start(ring(), str(tmp_path / "b")).train(out)
    last = out.getvalue().split("\r")[-1]
    assert "4/4" in last and "steps/s" in last and " D " in last and " G " in last


def test_the_default_sizes_depend_on_data_and_model():
    cases = [(True, None, "conv"), (True, "mlp", "mlp"), (False, None, "points"), (False, "mlp", "points")]
    for is_image, model, key in cases:
        config = Config(model=model, lr=0.5).complete(is_image)
        expected = {**recipes.DEFAULTS[key], "lr": 0.5}
        assert {k: getattr(config, k) for k in expected} == expected


@pytest.mark.parametrize("config, message", [
    (ring(model="conv"), "conv needs images, but ring is made of points"),
    (ring(data="rings"), "unknown data 'rings': choose one of digits"),
    (ring(data="digits", batch_size=101), "--batch-size 101 is more than the 100 samples of digits"),
])
def test_a_run_that_cannot_be_leaves_no_folder(tmp_path, cheap, config, message):
    with pytest.raises(ValueError, match=message):
        Run.start(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("shape, model", [((2,), "mlp"), ((16, 16, 1), "mlp"), ((16, 16, 1), "conv")])
def test_wasserstein_brings_the_gradient_penalty_and_a_critic_without_batchnorm(shape, model):
    for loss in LOSSES:
        config = Config(model=model, loss=loss, device="cpu", width=2, latent=3).complete(len(shape) > 1)
        gan = run.build(config, shape)
        kinds = {type(m) for m in gan.d.modules()}
        assert (gan.penalty is not None) == (loss == "wasserstein")
        assert (nn.BatchNorm in kinds) == (model == "conv" and loss != "wasserstein")


def test_an_image_size_that_cannot_be_halved_leaves_no_folder(tmp_path, images):
    with pytest.raises(ValueError, match="image size"):
        Run.start(Config(data=images, size=9, batch_size=4), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_unless_forced(tmp_path, cheap):
    folder = str(tmp_path / "run")
    finish(Run.start(ring(), folder))
    before = weights(folder)
    with pytest.raises(ValueError, match=r"already holds a run: .*--resume.*--force.*--out"):
        Run.start(ring(seed=1), folder)
    assert weights(folder).keys() == before.keys()
    np.testing.assert_array_equal(weights(folder)["generator/0.weight"], before["generator/0.weight"])
    finish(Run.start(ring(seed=1), folder, force=True))
    assert not np.array_equal(weights(folder)["generator/0.weight"], before["generator/0.weight"])


# ---- stopping and going on --------------------------------------------------------------------------------

def assert_same_run(a, b):
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    for k in left:
        np.testing.assert_array_equal(left[k], right[k], err_msg=k)
    rows = [[{k: v for k, v in r.items() if k != "seconds"} for r in log(folder)] for folder in (a, b)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("kind", ["points", "images"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, cheap, images, kind):
    """Bit for bit: networks with BatchNorm's averages, optimisers, the averaged generator and every random stream."""
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    options = dict(loss="wasserstein") if kind == "points" else dict(data=images, size=8, width=2)
    finish(Run.start(ring(steps=7, **options), whole))
    finish(Run.start(ring(steps=3, **options), parts))
    seed(12345)                                 # another process would start with other streams
    resumed = Run.resume(parts, steps=7)
    assert resumed.gan.steps == 3 and len(resumed.log) == 3
    status, _ = finish(resumed)
    assert status == 0
    assert_same_run(whole, parts)


def test_one_seed_is_one_run_whatever_ran_before(tmp_path, cheap):
    for name, value in (("a", 5), ("b", 5), ("c", 6)):
        finish(Run.start(ring(seed=value), str(tmp_path / name)))
        rng("latent").random(100)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert not np.array_equal(
        weights(tmp_path / "a")["generator/0.weight"], weights(tmp_path / "c")["generator/0.weight"]
    )


def test_resuming_a_finished_run_changes_nothing(tmp_path, cheap):
    folder = str(tmp_path / "run")
    finish(Run.start(ring(), folder))
    before = weights(folder)
    assert finish(Run.resume(folder))[0] == 0
    for k, v in weights(folder).items():
        np.testing.assert_array_equal(v, before[k])
    assert len(log(folder)) == 4


def at_step(monkeypatch, step, action):
    """Do something right after this step of training."""
    original = train.GAN.step

    def and_then(self, real):
        results = original(self, real)
        if self.steps == step:
            action(self)
        return results

    monkeypatch.setattr(train.GAN, "step", and_then)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(tmp_path, cheap, monkeypatch, number, status):
    folder, whole = str(tmp_path / "run"), str(tmp_path / "whole")
    finish(Run.start(ring(), whole))
    before = signal.getsignal(number)
    at_step(monkeypatch, 2, lambda gan: os.kill(os.getpid(), number))
    found, out = finish(Run.start(ring(), folder))
    assert found == status and out.splitlines()[-1] == f"stopped at step 2; go on with: tinygan train --resume {folder}"
    assert signal.getsignal(number) is before, "the program's own handlers are back"
    assert set(os.listdir(folder)) == FILES and len(log(folder)) == 2
    finish(Run.resume(folder))
    assert weights(folder).keys() == weights(whole).keys()
    for k, v in weights(whole).items():
        np.testing.assert_array_equal(v, weights(folder)[k])


def test_a_second_ctrl_c_stops_at_once(tmp_path, cheap, monkeypatch):
    def twice(gan):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    at_step(monkeypatch, 2, twice)
    a_run = Run.start(ring(), str(tmp_path / "run"))
    with pytest.raises(KeyboardInterrupt):
        finish(a_run)
    assert signal.getsignal(signal.SIGINT) is before
    assert set(os.listdir(tmp_path / "run")) == {"config.json", "weights.npz"}, "the beginning was saved"


def test_a_signal_between_two_rows_leaves_no_row_of_its_own(tmp_path, cheap, monkeypatch):
    """After going on, log, pictures and weights are those of a run that nobody stopped."""
    monkeypatch.setattr(run, "LOGS", 4)
    monkeypatch.setattr(run, "FRAMES", 3)
    monkeypatch.setattr(plot, "losses", lambda log: np.uint8([[r["step"], r["g_loss"] * 99 % 256] for r in log]))
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    finish(Run.start(ring(steps=23), whole))
    for step in (2, 7, 11, 22):
        at_step(monkeypatch, step, lambda gan: os.kill(os.getpid(), signal.SIGTERM))
        a_run = Run.resume(parts) if os.path.exists(parts) else Run.start(ring(steps=23), parts)
        assert finish(a_run)[0] == 143 and a_run.gan.steps == step
    finish(Run.resume(parts))
    assert_same_run(whole, parts)
    for name in ("samples.png", "losses.png", "training.gif", "config.json"):
        with open(f"{whole}/{name}", "rb") as a, open(f"{parts}/{name}", "rb") as b:
            assert a.read() == b.read(), name


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_a_hang_up_is_like_sigterm_however_often_it_comes(tmp_path, cheap, monkeypatch):
    def thrice(gan):
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)

    at_step(monkeypatch, 2, thrice)
    status, out = finish(Run.start(ring(), str(tmp_path / "run")))
    assert status == 129 and "stopped at step 2" in out


def test_in_a_thread_a_run_sets_no_handlers(tmp_path, cheap):
    result = []
    thread = threading.Thread(target=lambda: result.append(finish(Run.start(ring(), str(tmp_path / "run")))))
    thread.start()
    thread.join()
    assert result[0][0] == 0


def test_another_number_of_steps_belongs_to_the_run_from_then_on(tmp_path, cheap, monkeypatch):
    folder = str(tmp_path / "a run's")
    finish(Run.start(ring(), folder))
    at_step(monkeypatch, 6, lambda gan: os.kill(os.getpid(), signal.SIGINT))
    status, out = finish(Run.resume(folder, steps=9))
    assert status == 130 and out.splitlines()[-1].endswith(f"--resume '{tmp_path}/a run'\"'\"'s'"), out
    with open(f"{folder}/config.json") as file:
        assert json.load(file)["steps"] == 9
    again = Run.resume(folder)
    assert finish(again)[0] == 0 and again.gan.steps == 9
    status, out = finish(Run.resume(folder))
    assert status == 0 and out.startswith("nothing left to do: ") and "has done its 9 steps" in out and "--steps N" in out
    with pytest.raises(ValueError, match="--steps 8: .* has done 9 steps already"):
        Run.resume(folder, steps=8)


def test_a_run_is_saved_before_its_first_step(tmp_path, cheap):
    folder = str(tmp_path / "run")
    Run.start(ring(), folder)
    assert weights(folder)["game/steps"] == 0
    again = Run.resume(folder)
    assert again.gan.steps == 0 and finish(again)[0] == 0
    finish(Run.start(ring(), str(tmp_path / "whole")))
    assert_same_run(tmp_path / "whole", folder)


def test_a_folder_without_weights_can_be_started_again_or_begins_anew(tmp_path, cheap):
    """As a process leaves it that was killed before the first checkpoint."""
    folder, whole = str(tmp_path / "run"), str(tmp_path / "whole")
    finish(Run.start(ring(), whole))
    for _ in range(2):
        Run.start(ring(), folder)
        os.unlink(f"{folder}/weights.npz")
    with pytest.warns(UserWarning, match="holds no checkpoint: it starts from the beginning"):
        finish(Run.resume(folder))
    assert_same_run(whole, folder)
def test_the_clock_saves_too(tmp_path, cheap, monkeypatch):
    seen = []
    at_step(monkeypatch, 3, lambda gan: seen.append(int(weights(tmp_path / "run")["game/steps"])))
    monkeypatch.setattr(run, "PERIOD", -1)
    finish(Run.start(ring(), str(tmp_path / "run")))
    assert seen == [2]


# ---- one writer per folder --------------------------------------------------------------------------------

def test_a_folder_that_is_being_written_is_left_alone(tmp_path, cheap, monkeypatch):
    folder, errors = str(tmp_path / "run"), []

    def intrude(gan):
        for enter in (lambda: Run.start(ring(), folder), lambda: Run.start(ring(), folder, force=True),
                      lambda: Run.resume(folder), lambda: Run.resume(folder, steps=9)):
            with pytest.raises(ValueError, match=f"is in use by process {os.getpid()} on"):
                enter()
            errors.append(1)
        generator_of(folder)                                # reading needs no lock

    at_step(monkeypatch, 2, intrude)
    assert finish(Run.start(ring(), folder))[0] == 0
    assert len(errors) == 4 and set(os.listdir(folder)) == FILES
    assert len(log(folder)) == 4


@pytest.mark.parametrize("fails", ["diverges", "full disk", "second Ctrl-C"])
def test_the_lock_is_given_back_however_a_run_ends(tmp_path, cheap, monkeypatch, fails):
    def action(gan):
        if fails == "diverges":
            raise train.Diverged("...")
        raise OSError(28, "No space left on device") if fails == "full disk" else KeyboardInterrupt

    at_step(monkeypatch, 2, action)
    with pytest.raises((train.Diverged, OSError, KeyboardInterrupt)):
        finish(Run.start(ring(), str(tmp_path / "run")))
    assert "lock" not in os.listdir(tmp_path / "run")


def test_what_a_killed_run_left_behind_is_removed_at_the_start(tmp_path, cheap, monkeypatch):
    folder = str(tmp_path / "run")
    finish(Run.start(ring(), folder))
    (tmp_path / "run" / ".weights.npz.0123456789abcdef.tmp").touch()
    assert set(os.listdir(folder)) != FILES
    Run.resume(folder)
    assert set(os.listdir(folder)) == FILES


# ---- a folder that goes away ------------------------------------------------------------------------------

def remove(folder):
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)


@pytest.mark.parametrize("what", ["deleted", "deleted with its parent", "moved", "moved, and another is there",
                                  "moved, and a file is there"])
def test_a_folder_that_goes_away_while_training_costs_nothing(tmp_path, cheap, monkeypatch, what):
    """Everything is saved again or beside it, the error says where, and the run can go on from there."""
    place, whole = str(tmp_path / "runs" / "run"), str(tmp_path / "whole")
    finish(Run.start(ring(steps=20), whole))

    def take_away(gan):
        if what.startswith("deleted"):
            remove(place)
        else:
            os.rename(place, tmp_path / "elsewhere")
        if what.endswith("parent"):
            os.rmdir(tmp_path / "runs")
        elif what.endswith("another is there"):
            os.mkdir(place)
            with open(os.path.join(place, "weights.npz"), "w") as file:
                file.write("somebody else's")
        elif what.endswith("file is there"):
            open(place, "w").close()

    a_run = Run.start(ring(steps=20), place)
    at_step(monkeypatch, 11, take_away)
    with pytest.raises(OSError, match="was deleted or moved while training; step .* was saved in .*go on with") as error:
        finish(a_run)
    assert not isinstance(error.value, FileNotFoundError), "which would be bad input, exit status 2"
    folder = str(error.value).rpartition("--resume ")[2]
    beside = what.endswith("is there")
    assert (folder != place) == beside and folder.startswith(place)
    assert set(os.listdir(folder)) == FILES
    if what.endswith("another is there"):
        with open(os.path.join(place, "weights.npz")) as file:
            assert file.read() == "somebody else's"
    finish(Run.resume(folder))
    assert_same_run(whole, folder)
    with open(f"{whole}/training.gif", "rb") as a, open(f"{folder}/training.gif", "rb") as b:
        assert a.read() == b.read(), "no frame was lost"


# ---- output that goes away --------------------------------------------------------------------------------

class Fails(io.StringIO):
    """Output that takes some lines and then fails."""

    def __init__(self, error, lines=1):
        super().__init__()
        self.error, self.lines = error, lines

    def write(self, text):
        if self.lines <= 0:
            raise self.error
        self.lines -= text.count("\n")
        return super().write(text)


@pytest.mark.parametrize("error, status", [
    (BrokenPipeError(32, "Broken pipe"), 141), (OSError(5, "Input/output error"), 1), (ValueError("I/O operation on closed file"), 1)])
def test_output_that_fails_stops_the_run_with_everything_saved(tmp_path, cheap, error, status):
    folder, whole = str(tmp_path / "run"), str(tmp_path / "whole")
    finish(Run.start(ring(), whole))
    with pytest.warns(UserWarning, match=r"output failed \(\w+\): stopped at step 1; go on with: tinygan train --resume"):
        assert Run.start(ring(), folder).train(Fails(error, 0)) == status
    finish(Run.resume(folder))
    assert_same_run(whole, folder)


def test_a_terminal_that_closes_costs_nothing_that_was_saved(tmp_path, cheap):
    out = Fails(BrokenPipeError(32, "Broken pipe"), 0)
    out.isatty = lambda: True
    with pytest.raises(BrokenPipeError):
        Run.start(ring(), str(tmp_path / "run")).train(out)
    finish(Run.resume(str(tmp_path / "run")))
    finish(Run.start(ring(), str(tmp_path / "whole")))
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_output_needs_nothing_but_write(tmp_path, cheap, monkeypatch):
    class Plain:
        text = ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    out = Plain()
    assert Run.start(ring(), str(tmp_path / "a")).train(out) == 0 and "done in" in out.text
    monkeypatch.setattr("sys.stdout", None)             # a program without a console
    assert Run.start(ring(), str(tmp_path / "b")).train() == 0


# ---- data -------------------------------------------------------------------------------------------------

@pytest.fixture
def marked(monkeypatch, few):
    """Data that know where they are and what they hold, as `data.Dataset` may."""
    class Marked:
        def __init__(self, fingerprint):
            self.fingerprint, self.path = fingerprint, "/absolute/pics"
            self.x, self.is_image, self.mixture = few.x, True, None

        def __len__(self):
            return len(self.x)

    def load(spec, **options):
        specs.append(spec)
        return Marked(prints[-1])

    specs, prints = [], ["one"]
    monkeypatch.setattr(data, "load", load)
    return specs, prints


def test_a_run_notices_that_its_data_have_changed(tmp_path, cheap, marked):
    specs, prints = marked
    folder = str(tmp_path / "run")
    Run.start(ring(data="folder:pics"), folder)
    Run.resume(folder)
    assert specs == ["folder:pics", "folder:/absolute/pics"]
    prints.append("two")
    with pytest.raises(ValueError, match="the data folder:/absolute/pics have changed since .* began, so it cannot go on"):
        Run.resume(folder)
    assert "lock" not in os.listdir(folder)


# ---- divergence -------------------------------------------------------------------------------------------

def spoil(player):
    def action(gan):
        getattr(gan, player).parameters()[0].data[...] = np.nan
    return action


@pytest.mark.parametrize("player", ["g", "d"])
def test_weights_that_turn_nan_stop_the_run_and_the_last_good_ones_stay(tmp_path, cheap, monkeypatch, player):
    folder = str(tmp_path / "run")
    finish(Run.start(ring(), folder))
    before = weights(folder)
    at_step(monkeypatch, 6, spoil(player))
    with pytest.raises(train.Diverged, match="at step 7; try a smaller learning rate"):
        finish(Run.resume(folder, steps=9))
    for k, v in weights(folder).items():
        np.testing.assert_array_equal(v, before[k])


def test_weights_that_turn_nan_in_the_last_step_are_not_saved(tmp_path, cheap, monkeypatch):
    """The losses of that step were still finite."""
    at_step(monkeypatch, 4, spoil("d"))
    with pytest.raises(train.Diverged, match=r"discriminator\.0\.weight holds NaN or infinity at step 4"):
        finish(Run.start(ring(), str(tmp_path / "run")))
    assert weights(tmp_path / "run")["game/steps"] == 0, "the beginning stays"


def test_samples_that_turn_nan_are_noticed_before_they_are_drawn(tmp_path, cheap, monkeypatch):
    at_step(monkeypatch, 4, lambda gan: spoil("module")(gan.average))
    with pytest.raises(train.Diverged, match="samples hold NaN or infinity at step 4"):
        finish(Run.start(ring(), str(tmp_path / "run")))


# ---- reading a run ----------------------------------------------------------------------------------------

@pytest.fixture
def done(tmp_path, cheap):
    """A finished run."""
    a_run = Run.start(ring(), str(tmp_path / "run"))
    finish(a_run)
    return a_run


def test_a_finished_run_can_be_sampled_from(done):
    gan, config, shape = generator_of(done.folder)
    assert shape == (2,) and config.data == "ring" and config.latent == 3
    z = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_array_equal(gan.sample(z), done.gan.sample(z))
    np.testing.assert_array_equal(gan.score(gan.sample(z)), done.gan.score(gan.sample(z)))


def test_a_folder_without_a_run(tmp_path):
    for read in (generator_of, Run.resume):
        with pytest.raises(CheckpointError, match=r"holds no run \(no config.json\); make one with: tinygan train"):
            read(str(tmp_path))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"shape": 2}', '{"shape": [2], "colour": "red"}', "\ufeff{}"]
)
def test_a_foreign_config_is_one_error_that_names_it(done, text):
    with open(done.path("config.json"), "w") as file:
        file.write(text)
    for read in (generator_of, Run.resume):
        with pytest.raises(CheckpointError, match=r"config\.json: not the configuration of a run"):
            read(done.folder)


@pytest.mark.parametrize(
    "change",
    [
        dict(width="wide"),
        dict(width=0),
        dict(width=None),
        dict(latent=2.5),
        dict(model="conv"),
        dict(model="big"),
        dict(loss="none"),
        dict(loss=["hinge"]),
        dict(shape=[]),
        dict(shape=["a"]),
        dict(shape=[28, 28]),
        dict(width=7),
        dict(latent=9),
    ],
)
def test_a_config_that_describes_no_or_other_networks(done, change):
    with open(done.path("config.json")) as file:
        values = json.load(file)
    with open(done.path("config.json"), "w") as file:
        json.dump({**values, **change}, file)
    with pytest.raises(
        CheckpointError, match="run.config.json: not the configuration|weights.npz: .*(made for other networks|fewer than the one)"
    ):
        generator_of(done.folder)
    with pytest.raises(ValueError):                 # CheckpointError is one
        Run.resume(done.folder)


@pytest.mark.parametrize("spoil", [lambda raw: b"", lambda raw: raw[:len(raw) // 2], lambda raw: b"\0" + raw[1:]])
def test_damaged_weights_are_one_error_that_names_them(done, spoil):
    path = done.path("weights.npz")
    with open(path, "rb") as file:
        raw = file.read()
    with open(path, "wb") as file:
        file.write(spoil(raw))
    for read in (generator_of, Run.resume):
        with pytest.raises(CheckpointError, match=r"weights\.npz: "):
            read(done.folder)


def test_missing_weights_cannot_be_sampled_from(done):
    os.unlink(done.path("weights.npz"))
    with pytest.raises(CheckpointError, match=r"weights\.npz: no such file"):
        generator_of(done.folder)


ROW = {"step": 1, "d_loss": 1.0, "g_loss": 1.0, "seconds": 0.1}


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"log": [], "seconds": None},
        {"log": None, "seconds": 0.0},
        {"log": {}, "seconds": 0.0},
        {"log": "", "seconds": 0.0},
        {"log": [1], "seconds": 0.0},
        {"log": [{}], "seconds": 0.0},
        {"log": [{**ROW, "d_loss": "1"}], "seconds": 0.0},
        {"log": [{**ROW, "d_loss": float("nan")}], "seconds": 0.0},
        {"log": [{**ROW, "step": 10 ** 400}], "seconds": 0.0},
        {"log": [{**ROW, "step": True}], "seconds": 0.0},
        {"log": [{**ROW, "step": 9}], "seconds": 0.0},
        {"log": [{**ROW, "step": 2}, ROW], "seconds": 0.0},
        {"log": [ROW, {**ROW, "step": 2, "more": 1.0}], "seconds": 0.0},
        {"log": [], "seconds": -1},
        {"log": [], "seconds": float("inf")},
    ],
    ids=str,
)
def test_weights_that_no_run_saved_cannot_be_resumed(done, info):
    checkpoint.save(done.path("weights.npz"), done.gan.state_dict(), info)
    with pytest.raises(CheckpointError, match=r"weights\.npz: not saved by a run"):
        Run.resume(done.folder)


@pytest.mark.parametrize("folder", ["runs/ring", "a run's", "-dash"])
def test_what_is_printed_to_go_on_with_a_run_is_understood(folder):
    words = shlex.split(resume_command(folder))
    assert words[0] == "tinygan" and cli.parser().parse_args(words[1:]).resume == folder
