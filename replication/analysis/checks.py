"""Whether a run directory is whole, and the run that its place says it is: looked at before anything is published."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from replication.config import ADDED_LATER, AUXILIARIES, CHANGE_NO_RUN, PRECISIONS, BinaryParams, Experiment
from replication.datasets import PreparedDataset
from replication.errors import ResultsError
from replication.files import read_csv, read_json
from replication.training.record import COLUMNS
from replication.training.runs import read_description

# What every description holds of which results are made, beside what `read_description` sees to.
_PUBLISHED: dict[str, tuple[type, ...]] = {
    "reading": (str,),
    "budget": (float, int),
    "blocks": (int,),
    "parameters": (int,),
}
# Of some methods only.
_PUBLISHED_OF_SOME: dict[str, tuple[type, ...]] = {"learners": (int,), "stock_library": (str,), "train_samples": (int,)}

#: Columns of rounds.csv that hold a number in every row, by method; the methods that are not here have no rounds.
_BOOSTRESNET = ("edge", "gamma", "covariance", "alpha", "bound", "train_error")
NUMBERS_OF_ROUNDS: dict[str, tuple[str, ...]] = {
    "boostresnet": _BOOSTRESNET,
    "boostresnet-binary": _BOOSTRESNET,
    "adaboost-mm": ("edge", "alpha", "bound", "train_error"),
    "gradient-boosting": ("alpha", "train_error"),
}
# What model.safetensors holds, by method; a network where nothing is said.
_KINDS = {"adaboost-mm": "ensemble", "gradient-boosting": "ensemble", "hist-gradient-boosting": "scores"}
_OF_EVALUATION = ("data.exact_test_images",)  # asked of `evaluate`, and nothing to training
_COUNTS, _WORDS = ("gradient_updates", "cumulative_updates"), ("module", "moved_on")
_LONGEST_COUNT = 18  # digits
_ABSENT = "nothing"  # how a parameter is shown that one side does not have

# Another machine's rounding moves the few examples that lie between two classes; of damaged weights hardly one is left.
_TRAIN_ERROR_TOLERANCE = 0.01


def read_run(folder: Path, dataset: str, method: str, seed: int) -> dict[str, Any]:
    """run.json of the run of `method` on `dataset` under `seed`, held against the tables beside it.

    Raises:
        ResultsError: the run is missing, another one than asked for, incomplete or malformed; the line says which file.
    """
    description, path = read_description(folder), folder / "run.json"
    found, wanted = tuple(description[key] for key in ("dataset", "method", "seed")), (dataset, method, seed)
    if found != wanted:
        raise ResultsError(
            f"{path} is of another run ({_words(found)}) than its folder ({_words(wanted)}); train the run again"
        )
    _check_values(description, path)
    check_tables(folder, description)
    return description


def read_run_on(data: PreparedDataset, folder: Path, method: str, seed: int) -> dict[str, Any]:
    """As `read_run`; ResultsError also where the run was made from another content of the dataset than `data`."""
    description = read_run(folder, data.name, method, seed)
    if description["data"]["content_hash"] != data.content_hash:
        raise ResultsError(f"{folder} was trained on other data than the prepared {data.name}; train it again")
    return description


def _words(run: tuple[Any, ...]) -> str:
    dataset, method, seed = run
    return f"{dataset!s:.40} {method!s:.40} seed {seed!s:.20}"


def _check_values(description: dict[str, Any], path: Path) -> None:
    """The values of run.json that results are made of or that lead to them."""
    for key, kinds in (_PUBLISHED | _PUBLISHED_OF_SOME).items():
        if key not in description and key in _PUBLISHED_OF_SOME:
            continue
        if type(description.get(key)) not in kinds:
            raise ResultsError(f"{path} has no valid '{key}'; train the run again")
    if type(description["data"]["official"]) is not bool:
        raise ResultsError(f"{path} has no valid 'data.official'; train the run again")
    binary_pair(description, path)
    _check_model(description, path)
    boosting = description["config"].get("boostresnet")
    if not isinstance(boosting, dict) or boosting.get("auxiliary") not in AUXILIARIES:
        raise ResultsError(f"{path} has no valid 'config.boostresnet.auxiliary'; train the run again")
    edge = boosting.get("initial_edge")
    if not isinstance(edge, float | int) or not 0 <= edge < 1:
        raise ResultsError(f"{path} has no valid 'config.boostresnet.initial_edge'; train the run again")


def _check_model(description: dict[str, Any], path: Path) -> None:
    """What model.safetensors is said to hold is what the method leaves, of the size that was asked for."""
    model, config = description["model"], description["config"].get("model")
    if model.get("kind", "resnet") != _KINDS.get(description["method"], "resnet"):
        raise ResultsError(f"{path}: a run of {description['method']} leaves no model of its 'model.kind'")
    for key in ("reading", "blocks", "width"):
        if not isinstance(config, dict) or model.get(key) != config.get(key):
            raise ResultsError(f"{path}: model.{key} is not that of its 'config'; train the run again")


def binary_pair(description: dict[str, Any], path: Path) -> BinaryParams:
    """The two classes of `description`, which was read from `path`; ResultsError where they are none."""
    pair = description["config"].get("binary")
    if not isinstance(pair, dict) or any(type(pair.get(key)) is not int for key in ("negative", "positive")):
        raise ResultsError(f"{path} has no valid 'config.binary'; train the run again")
    try:
        return BinaryParams(negative=pair["negative"], positive=pair["positive"])
    except ValueError:
        raise ResultsError(f"{path} has no valid 'config.binary'; train the run again") from None


def check_same_parameters(folder: Path, description: dict[str, Any], experiment: Experiment) -> None:
    """Hold what a run was trained with against `experiment`: all that changes numbers by more than rounding.

    Raises:
        ResultsError: naming the parameter.
    """
    for name, there, here in _parameters(description["config"], experiment.as_dict()):
        if there != here:
            raise ResultsError(
                f"{folder} was trained with {name} = {there}, and params.yaml has {here}; change params.yaml to what"
                " was trained, or train again"
            )


def check_published(
    folder: Path, experiment: Experiment, data: PreparedDataset, mend: str, *, any_budget: bool = False
) -> None:
    """Hold a published run against `experiment`, whose budget does not count with `any_budget`, and against `data`.

    Raises:
        ResultsError: it is damaged, or of other parameters or data; `mend` says what to do.
    """
    description = read_json(folder / "run.json")
    sections = [description.get(key) if isinstance(description, dict) else None for key in ("config", "data")]
    if not all(isinstance(section, dict) for section in sections) or "budget" not in description:
        raise ResultsError(f"{folder}/run.json is damaged; {mend}")
    budget = description["budget"] if any_budget else experiment.budget
    check_same_parameters(folder, description, attrs.evolve(experiment, budget=budget))
    if description["data"].get("content_hash") != data.content_hash:
        raise ResultsError(f"{folder} is of other data than {data.name}'s here; {mend}")


def _parameters(found: dict[str, Any], wanted: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What determines a run, by its dotted name, with both values."""
    for section, here in wanted.items():
        there = found.get(section, _ABSENT)
        if not isinstance(here, dict):
            yield section, there, here
            continue
        there = there if isinstance(there, dict) else {}
        for key in {**here, **there}:
            name = f"{section}.{key}"
            if name in _OF_EVALUATION:
                continue
            if section not in CHANGE_NO_RUN or (section == "runtime" and key in PRECISIONS):
                yield name, there.get(key, ADDED_LATER.get(name, _ABSENT)), here.get(key, _ABSENT)


