"""Reading archives: the official formats, and everything that is not quite one."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings, strategies as st

from replication.datasets import archives, matlab
from replication.errors import DataError
from tests.archives import (
    CIFAR10_NAME,
    cifar10_archive,
    cifar10_batch,
    idx_archive,
    make_images,
    svhn_archive,
    tar_archive,
    write_archives,
)

RNG = np.random.default_rng(0)
IMAGES, LABELS = make_images(50, (3, 32, 32), RNG)
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


def batch_archive(tmp_path: Path, content: bytes) -> Path:
    """A CIFAR-10 archive with the same bytes for every batch."""
    path = tmp_path / CIFAR10_NAME
    path.write_bytes(tar_archive({f"cifar-10-batches-py/{name}": content for name in BATCHES}))
    return path


def one_line(path: Path, pattern: str, *paths: Path) -> None:
    """Reading `path` fails with one line that names it and says what to do."""
    reader = {"gz": archives.read_cifar10, "mat": archives.read_svhn}[path.name.rpartition(".")[2]]
    if "idx" in path.name:
        reader = archives.read_mnist  # type: ignore[assignment]
    with pytest.raises(DataError, match=pattern) as caught:
        reader(*(paths or (path,)))
    message = str(caught.value)
    assert str(path) in message
    assert "run prepare again" in message
    assert "\n" not in message
    assert len(message) < 600


def test_cifar10_as_python2_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / CIFAR10_NAME
    path.write_bytes(cifar10_archive(IMAGES, LABELS, IMAGES[:10], LABELS[:10]))
    parts = archives.read_cifar10(path)
    np.testing.assert_array_equal(parts["train"][0], IMAGES)
    np.testing.assert_array_equal(parts["train"][1], LABELS)
    np.testing.assert_array_equal(parts["test"][0], IMAGES[:10])
    assert parts["train"][1].dtype == np.int64


@pytest.mark.parametrize("order", ["C", "F"])
def test_cifar10_as_python3_writes_it(tmp_path: Path, order: str) -> None:
    data = np.asarray(IMAGES.reshape(50, -1), order=order)  # type: ignore[call-overload]
    path = batch_archive(tmp_path, pickle.dumps({"data": data, "labels": LABELS.tolist()}, protocol=2))
    images, labels = archives.read_cifar10(path)["train"]
    np.testing.assert_array_equal(images[:50], IMAGES)
    np.testing.assert_array_equal(labels[:50], LABELS)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/payload-was-run",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"data": Payload(), "labels": []}, protocol=2),
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
        b"c_codecs\nlookup\n(S'x'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93.",
        b"\x80\x04\x8c\x15numpy.core.multiarray\x8c\x15_reconstruct.__call__\x93.",
    ],
)
def test_pickle_may_name_nothing_but_arrays(tmp_path: Path, content: bytes) -> None:
    one_line(batch_archive(tmp_path, content), "its pickle asks for")
    assert not Path("/tmp/payload-was-run").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"junk",
        b"\x80\x02]q\x00.",
        b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a bytes object of 2**63 - 1 bytes
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",  # a memo index of 2**31 - 1: C's unpickler allocates that many
        b"(" * 100_000,
        b"]" * 100_000 + b"a" * 99_999 + b".",
        pickle.dumps({"data": [1], "labels": [0]}, protocol=2),
        pickle.dumps({"data": IMAGES.reshape(50, -1).astype(np.int64), "labels": LABELS.tolist()}, protocol=2),
        pickle.dumps({"data": np.array([[None]]), "labels": [0]}, protocol=2),
        pickle.dumps({"data": IMAGES.reshape(50, -1), "labels": [10] * 50}, protocol=2),
        pickle.dumps({"data": IMAGES.reshape(50, -1), "labels": [True] * 50}, protocol=2),
        pickle.dumps({"data": IMAGES.reshape(50, -1), "labels": [0] * 49}, protocol=2),
        pickle.dumps({"data": IMAGES.reshape(25, -1), "labels": [0] * 25}, protocol=2),
        cifar10_batch("data_batch_1", IMAGES, LABELS)[:-2000],
    ],
)
def test_malformed_batches(tmp_path: Path, content: bytes) -> None:
    one_line(batch_archive(tmp_path, content), "not the archive expected|cannot be parsed|truncated")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    info.type, info.linkname = kind, "/etc/passwd"
    path = tmp_path / CIFAR10_NAME
    path.write_bytes(tar_archive({info.name: info}))
    one_line(path, "no regular file")


@pytest.mark.parametrize("prefix", ["/", "../", "cifar-10-batches-py/../", "other/"])
def test_names_elsewhere_are_not_read(tmp_path: Path, prefix: str) -> None:
    good = cifar10_batch("data_batch_1", IMAGES, LABELS)
    path = tmp_path / "in" / CIFAR10_NAME
    path.parent.mkdir()
    path.write_bytes(tar_archive({f"{prefix}cifar-10-batches-py/{name}": good for name in BATCHES}))
    one_line(path, "no cifar-10-batches-py/data_batch_1 inside")
    assert [p.name for p in tmp_path.rglob("*")] == ["in", CIFAR10_NAME]  # nothing is extracted


def test_a_batch_twice_is_refused(tmp_path: Path) -> None:
    good = cifar10_batch("data_batch_1", IMAGES, LABELS)
    path = tmp_path / CIFAR10_NAME
    path.write_bytes(
        tar_archive({"cifar-10-batches-py/data_batch_1": good, "./cifar-10-batches-py/data_batch_1": good})
    )
    one_line(path, "appears twice")


def test_decompression_bombs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MEBIBYTE", 1 << 10)  # the same bounds for a small bomb
    zeros = bytes(4 << 20)
    path = tmp_path / CIFAR10_NAME
    path.write_bytes(tar_archive({"cifar-10-batches-py/data_batch_1": zeros}))
    one_line(path, "too large")
    path.write_bytes(tar_archive({"unrelated": zeros}))
    one_line(path, "holds more data than it can")


EXTENDED_HEADERS = [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, *tarfile.GNU_TYPES[:2]]


@pytest.mark.parametrize("kind", EXTENDED_HEADERS)
def test_long_extended_headers_are_not_read(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 1 << 30
    path = tmp_path / CIFAR10_NAME
    path.write_bytes(gzip.compress(info.tobuf()))  # nothing follows: it is refused before it is read
    one_line(path, "an extended header of 1073741824 bytes")


def test_short_extended_headers_are_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("unrelated")
    info.pax_headers = {"comment": "x" * 4000}
    path = tmp_path / CIFAR10_NAME
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    one_line(path, "no cifar-10-batches-py/data_batch_1 inside")


def test_files_with_holes_are_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    info.type = tarfile.GNUTYPE_SPARSE
    path = tmp_path / CIFAR10_NAME
    path.write_bytes(tar_archive({info.name: info}))
    one_line(path, "a file with holes")
    info.type, info.pax_headers = tarfile.REGTYPE, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    one_line(path, "a file with holes")


def refused_in_a_child(path: Path, pattern: str) -> None:
    """As `one_line`, in a process of its own with a small stack: what it reads may end it."""
    code = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
from replication.datasets import archives
from replication.errors import DataError
try:
    archives.read_cifar10(Path(sys.argv[1]))
except DataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(pattern, done.stdout) and done.stdout.count("\n") == 1


NESTED = b")" + b"\x85" * 200_000  # tuples within tuples: C hashes and compares them by recursion


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (b"}" + NESTED + b"K\x01s.", "a dictionary key that is no string"),
        (b"}(" + NESTED + b"K\x01u.", "a dictionary key that is no string"),
        (b"(" + NESTED + b"K\x01d.", "a dictionary key that is no string"),
        (b"}(U\x01aK\x01K\x02K\x03u.", "a dictionary key that is no string"),
        (b"\x8f(" + NESTED + b"\x90.", "its pickle holds a set"),
        (b"(" + NESTED + b"\x91.", "its pickle holds a set"),
        (b"}(U\x06labels" + NESTED + b"U\x04data" + NESTED + b"u.", "lacks its data or labels"),
        (b"}(U\x06labels](" + NESTED + b"eU\x04data" + NESTED + b"u.", "lacks its data or labels"),
        (NESTED + b"R.", "cannot be parsed"),
        (NESTED + NESTED + b"b.", "cannot be parsed"),
        (NESTED + NESTED + b"\x81.", "cannot be parsed"),
    ],
)
def test_deep_pickles_do_not_end_the_process(tmp_path: Path, content: bytes, pattern: str) -> None:
    refused_in_a_child(batch_archive(tmp_path, b"\x80\x02" + content), pattern)


def test_a_pickle_of_many_small_steps_is_refused_before_it_has_taken_them(tmp_path: Path) -> None:
    path = batch_archive(tmp_path, b"\x80\x02" + b"N0" * 10_000_000 + b".")
    refused_in_a_child(path, "its pickle takes more than 1,000,000 steps")


def test_images_of_official_shape_only(tmp_path: Path) -> None:
    images_path, labels_path = tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "train-labels-idx1-ubyte.gz"
    images, labels = make_images(30, (1, 28, 28), RNG)
    good_images, good_labels = idx_archive(images[:, 0]), idx_archive(labels.astype(np.uint8))
    images_path.write_bytes(good_images)
    labels_path.write_bytes(good_labels)
    read_images, read_labels = archives.read_mnist(images_path, labels_path)
    np.testing.assert_array_equal(read_images, images)
    np.testing.assert_array_equal(read_labels, labels)

    raw = gzip.decompress(good_images)
    bad = {
        "magic number": good_labels,
        "instead of 28x28": idx_archive(np.zeros((3, 27, 28), np.uint8)),
        "where its header says": gzip.compress(raw[:-1]),
        "beyond what": gzip.compress(raw + b"\0"),
        "shorter than its header": gzip.compress(raw[:10]),
        "more than the official 60000": gzip.compress(raw[:4] + b"\xff" * 12),
        "truncated or corrupt": good_images[:-100],
        "truncated": b"not gzip at all",
        "shorter": b"",
        "CRC|corrupt": good_images[:-8] + b"\0\0\0\0" + good_images[-4:],
    }
    for pattern, content in bad.items():
        images_path.write_bytes(content)
        one_line(images_path, pattern, images_path, labels_path)
    images_path.write_bytes(good_images)
    for pattern, content in {
        "labels for 30 images": idx_archive(np.zeros(29, np.uint8)),
        "other than 0 to 9": idx_archive(np.full(30, 10, np.uint8)),
    }.items():
        labels_path.write_bytes(content)
        one_line(labels_path, pattern, images_path, labels_path)


def mat(**variables: object) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables)
    return buffer.getvalue()


def test_svhn_digit_zero_is_stored_as_ten(tmp_path: Path) -> None:
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(svhn_archive(IMAGES, LABELS))
    assert scipy.io.loadmat(path)["y"].max() == 10
    images, labels = archives.read_svhn(path)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "uint16", "int32", "int64", "float32", "float64"])
def test_matlab_arrays_are_what_scipy_reads(tmp_path: Path, kind: str, compressed: bool) -> None:
    path = tmp_path / "file.mat"
    values = {
        "cube": np.arange(24).reshape(2, 3, 4).astype(kind),
        "a_longer_name": np.arange(5).astype(kind),
        "one": np.array([[7]], kind),
    }
    scipy.io.savemat(path, values, do_compression=compressed)
    known = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
    found = matlab.variables(path)
    assert {name: (variable.shape, variable.kind) for name, variable in found.items()} == known
    for name, variable in found.items():
        np.testing.assert_array_equal(variable.load(), scipy.io.loadmat(path)[name])


def test_malformed_mat_files(tmp_path: Path) -> None:
    path = tmp_path / "train_32x32.mat"
    pixels, labels = IMAGES.transpose(2, 3, 1, 0), np.ones((50, 1), np.uint8)
    good = svhn_archive(IMAGES, LABELS)
    for pattern, content in {
        "no variables X and y": mat(X=pixels),
        "X is double": mat(X=pixels.astype(float), y=labels),
        "X is uint8": mat(X=IMAGES, y=labels),
        "y is .* for 50 images": mat(X=pixels, y=labels[:49]),
        "y is cell": mat(X=pixels, y=np.array([["a"]] * 50, dtype=object)),
        "labels other than 1 to 10": mat(X=pixels, y=labels * 11),
        "labels other": mat(X=pixels, y=labels * 0),
        "other than whole numbers": mat(X=pixels, y=labels + 0.5),
        "cannot be parsed": b"",
        "train_32x32": good[: len(good) // 2],
        "cannot be parsed|not the archive": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(1000),
    }.items():
        path.write_bytes(content)
        one_line(path, pattern)


def test_more_images_than_the_official_part_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path, labels = tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "labels.gz"
    header_only = struct.pack(">4I", 0x803, 60_001, 28, 28)
    path.write_bytes(gzip.compress(header_only))
    one_line(path, "60001 entries, more than the official 60000", path, labels)
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 1024, 1024, 1024)))
    one_line(path, r"images of \(1024, 1024\) instead of 28x28", path, labels)
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(svhn_archive(IMAGES, LABELS))
    assert len(archives.read_svhn(path, 50)[1]) == 50
    with pytest.raises(DataError, match="X holds 50 images, more than the official 49"):
        archives.read_svhn(path, 49)


def test_a_matlab_array_stored_wider_than_its_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train_32x32.mat"
    content = bytearray(mat(X=np.arange(32, dtype=np.uint8)))
    place = content.index(struct.pack("<II", 2, 32))  # the tag of the data: bytes, 32 of them
    content[place : place + 4] = struct.pack("<I", 9)  # now doubles
    path.write_bytes(content)
    with pytest.raises(ValueError, match="X is stored wider than uint8"):
        matlab.variables(path)["X"].load()


def test_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        archives.read_cifar10(tmp_path / "none.gz")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_is_one_line_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    name, reader = data.draw(
        st.sampled_from(
            [("cifar10/" + CIFAR10_NAME, archives.read_cifar10), ("svhn/train_32x32.mat", archives.read_svhn)]
        )
    )
    if not (tmp_path / name).exists():
        write_archives(tmp_path, train=20, test=10)
    content = bytearray((tmp_path / name).read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    damage = data.draw(st.binary(min_size=1, max_size=8))
    content[start : start + len(damage)] = damage
    if data.draw(st.booleans()):
        del content[start:]
    damaged = tmp_path / "damaged" / Path(name).name
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(bytes(content))
    message = ""
    try:
        reader(damaged)
    except DataError as error:
        message = str(error)
    assert "\n" not in message
