"""Time and memory of a gradient update, block by block, against end-to-end training and the released code's way.

The paper promises (sec. 4.3) that an update of BoostResNet takes the memory and arithmetic of one module and one
linear classifier, M1 + M2 and C1 + C2, and end-to-end training M1 T + M2 and C1 T + C2. Everything compared is timed in
one process, in turns.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import nn

from replication.analysis.measure import (
    Action,
    Timing,
    arithmetic_and_traffic,
    interleaved,
    machine_peaks,
    peak_allocation,
)
from replication.analysis.rivals import as_released_update, dataloader_update, plain_end_to_end_update
from replication.config import Experiment
from replication.datasets import PreparedDataset
from replication.errors import ConfigError
from replication.files import write_json
from replication.models.build import count_parameters
from replication.models.hypothesis import HypothesisFactory
from replication.training.boostresnet import BoostResNetTrainer, MulticlassAlgorithm
from replication.training.checkpoint import Checkpoints
from replication.training.device import choose_device, describe_hardware, describe_versions
from replication.training.features import BatchSource, SplitFeatures
from replication.training.record import Recorder
from replication.training.session import Session, open_session
from replication.training.update import UpdateLoop

_ADAM_STATE = 2  # first and second moment, beside the weight itself
_FLOAT = 4
_PAPER_TEXT_WIDTH = 15  # filters per block [P]


class Bench:
    """A session's network at one block after the other, and the updates to be timed there."""

    def __init__(self, experiment: Experiment, data: PreparedDataset) -> None:
        self.experiment, self.data = experiment, data
        self.device = choose_device(experiment.runtime)
        self.session = self._session(experiment)
        self.prefix = self.session.prefix()
        self.features = SplitFeatures(self._sample(), self.prefix, experiment.evaluation.batch_size, experiment.runtime)
        self.hypotheses = HypothesisFactory(self.session.network, experiment.boostresnet.auxiliary, 0)

    def _session(self, experiment: Experiment) -> Session:
        return open_session(experiment, self.data, 0, self.device, Recorder(self.device))

    def _sample(self) -> Any:
        train, size = self.session.train, self.experiment.cost.samples
        return attrs.evolve(train, images=train.images[:size], labels=train.labels[:size])

    def batches(self, augmented: bool) -> BatchSource:
        """Batches of stored prefix outputs, or of augmented images sent through the prefix."""
        augmentation = self.experiment.augmentation
        if not augmented:
            augmentation = attrs.evolve(augmentation, crop_padding=0, flip=False)
        elif not augmentation.active:  # the dataset is not augmented in the paper: what it would cost if it were
            augmentation = attrs.evolve(augmentation, crop_padding=1, flip=True)
        return BatchSource(self.features, self.prefix, augmentation, self.experiment.optimizer.batch_size, seed=0)

    def update(self, model: nn.Module, loss: nn.Module, batches: Callable[[], Any]) -> Action:
        """One update of `model` as training makes it."""
        loop = UpdateLoop(model, loss, batches, self.experiment.optimizer, self.experiment.runtime)
        return lambda: loop.run(1)

    def end_to_end(self) -> Action:
        """One end-to-end update of a network of its own, as training makes it."""
        session = self._session(self.experiment)
        batches = BatchSource(
            SplitFeatures(self._sample(), session.prefix(), 1, self.experiment.runtime),
            session.prefix(),
            self.experiment.augmentation,
            self.experiment.optimizer.batch_size,
            seed=0,
        )
        return self.update(session.network, nn.CrossEntropyLoss(), batches)

    def block_actions(self, block: int) -> dict[str, Action]:
        """One update of `block` in every way; the prefix must hold the blocks before it."""
        hypothesis, loss = self.hypotheses.hypothesis(block), nn.CrossEntropyLoss()
        return {
            "cached": self.update(hypothesis, loss, self.batches(augmented=False)),
            "augmented": self.update(hypothesis, loss, self.batches(augmented=True)),
            "as_released": as_released_update(self.experiment, self.data, block, self.device),
        }

    def freeze(self, block: int) -> None:
        """Go on to the next block."""
        self.prefix.freeze(self.session.network.rounds[block])
        self.features.advance()


