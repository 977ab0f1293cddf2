"""`kill -9` on real processes at random moments: in the end, the same bytes as if nothing had happened.

A journey is one method's way from nothing to its published metrics (or the preparation of the data), by the stages'
commands or by one `dvc repro`. It is killed a few times, started again each time, and let go on to its end.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import yaml

from replication.config import METHODS
from tests.torture.tally import Tally

ROOT = Path(__file__).resolve().parents[2]
PREPARED = Path("data/prepared/digits.safetensors")
DETERMINED_BY_SEED = ("history.csv", "rounds.csv", "model.safetensors", "auxiliary.safetensors")
_LONGEST = 240.0  # seconds that one process may take: more is a hang
_AT_ONCE = 4  # kills per journey, at most

# By dotted path in params.yaml: a run of about a second after its imports, with a checkpoint every third update.
_SMALL: Mapping[str, Any] = {
    "defaults.model.blocks": 4,
    "defaults.model.width": 8,
    "defaults.optimizer.batch_size": 32,
    "defaults.evaluation.interval": 3000,
    "defaults.evaluation.train_samples": 200,
    "defaults.augmentation.crop_padding": 1,
    "defaults.runtime.device": "cpu",
    "defaults.runtime.threads": 1,
    "defaults.stock_library.iterations": 5,
    "checkpoint.updates": 3,
    "experiments.digits": {"data": {}, "budget": 0.002},
}


@attrs.frozen
class Stage:
    """One command, and what it shall leave: paths relative to the workspace."""

    name: str
    command: tuple[str, ...]
    leaves: tuple[Path, ...]


@attrs.define
class Reference:
    """What the stages leave where nobody disturbs them, how many lines they print and how long they take."""

    files: dict[Path, bytes] = attrs.field(factory=dict)
    lines: dict[str, int] = attrs.field(factory=dict)
    seconds: dict[str, float] = attrs.field(factory=dict)


def stages(method: str) -> tuple[Stage, Stage]:
    """Train and evaluate."""
    run, results = Path(f"runs/digits/{method}/seed0"), Path(f"results/digits/{method}/seed0")
    python = (sys.executable, "-m", "replication")
    return (
        Stage("train", (*python, "train", "digits", method, "--no-track"), tuple(run / f for f in DETERMINED_BY_SEED)),
        Stage("evaluate", (*python, "evaluate", "digits", method), (results / "metrics.json",)),
    )


PREPARE = Stage("prepare", (sys.executable, "-m", "replication", "prepare", "digits"), (PREPARED,))


def make_workspace(folder: Path) -> Path:
    """A folder with the code, small parameters and the pipeline."""
    shutil.copytree(ROOT / "replication", folder / "replication", ignore=shutil.ignore_patterns("__pycache__"))
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for path, value in _SMALL.items():
        *parents, last = path.split(".")
        section = parameters
        for name in parents:
            section = section[name]
        if last not in section:
            raise KeyError(f"params.yaml has no {path}")
        section[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")
    pipeline = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    train = "python -m replication train ${item.dataset}"
    assert pipeline.count(train) == 2
    (folder / "dvc.yaml").write_text(pipeline.replace(train, train.replace("train", "train --no-track", 1)))
    return folder


def run_kills(
    folder: Path, kills: int, seed: int, *, methods: tuple[str, ...] = METHODS, jobs: int = 2, dvc: bool = True
) -> Tally:
    """At least `kills` kills over all `methods`, by the commands and, if wanted, by `dvc repro` in turn.

    Args:
        folder: empty; the workspaces go there.
        seed: of the moments.
        jobs: journeys at a time.
    """
    tally, lock, moments = Tally("kill -9"), threading.Lock(), random.Random(seed)
    whole = make_workspace(folder / "whole")
    reference = _undisturbed(whole, methods)
    ways = [(method, False) for method in methods] + [("prepare", False)]
    ways += [(method, True) for method in methods] if dvc else []
    moments.shuffle(ways)

    def work(number: int) -> None:
        workspace = make_workspace(folder / f"journey{number}")
        try:
            while True:
                with lock:
                    if tally.total >= kills:
                        return
                    method, by_dvc = ways.pop(0)
                    ways.append((method, by_dvc))
                    journey = _Journey(workspace, reference, random.Random(moments.random()), method)
                part = journey.by_dvc() if by_dvc else journey.by_commands()
                with lock:
                    tally.add(part)
        finally:
            shutil.rmtree(workspace, ignore_errors=True)

    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(work, number) for number in range(jobs)]:
            future.result()
    return tally


def _undisturbed(workspace: Path, methods: tuple[str, ...]) -> Reference:
    reference = Reference()
    needed = dict.fromkeys(("boostresnet", *methods) if "boostresnet-refined" in methods else methods)
    for stage in (PREPARE, *(stage for method in needed for stage in stages(method))):
        begin, process = time.monotonic(), _start(workspace, stage.command)
        output, _ = process.communicate(timeout=_LONGEST)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(stage.command)} fails undisturbed: {output[-500:]}")
        name = " ".join(stage.command)
        reference.seconds[name], reference.lines[name] = time.monotonic() - begin, len(output.splitlines())
        reference.files |= {path: (workspace / path).read_bytes() for path in stage.leaves}
    return reference


class _Journey:
    """One method's way, or the preparation's, in a workspace of its own."""

    def __init__(self, workspace: Path, reference: Reference, moments: random.Random, method: str) -> None:
        self._workspace, self._reference, self._moments, self._method = workspace, reference, moments, method
        self._tally, self._kills = Tally("kill -9"), 0

    def by_commands(self) -> Tally:
        """Stage by stage, each killed a few times."""
        self._clear()
        prepare = self._method == "prepare"
        if not prepare:
            self._provide()
        for stage in (PREPARE,) if prepare else stages(self._method):
            blows = self._moments.randint(1, _AT_ONCE if stage.name == "train" else 2)
            for _ in range(blows):
                if self._ended(stage.command, f"{stage.name} {self._method}" if stage.name != "prepare" else "prepare"):
                    break
            self._to_the_end(stage.command)
        self._compare((PREPARE,) if prepare else stages(self._method))
        return self._tally

    def by_dvc(self) -> Tally:
        """Everything by `dvc repro`, whose own process dies with the stage's."""
        self._clear()
        if self._method == "boostresnet-refined":
            self._provide()
        dvc = (sys.executable, "-m", "dvc")
        self._to_the_end((*dvc, "init", "--no-scm", "--quiet", "--force"))
        command = (*dvc, "repro", f"evaluate@digits-{self._method}-0")
        mend = (sys.executable, str(ROOT / "scripts/mend_pipeline.py"))  # of DVC's own files, as `make` does it
        for _ in range(self._moments.randint(1, _AT_ONCE)):
            ended = self._ended(command, f"dvc repro {self._method}")
            self._to_the_end(mend)
            if ended:
                break
        self._to_the_end(command)
        self._compare((PREPARE, *stages(self._method)))
        return self._tally

    def _clear(self) -> None:
        for name in ("data", "runs", "results", "scratch", ".dvc"):
            shutil.rmtree(self._workspace / name, ignore_errors=True)
        (self._workspace / "dvc.lock").unlink(missing_ok=True)

    def _provide(self) -> None:
        """What the way starts from, as the undisturbed one left it."""
        start = stages("boostresnet")[0].leaves if self._method == "boostresnet-refined" else ()
        whole = self._workspace.parent / "whole"
        for path in (PREPARED, *start):
            (self._workspace / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(whole / path, self._workspace / path)
        for folder in {path.parent for path in start}:
            shutil.copytree(whole / folder, self._workspace / folder, dirs_exist_ok=True)

    def _ended(self, command: tuple[str, ...], note: str) -> bool:
        """Start, wait for a random moment, kill; True where it had ended of itself by then."""
        process, before = _start(self._workspace, command), [""]
        timer = threading.Timer(_LONGEST, _kill, [process])
        timer.start()
        known = " ".join(command)
        lines = self._reference.lines.get(known, 12)
        if self._moments.random() < 0.7 and lines > 2:  # while it works, not while it imports
            assert process.stdout is not None
            before = [process.stdout.readline() for _ in range(self._moments.randint(1, lines))]
            time.sleep(self._moments.random() / 5)
        else:
            time.sleep(self._moments.random() * self._reference.seconds.get(known, 10))
        killed = _kill(process)
        output, _ = process.communicate()
        timer.cancel()
        if killed and process.returncode == -signal.SIGKILL:
            self._tally.blow(note)
            self._kills += 1
            return False
        if process.returncode != 0:
            self._fail(f"{note} failed after a kill: {(''.join(before) + output)[-500:]}")
        return True

    def _to_the_end(self, command: tuple[str, ...]) -> None:
        process = _start(self._workspace, command)
        try:
            output, _ = process.communicate(timeout=_LONGEST)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.communicate()
            self._fail(f"{' '.join(command[1:])} hangs")
            return
        if process.returncode != 0:
            self._fail(f"{' '.join(command[1:])} does not go on: {output[-500:]}")

    def _compare(self, done: tuple[Stage, ...]) -> None:
        for path in (path for stage in done for path in stage.leaves):
            found = self._workspace / path
            if not found.is_file() or found.read_bytes() != self._reference.files[path]:
                self._fail(f"{path} {'differs' if found.is_file() else 'is missing'} after {self._kills} kills")
                return
        left = [*self._workspace.rglob("*.checkpoint"), *(self._workspace / "runs").rglob(".*.tmp")]
        left += (path for name in ("data", "results") for path in (self._workspace / name).rglob(".*.tmp"))
        if left:
            self._fail(f"left behind: {left[0].relative_to(self._workspace)}")

    def _fail(self, text: str) -> None:
        if not self._tally.problems:
            self._tally.problem(f"{self._method}: {text}", max(1, self._kills))


def _start(workspace: Path, command: tuple[str, ...]) -> subprocess.Popen[str]:
    """A process group of its own, so that a kill meets all of it; both streams in one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    quiet = {"DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    env = {**os.environ, **quiet, "PYTHONPATH": str(workspace), "PATH": path}
    return subprocess.Popen(
        command,
        cwd=workspace,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[str]) -> bool:
    """Whether it was still there to be killed."""
    if process.poll() is not None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return True
