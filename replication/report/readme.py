"""The results table in README.md, between two markers, always made from `results/`."""

from __future__ import annotations

from pathlib import Path

from replication.config import DATASETS
from replication.errors import ResultsError
from replication.files import atomic_path
from replication.report.render import markdown_results
from replication.report.results import load_results
from replication.report.tables import results_table

START, END = "<!-- results:start -->", "<!-- results:end -->"


def update_readme(readme_path: Path = Path("README.md"), results_root: Path = Path("results")) -> bool:
    """Put the current results table between the markers; returns whether anything changed.

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
    """Whether the table in the README is the one that `results/` gives; errors as in `update_readme`."""
    current, wanted = _current_and_wanted(readme_path, results_root)
    return current == wanted


def _current_and_wanted(readme_path: Path, results_root: Path) -> tuple[str, str]:
    try:
        text = readme_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"cannot read {readme_path}: {error}; run from the repository root") from error
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise ResultsError(f"{readme_path}: must hold '{START}' and then '{END}' once each; put them around the table")
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    table = markdown_results([results_table(load_results(dataset, results_root)) for dataset in DATASETS])
    return text, f"{before}{START}\n{table}\n{END}{after}"
