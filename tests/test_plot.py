"""Plots: pixels are where and what they should be. Whether a picture pleases was judged by eye, not here."""

import runpy
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from tinygan import plot


def flat(values, size=64, channels=1):
    """One flat image per value: (N, size, size, channels)."""
    values = np.asarray(values, np.float32)
    return np.broadcast_to(values[:, None, None, None], (len(values), size, size, channels))


def log_rows(n, **extra):
    return [{"step": k, "d_loss": 1.0, "g_loss": 2.0, **extra} for k in range(n)]


# ---- grids and files --------------------------------------------------------------------------------------

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


# ---- losses -----------------------------------------------------------------------------------------------

def test_losses_take_rows_and_columns_alike():
    rows = [{"step": k, "d_loss": np.sin(k), "g_loss": 0.1 * k} for k in range(20)]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    np.testing.assert_array_equal(plot.losses(rows), plot.losses(columns))


def test_scores_get_a_panel_only_if_they_were_logged(tmp_path):
    both = plot.losses(log_rows(5, d_real=0.5, d_fake=0.5))
    plot.save_losses(tmp_path / "losses.png", log_rows(5))
    one = np.asarray(Image.open(tmp_path / "losses.png"))
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


# ---- 2-D --------------------------------------------------------------------------------------------------

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


def test_plotting_needs_no_display_and_no_pyplot(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it is an error now
    runpy.run_path(plot.__file__)["losses"](log_rows(2))
