"""Made-up analyses, cost, depths, ablations and budgets, in the published formats. No result of anything."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import yaml

from replication.files import read_csv, write_csv
from replication.report.labels import LABEL_BOOSTING
from tests.report.synthetic import plant_run

TABLES: dict[str, tuple[str, ...]] = {
    "theory": ("block", "module", "train_error", "exponential_loss", "bound_product", "bound_telescoped",
               "bound_exponential", "edge", "gamma", "gamma_low", "gamma_high", "covariance", "covariance_low",
               "covariance_high", "gain_positive", "covariance_nonpositive", "bound_holds", "proof_covariance",
               "proof_covariance_low", "proof_covariance_high", "proof_covariance_nonpositive"),
    "modules": ("block", "module", "train_accuracy", "validation_accuracy", "test_accuracy", "probe_train_accuracy",
                "probe_validation_accuracy", "probe_test_accuracy"),
    "margins": ("split", "block", "module", "margin", "cumulative"),
    "deletions": ("block", "module", "transition", "error"),
    "lesions": ("deleted", "draw", "error"),
    "swaps": ("swaps", "draw", "kendall_tau", "error"),
    "paths": ("length", "paths", "draws", "gradient_norm", "contribution", "share"),
    "alignment": ("block", "module", "alignment", "step_ratio"),
}  # fmt: skip
NETWORKS = ("boostresnet", "e2e", "boostresnet-refined")
BOOSTED = ("boostresnet", "boostresnet-binary")


def plant_full_analysis(folder: Path, blocks: int = 6, draws: int = 5) -> None:
    """Write analysis.json and analysis/ beside a planted run."""
    metrics, run = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("metrics.json", "run.json"))
    method, noise = metrics["method"], random.Random(str(folder.relative_to(folder.parents[2])))
    names = ["stem", *(f"stage{(n - 1) // 2 + 1}.block{(n - 1) % 2 + 1}" for n in range(1, blocks + 1))]
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    last = range(len(names)) if method in BOOSTED else [len(names) - 1]
    for split in ("train", "test"):
        for block in last:
            for step in range(41):
                margin = round(-1 + 0.05 * step, 2)
                share = 1.0 if step == 40 else 1 / (1 + math.exp(-5 * (margin - 0.9 + 0.3 / (block + 1))))
                tables["margins"].append({"split": split, "block": block, "module": names[block], "margin": margin,
                                          "cumulative": share})  # fmt: skip
    summary: dict[str, Any] = {
        "schema": 1, "official_data": metrics["official_data"], "theory": None,
        "model_sha256": run["sha256"]["model.safetensors"],
        **{key: metrics[key] for key in ("dataset", "method", "seed", "reading", "budget", "blocks")},
        "margins": {
            split: {"mean": 0.8, "tenth_percentile": 0.3, "median": 0.9, "nonpositive": 0.04}
            for split in ("train", "test")
        },
    }  # fmt: skip
    if method in BOOSTED:
        summary["theory"] = _theory(names, tables, noise)
    if method in NETWORKS:
        summary |= _sections(names, tables, noise, draws, method)
    if method == "gradient-boosting":
        summary["alignment"] = {"mean": 0.4, "control_mean": -0.06, "positive_blocks": len(names), "blocks": len(names)}
        tables["alignment"] = [
            {"block": block, "module": name, "alignment": 0.4 + noise.uniform(-0.1, 0.1), "step_ratio": 0.1}
            for block, name in enumerate(names)
        ]
    for name, columns in TABLES.items():
        write_csv(folder / "analysis" / f"{name}.csv", columns, tables[name])
    (folder / "analysis.json").write_text(json.dumps(summary), encoding="utf-8")


def _theory(names: list[str], tables: dict[str, list[dict[str, Any]]], noise: random.Random) -> dict[str, Any]:
    for block, name in enumerate(names):
        gamma, covariance = 0.7 * 0.8**block + noise.uniform(-0.05, 0.05), -0.03 + noise.uniform(-0.01, 0.04)
        bound = 9 * 0.6**block
        tables["theory"].append({
            "block": block, "module": name, "train_error": 0.0 if block == len(names) - 1 else 0.1 * 0.5**block,
            "exponential_loss": bound * 0.8, "bound_product": bound, "bound_telescoped": bound,
            "bound_exponential": 9 * 0.95**block, "edge": 1 - 0.5**block / 2, "gamma": gamma, "gamma_low": gamma - 0.04,
            "gamma_high": gamma + 0.05, "covariance": covariance, "covariance_low": "nan" if block == 3 else -0.04,
            "covariance_high": 0.04, "gain_positive": True, "covariance_nonpositive": covariance <= 0,
            "bound_holds": True, "proof_covariance": 2 * covariance, "proof_covariance_low": -0.08,
            "proof_covariance_high": 0.08, "proof_covariance_nonpositive": covariance <= 0,
        })  # fmt: skip
    final = tables["theory"][-1]
    return {
        "rounds": len(names), "positive_gain_blocks": len(names),
        "nonpositive_covariance_blocks": 4, "condition_blocks": 4, "surely_positive_gain_blocks": len(names),
        "surely_nonpositive_gain_blocks": 0, "surely_positive_covariance_blocks": 1, "bound_holds_blocks": len(names),
        "nonpositive_proof_covariance_blocks": 3, "surely_positive_proof_covariance_blocks": 2,
        "smallest_slack": 0.01, "first_nonvacuous_block": 5,
        "final": {key: final[key] for key in ("train_error", "exponential_loss", "bound_product", "bound_telescoped",
                                              "bound_exponential", "edge")},
    }  # fmt: skip


def _sections(
    names: list[str], tables: dict[str, list[dict[str, Any]]], noise: random.Random, draws: int, method: str
) -> dict[str, Any]:
    blocks = len(names) - 1
    for block, name in enumerate(names):
        own = 0.97 - 0.1 * 0.5**block if method == "boostresnet" else ""
        tables["modules"].append({
            "block": block, "module": name, "train_accuracy": own, "validation_accuracy": own, "test_accuracy": own,
            **{f"probe_{split}_accuracy": 0.95 - 0.2 * 0.5**block for split in ("train", "validation", "test")},
        })  # fmt: skip
        if block:
            tables["deletions"].append({"block": block, "module": name, "transition": block in (3, 5),
                                        "error": 0.06 + noise.uniform(0, 0.2)})  # fmt: skip
            tables["alignment"].append({"block": block, "module": name, "alignment": noise.uniform(-0.1, 0.3),
                                        "step_ratio": 0.5})  # fmt: skip
    for count in range(1, blocks + 1):
        for draw in range(draws):
            tables["lesions"].append({"deleted": count, "draw": draw, "error": min(0.9, 0.13 * count)})
            tau = 1 - 0.3 * noise.random()
            tables["swaps"].append({"swaps": count, "draw": draw, "kendall_tau": tau, "error": 1 - 0.9 * tau})
    for length in range(blocks + 1):
        tables["paths"].append({"length": length, "paths": math.comb(blocks, length), "draws": 3,
                                "gradient_norm": 0.1**length if length < blocks else 0.0,
                                "contribution": math.comb(blocks, length) * 0.1**length,
                                "share": 1 / (blocks + 1)})  # fmt: skip
    rise = noise.uniform(0.05, 0.2)
    return {
        "complexity": {"modules": [], "l1_unit_sum": 9.0, "log10_complexity": 14.0, "log10_bound": 13.5,
                       "vacuous": True},
        "modules": {"probe_test_kendall_tau": 0.9, "probe_test_first": 0.75, "probe_test_last": 0.95},
        "lesions": {"error": 0.05, "random_error": 0.06,
                    "single_mean_increase": rise, "single_median_increase": rise / 2,
                    "single_max_increase": 3 * rise, "single_max_module": "stage2.block1",
                    "within_stages_mean_increase": rise / 3, "half_deleted": 3, "half_deleted_error": 0.4,
                    "kendall_tau": 1.0},
        "swaps": {"tau_error_correlation": -0.8, "one_swap_error": 0.1, "most_swaps": 6, "most_swaps_error": 0.3},
        "paths": {"blocks": blocks, "mean_length": 1.4, "shorter_than_half_share": 0.9},
        "alignment": {"mean": 0.1, "control_mean": -0.05, "positive_blocks": 5, "blocks": blocks},
        "settings": {"test_images": 360, "random_images": 100, "random_draws": 3},
        "untrained": {
            "modules": {"probe_test_kendall_tau": -0.3, "probe_test_first": 0.7, "probe_test_last": 0.6},
            "alignment": {"mean": 0.001, "control_mean": 0.002, "positive_blocks": 3, "blocks": blocks},
        },
    }  # fmt: skip


def plant_cost(root: Path, dataset: str = "digits", rounds: int = 7) -> Path:
    """Write a synthetic cost.json."""

    def spread(median: float) -> dict[str, float]:
        return {"median": median, "low": 0.9 * median, "high": 1.2 * median}

    def memory(total: int) -> dict[str, int]:
        return {"activations_and_gradients": total // 2, "optimiser": total // 4, "weights": total // 4, "total": total}

    def module(number: int) -> str:
        return f"stage{(number - 1) // 2 + 1}.block{(number - 1) % 2 + 1}" if number else "stem"

    cost = {
        "schema": 2, "dataset": dataset, "official_data": True, "reading": "released",
        "auxiliary": "transition-blocks", "batch_size": 100, "repetitions": 7,
        "runtime": {"precision": "auto"},
        "hardware": {"device": "cpu", "gpu": None, "cpu": "Example_CPU @ 2.0 GHz", "threads": 2},
        "versions": {"torch": "2.11.0"}, "machine": {"matrix_gflops": 120.5, "copy_gb_per_s": 9.1},
        "end_to_end": {
            "end_to_end_ms": spread(40.0), "dataloader_loop_ms": spread(80.0),
            "images_per_second": 2500.0, "dataloader_images_per_second": 1250.0, "flops": 10**9,
            "bytes": 10**8, "memory": memory(8 * 2**20),
        },
        "adaboost_mm": {"update_ms": spread(12.0), "end_to_end_ms": spread(40.0), "flops": 10**7, "bytes": 10**6,
                        "memory": memory(3 * 2**20)},
        "blocks": [
            {"block": n, "module": module(n), "cached_ms": spread(8.0 - n / 2), "augmented_ms": spread(9.0 + n),
             "as_released_ms": spread(20.0 + 5 * n), "end_to_end_ms": spread(37.0 + 6 * n / (rounds - 1)),
             "plain_end_to_end_ms": spread(60.0), "cached_flops": 10**8, "cached_bytes": 10**6,
             "augmented_flops": 2 * 10**8, "augmented_bytes": 2 * 10**6, "memory": memory(2**20),
             "streaming_memory": memory(2**20 + 2**17), "as_released_memory": memory(5 * 2**20),
             "stored_features": {"bytes": 6 * 2**20 if n else None, "saved_ms": 1.0 + 1.5 * n},
             "evaluation_ms_per_1000": 3.0, "advance_ms_per_1000": 3.0,
             "check_flops_per_image": 400_000, "advance_flops_per_image": 300_000}
            for n in range(rounds)
        ],
        "depth": [
            {"rounds": depth, "cached_ms": spread(7.0), "end_to_end_ms": spread(5.0 * depth + 3),
             "cached_memory": memory(2**20), "end_to_end_memory": memory(depth * 2**20)}
            for depth in (9, 18, 25, 37, 49)
        ],
        "whole_run": {"batches": "cached",
                      "seconds": {"update": 9.0, "prefix": 0.2, "check": 0.3, "evaluation": 0.4, "checkpoint": 0.1,
                                  "logging": 0.0}},
        "peak_shares": {name: {"matrix": 0.4, "copy": 0.25} for name in ("cached", "augmented", "end_to_end")},
        "ratios": {
            "boostresnet_cached_vs_e2e": 6.2, "boostresnet_cached_vs_plain_e2e": 9.2,
            "boostresnet_augmented_vs_e2e": 3.3, "boostresnet_augmented_vs_plain_e2e": 5.0,
            "boostresnet_cached_vs_as_released": 5.4, "e2e_vs_dataloader_loop": 2.0,
            "peak_memory_e2e_vs_boostresnet": 7.1, "logging_share": 0.1, "update_time_T49_vs_T9_cached": 1.02,
            "paper_text_cached_vs_e2e": 24.5,
        },
        "paper_text": {"rounds": 26},
    }  # fmt: skip
    path = root / dataset / "cost.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(cost), encoding="utf-8")
    return path


def plant_depth(root: Path, dataset: str = "mnist") -> Path:
    """Write a synthetic depth.csv."""
    columns = ("method", "depth", "seed", "train_accuracy", "test_accuracy", "budget", "official_data")
    rows = [
        {"method": method, "depth": depth, "seed": seed, "train_accuracy": 0.99 - 0.001 * depth - 0.002 * seed,
         "test_accuracy": 0.97 - 0.001 * depth, "budget": 0.01, "official_data": True}
        for method in ("boostresnet", "e2e") for depth in (2, 5, 10) for seed in (0, 1)
    ]  # fmt: skip
    path = root / dataset / "e2e/depth.csv"
    write_csv(path, columns, rows)
    return path


def plant_budgets(root: Path, dataset: str = "digits", seeds: int = 3) -> None:
    """Plant BoostResNet at half and at twice the length that `plant_run` gives it."""
    for budget, per_block in (("0.01", 100), ("0.04", 400)):
        for seed in range(seeds):
            where = root / dataset / "budgets" / budget
            plant_run(where, dataset, "boostresnet", seed, per_block=per_block, budget=float(budget), kind=budget)


def plant_other_methods(root: Path) -> None:
    """End to end and refined at twice the length, the end-to-end curves as of the same training: where they meet the
    experiment's own, every 200 updates, they have its values.
    """
    for seed in range(3):
        longer = root / "digits/budgets/0.04"
        plant_run(longer, "digits", "boostresnet-refined", seed, per_block=400, budget=0.04, kind="0.04")
        folder = plant_run(longer, "digits", "e2e", seed, per_block=400, budget=0.04, kind="0.04")
        own = {row["gradient_updates"]: row for row in read_csv(root / f"digits/e2e/seed{seed}/history.csv")}
        rows = read_csv(folder / "history.csv")
        write_csv(folder / "history.csv", tuple(rows[0]), [own.get(row["gradient_updates"], row) for row in rows])


def plant_label_boosting(root: Path) -> None:
    """AdaBoost.MM and gradient boosting at twice the length."""
    for method in LABEL_BOOSTING:
        for seed in range(3):
            plant_run(root / "digits/budgets/0.04", "digits", method, seed, per_block=400, budget=0.04, kind="0.04")


def plant_ablations(root: Path, dataset: str = "digits", seeds: int = 3) -> Path:
    """Write a synthetic ablations.csv: the variants of params.yaml, all BoostResNet's, the n-th 0.01 n worse."""
    variants = ["default", *_variants()]
    rows = [
        {"variant": variant, "changes": f"section.key = {n}" if n else "", "method": "boostresnet", "seed": seed,
         "gradient_updates": 350, "train_accuracy": 1 - 0.01 * n, "validation_accuracy": 0.9,
         "test_accuracy": 0.98 - 0.01 * n - 0.002 * seed * n, "exact_test_accuracy": None, "final_edge": 0.99,
         "positive_gamma_blocks": 7 - (seed == n), "rounds": 7, "budget": 0.005, "official_data": True}
        for n, variant in enumerate(variants) for seed in range(seeds)
    ]  # fmt: skip
    path = root / dataset / "ablations.csv"
    write_csv(path, tuple(rows[0]), rows)
    return path


def give_ablations_their_methods(path: Path, budget: float) -> None:
    """Make the rows of a variant of another method that method's, beside a default of its own, under `budget`."""
    methods = {name: variant.get("methods", ["boostresnet"])[0] for name, variant in _variants().items()}
    rows = [row | {"method": methods.get(row["variant"], row["method"]), "budget": budget} for row in read_csv(path)]
    others = dict.fromkeys(row["method"] for row in rows if row["method"] != "boostresnet")
    rows += [row | {"method": method} for row in rows if row["variant"] == "default" for method in others]
    write_csv(path, tuple(rows[0]), rows)


def _variants() -> dict[str, Any]:
    params = Path(__file__).resolve().parents[2] / "params.yaml"
    return dict(yaml.safe_load(params.read_text(encoding="utf-8"))["ablations"])
