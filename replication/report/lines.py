"""The texts of the results table: the cells of a line, and what a reader of the lines needs to know."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from replication.report.comparisons import SAME_UPDATES
from replication.report.formats import Estimate, counts, duration, percent
from replication.report.labels import (
    BINARY,
    DATASET_LABELS,
    E2E_AT_EQUAL_OPERATIONS,
    E2E_AT_EQUAL_UPDATES,
    NOT_RUN,
    STOCK_LIBRARY,
)
from replication.report.reported import NOT_AVAILABLE, SOURCES, Reported
from replication.report.tables import ResultRow, ResultsTable

NO_VALUE = "\N{EN DASH}"
_UNAVAILABLE_MARK = "n/a"
#: Stand behind the name of a line that does not compare with the others as it is.
_MARK = {STOCK_LIBRARY: " [s]", BINARY: " [b]"}

HEADINGS = (
    "Method", "Seeds", "Updates", "Train", "Validation", "Test", "Official test", "Paper", "Learners", "Blocks",
    "Parameters", "Time",
)  # fmt: skip
#: Where there is no room for more: a terminal of 80 columns.
ESSENTIAL = ("Method", "Seeds", "Updates", "Train", "Test", "Paper")
#: What the README compares.
COMPARED = ("Method", "Seeds", "Updates", "Train", "Validation", "Test", "Official test", "Paper")


def cells(row: ResultRow, shown: Sequence[str]) -> list[str]:
    """The texts of a line in the columns `shown`; a line that was not run keeps the paper's values."""
    texts = dict(zip(HEADINGS, _all_cells(row), strict=True))
    return [texts[heading] for heading in shown]


def _all_cells(row: ResultRow) -> tuple[str, ...]:
    if not row.seeds:
        return (row.label, NOT_RUN, *[NO_VALUE] * 5, paper_cell(row.reported), *[NO_VALUE] * 4)
    updates = counts(row.gradient_updates, NO_VALUE)
    return (
        row.label + (_MARK.get(row.key, "") if row.remarks else ""),
        str(len(row.seeds)),
        NO_VALUE if updates == "0" else updates,
        percent(row.train, NO_VALUE),
        percent(row.validation, NO_VALUE),
        percent(row.test, NO_VALUE),
        percent(_official_test(row), NO_VALUE),
        paper_cell(row.reported),
        counts(row.learners, NO_VALUE),
        counts([number for number in row.blocks if number], NO_VALUE),
        counts(row.parameters, NO_VALUE),
        duration(row.seconds, NO_VALUE),
    )


def _official_test(row: ResultRow) -> Estimate | None:
    """Test accuracy on the part of an unofficial copy that is the official one; of two classes alone, that is too few
    images to say anything.
    """
    return None if row.key == BINARY else row.exact_test


def filled(shown: Sequence[str], tables: Sequence[ResultsTable]) -> tuple[str, ...]:
    """The columns without that for unofficial copies, where there is nothing to stand in it."""
    there = any(_official_test(row) for table in tables for row in table.rows)
    return tuple(heading for heading in shown if there or heading != "Official test")


def paper_cell(value: Reported | None) -> str:
    """The paper's train and test accuracy with the letter of their source: '92.1 / 82.1 [Q]'."""
    if value is None:
        return NO_VALUE
    if value.train is None and value.test is None:
        return _UNAVAILABLE_MARK
    train, test = (_UNAVAILABLE_MARK if number is None else f"{number:.1f}" for number in (value.train, value.test))
    return f"{train} / {test} [{value.source}]"


