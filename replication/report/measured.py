"""The article's numbers that come from analyses, the cost measurement and the depth experiment."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from replication.report.analyses import Analysis
from replication.report.costs import Cost, linear_fit
from replication.report.depth import DepthRun
from replication.report.formats import Estimate, counts, duration, fixed, points_text, quantity, signed, significant
from replication.report.intervals import student_interval
from replication.report.labels import BINARY, NETWORKS
from replication.report.results import DatasetResults

Numbers = dict[str, str]
_SPACE = "\N{NO-BREAK SPACE}"
_NEXT_TO_NOTHING = 1e-4
_NEARLY_ALL = 0.99
_CHANCE = 0.55  # two classes of about equal size: what guessing reaches, with some room

# Names under METHOD/ and in analysis.json: whole numbers, shown as one or as a range over seeds ...
_COUNTS = {
    "theory/positive_gain": "theory.positive_gain_blocks",
    "theory/surely_positive_gain": "theory.surely_positive_gain_blocks",
    "theory/surely_nonpositive_gain": "theory.surely_nonpositive_gain_blocks",
    "theory/surely_positive_covariance": "theory.surely_positive_covariance_blocks",
    "theory/nonpositive_proof_covariance": "theory.nonpositive_proof_covariance_blocks",
    "theory/surely_positive_proof_covariance": "theory.surely_positive_proof_covariance_blocks",
    "theory/condition": "theory.condition_blocks",
    "lesions/half": "lesions.half_deleted",
    "paths/blocks": "paths.blocks",
    "analysis/test_images": "settings.test_images",
    "analysis/random_images": "settings.random_images",
    "analysis/random_draws": "settings.random_draws",
}
# ... fractions, as mean and deviation in per cent ...
_FRACTIONS = {
    "modules/first": "modules.probe_test_first",
    "modules/last": "modules.probe_test_last",
    "untrained/first": "untrained.modules.probe_test_first",
    "untrained/last": "untrained.modules.probe_test_last",
    "lesions/error": "lesions.error",
    "lesions/half_error": "lesions.half_deleted_error",
    "swaps/one": "swaps.one_swap_error",
    "paths/short": "paths.shorter_than_half_share",
}
# ... differences of fractions, in points ...
_INCREASES = {
    "lesions/single_mean": "lesions.single_mean_increase",
    "lesions/single_median": "lesions.single_median_increase",
    "lesions/single_max": "lesions.single_max_increase",
}
# ... and other numbers, as mean and deviation.
_VALUES = {
    "theory/exponential_loss": "theory.final.exponential_loss",
    "theory/bound_exponential": "theory.final.bound_exponential",
    "margins/train_tenth": "margins.train.tenth_percentile",
    "complexity/log10_bound": "complexity.log10_bound",
    "modules/tau": "modules.probe_test_kendall_tau",
    "swaps/tau_error": "swaps.tau_error_correlation",
    "paths/length": "paths.mean_length",
    "alignment/mean": "alignment.mean",
    "alignment/control": "alignment.control_mean",
    "untrained/tau": "untrained.modules.probe_test_kendall_tau",
    "untrained/alignment": "untrained.alignment.mean",
}


def analysis_numbers(analyses: dict[str, tuple[Analysis, ...]]) -> Numbers:
    """`METHOD/SECTION/NAME` for every analysed method; what a method does not have is left out."""
    values: Numbers = {}
    for method, found in analyses.items():
        values[f"{method}/analysed"] = quantity(len(found), "seed")
        for fields, text in _TEXTS:
            for name, field in fields.items():
                numbers = _all(found, field)
                if numbers:
                    values[f"{method}/{name}"] = text(numbers)
        above = [
            mean - control
            for one in found
            if (mean := one.number("alignment.mean")) is not None
            and (control := one.number("alignment.control_mean")) is not None
        ]
        if above:
            values[f"{method}/alignment/over_control"] = _with_interval(above)
        vacuous = [one.number("complexity.vacuous") for one in found if one.number("complexity.vacuous") is not None]
        if vacuous:
            values[f"{method}/complexity/vacuous"] = f"{sum(map(bool, vacuous))} of {len(vacuous)}"
        if worst := [error for one in found if (error := _worst_exchanges(one)) is not None]:
            values[f"{method}/swaps/worst"] = _percent(Estimate.of(worst))
        modules = [_largest_loss(one) for one in found]
        named = [module for module in modules if module]
        if named:
            values[f"{method}/lesions/single_max_module"] = ", ".join(dict.fromkeys(named))
    return values | _independence(analyses)


def _worst_exchanges(analysis: Analysis) -> float | None:
    """Mean test error after as many exchanges of blocks as cost most: the most that were tried may be harmless, where
    there is one pair alone to exchange, and to exchange back.
    """
    swaps, errors = analysis.column("swaps", "swaps"), analysis.column("swaps", "error")
    return max((float(errors[swaps == number].mean()) for number in np.unique(swaps)), default=None)


def _independence(analyses: dict[str, tuple[Analysis, ...]]) -> Numbers:
    """How much more the deletion of one block costs in other networks than end to end, paired by seed."""
    values: Numbers = {}
    reference = {one.seed: one.number("lesions.single_mean_increase") for one in analyses.get("e2e", ())}
    for method in NETWORKS:
        pairs = [
            (own, other)
            for one in analyses.get(method, ())
            if (own := one.number("lesions.single_mean_increase")) is not None
            and (other := reference.get(one.seed)) is not None
        ]
        if pairs and method != "e2e":
            gap = Estimate.of([own - other for own, other in pairs])
            values[f"{method}/lesions/against_e2e"] = _percent(gap, unit="points", difference=True)
    return values


def rounds_numbers(results: DatasetResults) -> Numbers:
    """What the first round's gamma would be with the released code's initial edge; where BoostResNet would have ended
    by Algorithm 1, which goes on while gamma is positive; AdaBoost.MM's edges; binary runs no better than guessing.
    """
    values: Numbers = {}
    runs = results.of("boostresnet")
    if runs:
        edges = [run.rounds[0].edge for run in runs]
        values["boostresnet/first_gamma"] = spread([run.rounds[0].gamma for run in runs])
        gains = [(edge**2 - 0.25) / 0.75 for edge in edges]
        values["boostresnet/first_gamma_half"] = spread([math.copysign(math.sqrt(abs(gain)), gain) for gain in gains])
    failures = [next((entry for entry in run.rounds if entry.gamma <= 0), None) for run in runs]
    failed = [entry for entry in failures if entry is not None and entry.test_accuracy is not None]
    if failed:
        values["boostresnet/first_failure/round"] = counts([entry.block for entry in failed], "")
        values["boostresnet/first_failure/seeds"] = f"{len(failed)} of {quantity(len(runs), 'seed')}"
        accuracies = [entry.test_accuracy for entry in failed if entry.test_accuracy is not None]
        values["boostresnet/first_failure/test"] = points_text(Estimate.of(accuracies)) or ""
    binary = results.of(BINARY)
    if binary:
        guessing = sum(run.metrics.train_accuracy < _CHANCE for run in binary)
        if guessing:
            values[f"{BINARY}/guessing"] = f"{guessing} of {quantity(len(binary), 'seed')}"
    voted = [run for run in results.of("adaboost-mm") if run.metrics.smallest_edge is not None]
    if voted:
        values["adaboost-mm/smallest_edge"] = spread([run.metrics.smallest_edge or 0.0 for run in voted])
        values["adaboost-mm/bound"] = spread([run.metrics.bound for run in voted if run.metrics.bound is not None])
    for method, found in results.runs.items():
        values[f"{method}/hours"] = duration(sum(run.info.wall_seconds for run in found), "").replace(" ", _SPACE)
    return values


def cost_numbers(cost: Cost | None) -> Numbers:
    """`cost/NAME`: machine, milliseconds, memory, ratios, fitted promise and the split of a whole run."""
    if cost is None:
        return {}
    blocks, rounds = cost.blocks, len(cost.blocks)
    cached = statistics.fmean(block.cached.median for block in blocks)
    augmented = statistics.fmean(block.augmented.median for block in blocks)
    values = {
        "cost/machine": cost.machine,
        "cost/rounds": str(rounds),
        "cost/reading": cost.reading,
        "cost/batch_size": str(cost.batch_size),
        "cost/repetitions": str(cost.repetitions),
        "cost/e2e_ms": _unit(cost.end_to_end.median, "ms"),
        "cost/plain_e2e_ms": _unit(cost.plain_end_to_end.median, "ms"),
        "cost/cached_ms": _unit(cached, "ms"),
        "cost/augmented_ms": _unit(augmented, "ms"),
        "cost/as_released_ms": _unit(statistics.fmean(block.as_released.median for block in blocks), "ms"),
        "cost/adaboost_mm_ms": _unit(cost.adaboost_mm.median, "ms"),
        "cost/e2e_memory": _mebibytes(cost.end_to_end_memory),
        "cost/streaming_memory": _mebibytes(max(block.streaming_memory for block in blocks)),
        "cost/as_released_memory": _mebibytes(max(block.as_released_memory for block in blocks)),
        "cost/adaboost_mm_memory": _mebibytes(cost.adaboost_mm_memory),
        "cost/matrix_gflops": significant(cost.matrix_gflops, ""),
        "cost/e2e_share": _share(cost.peak_shares["end_to_end"].matrix),
        "cost/batches": {"cached": "stored prefix outputs", "augmented": "exact augmentation"}.get(
            cost.batches, cost.batches
        ),
    }
    for name, share in cost.peak_shares.items():
        values |= {f"cost/peak/{name}/matrix": _share(share.matrix), f"cost/peak/{name}/copy": _share(share.copy)}
    if cost.paper_text_rounds is not None:
        values["cost/paper_text/rounds"] = str(cost.paper_text_rounds)
    stored = [block.stored_features for block in blocks if block.stored_features is not None]
    if stored:
        values["cost/stored_memory"] = _mebibytes(max(stored))
        values["cost/stored_saves_ms"] = _unit(augmented - cached, "ms")
    values |= {f"cost/ratio/{name}": significant(ratio, "") for name, ratio in cost.ratios.items()}
    for name, field in (("time", "boostresnet_cached_vs_e2e"), ("memory", "peak_memory_e2e_vs_boostresnet")):
        if field in cost.ratios:
            values[f"cost/{name}_over_rounds"] = fixed(cost.ratios[field] / rounds, "", 2)
    total = sum(cost.seconds.values())
    for name, seconds in cost.seconds.items():
        values[f"cost/share/{name}"] = _share(seconds / total) if total else ""
    values["cost/run"] = duration(total, "").replace(" ", _SPACE)
    return values | _promise(cost)


def _promise(cost: Cost) -> Numbers:
    """C1 T + C2 and M1 T + M2 fitted to end-to-end training, and C1 + C2 and M1 + M2 beside what was measured."""
    if len(cost.depths) < 2:
        return {}
    rounds = [float(depth.rounds) for depth in cost.depths]
    c1, c2 = linear_fit(rounds, [depth.end_to_end.median for depth in cost.depths])
    m1, m2 = linear_fit(rounds, [float(depth.end_to_end_memory) for depth in cost.depths])
    cached = [depth.cached.median for depth in cost.depths]
    memory = [float(depth.cached_memory) for depth in cost.depths]
    return {
        "cost/depths": ", ".join(str(depth.rounds) for depth in cost.depths),
        "cost/C1": _unit(c1, "ms"),
        "cost/C2": _unit(c2, "ms"),
        "cost/promised_ms": _unit(c1 + c2, "ms"),
        "cost/measured_ms": _unit(statistics.fmean(cached), "ms"),
        "cost/promised_memory": _mebibytes(m1 + m2),
        "cost/measured_memory": _mebibytes(statistics.fmean(memory)),
    }


def depth_numbers(runs: Sequence[DepthRun]) -> Numbers:
    """`depth/METHOD/SPLIT/first|last`: accuracy of the shallowest and the deepest network."""
    values: Numbers = {}
    for method in sorted({run.method for run in runs}):
        own = [run for run in runs if run.method == method]
        ends = {"first": min(run.depth for run in own), "last": max(run.depth for run in own)}
        for name, depth in ends.items():
            chosen = [run for run in own if run.depth == depth]
            values[f"depth/{method}/{name}"] = str(depth)
            values[f"depth/{method}/train/{name}"] = _percent(Estimate.of([run.train_accuracy for run in chosen]))
            values[f"depth/{method}/test/{name}"] = _percent(Estimate.of([run.test_accuracy for run in chosen]))
    return values


def spread(values: Sequence[float]) -> str:
    """'0.912 ± 0.004', or one number for one seed: as many digits in both as the larger has to three figures."""
    estimate = Estimate.of(values)
    if estimate is None:
        return ""
    larger = max(abs(estimate.mean), estimate.std or 0.0)
    if estimate.std is None or not math.isfinite(larger) or not 1e-3 <= larger < 1e4:
        return significant(estimate.mean, "")
    decimals = max(0, 2 - math.floor(math.log10(larger)))
    return f"{fixed(estimate.mean, '', decimals)} ± {fixed(estimate.std, '', decimals)}"


def _with_interval(values: Sequence[float]) -> str:
    """Mean with Student's 95 % interval: '0.093 [0.081, 0.105]'; without one for one seed."""
    mean, interval = statistics.fmean(values), student_interval(values)
    ends = "" if interval is None else f" [{fixed(interval[0], '', 3)}, {fixed(interval[1], '', 3)}]"
    return fixed(mean, "", 3) + ends


