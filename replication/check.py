"""Parameters that are well-formed and could still not be run, refused before anything starts: by the rules, and in the
words, of the code that would refuse them later.
"""

from __future__ import annotations

from pathlib import Path

from replication.analysis.cost import check_cost_depths
from replication.config import Experiment, load_budgets, load_experiment, load_lists, load_variants
from replication.config.strict_yaml import load_strictly
from replication.datasets.pairs import check_pair
from replication.datasets.prepare import validation_size
from replication.datasets.sources import COLLECTIONS, Collection
from replication.depth import check_depths
from replication.models.build import check_blocks
from replication.training.device import choose_device
from replication.training.features import check_views
from replication.training.stock_library import check_samples


def check_parameters(dataset: str, path: Path) -> None:
    """Check the lists, a dataset's experiment, and all variants of it, on this machine.

    Raises:
        ReplicationError: something in the file at `path` is malformed, or could not be run.
    """
    load_lists(path)
    load_budgets(dataset, path)
    default, collection = load_experiment(dataset, path), COLLECTIONS[dataset]
    choose_device(default.runtime)
    check_cost_depths(default)
    if dataset in load_strictly(path.read_text(encoding="utf-8"))["depth_of"]:
        test = collection.parts.get("test")  # the embedded digits have no such part
        check_depths(default, test.size if test else 0)
    for experiment in (default, *(variant.experiment for variant in load_variants(dataset, path))):
        _check(experiment, collection)


def _check(experiment: Experiment, collection: Collection) -> None:
    classes, boostresnet = len(collection.classes), experiment.boostresnet
    left_out = ("test",) if experiment.data.include_extra else ("test", "extra")
    most = sum(part.size for name, part in collection.parts.items() if name not in left_out)
    validation_size(experiment.data.validation_fraction, most)
    check_pair(experiment.binary, collection.name, classes)
    check_samples(experiment.stock_library.train_samples, classes)
    check_views(experiment.augmentation, fixed=boostresnet.prefix_mode != "training")
    check_blocks(experiment.model)
