"""One row from a stock library: scikit-learn's HistGradientBoostingClassifier on pixels.

It is no network and makes no gradient updates. scikit-learn saves its models as pickles, which can run code when they
are read; so a run keeps the model's scores on every image of the three splits instead, and evaluation measures those.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from replication.datasets import SPLITS, PreparedDataset
from replication.errors import TrainingError
from replication.training.outcome import Outcome
from replication.training.record import accuracy_and_loss
from replication.training.seeds import generator, stream_seed
from replication.training.session import Session

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

LIBRARY = f"scikit-learn {metadata.version('scikit-learn')}, HistGradientBoostingClassifier"


def check_samples(images: int, classes: int) -> None:
    """TrainingError where so many training images cannot have one of every class."""
    _check_classes(images, images, classes)


def _check_classes(images: int, found: int, classes: int) -> None:
    if found < classes:
        raise TrainingError(
            f"among {images} training images some of {classes} classes are missing; raise stock_library.train_samples"
        )


def train_hist_gradient_boosting(session: Session, data: PreparedDataset) -> Outcome:
    """Fit the library's classifier to raw pixels and keep its scores.

    Early stopping is off: it would hold out images of its own. The budget, a share of gradient updates, does not apply.
    """
    # A second and more to import, and every method's training comes by this module.
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    params, seed = session.experiment.stock_library, session.seed
    chosen = _chosen(len(data.labels["train"]), params.train_samples, seed)
    labels = data.labels["train"][chosen]
    _check_classes(len(chosen), len(np.unique(labels)), data.num_classes)
    classifier = HistGradientBoostingClassifier(
        max_iter=params.iterations,
        early_stopping=False,
        random_state=stream_seed(seed, "initialisation") % 2**32,
    )
    with threadpool_limits(session.experiment.runtime.threads):
        classifier.fit(_pixels(data.images["train"][chosen]), labels)
        batch = session.experiment.evaluation.batch_size
        scores = {split: _scores(classifier, data.images[split], batch) for split in SPLITS}
    _record(session, data, scores)
    description: dict[str, Any] = {
        "blocks": 0,
        "parameters": _numbers_in_trees(classifier),
        "stock_library": LIBRARY,
        "train_samples": len(chosen),
        "model": {"kind": "scores"},
    }
    return Outcome(updates=0, weights=scores, description=description)


def _chosen(size: int, limit: int, seed: int) -> npt.NDArray[np.int64]:
    """Indices of the training images to fit: all, or a random subset."""
    if size <= limit:
        return np.arange(size)
    order = torch.randperm(size, generator=generator(seed, "batches"))
    return order[:limit].sort().values.numpy()


def _pixels(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return images.reshape(len(images), -1).astype(np.float64)


def _scores(classifier: HistGradientBoostingClassifier, images: npt.NDArray[np.uint8], batch: int) -> Tensor:
    """F (N, C), float32, for images (N, ...)."""
    parts = [
        classifier.decision_function(_pixels(images[start : start + batch])) for start in range(0, len(images), batch)
    ]
    scores = torch.from_numpy(np.concatenate(parts)).float().contiguous()
    if scores.ndim == 2:
        return scores
    return torch.stack([torch.zeros_like(scores), scores], 1)  # of two classes the library gives one score


def _numbers_in_trees(classifier: HistGradientBoostingClassifier) -> int:
    """What the trees learned: a threshold for every split and a value for every leaf, so one number per node."""
    return sum(tree.get_n_leaf_nodes() * 2 - 1 for round_ in classifier._predictors for tree in round_)


def _record(session: Session, data: PreparedDataset, scores: dict[str, Tensor]) -> None:
    """One point of the curves: there are no gradient updates to draw it against."""
    measures = {}
    for name in session.curves:
        labels = torch.from_numpy(data.labels[name])
        measures[f"{name}_accuracy"], measures[f"{name}_loss"] = accuracy_and_loss(scores[name], labels)
    session.recorder.evaluation(0, None, measures)
