"""Official archives into arrays: images uint8 (N, C, H, W) and labels int64 (N,).

Archives come from the network, and unofficial ones have no checksum to vouch for them: nothing is extracted to disk,
nothing read may be larger than such an archive can be, and pickles go through an unpickler that can build only what
CIFAR-10's files hold. Whatever is wrong with an archive ends in one DataError that names it.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, ClassVar

import attrs
import numpy as np
import numpy.typing as npt

from replication.datasets import matlab
from replication.datasets.sources import MNIST, SVHN
from replication.errors import DataError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Split = tuple[Images, Labels]

_MEBIBYTE = 1 << 20
_EXTENDED_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_LONGEST_HEADER = 8192  # bytes of an entry's extended header: names and times need some hundred
_MOST_STEPS = 1_000_000  # of a pickle: a batch of CIFAR-10, 10,000 labels and file names, takes 30,122
_CIFAR10_FOLDER = "cifar-10-batches-py"
_CIFAR10_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


class _Malformed(Exception):
    """What is wrong, without the name of the file."""


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn every failure to parse `path` into one DataError with what to do."""
    advice = "delete it and run prepare again; if that repeats, the place it came from serves a bad copy"
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; run prepare again") from error
    except MemoryError as error:
        # A damaged header can ask for any amount: the size of the file tells which it is.
        raise DataError(
            f"not enough memory to read {path}, which has {path.stat().st_size:,} bytes; free some, or, if that is"
            f" little, {advice}"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise DataError(f"{path} is truncated or corrupt ({_brief(error)}); {advice}") from error
    except _Malformed as error:
        raise DataError(f"{path} is not the archive expected ({error}); {advice}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or _brief(error)}; check the file system") from error
    except Exception as error:  # parsers of hostile bytes fail in every way there is
        raise DataError(f"{path} cannot be parsed ({type(error).__name__}: {_brief(error)}); {advice}") from error


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise _Malformed(problem)


# CIFAR-10 --------------------------------------------------------------------------------------------


def read_cifar10(path: Path) -> dict[str, Split]:
    """`cifar-10-python.tar.gz`: five training batches and a test batch, each a pickled dictionary."""
    batches: dict[str, Split] = {}
    # In stream mode tarfile reads front to back, so every byte comes through the bounded reader: no seek skips it.
    with (
        _reading(path),
        gzip.open(path) as raw,
        tarfile.open(fileobj=_Bounded(raw), mode="r|", tarinfo=_TarEntry) as tar,
    ):
        for count, member in enumerate(tar):
            _require(count < 100, "too many files inside")
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            if folder != _CIFAR10_FOLDER or name not in _CIFAR10_BATCHES:
                continue
            _require(member.isreg(), f"{member.name:.60} is no regular file")
            _require(name not in batches, f"{name} appears twice")
            _require(member.size <= 64 * _MEBIBYTE, f"{name} is too large")
            stream = tar.extractfile(member)
            content = stream.read() if stream else b""
            _require(len(content) == member.size, f"{name} is cut short")
            batches[name] = _cifar10_batch(content, name)
        for name in _CIFAR10_BATCHES:
            _require(name in batches, f"no {_CIFAR10_FOLDER}/{name} inside")
        train = [batches[name] for name in _CIFAR10_BATCHES[:-1]]
        images = np.concatenate([images for images, _ in train])
        return {"train": (images, np.concatenate([labels for _, labels in train])), "test": batches["test_batch"]}
    raise AssertionError  # _reading raises; mypy cannot know


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than CIFAR-10 could hold: the guard against decompression bombs."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        self._stream = stream
        self._left = 512 * _MEBIBYTE

    def read(self, size: int = -1) -> bytes:
        _require(0 <= size <= self._left, "it holds more data than it can")
        data = self._stream.read(size)
        self._left -= len(data)
        return data


class _TarEntry(tarfile.TarInfo):
    """An entry whose header is small: tarfile reads extended headers and maps of holes, of any size, into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _TarEntry:
        entry = super().frombuf(buf, encoding, errors)
        _require(entry.type != tarfile.GNUTYPE_SPARSE, "a file with holes inside")
        extended = entry.type in _EXTENDED_HEADERS
        _require(not extended or entry.size <= _LONGEST_HEADER, f"an extended header of {entry.size} bytes")
        return entry

    def _proc_gnusparse_10(self, *_arguments: object) -> None:
        raise _Malformed("a file with holes inside")


def _cifar10_batch(content: bytes, name: str) -> Split:
    batch = _load_pickle(content)
    _require(isinstance(batch, dict), f"{name} is no dictionary")
    # Python 2 wrote the official files, so their strings arrive as bytes.
    fields = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    array: Any = fields.get("data")
    labels: Any = fields.get("labels")
    _require(isinstance(array, _PickledArray) and isinstance(labels, list), f"{name} lacks its data or labels")
    _require(all(type(label) is int and 0 <= label < 10 for label in labels), f"{name} has labels other than 0 to 9")
    images = array.to_numpy(name)
    _require(images.shape == (len(labels), 3072), f"{name} has {len(labels)} labels for data {images.shape}")
    return images.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)


# A pickle can call anything it can name. These stand-ins are all that CIFAR-10's may name; they hold what they are
# given, and to_numpy checks it before numpy sees it.


@attrs.define(eq=False)
class _PickledDtype:
    code: Any = None

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment: without meaning for single bytes."""


@attrs.define(eq=False)
class _PickledArray:
    state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def to_numpy(self, name: str) -> Images:
        _require(isinstance(self.state, tuple) and len(self.state) == 5, f"{name} has malformed data")
        _, shape, dtype, fortran_order, data = self.state
        uint8 = isinstance(dtype, _PickledDtype) and dtype.code in ("u1", b"u1", "|u1", b"|u1")
        _require(uint8 and isinstance(data, bytes), f"{name} has data other than unsigned bytes")
        plain = isinstance(shape, tuple) and len(shape) == 2 and all(type(n) is int and 0 <= n < 2**31 for n in shape)
        _require(plain and shape[0] * shape[1] == len(data), f"{name} has data of the wrong size")
        order = "F" if fortran_order else "C"
        return np.frombuffer(data, dtype=np.uint8).reshape(shape, order=order)  # type: ignore[call-overload]


def _pickled_dtype(code: Any, *_flags: object) -> _PickledDtype:
    return _PickledDtype(code)


def _pickled_array(*_arguments: object) -> _PickledArray:
    return _PickledArray()


class _NdarrayName:
    """What the name numpy.ndarray stands for in a pickle: an argument, never called."""


def _with_string_keys(opcode: bytes, keys: slice) -> Callable[[Any], None]:
    """The unpickler's own way with an opcode that fills a dictionary, once the keys on its stack are strings."""
    fill: Callable[[Any], None] = pickle._Unpickler.dispatch[opcode[0]]

    def checked(unpickler: Any) -> None:
        strings = all(type(key) in (str, bytes) for key in unpickler.stack[keys])
        _require(strings, "its pickle has a dictionary key that is no string")
        fill(unpickler)

    return checked


def _refuse_set(_unpickler: Any) -> None:
    raise _Malformed("its pickle holds a set, which no CIFAR-10 file needs")


class _Counted(dict[int, Callable[[Any], None]]):
    """What each opcode does; so many may be looked up: a pickle can be of one byte each, and take hours."""

    def __init__(self, opcodes: dict[int, Callable[[Any], None]], left: int) -> None:
        super().__init__(opcodes)
        self._left = left

    def __getitem__(self, opcode: int) -> Callable[[Any], None]:
        self._left -= 1
        _require(self._left >= 0, f"its pickle takes more than {_MOST_STEPS:,} steps")
        return super().__getitem__(opcode)


class _RestrictedUnpickler(pickle._Unpickler):
    """Builds plain containers, numbers, strings and unsigned byte arrays; refuses every other name.

    The unpickler written in Python, because C's allocates whatever memo index a pickle asks for. Keys of dictionaries
    must be strings, and there are no sets: C hashes tuples within tuples by recursion, so deep ones would end the
    process.
    """

    _OPCODES: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.SETITEM[0]: _with_string_keys(pickle.SETITEM, slice(-2, -1)),
        pickle.SETITEMS[0]: _with_string_keys(pickle.SETITEMS, slice(None, None, 2)),  # what follows the mark:
        pickle.DICT[0]: _with_string_keys(pickle.DICT, slice(None, None, 2)),  # key, value, key, value
        **{opcode[0]: _refuse_set for opcode in (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET)},
    }

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.dispatch = _Counted(self._OPCODES, _MOST_STEPS)  # type: ignore[misc]
        self._encodable = 2 * len(content) + 1024
        self._names = {
            **{(f"numpy.{core}.multiarray", "_reconstruct"): _pickled_array for core in ("core", "_core")},
            ("numpy", "ndarray"): _NdarrayName,
            ("numpy", "dtype"): _pickled_dtype,
            ("_codecs", "encode"): self._encode,  # how Python 3 writes bytes in protocol 2
        }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            raise _Malformed(f"its pickle asks for {module}.{name}, which no CIFAR-10 file needs"[:160]) from None

    def _encode(self, text: object, encoding: object = "latin1") -> bytes:
        _require(isinstance(text, str) and encoding in ("latin1", b"latin1"), "its pickle has malformed bytes")
        assert isinstance(text, str)
        self._encodable -= len(text)  # a pickle may refer to one string many times
        _require(self._encodable >= 0, "its pickle expands to more data than it holds")
        return text.encode("latin-1")


