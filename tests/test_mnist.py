"""MNIST's files: found under every name they go by, unpacked within bounds, believed only when proved."""

import gzip
import hashlib
import io
import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest

from tinygan import data, mnist

IMAGES, LABELS = mnist.FILES["train"]


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No MNIST on disk, an empty cache, and a network that must not be used unless a test stubs it."""
    def urlopen(url, timeout):
        raise AssertionError(f"network used: {url}")

    monkeypatch.delenv("TINYGAN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mnist, "urlopen", urlopen)
    return tmp_path


@pytest.fixture
def tiny(monkeypatch):
    """A stand-in for MNIST's training set, three images of 28 × 28: file names and their gzipped contents."""
    rng = np.random.default_rng(0)
    contents = {IMAGES: idx(rng.integers(0, 256, (3, 28, 28), np.uint8)),
                LABELS: idx(np.array([7, 0, 9], np.uint8))}
    for name, raw in contents.items():
        monkeypatch.setitem(mnist.SHA256, name, hashlib.sha256(raw).hexdigest())
    return {name: gzip.compress(raw) for name, raw in contents.items()}


@pytest.fixture
def root(nowhere, monkeypatch):
    """$TINYGAN_DATA, an empty folder."""
    (nowhere / "root").mkdir()
    monkeypatch.setenv("TINYGAN_DATA", str(nowhere / "root"))
    return nowhere / "root"


def idx(array):
    """An IDX file, written from the format's description."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def put(folder, files):
    for name, raw in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)


def test_idx_round_trip():
    array = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    np.testing.assert_array_equal(mnist.parse_idx(idx(array)), array)


@pytest.mark.parametrize("raw", [
    b"", b"\x89PNG\r\n", b"\0\0\x08\x03\0\0",
    idx(np.zeros(9, np.uint8))[:-1], idx(np.zeros(9, np.uint8)) + b"x",
    b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0",  # floats
])
def test_a_foreign_or_cut_idx_file_is_an_error_that_names_it(raw):
    with pytest.raises(ValueError, match="stray.bin"):
        mnist.parse_idx(raw, "stray.bin")


@pytest.mark.parametrize("place", ["mnist", "MNIST/raw", "."])
@pytest.mark.parametrize("spelling", [
    "{0}.gz", "{0}", "{1}", "{1}.gz", "{0}/{0}", "{1}/{1}", "{0}/{1}",
])
def test_files_are_found_under_the_names_and_in_the_places_where_people_have_them(root, tiny, place, spelling):
    """Packed or not, with Kaggle's dot, in the folders that Kaggle and torchvision make."""
    files = {spelling.format(name, name.replace("-idx", ".idx")): raw for name, raw in tiny.items()}
    put(root / place, {name: raw if name.endswith(".gz") else gzip.decompress(raw)
                       for name, raw in files.items()})
    found = data.load("mnist")
    pixels = np.frombuffer(gzip.decompress(tiny[IMAGES])[16:], np.uint8)
    np.testing.assert_allclose(found.x, pixels.reshape(3, 28, 28, 1) / 127.5 - 1, atol=1e-6)
    assert found.labels.tolist() == [7, 0, 9] and found.labels.dtype == np.int64


@pytest.mark.parametrize("damage", [
    lambda raw: gzip.compress(gzip.decompress(raw)[:-1] + b"?"), lambda raw: raw[:-20], lambda raw: b"<html>",
    lambda raw: gzip.compress(gzip.decompress(raw) + b"?"), lambda raw: gzip.compress(b""), lambda raw: b"",
    lambda raw: gzip.compress(gzip.decompress(raw)[:9]), lambda raw: raw[:-4] + b"\1\2\3\4",
])
def test_a_damaged_file_is_refused_by_name(root, tiny, damage):
    put(root / "mnist", {f"{IMAGES}.gz": damage(tiny[IMAGES])})
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz"):
        data.mnist()


@pytest.mark.parametrize("start", [
    b"",                                                        # zeros only: no header
    b"\0\0\x08\x03" + struct.pack(">3I", 60_000, 28, 28),       # the right header, too much behind it
    b"\0\0\x08\x03" + struct.pack(">3I", 2 ** 32 - 1, 28, 28),  # a header that announces 3 TB
], ids=["zeros", "right header", "huge header"])
def test_a_gzip_bomb_is_refused_before_it_unpacks(root, start, memory_below):
    """At most the 47 MB of MNIST's own training images, twice for a moment, whatever the header says."""
    packer = io.BytesIO()
    with gzip.GzipFile(fileobj=packer, mode="wb", compresslevel=9) as file:
        file.write(start)
        for _ in range(300):
            file.write(bytes(2 ** 20))
    put(root / "mnist", {f"{IMAGES}.gz": packer.getvalue()})
    with memory_below(2.1 * 47_040_016), pytest.raises(ValueError, match="train-images-idx3-ubyte.gz"):
        data.mnist()


def test_a_label_file_never_unpacks_more_than_its_labels(root, tiny):
    bomb = gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 60_000) + bytes(2 ** 26))
    put(root / "mnist", {f"{IMAGES}.gz": tiny[IMAGES], f"{LABELS}.gz": bomb})
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte.gz.*needs 60000 bytes, found 60001"):
        data.mnist()


@pytest.mark.parametrize("place", ["fashion-mnist", "fashion", "FashionMNIST/raw"])
def test_fashion_mnist_is_a_data_set_of_its_own(root, place):
    clothes = {IMAGES: idx(np.full((2, 28, 28), 255, np.uint8)), LABELS: idx(np.array([3, 1], np.uint8))}
    put(root / place, clothes)
    found = data.load("fashion-mnist")
    assert found.name == "fashion-mnist" and found.x.shape == (2, 28, 28, 1) and (found.x == 1).all()
    assert found.labels.tolist() == [3, 1]


