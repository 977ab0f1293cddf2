"""MATLAB's level 5 files, as much of them as SVHN needs: numeric arrays, compressed or not.

SciPy's reader is compiled and trusts what a file says of itself: among some thousand damaged files one ended the whole
process with a segmentation fault. This one checks every length before it follows it, and allocates no more than what
the file can fill. The format: MathWorks, "MAT-File Format", level 5.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO, Any

import attrs
import numpy as np
import numpy.typing as npt

_HEADER, _COMPRESSED, _MATRIX = 128, 15, 14
_CLASSES = {
    1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "double", 7: "single", 8: "int8", 9: "uint8",
    10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64", 15: "uint64",
}  # fmt: skip
# How numbers are stored, which may be narrower than their class: whole doubles lie there as bytes.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_COMPLEX = 0x0800
_CHUNK = 1 << 20
_MOST_VARIABLES, _MOST_DIMENSIONS, _LONGEST_NAME = 100, 8, 64
_DEFLATE = 1032  # bytes that deflate can make of one


@attrs.frozen
class Variable:
    """One variable of a file, not read yet."""

    name: str
    kind: str  # MATLAB's class
    shape: tuple[int, ...]
    path: Path
    order: str  # of the bytes, as numpy has it
    start: int  # of what follows the element's tag
    length: int  # in the file
    compressed: bool

    def load(self) -> npt.NDArray[Any]:
        """The numbers, in MATLAB's column order and in the type that they are stored in.

        Raises:
            ValueError: the file contradicts itself. zlib.error: it is damaged.
        """
        with self.path.open("rb") as file:
            file.seek(self.start)
            window = _Window(file, self.length, self.order, compressed=self.compressed)
            _matrix_header(window, inside=self.compressed)
            kind, size, small = window.tag()
            if kind not in _STORED:
                raise ValueError(f"{self.name} is stored as type {kind}, not as numbers")
            dtype = np.dtype(self.order + _STORED[kind])
            if dtype.itemsize > np.dtype(self.kind).itemsize:
                raise ValueError(f"{self.name} is stored wider than {self.kind}")
            wanted = dtype.itemsize
            for length in self.shape:
                wanted *= length
            if size != wanted:
                raise ValueError(f"{self.name} has {size} bytes of data for shape {self.shape}")
            if small is None and size > self.length * (_DEFLATE if self.compressed else 1):
                raise ValueError(f"{self.name} claims {size} bytes, more than the file can hold")
            data = np.frombuffer(small, np.uint8) if small is not None else window.fill(size)
            window.finish()
        return data.view(dtype).reshape(self.shape, order="F")


def variables(path: Path) -> dict[str, Variable]:
    """The variables of a file by name; of compressed ones, only the beginning is unpacked.

    Raises:
        ValueError: it is no level 5 file or contradicts itself. zlib.error: it is damaged.
    """
    found: dict[str, Variable] = {}
    end = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER)
        order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
        if order is None or header[124:126] != struct.pack(f"{order}H", 0x0100):
            raise ValueError("no MATLAB file of level 5")
        position = _HEADER
        while position < end:
            file.seek(position)
            tag = file.read(8)
            if len(tag) < 8 or len(found) >= _MOST_VARIABLES:
                raise ValueError("cut short" if len(tag) < 8 else "too many variables")
            kind, length = struct.unpack(f"{order}II", tag)
            start, position = position + 8, position + 8 + length
            if position > end or kind not in (_COMPRESSED, _MATRIX):
                raise ValueError("cut short" if position > end else f"unknown element {kind}")
            window = _Window(file, length, order, compressed=kind == _COMPRESSED)
            name, named, shape = _matrix_header(window, inside=kind == _COMPRESSED)
            if name in found:
                raise ValueError(f"two variables {name}")
            found[name] = Variable(name, named, shape, path, order, start, length, kind == _COMPRESSED)
    return found


class _Window:
    """The bytes of one element, unpacked if need be; never more than there are."""

    def __init__(self, file: IO[bytes], length: int, order: str, *, compressed: bool) -> None:
        self._file, self._left, self.order = file, length, order
        self._inflate = zlib.decompressobj() if compressed else None
        self._packed = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, b"" at the end."""
        if self._inflate is None:
            return self._take(size)
        while True:
            self._packed = self._packed or self._take(_CHUNK)
            ended = not self._packed
            data = self._inflate.decompress(self._packed, size)
            self._packed = self._inflate.unconsumed_tail
            if data or ended or self._inflate.eof:
                return data

    def exactly(self, size: int) -> bytes:
        """`size` bytes; ValueError where there are fewer."""
        data = b""
        while len(data) < size:
            more = self.read(size - len(data))
            if not more:
                raise ValueError("cut short")
            data += more
        return data

    def fill(self, size: int) -> npt.NDArray[np.uint8]:
        """`size` bytes as an array; memory that no byte arrives for is never touched."""
        array, done = np.empty(size, np.uint8), 0
        while done < size:
            more = self.read(min(_CHUNK, size - done))
            if not more:
                raise ValueError("cut short")
            array[done : done + len(more)] = np.frombuffer(more, np.uint8)
            done += len(more)
        return array

    def tag(self) -> tuple[int, int, bytes | None]:
        """Type and number of bytes of the next element, and its data where they are inside the tag."""
        (first,) = struct.unpack(f"{self.order}I", self.exactly(4))
        if first >> 16 == 0:
            return first, struct.unpack(f"{self.order}I", self.exactly(4))[0], None
        size = first >> 16
        if size > 4:
            raise ValueError("malformed tag")
        return first & 0xFFFF, size, self.exactly(4)[:size]

    def element(self, most: int) -> tuple[int, bytes]:
        """Type and data of the next element, of `most` bytes at most."""
        kind, size, small = self.tag()
        if size > most:
            raise ValueError("malformed variable")
        return (kind, small) if small is not None else (kind, self.exactly(size + -size % 8)[:size])

    def finish(self) -> None:
        """After the data there may be padding; behind it, packed ones have a checksum, which this checks."""
        if self._inflate is None:
            return
        for _ in range(8):
            if not self.read(_HEADER):
                break
        if not self._inflate.eof:
            raise ValueError("malformed end of a variable")

    def _take(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


def _matrix_header(window: _Window, *, inside: bool) -> tuple[str, str, tuple[int, ...]]:
    """Name, class and shape; a packed element has the matrix's own tag `inside`."""
    if inside and window.tag()[0] != _MATRIX:
        raise ValueError("no array inside a packed element")
    flags, sizes, name = window.element(8), window.element(4 * _MOST_DIMENSIONS), window.element(_LONGEST_NAME)
    if (flags[0], len(flags[1])) != (6, 8) or sizes[0] != 5 or len(sizes[1]) % 4 or len(sizes[1]) < 8 or name[0] != 1:
        raise ValueError("malformed variable")
    (bits,) = struct.unpack_from(f"{window.order}I", flags[1])
    shape = tuple(int(size) for size in np.frombuffer(sizes[1], f"{window.order}i4"))
    if min(shape) < 0:
        raise ValueError("malformed variable")
    kind = "complex" if bits & _COMPLEX else _CLASSES.get(bits & 0xFF, "unknown")
    return name[1].decode("latin-1"), kind, shape
