"""Published results: what is read, and the one clear line for everything that is not right with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from replication.errors import ResultsError
from replication.files import sha256
from replication.report.results import load_results
from tests.report.synthetic import Plant, edit_json


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_whole_run_is_read(plant: Plant, tmp_path: Path) -> None:
    plant("digits", "boostresnet", 4)
    (run,) = load_results("digits", tmp_path / "results").of("boostresnet")
    assert (run.seed, run.metrics.blocks, run.info.train_size, run.info.classes) == (4, 6, 1293, 10)
    assert [entry.module for entry in run.rounds][:2] == ["stem", "stage1.block1"]
    assert run.history[-1].gradient_updates == run.metrics.gradient_updates == 1400
    assert run.info.settings["optimizer.learning_rate"] == 0.001


def test_nothing_there_is_not_an_error(tmp_path: Path) -> None:
    assert load_results("svhn", tmp_path / "results").all == ()


def test_an_empty_seed_folder_is_not_a_run(plant: Plant, tmp_path: Path) -> None:
    plant("digits", "e2e", 0)
    (tmp_path / "results/digits/e2e/seed1").mkdir()
    assert len(load_results("digits", tmp_path / "results").of("e2e")) == 1


@pytest.mark.parametrize("name", ["metrics.json", "history.csv", "rounds.csv", "timing.csv", "run.json"])
def test_a_missing_file_is_named(plant: Plant, tmp_path: Path, name: str) -> None:
    (plant("digits", "e2e", 0) / name).unlink()
    with pytest.raises(ResultsError, match=rf"e2e/seed0/{name} is missing; publish it again: .* digits e2e --seed 0"):
        load_results("digits", tmp_path / "results")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("metrics.json", {"test_accuracy": 97.0}, "metrics.json: test_accuracy must be a number from 0 to 1, got 97.0"),
        ("metrics.json", {"test_accuracy": None}, "metrics.json: test_accuracy must be a number from 0 to 1, got None"),
        ("metrics.json", {"blocks": True}, "metrics.json: blocks must be a whole number, 0 or more, got True"),
        ("metrics.json", {"official_data": "yes"}, "metrics.json: official_data must be true or false"),
        ("metrics.json", {"bound": float("nan")}, "metrics.json: NaN is no JSON"),
        ("metrics.json", {"seed": 1}, "metrics.json: seed must be 0, got 1"),
        ("run.json", {"schema": 2}, "run.json: schema must be 1, got 2"),
        ("run.json", {"data": []}, "run.json: data must be a section of named values"),
        ("run.json", {"git": {"commit": 5}}, "run.json: git: commit must be a text, got 5"),
    ],
)
def test_a_wrong_value_is_named(
    plant: Plant, tmp_path: Path, name: str, change: dict[str, object], message: str
) -> None:
    edit_json(plant("digits", "boostresnet", 0) / name, lambda value: value.update(change))
    with pytest.raises(ResultsError) as caught:
        load_results("digits", tmp_path / "results")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named(plant: Plant, tmp_path: Path) -> None:
    edit_json(plant("digits", "e2e", 0) / "metrics.json", lambda value: value.pop("train_accuracy"))
    with pytest.raises(ResultsError, match=r"metrics.json: field 'train_accuracy' is missing"):
        load_results("digits", tmp_path / "results")


def test_damaged_files_give_one_line(plant: Plant, tmp_path: Path) -> None:
    folder = plant("digits", "boostresnet", 0)
    whole = (folder / "rounds.csv").read_text(encoding="utf-8")
    cases = {
        whole.replace("edge", "rim", 1): "rounds.csv: row 1: field 'edge' is missing",
        whole.replace("stem,200", "stem,many", 1): "rounds.csv: row 1: gradient_updates must be a whole number",
        whole + "1,2\n": "rounds.csv: row 8 has not as many cells as the header",
        whole.splitlines()[0] + "\n": "rounds.csv has no rows",
    }
    for text, message in cases.items():
        (folder / "rounds.csv").write_text(text, encoding="utf-8")
        with pytest.raises(ResultsError) as caught:
            load_results("digits", tmp_path / "results")
        assert message in str(caught.value)
    (folder / "rounds.csv").write_text(whole, encoding="utf-8")
    for text in ("{", "[]", "\x00"):
        (folder / "metrics.json").write_text(text, encoding="utf-8")
        with pytest.raises(ResultsError, match=r"metrics\.json"):
            load_results("digits", tmp_path / "results")


def test_a_table_cut_between_two_rows_is_not_what_training_wrote(plant: Plant, tmp_path: Path) -> None:
    """It reads well, and would give other verdicts."""
    folder = plant("digits", "boostresnet", 0)
    table = folder / "rounds.csv"
    edit_json(folder / "run.json", lambda value: value["sha256"].update({table.name: sha256(table)}))
    load_results("digits", tmp_path / "results")
    table.write_text("".join(table.read_text(encoding="utf-8").splitlines(keepends=True)[:4]), encoding="utf-8")
    with pytest.raises(ResultsError, match=rf"^{table} is not what training wrote; publish it again: python -m repl"):
        load_results("digits", tmp_path / "results")


def test_empty_cells_are_unmeasured(plant: Plant, tmp_path: Path) -> None:
    folder = plant("digits", "e2e", 0)
    last = (folder / "history.csv").read_text(encoding="utf-8").splitlines()[-1].split(",")
    _replace(folder / "history.csv", ",".join(last), ",".join([*last[:6], "", ""]))
    (run,) = load_results("digits", tmp_path / "results").of("e2e")
    assert run.history[-1].test_accuracy is None
    assert run.history[0].test_accuracy is not None


def test_updates_that_fall_are_refused(plant: Plant, tmp_path: Path) -> None:
    folder = plant("digits", "e2e", 0)
    _replace(folder / "history.csv", "\n100,", "\n1000,")
    with pytest.raises(ResultsError, match=r"history.csv: gradient_updates must not fall"):
        load_results("digits", tmp_path / "results")


def test_seeds_must_be_trained_alike(plant: Plant, tmp_path: Path) -> None:
    plant("digits", "e2e", 0)
    folder = plant("digits", "e2e", 1, budget=0.05)
    with pytest.raises(ResultsError, match=r"1/run.json: config.budget is 0.05 but .*/seed0/run.json has 0.02; train"):
        load_results("digits", tmp_path / "results")

    def same_but_for_the_machine(value: dict[str, object]) -> None:
        value["config"]["budget"] = 0.02  # type: ignore[index]
        value["config"]["runtime"]["threads"] = 16  # type: ignore[index]

    edit_json(folder / "run.json", same_but_for_the_machine)
    assert len(load_results("digits", tmp_path / "results").of("e2e")) == 2
