"""The article as PDF, where LaTeX is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from replication.errors import ResultsError

HOW_TO_GET_LATEX = (
    "latexmk is not installed, so the article is not compiled; to get it: 'apt install latexmk texlive-latex-extra "
    "texlive-fonts-recommended texlive-science texlive-bibtex-extra cm-super' (Debian, Ubuntu) or "
    "'brew install --cask mactex-no-gui' (macOS)"
)
_COMMAND = ("latexmk", "-pdf", "-g", "-interaction=nonstopmode", "-halt-on-error", "main.tex")
_TIMEOUT = 300
_OVERFULL_ALLOWED = 1.0  # points; less is invisible


def compile_paper(paper_dir: Path = Path("paper")) -> Path | None:
    """Compile `paper_dir/main.tex`; complaints of LaTeX that a reader would see are printed to stderr.

    Returns:
        The PDF, or None without latexmk (one line on stdout says how to get it).

    Raises:
        ResultsError: main.tex is missing, or LaTeX failed; the line names LaTeX's first error and the log.
    """
    if not (paper_dir / "main.tex").is_file():
        raise ResultsError(f"{paper_dir / 'main.tex'} is missing; run from the repository root")
    if shutil.which("latexmk") is None:
        print(HOW_TO_GET_LATEX)
        return None
    log = paper_dir / "main.log"
    try:
        # -g: files that were absent at the last compilation are no dependency that latexmk knows of.
        finished = subprocess.run(
            _COMMAND, cwd=paper_dir, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise ResultsError(f"LaTeX took more than {_TIMEOUT} seconds and was stopped; see {log}") from None
    except OSError as error:
        raise ResultsError(f"cannot run latexmk: {error.strerror}; check the LaTeX installation") from error
    pdf = paper_dir / "main.pdf"
    if finished.returncode != 0 or not pdf.is_file():
        raise ResultsError(f"LaTeX failed: {first_error(log, finished.stdout + finished.stderr)}; see {log}")
    for problem in check_log(log):
        print(f"warning: {problem} ({log})", file=sys.stderr)
    return pdf


def first_error(log: Path, output: str) -> str:
    """LaTeX's first error line ('! …') with the line number that follows it, or the last thing that latexmk said."""
    text = _read(log) or output
    error = re.search(r"^! (.+)$", text, re.MULTILINE)
    if error is None:
        said = [line.strip() for line in output.splitlines() if line.strip()]
        return said[-1] if said else "no message"
    line = re.search(r"^l\.(\d+)", text[error.end() :], re.MULTILINE)
    return error.group(1).rstrip(".") + (f" (line {line.group(1)})" if line else "")


def check_log(log: Path) -> list[str]:
    """What is wrong with a compiled article: undefined references, missing characters, overfull boxes."""
    # LaTeX breaks log lines at 79 characters, in the middle of words.
    text = _read(log)
    joined = "".join(line if len(line) == 79 else line + "\n" for line in text.splitlines())
    problems = re.findall(r"^(?:LaTeX|Package natbib) Warning: ((?:Reference|Citation|Label).*)$", joined, re.MULTILINE)
    problems += re.findall(r"^LaTeX Warning: (There were (?:undefined|multiply).*)$", joined, re.MULTILINE)
    overfull = r"^(Overfull \\[hv]box) \((\d+(?:\.\d+)?)pt too \w+\) (.*)$"
    for box, excess, where in re.findall(overfull, joined, re.MULTILINE):
        if float(excess) > _OVERFULL_ALLOWED:
            problems.append(f"{box} by {excess} pt {where}")
    problems += re.findall(r"^(Missing character: .*)$", joined, re.MULTILINE)
    return list(dict.fromkeys(problems))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="latin-1")
    except OSError:
        return ""
