"""Time and memory of a gradient update, block by block, against end-to-end training and the released code's way.

The paper promises (sec. 4.3) that an update of BoostResNet takes the memory and arithmetic of one module and one
linear classifier, M1 + M2 and C1 + C2, and end-to-end training M1 T + M2 and C1 T + C2. Everything compared is timed in
one process, and what is divided by each other in the same turns.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from replication.analysis.bench import Bench, module_bytes, sampled
from replication.analysis.measure import Action, arithmetic_and_traffic, interleaved, machine_peaks, summary
from replication.analysis.rivals import dataloader_update, plain_end_to_end_update
from replication.analysis.whole_run import fixed_parts, overhead_share, whole_run
from replication.config import EvaluationParams, Experiment
from replication.datasets import PreparedDataset
from replication.errors import ConfigError
from replication.files import write_json
from replication.training.device import choose_device, describe_hardware, describe_versions

_PAPER_TEXT_WIDTH = 15  # filters per block [P]
# Of a turn in which images per second are measured: long enough to show whether a DataLoader's workers keep up.
_LEAST_UPDATES, _LEAST_SECONDS = 5, 0.5
_EVALUATIONS = 3

Row = dict[str, Any]


def measure_cost(
    experiment: Experiment, evaluation: EvaluationParams, data: PreparedDataset, results_root: Path = Path("results")
) -> Row:
    """Measure and publish `results_root`/DATASET/cost.json.

    Args:
        experiment: what is measured.
        evaluation: the curves of the run whose time is put together; see `whole_run`.

    Returns:
        What was written: timings in milliseconds, memory in bytes, ratios (> 1 is in favour of the first named).

    Raises:
        ConfigError: one of `cost.depths` is too small for a network of this reading.
    """
    check_cost_depths(experiment)
    device, repetitions = choose_device(experiment.runtime), experiment.cost.repetitions
    sample = sampled(data, experiment.cost.samples)
    bench = Bench(experiment, sample, device)
    labels = torch.tensor(data.labels["train"], dtype=torch.int64, device=device)
    parts = fixed_parts(bench.session, labels)
    end_to_end, throughput = _measure_throughput(bench, repetitions)
    rivals = {"end_to_end": end_to_end, "plain_end_to_end": plain_end_to_end_update(experiment, sample, device)}
    adaboost_mm = _measure_adaboost_mm(bench, end_to_end, repetitions)
    rounds = range(len(bench.session.network.rounds))
    blocks = [_measure_block(bench, block, rivals, repetitions, len(labels)) for block in rounds]
    paper_text = _measure_paper_text(experiment, sample, device) if experiment.model.reading == "released" else None
    cost: Row = {
        "schema": 2,
        "dataset": data.name,
        "official_data": data.official,
        "reading": experiment.model.reading,
        "auxiliary": experiment.boostresnet.auxiliary,
        "batch_size": experiment.optimizer.batch_size,
        "repetitions": repetitions,
        "runtime": attrs.asdict(experiment.runtime),
        "hardware": describe_hardware(device),
        "versions": describe_versions(),
        "machine": machine_peaks(device),
        "end_to_end": throughput,
        "adaboost_mm": adaboost_mm,
        "blocks": blocks,
        "depth": _measure_depths(experiment, sample, device),
        "paper_text": paper_text,
    }
    sizes = {split: len(values) for split, values in data.labels.items()}
    cost["whole_run"] = whole_run(experiment, evaluation, sizes, blocks, parts)
    cost["peak_shares"] = peak_shares(cost)
    cost["ratios"] = ratios(cost)
    write_json(results_root / data.name / "cost.json", cost)
    return cost


def _measure_throughput(bench: Bench, repetitions: int) -> tuple[Action, Row]:
    """The end-to-end update, and what there is to know of it: images per second beside a DataLoader's loop, arithmetic,
    bytes and memory.
    """
    action, device = bench.end_to_end(), bench.device
    loader = dataloader_update(bench.experiment, bench.data, device)
    actions = {"end_to_end": action, "dataloader_loop": loader}
    if bench.tries_compiling:
        actions["compiled_end_to_end"] = bench.end_to_end(compiled=True)
    long = {name: attrs.evolve(one, least=_LEAST_UPDATES, turn_seconds=_LEAST_SECONDS) for name, one in actions.items()}
    timings = _timings(interleaved(long, repetitions, device))
    batch = bench.experiment.optimizer.batch_size
    flops, traffic = arithmetic_and_traffic(action)
    network = bench.session.network
    return action, {
        **timings,
        "images_per_second": round(1e3 * batch / timings["end_to_end_ms"]["median"], 1),
        "dataloader_images_per_second": round(1e3 * batch / timings["dataloader_loop_ms"]["median"], 1),
        "flops": flops,
        "bytes": traffic,
        "memory": bench.memory(action, network, module_bytes(network)),
    }


def _measure_adaboost_mm(bench: Bench, end_to_end: Action, repetitions: int) -> Row:
    """An update of a weak learner, which is the same in every round; its memory with all weak learners there."""
    action, learner = bench.adaboost_mm()
    timings = interleaved({"update": action, "end_to_end": end_to_end}, repetitions, bench.device)
    flops, traffic = arithmetic_and_traffic(action)
    network = bench.session.network
    weights = module_bytes(network) + len(network.rounds) * module_bytes(learner)
    memory = bench.memory(action, learner, weights)
    return {**_timings(timings), "flops": flops, "bytes": traffic, "memory": memory}


def _measure_block(bench: Bench, block: int, rivals: dict[str, Action], repetitions: int, examples: int) -> Row:
    cached, augmented = (bench.block_update(block, augmented=augmented) for augmented in (False, True))
    as_released = bench.as_released(block)
    actions = {"cached": cached, "augmented": augmented, "as_released": as_released, **rivals}
    if bench.tries_compiling and bench.opens_a_stage(block):
        actions["compiled"] = bench.block_update(block, augmented=False, compiled=True)
    timings = _timings(interleaved(actions, repetitions, bench.device))
    hypothesis, network = bench.hypothesis(block), bench.session.network
    cached_flops, cached_bytes = arithmetic_and_traffic(cached)
    augmented_flops, augmented_bytes = arithmetic_and_traffic(augmented)
    row: Row = {
        "block": block,
        "module": network.names[block],
        **timings,
        "cached_flops": cached_flops,
        "cached_bytes": cached_bytes,
        "augmented_flops": augmented_flops,
        "augmented_bytes": augmented_bytes,
        "memory": bench.memory(cached, hypothesis),
        "streaming_memory": bench.memory(augmented, hypothesis),
        "as_released_memory": bench.memory(as_released, hypothesis, module_bytes(network)),
        "stored_features": {
            "bytes": bench.stored_bytes(examples),
            "saved_ms": round(timings["augmented_ms"]["median"] - timings["cached_ms"]["median"], 4),
        },
        **_forward_passes(bench, block),
    }
    row["advance_ms_per_1000"] = round(1e6 * bench.freeze(block) / len(bench.features), 4)
    return row


def _forward_passes(bench: Bench, block: int) -> Row:
    """From the outputs of the block before: time of 1,000 images' way to logits, as a check goes, and the operations of
    one image on it; and those of its way through the block alone, as its outputs are stored.
    """
    batch = bench.features[slice(0, bench.experiment.evaluation.batch_size)]
    check = _forward(bench.hypothesis(block), batch)
    taken = interleaved({"check": check}, _EVALUATIONS, bench.device)["check"]
    advance = _forward(bench.session.network.rounds[block], batch)
    return {
        "evaluation_ms_per_1000": round(statistics.median(taken) * 1000 / len(batch), 4),
        "check_flops_per_image": arithmetic_and_traffic(check)[0] // len(batch),
        "advance_flops_per_image": arithmetic_and_traffic(advance)[0] // len(batch),
    }


def _forward(module: nn.Module, batch: Tensor) -> Action:
    @torch.no_grad()
    def forward() -> None:
        module.eval()
        module(batch)
        module.train()

    return Action.of(forward)


def check_cost_depths(experiment: Experiment) -> None:
    """ConfigError where `cost.depths` asks for a network of fewer than three blocks."""
    least = 3 + _stems(experiment)
    if min(experiment.cost.depths) < least:
        wrong = min(experiment.cost.depths)
        raise ConfigError(f"cost.depths must be at least {least} for {experiment.model.reading}, got {wrong}")


def _stems(experiment: Experiment) -> int:
    return 0 if experiment.model.reading == "mlp" else 1


def _measure_depths(experiment: Experiment, data: PreparedDataset, device: torch.device) -> list[Row]:
    """Networks of so many modules: their end-to-end updates, and the stored-prefix updates of their second modules.

    The first module has the same weights at every depth, so that all draw from the same stored outputs.
    """
    benches: dict[int, Bench] = {}
    for rounds in experiment.cost.depths:
        model = attrs.evolve(experiment.model, blocks=rounds - _stems(experiment))
        first = next(iter(benches.values()), None)
        features = None if first is None else first.features
        benches[rounds] = Bench(attrs.evolve(experiment, model=model), data, device, features)
        if first is None:
            benches[rounds].freeze(0)
        else:
            benches[rounds].prefix.freeze(benches[rounds].session.network.rounds[0])
    cached = {rounds: bench.block_update(1, augmented=False) for rounds, bench in benches.items()}
    whole = {rounds: bench.end_to_end() for rounds, bench in benches.items()}
    taken = {
        name: interleaved(
            {str(rounds): action for rounds, action in actions.items()}, experiment.cost.repetitions, device
        )
        for name, actions in (("cached_ms", cached), ("end_to_end_ms", whole))
    }
    rows = []
    for rounds, bench in benches.items():
        network = bench.session.network
        rows.append(
            {
                "rounds": rounds,
                **{name: summary(one[str(rounds)]) for name, one in taken.items()},
                "cached_memory": bench.memory(cached[rounds], bench.hypothesis(1)),
                "end_to_end_memory": bench.memory(whole[rounds], network, module_bytes(network)),
            }
        )
    return rows


def _measure_paper_text(experiment: Experiment, data: PreparedDataset, device: torch.device) -> Row:
    """The paper-text reading with as many residual blocks as there are rounds [P: 25] and its linear auxiliary
    classifier: the stem, and the first block, which stands for all others since they are alike.
    """
    blocks = experiment.model.blocks + 1
    text = attrs.evolve(
        experiment,
        model=attrs.evolve(experiment.model, reading="paper-text", blocks=blocks, width=_PAPER_TEXT_WIDTH),
        boostresnet=attrs.evolve(experiment.boostresnet, auxiliary="linear"),
    )
    bench = Bench(text, data, device)
    end_to_end, measured = bench.end_to_end(), {}
    for block, part in enumerate(("stem", "block")):
        actions = {"cached": bench.block_update(block, augmented=False), "end_to_end": end_to_end}
        measured[part] = _timings(interleaved(actions, experiment.cost.repetitions, device))
        bench.freeze(block)
    return {"rounds": len(bench.session.network.rounds), **measured}


def _timings(taken: dict[str, list[float]]) -> Row:
    return {f"{name}_ms": summary(milliseconds) for name, milliseconds in taken.items()}


def ratios(cost: Row) -> dict[str, float]:
    """What the targets and the claims are about; every quotient is of medians from the same turns, or of their means
    over the blocks.
    """
    end_to_end, blocks, depth = cost["end_to_end"], cost["blocks"], cost["depth"]
    ours, plain = _mean(blocks, "end_to_end"), _mean(blocks, "plain_end_to_end")
    cached, augmented = _mean(blocks, "cached"), _mean(blocks, "augmented")
    found = {
        "boostresnet_cached_vs_e2e": ours / cached,
        "boostresnet_cached_vs_plain_e2e": plain / cached,
        "boostresnet_augmented_vs_e2e": ours / augmented,
        "boostresnet_augmented_vs_plain_e2e": plain / augmented,
        "boostresnet_cached_vs_as_released": _mean(blocks, "as_released") / cached,
        "e2e_vs_dataloader_loop": end_to_end["dataloader_loop_ms"]["median"] / end_to_end["end_to_end_ms"]["median"],
        "peak_memory_e2e_vs_boostresnet": end_to_end["memory"]["total"]
        / max(block["streaming_memory"]["total"] for block in blocks),
        "logging_share": overhead_share(cost["whole_run"]),
    }
    if len(depth) > 1:
        first, last = depth[0], depth[-1]
        name = f"update_time_T{last['rounds']}_vs_T{first['rounds']}_cached"
        found[name] = last["cached_ms"]["median"] / first["cached_ms"]["median"]
    if cost["paper_text"] is not None:
        found["paper_text_cached_vs_e2e"] = _paper_text_ratio(cost["paper_text"])
    return {name: round(value, 3) for name, value in found.items()}


def _paper_text_ratio(measured: Row) -> float:
    """End-to-end update against one on stored prefix outputs, both as means over the rounds' turns."""
    stem, block, blocks = measured["stem"], measured["block"], measured["rounds"] - 1
    end_to_end, cached = (
        stem[name]["median"] + blocks * block[name]["median"] for name in ("end_to_end_ms", "cached_ms")
    )
    return float(end_to_end / cached)


def peak_shares(cost: Row) -> dict[str, dict[str, float]]:
    """Fractions of the machine's matrix and copy peaks, over all blocks' updates and end to end. That of the copy peak
    can be above 1: it counts bytes as if nothing stayed in cache.
    """
    blocks, end_to_end, machine = cost["blocks"], cost["end_to_end"], cost["machine"]
    work = {
        "cached": [statistics.fmean(block[f"cached_{what}"] for block in blocks) for what in ("flops", "bytes")],
        "augmented": [statistics.fmean(block[f"augmented_{what}"] for block in blocks) for what in ("flops", "bytes")],
        "end_to_end": [end_to_end["flops"], end_to_end["bytes"]],
    }
    return {
        name: {
            "matrix": round(flops / _mean(blocks, name) / machine["matrix_gflops"] / 1e6, 4),
            "copy": round(traffic / _mean(blocks, name) / machine["copy_gb_per_s"] / 1e6, 4),
        }
        for name, (flops, traffic) in work.items()
    }


def _mean(blocks: list[Row], name: str) -> float:
    return statistics.fmean(block[f"{name}_ms"]["median"] for block in blocks)
