"""Half-written files of DVC's own: mended where they are broken, and otherwise left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WHOLE = "schema: '2.0'\nstages:\n  a:\n    cmd: run\n    outs:\n    - path: x\n      md5: '1'\n"


def git(*arguments: str, cwd: Path) -> None:
    settings = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *settings, *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.mark.parametrize("repository", [True, False])
@pytest.mark.parametrize(
    "broken", ["", "schema: '2", "schema: '2.0'\nstages:\n  a:\n    outs:\n    - md5: '1'\n", None]
)
def test_what_is_broken_is_mended_and_nothing_else(tmp_path: Path, repository: bool, broken: str | None) -> None:
    lock, rwlock = tmp_path / "dvc.lock", tmp_path / ".dvc/tmp/rwlock"
    rwlock.parent.mkdir(parents=True)
    rwlock.write_text("{}" if broken is None else "")
    lock.write_text(WHOLE)
    if repository:
        git("init", "--quiet", cwd=tmp_path)
        git("add", "dvc.lock", cwd=tmp_path)
        git("commit", "--quiet", "-m", "lock", cwd=tmp_path)
    newer = WHOLE.replace("'1'", "'2'") if broken is None else broken
    lock.write_text(newer)
    script = str(ROOT / "scripts/mend_pipeline.py")
    command = [sys.executable, script, "--patience", "0.05"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    if broken is None:
        assert (lock.read_text(), rwlock.read_text(), answer.stderr) == (newer, "{}", "")
        return
    assert not rwlock.exists()
    assert (lock.read_text() if repository else lock.exists()) == (WHOLE if repository else False)
    assert len(answer.stderr.splitlines()) == 2
