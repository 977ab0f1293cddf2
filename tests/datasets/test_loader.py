"""Batches on the device: sampling, normalisation, crop and flip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from replication.datasets.loader import (
    DeviceSplit,
    _gather,
    random_crop_flip,
    sample_by_weight,
    sample_with_replacement,
)

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def generator(seed: int = 0, device: str = "cpu") -> torch.Generator:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.Generator(device).manual_seed(seed)


def windows(image: Tensor, padding: int) -> dict[tuple[int, int, bool], Tensor]:
    """Slow reference: every crop of a padded image (C, H, W), by slicing, keyed by offsets and flip."""
    channels, height, width = image.shape
    padded = torch.zeros(channels, height + 2 * padding, width + 2 * padding)
    padded[:, padding : padding + height, padding : padding + width] = image
    crops = {}
    for row in range(2 * padding + 1):
        for column in range(2 * padding + 1):
            crop = padded[:, row : row + height, column : column + width]
            crops[row, column, False] = crop
            crops[row, column, True] = crop.flip(2)
    return crops


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_every_crop_is_a_window_and_every_window_occurs(padding: int, flip: bool) -> None:
    image = torch.arange(1.0, 61).view(2, 5, 6)
    results = random_crop_flip(image.expand(4000, 2, 5, 6), padding, flip, generator())
    counts = dict.fromkeys((key for key in windows(image, padding) if flip or not key[2]), 0)
    for key in counts:
        counts[key] = int((results == windows(image, padding)[key]).flatten(1).all(1).sum())
    assert sum(counts.values()) == len(results)  # nothing but windows
    expected = len(results) / len(counts)
    assert all(abs(count - expected) < 6 * expected**0.5 + 1 for count in counts.values())  # uniform


@settings(max_examples=50)
@given(
    size=st.integers(1, 5),
    channels=st.integers(1, 3),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    padding=st.integers(0, 8),
    flip=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_each_image_is_one_of_its_own_windows(
    size: int, channels: int, height: int, width: int, padding: int, flip: bool, seed: int
) -> None:
    images = torch.arange(1.0, size * channels * height * width + 1).view(size, channels, height, width)
    results = random_crop_flip(images, padding, flip, generator(seed))
    assert results.shape == images.shape
    for image, result in zip(images, results, strict=True):
        crops = windows(image, padding)
        assert any(torch.equal(result, crop) for (_, _, mirrored), crop in crops.items() if flip or not mirrored)


def test_gather_against_loops() -> None:
    padded = torch.randn(3, 2, 9, 8)
    rows, columns = torch.randint(9, (3, 4)), torch.randint(8, (3, 5))
    expected = torch.stack([padded[b][:, rows[b]][:, :, columns[b]] for b in range(3)])
    assert torch.equal(_gather(padded, rows, columns), expected)


def test_nothing_to_do_returns_the_images() -> None:
    images = torch.randn(2, 3, 4, 4)
    assert random_crop_flip(images, 0, False, generator()) is images


def test_same_seed_same_crops() -> None:
    images = torch.randn(20, 3, 8, 8)
    assert torch.equal(random_crop_flip(images, 3, True, generator(5)), random_crop_flip(images, 3, True, generator(5)))
    changed = random_crop_flip(images, 3, True, generator(6))
    assert not torch.equal(random_crop_flip(images, 3, True, generator(5)), changed)


def test_sampling_is_uniform_with_replacement() -> None:
    indices = sample_with_replacement(10, 20_000, generator())
    assert indices.dtype == torch.int64
    counts = torch.bincount(indices, minlength=10)
    assert len(counts) == 10
    assert (counts - 2000).abs().max() < 6 * 2000**0.5
    assert len(sample_with_replacement(100, 100, generator()).unique()) < 100


@pytest.mark.parametrize("device", DEVICES)
def test_sampling_by_weight_goes_by_the_weights_and_never_takes_what_has_none(device: str) -> None:
    random = generator(device=device)
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0], dtype=torch.float64, device=device)
    indices = sample_by_weight(weights.cumsum(0), 40_000, random)
    assert indices.dtype == torch.int64 and indices.device.type == device
    counts = torch.bincount(indices, minlength=5).tolist()
    assert counts[0] == counts[2] == counts[4] == 0
    assert abs(counts[3] - 30_000) < 6 * (40_000 * 0.75 * 0.25) ** 0.5


@pytest.mark.parametrize("device", DEVICES)
def test_normalised_training_part(device: str) -> None:
    random = generator(device=device)
    images = np.random.default_rng(0).integers(0, 17, (300, 2, 8, 8)).astype(np.uint8)
    labels = np.arange(300) % 10
    mean, std = (images / 16).mean((0, 2, 3)), (images / 16).std((0, 2, 3))
    split = DeviceSplit.from_arrays(images, labels, tuple(mean), tuple(std), 16, device)
    assert len(split) == 300
    normalised = split.normalise(split.images)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised.mean((0, 2, 3)).cpu(), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3), unbiased=False).cpu(), torch.ones(2), atol=1e-5, rtol=0)
    indices = sample_with_replacement(len(split), 7, random)
    assert random_crop_flip(normalised[indices], 1, True, random).device.type == device


@pytest.mark.gpu
def test_batches_do_not_wait_for_the_device() -> None:
    random = generator(device="cuda")
    images = torch.randint(0, 256, (1000, 3, 32, 32), dtype=torch.uint8, device="cuda")
    labels = torch.zeros(1000, dtype=torch.int64, device="cuda")
    ones = torch.ones(1, 3, 1, 1, device="cuda")
    split = DeviceSplit(images, labels, ones, ones)
    torch.cuda.set_sync_debug_mode("error")
    try:
        index = sample_with_replacement(len(split), 100, random)
        random_crop_flip(split.normalise(split.images[index]), 3, True, random)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_crop_on_the_device_is_a_window() -> None:
    image = torch.arange(1.0, 61, device="cuda" if torch.cuda.is_available() else "cpu").view(2, 5, 6)
    random = generator(device="cuda")
    crops = list(windows(image.cpu(), 2).values())
    for result in random_crop_flip(image.expand(50, 2, 5, 6), 2, True, random).cpu():
        assert any(torch.equal(result, crop) for crop in crops)
