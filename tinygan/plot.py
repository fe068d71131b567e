"""Pictures: sample grids, GIFs, loss curves, densities in the plane with what D makes of it.

Everything is drawn to a uint8 array (H, W) or (H, W, 3), so the same picture can become a PNG or
one frame of a GIF. Figures are made directly, never through pyplot, which keeps a global list of
them and wants a display. So pictures can be drawn anywhere and in several threads at once. Blue
always belongs to the discriminator and to what it takes for real, orange to the generator.
"""

import math
import os
import sys

import numpy as np
from PIL import Image

from .files import write_atomically

# A notebook leaves the name of its own backend in MPLBACKEND, also for programs that it starts
# where that backend is not installed. matplotlib would then refuse to be imported, so the name is
# hidden meanwhile.
_backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
try:
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend
if _backend:
    try:
        rcParams["backend"] = _backend              # for the pyplot of whoever imports tinygan
    except ValueError:
        pass

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
    pixels = _to_bytes(np.asarray(images))
    if columns is not None and columns < 1:
        raise ValueError(f"to_grid: columns must be > 0, got {columns}")
    factor = max(1, 64 // max(pixels.shape[1:3]))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)       # (N, H·factor, W·factor, C)
    n, height, width, channels = pixels.shape

    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    shape = (rows * (height + pad) + pad, columns * (width + pad) + pad, channels)
    canvas = np.full(shape, 255, np.uint8)
    for k, image in enumerate(pixels):
        top = pad + (k // columns) * (height + pad)
        left = pad + (k % columns) * (width + pad)
        canvas[top:top + height, left:left + width] = image
    return canvas[..., 0] if channels == 1 else canvas


def _to_bytes(images):
    """Images in [−1, 1] as bytes from 0 to 255, or a ValueError for anything else."""
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.size == 0:
        raise ValueError("to_grid: images must have shape (N, H, W, 1 or 3) with N > 0, "
                         f"got {images.shape}")
    if images.dtype.kind != "f":
        raise ValueError(f"to_grid: images must be floats in [-1, 1], got {images.dtype}; "
                         "scale 0 to 255 with x / 127.5 - 1")
    if np.isnan(images).any():
        raise ValueError("to_grid: images contain NaN")
    # A generator without tanh may well reach from −5 to 5, but not from 0 to 255.
    if images.min() >= 0 and images.max() > 2:
        raise ValueError(f"to_grid: images must lie in [-1, 1], got [{images.min():g}, "
                         f"{images.max():g}]; scale 0 to 255 with x / 127.5 - 1")
    return np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)


def save_image(path, array):
    """Write a uint8 array (H, W) or (H, W, 3) to a file; its suffix sets the format, say .png.

    The file is replaced as a whole: whoever looks meanwhile sees the old picture or the new one.
    """
    image = Image.fromarray(_pixels("save_image", array))
    kind = _format("save_image", path, Image.SAVE)
    write_atomically(path, lambda file: image.save(file, kind))


def save_gif(path, frames, seconds=6.0):
    """Write uint8 arrays of one shape as an endless GIF that lasts about the given seconds.

    The last frame is held for 1.5 s more. The same frames always give the same file.
    """
    frames = [_pixels("save_gif", frame) for frame in frames]
    shapes = sorted({frame.shape for frame in frames})
    if len(shapes) != 1:
        raise ValueError(f"save_gif: needs one or more frames of one shape, got shapes {shapes}")
    kind = _format("save_gif", path, Image.SAVE_ALL)
    first, *others = _one_palette(frames)
    # GIF counts in hundredths of a second, and viewers slow down anything below two of them.
    each = max(20, round(100 * seconds / len(frames)) * 10)
    duration = [each] * len(others) + [each + 1500]
    write_atomically(path, lambda file: first.save(file, kind, save_all=True, append_images=others,
                                                   loop=0, duration=duration))


def _one_palette(frames):
    """The frames as images. Coloured ones share 256 colours, which is what GIF has.

    A choice of colours per frame would make still parts flicker.
    """
    images = [Image.fromarray(frame) for frame in frames]
    if frames[0].ndim == 2:
        return images
    # MAXCOVERAGE keeps some for what is rare, such as text. Every third pixel is enough to choose.
    sample = Image.fromarray(np.concatenate([frame[::3, ::3] for frame in frames]))
    palette = sample.quantize(256, Image.Quantize.MAXCOVERAGE)
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]


def _pixels(name, array):
    array = np.ascontiguousarray(array)
    coloured = array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or coloured):
        raise ValueError(f"{name}: expected uint8 (H, W) or (H, W, 3), got {array.dtype} "
                         f"{array.shape}; to_grid makes such an array of images in [-1, 1]")
    return array


def _format(name, path, writers):
    """The name of Pillow's format for the suffix of path, one that these writers know."""
    suffix = os.path.splitext(path)[1].lower()
    kind = Image.registered_extensions().get(suffix)
    if kind not in writers:
        raise ValueError(f"{name}: cannot write {str(path)!r}: no picture format has the suffix "
                         f"{suffix!r}; use {'.gif' if name == 'save_gif' else '.png'}")
    return kind


