"""Reproduce a dataset on two cores: `dvc repro report@DATASET`, with the runs in two halves at once.

    python scripts/reproduce.py DATASET

DVC works on one stage at a time, and a process on tiny images fills one core. The halves share nothing but what they
read: one has BoostResNet, AdaBoost.MM and gradient boosting with all that starts from their runs, the refinement and
the ablations; the other has the rest, longer blocks among it. Each is told its stages and looks at no other
(--single-item): DVC locks what a stage writes even to see that it has not changed, and so would refuse to look at
`prepare` while the other half reads the prepared data. What measures time runs before or after them, alone, and so do
ablations some of which stand beside longer blocks: of these runs, both halves would want to be the one that trains
them. A second call in the same folder is told so at once: the two would take stages out of each other's hands, and
which of them fails would be luck.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from replication.config import load_experiment, load_variants  # noqa: E402
from replication.errors import ReplicationError  # noqa: E402
from replication.lock import exclusive  # noqa: E402

# A pattern that fits no stage is none to DVC: not every list of methods in params.yaml has all of these.
HALVES = (
    ("*@{}-boostresnet-[!b]*", "*@{}-adaboost-mm*", "*@{}-gradient-boosting*", "ablations@{}*"),
    ("*@{}-boostresnet-binary*", "*@{}-[!abg]*", "budgets@{}*"),
)
LOCK = Path("scratch/locks/reproduce")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DVC = (sys.executable, "-m", "dvc", "--wait-for-lock", "repro")


class Stopped(Exception):
    """A signal came in; its only argument is the number."""


def _stop(number: int, _frame: object) -> None:
    raise Stopped(number)


def _end(processes: list[subprocess.Popen[bytes]], number: int) -> int:
    """Pass the signal on to DVC and what it has started, and wait: a training puts away what it has. Gives `number`."""
    for ignored in _SIGNALS:  # a second one shall not leave them alone
        signal.signal(ignored, signal.SIG_IGN)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            # A closed terminal is nothing that DVC or a training listens to.
            os.killpg(process.pid, signal.SIGTERM if number == signal.SIGHUP else number)
    for process in processes:
        process.wait()
    return number


def main() -> int:
    """Prepare, both halves, then all that is left; stops at what fails and says so in one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset")
    dataset = parser.parse_args().dataset
    try:
        # The stage `check` looks again, after a second or two of DVC's.
        experiment = load_experiment(dataset, ROOT / "params.yaml")
        variants = load_variants(dataset, ROOT / "params.yaml")
        alike = all(variant.default(experiment) == experiment for variant in variants)
        with exclusive(LOCK, "the pipeline", "run", ReplicationError):
            return _reproduce(dataset, ablations_in_half=alike)
    except ReplicationError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _reproduce(dataset: str, *, ablations_in_half: bool) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _stop)
    # The report stage takes all runs into MLflow at once; to follow trainings of seconds takes longer than they do.
    environment = {"REPLICATION_TRACK": "0", **os.environ}
    parts = [[part for part in half if ablations_in_half or not part.startswith("ablations@")] for half in HALVES]
    halves = [[*DVC, "--single-item", "--glob", *(part.format(dataset) for part in half)] for half in parts]
    for together in ([[*DVC, f"prepare@{dataset}"]], halves, [[*DVC, f"report@{dataset}"]]):
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for command in together:
                processes.append(subprocess.Popen(command, env=environment, start_new_session=True))
            codes = [process.wait() for process in processes]
        except (KeyboardInterrupt, Stopped) as error:
            return 128 + _end(processes, error.args[0] if isinstance(error, Stopped) else signal.SIGINT)
        if any(codes):
            failed = next(command for command, code in zip(together, codes, strict=True) if code)
            print(f"error: `{' '.join(failed[2:])}` failed; its own message is above", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
