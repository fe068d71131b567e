"""Plots: pixels are where and what they should be. Whether a picture pleases was judged by eye, not here."""

import json
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tinygan import plot
from tinygan.randomness import current


def flat(values, size=64, channels=1):
    """One flat image per value: (N, size, size, channels)."""
    values = np.asarray(values, np.float32)
    return np.broadcast_to(values[:, None, None, None], (len(values), size, size, channels))


def log_rows(n, **extra):
    return [{"step": k, "d_loss": 1.0, "g_loss": 2.0, **extra} for k in range(n)]


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_places_image_k_row_by_row(channels):
    values = np.linspace(-1, 1, 5)
    picture = plot.to_grid(flat(values, channels=channels), columns=2, pad=2)
    assert picture.shape == (3 * 66 + 2, 2 * 66 + 2) + (3,) * (channels == 3) and picture.dtype == np.uint8
    for k, value in enumerate(values):
        tile = picture[2 + 66 * (k // 2):, 2 + 66 * (k % 2):][:64, :64]
        assert (tile == round((value + 1) * 127.5)).all()
    assert (picture[-64:, -66:] == 255).all()  # the sixth place stays empty
    assert (picture[:2] == 255).all() and (picture[:, 66:68] == 255).all()


def test_grid_enlarges_small_images_without_blurring():
    image = np.random.default_rng(0).uniform(-1, 1, (1, 28, 28, 1))
    picture = plot.to_grid(image, pad=0)
    assert picture.shape == (56, 56)
    for corner in (picture[0::2, 0::2], picture[1::2, 0::2], picture[0::2, 1::2], picture[1::2, 1::2]):
        np.testing.assert_array_equal(corner, np.rint((image[0, :, :, 0] + 1) * 127.5))


def test_grid_is_nearly_square_unless_told():
    assert plot.to_grid(flat(np.zeros(9)), pad=0).shape == (3 * 64, 3 * 64)
    assert plot.to_grid(flat(np.zeros(9)), columns=9, pad=0).shape == (64, 9 * 64)


def test_grid_clips_instead_of_wrapping_around():
    picture = plot.to_grid(flat([-1.5, 1.5]), pad=0)
    assert set(picture[:, :64].ravel()) == {0} and set(picture[:, 64:].ravel()) == {255}


@pytest.mark.parametrize("images", [flat([]), flat([0.0], channels=2), flat([0.0])[0], flat([np.nan])])
def test_grid_refuses_what_it_cannot_show(images):
    with pytest.raises(ValueError, match="to_grid"):
        plot.to_grid(images)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_png_holds_exactly_the_pixels_given(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    plot.save_image(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels)


@pytest.mark.parametrize("shape, dtype", [((5, 7), np.float32), ((5, 7, 1), np.uint8), (5, np.uint8)])
def test_only_bytes_become_a_picture(tmp_path, shape, dtype):
    with pytest.raises(ValueError, match="uint8"):
        plot.save_image(tmp_path / "a.png", np.zeros(shape, dtype))


@pytest.mark.parametrize("channels", [1, 3])
def test_gif_has_every_frame_for_its_time_and_holds_the_last(tmp_path, channels):
    frames = [plot.to_grid(flat([v, -v], channels=channels)) for v in np.linspace(-1, 1, 6)]
    plot.save_gif(tmp_path / "a.gif", frames, seconds=3.0)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 6 and gif.info["loop"] == 0  # 0: for ever
        for k, frame in enumerate(frames):
            gif.seek(k)
            assert gif.info["duration"] == (2000 if k == 5 else 500)
            shown = np.asarray(gif.convert("RGB")).astype(int)
            assert np.abs(shown - np.atleast_3d(frame)).max() <= 4 * (channels == 3)  # 256 greys are exact


def test_gif_refuses_no_frames_and_frames_of_two_sizes(tmp_path):
    for frames in ([], [np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)]):
        with pytest.raises(ValueError, match="one shape"):
            plot.save_gif(tmp_path / "a.gif", frames)
    assert not (tmp_path / "a.gif").exists()


def test_losses_take_rows_and_columns_alike():
    rows = [{"step": k, "d_loss": np.sin(k), "g_loss": 0.1 * k} for k in range(20)]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    np.testing.assert_array_equal(plot.losses(rows), plot.losses(columns))


def test_scores_get_a_panel_only_if_they_were_logged():
    both = plot.losses(log_rows(5, d_real=0.5, d_fake=0.5))
    one = plot.losses(log_rows(5))
    assert both.dtype == one.dtype == np.uint8 and both.shape[2] == one.shape[2] == 3
    assert both.shape[1] == one.shape[1] and both.shape[0] > 1.5 * one.shape[0]


def test_losses_survive_short_and_gappy_logs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot.losses(log_rows(1))
        plot.losses([*log_rows(2, d_real=None, d_fake=0.5), {"step": 2, "d_loss": np.nan, "g_loss": None}])


def test_the_running_mean_is_a_mean_up_to_both_ends():
    """A constant must stay constant: a smoothing that pads with zeros would bend at the ends."""
    lines = []

    class Axes:
        def plot(self, x, y, **style):
            lines.append(y)

    plot._curve(Axes(), np.arange(400.0), np.full(400, 3.0), "k", "")
    plot._curve(Axes(), np.arange(400.0), np.arange(400.0), "k", "")
    np.testing.assert_allclose(lines[1], 3.0)
    np.testing.assert_allclose(lines[3][20:-20], np.arange(20.0, 380.0), atol=0.51)  # centred, no lag


@pytest.mark.parametrize("log", [[], {}, [{"step": 1}], {"step": [], "d_loss": [], "g_loss": []}])
def test_an_empty_log_is_an_error(log):
    with pytest.raises(ValueError, match="step, d_loss and g_loss"):
        plot.losses(log)


CORNERS = np.array([[-1.0, -1.0], [1.0, 1.0]], np.float32)


def colour(picture, x, y, extent):
    """The pixel at data coordinates (x, y), y upwards."""
    scale = len(picture) / (2 * extent)  # pixels per unit
    return picture[int((extent - y) * scale), int((x + extent) * scale)].astype(int)


def test_density_puts_points_at_their_coordinates():
    picture = plot.density(fake=np.array([[1.0, 0.5]]), real=np.array([[-1.0, 0.5]]), extent=2.0)
    assert picture.shape == (640, 640, 3) and picture.dtype == np.uint8
    red, _, blue = colour(picture, 1.0, 0.5, 2.0)
    assert red - blue > 80  # orange
    grey = colour(picture, -1.0, 0.5, 2.0)
    assert np.ptp(grey) <= 2 and grey[0] < 220
    assert (colour(picture, 0.0, -0.5, 2.0) == 255).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_field_is_blue_where_it_says_real_and_orange_where_generated(axis):
    picture = plot.density(CORNERS, CORNERS, lambda p: 1 / (1 + np.exp(-20 * p[:, axis])), extent=2.0)
    fake, middle, real = (colour(picture, *np.roll([v, -0.5], axis), 2.0) for v in (-1.5, 0.0, 1.5))
    assert fake[0] - fake[2] > 30 and real[2] - real[0] > 30
    assert middle[2] - middle[0] > 100  # the line at 0.5, a stronger blue


def test_the_zero_of_a_critic_does_not_matter():
    critic = [plot.density(CORNERS, CORNERS, lambda p, c=c: p[:, 0] + c, extent=2.0) for c in (0.0, 64.0)]
    np.testing.assert_array_equal(critic[0], critic[1])


def test_field_is_asked_for_float32_points_all_over_the_picture():
    asked = []
    plot.density(CORNERS, CORNERS, lambda p: asked.append(p) or np.full(len(p), 0.5), extent=3.0)
    points = asked[0]
    assert points.dtype == np.float32 and points.ndim == 2
    assert points.min(axis=0).tolist() == [-3, -3] and points.max(axis=0).tolist() == [3, 3]


def test_arrows_point_along_the_vectors():
    arrows = (np.array([[-1.0, 0.0]]), np.array([[0.001, 0.0]]))  # tiny, hence drawn to the fixed length
    picture = plot.density(CORNERS, CORNERS, extent=2.0, grads=arrows)
    assert colour(picture, -0.85, 0.0, 2.0).max() < 150
    assert colour(picture, -1.15, 0.0, 2.0).min() > 240


def test_default_extent_shows_every_real_point():
    real = np.array([[5.0, 0.0], [0.0, -3.0]])
    assert colour(plot.density(real[1:], real), 5.0, 0.0, 1.25 * 5).max() < 220


def test_frames_of_one_run_have_one_size_whatever_they_show():
    quiet = plot.density(CORNERS, CORNERS, lambda p: np.full(len(p), 0.3), grads=(CORNERS, 0 * CORNERS))
    assert quiet.shape == plot.density(CORNERS, CORNERS, title="a title").shape


def test_a_diverged_run_can_still_be_drawn():
    nothing = np.full((2, 2), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot.density(nothing, CORNERS, lambda p: np.full(len(p), np.nan), grads=(CORNERS, nothing))


PLOT = """
import sys
sys.modules["matplotlib.pyplot"] = None             # importing it is an error now
from tinygan import plot
plot.save_image("a.png", plot.losses([{"step": k, "d_loss": 1.0, "g_loss": 2.0} for k in range(3)]))
plot.density([[0.0, 1.0]], [[1.0, 0.0]], field=lambda p: p[:, 0])
import matplotlib
print(dict.__getitem__(matplotlib.rcParams, "backend"))
"""


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "module://nosuch", "inline",
                                     "nonsense", "TkAgg", "svg", "", None])
def test_plotting_needs_no_display_no_pyplot_and_no_particular_backend(tmp_path, backend):
    """Whatever MPLBACKEND says."""
    env = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    env = {**env, "PYTHONPATH": os.path.dirname(os.path.dirname(plot.__file__))}
    env |= {} if backend is None else {"MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", PLOT], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "svg\n" or backend != "svg"              # a backend that exists is chosen as ever
    assert Image.open(tmp_path / "a.png").size[0] > 100


def drawings():
    """One picture of every kind, each from numbers of its own."""
    points = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    return [lambda: plot.losses(log_rows(40, d_real=0.7, d_fake=0.2)),
            lambda: plot.density(points[:, :2], points[:, 1:3], lambda p: 1 / (1 + np.exp(-p[:, 0])), title="a"),
            lambda: plot.density(points[:, :2], points[:, 2:4], grads=(points[:9, :2], points[:9, 1:3])),
            lambda: plot.density(points[:, :1], points[::-1, :1] * 2, title="step 3"),
            lambda: plot.to_grid(np.tanh(points[:, :3]).reshape(-1, 10, 10, 1))]


def test_pictures_drawn_in_several_threads_are_those_drawn_alone():
    """Nothing is shared: neither a list of figures nor a current one."""
    alone = [draw() for draw in drawings()]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda draw: draw(), drawings() * 4))
    for k, picture in enumerate(together):
        np.testing.assert_array_equal(picture, alone[k % len(alone)])


