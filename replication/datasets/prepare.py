"""From archives to one prepared file: fetch, parse, check, split, measure, write.

The result is a function of the archives and of two parameters, validation_fraction and split_seed, alone: splits come
from the bit stream of PCG64, which numpy promises never to change (it does not promise that of
Generator.permutation), and the statistics from exact integer sums.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from replication import files
from replication.config import DataParams
from replication.datasets import archives
from replication.datasets.archives import Images, Labels, Split
from replication.datasets.download import fetch
from replication.datasets.prepared import PreparedDataset, assemble, save_prepared
from replication.datasets.sources import COLLECTIONS, DIGITS, DIGITS_SHA256, MNIST, SVHN, Collection, Source
from replication.errors import DataError
from replication.lock import exclusive

# `digits` has no test part of its own. Ours: a fifth of each class (360 images in all), fixed for good by this seed,
# independent of split_seed so that no choice of parameters moves an image into or out of the test set.
_DIGITS_TEST_SIZE = 360
_DIGITS_TEST_SEED = 0

_Parts = dict[str, Split]


def prepare(
    name: str,
    params: DataParams,
    raw_dir: Path = Path("data/raw"),
    out_path: Path | None = None,
) -> PreparedDataset:
    """Make data/prepared/NAME.safetensors.

    Args:
        name: digits, cifar10, svhn or mnist.
        params: the `data` section of params.yaml.
        raw_dir: where archives are kept as downloaded.
        out_path: the file to write; by default data/prepared/NAME.safetensors.

    Raises:
        DataError: an archive cannot be had, is not the official one, is corrupt, or does not hold what it should; or
            another process prepares the same file.
        ReplicationError: the file system refused.
    """
    if name not in COLLECTIONS:
        raise DataError(f"unknown dataset {name!r:.60}; choose one of {', '.join(COLLECTIONS)}")
    out_path = out_path or Path("data/prepared") / f"{name}.safetensors"
    with exclusive(out_path.with_name(f".{out_path.name}.lock"), f"{out_path}", "prepared", DataError):
        files.remove_leftovers(out_path)
        dataset = _prepare(name, params, raw_dir)
        save_prepared(dataset, out_path)
    return dataset


def _prepare(name: str, params: DataParams, raw_dir: Path) -> PreparedDataset:
    collection = COLLECTIONS[name]
    if name == "digits":
        parts, sources = _read_digits(params)
    else:
        parts, sources = _read_archives(collection, params, raw_dir)
    images, labels = parts.pop("train")
    test_images, test_labels = parts.pop("test")
    validation = stratified(labels, params.validation_fraction, params.split_seed)
    train = np.flatnonzero(~validation)
    held_out = np.flatnonzero(validation)
    split_images = {"train": images[train], "validation": images[held_out], "test": test_images}
    split_labels = {"train": labels[train], "validation": labels[held_out], "test": test_labels}
    del images  # SVHN with extra is 1.9 GB
    mean, std = statistics(split_images["train"], collection.scale)
    if min(std) == 0:
        raise DataError(f"{name}: the training images do not vary, so they cannot be normalised; use another copy")
    return assemble(
        name,
        split_images,
        split_labels,
        mean=mean,
        std=std,
        scale=collection.scale,
        classes=collection.classes,
        sources=sources,
    )


def stratified(labels: Labels, fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Mark round(fraction * N) of N labels (N,), each class in proportion (largest remainders), chosen by `seed`.

    Raises:
        DataError: the fraction is less than one image.
    """
    total = validation_size(fraction, len(labels))
    marked = np.zeros(len(labels), dtype=np.bool_)
    bits = np.random.PCG64(seed)
    for label, share in enumerate(_shares(np.bincount(labels), total)):
        members = np.flatnonzero(labels == label)
        order = np.argsort(bits.random_raw(len(members)), kind="stable")
        marked[members[order[:share]]] = True
    return marked


def validation_size(fraction: float, images: int) -> int:
    """round(fraction * images), the number held out for validation; DataError where that is none."""
    total = round(fraction * images)
    if total < 1:
        raise DataError(f"data.validation_fraction: {fraction:g} of {images} training images is none; raise it")
    return total


