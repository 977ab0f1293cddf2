"""What is said of a line before it is compared with another: shortcuts, parts of the data, samples of the curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from replication.errors import ResultsError
from replication.report.build import build_report
from replication.report.remarks import curve_images, detail, remarks
from replication.report.render import latex_results, markdown_results
from replication.report.results import load_results
from replication.report.tables import results_table
from tests.report.synthetic import Plant, edit_json


def _changed(folder: Path, section: str, **values: object) -> None:
    edit_json(folder / "run.json", lambda run: run["config"].setdefault(section, {}).update(values))


def test_shortcuts_are_named_below_the_table(plant: Plant, tmp_path: Path) -> None:
    for method in ("boostresnet", "e2e"):
        folder = plant("digits", method, 0)
        _changed(folder, "augmentation", cached_views=3, flip=True, crop_padding=0)
        _changed(folder, "runtime", precision="bfloat16", feature_precision="float16")
    text = markdown_results({"digits": results_table(load_results("digits", tmp_path / "results"))}.values())
    assert (
        "digits, BoostResNet: batches of 3 augmented views of every image per block, drawn once and stored; outputs of"
        " the frozen blocks stored in float16." in text
    )
    assert text.count("bfloat16") == 1, "what holds for all is said once"
    assert "digits, every line with updates: forward passes on training batches in bfloat16." in text
    _changed(tmp_path / "results/digits/e2e/seed0", "runtime", precision="auto", feature_precision="float16")
    text = markdown_results([results_table(load_results("digits", tmp_path / "results"))])
    assert "digits, BoostResNet: batches of 3 augmented views of every image per block, drawn once and stored;" in text
    assert "stored; forward passes on training batches in bfloat16; outputs" in text


def test_a_shortcut_of_all_but_one_method_is_said_of_each_line(plant: Plant, tmp_path: Path) -> None:
    for method in ("boostresnet", "e2e", "adaboost-mm"):
        _changed(plant("digits", method, 0), "runtime", precision="auto" if method == "boostresnet" else "bfloat16")
    text = markdown_results([results_table(load_results("digits", tmp_path / "results"))])
    assert (
        "digits, End to end, at BoostResNet's updates; End to end; AdaBoost.MM: forward passes on training batches in"
        " bfloat16." in text
    ), "runs are no others at an early point of their curves"


def test_accuracy_on_official_images_has_a_column_where_there_is_one(plant: Plant, tmp_path: Path) -> None:
    plant("digits", "boostresnet", 0)
    official = results_table(load_results("digits", tmp_path / "results"))
    assert "Official test" not in markdown_results([official])
    for method, accuracy in (("boostresnet", 0.625), ("boostresnet-binary", 0.75)):
        folder = plant("cifar10", method, 0, official=False)
        edit_json(folder / "metrics.json", lambda value, found=accuracy: value.update(exact_test_accuracy=found))
    tables = [official, results_table(load_results("cifar10", tmp_path / "results"))]
    text = markdown_results(tables)
    heads, _, *lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    column = {(line[0], line[2]): line[heads.index("Official test")] for line in lines}
    assert column["CIFAR-10 (unofficial copy)", "BoostResNet"] == "62.50"
    assert column["CIFAR-10 (unofficial copy)", "BoostResNet, binary [b]"] == "\N{EN DASH}", "too few of two classes"
    assert column["digits", "BoostResNet"] == "\N{EN DASH}"
    assert text.count("- Official test: ") == 1
    assert "& 62.50 &" in latex_results(tables[1]) and "Official test" not in latex_results(official)


def test_views_of_images_that_are_not_augmented_are_none(plant: Plant, tmp_path: Path) -> None:
    _changed(plant("digits", "boostresnet", 0), "augmentation", cached_views=3, flip=False, crop_padding=0)
    assert remarks(load_results("digits", tmp_path / "results").of("boostresnet")) == ()


@pytest.mark.parametrize("key", ["precision", "feature_precision"])
def test_seeds_of_another_precision_do_not_go_into_one_mean(plant: Plant, tmp_path: Path, key: str) -> None:
    for seed, value in enumerate(("auto", "bfloat16")):
        folder = plant("digits", "boostresnet", seed)
        _changed(folder, "runtime", threads=seed + 1, **{key: value})
    with pytest.raises(ResultsError, match=rf"config\.runtime\.{key} is 'bfloat16' but \S*/seed0/run\.json has 'auto'"):
        load_results("digits", tmp_path / "results")


def test_the_stock_library_says_how_much_it_was_fitted_to(plant: Plant, tmp_path: Path) -> None:
    folder = plant("digits", "hist-gradient-boosting", 0)
    size = load_results("digits", tmp_path / "results").all[0].info.train_size
    for samples, words in ((10, f"fitted to 10 of {size:,} training images"), (size, "")):
        edit_json(folder / "metrics.json", lambda value, samples=samples: value.update(train_samples=samples))
        assert detail(load_results("digits", tmp_path / "results").of("hist-gradient-boosting")) == words


def test_what_differs_between_datasets_is_said_once_for_each(plant: Plant, tmp_path: Path) -> None:
    for dataset in ("digits", "cifar10"):
        folder = plant(dataset, "hist-gradient-boosting", 0)
        edit_json(folder / "metrics.json", lambda value: value.update(train_samples=10))
    text = markdown_results([results_table(load_results(name, tmp_path / "results")) for name in ("digits", "cifar10")])
    assert text.count("[s]: a stock library's row") == 1
    assert "(digits: fitted to 10 of 1,293 training images; CIFAR-10: fitted to 10 of 1,293 training images)." in text


def test_samples_behind_the_curves_are_counted_where_they_are_not_all(plant: Plant, tmp_path: Path) -> None:
    folder = plant("digits", "e2e", 0)
    info = load_results("digits", tmp_path / "results").all[0].info
    sizes = [info.train_size, info.validation_size, info.test_size]
    for train, held_out, words in (
        (max(sizes), max(sizes), ""),
        (7, max(sizes), "7 training images"),
        (7, 5, "7 training, 5 validation and 5 test images"),
    ):
        _changed(folder, "evaluation", train_samples=train, held_out_samples=held_out)
        assert curve_images(load_results("digits", tmp_path / "results")) == words


def test_lines_of_another_budget_say_so(plant: Plant, tmp_path: Path) -> None:
    plant("digits", "boostresnet", 0, budget=0.5)
    plant("digits", "hist-gradient-boosting", 0, budget=0.25)
    alike = results_table(load_results("digits", tmp_path / "results"))
    assert alike.budgets == (0.5,), "a stock library has no lengths to shorten"
    assert alike.row("boostresnet").remarks == ()
    for method in ("e2e", "adaboost-mm"):
        plant("digits", method, 0, budget=0.25)
    build_report("digits", tmp_path / "results", tmp_path / "generated")
    rounds = (tmp_path / "generated/digits/rounds.tex").read_text(encoding="utf-8")
    assert "Budget: 0.5." in rounds, "that of BoostResNet alone"
    assert "Budget: 0.25, 0.5." in (tmp_path / "generated/digits/table.tex").read_text(encoding="utf-8")
    text = markdown_results([results_table(load_results("digits", tmp_path / "results"))])
    lines = {line.split(" | ")[2]: line.split(" | ")[1] for line in text.splitlines() if line.startswith("| digits")}
    assert (lines["BoostResNet"], lines["AdaBoost.MM"]) == ("0.5", "0.25")
    assert lines["Stock library: histogram gradient boosting [s]"] == "\N{EN DASH}"
    assert "digits, BoostResNet: budget 0.5." in text
    assert "digits, End to end, at BoostResNet's updates; End to end; AdaBoost.MM: budget 0.25." in text