def notes(tables: Sequence[ResultsTable], shown: Sequence[str] = HEADINGS) -> list[str]:
    """What a reader of the lines needs to know, as sentences, if they have the columns `shown`."""
    rows = [row for table in tables for row in table.rows]
    sentences = []
    if any(row.seeds for row in rows):
        sentences.append("Accuracy in per cent at the end of training, mean ± sample standard deviation over seeds.")
    if any(len(row.seeds) == 1 for row in rows):
        sentences.append("No deviation is given for 1 seed.")
    sentences.append("Paper: train / test accuracy as the paper reports it.")
    letters = sorted({row.reported.source for row in rows if row.reported and row.reported.source})
    sentences += [f"[{letter}]: {SOURCES[letter]}." for letter in letters]
    if any(paper_cell(row.reported) == _UNAVAILABLE_MARK for row in rows):
        sentences.append(f"{_UNAVAILABLE_MARK}: {NOT_AVAILABLE}.")
    if "Learners" in shown and any(row.learners for row in rows):
        sentences.append(
            "Learners: weak learners in the sum. BoostResNet's first is the network's stem, where it has one; the stem "
            "is no block."
        )
    if "Parameters" in shown and any(row.key == STOCK_LIBRARY and row.parameters for row in rows):
        sentences.append("Parameters: of the stock library's row, thresholds and leaf values.")
    if any(row.key == E2E_AT_EQUAL_UPDATES for row in rows):
        sentences.append(
            "At BoostResNet's updates: end to end's last evaluation at or before that number of updates"
            f"{_early(tables)}{_on_curve_images(tables)}."
        )
        if any(row.key == E2E_AT_EQUAL_OPERATIONS for row in rows):
            sentences.append(
                "At BoostResNet's operations: likewise, at the same number of floating-point operations, interpolated "
                "linearly between two evaluations. Operations are counted by the cost measurement; BoostResNet's "
                "include its forward passes over the training images, at every check and once for every finished block."
            )
    if "Time" in shown and any(row.seconds is not None for row in rows):
        sentences.append(
            "Time: mean over seeds of a run with its checks and curves, of a refined one with the run it starts from."
        )
    # Of how many images nothing published says: `data.exact_test_images` is how many were asked for, and fewer may be
    # known.
    if "Official test" in filled(shown, tables):
        sentences.append(
            "Official test: test accuracy on those images of an unofficial copy that are known to be the official ones."
        )
    in_common, tables = _in_common(tables)
    sentences += [sentence for key in _MARK for sentence in _marked(tables, key)]
    return sentences + in_common + [text for table in tables for text in _remarks(table)]


def _in_common(tables: Sequence[ResultsTable]) -> tuple[list[str], list[ResultsTable]]:
    """The remarks that hold for every line with updates of a dataset, said once, and the tables without them."""
    sentences, rest = [], []
    for dataset in dict.fromkeys(table.dataset for table in tables):
        own = [table for table in tables if table.dataset == dataset]
        trained = [row for table in own for row in table.rows if row.seeds and row.key != STOCK_LIBRARY]
        common = [
            text for text in (trained[0].remarks if trained else ()) if all(text in row.remarks for row in trained)
        ]
        if common:
            sentences.append(f"{DATASET_LABELS[dataset]}, every line with updates: {'; '.join(common)}.")
        for table in own:
            rows = [
                attrs.evolve(row, remarks=tuple(text for text in row.remarks if text not in common))
                for row in table.rows
            ]
            rest.append(attrs.evolve(table, rows=tuple(rows)))
    return sentences, rest


def _marked(tables: Sequence[ResultsTable], key: str) -> list[str]:
    """The remarks behind a mark, each with what differs: '[b]: two of the classes (digits: 3 against 8; MNIST: …).'."""
    details: dict[str, list[str]] = {}
    for table in tables:
        for row in table.rows:
            if row.key == key and row.remarks:
                name = f"{table.name}: " if len(tables) > 1 else ""
                details.setdefault("; ".join(row.remarks), []).extend([name + row.detail] if row.detail else [])
    mark = _MARK[key].strip()
    return [f"{mark}: {remark}" + (f" ({'; '.join(texts)})." if texts else ".") for remark, texts in details.items()]


def _remarks(table: ResultsTable) -> list[str]:
    """The remarks on its lines, each with the lines that it holds for: 'MNIST, BoostResNet; End to end: budget 1.'."""
    lines: dict[str, list[str]] = {}
    own = [row for row in table.rows if row.seeds and row.key not in _MARK]
    for row in own:
        if row.remarks:
            lines.setdefault("; ".join(row.remarks), []).append(row.label)
    everywhere = "all lines without a mark"
    return [
        f"{table.name}, {everywhere if 1 < len(labels) == len(own) else '; '.join(labels)}: {remark}."
        for remark, labels in lines.items()
    ]


def _early(tables: Sequence[ResultsTable]) -> str:
    """Where that point comes before BoostResNet's end: ' (MNIST: after 160 of BoostResNet's 200 updates)'."""
    early = [table for table in tables if table.compared not in ("", SAME_UPDATES)]
    texts = [f"{table.name}: {table.compared}" for table in early]
    return f" ({'; '.join(texts)})" if texts else ""


def _on_curve_images(tables: Sequence[ResultsTable]) -> str:
    """What such a point was measured on, where that is not all: ', on a sample (MNIST: 2,000 training images)'."""
    own = [table for table in tables if table.curve_images and not table.other_budget]  # other budgets have the same
    texts = [f"{table.name}: {table.curve_images}" for table in own]
    return f", on the sample of images behind the curves ({'; '.join(texts)})" if texts else ""
