"""The measured cost of updates (cost.json) and what it was to reach."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np

from replication.errors import ResultsError
from replication.report.fields import Fields, read_object
from replication.report.formats import quantity
from replication.report.labels import NOT_MEASURED

SCHEMA = 2
#: The dataset that the targets of speed and memory were set for.
TARGETS_OF = "cifar10"


@attrs.frozen
class Spread:
    """Milliseconds: median and range over repetitions."""

    median: float
    low: float
    high: float


@attrs.frozen
class BlockCost:
    """One update of one block in every way, end-to-end updates timed beside it, and bytes.

    Attributes:
        stored_features: bytes that the block's inputs take for the whole training split; None where none are stored.
        cached_flops: floating-point operations of an update, None where not counted; `augmented_flops` likewise.
        check_flops_per_image: of a forward pass through the block and its classifier; `advance_flops_per_image` of one
            through the block alone.
    """

    block: int
    module: str
    cached: Spread
    augmented: Spread
    as_released: Spread
    end_to_end: Spread
    plain_end_to_end: Spread
    streaming_memory: int
    as_released_memory: int
    stored_features: int | None
    cached_flops: int | None
    augmented_flops: int | None
    check_flops_per_image: int | None
    advance_flops_per_image: int | None


@attrs.frozen
class DepthCost:
    """A network of so many rounds: a stored-prefix update of its second module beside an end-to-end update."""

    rounds: int
    cached: Spread
    end_to_end: Spread
    cached_memory: int
    end_to_end_memory: int


@attrs.frozen
class Share:
    """Fractions of what the machine reaches in a large matrix product, and in a large copy."""

    matrix: float
    copy: float


@attrs.frozen
class Cost:
    """One dataset's measurement.

    Attributes:
        end_to_end: mean and range of the medians beside each block; `plain_end_to_end` likewise.
        precision: of forward passes in updates, float32 or bfloat16.
        peak_shares: by "cached", "augmented" and "end_to_end".
    """

    dataset: str
    official: bool
    reading: str
    auxiliary: str
    batch_size: int
    precision: str
    repetitions: int
    device: str
    hardware: dict[str, str]
    end_to_end: Spread
    plain_end_to_end: Spread
    end_to_end_memory: int
    end_to_end_flops: int | None
    paper_text_rounds: int | None
    adaboost_mm: Spread
    adaboost_mm_memory: int
    matrix_gflops: float
    peak_shares: dict[str, Share]
    blocks: tuple[BlockCost, ...]
    depths: tuple[DepthCost, ...]
    batches: str
    seconds: dict[str, float]
    ratios: dict[str, float]

    @property
    def machine(self) -> str:
        """The processor that did the work, and in which precision."""
        parts = [self.hardware.get("gpu") or self.hardware.get("cpu", "unknown processor")]
        if not self.hardware.get("gpu") and (threads := self.hardware.get("threads")):
            parts.append(quantity(threads, "thread"))
        return ", ".join([*parts, self.precision])


def load_cost(dataset: str, results_root: Path = Path("results")) -> Cost | None:
    """The measurement of one dataset, None where there is none.

    Raises:
        ResultsError: cost.json is damaged.
    """
    path = results_root / dataset / "cost.json"
    if not path.is_file():
        return None
    try:
        fields = read_object(path)
        fields.expect("schema", SCHEMA)
        fields.expect("dataset", dataset)
        return _cost(fields)
    except ResultsError as error:
        raise ResultsError(f"{error}; measure it again: python -m replication cost {dataset}") from None


def linear_fit(x: list[float], y: list[float]) -> tuple[float, float]:
    """Slope and intercept of the least-squares line, neither below zero: a cost in time or memory cannot be."""
    from scipy import optimize

    (slope, intercept), _ = optimize.nnls(np.column_stack([x, np.ones(len(x))]), np.array(y, dtype=float))
    return float(slope), float(intercept)


@attrs.frozen
class Target:
    """A line of the table of targets; `reached` is None where it was not measured, `met` too."""

    quantity: str
    target: str
    reached: str
    met: bool | None


def targets(cost: Cost | None) -> list[Target]:
    """What was to be reached on 2 CPU cores with the `released` network at batch 100, beside what was measured.

    The numbers are the aims this replication set itself; other networks and devices have other ratios.
    """
    rows = [
        _ratio(cost, "stored prefix against a plain end-to-end update", "boostresnet_cached_vs_plain_e2e", 20),
        _ratio(cost, "stored prefix against our end-to-end update", "boostresnet_cached_vs_e2e", 14),
        _ratio(cost, "exact augmentation against a plain end-to-end update", "boostresnet_augmented_vs_plain_e2e", 6.5),
        _ratio(cost, "exact augmentation against our end-to-end update", "boostresnet_augmented_vs_e2e", 4.5),
        _ratio(cost, "stored prefix against the released code's way", "boostresnet_cached_vs_as_released", 13),
    ]
    rows += [
        _ratio(cost, "paper-text reading, linear classifier, against end to end", "paper_text_cached_vs_e2e", 18),
        _ratio(cost, "end to end against a DataLoader loop, images per second", "e2e_vs_dataloader_loop", 1.3),
        _ratio(
            cost,
            "memory of one update, stored outputs left out, end to end against BoostResNet",
            "peak_memory_e2e_vs_boostresnet",
            8,
        ),
        _ratio(cost, "stored-prefix update at T = 49 against T = 9", "update_time_T49_vs_T9_cached", 1.1, at_most=True),
        _ratio(
            cost,
            "checks, evaluation, logging, checkpoints: share of a run of full length, computed",
            "logging_share",
            0.08,
            at_most=True,
            percent=True,
        ),
    ]
    return rows + _gpu_targets(cost)


def _gpu_targets(cost: Cost | None) -> list[Target]:
    cuda = cost if cost is not None and cost.device.startswith("cuda") else None
    cached = None if cuda is None else float(np.mean([block.cached.median for block in cuda.blocks]))
    total = None if cuda is None else sum(cuda.seconds.values()) / 60
    return [
        _limit("GPU: end-to-end update", None if cuda is None else cuda.end_to_end.median, 1.5, "ms"),
        _limit("GPU: stored-prefix update, mean over blocks", cached, 0.2, "ms"),
        _limit("GPU: a whole run of full length", total, 3, "min"),
    ]


def _ratio(
    cost: Cost | None, quantity: str, name: str, target: float, *, at_most: bool = False, percent: bool = False
) -> Target:
    value = None if cost is None else cost.ratios.get(name)
    scale, unit = (100, " %") if percent else (1, " times")
    wanted = f"at {'most' if at_most else 'least'} {target * scale:g}{unit}"
    if value is None:
        return Target(quantity, wanted, NOT_MEASURED, None)
    return Target(quantity, wanted, f"{value * scale:.3g}{unit}", value <= target if at_most else value >= target)


def _limit(quantity: str, value: float | None, target: float, unit: str) -> Target:
    wanted = f"at most {target:g} {unit}"
    if value is None:
        return Target(quantity, wanted, NOT_MEASURED, None)
    return Target(quantity, wanted, f"{value:.3g} {unit}", value <= target)


def _cost(fields: Fields) -> Cost:
    end_to_end, machine = fields.section("end_to_end"), fields.section("machine")
    run, adaboost_mm = fields.section("whole_run"), fields.section("adaboost_mm")
    hardware = fields.section("hardware").as_text()
    paper_text = fields.optional(fields.section, "paper_text")
    blocks = tuple(map(_block, _sections(fields, "blocks")))
    if not blocks:
        raise ResultsError(f"{fields.where}: blocks is empty")
    return Cost(
        dataset=fields.text("dataset"),
        official=fields.boolean("official_data"),
        reading=fields.text("reading"),
        auxiliary=fields.text("auxiliary"),
        batch_size=fields.integer("batch_size"),
        precision="bfloat16" if fields.section("runtime").text("precision") == "bfloat16" else "float32",  # auto
        repetitions=fields.integer("repetitions"),
        device=hardware.get("device", "cpu"),
        hardware=hardware,
        end_to_end=_over([block.end_to_end for block in blocks]),
        plain_end_to_end=_over([block.plain_end_to_end for block in blocks]),
        end_to_end_memory=end_to_end.section("memory").integer("total"),
        end_to_end_flops=end_to_end.optional(end_to_end.integer, "flops"),
        paper_text_rounds=None if paper_text is None else paper_text.integer("rounds"),
        adaboost_mm=_spread(adaboost_mm, "update_ms"),
        adaboost_mm_memory=adaboost_mm.section("memory").integer("total"),
        matrix_gflops=machine.number("matrix_gflops"),
        peak_shares=_shares(fields.section("peak_shares")),
        blocks=blocks,
        depths=tuple(map(_depth, _sections(fields, "depth"))),
        batches=run.text("batches"),
        seconds=_numbers(run.section("seconds")),
        ratios=_numbers(fields.section("ratios")),
    )


def _block(fields: Fields) -> BlockCost:
    stored = fields.section("stored_features")
    return BlockCost(
        block=fields.integer("block"),
        module=fields.text("module"),
        cached=_spread(fields, "cached_ms"),
        augmented=_spread(fields, "augmented_ms"),
        as_released=_spread(fields, "as_released_ms"),
        end_to_end=_spread(fields, "end_to_end_ms"),
        plain_end_to_end=_spread(fields, "plain_end_to_end_ms"),
        streaming_memory=fields.section("streaming_memory").integer("total"),
        as_released_memory=fields.section("as_released_memory").integer("total"),
        stored_features=stored.optional(stored.integer, "bytes"),
        cached_flops=fields.optional(fields.integer, "cached_flops"),
        augmented_flops=fields.optional(fields.integer, "augmented_flops"),
        check_flops_per_image=fields.optional(fields.integer, "check_flops_per_image"),
        advance_flops_per_image=fields.optional(fields.integer, "advance_flops_per_image"),
    )


def _depth(fields: Fields) -> DepthCost:
    return DepthCost(
        rounds=fields.integer("rounds"),
        cached=_spread(fields, "cached_ms"),
        end_to_end=_spread(fields, "end_to_end_ms"),
        cached_memory=fields.section("cached_memory").integer("total"),
        end_to_end_memory=fields.section("end_to_end_memory").integer("total"),
    )


def _spread(fields: Fields, name: str) -> Spread:
    section = fields.section(name)
    return Spread(section.number("median"), section.number("low"), section.number("high"))


def _over(spreads: list[Spread]) -> Spread:
    """Mean and range of medians."""
    medians = [spread.median for spread in spreads]
    return Spread(float(np.mean(medians)), min(medians), max(medians))


def _shares(fields: Fields) -> dict[str, Share]:
    sections = {name: fields.section(name) for name in ("cached", "augmented", "end_to_end")}
    return {name: Share(one.number("matrix"), one.number("copy")) for name, one in sections.items()}


def _sections(fields: Fields, name: str) -> list[Fields]:
    values = fields.values.get(name)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ResultsError(f"{fields.where}: {name} must be a list of sections")
    return [Fields(f"{fields.where}: {name} {number}", value) for number, value in enumerate(values, start=1)]


def _numbers(fields: Fields) -> dict[str, float]:
    return {name: fields.number(name) for name in fields.values}