def test_pictures_depend_on_their_data_alone():
    """No random numbers are drawn, neither NumPy's global ones nor those of tinygan."""
    np.random.seed(0)  # noqa: NPY002
    before = [np.random.get_state()[1].tolist(), json.dumps(current().state_dict())]  # noqa: NPY002
    alone = [draw() for draw in drawings()]
    assert before == [np.random.get_state()[1].tolist(), json.dumps(current().state_dict())]  # noqa: NPY002
    for picture, again in zip(alone, drawings(), strict=True):
        np.testing.assert_array_equal(picture, again())


@pytest.mark.parametrize("features", [3, 5, 20])
def test_of_more_features_the_first_two_are_drawn(features):
    real = np.random.default_rng(0).standard_normal((500, features))
    picture = plot.density(real[:100], real, field=lambda p: 1 / 0, title="step 1")
    np.testing.assert_array_equal(picture, plot.density(real[:100, :2], real[:, :2], extent=1.25 * np.abs(real[:, :2]).max(),
                                                        title="step 1"))


def test_a_single_feature_is_drawn_against_the_share_of_points_below_it():
    """Real points at −1 and 1 make two steps; the generator has the step at 1 alone, over all heights."""
    real = np.repeat([[-1.0], [1.0]], 500, axis=0)
    picture = plot.density(np.ones((200, 1)), real, field=lambda p: 1 / 0)
    extent = 1.25
    for y in (-0.5, 0.5):
        red, _, blue = colour(picture, 1.0, y, extent)
        assert red - blue > 80
    grey = colour(picture, -1.0, -0.5, extent)
    assert np.ptp(grey) <= 2 and grey[0] < 220
    assert (colour(picture, -1.0, 0.5, extent) == 255).all()


