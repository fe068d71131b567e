"""Arrays of one's own from files: read as they were written, refused before they can do harm."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinygan import data

POINTS = np.linspace(-3, 3, 15, dtype=np.float32).reshape(5, 3)
LABELS = np.array([0, 1, 2, 1, 0])


def npy(header, body=b"", version=(1, 0)):
    """A .npy file, written from the format's description."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text + body


def header(shape, dtype="<f4"):
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"


@pytest.mark.parametrize("x", [POINTS, np.asfortranarray(POINTS), POINTS.astype(">f8"),
                               np.arange(32, dtype=np.uint8).reshape(2, 4, 4)])
def test_a_npy_file_is_read_as_numpy_wrote_it(tmp_path, x):
    np.save(tmp_path / "mine.npy", x)
    found = data.load(f"{tmp_path}/mine.npy")
    np.testing.assert_array_equal(found.x, data.as_dataset(x).x)
    assert found.name == "mine" and found.labels is None and found.path == str(tmp_path / "mine.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("x", ["x", "images", "arr_0", "anything"])
@pytest.mark.parametrize("labels", ["labels", "y", None])
def test_a_npz_file_is_read_under_the_usual_names(tmp_path, save, x, labels):
    save(tmp_path / "mine.npz", **{x: POINTS, **({labels: LABELS} if labels else {})})
    found = data.load(tmp_path / "mine.npz")
    np.testing.assert_array_equal(found.x, POINTS)
    assert found.labels is None if labels is None else found.labels.tolist() == LABELS.tolist()


def test_the_bundled_digits_can_be_named_as_a_file():
    assert data.load(Path(data.__file__).with_name("digits.npz")).fingerprint == data.digits().fingerprint


def test_paths_are_absolute_and_a_suffix_may_be_in_capitals(tmp_path, monkeypatch):
    with open(tmp_path / "A.NPY", "wb") as file:
        np.save(file, POINTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spec in ("A.NPY", "./A.NPY", "~/A.NPY"):
        assert data.load(spec).path == str(tmp_path / "A.NPY")


class Payload:
    """What a pickle can do: run a function of the file's choice."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/tinygan-test-was-run",)


def objects():
    file = io.BytesIO()
    np.save(file, np.array([Payload()], object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("raw, message", [
    (b"", "no array"),
    (b"\x93NUMPY", "no array"),
    (b"hello", "no array"),
    (pickle.dumps(Payload()), "no array"),
    (objects(), "pickle"),
    (npy(header((5, 3)), bytes(59)), "needs 60 bytes, found 59"),
    (npy(header((5, 3)), bytes(61)), "needs 60 bytes, found 61"),
    (npy(header((2 ** 40, 2 ** 40)), bytes(60)), "found 60"),
    (npy(header((-5, -3)), bytes(60)), "damaged"),
    (npy(header((5, 3), "|O"), bytes(120)), "pickle"),
    (npy(header((5, 3), "<q9"), bytes(120)), "no array"),
    (npy(header("(5, 3"), bytes(60)), "no array"),
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5, [3]), }", bytes(60)), "no array"),
    (npy("0" * 9999, bytes(60)), "no array"),
    (npy(header((5, 3)), bytes(60), version=(9, 0)), "no array"),
    (npy(header((0, 3))), "empty"),
    (npy(header(()), bytes(4)), "got shape"),
    (npy(header((5,), "|S3"), bytes(15)), "got shape"),
    (npy(header((5, 3)), np.full(15, np.nan, np.float32).tobytes()), "NaN"),
])
def test_a_foreign_damaged_or_lying_npy_file_is_one_line(tmp_path, raw, message):
    (tmp_path / "bad.npy").write_bytes(raw)
    with pytest.raises(ValueError, match=message) as error:
        data.load(f"{tmp_path}/bad.npy")
    assert "bad" in str(error.value) and "\n" not in str(error.value)
    assert not os.path.exists("/tmp/tinygan-test-was-run")


def test_every_truncation_and_many_flips_of_an_archive_are_read_right_or_refused(tmp_path):
    file = io.BytesIO()
    np.savez_compressed(file, x=POINTS, labels=LABELS)
    raw, path = file.getvalue(), tmp_path / "a.npz"
    rng = np.random.default_rng(0)
    damaged = [raw[:n] for n in range(0, len(raw), 7)]
    for place in rng.integers(len(raw), size=300):
        damaged.append(raw[:place] + bytes([raw[place] ^ 1 << rng.integers(8)]) + raw[place + 1:])
    refused = 0
    for text in damaged:
        path.write_bytes(text)
        try:
            np.testing.assert_array_equal(data.array_file(path).x, POINTS)
        except ValueError as e:
            refused += 1
            assert "\n" not in str(e)
    assert refused > 100


@pytest.mark.parametrize("members, message", [
    ({"a": POINTS, "b": POINTS}, "which array is the data.*a, b"),
    ({"labels": LABELS}, "which array is the data"),
    ({}, "which array is the data.*none"),
    ({"x": POINTS, "labels": LABELS[:4]}, "labels must be 5 integers"),
    ({"x": POINTS, "y": -LABELS}, "labels must be >= 0"),
])
def test_an_archive_that_does_not_say_what_is_what_is_refused(tmp_path, members, message):
    np.savez(tmp_path / "a.npz", **members)
    with pytest.raises(ValueError, match=message):
        data.load(f"{tmp_path}/a.npz")


def test_an_archive_bomb_is_refused_before_it_unpacks_and_unneeded_members_are_not_opened(tmp_path):
    size = 2 ** 27
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w") as member:
            member.write(npy(header((size // 8, 2))))
            for _ in range(size // 2 ** 20):
                member.write(bytes(2 ** 20))
    with zipfile.ZipFile(tmp_path / "good.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("x.npy", npy(header((5, 3)), POINTS.tobytes()))
        with archive.open("other.npy", "w") as member:
            for _ in range(size // 2 ** 20):
                member.write(bytes(2 ** 20))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="would unpack .* bytes"):
            data.load(f"{tmp_path}/bomb.npz")
        np.testing.assert_array_equal(data.load(f"{tmp_path}/good.npz").x, POINTS)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_what_is_no_readable_file_is_one_line(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "fifo.npz")
    os.symlink("loop.npy", tmp_path / "loop.npy")
    for name in ("missing.npy", "folder.npy", "fifo.npz", "loop.npy", "a\0b.npy"):
        with pytest.raises(ValueError, match="cannot be read|not a regular file|null"):
            data.load(f"{tmp_path}/{name}")
    with pytest.raises(ValueError, match="nosuchuser.*cannot be read"):
        data.load("~nosuchuser/x.npz")