def _load_pickle(content: bytes) -> Any:
    return _RestrictedUnpickler(content).load()


# MNIST -----------------------------------------------------------------------------------------------


def read_mnist(images_path: Path, labels_path: Path, most: int = MNIST.parts["train"].size) -> Split:
    """A pair of idx files: big-endian magic number 0x080D (unsigned bytes, D dimensions), D sizes, the bytes.

    Files of more than `most` images are refused before they are read.
    """
    with _reading(images_path):
        images = _read_idx(images_path, most, (28, 28))
    with _reading(labels_path):
        labels = _read_idx(labels_path, most, ())
        _require(len(labels) == len(images), f"{len(labels)} labels for {len(images)} images in {images_path.name}")
        _check_labels(labels)
    return images[:, None], labels.astype(np.int64)


def _read_idx(path: Path, most: int, image_shape: tuple[int, ...]) -> Images:
    dimensions = 1 + len(image_shape)
    with gzip.open(path) as stream:
        header = stream.read(4 + 4 * dimensions)
        _require(len(header) == 4 + 4 * dimensions, "shorter than its header")
        magic, *shape = (int(value) for value in np.frombuffer(header, ">u4"))
        _require(magic == 0x0800 + dimensions, f"idx magic number {magic:#x} instead of {0x0800 + dimensions:#x}")
        _require(shape[0] <= most, f"{shape[0]} entries, more than the official {most}")
        _require(tuple(shape[1:]) == image_shape, f"images of {tuple(shape[1:])} instead of 28x28 pixels")
        size = math.prod(shape)
        data = stream.read(size)
        _require(len(data) == size, f"{len(data)} bytes of data where its header says {size}")
        _require(stream.read(1) == b"", "data beyond what its header says")  # reading to the end also checks gzip's CRC
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


