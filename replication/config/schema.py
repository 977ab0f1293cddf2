"""What params.yaml may hold: frozen objects, each field with its type and range."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import attrs

DATASETS = ("digits", "cifar10", "svhn", "mnist")
METHODS = (
    "boostresnet",
    "e2e",
    "boostresnet-refined",
    "boostresnet-binary",
    "adaboost-mm",
    "gradient-boosting",
    "hist-gradient-boosting",
)
REFINED = ("boostresnet-refined",)  # methods that start from another's run
FROM_SCRATCH = tuple(method for method in METHODS if method not in REFINED)
BOOSTED = ("boostresnet", "boostresnet-binary")  # with hypothesis modules, to which the paper's theory speaks
ANALYSED = tuple(method for method in METHODS if method != "hist-gradient-boosting")  # networks, which come apart
READINGS = ("released", "paper-text", "mlp")
ORACLE_LOSSES = ("exp_cross_entropy", "exponential")
# Sections of params.yaml that no dataset overrides; they change no number of a run.
COMMON = ("analysis", "checkpoint", "cost", "depth")
# Sections that a run may have otherwise and still be the one that params.yaml describes: `runtime` says on what machine
# and how, which may change its numbers in the last bits.
CHANGE_NO_RUN = ("runtime", *COMMON)
# But of `runtime`, these change numbers by more than rounding.
PRECISIONS = ("precision", "feature_precision")
AUXILIARIES = ("transition-blocks", "linear", "linear-flattened", "linear-anew")
PREFIX_MODES = ("evaluation", "training")
WEAK_LEARNERS = ("block", "stages")
ADABOOST_TRAININGS = ("surrogate", "resampled")
# What runs did before there was the parameter, by its dotted name: their records do without it.
ADDED_LATER = {"weak_learners.modules": "block", "weak_learners.adaboost_training": "surrogate"}
# Sections that a variant of `ablations` may change: of the method, not of data, lengths, measurement or machine.
VARIED = ("augmentation", "model", "optimizer", "boostresnet", "weak_learners", "gradient_boosting")
# Methods that can be trained under a variant: all that start from nothing, on all classes, under these sections.
ABLATED = ("boostresnet", "e2e", "adaboost-mm", "gradient-boosting")
BUDGETED = ANALYSED  # what may be run under other budgets: a stock library's fit has no length in updates
_MOST_BLOCKS = 1000
MOST_BUDGET = 100
UNCHANGED = "default"  # how the experiment as it is is called among its variants


def _one_of(*allowed: str) -> Callable[..., None]:
    def check(_instance: object, _attribute: object, value: str) -> None:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")

    return check


def _between(low: float, high: float = math.inf, *, open_low: bool = False) -> Callable[..., None]:
    sign = "above" if open_low else "at least"

    def check(_instance: object, _attribute: object, value: float | None) -> None:
        if value is None:
            return
        if not math.isfinite(value) or value > high or value < low or (open_low and value == low):
            limit = f" and at most {high:g}" if math.isfinite(high) else ""
            raise ValueError(f"must be {sign} {low:g}{limit}")

    return check


def _device(_instance: object, _attribute: object, value: str) -> None:
    if value not in ("auto", "cpu", "cuda") and not re.fullmatch("cuda:[0-9]{1,3}", value):
        raise ValueError("must be auto, cpu, cuda or cuda:N")


def _depths(_instance: object, _attribute: object, value: tuple[int, ...]) -> None:
    if len(set(value)) != len(value) or max(value) > _MOST_BLOCKS:
        raise ValueError(f"must be different whole numbers from 1 to {_MOST_BLOCKS}")


_positive = _between(0, open_low=True)
_count = _between(1, 10**9)


@attrs.frozen
class DataParams:
    allow_unofficial: bool
    validation_fraction: float = attrs.field(validator=_between(0, 0.5, open_low=True))
    split_seed: int = attrs.field(validator=_between(0, 2**32 - 1))
    include_extra: bool
    exact_test_images: int | None = attrs.field(validator=_count)


@attrs.frozen
class AugmentationParams:
    crop_padding: int = attrs.field(validator=_between(0, 64))
    flip: bool
    cached_views: int = attrs.field(validator=_between(0, 1000))

    @property
    def active(self) -> bool:
        """Whether a training image can differ from the stored one."""
        return self.crop_padding > 0 or self.flip


@attrs.frozen
class ModelParams:
    reading: str = attrs.field(validator=_one_of(*READINGS))
    # Also read from run.json, past the checks of params.yaml; hence the type.
    blocks: int = attrs.field(validator=[attrs.validators.instance_of(int), _between(1, _MOST_BLOCKS)])
    width: int = attrs.field(validator=[attrs.validators.instance_of(int), _between(1, 2**16)])


@attrs.frozen
class OptimizerParams:
    learning_rate: float = attrs.field(validator=_positive)
    gradient_clamp: float | None = attrs.field(validator=_positive)
    batch_size: int = attrs.field(validator=_count)


@attrs.frozen
class BoostResNetParams:
    oracle_loss: str = attrs.field(validator=_one_of(*ORACLE_LOSSES))
    auxiliary: str = attrs.field(validator=_one_of(*AUXILIARIES))
    updates_per_block: int = attrs.field(validator=_count)
    check_interval: int = attrs.field(validator=_count)
    gamma_threshold: float = attrs.field(validator=_between(-1, 1))
    initial_edge: float = attrs.field(validator=_between(0, 0.999))
    prefix_mode: str = attrs.field(validator=_one_of(*PREFIX_MODES))


@attrs.frozen
class BinaryParams:
    """The pair of classes of binary BoostResNet: y = -1 and y = +1."""

    negative: int = attrs.field(validator=_between(0, 10**6))
    positive: int = attrs.field(validator=_between(0, 10**6))


@attrs.frozen
class WeakLearnerParams:
    """The weak learners of the methods that boost in label space, and how AdaBoost.MM's are trained."""

    modules: str = attrs.field(validator=_one_of(*WEAK_LEARNERS))
    adaboost_training: str = attrs.field(validator=_one_of(*ADABOOST_TRAININGS))


