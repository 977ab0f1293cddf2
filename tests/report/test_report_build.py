"""Figures, numbers, the generated folder, and the article compiled from it."""

from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import yaml

from replication.config import DATASETS
from replication.errors import ConfigError, ReplicationError, ResultsError
from replication.report import compile as report_compile
from replication.report.build import build_report
from replication.report.claims import load_criteria
from replication.report.figures import FIGURES
from replication.report.figures.style import mean_and_range
from replication.report.labels import METHOD_STYLES
from replication.report.macros import latex_numbers, numbers
from replication.report.results import load_results
from tests.report.synthetic import Plant

PAPER = Path(__file__).parents[2] / "paper"
needs_latex = pytest.mark.skipif(shutil.which("latexmk") is None, reason="latexmk is not installed")


def test_mean_and_range_over_unequal_points() -> None:
    first = (np.array([0.0, 10.0, 20.0]), np.array([0.0, 1.0, 1.0]))
    second = (np.array([0.0, 20.0, 30.0]), np.array([0.0, 4.0, 9.0]))
    x, mean, low, high = mean_and_range([first, second])
    assert x.tolist() == [0, 10, 20]
    assert mean.tolist() == [0, 1.5, 2.5]
    assert (low.tolist(), high.tolist()) == ([0, 1, 1], [0, 2, 4])


def test_the_same_results_give_the_same_bytes(shared_tree: Path, generated: Path, tmp_path: Path) -> None:
    again = build_report("digits", shared_tree, tmp_path)
    figures = {f"{name}.{kind}" for name in FIGURES if name != "accuracy-depth" for kind in ("pdf", "png")}
    texts = {"table.tex", "numbers.tex", "rounds.tex", "claims.tex", "ablations.tex", "budgets.tex"}
    texts |= {"budget-claims.tex"}
    assert {path.name for path in again} == texts | figures
    for path in again:
        assert path.read_bytes() == (generated / "digits" / path.name).read_bytes(), path.name
    pdf = (generated / "digits/accuracy.pdf").read_bytes()
    assert b"CreationDate" not in pdf and b"/Type3" not in pdf
    assert b"TrueType" in pdf or b"Type42" in pdf or b"CIDFontType2" in pdf


def test_without_results_only_texts_and_no_leftovers(generated: Path, tmp_path: Path) -> None:
    shutil.copytree(generated / "digits", tmp_path / "out/digits")
    written = build_report("digits", tmp_path / "results", tmp_path / "out")
    assert [path.name for path in written] == ["table.tex", "numbers.tex"]
    assert sorted(path.name for path in (tmp_path / "out/digits").iterdir()) == ["numbers.tex", "table.tex"]
    assert "notrun" in written[0].read_text(encoding="utf-8")


def test_one_method_alone_is_enough(plant: Plant, tmp_path: Path) -> None:
    plant("svhn", "e2e", 0)
    names = {path.name for path in build_report("svhn", tmp_path / "results", tmp_path / "out")}
    assert "accuracy.pdf" in names and "gamma.pdf" not in names


def test_a_run_that_was_not_analysed_has_the_figures_of_its_rounds(plant: Plant, tmp_path: Path) -> None:
    plant("digits", "boostresnet", 0)
    names = {path.name for path in build_report("digits", tmp_path / "results", tmp_path / "out")}
    assert {"gamma.pdf", "covariance.pdf", "edge.pdf"} <= names and not names & {"bound.pdf", "deletions.pdf"}


def test_depth_is_drawn_where_it_was_measured(generated: Path) -> None:
    names = {path.name for path in (generated / "mnist").iterdir()}
    assert names == {"table.tex", "numbers.tex", "accuracy-depth.pdf", "accuracy-depth.png"}


def test_a_perfect_training_error_is_drawn(plant: Plant, tmp_path: Path) -> None:
    folder = plant("digits", "boostresnet", 0)
    lines = (folder / "rounds.csv").read_text(encoding="utf-8").splitlines()
    assert lines[-1].split(",")[11] == "0.0"
    build_report("digits", tmp_path / "results", tmp_path / "out")