def test_fashion_mnist_in_mnists_place_is_told_apart_both_ways(root, tiny):
    put(root / "mnist", {IMAGES: idx(np.zeros((2, 28, 28), np.uint8))})
    with pytest.raises(ValueError, match="Fashion-MNIST's four files belong into .*fashion-mnist"):
        data.load("mnist")
    put(root / "fashion-mnist", tiny)
    with pytest.raises(ValueError, match="this is MNIST itself"):
        data.load("fashion-mnist")


@pytest.mark.parametrize("images, labels, message", [
    (idx(np.zeros((2, 28, 28), np.uint8)), idx(np.zeros(3, np.uint8)), "2 images in .* 3 labels"),
    (idx(np.zeros((2, 32, 32), np.uint8)), idx(np.zeros(2, np.uint8)), "28, 28"),
    (idx(np.zeros((2, 28), np.uint8)), idx(np.zeros(2, np.uint8)), IMAGES),
    (idx(np.zeros((2, 28, 28), np.uint8)), idx(np.zeros((2, 28, 28), np.uint8)), LABELS),
])
def test_files_of_another_structure_are_refused(root, images, labels, message):
    put(root / "fashion-mnist", {IMAGES: images, LABELS: labels})
    with pytest.raises(ValueError, match=message):
        data.fashion_mnist()


def test_missing_fashion_mnist_says_where_to_put_it(root):
    with pytest.raises(ValueError, match="fashion-mnist and set TINYGAN_DATA"):
        data.load("fashion-mnist", split="test")


def test_download_tries_the_second_mirror_and_keeps_only_whole_files(nowhere, tiny, monkeypatch):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        assert url.startswith("https://") and timeout
        packed = tiny[url.rsplit("/", 1)[1].removesuffix(".gz")]
        return io.BytesIO(packed[:-9] if url.startswith(mnist.MIRRORS[0]) else packed)  # the first breaks off

    monkeypatch.setattr(mnist, "urlopen", urlopen)
    assert data.mnist().labels.tolist() == [7, 0, 9]
    assert [url.startswith(mnist.MIRRORS[0]) for url in asked] == [True, False, True, False]
    cache = nowhere / "cache" / "tinygan" / "mnist"
    assert {path.stem: path.read_bytes() for path in cache.iterdir()} == tiny
    data.mnist()  # from the cache now
    assert len(asked) == 4


def test_a_download_cut_short_while_writing_leaves_nothing_behind(nowhere, tiny, monkeypatch):
    def full(*paths):
        raise OSError("No space left on device")

    monkeypatch.setattr(mnist, "urlopen", lambda url, timeout: io.BytesIO(tiny[IMAGES]))
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        data.mnist()
    assert list((nowhere / "cache" / "tinygan" / "mnist").iterdir()) == []


def test_without_network_the_error_says_how_to_work_offline(nowhere, tiny, monkeypatch):
    def urlopen(url, timeout):
        raise TimeoutError("timed out")

    monkeypatch.setattr(mnist, "urlopen", urlopen)
    with pytest.raises(data.DownloadError, match="timed out.*timed out.*TINYGAN_DATA") as error:
        data.mnist()
    assert isinstance(error.value, OSError) and not (nowhere / "cache").exists()


HOMELESS = """
import os, pwd
def nobody(*args):
    raise KeyError("no such user")
pwd.getpwuid = pwd.getpwnam = nobody
from tinygan import data, mnist
mnist.MIRRORS = ["https://127.0.0.1:1/"]            # nobody answers there
try:
    print(len(data.load("mnist", split="test").x))
except (ValueError, data.DownloadError) as e:
    print(type(e).__name__, e)
"""


@pytest.mark.parametrize("given, expected", [
    ({"TINYGAN_DATA": "~nosuchuser/x"}, "DownloadError download failed.*TINYGAN_DATA"),
    ({}, "DownloadError download failed.*TINYGAN_DATA"),
    ({"TINYGAN_DATA": "root"}, "ValueError .*SHA-256"),         # found, and read
])
def test_without_a_home_directory_there_is_one_line_or_no_need_for_one(root, given, expected):
    put(root / "mnist", {mnist.FILES["test"][0]: idx(np.zeros((2, 28, 28), np.uint8))})
    keep = {name: value for name, value in os.environ.items()
            if name not in ("HOME", "XDG_CACHE_HOME", "TINYGAN_DATA")}
    here = os.path.dirname(os.path.dirname(data.__file__))
    done = subprocess.run([sys.executable, "-c", HOMELESS], cwd=root.parent, text=True, capture_output=True,
                          env={**keep, "PYTHONPATH": here, "MPLCONFIGDIR": str(root), **given})
    assert re.match(expected, done.stdout) and done.stdout.count("\n") == 1, done.stdout + done.stderr
    assert not (root.parent / "~").exists() and "Traceback" not in done.stderr


def test_mnist_has_two_splits(nowhere):
    for load in (data.mnist, data.fashion_mnist):
        with pytest.raises(ValueError, match="'valid'"):
            load("valid")


def test_digits_are_exactly_the_first_10000_of_mnists_training_set(monkeypatch):
    def offline(name):
        pytest.skip("MNIST is not on this machine: set TINYGAN_DATA to a folder that holds mnist/")

    monkeypatch.setattr(mnist, "download", offline)
    images, labels = mnist.read("mnist")
    with np.load(os.path.join(os.path.dirname(data.__file__), "digits.npz")) as file:
        ours = sorted(zip((i.tobytes() for i in file["images"]), file["labels"], strict=True))
    assert ours == sorted(zip((i.tobytes() for i in images[:10_000]), labels[:10_000], strict=True))
