"""A page that asks for one table, as README.md and docs/RESULTS.md do."""

from __future__ import annotations

from pathlib import Path

from replication.report.readme import is_current, markers, update_page


def page_of(table: str, folder: Path, results: Path) -> str:
    """What stands in such a page after it was brought up to date."""
    page = folder / "README.md"
    page.write_text("\n".join(markers(table)), encoding="utf-8")
    assert update_page(page, results) and is_current(page, results)
    return page.read_text(encoding="utf-8")