@pytest.mark.parametrize("fake, real", [(CORNERS, CORNERS[:0]), (CORNERS[:, :1], CORNERS), (CORNERS[0], CORNERS),
                                        (CORNERS, CORNERS[None])])
def test_points_that_do_not_match_are_refused(fake, real):
    with pytest.raises(ValueError, match=r"expected generated points \(N, D\)"):
        plot.density(fake, real)


def test_real_points_at_the_origin_alone_can_be_drawn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot.density(CORNERS, 0 * CORNERS)


WRITERS = {"a.png": lambda path: plot.save_image(path, np.full((9, 9), 7, np.uint8)),
           "a.gif": lambda path: plot.save_gif(path, [np.full((9, 9), k, np.uint8) for k in range(3)]),
           "b.png": lambda path: plot.save_image(path, plot.losses(log_rows(3)))}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch, name):
    def fsync(file):
        raise OSError(28, "No space left on device")

    (tmp_path / name).write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        WRITERS[name](tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", WRITERS)
def test_a_picture_that_cannot_be_encoded_leaves_the_old_one(tmp_path, monkeypatch, name):
    def save(image, file, kind, **options):
        file.write(b"half a")
        raise OSError("encoder error -2")

    (tmp_path / name).write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match="encoder"):
        WRITERS[name](tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", WRITERS)
def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path, name):
    (tmp_path / "precious").write_bytes(b"precious")
    os.symlink("precious", tmp_path / name)
    WRITERS[name](tmp_path / name)
    assert (tmp_path / "precious").read_bytes() == b"precious" and not (tmp_path / name).is_symlink()
    Image.open(tmp_path / name).load()