def test_numbers_for_the_prose(shared_tree: Path) -> None:
    tree, results = shared_tree, load_results("digits", shared_tree)
    values = numbers(results)
    gaps = [
        results.seed("boostresnet-refined", seed).metrics.test_accuracy  # type: ignore[union-attr]
        - results.seed("e2e", seed).metrics.test_accuracy  # type: ignore[union-attr]
        for seed in range(3)
    ]
    expected = f"{100 * np.mean(gaps):+.2f} ± {100 * np.std(gaps, ddof=1):.2f} points".replace("-", "\N{MINUS SIGN}")
    assert values["gap/boostresnet-refined"] == expected
    assert values["boostresnet/positive_gamma"] == values["boostresnet/rounds"] == "7"
    assert values["commit"] == "0123456789"
    assert values["config/end_to_end.updates"] == "default"
    latex = latex_numbers(results)
    escaped = r"Example\_\allowbreak{}CPU @ 2.0 GHz \& \textless{}made up\textgreater{}, 2 threads"
    assert rf"\setresult{{digits/hardware}}{{{escaped}}}%" in latex
    assert r"\setresult{digits/boostresnet/lemma_difference}{3.1 \ensuremath{\times} 10\ensuremath{^{-15}}" in latex
    assert latex_numbers(load_results("mnist", tree)).count(r"\setresult") == 0
    assert r"\setresult{svhn/paper/boostresnet/test}{93.8\,\%}%" in latex_numbers(load_results("svhn", tree))


def test_every_number_the_article_asks_for_exists(generated: Path) -> None:
    """A misspelt key would read "not run" for ever."""
    known: set[str] = set()
    for dataset in DATASETS:
        text = (generated / dataset / "numbers.tex").read_text(encoding="utf-8")
        known |= set(re.findall(rf"\\setresult{{{dataset}/([^}}]+)}}", text))
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(PAPER.glob("*.tex")))
    text = re.sub(r"(?<!\\)%.*", "", text)
    names = set(re.findall(r"\\(?:if)?result(?:is)?\{(?:#1|digits|cifar10|svhn|mnist)/([^}#]+)\}", text))
    names |= {f"config/{name}" for name in re.findall(r"\\settingrow(?:\{(?:[^{}]|\{[^}]*\})*\}){3}\{([^}]+)\}", text)}
    names |= set(re.findall(r"\\originrow\{[^}]*\}\{([^}#]+)\}", text))
    names |= set(re.findall(r"\\(?:ifany|where|ifwhere)\{([^}#]+)\}", text))
    effects = set(re.findall(r"\\effect\{([^}#]+)\}", text))
    assert effects == set(yaml.safe_load((PAPER.parent / "params.yaml").read_text(encoding="utf-8"))["ablations"])
    names |= {f"ablation/{variant}/test" for variant in effects}
    rows = re.findall(r"\\overviewrow\{([^}#]+)\}", text)
    names |= {f"claim/{name}/words" for name in rows}
    assert len(names) > 150
    # Of \\verdictof, whose argument ends in a claim; of runs that end at chance, of those in which gamma is once not
    # positive, of those whose bound is below one only after the error is zero, of end to end under another budget
    # than the longest blocks, of end to end from another machine, and of longer blocks on an unofficial copy: none are
    # here. Nor is end to end evaluated before the operations of the shortest blocks; the longest have the same keys.
    failures = {f"boostresnet/first_failure/{name}" for name in ("round", "seeds", "test")}
    other_ends = {name for name in names if name.startswith("budgets/end_to_end/")}
    exact = {"budgets/last/boostresnet-refined/exact", "budgets/refined/gap/exact_test"}
    further = {f"budgets/compared/{split}/further" for split in ("test", "validation")}
    shortest = {f"budgets/first/{name}" for name in ("worth", "training/worth", "training/test", "training/validation")}
    assert {name.replace("first", "last") for name in shortest} <= known
    others = {"boostresnet/bound_after_zero", *exact, *other_ends, *further, *shortest}
    assert names - known == {"words", "boostresnet-binary/guessing", *failures, *others}
    lesions = re.search(r"\\newcommand\{\\lesionrow\}.*?\n\n", text, re.DOTALL)
    assert lesions is not None
    assert {f"e2e/{name}" for name in re.findall(r"#1/#2/([^}]+)}", lesions.group())} <= known
    criteria = [c for c in load_criteria() if c.statistic != "reported_difference"]
    assert rows == [c.id for c in criteria], "the first page has every claim but the reported numbers, in their order"
    late = re.findall(r"\\overviewrow\{([^}#]+)\}\{[^}]*\\dagger", text)
    assert late == [c.id for c in criteria if c.added], "a dagger for each criterion that was added later"