@attrs.frozen
class GradientBoostingParams:
    shrinkage: float = attrs.field(validator=_between(0, 1, open_low=True))


@attrs.frozen
class StockLibraryParams:
    iterations: int = attrs.field(validator=_count)
    train_samples: int = attrs.field(validator=_count)


@attrs.frozen
class LengthParams:
    updates: int | None = attrs.field(validator=_count)


@attrs.frozen
class EvaluationParams:
    interval: int = attrs.field(validator=_count)
    train_samples: int = attrs.field(validator=_count)
    held_out_samples: int = attrs.field(validator=_count)
    test_curve: bool
    batch_size: int = attrs.field(validator=_count)


@attrs.frozen
class AnalysisParams:
    """How much the analysis measures; changes no run."""

    test_samples: int = attrs.field(validator=_count)
    random_samples: int = attrs.field(validator=_count)
    random_draws: int = attrs.field(validator=_between(1, 10**6))
    bootstrap: int = attrs.field(validator=_between(1, 10**6))
    probe_samples: int = attrs.field(validator=_count)


@attrs.frozen
class CostParams:
    """How time and memory are measured; changes no run."""

    repetitions: int = attrs.field(validator=_between(1, 1000))
    samples: int = attrs.field(validator=_count)
    depths: tuple[int, ...] = attrs.field(validator=_depths)


@attrs.frozen
class DepthParams:
    """Depths at which accuracy is compared; changes no other run."""

    blocks: tuple[int, ...] = attrs.field(validator=_depths)


@attrs.frozen
class CheckpointParams:
    """How often a run saves its state."""

    updates: int = attrs.field(validator=_count)
    minutes: float = attrs.field(validator=_positive)


@attrs.frozen
class RuntimeParams:
    device: str = attrs.field(validator=_device)
    threads: int = attrs.field(validator=_between(1, 1024))
    fast: bool
    precision: str = attrs.field(validator=_one_of("auto", "float32", "bfloat16"))
    compile: str = attrs.field(validator=_one_of("auto", "always", "never"))
    feature_precision: str = attrs.field(validator=_one_of("float32", "float16"))
    memory_limit_gib: float = attrs.field(validator=_between(0, 10**6))
    host_limit_gib: float = attrs.field(validator=_between(0, 10**6))
    disk_limit_gib: float = attrs.field(validator=_between(0, 10**6))


def scaled(updates: int, budget: float) -> int:
    """A length in gradient updates under a budget, at least one update."""
    return max(1, round(updates * budget))


@attrs.frozen
class Experiment:
    """Everything that determines the runs on one dataset, but for method and seed."""

    dataset: str = attrs.field(validator=_one_of(*DATASETS))
    budget: float = attrs.field(validator=_between(0, MOST_BUDGET, open_low=True))
    data: DataParams
    augmentation: AugmentationParams
    model: ModelParams
    optimizer: OptimizerParams
    boostresnet: BoostResNetParams
    binary: BinaryParams
    weak_learners: WeakLearnerParams
    gradient_boosting: GradientBoostingParams
    stock_library: StockLibraryParams
    end_to_end: LengthParams
    refinement: LengthParams
    evaluation: EvaluationParams
    analysis: AnalysisParams
    cost: CostParams
    depth: DepthParams
    checkpoint: CheckpointParams
    runtime: RuntimeParams

    def scaled(self, updates: int) -> int:
        """A length in gradient updates under the experiment's budget, at least one update."""
        return scaled(updates, self.budget)

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, for run.json and the run tracker: equal to what JSON makes of it."""
        return attrs.asdict(self, value_serializer=lambda _, __, value: list(value) if type(value) is tuple else value)

    def determining(self) -> dict[str, Any]:
        """The part of `as_dict` that determines a run's numbers bit for bit, beside method, seed, data, code and the
        kind of the device, which `runtime.device` may leave open: "auto" and "cuda:1" make no other runs than "cuda".
        """
        sections = {section: value for section, value in self.as_dict().items() if section not in COMMON}
        del sections["runtime"]["device"]
        return sections


@attrs.frozen
class Variant:
    """An experiment with one deviation, to be held against the experiment as it is, under the variant's budget.

    Attributes:
        changes: what is different, by dotted names; not the budget, which the default is given as well.
        methods: what is trained under it.
        datasets: where it is measured, if among `ablations_of`.
    """

    name: str
    changes: dict[str, Any]
    methods: tuple[str, ...]
    experiment: Experiment
    datasets: tuple[str, ...] = DATASETS

    def default(self, experiment: Experiment) -> Experiment:
        """What it is held against."""
        return attrs.evolve(experiment, budget=self.experiment.budget)


@attrs.frozen
class OtherBudget:
    """A method to be run under another budget than the experiment's own; `analysed` is whether its runs are taken apart
    as well.
    """

    budget: float
    method: str
    analysed: bool = False


@attrs.frozen
class Lists:
    """What the pipeline runs: the product of the three."""

    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
