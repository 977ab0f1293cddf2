"""Take in a run that was trained elsewhere: check it against everything it claims, then record it as if trained here.

For a GPU machine or a cluster node without DVC or MLflow: `python -m replication train …` there, copy the run directory
back, `python -m replication adopt FOLDER` here; `dvc repro` then finds the run up to date.

What dvc.lock says afterwards is that the code here made the run. So the code is compared as well: git must know the
commit of run.json and find none of the stage's code changed since.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import torch
import yaml

from replication.analysis.checks import check_same_parameters, read_run
from replication.budgets import budget_root
from replication.config import METHODS, Experiment, Lists, load_budgets, load_experiment, load_lists
from replication.datasets import PreparedDataset, load_prepared
from replication.datasets.pairs import data_of_method
from replication.errors import ReplicationError, ResultsError
from replication.files import atomic_folder, read_csv, read_json
from replication.run_directory import WEIGHTS
from replication.training.record import COLUMNS
from replication.training.runs import load_model, load_tensors, read_description, run_folder

_REFINED = "boostresnet-refined"
_WAIT = 600  # seconds
_SAME_LOSS = 1e-4  # of one network, measured block by block and as a whole; in practice about 1e-7
_ONCE_MORE = "the run is in its place; when that is mended: `dvc commit --force"
_KNOWN_ALIKE = "if its code is known to give the same results, add --other-code"


def adopt(
    source: Path,
    params: Path,
    prepared_root: Path = Path("data/prepared"),
    runs_root: Path = Path("runs"),
    *,
    other_code: bool = False,
) -> tuple[Path, str]:
    """Check the run directory `source` and put it under `runs_root`; one under a budget of `budgets` goes where that
    stage keeps its runs.

    Args:
        other_code: take a run of other code than what is here, or of unknown code.

    Returns:
        The run directory, and the DVC stage that it stands for, or whose input it is.

    Raises:
        ResultsError: it is incomplete, damaged, or was made with other parameters, data or code; the line says which.
    """
    if not source.is_dir():
        raise ResultsError(f"{source} is no folder; give the run directory that was copied")
    description = read_description(source)
    dataset, method, seed = _identity(source, description)
    experiment = load_experiment(dataset, params)
    _check_lists(source, dataset, method, seed, load_lists(params))
    stage = "refine" if method == _REFINED else "train"
    name = f"{stage}@{dataset}-{method}-{seed}"
    pair = (description.get("budget"), method)
    other = [asked.budget for asked in load_budgets(dataset, params) if (asked.budget, asked.method) == pair]
    if other:
        experiment, name = attrs.evolve(experiment, budget=other[0]), f"budgets@{dataset}"
    check_same_parameters(source, description, experiment)
    if not other_code:
        _check_code(source, description, stage)
    data = load_prepared(prepared_root / f"{dataset}.safetensors")
    _check_data(source, description, data, method, experiment)
    _check_files(source, description)
    _note_threads(source, description, experiment)
    target = run_folder(budget_root(experiment, data, other[0]) if other else runs_root, dataset, method, seed)
    if other and method == "boostresnet":
        _check_refinement(source, target, run_folder(target.parents[2], dataset, _REFINED, seed))
    if method == _REFINED:
        _check_start(source, description, run_folder(target.parents[2], dataset, "boostresnet", seed))
    if source.resolve() != target.resolve():
        with atomic_folder(target) as temporary:
            for path in source.iterdir():
                if path.name in _expected_files():
                    shutil.copyfile(path, temporary / path.name)
    return target, name


def in_order(folders: Iterable[Path]) -> list[Path]:
    """The run directories as they can be taken in one after the other: a refinement after the run it started from, on
    which its stage depends.
    """
    return sorted(folders, key=_is_refinement)


def _is_refinement(folder: Path) -> bool:
    try:
        description = read_json(folder / "run.json")
    except ReplicationError:  # `adopt` says what is wrong with it
        return False
    return isinstance(description, dict) and description.get("method") == _REFINED


def record(stage: str) -> None:
    """Write the run into dvc.lock, with the hashes of the code, data and parameters that are here.

    Raises:
        ReplicationError: DVC is missing or refuses.
    """
    try:
        finished = subprocess.run(
            ["dvc", "--wait-for-lock", "commit", "--force", stage],
            capture_output=True, text=True, timeout=_WAIT, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ReplicationError("dvc is not installed here; adopt the run where the pipeline is") from error
    except subprocess.TimeoutExpired as error:
        raise ReplicationError(f"dvc has not taken {stage} within {_WAIT} s; {_ONCE_MORE} {stage}`") from error
    if finished.returncode != 0:
        said = (finished.stderr + finished.stdout).splitlines()
        reason = next((line for line in said if line.startswith("ERROR: ")), f"exit code {finished.returncode}")
        raise ReplicationError(f"dvc does not take {stage}: {reason.removeprefix('ERROR: ')}; {_ONCE_MORE} {stage}`")


def _identity(source: Path, description: dict[str, Any]) -> tuple[str, str, int]:
    dataset, method, seed = (description.get(key) for key in ("dataset", "method", "seed"))
    if not isinstance(dataset, str) or method not in METHODS or type(seed) is not int or seed < 0:
        raise ResultsError(f"{source}/run.json names no run of ours ({dataset!r}, {method!r}, seed {seed!r})")
    return dataset, str(method), seed


def _check_lists(source: Path, dataset: str, method: str, seed: int, lists: Lists) -> None:
    """The pipeline has a stage for every run of its lists and for no other."""
    wanted = (("datasets", dataset, lists.datasets), ("methods", method, lists.methods), ("seeds", seed, lists.seeds))
    for name, value, known in wanted:
        if value not in known:
            raise ResultsError(f"{source} is of {value}, which is not in `{name}` of params.yaml; add it there first")


def _note_threads(source: Path, description: dict[str, Any], experiment: Experiment) -> None:
    there, here = _section(description["config"], "runtime").get("threads"), experiment.runtime.threads
    if there != here:
        print(
            f"note: {source} was trained on {there} threads where params.yaml has {here}: the same run up to rounding",
            file=sys.stderr,
        )


def _section(description: dict[str, Any], name: str) -> dict[str, Any]:
    value = description.get(name)
    return value if isinstance(value, dict) else {}


def _check_code(source: Path, description: dict[str, Any], stage: str) -> None:
    """ResultsError unless git finds the stage's code here, uncommitted changes included, as it was in training."""
    git = _section(description, "git")
    commit, dirty = str(git.get("commit")), git.get("dirty")
    if _git("rev-parse", "HEAD") is None:
        raise ResultsError(f"there is no git checkout here to compare the code of {source} with; {_KNOWN_ALIKE}")
    if not re.fullmatch("[0-9a-f]{40,64}", commit):
        raise ResultsError(f"{source}/run.json names no git commit, so its code is not known; {_KNOWN_ALIKE}")
    if dirty is not False:
        raise ResultsError(
            f"{source} was trained with uncommitted changes on top of commit {commit[:10]}, so its code is not known;"
            f" train again from a commit, or, {_KNOWN_ALIKE}"
        )
    if _git("cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise ResultsError(
            f"{source} was trained at commit {commit[:10]}, which git does not know here; fetch it, or, {_KNOWN_ALIKE}"
        )
    code = _code_of(stage)
    changed = _git("diff", "--name-only", "--relative", commit, "--", *code)
    added = _git("ls-files", "--others", "--exclude-standard", "--", *code)
    if changed is None or added is None:
        raise ResultsError(f"git cannot compare the code here with commit {commit[:10]}; see what `git status` says")
    if differing := changed + added:
        names = ", ".join(differing[:5]) + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise ResultsError(
            f"{source} was trained at commit {commit[:10]}, and {names} differ here; check that commit out, train"
            f" again, or, {_KNOWN_ALIKE}"
        )


