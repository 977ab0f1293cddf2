"""Numbers as readers want them, and strings that LaTeX can swallow."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence

import attrs

_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_\allowbreak{}",  # names of parameters stand in narrow columns
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "±": r"\ensuremath{\pm}",
    "\N{MINUS SIGN}": r"\ensuremath{-}",
    "·": r"\ensuremath{\cdot}",
    "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
    "∞": r"\ensuremath{\infty}",
    "≤": r"\ensuremath{\le}",
    "\N{EN DASH}": "--",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
}
_SUPERSCRIPT, _PLAIN = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"


@attrs.frozen
class Estimate:
    """Mean over seeds with the sample standard deviation (divisor n - 1), which one seed does not have."""

    mean: float
    std: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate | None:
        """The estimate from one value per seed; None without any."""
        if not values:
            return None
        if not all(map(math.isfinite, values)):
            return cls(sum(values), None, len(values))
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def all_equal(values: Sequence[float]) -> bool:
    """Whether values are the same but for rounding, so that an interval of them has no width to show."""
    return math.isclose(min(values), max(values), rel_tol=1e-9, abs_tol=1e-12)


def quantity(number: int | str, noun: str) -> str:
    """'1 seed', '3 seeds'; numbers of a record of the machine come as text."""
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"


def latex_stacked(text: str) -> str:
    """A cell for a narrow column: the value above its spread, its interval, what it is out of or a remark, and broken
    nowhere else.
    """
    first, *more = re.split(r" (?=[\[(±]|of \d)", text)
    return r"\linebreak ".join([latex_escape(first), *(rf"\mbox{{{latex_escape(part)}}}" for part in more)])


def latex_escape(text: str) -> str:
    """`text` with everything escaped that means something to LaTeX; what pdfLaTeX's fonts lack becomes '?'."""
    parts = re.split(f"([{_SUPERSCRIPT}]+)", " ".join(text.split()))
    return "".join(_latex_exponent(part) if part and part[0] in _SUPERSCRIPT else _latex_part(part) for part in parts)


def latex_note(text: str) -> str:
    """`text`, escaped, as a note of a table's own width below it."""
    return rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize {latex_escape(text)}\end{{minipage}}"


def _latex_exponent(part: str) -> str:
    return rf"\ensuremath{{^{{{part.translate(str.maketrans(_SUPERSCRIPT, _PLAIN))}}}}}"


def _latex_part(part: str) -> str:
    return "".join(map(_latex_character, part))


def _latex_character(character: str) -> str:
    if character in _LATEX_SPECIAL:
        return _LATEX_SPECIAL[character]
    # Latin-1 letters are in the T1 fonts; control characters and other alphabets would stop the compilation.
    known = " " <= character <= "~" or ("\u00c0" <= character <= "\u00ff")
    return character if known else "?"


def percent(estimate: Estimate | None, missing: str) -> str:
    """Fractions as per cent without the sign: '97.35 ± 0.12', or '97.35' for one seed."""
    if estimate is None:
        return missing
    spread = "" if estimate.std is None else f" ± {100 * estimate.std:.2f}"
    return f"{100 * estimate.mean:.2f}{spread}"


def points_text(estimate: Estimate | None) -> str | None:
    """Accuracy for prose: '97.35 ± 0.12 %', or '97.35 % (1 seed)'."""
    if estimate is None:
        return None
    if estimate.std is None:
        return f"{100 * estimate.mean:.2f}\N{NO-BREAK SPACE}% (1 seed)"
    return f"{100 * estimate.mean:.2f} ± {100 * estimate.std:.2f}\N{NO-BREAK SPACE}%"


def signed(value: float) -> str:
    """A difference with its sign, a true minus; none where it rounds to zero."""
    text = f"{value:+.2f}"
    return (text if float(text) else text.lstrip("+-")).replace("-", "\N{MINUS SIGN}")


def count(value: int) -> str:
    """A whole number with thousands separated: '1,234,567'."""
    return f"{value:,}"


def counts(values: Sequence[int], missing: str) -> str:
    """One number where all seeds agree, else their range."""
    if not values:
        return missing
    low, high = min(values), max(values)
    return count(low) if low == high else f"{count(low)}\N{EN DASH}{count(high)}"


def duration(seconds: float | None, missing: str) -> str:
    """A wall time to two or three significant figures, in the unit that suits it."""
    if seconds is None:
        return missing
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def significant(value: float | None, missing: str, digits: int = 3) -> str:
    """A number to so many significant figures, as a power of ten where that is shorter; a true minus sign."""
    if value is None:
        return missing
    if math.isinf(value):
        return "∞" if value > 0 else "\N{MINUS SIGN}∞"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        power = str(int(exponent)).translate(str.maketrans(_PLAIN, _SUPERSCRIPT))
        return f"{mantissa} \N{MULTIPLICATION SIGN} 10{power}".replace("-", "\N{MINUS SIGN}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def fixed(value: float | None, missing: str, decimals: int = 3) -> str:
    """A number with so many decimals; a true minus sign."""
    if value is None:
        return missing
    if math.isinf(value):
        return "∞" if value > 0 else "\N{MINUS SIGN}∞"
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\N{MINUS SIGN}")
