"""The tables in README.md, docs/RESULTS.md and docs/SPEED.md, each between two markers, always made from `results/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from replication.config import DATASETS
from replication.errors import ResultsError
from replication.files import atomic_path
from replication.report.ablations import load_ablations, markdown_ablations
from replication.report.budgets import load_budgeted, markdown_budgets, tables_of_others
from replication.report.costs import TARGETS_OF, load_cost
from replication.report.lines import COMPARED
from replication.report.render import markdown_results, markdown_targets
from replication.report.results import load_results
from replication.report.tables import ResultsTable, results_table
from replication.report.verdict_pages import load_sheets, markdown_claims, markdown_counts, markdown_overview

#: The pages with such tables, relative to the root of the checkout.
PAGES = (Path("README.md"), Path("docs/RESULTS.md"), Path("docs/SPEED.md"))


def update_page(page: Path, results_root: Path = Path("results")) -> bool:
    """Put the current tables between their markers; returns whether anything changed.

    Raises:
        ResultsError: the page is missing, has no markers or one without the other, or a published result is malformed.
    """
    current, wanted = _current_and_wanted(page, results_root)
    if current == wanted:
        return False
    with atomic_path(page) as temporary:
        temporary.write_text(wanted, encoding="utf-8")
    return True


def is_current(page: Path, results_root: Path = Path("results")) -> bool:
    """Whether the tables in a page are those that `results/` gives; errors as in `update_page`."""
    current, wanted = _current_and_wanted(page, results_root)
    return current == wanted


def _current_and_wanted(page: Path, results_root: Path) -> tuple[str, str]:
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"cannot read {page}: {error}; run from the repository root") from error
    asked = [name for name in _TABLES if any(marker in text for marker in markers(name))]
    if not asked:
        raise ResultsError(f"{page} has no place for a table, such as '{' '.join(markers('results'))}'")
    wanted = text
    for name in asked:
        wanted = _replaced(wanted, name, _TABLES[name](results_root), page)
    return text, wanted


def markers(name: str) -> tuple[str, str]:
    """The lines between which a table stands."""
    return f"<!-- {name}:start -->", f"<!-- {name}:end -->"


def _replaced(text: str, name: str, table: str, page: Path) -> str:
    start, end = markers(name)
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ResultsError(f"{page}: must hold '{start}' and then '{end}' once each; put them around the table")
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{table}\n{end}{rest.partition(end)[2]}"


def _results(results_root: Path) -> list[ResultsTable]:
    """Of every dataset the table of the experiment's own budget, then those of others."""
    tables = []
    for name in DATASETS:
        results, cost = load_results(name, results_root), load_cost(name, results_root)
        tables += [results_table(results, cost), *tables_of_others(load_budgeted(results, results_root), cost)]
    return tables


def _budgets(results_root: Path) -> str:
    found = [
        (load_budgeted(load_results(name, results_root), results_root), load_cost(name, results_root))
        for name in DATASETS
    ]
    return markdown_budgets(found)


#: The tables by the name in their markers. Those in full are for pages in docs/.
_TABLES: dict[str, Callable[[Path], str]] = {
    "results": lambda root: markdown_results(
        [table for table in _results(root) if table.dataset != "digits"], COMPARED
    ),  # digits are there to try
    "results-in-full": lambda root: markdown_results(_results(root)),
    "claims-counted": lambda root: markdown_counts(load_sheets(root)),
    "claims": lambda root: markdown_overview(load_sheets(root), root="../"),
    "claims-in-full": lambda root: markdown_claims(load_sheets(root), root="../"),
    "budgets": _budgets,
    "ablations": lambda root: markdown_ablations({name: load_ablations(name, root) for name in DATASETS}),
    "targets": lambda root: markdown_targets(load_cost(TARGETS_OF, root)),
}
