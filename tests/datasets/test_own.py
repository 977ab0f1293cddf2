"""Arrays of one's own: what does not fit together is named in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from replication.datasets import SPLITS
from replication.datasets.prepare import statistics
from replication.datasets.prepared import PreparedDataset, assemble
from replication.errors import DataError


def own(images=None, labels=None, **changes) -> PreparedDataset:
    random = np.random.default_rng(0)
    all_images = {
        split: random.integers(0, 256, (4, 3, 8, 8), dtype=np.uint8) for split in ("train", "validation", "test")
    }
    all_labels = {split: np.array([0, 1, 0, 1]) for split in all_images}
    settings = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "scale": 255, "classes": ("no", "yes"), "sources": ()}
    return assemble("mine", all_images | (images or {}), all_labels | (labels or {}), **settings | changes)


def test_own_arrays_are_taken():
    data = own()
    assert (data.image_shape, data.num_classes, data.name) == ((3, 8, 8), 2, "mine")
    assert own(labels={"test": np.array([0, 1, 0, 1], dtype=np.uint8)}).labels["test"].dtype == np.int64
    assert own(labels={"test": [0, 1, 0, 1]}).content_hash == data.content_hash


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"images": {"train": np.zeros((4, 3, 8, 8))}}, "train images are float64, must be uint8, 0 to 255"),
        ({"images": {"train": np.zeros((4, 8, 8, 3), np.uint8)}}, r"train images have shape \(4, 8, 8, 3\)"),
        ({"images": {"test": np.zeros((4, 8, 8), np.uint8)}}, r"test images have shape \(4, 8, 8\)"),
        ({"images": {"test": np.zeros((4, 3, 9, 8), np.uint8)}}, r"test images have shape \(4, 3, 9, 8\)"),
        ({"images": {"train": np.zeros((4, 3, 8, 8))}}, r"\(images \* 255\)\.round\(\)\.astype\(np\.uint8\)$"),
        ({"images": {"train": np.ones((4, 3, 8, 8), np.uint8)}}, "train has no pixel above 1 of 255; were they"),
        ({"images": dict.fromkeys(("train", "validation", "test"), np.full((4, 8, 8, 3), 9, np.uint8)),
          "mean": (0.5,) * 8, "std": (0.2,) * 8}, r"seem to have their channels last; np\.moveaxis\(images, 3, 1\)$"),
        ({"labels": {"test": np.array([1, 2, 2, 1])}}, "test has labels 1 to 2, beyond its 2 classes; they count"),
        ({"labels": {"test": np.array([0, 1, 0])}}, r"test has labels \(3,\) for 4 images"),
        ({"labels": {"train": np.array([0.0, 1.0, 0.0, 1.0])}}, "train labels are float64, must be integers"),
        ({"scale": 16}, "train has pixels above 16"),
        ({"scale": 0}, "its scale is impossible, or mean and standard deviation are of different channels$"),
        ({"std": (0.2, 0.2)}, "its scale is impossible, or mean and standard deviation are of different channels$"),
        ({"std": (0.0, 0.2, 0.2)}, r"standard deviation \(0\.0, 0\.2, 0\.2\) are impossible; .* has to be left out$"),
        ({"mean": (127.0, 126.0, 99.0)}, r"mean \(127\.0, 126\.0, 99\.0\) and .* of pixels divided by 255"),
        ({"mean": (float("nan"), 0.5, 0.5)}, r"mean \(nan, 0\.5, 0\.5\) and .* are impossible"),
        ({"mean": (0.5,), "std": (0.2,)}, r"train images have shape .*, must be \(N, 1, height, width\), N at"),
        ({"labels": {"test": [0.5, 1.0, 0.0, 1.0]}}, "test labels are float64, must be integers"),
        ({"classes": ("no",)}, "two at least are needed"),
        ({"labels": {"train": np.array([1, 1, 1, 1])}}, "train has images of one class alone, 1; there is nothing to"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(changes, problem):
    with pytest.raises(DataError, match=f"mine: .*{problem}") as found:
        own(**changes)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "images", [np.zeros((4, 3, 8, 8)), np.zeros((4, 8, 8), np.uint8), np.zeros((0, 3, 8, 8), np.uint8)]
)
def test_statistics_of_what_are_no_images_are_refused(images):
    with pytest.raises(DataError, match=r"images are .*must be uint8 \(N, channels, height, width\)"):
        statistics(images, 255)


def test_tensors_are_as_good_as_arrays():
    images = {split: np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), np.uint8) for split in SPLITS}
    tensors = {split: torch.from_numpy(pixels) for split, pixels in images.items()}
    assert statistics(tensors["train"], 255) == statistics(images["train"], 255)
    assert own(images=tensors).content_hash == own(images=images).content_hash
    with pytest.raises(DataError, match=r"^images are float32 \(4, 3, 8, 8\); must be uint8 \(N, channels, height"):
        statistics(tensors["train"].float(), 255)


def test_all_three_splits_are_needed():
    images, labels = ({split: np.zeros(shape, np.uint8) for split in ("train", "test")} for shape in ((4, 3, 8, 8), 4))
    with pytest.raises(DataError, match="mine: no validation images or labels; train, validation, test are needed"):
        assemble("mine", images, labels, mean=(0.5,), std=(0.2,), scale=255, classes=("no", "yes"), sources=())


@pytest.mark.parametrize("scale", [0, -1, 256])
def test_statistics_by_an_impossible_scale_are_refused(scale: int) -> None:
    with pytest.raises(DataError, match=f"scale is {scale}; it is the largest pixel value there can be, 1 to 255"):
        statistics(np.ones((2, 1, 3, 3), np.uint8), scale)
