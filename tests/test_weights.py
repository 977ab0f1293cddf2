"""The committed weights: whole, of the published runs, and chosen on validation alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from replication.budgets import measure_budgets
from replication.files import write_json
from replication.training.runs import load_model, read_description
from scripts.publish_weights import MOST_BYTES, best_seed, publish_budgets

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = sorted(path.parent for path in (ROOT / "weights").glob("**/seed*/run.json"))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: "/".join(path.parts[-3:]))
def test_published_weights_load_and_are_those_of_the_published_run(folder: Path) -> None:
    description, results = read_description(folder), ROOT / "results" / folder.relative_to(ROOT / "weights")
    published = json.loads((results / "run.json").read_text(encoding="utf-8"))
    assert description.pop("sha256").items() <= published.pop("sha256").items()
    assert description == published
    assert int(folder.name.removeprefix("seed")) == best_seed(results.parent)
    assert (folder / "model.safetensors").stat().st_size <= MOST_BYTES
    model, shape = load_model(folder), description["model"]["image_shape"]
    assert sum(parameter.numel() for parameter in model.parameters()) == description["parameters"]
    outputs = model(torch.zeros(2, *shape))
    assert outputs.shape == (2, description["model"]["num_classes"]) and bool(outputs.isfinite().all())


def test_the_best_on_validation_is_taken_whatever_it_does_on_test(tmp_path: Path) -> None:
    for seed, validation, test in ((0, 0.5, 0.9), (1, 0.7, 0.2), (2, 0.7, 0.8)):
        (tmp_path / f"seed{seed}").mkdir()
        write_json(tmp_path / f"seed{seed}/metrics.json", {"validation_accuracy": validation, "test_accuracy": test})
    assert best_seed(tmp_path) == 1


def test_the_runs_of_a_budget_are_those_that_were_published(
    tmp_path: Path, monkeypatch, capsys, experiment, digits
) -> None:
    monkeypatch.chdir(tmp_path)
    measure_budgets(experiment, (0.5,), digits, (0, 1))
    (root,) = Path("scratch/budgets/0.5").iterdir()
    shutil.copytree(root, root.with_name("0" * 32))
    other = root.with_name("0" * 32) / "digits/boostresnet/seed0/run.json"
    write_json(other, json.loads(other.read_text(encoding="utf-8")) | {"started": "another time"})
    publish_budgets("digits", Path("results"), Path("scratch/budgets"), Path("weights"))
    (folder,) = Path("weights/digits/budgets/0.5/digits/boostresnet").iterdir()
    assert folder.name == f"seed{best_seed(Path('results/digits/budgets/0.5/digits/boostresnet'))}"
    weights = (folder / "model.safetensors").read_bytes()
    assert weights == (root / "digits/boostresnet" / folder.name / "model.safetensors").read_bytes()
    shutil.rmtree("scratch")
    publish_budgets("digits", Path("results"), Path("scratch/budgets"), Path("weights"))
    assert "are not under scratch/budgets" in capsys.readouterr().out and folder.is_dir()