def measure_cost(experiment: Experiment, data: PreparedDataset, results_root: Path = Path("results")) -> dict[str, Any]:
    """Measure and publish `results_root`/DATASET/cost.json.

    Returns:
        What was written: timings in milliseconds, memory in bytes, ratios (> 1 is in favour of the first named).
    """
    bench = Bench(experiment, data)
    device, repetitions = bench.device, experiment.cost.repetitions
    references: dict[str, Action] = {
        "end_to_end": bench.end_to_end(),
        "plain_end_to_end": plain_end_to_end_update(experiment, data, device),
        "dataloader_loop": dataloader_update(experiment, data, device),
    }
    timings = interleaved(references, repetitions, device)
    # An end-to-end update takes its turn beside those of every block: the ratios outlive a machine that gets slower.
    rounds = range(len(bench.session.network.rounds))
    blocks = [_measure_block(bench, block, references["end_to_end"], repetitions) for block in rounds]
    again = interleaved(references, repetitions, device)
    end_to_end = _measure_end_to_end(bench, timings, again)
    depth = [_measure_depth(experiment, data, rounds, repetitions) for rounds in experiment.cost.depths]
    paper_text = _measure_paper_text(experiment, data, repetitions) if experiment.model.reading == "released" else None
    cost: dict[str, Any] = {
        "schema": 1,
        "dataset": data.name,
        "official_data": data.official,
        "reading": experiment.model.reading,
        "auxiliary": experiment.boostresnet.auxiliary,
        "batch_size": experiment.optimizer.batch_size,
        "repetitions": repetitions,
        "hardware": describe_hardware(device),
        "versions": describe_versions(),
        "machine": machine_peaks(device),
        "end_to_end": end_to_end,
        "blocks": blocks,
        "depth": depth,
        "paper_text": paper_text,
        "checkpoint_ms": _checkpoint_milliseconds(bench.session),
    }
    cost["whole_run"] = _whole_run(experiment, data, blocks, cost["checkpoint_ms"])
    cost["ratios"] = _ratios(end_to_end, blocks, depth, cost["whole_run"])
    if paper_text is not None:
        cost["ratios"]["paper_text_cached_vs_e2e"] = _paper_text_ratio(paper_text)
    write_json(results_root / data.name / "cost.json", cost)
    return cost


def _measure_block(bench: Bench, block: int, end_to_end: Action, repetitions: int) -> dict[str, Any]:
    actions = bench.block_actions(block) | {"end_to_end": end_to_end}
    timings = interleaved(actions, repetitions, bench.device)
    hypothesis = bench.hypotheses.hypothesis(block)
    flops, traffic = arithmetic_and_traffic(actions["cached"])
    trained = count_parameters(hypothesis)
    frozen = sum(count_parameters(module) for module in bench.session.network.rounds[:block])
    example = bench.features[slice(0, 1)]
    batch = bench.features[slice(0, bench.experiment.evaluation.batch_size)]
    evaluated = {"whole": lambda: _forward(hypothesis, batch), "block": lambda: _forward(hypothesis.block, batch)}
    forward = interleaved(evaluated, 3, bench.device)
    row = {
        "block": block,
        "module": bench.session.network.names[block],
        **{f"{name}_ms": attrs.asdict(timing) for name, timing in timings.items()},
        "cached_flops": flops,
        "cached_bytes": traffic,
        "memory": _memory(peak_allocation(actions["cached"], bench.device), trained, frozen=0),
        "streaming_memory": _memory(peak_allocation(actions["augmented"], bench.device), trained, frozen),
        "feature_bytes_per_example": example.numel() * _FLOAT,
        "evaluation_ms_per_1000": round(forward["whole"].median * 1000 / len(batch), 4),
        "advance_ms_per_1000": round(forward["block"].median * 1000 / len(batch), 4),
    }
    bench.freeze(block)
    return row


@torch.no_grad()
def _forward(model: nn.Module, batch: torch.Tensor) -> None:
    model.eval()
    model(batch)
    model.train()


