"""Two classes of a data set as a data set of its own, for binary boosting."""

from __future__ import annotations

import attrs
import numpy as np

from replication.config import BinaryParams
from replication.datasets.prepared import PreparedDataset
from replication.errors import DataError


def data_of_method(data: PreparedDataset, method: str, pair: BinaryParams) -> PreparedDataset:
    """What `method` trains and is measured on: the two classes of `pair` for binary boosting, else all of `data`."""
    return restrict_to_pair(data, pair.negative, pair.positive) if method == "boostresnet-binary" else data


def check_pair(pair: BinaryParams, name: str, classes: int) -> None:
    """DataError unless `pair` is two different ones of the classes of the dataset `name`."""
    if pair.negative == pair.positive or not (0 <= pair.negative < classes and 0 <= pair.positive < classes):
        raise DataError(
            f"binary.negative {pair.negative} and binary.positive {pair.positive} must be two different classes of"
            f" {name}, 0 to {classes - 1}"
        )


def restrict_to_pair(data: PreparedDataset, negative: int, positive: int) -> PreparedDataset:
    """The images of two classes, relabelled 0 (`negative`) and 1 (`positive`), in their order.

    Mean and standard deviation stay those of the whole training part, and the content hash that of the prepared file:
    both say which data the run was made from.

    Raises:
        DataError: a class does not exist, or the two are one.
    """
    check_pair(BinaryParams(negative=negative, positive=positive), data.name, data.num_classes)
    chosen = {split: np.isin(labels, (negative, positive)) for split, labels in data.labels.items()}
    return attrs.evolve(
        data,
        images={split: images[chosen[split]] for split, images in data.images.items()},
        labels={split: (labels[chosen[split]] == positive).astype(np.int64) for split, labels in data.labels.items()},
        classes=(data.classes[negative], data.classes[positive]),
    )
