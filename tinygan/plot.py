"""Pictures: sample grids, GIFs, loss curves, points in the plane with what D makes of it.

Everything is drawn to a uint8 array (H, W) or (H, W, 3), so the same picture can become a PNG or
one frame of a GIF. Figures are made without pyplot, which keeps a global list of them and wants a
display, so they can be drawn anywhere and in several threads at once. Blue always belongs to the
discriminator and to what it takes for real, orange to the generator.
"""

import contextlib
import math
import os
import sys

import numpy as np
from PIL import Image

from .checks import whole
from .files import write_atomically

# A notebook leaves the name of its own backend in MPLBACKEND. Where that is not installed,
# matplotlib would refuse to be imported, so the name is hidden meanwhile.
_backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
from matplotlib import rcParams  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.colors import LinearSegmentedColormap  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

if _backend:
    os.environ["MPLBACKEND"] = _backend
    with contextlib.suppress(ValueError):
        rcParams["backend"] = _backend              # for the pyplot of whoever imports tinygan

# Blue and vermilion of Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, INK, GREY = "#0072B2", "#D55E00", "#333333", "#777777"
# Of a discriminator's field: fake, undecided, real.
FIELD = LinearSegmentedColormap.from_list("field", ["#F9DAC6", "#FFFFFF", "#B5D6EC"])
FIELD(0.5)          # makes its table of colours now: two threads must not both make it


