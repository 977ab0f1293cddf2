"""Kendall's tau by hand."""

from __future__ import annotations

import math

import pytest

from replication.ranks import rank_correlation


def test_rank_correlations_by_hand():
    assert rank_correlation([1, 2, 3], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert rank_correlation(range(4), [0, 2, 1, 3]) == pytest.approx((5 - 1) / 6)  # one pair of six is out of order
    # Tau-b: two pairs in order, one tied in the second.
    assert rank_correlation([1, 2, 3], [1.0, 1.0, 2.0]) == pytest.approx(2 / math.sqrt(3 * 2))


def test_a_rank_correlation_that_is_not_defined_is_none():
    assert rank_correlation([1, 2, 3], [5.0, 5.0, 5.0]) is None
    assert rank_correlation([1], [2.0]) is None
    assert rank_correlation([], []) is None