def test_colours_and_markers_tell_methods_apart() -> None:
    okabe_ito = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"}
    colours = [style.colour for style in METHOD_STYLES.values()]
    assert set(colours) <= okabe_ito and len(set(colours)) == len(colours)
    assert len({style.marker for style in METHOD_STYLES.values()}) == len(colours)


def test_bad_input_gives_one_line(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown dataset 'imagenet'; choose one of digits"):
        build_report("imagenet", tree, tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ReplicationError, match="cannot write"):
        build_report("digits", tree, tmp_path / "file")


def _copy_of_the_article(folder: Path) -> Path:
    shutil.copytree(
        PAPER, folder, ignore=lambda _, names: [n for n in names if not n.endswith((".tex", ".bib", "latexmkrc"))]
    )
    return folder


@needs_latex
def test_the_article_compiles_with_and_without_results(
    generated: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paper = _copy_of_the_article(tmp_path / "paper")
    assert report_compile.compile_paper(paper) == paper / "main.pdf"
    shutil.copytree(generated, paper / "generated")
    report_compile.compile_paper(paper)
    first = (paper / "main.pdf").read_bytes()
    report_compile.compile_paper(paper)
    assert (paper / "main.pdf").read_bytes() == first, "the same input gives the same PDF"
    assert capfd.readouterr().err == "", "no undefined references, no overfull boxes"
    included = set(
        re.findall(r"generated/(\w+)/", (paper / "main.log").read_text(encoding="latin-1").replace("\n", ""))
    )
    assert included == set(DATASETS)


def test_without_latexmk_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "main.tex").write_text("", encoding="utf-8")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert report_compile.compile_paper(tmp_path) is None
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "apt install latexmk" in said and "macOS" in said


def test_a_latex_error_becomes_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResultsError, match=r"main.tex is missing"):
        report_compile.compile_paper(tmp_path)
    (tmp_path / "main.tex").write_text("", encoding="utf-8")
    fake = tmp_path / "bin" / "latexmk"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\nprintf 'x\\n! Undefined control sequence.\\nl.7 \\\\\\\\foo\\n' > main.log\nexit 12\n",
        encoding="utf-8",
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    with pytest.raises(ResultsError, match=r"LaTeX failed: Undefined control sequence \(line 7\); see .*main.log"):
        report_compile.compile_paper(tmp_path)


def test_the_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "main.log"
    log.write_text(
        "LaTeX Warning: Reference `fig:x' on page 1 undefined on input line 3.\n"
        "Package natbib Warning: Citation `y' on page 1 undefined on input line 4.\n"
        "Overfull \\hbox (0.5pt too wide) in paragraph at lines 1--2\n"
        "Overfull \\hbox (12.25pt too wide) in paragraph at lines 5--6\n",
        encoding="utf-8",
    )
    assert report_compile.check_log(log) == [
        "Reference `fig:x' on page 1 undefined on input line 3.",
        "Citation `y' on page 1 undefined on input line 4.",
        "Overfull \\hbox by 12.25 pt in paragraph at lines 5--6",
    ]
