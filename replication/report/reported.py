"""What the paper reports, with where each figure comes from.

A figure that the paper has but that no source open to us shows is None: it is never guessed, neither from a plot nor
from memory.
"""

from __future__ import annotations

import attrs

NOT_AVAILABLE = "not available to us"

#: Letters that stand beside every value taken from elsewhere.
SOURCES: dict[str, str] = {
    "P": "the paper's text",
    "A": "the authors' released code",
    "Q": "the paper's value as quoted by a third-party report (which one was not recorded), not checked against the "
    "paper's own tables",
    "?": "stated nowhere we could find; our choice",
}


@attrs.frozen
class Reported:
    """One cell pair of the paper's results, in per cent; None where no source open to us has it."""

    train: float | None
    test: float | None
    source: str | None


_UNKNOWN = Reported(None, None, None)

_REPORTED: dict[tuple[str, str], Reported] = {
    ("cifar10", "boostresnet"): Reported(92.1, 82.1, "Q"),
    ("cifar10", "boostresnet-refined"): Reported(99.6, 88.1, "Q"),
    ("cifar10", "e2e"): _UNKNOWN,
    ("cifar10", "adaboost-mm"): _UNKNOWN,
    ("svhn", "boostresnet"): Reported(96.9, 93.8, "Q"),
    ("svhn", "boostresnet-refined"): _UNKNOWN,
    ("svhn", "e2e"): _UNKNOWN,
    ("svhn", "adaboost-mm"): _UNKNOWN,
    ("mnist", "boostresnet"): _UNKNOWN,
    ("mnist", "e2e"): _UNKNOWN,
}


def reported(dataset: str, method: str) -> Reported | None:
    """The paper's figures for a method on a dataset; None where the paper has no such experiment (digits, for one)."""
    return _REPORTED.get((dataset, method))
