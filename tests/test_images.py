"""A folder of images: turned, laid over one colour, cropped; and no file in it can cost the rest."""

import errno
import io
import json
import os
import socket
import stat
import struct
import tempfile
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from tinygan import data, images

NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


@pytest.fixture
def pics(tmp_path):
    """A folder with one good image, NOISE as good.png."""
    Image.fromarray(NOISE).save(tmp_path / "good.png")
    return tmp_path


def read(folder, **options):
    """(bytes, the text of the one warning or ""): what data.folder reads at size 8, as 0 to 255."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = data.folder(folder, **{"size": 8, **options})
    assert len(caught) <= 1
    return np.rint((found.x + 1) * 127.5).astype(int), str(caught[0].message) if caught else ""


def test_folder_crops_the_centre_and_scales(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[..., 0] = 4 * np.arange(60)  # red tells the column
    (tmp_path / "sub").mkdir()
    Image.fromarray(wide).save(tmp_path / "sub" / "wide.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "a.png")
    found = data.load(f"folder:{tmp_path}", size=8)
    assert found.x.shape == (2, 8, 8, 3) and found.path == str(tmp_path)
    np.testing.assert_array_equal(found.x[0], 1)  # a.png comes first
    columns = 20 + 2.5 * np.arange(8) + 0.75  # centres of 8 pixels laid over columns 20 to 39
    np.testing.assert_allclose(found.x[1, :, :, 0], np.tile(4 * columns / 127.5 - 1, (8, 1)), atol=0.02)
    assert (found.x[1, :, :, 1:] == -1).all()
    assert data.folder(tmp_path, size=8, grey=True).x.shape == (2, 8, 8, 1)


# What each mode makes of one colour (R, G, B), by the definitions of the modes.
OPAQUE = {"1": (255, 255, 255), "L": (90, 90, 90), "P": (90, 10, 200), "RGB": (90, 10, 200),
          "RGBA": (90, 10, 200, 255), "CMYK": (165, 245, 55, 0), "LA": (90, 255)}


@pytest.mark.parametrize("mode", OPAQUE)
def test_opaque_images_of_every_mode_keep_their_colour(tmp_path, mode):
    colour = OPAQUE[mode]
    if mode == "P":
        Image.new("RGB", (8, 8), colour).quantize(4).save(tmp_path / "a.png")
    else:
        Image.new(mode, (8, 8), colour[0] if mode in "1L" else colour).save(
            tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    expected = {"CMYK": (90, 10, 200), "LA": (90, 90, 90)}.get(mode, colour[:3])
    pixels, text = read(tmp_path, background="red")
    assert (pixels == expected).all() and not text


def over(colour, alpha, ground):
    """α · colour + (1 − α) · ground, the definition of compositing."""
    return np.add(np.multiply(colour, alpha / 255), np.multiply(ground, 1 - alpha / 255))


GROUNDS = {None: (255, 255, 255), "black": (0, 0, 0), "#204080": (32, 64, 128), (10, 20, 30): (10, 20, 30)}


@pytest.mark.parametrize("background", GROUNDS)
@pytest.mark.parametrize("kind", ["RGBA", "LA", "PA", "RGBa", "P bytes", "P int", "L level", "RGB level",
                                  "1 level", "GIF", "WebP"])
def test_transparent_parts_show_the_background(tmp_path, kind, background):
    """The left half has this opacity and colour, the right half is opaque blue, or grey."""
    mode, _, how = kind.partition(" ")
    grey = mode in ("LA", "L", "1")
    left, right = ((80,) * 3, (200,) * 3) if grey else ((80, 40, 120), (0, 0, 255))
    alpha = 128 if kind in ("RGBA", "LA", "WebP", "P bytes") else 0
    name, options = tmp_path / "a.png", {}
    rgb = np.zeros((8, 8, 4), np.uint8)
    rgb[:, :4], rgb[:, 4:] = (*left, alpha), (*right, 255)
    image = Image.fromarray(rgb)
    if kind in ("LA", "RGBA"):
        image = image.convert(mode)
    elif kind in ("PA", "RGBa"):
        assert_opaque_is_composited(image, mode, background, left, alpha, right)
        return
    elif kind == "P bytes" or kind == "P int":
        image = Image.fromarray((np.arange(8)[None, :].repeat(8, 0) >= 4).astype(np.uint8)).convert("P")
        image.putpalette([*left, *right])
        options = {"transparency": bytes([alpha, 255]) if how == "bytes" else 0}
    elif kind == "L level":
        image, options = Image.fromarray(rgb[..., 0]), {"transparency": 80}
    elif kind == "RGB level":
        image, options = Image.fromarray(rgb[..., :3].copy()), {"transparency": left}
    elif kind == "1 level":
        name.write_bytes(png(8, 8, 1, b"\x0f", level=0))
        right = (255, 255, 255)
        image = None
    elif kind == "GIF":
        name = tmp_path / "a.gif"
    elif kind == "WebP":
        name, options = tmp_path / "a.webp", {"lossless": True, "exact": True}
    if image is not None:
        image.save(name, **options)
    pixels, text = read(tmp_path, **({} if background is None else {"background": background}))
    np.testing.assert_allclose(pixels[0, :, :3], [[over(left, alpha, GROUNDS[background])] * 3] * 8, atol=2)
    np.testing.assert_allclose(pixels[0, :, 5:], [[right] * 3] * 8, atol=2)
    assert not text


def assert_opaque_is_composited(image, mode, background, left, alpha, right):
    """For the modes that Pillow has in memory but writes to no common file."""
    ground = GROUNDS[background]
    found = np.asarray(images._opaque(image.convert(mode), ground))
    np.testing.assert_allclose(found[:, :4], [[over(left, alpha, ground)] * 4] * 8, atol=2)
    np.testing.assert_allclose(found[:, 4:], [[right] * 4] * 8, atol=2)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, depth, row, level=None, colour=0):
    """A PNG file, written from the format's description: the same packed row all over."""
    start = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    clear = b"" if level is None else chunk(b"tRNS", struct.pack(">H", level))
    body = zlib.compress((b"\0" + row) * min(height, 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + clear + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth, row, level", [(2, b"\x00\xff", 3), (4, b"\x00\x00\xff\xff", 15),
                                               (4, b"\x55\x55\xff\xff", 5)])