def _memory(traced: int, trained: int, frozen: int) -> dict[str, int]:
    """Bytes of an update: what it allocates on the way (activations, gradients), and what lies there all the time."""
    state = trained * _FLOAT * _ADAM_STATE
    weights = (trained + frozen) * _FLOAT
    total = traced + state + weights
    return {"activations_and_gradients": traced, "optimiser": state, "weights": weights, "total": total}


def _measure_end_to_end(bench: Bench, timings: dict[str, Timing], again: dict[str, Timing]) -> dict[str, Any]:
    action = bench.end_to_end()
    flops, traffic = arithmetic_and_traffic(action)
    batch = bench.experiment.optimizer.batch_size
    parameters = count_parameters(bench.session.network)
    # One of the two passes for all, so that what is divided was timed in the same turns.
    best = min(timings, again, key=lambda timed: timed["end_to_end"].median)
    return {
        **{f"{name}_ms": attrs.asdict(timing) for name, timing in best.items()},
        "images_per_second": round(1e3 * batch / best["end_to_end"].median, 1),
        "dataloader_images_per_second": round(1e3 * batch / best["dataloader_loop"].median, 1),
        "flops": flops,
        "bytes": traffic,
        "memory": _memory(peak_allocation(action, bench.device), parameters, frozen=0),
    }


def _measure_depth(experiment: Experiment, data: PreparedDataset, rounds: int, repetitions: int) -> dict[str, Any]:
    """A network of `rounds` modules: its end-to-end update, and the cached update of its second module."""
    stem = 0 if experiment.model.reading == "mlp" else 1
    if rounds < 3 + stem:
        raise ConfigError(f"cost.depths must be at least {3 + stem} for {experiment.model.reading}, got {rounds}")
    deep = attrs.evolve(experiment, model=attrs.evolve(experiment.model, blocks=rounds - stem))
    bench = Bench(deep, data)
    bench.freeze(0)
    cached = bench.update(bench.hypotheses.hypothesis(1), nn.CrossEntropyLoss(), bench.batches(augmented=False))
    end_to_end = bench.end_to_end()
    timings = interleaved({"cached": cached, "end_to_end": end_to_end}, repetitions, bench.device)
    whole, part = count_parameters(bench.session.network), count_parameters(bench.hypotheses.hypothesis(1))
    return {
        "rounds": rounds,
        "cached_ms": attrs.asdict(timings["cached"]),
        "end_to_end_ms": attrs.asdict(timings["end_to_end"]),
        "cached_memory": _memory(peak_allocation(cached, bench.device), part, frozen=0),
        "end_to_end_memory": _memory(peak_allocation(end_to_end, bench.device), whole, frozen=0),
    }


def _measure_paper_text(experiment: Experiment, data: PreparedDataset, repetitions: int) -> dict[str, Any]:
    """The paper-text reading with as many residual blocks as there are rounds [P: 25] and its linear auxiliary
    classifier: the stem, and the first block, which stands for all others since they are alike.
    """
    text = attrs.evolve(
        experiment,
        model=attrs.evolve(
            experiment.model, reading="paper-text", blocks=experiment.model.blocks + 1, width=_PAPER_TEXT_WIDTH
        ),
        boostresnet=attrs.evolve(experiment.boostresnet, auxiliary="linear"),
    )
    bench = Bench(text, data)
    end_to_end, measured = bench.end_to_end(), {}
    for block, part in enumerate(("stem", "block")):
        update = bench.update(bench.hypotheses.hypothesis(block), nn.CrossEntropyLoss(), bench.batches(augmented=False))
        timings = interleaved({"cached": update, "end_to_end": end_to_end}, repetitions, bench.device)
        measured[part] = {f"{name}_ms": attrs.asdict(timing) for name, timing in timings.items()}
        bench.freeze(block)
    return {"rounds": len(bench.session.network.rounds), **measured}


def _paper_text_ratio(measured: dict[str, Any]) -> float:
    """End-to-end update against one on stored prefix outputs, both as means over the rounds' turns."""
    stem, block, blocks = measured["stem"], measured["block"], measured["rounds"] - 1
    end_to_end, cached = (
        stem[name]["median"] + blocks * block[name]["median"] for name in ("end_to_end_ms", "cached_ms")
    )
    return round(float(end_to_end / cached), 3)


