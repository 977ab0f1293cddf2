"""Check that what README.md and docs/ tell people to type and to look at exists; nothing is run, everything is parsed.

    python scripts/check_readme.py [PAGE ...]

Looked at are the commands in ```console and ```bash blocks (make targets, `python -m replication` subcommands with
their arguments, DVC stages and overridden parameters, files) and the links to files and their sections.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import typer
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

_BLOCK = re.compile(r"^```(?P<language>console|bash|sh|shell)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = (ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<path>[^)\s#]*)(?:#(?P<section>[^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
_SEPARATORS = {"&&", "||", ";", "|", "&"}
# What a README writes for "one of yours", and a value that the subcommands take there.
_STAND_INS = {"DATASET": "digits", "METHOD": "boostresnet", "N": "0"}
# Commands whose arguments are not ours to know.
_FOREIGN = {
    "apt-get",
    "cd",
    "cp",
    "curl",
    "export",
    "git",
    "mkdir",
    "mlflow",
    "module",
    "nvidia-smi",
    "rsync",
    "sbatch",
}
_FOREIGN |= {"scp", "source", "srun", "ssh", "tar", "unset", "uv"}


def commands(text: str) -> Iterator[list[str]]:
    """Every simple command in the shell blocks of a README, as words; in console blocks only what follows a `$ `."""
    for block in _BLOCK.finditer(text):
        body = block["body"].replace("\\\n", " ")
        for line in body.splitlines():
            if block["language"] == "console":
                if not line.startswith("$ "):
                    continue
                line = line[2:]
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
            lexer.whitespace_split = True
            yield from _split(list(lexer))


def _split(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in [*words, ";"]:
        if word in _SEPARATORS:
            while command and (_ASSIGNMENT.match(command[0]) or command[0] == "sudo"):
                command = command[1:]
            if command:
                yield command
            command = []
        else:
            command.append(word)


def check_page(path: Path) -> list[str]:
    """What is wrong with a page, one line each."""
    text = path.read_text(encoding="utf-8")
    found = []
    for command in commands(text):
        problem = check_command(command)
        if problem:
            found.append(f"`{shlex.join(command)}`: {problem}")
    for link in _LINK.finditer(text):
        target = path.parent / link["path"] if link["path"] else path
        if not target.exists():
            found.append(f"link to {link['path']}: no such file")
        elif link["section"] and link["section"] not in _sections(target):
            found.append(f"link to {link['path']}#{link['section']}: no such section")
    return found


def _sections(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = (heading["text"].lower() for heading in _HEADING.finditer(page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in headings}


def check_command(words: list[str]) -> str | None:
    """What is wrong with one command, None if nothing."""
    program = Path(words[0]).name
    checks: dict[str, Callable[[list[str]], str | None]] = {
        "make": check_make,
        "dvc": check_dvc,
        "pip": _check_pip,
        "bash": _check_file,
        "python": _check_python,
        "python3": _check_python,
    }
    if program in checks:
        return checks[program](words[1:])
    return None if program in _FOREIGN else f"unknown command {words[0]}"


def check_make(arguments: list[str]) -> str | None:
    """Every target exists; variables are not checked."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in arguments:
        if (
            not target.startswith("-")
            and "=" not in target
            and not re.search(rf"^{re.escape(target)}:", makefile, re.M)
        ):
            return f"no target {target} in the Makefile"
    return None


def check_replication(arguments: list[str]) -> str | None:
    """The subcommand takes these arguments; in them, the words of _STAND_INS stand for any value of their kind."""
    from replication.__main__ import app

    group = typer.main.get_command(app)
    arguments = [_STAND_INS.get(word, word) for word in arguments]
    if not arguments or arguments[0].startswith("-"):
        return None if arguments in ([], ["--help"]) else f"no option {arguments[0]}"
    command = getattr(group, "commands", {}).get(arguments[0])
    if command is None:
        return f"no subcommand {arguments[0]}"
    if "--help" in arguments:
        return None
    try:
        command.make_context(arguments[0], arguments[1:])
    except Exception as error:  # typer may bring its own copy of click, with its own exceptions
        explain = getattr(error, "format_message", None)
        return str(explain() if explain else error)
    return None


def check_dvc(arguments: list[str]) -> str | None:
    """DVC takes the arguments, the stages exist, and overridden parameters exist in params.yaml."""
    from dvc.cli import parse_args

    try:
        parsed = parse_args(arguments)
    except (Exception, SystemExit) as error:
        return f"DVC does not take it ({error})"
    for target in getattr(parsed, "targets", None) or []:
        name, separator, item = str(target).partition("@")
        if getattr(parsed, "glob", False):
            if not fnmatch.filter(stages(), str(target)):
                return f"no stage like {target}"
            continue
        if separator and not any(_fits(stage, f"{name}@{item}") for stage in stages()):
            return f"no stage {target}"
        if not separator and not (ROOT / name).exists() and name not in {stage.partition("@")[0] for stage in stages()}:
            return f"neither a stage nor a file: {target}"
    for override in getattr(parsed, "set_param", None) or []:
        if not _is_parameter(str(override).lstrip("+~").partition("=")[0]):
            return f"no parameter {override}"
    return None


def _fits(stage: str, wanted: str) -> bool:
    """Whether a stage's name is the wanted one; capital words in the latter stand for anything."""
    pattern = re.sub(r"[A-Z]+", "[^@]+", re.escape(wanted))
    return re.fullmatch(pattern, stage) is not None


_STAGES: list[str] = []


def stages() -> list[str]:
    """The names of all stages in dvc.yaml."""
    if not _STAGES:
        listing = subprocess.run(
            [sys.executable, "-m", "dvc", "stage", "list", "--all", "--name-only"],
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        _STAGES.extend(line.strip() for line in listing.stdout.splitlines())
    return _STAGES


def _is_parameter(dotted: str) -> bool:
    """Whether params.yaml has the key; under experiments.NAME, everything that defaults has."""
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    keys = dotted.split(".")
    if keys[0] == "experiments" and len(keys) > 2:
        keys = ["defaults", *keys[2:]]
    for key in keys:
        name = key.partition("[")[0]
        if not isinstance(document, dict) or name not in document:
            return False
        document = document[name]
    return True


def _check_python(arguments: list[str]) -> str | None:
    if arguments[:2] == ["-m", "replication"]:
        return check_replication(arguments[2:])
    if arguments[:2] == ["-m", "pip"]:
        return _check_pip(arguments[2:])
    if arguments[:1] and not arguments[0].startswith("-"):
        return _check_file(arguments)
    return None


def _check_pip(arguments: list[str]) -> str | None:
    for option, value in pairwise(arguments):
        if option in ("-r", "--requirement"):
            return _check_file([value])
    return None


def _check_file(arguments: list[str]) -> str | None:
    return None if not arguments or (ROOT / arguments[0]).exists() else f"no file {arguments[0]}"


def main(arguments: list[str]) -> int:
    problems = 0
    for path in [Path(argument).resolve() for argument in arguments] or PAGES:
        found = check_page(path)
        name, typed = os.path.relpath(path, ROOT), len(list(commands(path.read_text(encoding="utf-8"))))
        for problem in found:
            print(f"error: {name}: {problem}", file=sys.stderr)
        if not found:
            print(f"{name}: commands ({typed}) and all links are sound")
        problems += len(found)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
