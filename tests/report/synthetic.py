"""A made-up results tree: smooth curves with a little seeded noise, in the published format. No result of anything."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

HISTORY = ("gradient_updates", "block", "train_accuracy", "train_loss", "validation_accuracy", "validation_loss",
           "test_accuracy", "test_loss")  # fmt: skip
ROUNDS = ("block", "module", "gradient_updates", "cumulative_updates", "moved_on", "edge", "gamma",
          "weak_learning_gain", "covariance", "alpha", "bound", "train_error", "train_accuracy",
          "validation_accuracy", "test_accuracy")  # fmt: skip
TIMING = ("gradient_updates", "block", "seconds", "peak_memory_bytes")

Plant = Callable[..., Path]


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def plant_run(
    root: Path,
    dataset: str = "digits",
    method: str = "boostresnet",
    seed: int = 0,
    *,
    blocks: int = 6,
    per_block: int = 200,
    budget: float = 0.02,
    official: bool = True,
    final_test: float | None = None,
    early: bool = False,
    kind: str = "",
) -> Path:
    """Write one synthetic run; `early` lets some blocks end before their limit, differently for each seed, and another
    `kind` has other noise.
    """
    noise = random.Random(f"{dataset}{method}{seed}{kind}")
    folder = root / dataset / method / f"seed{seed}"
    folder.mkdir(parents=True)
    boosted = (blocks + 1) * per_block - (seed * 30 * early)
    start, end = {
        "boostresnet": (0, boosted),
        "e2e": (0, 2 * (blocks + 1) * per_block),
        "boostresnet-refined": (boosted, boosted + (blocks + 1) * per_block),
        "hist-gradient-boosting": (0, 0),
    }.get(method, (0, (blocks + 1) * per_block))
    ceiling = {"boostresnet": 0.955, "e2e": 0.978, "boostresnet-refined": 0.984}.get(method, 0.93)
    by_block = method in ("boostresnet", "boostresnet-binary", "adaboost-mm", "gradient-boosting")
    in_labels = method in ("adaboost-mm", "gradient-boosting")

    def accuracy(updates: int, gap: float) -> float:
        reached = ceiling * (1 - 0.9 * math.exp(-6 * updates / ((blocks + 1) * per_block)))
        return min(1.0, max(0.0, reached - gap + noise.uniform(-0.006, 0.006)))

    history = []
    for updates in [*range(start + per_block // 2, end, per_block // 2), end]:
        values = {"train_accuracy": accuracy(updates, -0.015), "validation_accuracy": accuracy(updates, 0.004)}
        values["test_accuracy"] = accuracy(updates, 0.006)
        values |= {
            f"{split}_loss": 2.3 * (1 - values[f"{split}_accuracy"]) for split in ("train", "validation", "test")
        }
        block = min((updates - 1) // per_block, blocks) if by_block else ""
        history.append({"gradient_updates": updates, "block": block, **values})
    if final_test is not None:
        history[-1]["test_accuracy"] = final_test
    rounds, edge, product = [], 0.0, 1.0
    for index in range(blocks + 1 if by_block else 0):
        following = 1 - (1 - 0.62) * math.exp(-0.45 * index) * (1 + noise.uniform(-0.05, 0.05))
        gain = (following**2 - edge**2) / (1 - edge**2)
        product *= 1 - gain
        error = 0.0 if index == blocks else 0.2 * math.exp(-0.9 * index)
        rounds.append({
            "block": index,
            "module": "stem" if index == 0 else f"stage{(index - 1) // 2 + 1}.block{(index - 1) % 2 + 1}",
            "gradient_updates": per_block, "cumulative_updates": (index + 1) * per_block, "moved_on": "gamma",
            "edge": following, "gamma": math.copysign(math.sqrt(abs(gain)), gain), "weak_learning_gain": gain,
            "covariance": -0.02 * index / (index + 1) + 3e-33, "alpha": math.atanh(following),
            "bound": 9 * math.sqrt(product),
            "train_error": error, "train_accuracy": 1 - error, "validation_accuracy": 0.95 - error / 2,
            "test_accuracy": 0.94 - error / 2,
        })  # fmt: skip
        if in_labels:
            blank = ("gamma", "weak_learning_gain", "covariance")
            blank += ("edge", "bound") if method == "gradient-boosting" else ()
            rounds[-1] |= dict.fromkeys(blank, "") | {"module": f"learner{index + 1}", "moved_on": "limit"}
        edge = following
    timing = [
        {"gradient_updates": row["gradient_updates"], "block": row["block"],
         "seconds": (row["gradient_updates"] - start) * 0.02, "peak_memory_bytes": 400 * 2**20}
        for row in history
    ]  # fmt: skip
    _write_csv(folder / "history.csv", HISTORY, history)
    _write_csv(folder / "rounds.csv", ROUNDS, rounds)
    _write_csv(folder / "timing.csv", TIMING, timing)
    last = history[-1]
    metrics = {name: last[name] for name in HISTORY[2:]} | {
        "gradient_updates": end, "blocks": blocks, "parameters": 153_706, "official_data": official, "budget": budget,
        "reading": "released", "dataset": dataset, "method": method, "seed": seed,
    }  # fmt: skip
    if method in ("boostresnet", "boostresnet-binary"):
        metrics |= {"lemma_3_2_max_difference": 3.1e-15, "final_edge": edge, "bound": rounds[-1]["bound"],
                    "positive_gamma_blocks": sum(row["gamma"] > 0 for row in rounds),
                    "rounds": len(rounds)}  # fmt: skip
    if not official:
        metrics["exact_test_accuracy"] = metrics["test_accuracy"]
    if in_labels:
        metrics["learners"] = blocks + 1
    if method == "adaboost-mm":
        metrics |= {"bound": rounds[-1]["bound"], "smallest_edge": rounds[0]["edge"], "rounds": len(rounds)}
    if method == "hist-gradient-boosting":
        metrics |= {"blocks": 0, "stock_library": "scikit-learn 0.0, HistGradientBoostingClassifier"}
    classes = ["3", "8"] if method == "boostresnet-binary" else [str(digit) for digit in range(10)]
    run = {
        "schema": 1, "dataset": dataset, "method": method, "seed": seed, "budget": budget, "gradient_updates": end,
        "blocks": blocks, "parameters": 153_706, "reading": "released",
        "config": {
            "dataset": dataset, "budget": budget, "data": {"validation_fraction": 0.1, "split_seed": 0,
                                                            "exact_test_images": None if official else 1000},
            "augmentation": {"crop_padding": 0, "flip": False},
            "model": {"reading": "released", "blocks": blocks, "width": 16},
            "optimizer": {"learning_rate": 0.001, "gradient_clamp": 0.1, "batch_size": 100},
            "boostresnet": {"oracle_loss": "exp_cross_entropy", "auxiliary": "transition-blocks",
                            "updates_per_block": 10000, "check_interval": 10_000, "gamma_threshold": -0.0001,
                            "initial_edge": 0.0, "prefix_mode": "evaluation"},
            "gradient_boosting": {"shrinkage": 0.1},
            "end_to_end": {"updates": None}, "refinement": {"updates": None},
            "evaluation": {"interval": 5000, "train_samples": 2000, "test_curve": True},
            "runtime": {"device": "auto", "threads": 2, "precision": "auto"},
        },
        "data": {"content_hash": "0" * 64, "official": official, "sources": [], "train_size": 1293,
                 "validation_size": 144, "test_size": 360, "classes": classes,
                 "image_shape": [1, 8, 8]},
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "versions": {"python": "3.11.9", "torch": "2.11.0", "numpy": "2.2.0"},
        "hardware": {"device": "cpu", "gpu": None, "cpu": "Example_CPU @ 2.0 GHz & <made up>", "threads": 2},
        "started": "2026-01-01T00:00:00+00:00", "wall_seconds": timing[-1]["seconds"] + 1.0, "model": {},
        "sha256": {"model.safetensors": f"{method} {seed} {budget}"},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Apply `change` to the object in a JSON file."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
