"""What the rounds of BoostResNet say about the theory, and what longer blocks change, in numbers for the article."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from replication.config import scaled
from replication.report.ablations import difference_text
from replication.report.budgets import (
    Budgeted,
    bound_text,
    differences,
    differences_at_equal_updates,
    longest_beside_labels,
    updates_worth,
    with_boostresnet,
)
from replication.report.comparisons import differences_at_end, end_differences
from replication.report.costs import Cost
from replication.report.formats import Estimate, counts, fixed, points_text, quantity, significant
from replication.report.intervals import student_interval
from replication.report.labels import LABEL_BOOSTING, STOCK_LIBRARY
from replication.report.results import DatasetResults, Run
from replication.report.tables import results_table

#: What of `theory_numbers` the article has for the shortest and the longest blocks.
_THEORY_OF_BUDGETS = ("final_edge", "bound", "rounds", "positive_gamma", "nonpositive_covariance")
_POINTS = "\N{NO-BREAK SPACE}points"
_IN_WORDS = {
    "boostresnet": "BoostResNet",
    "boostresnet-refined": "its refinement",
    "boostresnet-binary": "its binary form",
    "e2e": "end-to-end networks",
    "adaboost-mm": "AdaBoost.MM",
    "gradient-boosting": "gradient boosting",
}


def theory_numbers(runs: Sequence[Run]) -> dict[str, str]:
    """What the last round of BoostResNet says about Lemma 3.2, Theorem 4.2 and Definition 4.1."""
    if not runs:
        return {}
    last = [run.rounds[-1] for run in runs]
    values = {
        "final_edge": fixed(fmean([entry.edge for entry in last]), "", 6),
        "bound": bound_text(runs),
        "train_error": f"{100 * fmean([entry.train_error for entry in last]):.2f}\N{NO-BREAK SPACE}%",
        "rounds": counts([len(run.rounds) for run in runs], ""),
        "positive_gamma": counts([sum(entry.gamma > 0 for entry in run.rounds) for run in runs], ""),
        "nonpositive_covariance": counts(
            [
                sum(not entry.positive_covariance for entry in run.rounds if entry.covariance is not None)
                for run in runs
            ],
            "",
        ),
        "first_round_test": _first_round_test(runs),
        "rising_edges": counts([_rises([entry.edge for entry in run.rounds]) for run in runs], ""),
        "above_bound": counts([sum(entry.train_error > entry.bound for entry in run.rounds) for run in runs], ""),
        "informative_bounds": counts([sum(entry.bound < 1 for entry in run.rounds) for run in runs], ""),
        "sign_changes": _sign_changes(runs),
        "fell/positive": _falls(runs, positive=True),
        "fell/nonpositive": _falls(runs, positive=False),
        "early_blocks": counts([_early_blocks(run) for run in runs], ""),
    }
    after = [_rounds_before_the_bound_says_more(run) for run in runs]
    if all(after):
        values["bound_after_zero"] = quantity(counts(after, ""), "round")
    differences = [run.metrics.lemma_difference for run in runs if run.metrics.lemma_difference is not None]
    if differences:
        values["lemma_difference"] = significant(max(differences), "", 2)
    return values


def _rounds_before_the_bound_says_more(run: Run) -> int:
    """Rounds from the first without a training error to the first whose bound is below one; 0 without them."""
    zero = next((entry.block for entry in run.rounds if not entry.train_error), None)
    below = next((entry.block for entry in run.rounds if entry.bound < 1), None)
    return max(0, below - zero) if zero is not None and below is not None else 0


def _early_blocks(run: Run) -> int:
    """Blocks that ended before their limit."""
    most = run.info.settings.get("boostresnet.updates_per_block")
    limit = scaled(most, run.metrics.budget) if isinstance(most, int) else 0
    return sum(entry.gradient_updates < limit for entry in run.rounds)


def _sign_changes(runs: Sequence[Run]) -> str:
    """How often gamma is positive in one round and not in the next, or the other way round: '37 of 72'."""
    changes = [(later.gamma > 0) != (earlier.gamma > 0) for run in runs for earlier, later in pairwise(run.rounds)]
    return f"{sum(changes)} of {len(changes)}"


def _falls(runs: Sequence[Run], *, positive: bool) -> str:
    """In how many rounds with (or without) a positive gamma the training error fell, all seeds together: '37 of 48'.

    The first round has none before it and does not count.
    """
    falls = [
        later.train_error < earlier.train_error
        for run in runs
        for earlier, later in pairwise(run.rounds)
        if (later.gamma > 0) == positive
    ]
    return f"{sum(falls)} of {len(falls)}"


def budget_numbers(budgets: Sequence[Budgeted], cost: Cost | None) -> dict[str, str]:
    """`budgets/first/…` and `budgets/last/…`: the shortest blocks and the longest; `budgets/compared/…`: the longest
    whose number of operations end to end was evaluated at, if those are longer than the experiment's own;
    `budgets/equal/…`: likewise, whose number of updates; `budgets/end_to_end/…`: end to end under another budget than
    those; `budgets/refined/…`: refined beside end to end; `budgets/boosting/…`: the longest blocks beside which the
    boosting of labels was run.
    """
    values: dict[str, str] = {}
    others = [budgeted.results for budgeted in budgets if not budgeted.own]
    everything, budgets = budgets, with_boostresnet(budgets)
    for name, budgeted in zip(("first", "last"), (*budgets[:1], *budgets[-1:]), strict=False):
        runs = budgeted.runs
        theory = {name: text for name, text in theory_numbers(runs).items() if name in _THEORY_OF_BUDGETS}
        texts = theory | {
            "budget": f"{budgeted.budget:g}",
            "updates_per_block": counts([entry.gradient_updates for run in runs for entry in run.rounds], ""),
            "train": points_text(Estimate.of([run.metrics.train_accuracy for run in runs])) or "",
            "test": points_text(Estimate.of([run.metrics.test_accuracy for run in runs])) or "",
            "bounds": listed([significant(run.rounds[-1].bound, "", 2) for run in runs]),
            "train_errors": listed([significant(run.rounds[-1].train_error, "", 2) for run in runs]),
        }
        texts |= _by_training_alone(budgeted, cost)
        values |= {f"budgets/{name}/{key}": text for key, text in texts.items()}
    if not budgets:
        return values
    values["budgets/methods"] = _methods_text(others)
    values |= {f"budgets/last/{name}": text for name, text in _other_methods(budgets[-1].results).items()}
    values |= _beside_labels(longest_beside_labels(budgets)) | _refined_beside_end_to_end(others)
    shorter = [results for results in others if results is not budgets[-1].results and results.of("e2e")]
    values |= _end_to_end(shorter, budgets[-1].results)
    compared = [budgeted for budgeted in budgets if differences(budgeted, cost)]
    own = [budgeted.budget for budgeted in budgets if budgeted.own]
    values |= _at_equal_updates([budgeted for budgeted in budgets if own and budgeted.budget > own[0]], everything)
    if own and compared and compared[-1].budget > own[0]:
        longest = compared[-1]
        values["budgets/compared/budget"] = f"{longest.budget:g}"
        values["budgets/compared/worth"] = counts(updates_worth(longest, cost), "")
        for split in ("test", "validation"):
            found = differences(longest, cost, split)
            values[f"budgets/compared/{split}"] = difference_text(found, _POINTS)
            values[f"budgets/compared/{split}/words"] = lead_text(found)
            if further := differences(longest, cost, split, too=True):
                values[f"budgets/compared/{split}/further"] = difference_text(further, _POINTS)
    return values


def _by_training_alone(budgeted: Budgeted, cost: Cost | None) -> dict[str, str]:
    """`worth`, and of it `training/worth`; `training/SPLIT`: BoostResNet against end to end by the latter."""
    found = {split: differences(budgeted, cost, split, training_alone=True) for split in ("test", "validation")}
    if not all(found.values()):
        return {}
    texts = {f"training/{split}": difference_text(values, _POINTS) for split, values in found.items()}
    texts["training/worth"] = counts(updates_worth(budgeted, cost, training_alone=True), "")
    return texts | {"worth": counts(updates_worth(budgeted, cost), "")}


def _methods_text(others: Sequence[DatasetResults]) -> str:
    """What was run under other budgets: 'BoostResNet alone was', 'BoostResNet, its refinement and … were'."""
    found = {name for results in others for name in results.runs}
    names = [words for name, words in _IN_WORDS.items() if name in found]
    return f"{', '.join(names[:-1])} and {names[-1]} were" if len(names) > 1 else f"{names[0]} alone was"


def _other_methods(results: DatasetResults) -> dict[str, str]:
    """The methods beside BoostResNet under one budget, at their ends."""
    texts: dict[str, str] = {}
    for row in results_table(results).rows:
        if row.seeds and row.key not in ("boostresnet", STOCK_LIBRARY):
            texts |= {
                f"{row.key}/train": points_text(row.train) or "",
                f"{row.key}/test": points_text(row.test) or "",
                f"{row.key}/seeds": quantity(len(row.seeds), "seed"),
                f"{row.key}/gradient_updates": counts(row.gradient_updates, ""),
            }
            if row.exact_test:
                texts[f"{row.key}/exact"] = points_text(row.exact_test) or ""
    return texts


def _refined_beside_end_to_end(others: Sequence[DatasetResults]) -> dict[str, str]:
    """What a refined network has on end to end after as many updates in all, paired by seed, under the greatest other
    budget that has both.
    """
    for results in reversed(others):
        gaps = {
            name: differences_at_end(results, "boostresnet-refined", "e2e", f"{name}_accuracy", equal_updates=True)
            for name in ("test", "validation", "exact_test")
        }
        if gaps["test"]:
            refined = results.of("boostresnet-refined")
            texts = {
                "budget": f"{refined[0].metrics.budget:g}",
                "gradient_updates": counts([run.metrics.gradient_updates for run in refined], ""),
            }
            texts |= {f"gap/{name}": difference_text(found, _POINTS) for name, found in gaps.items() if found}
            return {f"budgets/refined/{name}": text for name, text in texts.items()}
    return {}


def _beside_labels(longest: Budgeted | None) -> dict[str, str]:
    """BoostResNet and the boosting of labels after equally many updates, what they have after the first round, and what
    sets them apart at the end, paired by seed.
    """
    if longest is None:
        return {}
    runs = longest.runs
    texts = {
        "budget": f"{longest.budget:g}",
        "updates_per_block": counts([entry.gradient_updates for run in runs for entry in run.rounds], ""),
        "test": points_text(_mean(runs, "test_accuracy")),
        "first_round_test": _first_round_test(runs),
    }
    for method in LABEL_BOOSTING:
        found = longest.results.of(method)
        texts[f"{method}/seeds"] = quantity(len(found), "seed")
        texts |= {f"{method}/{split}": points_text(_mean(found, f"{split}_accuracy")) for split in ("train", "test")}
        texts[f"{method}/first_round_test"] = _first_round_test(found)
        ahead = differences_at_end(longest.results, "boostresnet", method, equal_updates=True)
        texts |= {f"gap/{method}/test": difference_text(ahead, _POINTS)} if ahead else {}
    return {f"budgets/boosting/{name}": text for name, text in texts.items() if text}


def _first_round_test(runs: Sequence[Run]) -> str:
    """Test accuracy of the first hypothesis module, on the images behind the curves; of the first weak learner, which
    the first point of its curve is.
    """
    first = [(run.rounds or run.history)[0].test_accuracy for run in runs]
    return points_text(Estimate.of([accuracy for accuracy in first if accuracy is not None])) or ""


def _mean(runs: Sequence[Run], accuracy: str) -> Estimate | None:
    return Estimate.of([getattr(run.metrics, accuracy) for run in runs])


def _at_equal_updates(longer: Sequence[Budgeted], everything: Sequence[Budgeted]) -> dict[str, str]:
    """The longest blocks for which end to end was evaluated after as many updates."""
    for budgeted in reversed(longer):
        gaps = {split: differences_at_equal_updates(budgeted, everything, split) for split in ("test", "validation")}
        if gaps["test"]:
            texts = {
                "budget": f"{budgeted.budget:g}",
                "gradient_updates": counts([run.metrics.gradient_updates for run in budgeted.runs], ""),
            }
            texts |= {split: difference_text(found, _POINTS) for split, found in gaps.items() if found}
            return {f"budgets/equal/{name}": text for name, text in texts.items()}
    return {}


def _end_to_end(others: Sequence[DatasetResults], longest: DatasetResults) -> dict[str, str]:
    """End to end under the greatest of other budgets, and what the longest blocks have on it at both ends."""
    if not others:
        return {}
    runs, boosted = others[-1].of("e2e"), longest.of("boostresnet")
    texts = {
        "budget": f"{runs[0].metrics.budget:g}",
        "gradient_updates": counts([run.metrics.gradient_updates for run in runs], ""),
        "seeds": quantity(len(runs), "seed"),
        "train": points_text(Estimate.of([run.metrics.train_accuracy for run in runs])) or "",
        "test": points_text(Estimate.of([run.metrics.test_accuracy for run in runs])) or "",
        "against": counts([run.metrics.gradient_updates for run in boosted], ""),
    }
    for split in ("test", "validation"):
        gaps = end_differences(boosted, runs, f"{split}_accuracy")
        texts |= {f"gap/{split}": difference_text(gaps, _POINTS)} if gaps else {}
    return {f"budgets/end_to_end/{name}": text for name, text in texts.items()}


def lead_text(differences: Sequence[float]) -> str:
    """Who is ahead, in BoostResNet's accuracy less that of end to end: 'end to end is ahead by 1.62 points, which 3
    seeds cannot tell from zero' where Student's interval has both signs in it.
    """
    mean, interval = 100 * fmean(differences), student_interval(differences)
    if not float(f"{mean:.2f}"):
        return "neither is ahead"
    text = f"{'BoostResNet' if mean > 0 else 'end to end'} is ahead by {abs(mean):.2f} points"
    if interval is None:
        return f"{text} (1 seed)"
    told = interval[0] > 0 or interval[1] < 0
    return text if told else f"{text}, which {len(differences)} seeds cannot tell from zero"


def listed(texts: Sequence[str]) -> str:
    """'0.87, 0.91 and 0.76'."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))


def _rises(values: Sequence[float]) -> int:
    return sum(later > earlier for earlier, later in pairwise(values))
