"""Rank correlation; for analysis and report alike, so without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b; None where it is not defined (fewer than two values, or all alike)."""
    from scipy import stats  # half a second to import

    tau = float(stats.kendalltau(list(first), list(second)).statistic) if len(first) > 1 else math.nan
    return None if math.isnan(tau) else tau