def check_tables(folder: Path, description: dict[str, Any]) -> None:
    """history.csv, rounds.csv and timing.csv: whole, of numbers, and of the run that `description` describes.

    Raises:
        ResultsError: a file is missing, damaged, or does not end where run.json does; the line says which.
    """
    updates = description["gradient_updates"]
    for kind, columns in COLUMNS.items():
        path = folder / f"{kind}.csv"
        rows = _rows(path, columns)
        end = "cumulative_updates" if kind == "rounds" else "gradient_updates"
        if kind == "rounds":
            _check_rounds(path, rows, description["method"])
        elif not rows:
            raise ResultsError(f"{path} has no rows; train the run again, or copy it again")
        if rows and int(rows[-1][end]) != updates:
            raise ResultsError(
                f"{path} ends elsewhere (after update {rows[-1][end]}) than run.json says ({updates}); train the run"
                " again, or copy it again"
            )


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        raise ResultsError(f"{path.parent} is no complete run, {path.name} is missing; train the run again")
    rows = read_csv(path)
    with path.open(newline="", encoding="utf-8") as stream:
        if next(csv.reader(stream), []) != list(columns):
            raise ResultsError(f"{path} has other columns than this version writes; train the run again")
    for number, row in enumerate(rows, start=1):
        for column, value in row.items():
            if not _valid(column, value):
                raise ResultsError(f"{path} is damaged in row {number}, column {column}; train the run again")
    if not path.read_bytes().endswith(b"\n"):
        raise ResultsError(f"{path} is cut off in its last line; train the run again, or copy it again")
    return rows


def _valid(column: str | None, value: Any) -> bool:
    """Whether a cell holds what its column is for; too long a row has a column None, too short a one values None."""
    if column is None or value is None:
        return False
    if column in _COUNTS or (column == "block" and value):
        return isinstance(value, str) and value.isdecimal() and len(value) <= _LONGEST_COUNT
    return not value or column in _WORDS or _number(value) is not None


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _check_rounds(path: Path, rows: list[dict[str, str]], method: str) -> None:
    """Every round is there once, in order, with the numbers that its method has."""
    columns = NUMBERS_OF_ROUNDS.get(method)
    if bool(rows) != (columns is not None):
        raise ResultsError(f"{path} has {len(rows)} rounds, which no run of {method} has; train the run again")
    for number, row in enumerate(rows):
        if row["block"] != str(number):
            raise ResultsError(f"{path} lacks block {number}; train the run again, or copy it again")
        for column in columns or ():
            value = _number(row[column])
            if value is None or not math.isfinite(value):
                raise ResultsError(f"{path} has no number for {column} of block {number}; train the run again")


def check_train_error(folder: Path, method: str, train_error: float) -> None:
    """Hold the training error (0..1) of the model that a run kept against what its last round recorded.

    For the methods that have rounds; the others record no accuracy of a whole split when they end.

    Raises:
        ResultsError: they are further apart than rounding can take them.
    """
    if method not in NUMBERS_OF_ROUNDS:
        return
    recorded = float(read_csv(folder / "rounds.csv")[-1]["train_error"])
    if not abs(train_error - recorded) <= _TRAIN_ERROR_TOLERANCE:  # "not": of no number nothing is true
        raise ResultsError(
            f"{folder}/model.safetensors does not give what rounds.csv records (training error {train_error:.4f}, not"
            f" {recorded:.4f}); train the run again, or copy it again"
        )


def check_finite(folder: Path, values: Any) -> None:
    """ResultsError where a number in what was measured of a run, dictionaries and lists of it, is not finite."""
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            check_finite(folder, value)
    elif isinstance(values, float) and not math.isfinite(values):
        raise ResultsError(f"{folder}/model.safetensors gives numbers that are not finite; train the run again")
