"""Room for the outputs of the frozen prefix, one row per example: on the device, in host memory, or in a mapped file.

A CIFAR-10 block of the first stage takes 2.7 GiB, one of SVHN with extra 33.2 GiB (543,949 x 16 x 32 x 32 float32).
Where nothing is large enough there is no store, and the caller computes the rows from the images each time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from replication.config import RuntimeParams
from replication.files import readable_os_errors

_GIB = 2**30
_DTYPES = {"float32": torch.float32, "float16": torch.float16}
# Left free on the disk, so that a mapped file never takes the room of checkpoints and results.
_DISK_RESERVE = 2 * _GIB


class RowStore:
    """Rows of equal shape, written once in order and read in any; feature maps lie channels last, as they are used.

    Attributes:
        place: "device", "host" or "disk".
        nbytes: what the rows take.
    """

    def __init__(self, rows: Tensor, channels_last: bool, device: torch.device, place: str) -> None:
        self._rows, self._channels_last = rows, channels_last
        self._device, self.place = device, place
        self.nbytes = rows.numel() * rows.element_size()

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Rows as float32 on the training device, (B, ...)."""
        if isinstance(index, slice):
            rows = self._rows[index]
        else:
            rows = self._rows.index_select(0, index.to(self._rows.device))
        rows = rows.to(self._device, torch.float32, non_blocking=True)
        return rows.permute(0, 3, 1, 2) if self._channels_last else rows

    def __setitem__(self, index: slice, values: Tensor) -> None:
        self._rows[index] = values.permute(0, 2, 3, 1) if self._channels_last else values

    def fits(self, count: int, example: Tensor) -> bool:
        """Whether `count` rows like `example` (...) would take exactly the room that there is."""
        return self._rows.shape == (count, *_row_shape(example, self._channels_last))


def make_store(count: int, example: Tensor, runtime: RuntimeParams, scratch: Path) -> RowStore | None:
    """Room for `count` rows like `example` (...), in the first place that has enough; None where there is none.

    Args:
        count: N.
        example: one row, on the training device: (C, H, W) or (features,).
        runtime: the limits, per split, and the precision of what is stored.
        scratch: folder for a mapped file, which has no name any more as soon as it is open.
    """
    device, dtype = example.device, _DTYPES[runtime.feature_precision]
    channels_last = runtime.fast and example.dim() == 3
    shape = (count, *_row_shape(example, channels_last))
    size = count * example.numel() * dtype.itemsize
    if size <= runtime.memory_limit_gib * _GIB:
        return RowStore(torch.empty(shape, dtype=dtype, device=device), channels_last, device, "device")
    if device.type != "cpu" and size <= runtime.host_limit_gib * _GIB:
        # Not pinned: PyTorch would take up to twice the room for that, and never give it back.
        return RowStore(torch.empty(shape, dtype=dtype), channels_last, device, "host")
    if size <= runtime.disk_limit_gib * _GIB:
        rows = _mapped_rows(shape, dtype, size, scratch)
        if rows is not None:
            return RowStore(rows, channels_last, device, "disk")
    return None


def _row_shape(example: Tensor, channels_last: bool) -> tuple[int, ...]:
    return (*example.shape[1:], example.shape[0]) if channels_last else tuple(example.shape)


def _take_room(handle: int, size: int) -> None:
    """Now: a disk that fills up later would end the process with SIGBUS instead of an error."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
        return
    zeros = bytes(2**20)  # macOS has no such call
    for start in range(0, size, len(zeros)):
        os.pwrite(handle, zeros[: size - start], start)


def _mapped_rows(shape: tuple[int, ...], dtype: torch.dtype, size: int, scratch: Path) -> Tensor | None:
    """A tensor over a file of its own; None where the disk is too full for it."""
    with readable_os_errors(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(scratch).free < size + _DISK_RESERVE:
        return None
    handle, name = tempfile.mkstemp(prefix="features.", dir=scratch)
    try:
        _take_room(handle, size)
        return torch.from_file(name, shared=True, size=size // dtype.itemsize, dtype=dtype).view(shape)
    except OSError:
        return None
    finally:
        os.close(handle)
        # The mapping keeps the file alive; without a name it cannot be left behind, not even by a kill.
        Path(name).unlink(missing_ok=True)
