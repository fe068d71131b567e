"""Pictures: sample grids, loss curves, GIFs, 2-D densities and discriminator fields.

Everything is drawn to a uint8 array (H, W) or (H, W, 3), so the same picture can become a PNG or one frame of
a GIF. Figures are made directly, never through pyplot: that needs no display, and no figure outlives its
function. Blue always belongs to the discriminator and to what it takes for real, orange to the generator.
"""

import math
import os

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

# Blue and vermilion of Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, INK, GREY = "#0072B2", "#D55E00", "#333333", "#777777"
FIELD = LinearSegmentedColormap.from_list("field", ["#F9DAC6", "#FFFFFF", "#B5D6EC"])  # fake, undecided, real


def to_grid(images, columns=None, pad=2):
    """Images (N, H, W, C) in [-1, 1], C 1 or 3, tiled row by row: uint8 (H', W') if C is 1, else (H', W', 3).

    columns: the square root of N, rounded up, unless given. Small images are enlarged by a whole factor; pad
    white pixels separate them. Values beyond [-1, 1] are clipped; NaN is a ValueError.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or len(images) == 0:
        raise ValueError(f"to_grid: images must have shape (N, H, W, 1 or 3) with N > 0, got {images.shape}")
    if np.isnan(images).any():
        raise ValueError("to_grid: images contain NaN")
    n, height, width, channels = images.shape
    pixels = np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
    factor = max(1, 64 // max(height, width))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)  # (N, H·factor, W·factor, C)
    height, width = height * factor, width * factor

    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + pad) + pad, columns * (width + pad) + pad, channels), 255, np.uint8)
    for k, image in enumerate(pixels):
        top = pad + (k // columns) * (height + pad)
        left = pad + (k % columns) * (width + pad)
        canvas[top:top + height, left:left + width] = image
    return canvas[..., 0] if channels == 1 else canvas


def save_image(path, array):
    """Write a uint8 array (H, W) or (H, W, 3) to path; its suffix sets the format, say .png."""
    _save(path, Image.fromarray(_pixels("save_image", array)))


def save_gif(path, frames, seconds=6.0):
    """Write uint8 arrays of one shape as an endless GIF that lasts about the given seconds.

    The last frame is held for 1.5 s more.
    """
    shapes = sorted({np.shape(frame) for frame in frames})
    if len(shapes) != 1:
        raise ValueError(f"save_gif: needs one or more frames of one shape, got shapes {shapes}")
    frames = [_pixels("save_gif", frame) for frame in frames]
    images = [Image.fromarray(frame) for frame in frames]
    if frames[0].ndim == 3:
        # GIF has 256 colours. All frames share them, as a choice per frame would make still parts flicker.
        # MAXCOVERAGE spends some on rare colours, such as the text. Every third pixel is enough to choose on.
        sample = Image.fromarray(np.concatenate([frame[::3, ::3] for frame in frames]))
        palette = sample.quantize(256, Image.Quantize.MAXCOVERAGE)
        images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    # GIF counts in hundredths of a second, and viewers slow down anything below two of them.
    each = max(20, round(100 * seconds / len(frames)) * 10)
    _save(path, images[0], save_all=True, append_images=images[1:], loop=0,
          duration=[each] * (len(frames) - 1) + [each + 1500])


def _save(path, image, **options):
    """Write an image so that others see the old file or the new one, never half of one."""
    from .files import write_atomically
    kind = Image.registered_extensions().get(os.path.splitext(path)[1].lower())
    if kind is None:
        raise ValueError(f"unknown file extension: {path}")
    write_atomically(path, lambda file: image.save(file, kind, **options))


def losses(log):
    """The losses and, where logged, the discriminator's mean scores against the step: uint8 (H, W, 3).

    log: a list of dicts or a dict of columns, with step, d_loss, g_loss and perhaps d_real and d_fake, the
    means of sigmoid(logit) over real and generated samples. Pale lines are the values, dark ones their
    running mean. Raises ValueError if there is nothing to draw.
    """
    if not isinstance(log, dict):
        keys = sorted(set().union(*log))
        log = {key: [row.get(key) for row in log] for key in keys}
    if not {"step", "d_loss", "g_loss"} <= log.keys() or len(log["step"]) == 0:
        raise ValueError(f"losses: log needs rows with step, d_loss and g_loss, got {sorted(log)}")
    wanted = ("step", "d_loss", "g_loss", "d_real", "d_fake")
    log = {key: np.array(log[key], float) for key in wanted if key in log}  # None becomes NaN

    scores = "d_real" in log and "d_fake" in log
    figure = Figure(figsize=(8, 6 if scores else 3.4), dpi=120, layout="constrained")
    panels = figure.subplots(2 if scores else 1, sharex=True, squeeze=False)[:, 0]
    _curve(panels[0], log["step"], log["d_loss"], BLUE, "discriminator")
    _curve(panels[0], log["step"], log["g_loss"], ORANGE, "generator")
    _tidy(panels[0], "loss")
    if scores:
        panels[1].axhline(0.5, color=GREY, linewidth=1, linestyle=(0, (4, 4)))  # cannot tell them apart
        _curve(panels[1], log["step"], log["d_real"], BLUE, "on real samples")
        _curve(panels[1], log["step"], log["d_fake"], ORANGE, "on generated samples")
        panels[1].set_ylim(-0.02, 1.02)
        _tidy(panels[1], "discriminator's score")
    panels[-1].set_xlabel("step", color=INK)
    return _render(figure)


def save_losses(path, log):
    """Write the picture of losses(log) to path."""
    save_image(path, losses(log))


def density(fake, real, field=None, extent=None, grads=None, title="", middle=None):
    """Generated points (N, 2) over real ones (M, 2), 640 × 640: uint8 (640, 640, 3).

    field: a function from points (M, 2) to (M,), the discriminator's probabilities or scores, drawn as
    background: blue where it says real, orange where generated, a line where it equals middle. Unless given,
    middle is 0.5 if all values lie in [0, 1], else their median, as the zero of a critic means nothing.
    grads: (points, vectors), drawn as arrows, the longest to a fixed length. extent: half the width of the
    picture, by default such that the real points fit.
    """
    real, fake = np.asarray(real)[:2000], np.asarray(fake)[:2000]  # more would only hide each other
    if extent is None:
        extent = 1.25 * float(np.abs(real).max())
    figure = Figure(figsize=(6.4, 6.4), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)

    if field is not None:
        ticks = np.linspace(-extent, extent, 129)
        points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)  # (129·129, 2)
        values = np.asarray(field(points.astype(np.float32))).reshape(129, 129)
        probabilities = values.min() >= 0 and values.max() <= 1
        if middle is None:
            middle = 0.5 if probabilities else float(np.median(values))
        reach = 0.5 if probabilities else max(float(np.abs(values - middle).max()), 1e-12)
        axes.imshow(values, FIELD, vmin=middle - reach, vmax=middle + reach, interpolation="bilinear",
                    origin="lower", extent=(-extent, extent, -extent, extent))
        if values.min() < middle < values.max():
            axes.contour(ticks, ticks, values, [middle], colors=BLUE, linewidths=1.2)

    axes.plot(*real.T, ".", color=GREY, markersize=3, markeredgewidth=0, alpha=0.6, label="real")
    axes.plot(*fake.T, ".", color=ORANGE, markersize=5, markeredgewidth=0, alpha=0.7, label="generated")
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


def _curve(axes, x, y, color, label):
    """Values in pale, their running mean in full colour; steps without a value are left out."""
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    window = np.ones(max(1, len(y) // 40))
    smooth = np.convolve(y, window, "same") / np.convolve(np.ones(len(y)), window, "same") if len(y) else y
    axes.plot(x, y, color=color, linewidth=0.8, alpha=0.25)
    axes.plot(x, smooth, color=color, linewidth=1.8, label=label, marker="." if len(y) == 1 else None)


def _tidy(axes, title):
    axes.set_title(title, loc="left", color=INK, fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY, labelcolor=INK)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    # Above the panel on the right, where no curve can run through it.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2, frameon=False, labelcolor=INK)


def _pixels(name, array):
    array = np.ascontiguousarray(array)
    if array.dtype != np.uint8 or not (array.ndim == 2 or array.ndim == 3 and array.shape[2] == 3):
        raise ValueError(f"{name}: expected uint8 (H, W) or (H, W, 3), got {array.dtype} {array.shape}")
    return array


def _render(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # (H, W, 4) -> (H, W, 3)
