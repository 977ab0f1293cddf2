"""Run directories: what training leaves behind, and the way back from them to a network."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from replication.config import ADDED_LATER, WEAK_LEARNERS, ModelParams
from replication.errors import ResultsError
from replication.files import atomic_folder, read_json, sha256, write_csv, write_json
from replication.models import ResNet, build_network
from replication.models.ensemble import Ensemble, build_weak_learner
from replication.run_directory import check_digests
from replication.training.record import COLUMNS, Recorder

SCHEMA = 1
# What every description holds, beside what says more about the machine or the method.
_DESCRIPTION: dict[str, type] = {
    "dataset": str,
    "method": str,
    "seed": int,
    "config": dict,
    "model": dict,
    "data": dict,
    "gradient_updates": int,
}
_MOST_LEARNERS, _MOST_CLASSES, _LARGEST_SIDE = 10_000, 100_000, 4096


def run_folder(root: Path, dataset: str, method: str, seed: int) -> Path:
    """DATASET/METHOD/seedN under `root`."""
    return root / dataset / method / f"seed{seed}"


def write_run(
    folder: Path,
    description: dict[str, Any],
    recorder: Recorder,
    weights: dict[str, Tensor],
    auxiliary: dict[str, Tensor],
) -> None:
    """Write a whole run directory at once: it is there complete, or as it was before.

    Raises:
        ReplicationError: the file system refused.
    """
    with atomic_folder(folder) as temporary:
        for kind, columns in COLUMNS.items():
            write_csv(temporary / f"{kind}.csv", columns, recorder.rows[kind])
        # Through Python, not the library's own writer: that one says a full disk in an exception of its own.
        (temporary / "model.safetensors").write_bytes(save(weights))
        (temporary / "auxiliary.safetensors").write_bytes(save(auxiliary))
        digests = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
        write_json(temporary / "run.json", description | {"sha256": digests})


def read_description(folder: Path) -> dict[str, Any]:
    """run.json of a run directory whose files are those that training wrote.

    Raises:
        ResultsError: there is no run, it was written under another schema, lacks what every run has, or a file of it
            was changed, cut or damaged since.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise ResultsError(f"no finished run in {folder}; train it first")
    description = read_json(path)
    if not isinstance(description, dict) or description.get("schema") != SCHEMA:
        raise ResultsError(f"{path} is no description of a run under schema {SCHEMA}; train the run again")
    for key, kind in _DESCRIPTION.items():
        if type(description.get(key)) is not kind:
            raise ResultsError(f"{path} has no valid '{key}'; train the run again")
    if not isinstance(description["data"].get("content_hash"), str) or "official" not in description["data"]:
        raise ResultsError(f"{path} does not say which data it is of; train the run again")
    check_digests(folder, description)
    return description


def model_kind(description: dict[str, Any]) -> str:
    """What model.safetensors holds: the weights of a "resnet" or an "ensemble", or the "scores" of a model not kept."""
    return str(description["model"].get("kind", "resnet"))


def load_model(folder: str | Path) -> ResNet | Ensemble:
    """The trained model of a run directory, on the CPU, in evaluation mode; needs nothing of boosting.

    Raises:
        ResultsError: the run is missing, damaged, does not fit its own description, or kept no model.
    """
    folder = Path(folder)
    description = read_description(folder)
    network = _build(description, folder)
    _load_weights(network, folder)
    return network.eval()


def load_network(folder: Path) -> ResNet:
    """The same where only a residual network will do; ResultsError where the run left something else."""
    network = load_model(folder)
    if not isinstance(network, ResNet):
        raise ResultsError(f"{folder} holds an ensemble of weak learners, and this needs a residual network")
    return network


def _build(description: dict[str, Any], folder: Path) -> ResNet | Ensemble:
    model, kind = description["model"], model_kind(description)
    if kind == "scores":
        raise ResultsError(f"{folder} kept the scores of its model on the three splits, not the model itself")
    if kind not in ("resnet", "ensemble"):
        raise ResultsError(f"{folder}/run.json: unknown model.kind {kind!r:.60}; train the run again")
    try:
        params = ModelParams(reading=model["reading"], blocks=model["blocks"], width=model["width"])
        shape, classes = _shape(model["image_shape"]), _whole(model["num_classes"], _MOST_CLASSES)
        learners = _whole(model["learners"], _MOST_LEARNERS) if kind == "ensemble" else 1
        vote = bool(model["vote"]) if kind == "ensemble" else False
        modules = model.get("modules", ADDED_LATER["weak_learners.modules"])
        if modules not in WEAK_LEARNERS:
            raise ValueError(f"{modules!r:.20} as weak learners' modules")
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{folder}/run.json: its model is malformed ({error!r:.80}); train the run again") from error
    build = build_network if kind == "resnet" else functools.partial(build_weak_learner, modules=modules)
    # First without memory: a description that asks for more than the weights fill shall cost nothing.
    with torch.device("meta"), _Uninitialised():
        wanted = learners * sum(parameter.numel() for parameter in build(params, shape, classes, seed=0).parameters())
    path = folder / "model.safetensors"
    if path.is_file() and 4 * wanted > path.stat().st_size:
        raise ResultsError(f"{path} is too small for the {wanted:,} parameters of its run.json; train the run again")
    networks = [build(params, shape, classes, seed=0) for _ in range(learners)]
    return networks[0] if kind == "resnet" else Ensemble(networks, [0.0] * learners, vote=vote)


class _Uninitialised(TorchFunctionMode):
    """Draws no initial weights: "meta" has nowhere to put them, and torch would import its compiler, for seconds."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if function in (Tensor.normal_, Tensor.uniform_) else function(*args, **(kwargs or {}))


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{value!r:.20} where a whole number from 1 to {most} should be")
    return value


def _shape(value: Any) -> tuple[int, int, int]:
    channels, height, width = (_whole(size, _LARGEST_SIDE) for size in value)
    return channels, height, width


def _load_weights(network: nn.Module, folder: Path) -> None:
    try:
        network.load_state_dict(load_tensors(folder / "model.safetensors"))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(
            f"{folder}/model.safetensors does not fit its run.json ({reason}); train the run again"
        ) from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file: names and numbers, nothing that could run; ResultsError where it is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ResultsError(f"cannot read {path}: {' '.join(str(error).split()):.200}; train the run again") from None


def model_description(params: ModelParams, image_shape: tuple[int, int, int], num_classes: int) -> dict[str, Any]:
    """What `load_model` needs to know beside the weights."""
    return {**attrs.asdict(params), "image_shape": list(image_shape), "num_classes": num_classes}