def to_grid(images, columns=None, pad=2):
    """Images (N, H, W, C) in [−1, 1] side by side, row by row: uint8 (H', W') or (H', W', 3).

    C is 1 or 3. columns: the square root of N, rounded up, unless given. Small images are enlarged
    by a whole factor; pad white pixels separate them. Values beyond [−1, 1] are clipped. Raises
    ValueError for NaN, and for images that run from 0 to 255.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.size == 0:
        raise ValueError("to_grid: images must have shape (N, H, W, 1 or 3) with N > 0, "
                         f"got {images.shape}")
    low, high = images.min(), images.max()
    # A generator without tanh may well reach from −5 to 5, but not from 0 to 255.
    if images.dtype.kind != "f" or np.isnan(low) or low >= 0 and high > 2:
        raise ValueError("to_grid: images must be floats in [-1, 1], got "
                         f"{images.dtype} from {low} to {high}; scale 0 to 255 with x / 127.5 - 1")
    pixels = np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
    factor = max(1, 64 // max(pixels.shape[1:3]))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)       # (N, H·factor, W·factor, C)
    n, height, width, channels = pixels.shape

    columns = whole("to_grid: columns", math.ceil(math.sqrt(n)) if columns is None else columns)
    rows = math.ceil(n / columns)
    canvas = np.full((rows, pad + height, columns, pad + width, channels), 255, np.uint8)
    for k, image in enumerate(pixels):
        canvas[k // columns, pad:, k % columns, pad:] = image
    canvas = canvas.reshape(rows * (pad + height), columns * (pad + width), channels)
    canvas = np.pad(canvas, ((0, pad), (0, pad), (0, 0)), constant_values=255)
    return canvas[..., 0] if channels == 1 else canvas


def save_image(path, array):
    """Write a uint8 array (H, W) or (H, W, 3) to a file; its suffix sets the format, say .png."""
    _save("save_image", path, _image("save_image", array), Image.SAVE)


def save_gif(path, frames, seconds=6.0):
    """Write uint8 arrays of one shape as an endless GIF that lasts about the given seconds.

    The last frame is held for 1.5 s more. The same frames always give the same file.
    """
    images = [_image("save_gif", frame) for frame in frames]
    if len({(image.size, image.mode) for image in images}) != 1:
        raise ValueError(f"save_gif: needs one or more frames of one shape, got {images}")
    if images[0].mode == "RGB":
        # A GIF has 256 colours. All frames share them, as a choice for each would make still parts
        # flicker. MAXCOVERAGE keeps some for what is rare; every third pixel is enough to choose.
        sample = Image.fromarray(np.concatenate([np.asarray(i)[::3, ::3] for i in images]))
        palette = sample.quantize(256, Image.Quantize.MAXCOVERAGE)
        images = [i.quantize(palette=palette, dither=Image.Dither.NONE) for i in images]
    first, *others = images
    # GIF counts in hundredths of a second, and viewers slow down anything below two of them.
    each = max(20, round(100 * seconds / len(images)) * 10)
    _save("save_gif", path, first, Image.SAVE_ALL, save_all=True, append_images=others, loop=0,
          duration=[each] * len(others) + [each + 1500])


def _image(who, array):
    array = np.ascontiguousarray(array)
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape[2:] not in ((), (3,)):
        raise ValueError(f"{who}: expected uint8 (H, W) or (H, W, 3), got {array.dtype} "
                         f"{array.shape}; to_grid makes such an array of images in [-1, 1]")
    return Image.fromarray(array)


def _save(who, path, image, writers, **options):
    """Write an image in the format of path's suffix, one that these writers of Pillow's know."""
    suffix = os.path.splitext(path)[1].lower()
    kind = Image.registered_extensions().get(suffix)
    if kind not in writers:
        raise ValueError(f"{who}: cannot write {str(path)!r}: no picture format has the suffix "
                         f"{suffix!r}; use {'.gif' if who == 'save_gif' else '.png'}")
    write_atomically(path, lambda file: image.save(file, kind, **options))


# The panels of `losses`: which columns of the log they show, and whose each is.
PANELS = {"loss": {"d_loss": "discriminator", "g_loss": "generator"},
          "discriminator's score": {"d_real": "on real samples", "d_fake": "on generated samples"}}


def losses(log):
    """The losses and, where logged, D's mean scores against the step: uint8 (H, W, 3).

    log: a list of dicts or a dict of columns, with step, d_loss, g_loss and perhaps d_real and
    d_fake, the means of σ(logit) over real and generated samples. Pale lines are the values, dark
    ones their running mean. Raises ValueError if there is nothing to draw.
    """
    if not isinstance(log, dict):
        log = {key: [row.get(key) for row in log] for key in set().union(*log)}
    log = {key: np.array(column, float) for key, column in log.items()}     # None becomes NaN
    panels = {title: curves for title, curves in PANELS.items() if curves.keys() <= log.keys()}
    if not {"step", "d_loss", "g_loss"} <= log.keys() or not len(log["step"]):
        raise ValueError("losses: log needs rows with step, d_loss and g_loss, "
                         f"got the columns {sorted(log)}")
    figure = Figure(figsize=(8, 0.8 + 2.6 * len(panels)), dpi=120, layout="constrained")
    every = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (title, curves) in zip(every, panels.items(), strict=True):
        for color, (key, label) in zip((BLUE, ORANGE), curves.items(), strict=True):
            _curve(axes, log["step"], log[key], color, label)
        _tidy(axes, title)
    if len(panels) == 2:                                            # 0.5: D cannot tell them apart
        every[1].axhline(0.5, color=GREY, linewidth=1, linestyle=(0, (4, 4)), zorder=1)
        every[1].set_ylim(-0.02, 1.02)
    every[-1].set_xlabel("step", color=INK)
    return _render(figure)


def _curve(axes, x, y, color, label):
    """Values in pale, their running mean in full colour; steps without a value are left out."""
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    smooth = y
    if len(y):
        # A window that hangs over an end has fewer values in it: divide by how many there are.
        window = np.ones(max(1, len(y) // 40))
        smooth = np.convolve(y, window, "same") / np.convolve(np.ones(len(y)), window, "same")
    axes.plot(x, y, color=color, linewidth=0.8, alpha=0.25)
    marker = "." if len(y) == 1 else None                   # a line of one point would be invisible
    axes.plot(x, smooth, color=color, linewidth=1.8, label=label, marker=marker)


def _tidy(axes, title):
    axes.set_title(title, loc="left", color=INK, fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY, labelcolor=INK)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    # The legend stands above the panel on the right, where no curve can run through it.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2, frameon=False, labelcolor=INK)


def _render(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()             # (H, W, 4) → (H, W, 3)


def density(fake, real, field=None, extent=None, grads=None, title=""):
    """Generated points (N, D) over real ones (M, D): uint8 (640, 640, 3).

    Of more than two features the first two are drawn. A single feature x is drawn against the share
    of points below x. extent: half the width of the picture, unless the real points are to fit.
    field, for D = 2: a function from points (K, 2) to (K,), D's probabilities or scores, drawn as
    background: blue where it says real, orange where generated, a line where it equals 0.5, or the
    median of scores, as the zero of a critic means nothing. grads: (points, vectors), drawn as
    arrows, the longest at a fixed length.
    """
    fake, real = np.asarray(fake), np.asarray(real)
    if fake.ndim != 2 or real.ndim != 2 or fake.shape[1] != real.shape[1] or 0 in real.shape:
        raise ValueError("density: expected generated points (N, D) and real points (M, D) with "
                         f"M > 0, got {fake.shape} and {real.shape}")
    features = real.shape[1]
    real, fake = real[:2000, :2], fake[:2000, :2]           # more would only hide each other
    extent = extent or 1.25 * float(np.abs(real).max()) or 1.0
    if features == 1:
        real, fake = (np.column_stack([np.sort(x[:, 0]), np.linspace(-0.8, 0.8, len(x)) * extent])
                      for x in (real, fake))
    figure = Figure(figsize=(6.4, 6.4), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1), frameon=False)
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), xticks=[], yticks=[])
    if field is not None and features == 2:
        _background(axes, field, extent)
    for points, size, style in ((real, 3, dict(color=GREY, alpha=0.6, label="real")),
                                (fake, 5, dict(color=ORANGE, alpha=0.7, label="generated"))):
        axes.plot(*points.T, ".", markersize=size, markeredgewidth=0, **style)
    if grads is not None:
        points, vectors = np.asarray(grads[0]), np.asarray(grads[1])
        longest = max(float(np.hypot(*vectors.T).max()), 1e-12)
        axes.quiver(*points.T, *(0.2 * extent / longest * vectors.T), color=INK, width=0.003,
                    angles="xy", scale_units="xy", scale=1)
    axes.legend(loc="lower right", edgecolor="none", labelcolor=INK, markerscale=3, handletextpad=0)
    if title:
        axes.text(0.03, 0.97, title, transform=axes.transAxes, va="top", color=INK, fontsize=14,
                  bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8})
    return _render(figure)


def _background(axes, field, extent):
    """The field's values as colours, on 129 × 129 points of the picture."""
    ticks = np.linspace(-extent, extent, 129)
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)        # (129·129, 2)
    values = np.asarray(field(points.astype(np.float32))).reshape(129, 129)
    middle, reach = 0.5, 0.5
    if not (values.min() >= 0 and values.max() <= 1):       # no probabilities but scores
        middle = float(np.median(values))
        reach = max(float(np.abs(values - middle).max()), 1e-12)
    axes.imshow(values, FIELD, vmin=middle - reach, vmax=middle + reach, interpolation="bilinear",
                origin="lower", extent=(-extent, extent, -extent, extent))
    if values.min() < middle < values.max():
        axes.contour(ticks, ticks, values, [middle], colors=BLUE, linewidths=1.2)