def test_one_transparent_level_of_few_bits_is_transparent(tmp_path, depth, row, level):
    """Pillow scales the pixels to 0..255 but leaves the transparent level as it stands in the file."""
    (tmp_path / "a.png").write_bytes(png(8, 8, depth, row, level))
    pixels = read(tmp_path, background="red")[0][0]
    clear = (pixels == (255, 0, 0)).all(axis=-1)
    assert clear[:, 5:].all() and not clear[:, :3].any() or clear[:, :3].all() and not clear[:, 5:].any()


def test_a_background_that_is_no_colour_is_refused(pics):
    with pytest.raises(ValueError, match="color.*'nocolour'"):
        data.folder(pics, background="nocolour")


UPRIGHT = {1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
           5: lambda x: x.swapaxes(0, 1), 6: lambda x: np.rot90(x, -1),
           7: lambda x: x[::-1, ::-1].swapaxes(0, 1), 8: lambda x: np.rot90(x)}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [0, *UPRIGHT])
def test_images_are_turned_as_their_exif_data_say_once(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(NOISE).save(tmp_path / f"a.{suffix}", exif=exif, **options)
    pixels, text = read(tmp_path)
    np.testing.assert_array_equal(pixels[0], UPRIGHT[orientation or 1](NOISE))
    assert not text


def tiff_header(*entries):
    """EXIF data, written from TIFF's description: little-endian, one directory of (tag, type, count, value)."""
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)


