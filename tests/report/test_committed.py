"""What is committed beside results/ was made from it, as it is now: verdicts, tables, numbers and figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.testing.compare import compare_images

from replication.config import DATASETS
from replication.files import read_json
from replication.report import build, headline, readme
from replication.report.claims import judge, judge_budgets

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
_SAME_PICTURE = 0.5  # root mean square over the pixels, of 255
PUBLISHED = [name for name in DATASETS if (RESULTS / name / "claims.json").is_file()]


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_verdicts_are_those_of_the_results(dataset: str) -> None:
    committed = read_json(RESULTS / dataset / "claims.json")
    found = {"": judge(dataset, RESULTS), **judge_budgets(dataset, RESULTS)}
    listed = {"": committed["claims"], **committed["other_budgets"]}
    assert set(listed) == set(found)
    for budget, verdicts in found.items():
        for verdict, entry in zip(verdicts, listed[budget], strict=True):
            words = (verdict.id, verdict.claim, verdict.criterion, verdict.verdict, verdict.reason, verdict.n)
            assert words == tuple(entry[name] for name in ("id", "claim", "criterion", "verdict", "reason", "n"))
            assert entry["statistic"] == (pytest.approx(verdict.statistic) if verdict.statistic is not None else None)
            assert entry["values"] == pytest.approx(verdict.values), "other runs than these were judged"


@pytest.mark.parametrize("page", ["README.md", "docs/RESULTS.md", "docs/SPEED.md"])
def test_tables_of_pages_are_those_of_the_results(page: str) -> None:
    assert readme.is_current(ROOT / page, RESULTS), "`python -m replication readme` makes them anew"


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_mean_accuracies_are_those_of_the_runs(dataset: str, tmp_path: Path) -> None:
    headline.write_headline(dataset, RESULTS, tmp_path / "test_accuracy.json")
    assert read_json(tmp_path / "test_accuracy.json") == read_json(RESULTS / dataset / "test_accuracy.json")


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_tables_numbers_and_figures_of_the_article_are_those_of_the_results(dataset: str, tmp_path: Path) -> None:
    build.build_report(dataset, RESULTS, tmp_path)
    committed, made = ROOT / "paper/generated" / dataset, tmp_path / dataset
    again = f"`python -m replication report {dataset}` makes them anew"
    assert {path.name for path in made.iterdir()} == {path.name for path in committed.iterdir()}, again
    for path in sorted(made.glob("*.tex")):
        assert path.read_text(encoding="utf-8") == (committed / path.name).read_text(encoding="utf-8"), again
    for path in sorted(made.glob("*.png")):
        # Another version of Matplotlib may smooth an edge differently; one point that moved is above this.
        difference = compare_images(str(committed / path.name), str(path), tol=_SAME_PICTURE)
        assert difference is None, f"{path.stem}: {again} ({difference})"
