"""The committed weights: whole, of the published runs, and chosen on validation alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from replication.analysis.evaluate import evaluate
from replication.budgets import measure_budgets
from replication.config import OtherBudget
from replication.files import read_json, write_json
from replication.training.runs import load_model, read_description
from replication.training.train import train
from scripts.publish_weights import MOST_BYTES, best_seed, main, publish_budgets

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
    measure_budgets(experiment, (OtherBudget(0.5, "boostresnet"),), digits, (0, 1))
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


def test_the_command_works_from_anywhere_and_says_in_one_line_what_is_wrong(
    tmp_path: Path, monkeypatch, capsys, experiment, digits
) -> None:
    monkeypatch.setattr("scripts.publish_weights.ROOT", tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def told(dataset: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["publish_weights.py", dataset])
        code = main()
        return code, capsys.readouterr().err

    code, error = told("digits")
    assert code == 1 and error.startswith("error: there is no ") and len(error.splitlines()) == 1
    runs, results = tmp_path / "runs", tmp_path / "results"
    source = train(experiment, digits, "boostresnet", 0, runs)
    evaluate(experiment, digits, "boostresnet", 0, runs, results)
    assert told("digits") == (0, "")
    weights = tmp_path / "weights/digits/boostresnet/seed0/model.safetensors"
    assert weights.read_bytes() == (source / weights.name).read_bytes()
    published = weights.read_bytes()
    train(experiment, digits, "boostresnet", 0, runs)  # under another time, and not evaluated
    write_json(source / "run.json", read_json(source / "run.json") | {"started": "later"})
    monkeypatch.setattr("sys.argv", ["publish_weights.py", "digits"])
    assert main() == 0 and "is another training than" in capsys.readouterr().out
    assert weights.read_bytes() == published
    evaluate(experiment, digits, "boostresnet", 0, runs, results)
    (source / weights.name).write_bytes(b"cut")
    code, error = told("digits")
    assert code == 1 and "model.safetensors" in error and len(error.splitlines()) == 1
    (results / "digits/boostresnet/seed0/metrics.json").write_text("{}")
    code, error = told("digits")
    assert code == 1 and "field 'validation_accuracy' is missing" in error and len(error.splitlines()) == 1
    with pytest.raises(SystemExit, match="2"):
        told("imagenet")
    assert "choose from" in capsys.readouterr().err