def _shares(counts: npt.NDArray[np.int64], total: int) -> list[int]:
    """`total` divided in proportion to `counts`, in whole numbers; ties go to the lower class."""
    quotas = [total * int(count) for count in counts]
    size = sum(int(count) for count in counts)
    shares = [quota // size for quota in quotas]
    by_remainder = sorted(range(len(shares)), key=lambda label: (-(quotas[label] % size), label))
    for label in by_remainder[: total - sum(shares)]:
        shares[label] += 1
    return shares


def statistics(images: Images, scale: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation of `images` (N, C, H, W) divided by `scale`.

    From a histogram of pixel values, in integers of any size: only the last division and root are rounded.

    Raises:
        DataError: `images` has other values than uint8, another number of axes than four, or nothing in it; or
            `scale` is not between 1 and 255.
    """
    if not 1 <= scale <= 255:
        raise DataError(f"scale is {scale}; it is the largest pixel value there can be, 1 to 255")
    images = np.asarray(images)  # a tensor says its type and shape in other words
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise DataError(
            f"images are {images.dtype} {images.shape}; must be uint8 (N, channels, height, width), one image at least"
        )
    channels = images.shape[1]
    histogram = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(images), 1024):
        for channel in range(channels):
            histogram[channel] += np.bincount(images[start : start + 1024, channel].reshape(-1), minlength=256)
    means, deviations = [], []
    for row in histogram.tolist():
        count = sum(row)
        first = sum(value * number for value, number in enumerate(row))
        second = sum(value * value * number for value, number in enumerate(row))
        means.append(first / (count * scale))
        deviations.append(math.sqrt((count * second - first * first) / (count * scale) ** 2))
    return tuple(means), tuple(deviations)


def _read_archives(collection: Collection, params: DataParams, raw_dir: Path) -> tuple[_Parts, tuple[Source, ...]]:
    paths, sources = {}, {}
    # All of them before the first is parsed: a missing one is known early.
    for name in collection.archive_names(include_extra=params.include_extra):
        raw = fetch(collection.archive(name), raw_dir, allow_unofficial=params.allow_unofficial)
        paths[name], sources[name] = raw.path, raw.source
    check = _Checker(collection, sources)
    parts = _PARSERS[collection.name](paths, check)
    return parts, tuple(sources.values())


class _Checker:
    """Holds every part against what the official one has, as soon as it is read."""

    def __init__(self, collection: Collection, sources: Mapping[str, Source]) -> None:
        self.collection, self.sources = collection, sources

    def __call__(self, name: str, split: Split) -> Split:
        images, labels = split
        collection, part = self.collection, self.collection.parts[name]
        where = f"{collection.name}: {name}" + (f" ({', '.join(part.archives)})" if part.archives else "")
        if images.shape[1:] != collection.image_shape or len(images) != len(labels):
            raise DataError(f"{where} has images {images.shape} and {len(labels)} labels; use another copy")
        counts = tuple(int(count) for count in np.bincount(labels, minlength=len(collection.classes)))
        if len(counts) != len(collection.classes):
            raise DataError(f"{where} has labels beyond {len(collection.classes)} classes; use another copy")
        if all(self.sources[archive].official for archive in part.archives):
            if len(labels) != part.size or part.counts not in (None, counts):
                raise DataError(
                    f"{where} has {len(labels)} images, {counts} by class, where the official data have {part.size}, "
                    f"{part.counts}; delete it and run prepare again"
                )
        elif min(counts) < (1 if name == "test" else 2):  # 2: one to train on, one to validate
            label = counts.index(min(counts))
            raise DataError(f"{where} has {counts[label]} images of class {label}, too few; use a larger copy")
        return split


def _parse_cifar10(paths: Mapping[str, Path], check: _Checker) -> _Parts:
    parts = archives.read_cifar10(paths["cifar-10-python.tar.gz"])
    return {name: check(name, split) for name, split in parts.items()}


def _parse_mnist(paths: Mapping[str, Path], check: _Checker) -> _Parts:
    def read(part: str) -> Split:
        images, labels = MNIST.parts[part].archives
        return check(part, archives.read_mnist(paths[images], paths[labels], MNIST.parts[part].size))

    return {"train": read("train"), "test": read("test")}


def _parse_svhn(paths: Mapping[str, Path], check: _Checker) -> _Parts:
    """Train and extra as one training part; at no time more than two copies of the images in memory."""

    def read(part: str) -> Split:
        return check(part, archives.read_svhn(paths[f"{part}_32x32.mat"], SVHN.parts[part].size))

    test, train = read("test"), read("train")
    if "extra_32x32.mat" in paths:
        extra = read("extra")
        joined = np.empty((len(train[0]) + len(extra[0]), *train[0].shape[1:]), dtype=np.uint8)
        joined[: len(train[0])] = train[0]
        joined[len(train[0]) :] = extra[0]
        train = joined, np.concatenate([train[1], extra[1]])
    return {"train": train, "test": test}


_PARSERS: Mapping[str, Callable[[Mapping[str, Path], _Checker], _Parts]] = {
    "cifar10": _parse_cifar10,
    "mnist": _parse_mnist,
    "svhn": _parse_svhn,
}


def _read_digits(params: DataParams) -> tuple[_Parts, tuple[Source, ...]]:
    from sklearn.datasets import load_digits  # a second of imports that no other data set needs

    bunch = load_digits()
    images: Images = bunch.images.astype(np.uint8)
    labels: Labels = bunch.target.astype(np.int64)
    content = images.tobytes() + labels.astype("<i8").tobytes()
    official = hashlib.sha256(content).hexdigest() == DIGITS_SHA256
    if not (official or params.allow_unofficial):
        raise DataError(
            f"scikit-learn's digits have SHA-256 {hashlib.sha256(content).hexdigest()}, expected {DIGITS_SHA256}; "
            "install the locked scikit-learn, or set data.allow_unofficial: true, which marks every result"
        )
    checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
    source = Source("scikit-learn load_digits", checksum, len(content), official)
    images, labels = _Checker(DIGITS, {})("all", (images[:, None], labels))
    test = stratified(labels, _DIGITS_TEST_SIZE / len(labels), _DIGITS_TEST_SEED)
    return {"train": (images[~test], labels[~test]), "test": (images[test], labels[test])}, (source,)
