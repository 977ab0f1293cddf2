"""One data set as training reads it, and the safetensors file it is kept in.

The file is written by hand, sorted and without padding choices, because the library's writer promises no order of its
metadata and copies every array: equal input gives equal bytes on every machine. It is read by the library, so it is
plain safetensors for everybody else too. No pickle anywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from replication import files
from replication.config import DataParams
from replication.datasets.sources import COLLECTIONS, Source
from replication.errors import DataError

SPLITS = ("train", "validation", "test")
SCHEMA = 1
_METADATA_KEY = "dataset"  # a single key: the order of several is not defined
_DTYPES: Mapping[str, type[np.generic]] = {"U8": np.uint8, "I64": np.int64}
_CHUNK = 1 << 24


@attrs.frozen(eq=False)
class PreparedDataset:
    """Images and labels of the three splits, and what is known of their origin."""

    name: str
    images: dict[str, npt.NDArray[np.uint8]]  # split -> (N, C, H, W)
    labels: dict[str, npt.NDArray[np.int64]]  # split -> (N,), values 0..len(classes)-1
    mean: tuple[float, ...]  # per channel, of the training part, of pixels divided by `scale`
    std: tuple[float, ...]
    scale: int  # the largest pixel value: 255, or 16 for digits
    classes: tuple[str, ...]
    official: bool  # every archive had the official checksum
    sources: tuple[Source, ...]
    content_hash: str  # SHA-256 of everything above

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images["train"].shape[1:]
        return int(channels), int(height), int(width)

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.classes)

    def describe(self) -> dict[str, Any]:
        """What a run records of its data: the `data` section of run.json."""
        return {
            "content_hash": self.content_hash,
            "official": self.official,
            "sources": [source.as_dict() for source in self.sources],
            **{f"{split}_size": len(self.labels[split]) for split in SPLITS},
            "classes": list(self.classes),
            "image_shape": list(self.image_shape),
        }


def assemble(
    name: str,
    images: dict[str, npt.NDArray[np.uint8]],
    labels: dict[str, npt.NDArray[np.int64]],
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    scale: int,
    classes: tuple[str, ...],
    sources: tuple[Source, ...],
) -> PreparedDataset:
    """A PreparedDataset with its content hash; images are made contiguous.

    Args:
        images: by split ("train", "validation", "test"), uint8 (N, C, H, W), 0 to `scale`.
        labels: by split, integers (N,), 0 to len(classes) - 1.
        mean: per channel, of the training images divided by `scale`; `std` likewise.

    Raises:
        DataError: a split is missing, there are fewer than two classes, or types, shapes or values do not fit together.
    """
    for split in SPLITS:
        if split not in images or split not in labels:
            raise DataError(f"{name}: no {split} images or labels; {', '.join(SPLITS)} are needed")
        pixels, answers = np.asarray(images[split]), np.asarray(labels[split])
        if pixels.dtype != np.uint8:
            raise DataError(
                f"{name}: {split} images are {pixels.dtype}, must be uint8, 0 to {scale}; of fractions from 0 to 1: "
                f"(images * {scale}).round().astype(np.uint8)"
            )
        if answers.dtype.kind not in "iu":
            raise DataError(f"{name}: {split} labels are {answers.dtype}, must be integers")
    if len(classes) < 2:
        raise DataError(f"{name}: classes are {classes}; two at least are needed")
    dataset = PreparedDataset(
        name=name,
        images={split: np.ascontiguousarray(images[split]) for split in SPLITS},
        labels={split: np.ascontiguousarray(labels[split], dtype=np.int64) for split in SPLITS},
        mean=mean,
        std=std,
        scale=scale,
        classes=classes,
        official=all(source.official for source in sources),
        sources=sources,
        content_hash="",
    )
    try:
        _validate_arrays(dataset)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None
    return attrs.evolve(dataset, content_hash=_content_hash(dataset))


def save_prepared(dataset: PreparedDataset, path: Path) -> None:
    """Write `dataset` to `path`, whole or not at all; ReplicationError when the file system refuses."""
    metadata = {**_metadata(dataset), "content_hash": dataset.content_hash}
    header: dict[str, Any] = {"__metadata__": {_METADATA_KEY: json.dumps(metadata, sort_keys=True)}}
    tensors, offset = _tensors(dataset), 0
    for key, array in tensors.items():
        dtype = "U8" if array.dtype == np.uint8 else "I64"
        header[key] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    encoded = json.dumps(header, sort_keys=True, separators=(",", ":")).encode("ascii")
    encoded += b" " * (-len(encoded) % 8)  # the format aligns the data to eight bytes
    with files.atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little") + encoded)
        for array in tensors.values():
            stream.write(_bytes(array))


def load_prepared(
    path: Path, params: DataParams | None = None, *, name: str | None = None, verify: bool = True
) -> PreparedDataset:
    """Read what `prepare` wrote.

    Args:
        path: data/prepared/NAME.safetensors.
        params: what the file must have been prepared under, as far as it tells: it does not tell `split_seed`.
        name: the data set that it must hold; by default the one that the file is named after.
        verify: recompute the content hash (about a second per gigabyte).

    Raises:
        DataError: the file is missing, truncated, corrupt, not a prepared data set, or another than the one wanted.
    """
    name = name or path.stem
    mend = f"run `python -m replication prepare {name}` again"
    if not path.exists():
        raise DataError(f"{path} is missing; {mend.removesuffix(' again')}")
    try:
        dataset = _load(path)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        problem = " ".join(str(error).split())[:160] or type(error).__name__
        raise DataError(f"{path} is damaged or no prepared data set ({problem}); {mend}") from error
    except MemoryError as error:
        raise DataError(f"not enough memory to load {path}; free some and try again") from error
    if verify and _content_hash(dataset) != dataset.content_hash:
        raise DataError(f"{path} is damaged (its content does not match its hash); {mend}")
    if dataset.name != name:
        raise DataError(f"{path} holds the data set {dataset.name!r:.60}, not {name}; {mend}")
    if params is not None and (difference := _difference(dataset, params)):
        raise DataError(f"{path} {difference}; {mend}")
    return dataset


def _difference(dataset: PreparedDataset, params: DataParams) -> str | None:
    """In what a file differs from what `prepare` would write under `params`, where that can be seen."""
    if not (dataset.official or params.allow_unofficial):
        return "was made from an unofficial copy, which data.allow_unofficial: false excludes"
    held_out = len(dataset.labels["validation"])
    wanted = round(params.validation_fraction * (len(dataset.labels["train"]) + held_out))
    if held_out != wanted:
        return f"has {held_out} validation images where data.validation_fraction asks for {wanted}"
    archives = COLLECTIONS[dataset.name].archive_names(include_extra=params.include_extra)
    if archives and archives != [source.name for source in dataset.sources]:
        return f"was made from other archives than {', '.join(archives)}, which data.include_extra asks for"
    return None


def _load(path: Path) -> PreparedDataset:
    names = [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")]
    with safe_open(path, framework="np") as stream:
        metadata = json.loads((stream.metadata() or {})[_METADATA_KEY])
        if metadata["schema"] != SCHEMA:
            raise ValueError(f"schema {metadata['schema']!r:.20}, this version reads {SCHEMA}")
        if set(stream.keys()) != set(names):
            raise ValueError("it does not hold the images and labels of three splits")
        for name in names:  # before loading: numpy lacks some of the types that the format knows
            if stream.get_slice(name).get_dtype() != ("U8" if name.endswith("images") else "I64"):
                raise ValueError(f"{name} has the wrong type")
        arrays = {name: stream.get_tensor(name) for name in names}
    dataset = PreparedDataset(
        name=_text(metadata["name"]),
        images={split: arrays[f"{split}_images"] for split in SPLITS},
        labels={split: arrays[f"{split}_labels"] for split in SPLITS},
        mean=tuple(float(value) for value in metadata["mean"]),
        std=tuple(float(value) for value in metadata["std"]),
        scale=metadata["scale"],
        classes=tuple(_text(value) for value in metadata["classes"]),
        official=metadata["official"],
        sources=tuple(Source(**source) for source in metadata["sources"]),
        content_hash=_text(metadata["content_hash"]),
    )
    _validate(dataset)
    return dataset


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("its metadata has a value of the wrong type")
    return value


def _validate(dataset: PreparedDataset) -> None:
    """ValueError unless shapes, ranges and metadata fit together."""
    if dataset.name not in COLLECTIONS:
        raise ValueError("its data set is unknown")
    if type(dataset.official) is not bool or dataset.official != all(source.official for source in dataset.sources):
        raise ValueError("its sources contradict whether it is official")
    _validate_arrays(dataset)


def _validate_arrays(dataset: PreparedDataset) -> None:
    """ValueError unless shapes, ranges and normalisation fit together."""
    channels = len(dataset.mean)
    if type(dataset.scale) is not int or not 1 <= dataset.scale <= 255 or len(dataset.std) != channels:
        raise ValueError("its scale is impossible, or mean and standard deviation are of different channels")
    if not all(0 <= mean <= 1 and 0 < std <= 1 for mean, std in zip(dataset.mean, dataset.std, strict=True)):
        raise ValueError(
            f"mean {dataset.mean} and standard deviation {dataset.std} are impossible; they are per channel and of "
            f"pixels divided by {dataset.scale}, and a channel that never changes has to be left out"
        )
    shape = dataset.images["train"].shape[1:]
    for split in SPLITS:
        images, labels = dataset.images[split], dataset.labels[split]
        if images.ndim != 4 or images.shape[1:] != shape or images.shape[1] != channels or 0 in images.shape:
            raise ValueError(
                f"{split} images have shape {images.shape}, must be (N, {channels}, height, width), N at least 1, all "
                f"alike, with {channels} channels, of as many as mean and std have numbers"
            )
        if images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
            raise ValueError(
                f"{split} images of shape {images.shape} seem to have their channels last; np.moveaxis(images, 3, 1)"
            )
        if labels.shape != (len(images),):
            raise ValueError(f"{split} has labels {labels.shape} for {len(images)} images")
        if labels.min() < 0 or labels.max() >= len(dataset.classes):
            raise ValueError(
                f"{split} has labels {labels.min()} to {labels.max()}, beyond its {len(dataset.classes)} classes; they "
                "count from 0"
            )
        if split == "train" and labels.min() == labels.max():
            raise ValueError(f"train has images of one class alone, {labels.min()}; there is nothing to learn")
        if images.max() > dataset.scale:
            raise ValueError(f"{split} has pixels above {dataset.scale}")
        if images.max() <= 1 < dataset.scale:
            raise ValueError(f"{split} has no pixel above 1 of {dataset.scale}; were they divided before the cast?")


def _tensors(dataset: PreparedDataset) -> dict[str, npt.NDArray[Any]]:
    """Every array under its name in the file, in the order of the file."""
    named: dict[str, npt.NDArray[Any]] = {}
    for split in sorted(SPLITS):
        named[f"{split}_images"] = dataset.images[split]
        # "<i8": the file is little-endian on every machine.
        named[f"{split}_labels"] = dataset.labels[split].astype("<i8", copy=False)
    # Wider types first keeps every tensor aligned, as the library's writer does.
    return dict(sorted(named.items(), key=lambda item: (-item[1].itemsize, item[0])))


def _metadata(dataset: PreparedDataset) -> dict[str, Any]:
    """Everything but the arrays and the hash."""
    return {
        "schema": SCHEMA,
        "name": dataset.name,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "scale": dataset.scale,
        "classes": list(dataset.classes),
        "official": dataset.official,
        "sources": [source.as_dict() for source in dataset.sources],
    }


def _content_hash(dataset: PreparedDataset) -> str:
    digest = hashlib.sha256(json.dumps(_metadata(dataset), sort_keys=True).encode())
    for name, array in _tensors(dataset).items():
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        data = _bytes(array)
        for start in range(0, len(data), _CHUNK):
            digest.update(data[start : start + _CHUNK])
    return digest.hexdigest()


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    """The array's bytes without a copy."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