def _checkpoint_milliseconds(session: Session) -> float:
    """What it takes to save BoostResNet's state at the start of a round, Adam's moments not yet among it; the best of
    three.
    """
    classes, params = session.network.head.linear.out_features, session.experiment.boostresnet
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), session.experiment.checkpoint)
        session = attrs.evolve(session, checkpoints=checkpoints)
        trainer = BoostResNetTrainer(session, MulticlassAlgorithm(session.train.labels, classes, params))
        for updates in range(3):
            start = time.perf_counter()
            checkpoints.visit(updates, trainer.snapshot, end_of_block=True)
            seconds.append(time.perf_counter() - start)
    return round(1e3 * min(seconds), 3)


def _whole_run(
    experiment: Experiment, data: PreparedDataset, blocks: list[dict[str, Any]], checkpoint_ms: float
) -> dict[str, Any]:
    """Seconds of a BoostResNet run of full length (budget 1) by `record.PHASES`, put together from the measured parts,
    with the curves that `evaluation` asks for. Telling MLflow goes on in a thread of its own and is not counted.
    """
    params, evaluation, updates = (
        experiment.boostresnet,
        experiment.evaluation,
        experiment.boostresnet.updates_per_block,
    )
    train = len(data.labels["train"])
    checks, points = math.ceil(updates / params.check_interval), math.ceil(updates / evaluation.interval)
    saves = 1 + updates // experiment.checkpoint.updates
    held_out = [len(data.labels[name]) for name in ("validation", "test")[: 1 + evaluation.test_curve]]
    curve = min(evaluation.train_samples, train) + sum(min(evaluation.held_out_samples, size) for size in held_out)
    kind = "augmented" if experiment.augmentation.active else "cached"
    parts = {"update": 0.0, "prefix": 0.0, "check": 0.0, "evaluation": 0.0, "checkpoint": 0.0}
    for block in blocks:
        per_image = block["evaluation_ms_per_1000"] / 1e6
        parts["update"] += updates * block[f"{kind}_ms"]["median"] / 1e3
        parts["prefix"] += (train + curve) * block["advance_ms_per_1000"] / 1e6
        parts["check"] += checks * train * per_image
        parts["evaluation"] += points * curve * per_image
        parts["checkpoint"] += saves * checkpoint_ms / 1e3
    return {"batches": kind, "updates": updates, "seconds": {name: round(value, 3) for name, value in parts.items()}}


def _ratios(
    end_to_end: dict[str, Any], blocks: list[dict[str, Any]], depth: list[dict[str, Any]], run: dict[str, Any]
) -> dict[str, float]:
    def mean(name: str) -> float:
        return statistics.fmean(block[f"{name}_ms"]["median"] for block in blocks)

    ours = mean("end_to_end")
    plain = ours * end_to_end["plain_end_to_end_ms"]["median"] / end_to_end["end_to_end_ms"]["median"]
    streaming = max(block["streaming_memory"]["total"] for block in blocks)
    seconds = run["seconds"]
    ratios = {
        "boostresnet_cached_vs_e2e": ours / mean("cached"),
        "boostresnet_cached_vs_plain_e2e": plain / mean("cached"),
        "boostresnet_augmented_vs_e2e": ours / mean("augmented"),
        "boostresnet_augmented_vs_plain_e2e": plain / mean("augmented"),
        "boostresnet_cached_vs_as_released": mean("as_released") / mean("cached"),
        "e2e_vs_dataloader_loop": end_to_end["images_per_second"] / end_to_end["dataloader_images_per_second"],
        "peak_memory_e2e_vs_boostresnet": end_to_end["memory"]["total"] / streaming,
        "logging_share": sum(seconds[part] for part in ("check", "evaluation", "checkpoint")) / sum(seconds.values()),
    }
    if len(depth) > 1:
        first, last = depth[0], depth[-1]
        name = f"update_time_T{last['rounds']}_vs_T{first['rounds']}_cached"
        ratios[name] = last["cached_ms"]["median"] / first["cached_ms"]["median"]
    return {name: round(value, 3) for name, value in ratios.items()}
