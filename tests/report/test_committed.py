"""What is committed beside results/ was made from it, as it is now: verdicts, tables and numbers of the article."""

from __future__ import annotations

from pathlib import Path

import pytest

from replication.config import DATASETS
from replication.files import read_json
from replication.report import build, headline, readme
from replication.report.claims import judge, judge_budgets

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
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


@pytest.mark.parametrize("page", ["README.md", "docs/RESULTS.md"])
def test_tables_of_pages_are_those_of_the_results(page: str) -> None:
    assert readme.is_current(ROOT / page, RESULTS), "`python -m replication readme` makes them anew"


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_mean_accuracies_are_those_of_the_runs(dataset: str, tmp_path: Path) -> None:
    headline.write_headline(dataset, RESULTS, tmp_path / "test_accuracy.json")
    assert read_json(tmp_path / "test_accuracy.json") == read_json(RESULTS / dataset / "test_accuracy.json")


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_tables_and_numbers_of_the_article_are_those_of_the_results(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "draw_figures", lambda *_: [])
    build.build_report(dataset, RESULTS, tmp_path)
    made = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / dataset).glob("*.tex")}
    committed = ROOT / "paper/generated" / dataset
    again = f"`python -m replication report {dataset}` makes them anew"
    assert set(made) == {path.name for path in committed.glob("*.tex")}, again
    for name, text in made.items():
        assert text == (committed / name).read_text(encoding="utf-8"), f"{name}: {again}"