def losses(log):
    """The losses and, where logged, D's mean scores against the step: uint8 (H, W, 3).

    log: a list of dicts or a dict of columns, with step, d_loss, g_loss and perhaps d_real and
    d_fake, the means of σ(logit) over real and generated samples. Pale lines are the values, dark
    ones their running mean. Raises ValueError if there is nothing to draw.
    """
    if not isinstance(log, dict):
        keys = sorted(set().union(*log))
        log = {key: [row.get(key) for row in log] for key in keys}
    if not {"step", "d_loss", "g_loss"} <= log.keys() or len(log["step"]) == 0:
        raise ValueError("losses: log needs rows with step, d_loss and g_loss, "
                         f"got the columns {sorted(log)}")
    wanted = ("step", "d_loss", "g_loss", "d_real", "d_fake")
    log = {key: np.array(log[key], float) for key in wanted if key in log}      # None becomes NaN

    scores = "d_real" in log and "d_fake" in log
    figure = Figure(figsize=(8, 6 if scores else 3.4), dpi=120, layout="constrained")
    panels = figure.subplots(2 if scores else 1, sharex=True, squeeze=False)[:, 0]
    _curve(panels[0], log["step"], log["d_loss"], BLUE, "discriminator")
    _curve(panels[0], log["step"], log["g_loss"], ORANGE, "generator")
    _tidy(panels[0], "loss")
    if scores:
        cannot_tell = dict(color=GREY, linewidth=1, linestyle=(0, (4, 4)))
        panels[1].axhline(0.5, **cannot_tell)
        _curve(panels[1], log["step"], log["d_real"], BLUE, "on real samples")
        _curve(panels[1], log["step"], log["d_fake"], ORANGE, "on generated samples")
        panels[1].set_ylim(-0.02, 1.02)
        _tidy(panels[1], "discriminator's score")
    panels[-1].set_xlabel("step", color=INK)
    return _render(figure)


def save_losses(path, log):
    """Write the picture of losses(log) to a file, as `save_image` does."""
    save_image(path, losses(log))


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


def density(fake, real, field=None, extent=None, grads=None, title="", middle=None):
    """Generated points (N, 2) over real ones (M, 2): uint8 (640, 640, 3).

    field: a function from points (K, 2) to (K,), D's probabilities or scores, drawn as background:
    blue where it says real, orange where generated, a line where it equals middle. middle: unless
    given, 0.5 if all values lie in [0, 1], else their median, as the zero of a critic means
    nothing. grads: (points, vectors), drawn as arrows, the longest at a fixed length. extent: half
    the width of the picture, by default such that the real points fit. Points (N, D) with another D
    are drawn by `marginals`.
    """
    fake, real = _points(fake, real)
    if real.shape[1] != 2:
        return marginals(fake, real, title)
    real, fake = real[:2000], fake[:2000]                   # more would only hide each other
    if extent is None:
        extent = 1.25 * float(np.abs(real).max()) or 1.0
    figure = Figure(figsize=(6.4, 6.4), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if field is not None:
        _background(axes, field, extent, middle)
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


def _background(axes, field, extent, middle):
    """The field's values as colours, on 129 × 129 points of the picture."""
    ticks = np.linspace(-extent, extent, 129)
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)        # (129·129, 2)
    values = np.asarray(field(points.astype(np.float32))).reshape(129, 129)
    probabilities = values.min() >= 0 and values.max() <= 1
    if middle is None:
        middle = 0.5 if probabilities else float(np.median(values))
    reach = 0.5 if probabilities else max(float(np.abs(values - middle).max()), 1e-12)
    axes.imshow(values, FIELD, vmin=middle - reach, vmax=middle + reach, interpolation="bilinear",
                origin="lower", extent=(-extent, extent, -extent, extent))
    if values.min() < middle < values.max():
        axes.contour(ticks, ticks, values, [middle], colors=BLUE, linewidths=1.2)


def marginals(fake, real, title=""):
    """Histograms of each feature, generated (N, D) over real ones (M, D): uint8 (640, 640, 3).

    Only the first nine features are drawn. Generated values beyond the range of the real ones are
    left out, so a curve that encloses less area than the grey one has lost them there.
    """
    fake, real = _points(fake, real)
    count = min(9, real.shape[1])
    side = math.ceil(math.sqrt(count))
    figure = Figure(figsize=(6.4, 6.4), dpi=100)
    figure.subplots_adjust(left=0.03, right=0.97, bottom=0.03, top=0.92)
    figure.text(0.03, 0.97, title, va="top", color=INK, fontsize=14)
    panels = figure.subplots(side, side, squeeze=False).ravel()
    for k, axes in enumerate(panels):
        axes.set_axis_off()
        if k < count:
            edges = np.histogram_bin_edges(real[:, k], 40)
            for points, style in ((real, dict(color=GREY, alpha=0.4, fill=True, label="real")),
                                  (fake, dict(color=ORANGE, linewidth=1.6, label="generated"))):
                shown = np.histogram(points[:, k], edges)[0] / max(1, len(points))
                axes.stairs(shown, edges, **style)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper right", ncols=2, frameon=False,
                  labelcolor=INK)
    return _render(figure)


def _points(fake, real):
    fake, real = np.asarray(fake), np.asarray(real)
    if fake.ndim != 2 or real.ndim != 2 or fake.shape[1] != real.shape[1] or 0 in real.shape:
        raise ValueError("density: expected generated points (N, D) and real points (M, D) with "
                         f"M > 0, got {fake.shape} and {real.shape}")
    return fake, real