_TEXTS: tuple[tuple[dict[str, str], Callable[[list[float]], str]], ...] = (
    (_COUNTS, lambda numbers: counts([round(number) for number in numbers], "")),
    (_FRACTIONS, lambda numbers: _percent(Estimate.of(numbers))),
    (_INCREASES, lambda numbers: _percent(Estimate.of(numbers), unit="points")),
    (_VALUES, spread),
)


def _all(found: Iterable[Analysis], field: str) -> list[float]:
    """The number from every analysis that has it."""
    return [value for one in found if (value := one.number(field)) is not None]


def _largest_loss(analysis: Analysis) -> str | None:
    section = analysis.summary.values.get("lesions")
    module = section.get("single_max_module") if isinstance(section, dict) else None
    return module if isinstance(module, str) else None


def _percent(estimate: Estimate | None, unit: str = "%", *, difference: bool = False) -> str:
    if estimate is None:
        return ""
    mean = signed(100 * estimate.mean) if difference else fixed(100 * estimate.mean, "", 2)
    deviation = "" if estimate.std is None else f" ± {100 * estimate.std:.2f}"
    return f"{mean}{deviation}{_SPACE}{unit}"


def _unit(value: float, unit: str) -> str:
    return f"{significant(value, '')}{_SPACE}{unit}"


def _mebibytes(value: float) -> str:
    return _unit(value / 2**20, "MiB")


def _share(value: float) -> str:
    """Two significant figures, three near the whole, so that nothing is '100 %' while others have a share."""
    if 0 < value < _NEXT_TO_NOTHING:
        return f"under {100 * _NEXT_TO_NOTHING:g}{_SPACE}%"
    text = significant(100 * value, "", 3 if value >= _NEARLY_ALL else 2)
    return f"{'over 99.9' if value < 1 and float(text) == 100 else text}{_SPACE}%"
