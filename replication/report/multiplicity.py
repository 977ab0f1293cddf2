"""Which verdicts outlive a correction for having asked several questions of the same few runs.

A mean is judged by Student's 95 % interval, one claim at a time. Among many claims some would be decided by chance
alone; Holm's step-down procedure (Holm 1979, Scandinavian Journal of Statistics 6, 65-70) keeps the chance of a single
false decision among them at 5 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from replication.report.claims import FAILS, HOLDS, INCONCLUSIVE, Range, load_criteria
from replication.report.formats import quantity
from replication.report.verdicts import Judged

_LEVEL = 0.05


def p_value(values: Sequence[float], allowed: Range) -> float:
    """Of Student's two-sided test that the mean is at the end of the range nearest to it; zero where the values are
    equal and not there. An interval of 95 % reaches that end exactly where this is 0.05.
    """
    from scipy import stats

    mean = statistics.fmean(values)
    away = min(abs(mean - end) for end in (allowed.low, allowed.high) if math.isfinite(end))
    error = statistics.stdev(values) / math.sqrt(len(values))
    if error == 0:
        return 0.0 if away else 1.0
    return float(2 * stats.t.sf(away / error, len(values) - 1))


def rejected(p_values: Sequence[float]) -> list[bool]:
    """Which hypotheses Holm's procedure rejects at 5 %, in the order given."""
    found = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > _LEVEL / (len(p_values) - rank):
            break
        found[index] = True
    return found


def judged_means(verdicts: Sequence[Judged], *, with_added: bool = False) -> list[Judged]:
    """The claims with a verdict for which Student's interval was asked, decided or not.

    Args:
        with_added: those too that were added when results had been seen; by default not, for a later question shall
            not weaken the answers to those that were there before.
    """
    return [
        one
        for one in verdicts
        if one.interval_method == "Student"
        and one.verdict in (HOLDS, FAILS, INCONCLUSIVE)
        and (with_added or not one.added)
    ]


def lost(verdicts: Sequence[Judged], *, with_added: bool = False) -> list[str]:
    """The ids of the claims that hold or fail each by itself, and are undecided with Holm's correction over the means
    above that were judged on the same dataset at the same budget.
    """
    means, ranges = judged_means(verdicts, with_added=with_added), {one.id: one.range for one in load_criteria()}
    kept = rejected([p_value(one.values, ranges[one.id]) for one in means])
    return [one.id for one, decided in zip(means, kept, strict=True) if one.verdict != INCONCLUSIVE and not decided]


def corrected_text(verdicts: Sequence[Judged]) -> str:
    """'8 means judged, 6 decided, 4 after Holm's correction (no longer: 4, relation-joint), and with those marked † 9,
    7 and 4 (no longer: 4, 10-resampled, relation-joint)'; empty where none is decided.
    """
    judged, decided, kept, gone = _counts(verdicts, with_added=False)
    if not decided:
        return ""
    text = f"{quantity(judged, 'mean')} judged, {decided} decided, {kept} after Holm's correction{gone}"
    everything = _counts(verdicts, with_added=True)
    if everything[0] == judged:
        return text
    judged, decided, kept, gone = everything
    return f"{text}, and with those marked † {judged}, {decided} and {kept}{gone}"


def _counts(verdicts: Sequence[Judged], *, with_added: bool) -> tuple[int, int, int, str]:
    """How many means are judged, decided, and decided with Holm's correction; which are not any more, in words."""
    means, gone = judged_means(verdicts, with_added=with_added), lost(verdicts, with_added=with_added)
    decided = sum(one.verdict != INCONCLUSIVE for one in means)
    return len(means), decided, decided - len(gone), f" (no longer: {', '.join(gone)})" if gone else ""
