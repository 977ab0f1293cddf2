"""Holm's correction of the verdicts on means, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import attrs
import pytest

from replication.report.claims import Range, load_criteria
from replication.report.intervals import student_interval
from replication.report.multiplicity import corrected_text, judged_means, lost, p_value, rejected
from replication.report.verdicts import Judged, load_verdicts


def test_the_p_value_is_students() -> None:
    # 1, 2, 3: mean 2, standard error 1/sqrt(3), t = 2 sqrt(3) with two degrees of freedom, for which
    # p = 1 - t / sqrt(2 + t^2) = 1 - sqrt(12 / 14).
    assert p_value([1.0, 2.0, 3.0], Range(low=0)) == pytest.approx(1 - math.sqrt(12 / 14))
    assert p_value([-1.0, -2.0, -3.0], Range(high=0)) == pytest.approx(1 - math.sqrt(12 / 14))
    assert p_value([1.0, 2.0, 3.0], Range(low=-5, high=4)) == p_value([1.0, 2.0, 3.0], Range(low=0)), "the nearer end"
    assert p_value([1.0, 1.0, 1.0], Range(low=0)) == 0 and p_value([1.0, 1.0], Range(low=1)) == 1


def test_the_interval_ends_where_p_is_a_twentieth() -> None:
    values = [0.3, 0.1, 0.25, 0.4]
    low, high = student_interval(values) or (0.0, 0.0)
    assert p_value(values, Range(low=low)) == pytest.approx(0.05) == p_value(values, Range(high=high))


def test_holms_procedure_steps_down() -> None:
    # Of four at 0.05, the limits are 0.0125, 0.0167, 0.025, 0.05, smallest first; it stops at the first that is above.
    assert rejected([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert rejected([0.012, 0.016, 0.024, 0.05]) == [True] * 4
    assert rejected([0.013, 0.0001]) == [True, True] and rejected([0.04, 0.04]) == [False, False]
    assert rejected([]) == []


def test_verdicts_are_counted_before_and_after(shared_tree: Path) -> None:
    verdicts = list(load_verdicts("digits", shared_tree))
    means = judged_means(verdicts)
    assert means and all(one.interval_method == "Student" for one in means)
    ranges = {one.id: one.range for one in load_criteria()}
    for one in means:  # each alone: decided by its interval exactly where its p is below 0.05
        if one.n == 3:
            assert (one.verdict != "inconclusive") == (p_value(one.values, ranges[one.id]) < 0.05)
    alone = [one for one in means if one.verdict != "inconclusive"][:1]
    assert lost(alone) == [] and corrected_text(alone) == "1 mean judged, 1 decided, 1 after Holm's correction"


def test_a_verdict_near_its_limit_is_lost_among_others() -> None:
    near, sure, open_ = (
        Judged(
            id=name, claim="", source="", verdict=verdict, applies=True, reason="", criterion="", statistic=0.0,
            interval=(0.0, 1.0), interval_method="Student", n=3, data=None, budget=None, values=values,
        )
        for name, verdict, values in (
            ("10", "holds", (0.1, 0.2, 0.14)),  # p = 0.039 against 0
            ("relation-features", "holds", (1.0, 1.01, 1.02)),
            ("relation-joint", "inconclusive", (-1.0, 0.0, 1.0)),
        )
    )  # fmt: skip
    assert 0.025 < p_value(near.values, Range(low=0)) < 0.05
    assert lost([near]) == [] and lost([near, sure, open_]) == ["10"], "0.05 / 2 is its limit among three"
    assert corrected_text([near, sure, open_]) == (
        "3 means judged, 2 decided, 1 after Holm's correction (no longer: 10)"
    )
    assert corrected_text([open_]) == "" == corrected_text([])
    late = attrs.evolve(open_, added="after first results")
    assert lost([near, late]) == [] and judged_means([near, late]) == [near], "a later question weakens no answer"
    assert lost([near, late], with_added=True) == ["10"], "but it is said what would be left with it"
    assert corrected_text([near, late]) == (
        "1 mean judged, 1 decided, 1 after Holm's correction, and with those marked † 2, 1 and 0 (no longer: 10)"
    )
