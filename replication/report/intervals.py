"""Confidence intervals that take small numbers of seeds into account."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

_CONFIDENCE = 0.95


def student_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's t confidence interval of the mean; None for fewer than two values."""
    from scipy import stats

    if len(values) < 2:
        return None
    error = statistics.stdev(values) / math.sqrt(len(values))
    width = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)) * error
    mean = statistics.fmean(values)
    return mean - width, mean + width


def wilson_interval(successes: int, number: int) -> tuple[float, float]:
    """Wilson's score interval of a fraction."""
    z = statistics.NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)
    centre = (successes + z**2 / 2) / (number + z**2)
    width = z / (number + z**2) * math.sqrt(successes * (number - successes) / number + z**2 / 4)
    return max(0.0, centre - width), min(1.0, centre + width)