# SVHN ------------------------------------------------------------------------------------------------


def read_svhn(path: Path, most: int = SVHN.parts["extra"].size) -> Split:
    """A MATLAB file (level 5) with X, uint8 (32, 32, 3, N), and y, (N, 1), where 10 stands for the digit 0.

    Files of more than `most` images are refused before they are read.
    The images returned are a view of the file's (H, W, C, N) array: the caller copies them where it needs them.
    """
    with _reading(path):
        variables = matlab.variables(path)
        _require({"X", "y"} <= set(variables), "no variables X and y inside")
        pixels, classes = variables["X"], variables["y"]
        shape, label_shape, label_kind = pixels.shape, classes.shape, classes.kind
        _require(pixels.kind == "uint8" and shape[:3] == (32, 32, 3) and len(shape) == 4, f"X is {pixels.kind} {shape}")
        count = shape[3]
        _require(count > 0, "X holds no images")
        _require(count <= most, f"X holds {count} images, more than the official {most}")
        _require(label_kind in ("uint8", "int32", "int64", "double"), f"y is {label_kind}")
        _require(sorted(label_shape) == sorted((count, 1)), f"y is {label_shape} for {count} images")
        images, raw = pixels.load(), classes.load().reshape(-1)
        _require(images.dtype == np.uint8, f"X is stored as {images.dtype}")
        _require(bool(np.isfinite(raw).all()), "y holds other than whole numbers")
        labels = raw.astype(np.int64)
        _require(len(labels) == count and np.array_equal(labels, raw), "y holds other than whole numbers")
        _require(int(labels.min()) >= 1 and int(labels.max()) <= 10, "labels other than 1 to 10")
        labels[labels == 10] = 0
        return images.transpose(3, 2, 0, 1), labels
    raise AssertionError  # _reading raises; mypy cannot know


def _check_labels(labels: npt.NDArray[Any]) -> None:
    _require(len(labels) > 0, "no labels inside")
    _require(int(labels.min()) >= 0 and int(labels.max()) <= 9, "labels other than 0 to 9")
