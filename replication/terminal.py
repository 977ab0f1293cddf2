"""What the command line shows of a training, and how it ends: one clear line and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from replication import memory
from replication.errors import ReplicationError, TrainingError

if TYPE_CHECKING:
    from replication.models.build import LayerRow


@contextlib.contextmanager
def errors_named(run: str, folder: Path) -> Iterator[None]:
    """Put the run in front of a TrainingError that does not name its folder: several may write to one terminal."""
    try:
        yield
    except TrainingError as error:
        if str(folder) in str(error):
            raise
        raise TrainingError(f"{run}: {error}") from error


def progress_of(run: str, *, accuracies: bool = True) -> Callable[[str, Mapping[str, Any]], None]:
    """Print one line per point of the curves and per round, with the run in front: enough to watch several by.

    Args:
        accuracies: show them; not where the curves are of too few images to say anything.
    """

    def show(kind: str, row: Mapping[str, Any]) -> None:
        if kind == "history":
            text = _point(row, accuracies)
        elif kind == "rounds":
            text = _round(row)
        else:
            return
        try:
            print(f"{run}: {text}", flush=True)
        except OSError as error:  # who read it has gone, or the disk of a log is full: no reason to stop training
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
            with contextlib.suppress(OSError):
                print(f"note: {run}: progress can no longer be shown ({error}); training goes on", file=sys.stderr)

    return show


def _point(row: Mapping[str, Any], accuracies: bool) -> str:
    """'update     120 round 3: train 0.9123 validation 0.9010'; rounds count from one, as in the paper."""
    number = "" if row["block"] is None else f" round {row['block'] + 1}"
    shown = f": train {row['train_accuracy']:.4f} validation {row['validation_accuracy']:.4f}" if accuracies else ""
    return f"update {row['gradient_updates']:>7}{number}{shown}"


def _round(row: Mapping[str, Any]) -> str:
    """'update     120 round 3 ends (stage1.block2): edge 0.3123 gamma 0.1010', with what the method has of these."""
    found = " ".join(f"{name} {row[name]:.4f}" for name in ("edge", "gamma", "train_error") if row[name] is not None)
    module = f" ({row['module']})" if row["module"] else ""
    return f"update {row['cumulative_updates']:>7} round {row['block'] + 1} ends{module}: {found}"


def accuracies_of(metrics: Mapping[str, Any]) -> str:
    """'accuracy train 0.9123, validation 0.9010, test 0.8990'."""
    from replication.datasets import SPLITS

    return "accuracy " + ", ".join(f"{split} {metrics[f'{split}_accuracy']:.4f}" for split in SPLITS)


def data_copy(official: bool) -> str:
    """Which copy of a dataset something rests on."""
    return "official copy" if official else "UNOFFICIAL COPY"


def print_layers(title: str, rows: Sequence[LayerRow]) -> None:
    """A table of a network's modules and head, with sums below."""
    from rich.console import Console
    from rich.table import Table

    table = Table("module", "output", "weighted layers", "parameters", title=title)
    for row in rows:
        table.add_row(row.name, "x".join(map(str, row.output_shape)), str(row.layers), f"{row.parameters:,}")
    table.add_section()
    table.add_row("total", "", str(sum(row.layers for row in rows)), f"{sum(row.parameters for row in rows):,}")
    Console().print(table)


class _Stopped(BaseException):
    """A signal; its only argument is the number. Not KeyboardInterrupt: typer ends that one without a word."""


def _stop(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one stops at once
    raise _Stopped(number)


def _heed_signals() -> None:
    """Until training listens for itself; what is ignored, as in a background job, stays so."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def run(app: typer.Typer) -> None:
    """Run a command line; a ReplicationError or a signal becomes one line on standard error and an exit code."""
    memory.keep_freed_pages()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a sign that a terminal's encoding lacks is no reason to end
            stream.reconfigure(errors="replace")
    _heed_signals()
    try:
        app()
    except ReplicationError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except _Stopped as stop:
        name = signal.Signals(stop.args[0]).name
        print(f"error: stopped by {name}; nothing half-written is left, run the same command again", file=sys.stderr)
        sys.exit(128 + stop.args[0])
    except (OSError, MemoryError, RuntimeError, ImportError) as error:
        # The machine's doing, wherever it struck; what is none of it is a mistake of ours and keeps its traceback.
        if memory.ran_out(error):
            line = memory.explain(error)
        elif isinstance(error, OSError):
            line = f"the system refused ({error}); check the path, its permissions and the room on the disk"
        else:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(1)