@pytest.mark.parametrize("suffix", ["", ".", ".xyz", ".txt", ".npz", ".png.bak"])
def test_an_unknown_suffix_is_a_clear_error(tmp_path, suffix):
    picture = np.zeros((4, 4), np.uint8)
    for save in (lambda path: plot.save_image(path, picture), lambda path: plot.save_gif(path, [picture]),
                 lambda path: plot.save_image(str(path), plot.losses(log_rows(2)))):
        with pytest.raises(ValueError, match=r"no picture format has the suffix .*use \.(png|gif)"):
            save(tmp_path / f"a{suffix}")
    with pytest.raises(ValueError, match="use .gif"):
        plot.save_gif(tmp_path / "a.bmp", [picture])        # a format for one picture only
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix, kind", [(".png", "PNG"), (".JPG", "JPEG"), (".bmp", "BMP"), (".webp", "WEBP"),
                                          (".tif", "TIFF"), (".gif", "GIF")])
def test_the_suffix_sets_the_format(tmp_path, suffix, kind):
    plot.save_image(str(tmp_path / f"a{suffix}"), np.full((16, 16, 3), 90, np.uint8))
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.format == kind and abs(np.asarray(image.convert("RGB")).astype(int) - 90).max() <= 2


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_frames_always_give_the_same_gif(tmp_path, channels):
    """So that a run that was interrupted can write the file of one that was not."""
    frames = np.random.default_rng(0).uniform(-1, 1, (5, 4, 8, 8, channels))
    frames = [plot.to_grid(frame) for frame in frames]
    for name in ("a.gif", "b.gif"):
        plot.save_gif(tmp_path / name, iter([frame.copy() for frame in frames]))
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


@pytest.mark.parametrize("images", [
    np.full((2, 4, 4, 1), 200, np.uint8), np.full((2, 4, 4, 1), 200), np.full((2, 4, 4, 3), 200.0),
    np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 1)), np.arange(32.0).reshape(2, 4, 4, 1),
    np.ones((2, 4, 4, 1), bool), np.ones((2, 4, 4, 1), np.int8),
])
def test_grid_of_0_to_255_says_how_to_scale_them(images):
    with pytest.raises(ValueError, match=r"in \[-1, 1\], got .*x / 127\.5 - 1"):
        plot.to_grid(images)


def test_grid_accepts_what_a_generator_without_tanh_makes():
    plot.to_grid(np.random.default_rng(0).normal(0, 5, (2, 4, 4, 1)))
    plot.to_grid(np.random.default_rng(0).uniform(0, 1, (2, 4, 4, 1)))


@pytest.mark.parametrize("columns", [0, -3])
def test_grid_wants_a_column(columns):
    with pytest.raises(ValueError, match="to_grid: columns must be an integer >= 1"):
        plot.to_grid(flat([0.0]), columns=columns)
