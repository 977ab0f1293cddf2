"""Batches made on the training device: the images stay there as uint8, and no worker process is involved.

A CIFAR-10 training part takes 138 MB, SVHN with extra 1.7 GB. Everything here is batched tensor operations without a
Python loop over images and without waiting for the device; with the generator on the same device nothing is copied
either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from replication.datasets.prepared import PreparedDataset


@attrs.frozen(eq=False)
class DeviceSplit:
    """One split of a data set on a device."""

    images: Tensor  # uint8 (N, C, H, W)
    labels: Tensor  # int64 (N,)
    mean: Tensor  # float32 (1, C, 1, 1), in units of a pixel value
    std: Tensor  # float32 (1, C, 1, 1), in units of a pixel value

    def __len__(self) -> int:
        return len(self.labels)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) to float32 with the training part's mean 0 and standard deviation 1 per channel."""
        return (images - self.mean) / self.std

    @classmethod
    def from_arrays(
        cls,
        images: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        mean: Sequence[float],
        std: Sequence[float],
        scale: int,
        device: torch.device | str = "cpu",
    ) -> DeviceSplit:
        """Copy uint8 images (N, C, H, W) and integer labels (N,) to `device`; mean and std of pixels / scale."""

        def per_channel(values: Sequence[float]) -> Tensor:
            # Scaled in float64 and rounded once, so that every device divides by the same number.
            return (torch.tensor(values, dtype=torch.float64) * scale).float().view(1, -1, 1, 1).to(device)

        return cls(
            images=torch.tensor(images, dtype=torch.uint8, device=device),
            labels=torch.tensor(labels, dtype=torch.int64, device=device),
            mean=per_channel(mean),
            std=per_channel(std),
        )


def to_device_split(dataset: PreparedDataset, split: str, device: torch.device | str) -> DeviceSplit:
    """The split "train", "validation" or "test" of `dataset` on `device`."""
    return DeviceSplit.from_arrays(
        dataset.images[split], dataset.labels[split], dataset.mean, dataset.std, dataset.scale, device
    )


def sample_with_replacement(size: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """Indices int64 (batch_size,), uniform on 0..size-1, each drawn anew [authors' code], on the generator's device."""
    return torch.randint(size, (batch_size,), generator=generator, device=generator.device)


def sample_by_weight(cumulative: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Indices int64 (batch_size,), each drawn anew in proportion to its weight, on the generator's device.

    Args:
        cumulative: sums of the weights up to each one, (N,), float64, on the generator's device; the last is positive.
    """
    drawn = torch.rand(batch_size, generator=generator, dtype=torch.float64, device=generator.device)
    index = torch.searchsorted(cumulative, drawn * cumulative[-1], right=True)
    return index.clamp(max=len(cumulative) - 1)


def random_crop_flip(images: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Crop each image at random from its zero-padded self, and mirror it with probability 1/2 if `flip`.

    Offsets are uniform on 0..2*padding in both directions, every one of them reachable. (The authors' code pads to 38
    pixels for a crop of 32 but draws offsets 0..3 only: a deviation that is documented, not copied.)

    Args:
        images: (B, C, H, W), normalised, so that zero is the mean of the training part.
        padding: pixels on every side; 0 for no crop.
        flip: whether to mirror left and right.
        generator: source of offsets and flips, on any device.

    Returns:
        A tensor of the shape and type of `images`; `images` itself when there is nothing to do.
    """
    if padding == 0 and not flip:
        return images
    size, _, height, width = images.shape
    offsets = torch.randint(2 * padding + 1, (2, size, 1), generator=generator, device=generator.device)
    mirrored = torch.randint(2, (size, 1), generator=generator, device=generator.device, dtype=torch.uint8) > 0
    offsets = offsets.to(images.device, non_blocking=True)
    mirrored = mirrored.to(images.device, non_blocking=True)
    rows = offsets[0] + torch.arange(height, device=images.device)  # (B, H): which padded row each row comes from
    columns = torch.arange(width, device=images.device).expand(size, width)
    if flip:
        columns = torch.where(mirrored, columns.flip(1), columns)
    columns = offsets[1] + columns  # (B, W)
    padded = functional.pad(images, (padding,) * 4)
    return _gather(padded, rows, columns)


def _gather(padded: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """out[b, c, i, j] = padded[b, c, rows[b, i], columns[b, j]]."""
    size, channels, _, padded_width = padded.shape
    height, width = rows.shape[1], columns.shape[1]
    flat = rows[:, :, None] * padded_width + columns[:, None, :]  # (B, H, W)
    index = flat.view(size, 1, height * width).expand(size, channels, height * width)
    return padded.flatten(2).gather(2, index).view(size, channels, height, width)
