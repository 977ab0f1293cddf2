"""The tables in README.md, each between two markers, always made from `results/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from replication.config import DATASETS
from replication.errors import ResultsError
from replication.files import atomic_path
from replication.report.costs import TARGETS_OF, load_cost
from replication.report.render import markdown_results, markdown_targets
from replication.report.results import load_results
from replication.report.tables import results_table
from replication.report.verdicts import load_verdicts, markdown_claims

START, END = "<!-- results:start -->", "<!-- results:end -->"


def update_readme(readme_path: Path = Path("README.md"), results_root: Path = Path("results")) -> bool:
    """Put the current tables between their markers; returns whether anything changed.

    Raises:
        ResultsError: the README or one of its markers is missing, or a published result is malformed.
    """
    current, wanted = _current_and_wanted(readme_path, results_root)
    if current == wanted:
        return False
    with atomic_path(readme_path) as temporary:
        temporary.write_text(wanted, encoding="utf-8")
    return True


def check_readme(readme_path: Path = Path("README.md"), results_root: Path = Path("results")) -> bool:
    """Whether the tables in the README are those that `results/` gives; errors as in `update_readme`."""
    current, wanted = _current_and_wanted(readme_path, results_root)
    return current == wanted


def _current_and_wanted(readme_path: Path, results_root: Path) -> tuple[str, str]:
    try:
        text = readme_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"cannot read {readme_path}: {error}; run from the repository root") from error
    table = markdown_results(
        [results_table(load_results(dataset, results_root), load_cost(dataset, results_root)) for dataset in DATASETS]
    )
    wanted = _replaced(text, START, END, table, readme_path)
    for name, make in _OPTIONAL.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        if start in text or end in text:
            wanted = _replaced(wanted, start, end, make(results_root), readme_path)
    return text, wanted


def _claims(results_root: Path) -> str:
    return markdown_claims({dataset: load_verdicts(dataset, results_root) for dataset in DATASETS})


def _targets(results_root: Path) -> str:
    return markdown_targets(load_cost(TARGETS_OF, results_root))


#: What stands only in a README that asks for it, by the name in its markers.
_OPTIONAL: dict[str, Callable[[Path], str]] = {"claims": _claims, "targets": _targets}


def _replaced(text: str, start: str, end: str, table: str, readme_path: Path) -> str:
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ResultsError(f"{readme_path}: must hold '{start}' and then '{end}' once each; put them around the table")
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{table}\n{end}{rest.partition(end)[2]}"
