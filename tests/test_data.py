"""Data: every claim about a data set is checked against a truth from elsewhere; no test needs a network."""

import gzip
import hashlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygan import data


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No MNIST on disk, an empty cache, and a network that must not be used unless a test stubs it."""
    def urlopen(url, timeout):
        raise AssertionError(f"network used: {url}")

    monkeypatch.delenv("TINYGAN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "urlopen", urlopen)
    return tmp_path


@pytest.fixture
def tiny(monkeypatch):
    """A stand-in for MNIST's training set, three images of 28 × 28: file names and their gzipped contents."""
    rng = np.random.default_rng(0)
    contents = {"train-images-idx3-ubyte": idx(rng.integers(0, 256, (3, 28, 28), np.uint8)),
                "train-labels-idx1-ubyte": idx(np.array([7, 0, 9], np.uint8))}
    for name, raw in contents.items():
        monkeypatch.setitem(data.SHA256, name, hashlib.sha256(raw).hexdigest())
    return {name: gzip.compress(raw) for name, raw in contents.items()}


def idx(array):
    """An IDX file, written from the format's description."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


# ---- points in the plane ----------------------------------------------------------------------------------

def test_ring_has_as_many_distinct_modes_as_it_says():
    centers = data.ring(modes=8, radius=2.0).centers
    assert len(np.unique(centers.round(6), axis=0)) == 8
    np.testing.assert_allclose(np.hypot(*centers.T), 2.0)
    neighbours = np.linalg.norm(centers - np.roll(centers, 1, axis=0), axis=1)
    np.testing.assert_allclose(neighbours, 2 * 2.0 * np.sin(np.pi / 8))  # chord of 45 degrees, eight times


def test_grid_is_the_published_one():
    centers = data.grid(side=5, spacing=2.0).centers
    assert {tuple(c) for c in centers} == {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}


@pytest.mark.parametrize("mixture", [data.ring(), data.grid()])
def test_samples_follow_the_mixture(mixture):
    x = mixture.sample(50_000, np.random.default_rng(0))
    assert x.shape == (50_000, 2) and x.dtype == np.float32
    offsets = x[:, None] - mixture.centers  # (N, K, 2)
    nearest = np.hypot(*offsets.transpose(2, 0, 1)).argmin(axis=1)  # (N,)
    share = np.bincount(nearest, minlength=len(mixture.centers)) / len(x)
    np.testing.assert_allclose(share, 1 / len(mixture.centers), atol=0.006)
    offset = offsets[np.arange(len(x)), nearest]  # (N, 2)
    np.testing.assert_allclose(offset.std(axis=0), mixture.std, rtol=0.02)
    np.testing.assert_allclose(offset.mean(axis=0), 0, atol=0.02 * mixture.std)
    within = (np.hypot(*offset.T) < 3 * mixture.std).mean()
    assert abs(within - (1 - np.exp(-4.5))) < 0.002  # in 2-D, not the 99.7 % of one dimension


def test_swissroll_lies_on_its_spiral():
    x = data.swissroll(2000, np.random.default_rng(0), noise=0.0)
    radius, angle = np.hypot(*x.T) * 7.5, np.arctan2(x[:, 1], x[:, 0])
    turns = (radius - angle) / (2 * np.pi)  # radius = angle + 2π k
    np.testing.assert_allclose(turns, turns.round(), atol=1e-4)
    assert 1.8 < np.abs(x).max() < 2 and x.dtype == np.float32


def test_the_same_seed_gives_the_same_points_and_another_seed_others():
    for spec in ("ring", "grid", "swissroll"):
        a, b, c = (data.load(spec, n=100, seed=seed).x for seed in (1, 1, 2))
        np.testing.assert_array_equal(a, b)
        assert (a != c).all()


@pytest.mark.parametrize("make", [
    lambda: data.ring(modes=0), lambda: data.grid(side=0), lambda: data.grid(std=-1.0),
    lambda: data.ring(std=float("nan")), lambda: data.load("ring", n=0),
])
def test_impossible_mixtures_are_refused(make):
    with pytest.raises(ValueError):
        make()


# ---- Dataset ----------------------------------------------------------------------------------------------

GOOD = np.zeros((4, 2, 2, 1), np.float32)


@pytest.mark.parametrize("x, labels, message", [
    (np.zeros((0, 2), np.float32), None, "empty"),
    (np.zeros((4, 3), np.float32), None, r"\(N, 2\) or images"),
    (np.full((4, 2), np.nan, np.float32), None, "NaN"),
    (np.where(np.arange(4)[:, None, None, None] == 3, np.inf, GOOD).astype(np.float32), None, "infinity"),
    (np.full((4, 2, 2, 1), 255, np.uint8), None, r"/ 127\.5 - 1"),
    (GOOD + 255, None, r"/ 127\.5 - 1"),
    (GOOD.astype(np.float64), None, "float32"),
    (GOOD, np.zeros(3, np.int64), "labels"),
    (GOOD, np.zeros(4, np.float32), "labels"),
])
def test_bad_data_is_refused_with_its_reason(x, labels, message):
    with pytest.raises(ValueError, match=message):
        data.Dataset("mine", x, labels)


def test_dataset_knows_its_length_and_kind():
    images, points = data.Dataset("a", GOOD, np.zeros(4, np.int64)), data.load("ring", n=7)
    assert len(images) == 4 and images.is_image
    assert len(points) == 7 and not points.is_image and points.mixture.centers.shape == (8, 2)


@pytest.mark.parametrize("spec", ["cifar", "folder", "", "Ring"])
def test_unknown_data_names_the_choices(spec):
    with pytest.raises(ValueError, match="digits, mnist, ring, grid, swissroll, folder:PATH"):
        data.load(spec)


# ---- digits and MNIST -------------------------------------------------------------------------------------

def test_digits_are_10000_shuffled_images_in_range():
    digits = data.load("digits")
    assert digits.x.shape == (10_000, 28, 28, 1) and digits.x.dtype == np.float32
    assert digits.x.min() == -1 and digits.x.max() == 1
    # MNIST's first 10,000 training labels, as its label file counts them.
    assert np.bincount(digits.labels).tolist() == [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
    assert all(len(set(digits.labels[i:i + 100])) == 10 for i in range(0, 10_000, 100))


def test_digits_are_exactly_the_first_10000_of_mnists_training_set(monkeypatch):
    def offline(name, cache):
        pytest.skip("MNIST is not on this machine: set TINYGAN_DATA to a folder that holds mnist/")

    monkeypatch.setattr(data, "_download", offline)
    images, labels = (data.parse_idx(data._mnist_file(name)) for name in data.MNIST["train"])
    with np.load(Path(data.__file__).with_name("digits.npz")) as file:
        ours = sorted(zip((i.tobytes() for i in file["images"]), file["labels"], strict=True))
    assert ours == sorted(zip((i.tobytes() for i in images[:10_000]), labels[:10_000], strict=True))


def test_idx_round_trip():
    array = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    np.testing.assert_array_equal(data.parse_idx(idx(array)), array)


@pytest.mark.parametrize("raw", [
    b"", b"\x89PNG\r\n", b"\0\0\x08\x03\0\0",
    idx(np.zeros(9, np.uint8))[:-1], idx(np.zeros(9, np.uint8)) + b"x",
    b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0",  # floats
])
def test_a_foreign_or_cut_idx_file_is_an_error_that_names_it(raw):
    with pytest.raises(ValueError, match="stray.bin"):
        data.parse_idx(raw, "stray.bin")


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_read_from_tinygan_data(nowhere, tiny, monkeypatch, packed):
    monkeypatch.setenv("TINYGAN_DATA", str(nowhere))
    (nowhere / "mnist").mkdir()
    for name, raw in tiny.items():
        path = nowhere / "mnist" / (name + ".gz" * packed)
        path.write_bytes(raw if packed else gzip.decompress(raw))
    found = data.load("mnist")
    pixels = np.frombuffer(gzip.decompress(tiny["train-images-idx3-ubyte"])[16:], np.uint8)
    np.testing.assert_allclose(found.x, pixels.reshape(3, 28, 28, 1) / 127.5 - 1, atol=1e-6)
    assert found.labels.tolist() == [7, 0, 9] and found.labels.dtype == np.int64


@pytest.mark.parametrize("damage", [
    lambda raw: gzip.compress(gzip.decompress(raw)[:-1] + b"?"), lambda raw: raw[:-20], lambda raw: b"<html>",
])
def test_a_damaged_file_is_refused_by_name(nowhere, tiny, monkeypatch, damage):
    monkeypatch.setenv("TINYGAN_DATA", str(nowhere))
    path = nowhere / "mnist" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir()
    path.write_bytes(damage(tiny[path.stem]))
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz"):
        data.mnist()


def test_download_tries_the_second_mirror_and_keeps_only_whole_files(nowhere, tiny, monkeypatch):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        assert url.startswith("https://") and timeout
        packed = tiny[url.rsplit("/", 1)[1].removesuffix(".gz")]
        return io.BytesIO(packed[:-9] if url.startswith(data.MIRRORS[0]) else packed)  # the first breaks off

    monkeypatch.setattr(data, "urlopen", urlopen)
    assert data.mnist().labels.tolist() == [7, 0, 9]
    assert [url.startswith(data.MIRRORS[0]) for url in asked] == [True, False, True, False]
    cache = nowhere / "cache" / "tinygan" / "mnist"
    assert {path.stem: path.read_bytes() for path in cache.iterdir()} == tiny
    data.mnist()  # from the cache now
    assert len(asked) == 4


def test_a_download_cut_short_while_writing_leaves_nothing_behind(nowhere, tiny, monkeypatch):
    def full(*paths):
        raise OSError("No space left on device")

    monkeypatch.setattr(data, "urlopen", lambda url, timeout: io.BytesIO(tiny["train-images-idx3-ubyte"]))
    monkeypatch.setattr(data.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        data.mnist()
    assert list((nowhere / "cache" / "tinygan" / "mnist").iterdir()) == []


def test_without_network_the_error_says_how_to_work_offline(nowhere, tiny, monkeypatch):
    def urlopen(url, timeout):
        raise TimeoutError("timed out")

    monkeypatch.setattr(data, "urlopen", urlopen)
    with pytest.raises(data.DownloadError, match="timed out.*timed out.*TINYGAN_DATA") as error:
        data.mnist()
    assert isinstance(error.value, OSError) and not (nowhere / "cache").exists()


def test_mnist_has_two_splits(nowhere):
    with pytest.raises(ValueError, match="'valid'"):
        data.mnist("valid")


# ---- folder -----------------------------------------------------------------------------------------------

def test_folder_crops_the_centre_and_scales(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[..., 0] = 4 * np.arange(60)  # red tells the column
    (tmp_path / "sub").mkdir()
    Image.fromarray(wide).save(tmp_path / "sub" / "wide.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "a.png")
    found = data.load(f"folder:{tmp_path}", size=8)
    assert found.x.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(found.x[0], 1)  # a.png comes first
    columns = 20 + 2.5 * np.arange(8) + 0.75  # centres of 8 pixels laid over columns 20 to 39
    np.testing.assert_allclose(found.x[1, :, :, 0], np.tile(4 * columns / 127.5 - 1, (8, 1)), atol=0.02)
    assert (found.x[1, :, :, 1:] == -1).all()
    assert data.folder(tmp_path, size=8, grey=True).x.shape == (2, 8, 8, 1)


def test_folder_skips_what_is_no_image_with_one_warning(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "good.png")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:120])
    Image.fromarray(noise[..., 0] * np.uint16(257)).save(tmp_path / "deep.png")  # 16 bits a pixel
    with pytest.warns(UserWarning) as caught:
        found = data.folder(tmp_path, size=8)
    assert len(found) == 1 and len(caught) == 1
    for word in ("read: 1", "skipped: 3", "notes.txt", "cut.png", "deep.png"):
        assert word in str(caught[0].message)


def test_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="no image"):
            data.folder(path)
