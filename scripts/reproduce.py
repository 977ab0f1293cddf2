"""Reproduce a dataset on two cores: `dvc repro report@DATASET`, with the runs in two halves at once.

    python scripts/reproduce.py DATASET

DVC works on one stage at a time, and a process on tiny images fills one core. The halves share nothing but what they
read: one has BoostResNet and gradient boosting with all that starts from their runs, the refinement and the ablations;
the other has the rest. Each is told its stages and looks at no other (--single-item): DVC locks what a stage writes
even to see that it has not changed, and so would refuse to look at `prepare` while the other half reads the prepared
data. What measures time runs before or after them, alone. A second call in the same folder is told so at once: the two
would take stages out of each other's hands, and which of them fails would be luck.
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

from replication.config import load_experiment  # noqa: E402
from replication.errors import ReplicationError  # noqa: E402
from replication.lock import exclusive  # noqa: E402

# A pattern that fits no stage is none to DVC: not every dataset has ablations.
HALVES = (
    ("*@{}-boostresnet-[!b]*", "*@{}-gradient-boosting*", "ablations@{}*"),
    ("*@{}-boostresnet-binary*", "*@{}-[!bg]*"),
)
LOCK = Path("scratch/locks/reproduce")
DVC = (sys.executable, "-m", "dvc", "--wait-for-lock", "repro")


class Stopped(Exception):
    """SIGTERM came in."""


def _stop(_signal: int, _frame: object) -> None:
    raise Stopped


def main() -> int:
    """Prepare, both halves, then all that is left; stops at what fails and says so in one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset")
    dataset = parser.parse_args().dataset
    try:
        load_experiment(dataset, ROOT / "params.yaml")  # DVC takes away what a stage shall make anew before it fails
        with exclusive(LOCK, "the pipeline", "run", ReplicationError):
            return _reproduce(dataset)
    except ReplicationError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _reproduce(dataset: str) -> int:
    signal.signal(signal.SIGTERM, _stop)
    # The report stage takes all runs into MLflow at once; to follow trainings of seconds takes longer than they do.
    environment = {"REPLICATION_TRACK": "0", **os.environ}
    halves = [[*DVC, "--single-item", "--glob", *(part.format(dataset) for part in half)] for half in HALVES]
    for together in ([[*DVC, f"prepare@{dataset}"]], halves, [[*DVC, f"report@{dataset}"]]):
        processes = [subprocess.Popen(command, env=environment, start_new_session=True) for command in together]
        try:
            codes = [process.wait() for process in processes]
        except (KeyboardInterrupt, Stopped) as error:
            number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
            for process in processes:  # DVC and what it has started: a training puts away what it has
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            for process in processes:
                process.wait()
            return 128 + number
        if any(codes):
            failed = next(command for command, code in zip(together, codes, strict=True) if code)
            print(f"error: `{' '.join(failed[2:])}` failed; its own message is above", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