SIX = struct.pack("<HH", 6, 0)
BROKEN_EXIF = {
    "orientation is text": tiff_header((0x0112, 2, 2, b"6\0\0\0")),
    "orientation is a fraction by a missing pointer": tiff_header((0x0112, 5, 1, b"\xff\xff\xff\x7f")),
    "orientation is two numbers": tiff_header((0x0112, 3, 2, struct.pack("<HH", 6, 6))),
    "orientation is 99": tiff_header((0x0112, 3, 1, struct.pack("<HH", 99, 0))),
    "orientation is a float": tiff_header((0x0112, 11, 1, struct.pack("<f", 6.5))),
    "orientation of an unknown type": tiff_header((0x0112, 77, 1, SIX)),
    "orientation with undefined bytes": tiff_header((0x0112, 7, 3, b"\x06\0\0\0")),
    "a pointer to nothing": tiff_header((0x0112, 3, 1, SIX), (0x8769, 4, 1, b"\xff\xff\xff\x7f")),
    "a GPS pointer to nothing": tiff_header((0x0112, 3, 1, SIX), (0x8825, 4, 1, b"\xff\xff\xff\x7f")),
    "a GPS pointer of a wrong type": tiff_header((0x0112, 3, 1, SIX), (0x8825, 2, 4, b"abc\0")),
    "a pointer to itself": tiff_header((0x0112, 3, 1, SIX), (0x8769, 4, 1, struct.pack("<I", 8))),
    "cut short": tiff_header((0x0112, 3, 1, SIX))[:-9],
    "no TIFF at all": b"Exif\0\0hello world",
    "empty": b"Exif\0\0",
    "big counts": tiff_header((0x0112, 3, 2 ** 31, SIX)),
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("kind", BROKEN_EXIF)
def test_a_broken_exif_block_costs_at_most_its_own_image(pics, kind, suffix):
    Image.fromarray(NOISE).save(pics / f"b.{suffix}", exif=BROKEN_EXIF[kind])
    pixels, text = read(pics)
    assert len(pixels) == 2 or "1 skipped" in text and f"b.{suffix}" in text
    np.testing.assert_array_equal(pixels[-1], NOISE)            # good.png
    if kind == "orientation is 99":
        assert text.endswith(f"1 image read, 1 skipped: 1 × damaged EXIF data (b.{suffix})")


def damaged():
    """{name: bytes} of files that no program can read, each by its own way."""
    def saved(kind, mode="RGB", **options):
        file = io.BytesIO()
        Image.fromarray(NOISE).resize((64, 64)).convert(mode).save(file, kind, **options)
        return file.getvalue()
    files = {}
    for kind, mode in (("PNG", "RGB"), ("JPEG", "RGB"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB"),
                       ("WEBP", "RGB"), ("AVIF", "RGB"), ("JPEG2000", "RGB"), ("DDS", "RGB"),
                       ("BLP", "P"), ("ICO", "RGB"), ("ICNS", "RGBA"), ("TGA", "RGB"), ("PCX", "RGB"),
                       ("PPM", "RGB"), ("SGI", "RGB")):
        raw = saved(kind, mode)
        for part in (0.1, 0.5, 0.9):
            files[f"cut{part}.{kind}"] = raw[:int(part * len(raw))]
        rng = np.random.default_rng(len(files))
        for k in range(6):
            noisy = bytearray(raw)
            for place in rng.integers(4, min(len(raw), 200), size=8):
                noisy[place] = rng.integers(256)
            files[f"noise{k}.{kind}"] = bytes(noisy)
    return files


def test_no_damaged_file_of_any_format_loses_the_rest(pics):
    """Pillow raises OSError, SyntaxError, struct.error, KeyError, ... each from the depth of some format."""
    files = damaged()
    for name, raw in files.items():
        (pics / name).write_bytes(raw)
    pixels, text = read(pics)
    words = text.split(": ")[1].split()                         # ["45", "images", "read,", "90", "skipped"]
    was_read, skipped = int(words[0]), int(words[3])
    assert was_read + skipped == len(files) + 1 and skipped > len(files) / 3
    assert len(pixels) == was_read and any((p == NOISE).all() for p in pixels)


@pytest.mark.parametrize("error", [KeyError("x"), struct.error("x"), IndexError(), TypeError(), RecursionError(),
                                   AssertionError(), NotImplementedError(), ZeroDivisionError(), EOFError(),
                                   SyntaxError("x"), OverflowError(), UnicodeDecodeError("a", b"", 0, 1, "x"),
                                   Image.DecompressionBombError("x"), PermissionError(errno.EACCES, "x")])
def test_whatever_pillow_raises_costs_one_file(pics, monkeypatch, error):
    (pics / "bad.png").write_bytes(b"x")
    truth = Image.open
    monkeypatch.setattr(Image, "open", lambda file: truth(file) if "good" in str(file) else raise_(error))
    pixels, text = read(pics)
    reason = {Image.DecompressionBombError: "too many pixels",
              PermissionError: "not readable"}.get(type(error), "damaged")
    assert len(pixels) == 1 and text.endswith(f"1 image read, 1 skipped: 1 × {reason} (bad.png)")


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_interruption_and_lack_of_memory_are_no_faults_of_a_file(pics, monkeypatch, error):
    monkeypatch.setattr(Image, "open", lambda file: raise_(error))
    with pytest.raises(type(error)):
        data.folder(pics)


def raise_(error):
    raise error


def test_files_are_counted_by_their_reasons(pics):
    deep = NOISE[..., 0] * np.uint16(257)
    for name in ("a.png", "b.tif", "c.png", "d.png"):
        Image.fromarray(deep).save(pics / name)                 # 16 bits a pixel
    Image.fromarray(NOISE[..., 0].astype(np.float32)).save(pics / "float.tif")
    (pics / "notes.txt").write_text("not an image")
    (pics / "cut.png").write_bytes((pics / "good.png").read_bytes()[:120])
    (pics / "nothing.png").write_bytes(b"")
    (pics / "line\nbreak\x1b[2J.png").write_text("odd")
    (pics / "bomb.png").write_bytes(png(60_000, 60_000, 8, bytes(60_000)))
    (pics / "huge.png").write_bytes(png(2 ** 31 - 1, 2 ** 31 - 1, 8, b""))
    os.symlink("nowhere", pics / "link.png")
    os.symlink("loop.png", pics / "loop.png")
    os.mkfifo(pics / "fifo.png")
    os.symlink("/dev/zero", pics / "zero.png")
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        os.chdir(pics)                                          # such a name must be short
        try:
            s.bind("socket.png")
        finally:
            os.chdir(here)
    pixels, text = read(pics)
    np.testing.assert_array_equal(pixels, [NOISE])
    assert text.startswith(f"folder {pics}: 1 image read, 16 skipped: 5 × ")
    assert text.isprintable()
    for part in ("5 × more than 8 bits a channel (a.png, b.tif, c.png, ...)",
                 "5 × no regular file or a broken link (fifo.png, link.png, loop.png, ...)",
                 r"3 × no image (line\nbreak\x1b[2J.png, notes.txt, nothing.png)", "1 × damaged (cut.png)",
                 "2 × too many pixels (bomb.png, huge.png)"):
        assert part in text


def test_a_folder_of_16_bit_images_says_so(tmp_path):
    for name in "abcd":
        Image.fromarray(NOISE[..., 0] * np.uint16(257)).save(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match=r"no image found.*4 × more than 8 bits a channel \(a.png, b.png, c.png, ...\)"):
        data.folder(tmp_path)


def test_links_to_folders_are_followed_and_loops_end(pics, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    Image.new("RGB", (8, 8), "red").save(elsewhere / "red.png")
    os.symlink(elsewhere, pics / "linked")
    os.symlink(pics, elsewhere / "back")                        # a loop through both
    os.symlink(".", pics / "self")
    pixels, text = read(pics)
    assert len(pixels) == 2 and not text


def test_a_folder_or_file_without_permission_costs_only_itself():
    """Under a user's own rights; the administrator's are put down meanwhile, as they would open everything."""
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        Image.fromarray(NOISE).save(os.path.join(root, "good.png"))
        Image.fromarray(NOISE).save(os.path.join(root, "shut.png"))
        os.mkdir(os.path.join(root, "closed"))
        os.chmod(os.path.join(root, "shut.png"), 0)
        os.chmod(os.path.join(root, "closed"), 0)
        was = os.geteuid()
        try:
            if was == 0:
                os.seteuid(65534)
            pixels, text = read(root)
        finally:
            os.seteuid(was)
            os.chmod(os.path.join(root, "closed"), stat.S_IRWXU)
    assert len(pixels) == 1 and "1 × not readable (shut.png)" in text
    assert "1 × folder that cannot be read (closed)" in text


def test_other_images_have_another_fingerprint_and_moved_ones_the_same(pics):
    before = data.folder(pics, size=8)
    assert before.path == str(pics) and os.path.isabs(before.path)
    moved = pics.rename(pics.parent / "moved")
    assert data.folder(moved, size=8).fingerprint == before.fingerprint
    Image.fromarray(NOISE[::-1]).save(moved / "good.png")       # the same name and size
    changed = data.folder(moved, size=8).fingerprint
    Image.fromarray(NOISE).save(moved / "new.png")
    assert len({before.fingerprint, changed, data.folder(moved, size=8).fingerprint}) == 3


def run_in(folder, name="samples.png"):
    """What a training leaves in a folder."""
    folder.mkdir(exist_ok=True)
    config = {"data": "ring", "model": "mlp", "loss": "hinge", "latent": 2, "shape": [2]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "weights.npz").write_bytes(b"PK")
    Image.fromarray(NOISE).save(folder / name)


def test_the_pictures_of_a_run_below_the_folder_are_no_data(pics):
    before = data.folder(pics).fingerprint
    run_in(pics / "run")
    with pytest.warns(UserWarning, match=r"1 image read, 1 skipped: 1 × folder of a tinygan run \(run\)"):
        assert data.folder(pics).fingerprint == before
    with pytest.raises(ValueError, match="no image found"):     # a run alone
        data.folder(pics / "run")


def test_a_run_in_the_folder_itself_adds_nothing_to_its_images(pics):
    before = data.folder(pics, size=8).fingerprint
    for name in ("samples.png", "losses.png", "training.gif"):
        run_in(pics, name)
    (pics / "log.csv").write_text("step\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert data.folder(pics, size=8).fingerprint == before


def test_other_programs_have_a_config_json_too(pics):
    (pics / "sub").mkdir()
    Image.fromarray(NOISE).save(pics / "sub" / "b.png")
    (pics / "sub" / "config.json").write_text('{"data": "x"}')
    pixels, text = read(pics)
    assert len(pixels) == 2 and "1 × no image (config.json)" in text


@pytest.mark.parametrize("path, message", [
    ("", "no such folder; folder:."), ("  ", "no such folder"), ("missing", "below missing: there is no such folder"),
    ("~nosuchuser/x", "no such folder"), ("good.png", "below good.png: there is no such folder"),
    ("a\0b", "no such folder"), ("x" * 5000, "no such folder"), ("empty", "it is empty"),
])
def test_a_path_without_images_is_an_error_that_says_what_is_there(pics, monkeypatch, path, message):
    (pics / "empty").mkdir()
    monkeypatch.chdir(pics)
    with pytest.raises(ValueError, match=message) as error:
        data.load(f"folder:{path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", None])
def test_an_impossible_size_is_refused(pics, size):
    with pytest.raises(ValueError, match="folder: size must be an integer >= 1"):
        data.folder(pics, size=size)


def test_pillows_own_warnings_cannot_stop_a_folder(pics):
    """-W error turns every warning into an exception; ours is the only one there is."""
    Image.fromarray(NOISE).save(pics / "b.jpg", exif=BROKEN_EXIF["cut short"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(data.folder(pics)) == 2