def _check_refinement(source: Path, target: Path, refined: Path) -> None:
    """In scratch, where DVC does not look, a refinement must not stay beside a run that it did not start from."""
    if refined.is_dir() and target.is_dir() and (target / WEIGHTS).read_bytes() != (source / WEIGHTS).read_bytes():
        raise ResultsError(f"{refined} started from another run than {source}; remove it first, or keep {target}")


def _check_start(refined: Path, description: dict[str, Any], start: Path) -> None:
    """A refinement is recorded as one of the BoostResNet run that is here: its first point must be that one's last.

    Nothing is said where that run is not here, or its curves were measured otherwise.
    """
    if not (start / "run.json").is_file():
        return
    before = read_run(start, description["dataset"], "boostresnet", description["seed"])
    if before["config"].get("evaluation") != description["config"].get("evaluation"):
        return
    last, first = read_csv(start / "history.csv")[-1], read_csv(refined / "history.csv")[0]
    losses = [(last[column], first[column]) for column in last if column.endswith("_loss") and last[column]]
    alike = all(math.isclose(float(one), float(other), rel_tol=_SAME_LOSS) for one, other in losses)
    if not alike or last["gradient_updates"] != first["gradient_updates"]:
        raise ResultsError(f"{refined} started from another run than {start}; first adopt the run that it started from")


def _code_of(stage: str) -> list[str]:
    """The files and folders of code that a stage of dvc.yaml depends on."""
    try:
        deps = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["deps"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ResultsError(f"dvc.yaml has no stage {stage} ({error!r:.80}); adopt where the pipeline is") from error
    return [dep for dep in deps if dep.startswith("replication/")]


def _git(*arguments: str) -> list[str] | None:
    """The lines that git prints in the working directory; None where it fails or is missing."""
    try:
        command = ["git", "--no-optional-locks", *arguments]  # looks, and leaves no lock behind if it is killed
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.splitlines()


def _check_data(
    source: Path, description: dict[str, Any], data: PreparedDataset, method: str, experiment: Experiment
) -> None:
    here = data_of_method(data, method, experiment.binary).describe()["content_hash"]
    there = description.get("data", {}).get("content_hash")
    if there != here:
        raise ResultsError(
            f"{source} was trained on other data (hash {str(there)[:12]}) than data/prepared holds (hash {here[:12]});"
            " prepare the same archives here, or train again"
        )


def _expected_files() -> set[str]:
    return {"run.json", "model.safetensors", "auxiliary.safetensors", *(f"{kind}.csv" for kind in COLUMNS)}


def _check_files(source: Path, description: dict[str, Any]) -> None:
    missing = sorted(name for name in _expected_files() if not (source / name).is_file())
    if missing:
        raise ResultsError(f"{source} lacks {', '.join(missing)}; copy the whole run directory again")
    read_run(source, *_identity(source, description))
    load_tensors(source / "auxiliary.safetensors")
    if description["model"].get("kind", "resnet") != "scores":
        weights = load_model(source).state_dict()
        if not all(bool(torch.isfinite(tensor.double()).all()) for tensor in weights.values()):
            raise ResultsError(f"{source}/model.safetensors holds numbers that are not finite; train again")
