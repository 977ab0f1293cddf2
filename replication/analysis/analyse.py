"""What a finished run shows beyond its accuracy: theory, margins, probes, and its blocks as an ensemble.

Reads one run directory, trains no network, and publishes `results/DATASET/METHOD/seedN/analysis.json` and the tables
behind the figures in `analysis/` beside it; only what the seed determines.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import torch
from torch import Tensor

from replication.analysis import lesion, margins, paths, probes, steps, weak_learning
from replication.analysis.checks import binary_pair, check_finite, check_train_error, read_run_on
from replication.analysis.sampling import batches, draws, subset
from replication.analysis.theory import Hypotheses, load_hypotheses
from replication.analysis.untrained import initial_network, untrained_section
from replication.config import BOOSTED, Experiment, ModelParams
from replication.datasets import SPLITS, PreparedDataset
from replication.datasets.loader import DeviceSplit, to_device_split
from replication.datasets.pairs import data_of_method
from replication.files import atomic_folder, remove_leftovers, write_csv, write_json
from replication.models.ensemble import Ensemble
from replication.models.folding import fold_batch_norms
from replication.models.resnet import ResNet
from replication.ranks import rank_correlation
from replication.rounding import ROUNDING
from replication.run_directory import WEIGHTS
from replication.training.device import choose_device
from replication.training.runs import load_model, read_description, run_folder

SCHEMA = 1

#: Columns of analysis/NAME.csv; a table that a method has no use for is there with its header alone.
TABLES: dict[str, tuple[str, ...]] = {
    "theory": weak_learning.COLUMNS,
    "modules": (
        "block", "module", "train_accuracy", "validation_accuracy", "test_accuracy",
        "probe_train_accuracy", "probe_validation_accuracy", "probe_test_accuracy",
    ),
    "margins": ("split", "block", "module", "margin", "cumulative"),
    "deletions": ("block", "module", "transition", "error"),
    "lesions": ("deleted", "draw", "error"),
    "swaps": ("swaps", "draw", "kendall_tau", "error"),
    "paths": ("length", "paths", "draws", "gradient_norm", "contribution", "share"),
    "alignment": ("block", "module", "alignment", "control_alignment", "step_ratio"),
}  # fmt: skip

# Images behind gradients: along paths (a batch of the paper's size) and before each step.
_PATH_IMAGES, _STEP_IMAGES = 100, 500

Rows = list[dict[str, Any]]


@attrs.frozen(eq=False)
class _Subject:
    """A run under analysis: its network and the images it is looked at with."""

    experiment: Experiment
    data: PreparedDataset
    folder: Path
    seed: int
    whole: dict[str, DeviceSplit]  # the splits
    sample: dict[str, DeviceSplit]  # at most probe_samples training, test_samples other images

    @property
    def batch_size(self) -> int:
        return self.experiment.evaluation.batch_size


def analyse(
    experiment: Experiment,
    data: PreparedDataset,
    method: str,
    seed: int,
    runs_root: Path = Path("runs"),
    results_root: Path = Path("results"),
) -> dict[str, Any]:
    """Analyse a run and publish what it shows.

    A residual network gets every section; an ensemble of weak learners has margins, and the direction of its steps if
    it adds up outputs (gradient boosting), not votes.

    Returns:
        What analysis.json holds.

    Raises:
        ResultsError: the run is missing, damaged, was made from other data, or kept no model.
    """
    folder = run_folder(runs_root, experiment.dataset, method, seed)
    description = read_run_on(data, folder, method, seed)
    data = data_of_method(data, method, binary_pair(description, folder / "run.json"))
    device = choose_device(experiment.runtime)
    layout = torch.channels_last if experiment.runtime.fast else torch.contiguous_format
    model = load_model(folder).to(device).to(memory_format=layout).requires_grad_(False)
    params = experiment.analysis
    whole = {name: to_device_split(data, name, device) for name in SPLITS}
    sizes = {"train": params.probe_samples, "validation": params.test_samples, "test": params.test_samples}
    sample = {name: subset(split, sizes[name]) for name, split in whole.items()}
    subject = _Subject(experiment, data, folder, seed, whole, sample)
    tables: dict[str, Rows] = {name: [] for name in TABLES}
    summary = _identity(description) | {
        "settings": {
            "train_images": len(sample["train"]),
            "validation_images": len(sample["validation"]),
            "test_images": len(sample["test"]),
            "random_images": len(subset(sample["test"], params.random_samples)),
            "random_draws": params.random_draws,
            "bootstrap": params.bootstrap,
        }
    }
    hypotheses = None
    if method in BOOSTED:
        hypotheses = load_hypotheses(folder, data.image_shape, device, fast=experiment.runtime.fast)
    summary["theory"], outputs = _theory(subject, hypotheses, tables)
    fast = model
    if experiment.runtime.fast:  # thousands of forward passes
        fast = cast(ResNet | Ensemble, fold_batch_norms(model))
    summary["margins"] = _margins(subject, fast, outputs, tables)
    if isinstance(model, ResNet) and isinstance(fast, ResNet):
        summary["complexity"] = _complexity(subject, model)
        summary |= _network_sections(subject, fast, outputs, tables)
    if isinstance(fast, ResNet) or not fast.vote:
        summary["alignment"] = _alignment(subject, fast, tables)
    if method == "e2e":  # the other methods' networks start as this one does
        summary["untrained"] = _untrained(subject)
    if summary["theory"] is not None:
        check_train_error(folder, method, summary["theory"]["final"]["train_error"])
    check_finite(folder, summary)
    target = run_folder(results_root, experiment.dataset, method, seed)
    # The summary comes last, as a sign of completeness; that of an earlier analysis goes first.
    (target / "analysis.json").unlink(missing_ok=True)
    for name in ("analysis", "analysis.json"):
        remove_leftovers(target / name)
    with atomic_folder(target / "analysis") as temporary:
        for name, columns in TABLES.items():
            write_csv(temporary / f"{name}.csv", columns, tables[name])
    write_json(target / "analysis.json", summary)
    return summary


def _identity(description: dict[str, Any]) -> dict[str, Any]:
    keys = ("dataset", "method", "seed", "reading", "budget", "blocks")
    return {
        "schema": SCHEMA,
        **{key: description[key] for key in keys},
        "official_data": description["data"]["official"],
        "model_sha256": description["sha256"][WEIGHTS],
    }


def _theory(
    subject: _Subject, hypotheses: Hypotheses | None, tables: dict[str, Rows]
) -> tuple[dict[str, Any] | None, dict[str, list[Tensor]]]:
    """Section "theory", and o_1, o_2, ... on every split; nothing of either for methods without hypothesis modules."""
    if hypotheses is None:
        return None, {}
    outputs = {name: hypotheses.split_outputs(split, subject.batch_size) for name, split in subject.whole.items()}
    rows = weak_learning.weak_learning_rows(
        outputs["train"],
        hypotheses.alphas,
        hypotheses.network.names,
        subject.whole["train"].labels,
        initial_edge=read_description(subject.folder)["config"]["boostresnet"]["initial_edge"],
        resamples=subject.experiment.analysis.bootstrap,
        rng=draws(subject.seed, "bootstrap"),
    )
    tables["theory"] = rows
    nonvacuous = [row["block"] for row in rows if row["bound_product"] < 1]
    section = {
        "rounds": len(rows),
        "positive_gain_blocks": sum(row["gain_positive"] for row in rows),
        "nonpositive_covariance_blocks": sum(row["covariance_nonpositive"] for row in rows),
        "condition_blocks": sum(row["gain_positive"] and row["covariance_nonpositive"] for row in rows),
        "surely_positive_gain_blocks": sum(row["gamma_low"] > 0 for row in rows),
        "surely_nonpositive_gain_blocks": sum(row["gamma_high"] <= 0 for row in rows),
        "surely_positive_covariance_blocks": sum(row["covariance_low"] > ROUNDING for row in rows),
        "nonpositive_proof_covariance_blocks": sum(row["proof_covariance_nonpositive"] for row in rows),
        "surely_positive_proof_covariance_blocks": sum(row["proof_covariance_low"] > ROUNDING for row in rows),
        "bound_holds_blocks": sum(row["bound_holds"] for row in rows),
        "smallest_slack": min(row["bound_product"] - row["train_error"] for row in rows),
        "first_nonvacuous_block": nonvacuous[0] if nonvacuous else None,
        "final": {
            key: rows[-1][key]
            for key in (
                "train_error", "exponential_loss", "bound_product", "bound_telescoped", "bound_exponential", "edge",
            )
        },
    }  # fmt: skip
    return section, outputs


def _margins(
    subject: _Subject, model: ResNet | Ensemble, outputs: dict[str, list[Tensor]], tables: dict[str, Rows]
) -> dict[str, Any]:
    """Section "margins", of the final classifier; the table has every hypothesis module as well."""
    section: dict[str, Any] = {}
    for name in ("train", "test"):
        split = subject.whole[name]
        # BoostResNet's last hypothesis module is its network (Lemma 3.2).
        modules = outputs.get(name) or [_normalised_outputs(model, split, subject.batch_size)]
        last = (len(model.rounds) if isinstance(model, ResNet) else len(model.learners)) - 1
        for block, output in enumerate(modules, start=last - len(modules) + 1):
            values = margins.margins(output, split.labels)
            tables["margins"] += [
                {"split": name, "block": block, "module": _module_name(model, block), "margin": margin,
                 "cumulative": fraction}
                for margin, fraction in zip(margins.GRID, margins.cumulative(values), strict=True)
            ]  # fmt: skip
        section[name] = margins.summarise(values)
    return section


def _module_name(model: ResNet | Ensemble, block: int) -> str:
    return model.names[block] if isinstance(model, ResNet) else f"learner{block + 1}"


@torch.no_grad()
def _normalised_outputs(model: ResNet | Ensemble, split: DeviceSplit, batch_size: int) -> Tensor:
    """Outputs (N, C) whose margins lie in [-1, 1]: shares of a vote, or class probabilities."""
    outputs = torch.cat([model(images) for images, _ in batches(split, batch_size)]).double()
    if isinstance(model, Ensemble) and model.vote:
        return outputs / model.weights.abs().sum().clamp_min(1e-300)
    return torch.softmax(outputs, 1)


def _network_sections(
    subject: _Subject, network: ResNet, outputs: dict[str, list[Tensor]], tables: dict[str, Rows]
) -> dict[str, Any]:
    params, test = subject.experiment.analysis, subject.sample["test"]
    lesions = lesion.Lesions(network, test, subject.batch_size)
    singles = lesion.delete_each(lesions)
    tables["deletions"] = [attrs.asdict(single) for single in singles]
    # Hundreds of random draws are averaged: each needs fewer images than a block that is deleted once.
    fewer = lesion.Lesions(network, subset(test, params.random_samples), subject.batch_size)
    tables["lesions"] = lesion.delete_several(fewer, params.random_draws, draws(subject.seed, "deletions"))
    tables["swaps"] = lesion.swap_several(fewer, params.random_draws, draws(subject.seed, "swaps"))
    images, labels = next(batches(subset(test, _PATH_IMAGES), _PATH_IMAGES))
    gradients = paths.PathGradients(network, images, labels)
    tables["paths"] = paths.gradient_by_length(gradients, params.random_draws, draws(subject.seed, "paths"))
    tables["modules"] = _module_rows(subject, network, outputs)
    return {
        "modules": probes.trend(tables["modules"]),
        "lesions": _lesion_summary(lesions.error(), singles, tables["lesions"], fewer.error()),
        "swaps": _swap_summary(tables["swaps"]),
        "paths": _path_summary(tables["paths"]),
    }


def _alignment(subject: _Subject, model: ResNet | Ensemble, tables: dict[str, Rows]) -> dict[str, Any]:
    """Section "alignment": the steps of blocks, or of weak learners, beside the negative gradient."""
    images, labels = _step_images(subject)
    rng = draws(subject.seed, "labels")
    if isinstance(model, ResNet):
        rows = steps.step_alignment(model, images, labels, rng)
    else:
        rows = steps.learner_alignment(model, images, labels, rng)
    tables["alignment"] = rows
    return steps.summarise(rows)


def _untrained(subject: _Subject) -> dict[str, Any]:
    """Section "untrained": the network from which the run started, on the same images and by the same draws."""
    description, shape = read_description(subject.folder)["model"], subject.data.image_shape
    model = ModelParams(description["reading"], description["blocks"], description["width"])
    classes, sample = subject.data.num_classes, subject.sample
    network = initial_network(model, shape, classes, subject.seed, sample["train"], subject.batch_size)
    images, labels = _step_images(subject)
    return untrained_section(network, sample, images, labels, draws(subject.seed, "labels"), subject.batch_size)


def _step_images(subject: _Subject) -> tuple[Tensor, Tensor]:
    return next(batches(subset(subject.sample["test"], _STEP_IMAGES), _STEP_IMAGES))


def _module_rows(subject: _Subject, network: ResNet, outputs: dict[str, list[Tensor]]) -> Rows:
    """A probe on every module, and beside it, where there is one, the accuracy of its hypothesis module."""
    rows = probes.probe_modules(network, subject.sample, subject.data.num_classes, subject.batch_size)
    for name, modules in outputs.items():
        labels = subject.whole[name].labels
        for row, output in zip(rows, modules, strict=True):
            row[f"{name}_accuracy"] = float((output.argmax(1) == labels).double().mean())
    return rows


def _complexity(subject: _Subject, network: ResNet) -> dict[str, Any]:
    train = subject.whole["train"]
    largest = max(float(images.abs().max()) for images, _ in batches(train, subject.batch_size))
    return margins.l1_complexity(network, largest, math.prod(subject.data.image_shape), len(train))


def _lesion_summary(
    error: float, singles: Sequence[lesion.SingleDeletion], rows: Rows, random_error: float
) -> dict[str, Any]:
    """`error` of the whole network on the images behind `singles`, `random_error` on those behind `rows`."""
    increases = [single.error - error for single in singles]
    within = [increase for single, increase in zip(singles, increases, strict=True) if not single.transition]
    means = _means(rows, "deleted", "error")
    half = min(means, key=lambda count: abs(count - len(singles) / 2))
    return {
        "error": error,
        "single_mean_increase": statistics.fmean(increases),
        "single_median_increase": statistics.median(increases),
        "single_max_increase": max(increases),
        "single_max_module": singles[increases.index(max(increases))].module,
        "within_stages_mean_increase": statistics.fmean(within) if within else None,
        "random_error": random_error,
        "half_deleted": half,
        "half_deleted_error": means[half],
        "kendall_tau": rank_correlation(list(means), list(means.values())),
    }


def _swap_summary(rows: Rows) -> dict[str, Any] | None:
    if not rows:
        return None
    means = _means(rows, "swaps", "error")
    return {
        "tau_error_correlation": rank_correlation([row["kendall_tau"] for row in rows], [row["error"] for row in rows]),
        "one_swap_error": means[min(means)],
        "most_swaps": max(means),
        "most_swaps_error": means[max(means)],
    }


def _path_summary(rows: Rows) -> dict[str, Any]:
    """Mean length of a path weighted by the gradient it carries, beside n / 2 were all alike."""
    n = len(rows) - 1
    mean = sum(row["length"] * row["share"] for row in rows)
    short = sum(row["share"] for row in rows if row["length"] < n / 2)
    return {"blocks": n, "mean_length": _finite(mean), "shorter_than_half_share": _finite(short)}


def _means(rows: Rows, key: str, value: str) -> dict[int, float]:
    """Mean of `value` for each value of `key`, ascending."""
    keys = sorted({row[key] for row in rows})
    return {wanted: statistics.fmean(row[value] for row in rows if row[key] == wanted) for wanted in keys}


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
