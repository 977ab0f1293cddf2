"""Small archives in the official formats, and a loopback server for them.

    write_archives(folder)                 # folder/cifar10/cifar-10-python.tar.gz, folder/mnist/*.gz, folder/svhn/*.mat
    with serve(folder) as address: ...     # REPLICATION_DATA_MIRROR=address (or =folder)

The images are random but learnable (a pattern per class under noise), the checksums of course not the official ones:
read them with data.allow_unofficial true.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import re
import struct
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io

CIFAR10_NAME = "cifar-10-python.tar.gz"
CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MNIST_NAMES = {"train": "train", "test": "t10k"}


def write_archives(folder: Path, *, train: int = 200, test: int = 100, seed: int = 0) -> None:
    """Write archives of `train` and `test` images (SVHN's extra part has `train` more); at least 20 and 10."""
    if train < 20 or test < 10:
        raise ValueError("every class needs two training images and a test image")
    generator = np.random.default_rng(seed)
    for name in ("cifar10", "mnist", "svhn"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images, labels = make_images(train, (3, 32, 32), generator)
    test_images, test_labels = make_images(test, (3, 32, 32), generator)
    (folder / "cifar10" / CIFAR10_NAME).write_bytes(cifar10_archive(images, labels, test_images, test_labels))
    for part, count in (("train", train), ("test", test)):
        images, labels = make_images(count, (1, 28, 28), generator)
        prefix = folder / "mnist" / MNIST_NAMES[part]
        prefix.with_name(f"{prefix.name}-images-idx3-ubyte.gz").write_bytes(idx_archive(images[:, 0]))
        prefix.with_name(f"{prefix.name}-labels-idx1-ubyte.gz").write_bytes(idx_archive(labels.astype(np.uint8)))
    for part, count in (("train", train), ("extra", train), ("test", test)):
        images, labels = make_images(count, (3, 32, 32), generator)
        (folder / "svhn" / f"{part}_32x32.mat").write_bytes(svhn_archive(images, labels))


def make_images(
    count: int, shape: tuple[int, int, int], generator: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """`count` images (count, C, H, W) of ten classes as even in number as can be, in random order."""
    labels = generator.permutation(np.arange(count) % 10)
    patterns = np.random.default_rng(1).integers(0, 256, (10, *shape))  # the same for every part
    noise = generator.integers(0, 256, (count, *shape))
    return ((patterns[labels] + noise) // 2).astype(np.uint8), labels


def cifar10_archive(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    test_images: npt.NDArray[np.uint8],
    test_labels: npt.NDArray[np.int64],
) -> bytes:
    """The bytes of a cifar-10-python.tar.gz whose pickles are written as Python 2 wrote the official ones."""
    batches = [(f"data_batch_{n + 1}", part) for n, part in enumerate(np.array_split(np.arange(len(labels)), 5))]
    members = {"batches.meta": python2_pickle({b"label_names": [name.encode() for name in CIFAR10_CLASSES]})}
    for name, part in batches:
        members[name] = cifar10_batch(name, images[part], labels[part])
    members["test_batch"] = cifar10_batch("test_batch", test_images, test_labels)
    members["readme.html"] = b"<html></html>"
    return tar_archive({f"cifar-10-batches-py/{name}": content for name, content in members.items()})


def cifar10_batch(name: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> bytes:
    """One pickled batch, in Python 2's manner."""
    batch = {
        b"batch_label": name.encode(),
        b"labels": [int(label) for label in labels],
        b"data": images.reshape(len(images), -1),
        b"filenames": [f"image_{number}.png".encode() for number in range(len(images))],
    }
    return python2_pickle(batch)


def tar_archive(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """A .tar.gz of files (bytes) and of ready-made entries without content (TarInfo); equal input, equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), compresslevel=1, mtime=0)


def python2_pickle(value: Any) -> bytes:
    """Protocol 2 as Python 2 wrote it: strings are bytes, under opcodes that Python 3 never writes."""
    return b"\x80\x02" + _pickled(value) + b"."


def _pickled(value: Any) -> bytes:
    if isinstance(value, bytes):
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_pickled, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_pickled(key) + _pickled(item) for key, item in value.items()) + b"u"
    if isinstance(value, np.ndarray):
        dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        shape = b"(" + b"".join(_pickled(size) for size in value.shape) + b"t"
        empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        return empty + b"(K\x01" + shape + dtype + b"\x89" + _pickled(value.tobytes()) + b"tb"
    raise TypeError(type(value))


def idx_archive(array: npt.NDArray[np.uint8]) -> bytes:
    """A gzipped idx file of unsigned bytes."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), compresslevel=1, mtime=0)


def svhn_archive(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> bytes:
    """A MATLAB file with X (32, 32, 3, N) and y (N, 1), where 10 stands for the digit 0."""
    buffer = io.BytesIO()
    y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    scipy.io.savemat(buffer, {"X": images.transpose(2, 3, 1, 0), "y": y}, do_compression=True)
    # The header's text holds the time of writing; equal input shall give equal bytes.
    return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]


class RangeHandler(BaseHTTPRequestHandler):
    """Files of `server.folder` with ETag, Range and If-Range, as the real servers do; subclasses misbehave."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer one request."""
        self.server.requests.append((self.path, dict(self.headers)))
        self.answer()

    def answer(self) -> None:
        """Serve the file asked for, from the start or from where Range says."""
        path = self.server.folder / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        etag = self.etag(content)
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and self.headers.get("If-Range", etag) == etag:
            start = int(match[1])
            if start >= len(content):
                self.respond(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.respond(206, content[start:], {"Content-Range": span, "ETag": etag})
        else:
            self.respond(200, content, {"ETag": etag})

    @staticmethod
    def etag(content: bytes) -> str:
        """A strong validator."""
        return f'"{hashlib.sha256(content).hexdigest()[:16]}"'

    def respond(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        """Send a complete answer, or, with a `length` beyond that of the body, one that breaks off."""
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        if length is not None:
            self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """A loopback server that remembers the requests it got as (path, headers)."""

    daemon_threads = True

    def __init__(self, folder: Path, handler: type[RangeHandler] = RangeHandler) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.folder = folder
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def address(self) -> str:
        """http://127.0.0.1:PORT."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_arguments: object) -> None:
        """A client that hangs up is part of the tests."""


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run a server in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve `folder` over loopback HTTP; yields the base address."""
    with running(Server(folder)) as server:
        yield server.address
