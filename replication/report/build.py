"""Builds everything that the article includes: `paper/generated/DATASET/`."""

from __future__ import annotations

from pathlib import Path

import attrs

from replication.config import DATASETS
from replication.errors import ConfigError
from replication.files import atomic_path
from replication.report.ablations import latex_ablations, load_ablations
from replication.report.analyses import load_analyses
from replication.report.budgets import latex_budgets, load_budgeted, tables_of_others, with_boostresnet
from replication.report.costs import TARGETS_OF, load_cost
from replication.report.depth import load_depth
from replication.report.figures import FIGURES, draw_figures
from replication.report.formats import quantity
from replication.report.macros import latex_numbers
from replication.report.render import latex_results, latex_rounds, latex_targets, state_text
from replication.report.results import load_results
from replication.report.tables import results_table, round_rows
from replication.report.verdict_pages import latex_claims
from replication.report.verdicts import load_budget_verdicts, load_verdicts

_OPTIONAL = ("rounds.tex", "claims.tex", "cost.tex", "ablations.tex", "budgets.tex", "budget-claims.tex")


def build_report(
    dataset: str, results_root: Path = Path("results"), out_root: Path = Path("paper/generated")
) -> list[Path]:
    """Tables, numbers and figures of one dataset; without results, a table that says "not run" and no figure.

    Returns:
        The files written, each whole or not at all; what an earlier build left and this one does not make is removed.

    Raises:
        ConfigError: the dataset is unknown.
        ResultsError: a published result is malformed.
    """
    if dataset not in DATASETS:
        raise ConfigError(f"unknown dataset '{dataset}'; choose one of {', '.join(DATASETS)}")
    results, cost = load_results(dataset, results_root), load_cost(dataset, results_root)
    analyses, verdicts = load_analyses(results), load_verdicts(dataset, results_root)
    depth, ablations = load_depth(dataset, results_root), load_ablations(dataset, results_root)
    budgets = load_budgeted(results, results_root)
    folder, table = out_root / dataset, results_table(results, cost)
    texts = {
        "table.tex": latex_results(table, tables_of_others(budgets, cost)),
        "numbers.tex": latex_numbers(results, analyses, cost, verdicts, depth, ablations, budgets),
    }
    seeds = len(results.of("boostresnet"))
    if seeds:
        state = state_text(attrs.evolve(table, budgets=table.row("boostresnet").budgets))
        texts["rounds.tex"] = latex_rounds(round_rows(results), f"{quantity(seeds, 'seed')}. {state}")
    if verdicts:
        texts["claims.tex"] = latex_claims(dataset, verdicts)
    if elsewhere := load_budget_verdicts(dataset, results_root):
        texts["budget-claims.tex"] = "\n".join(
            latex_claims(dataset, judged, budget) for budget, judged in elsewhere.items()
        )
    if cost is not None and dataset == TARGETS_OF:
        texts["cost.tex"] = latex_targets(cost)
    if ablations:
        texts["ablations.tex"] = latex_ablations(ablations)
    if boosted := with_boostresnet(budgets):
        texts["budgets.tex"] = latex_budgets(boosted, cost)
    written = []
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(folder / name)
    written += draw_figures(results, analyses, cost, depth, budgets, folder)
    # A figure of results that are no longer there must not slip into the article.
    for name in (*_OPTIONAL, *(f"{figure}.{suffix}" for figure in FIGURES for suffix in ("pdf", "png"))):
        if folder / name not in written:
            (folder / name).unlink(missing_ok=True)
    return written
