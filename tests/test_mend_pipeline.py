"""Half-written files of DVC's own: mended where they are broken, and otherwise left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import zc.lockfile

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


TWO = WHOLE + "  b@x-0:\n    cmd: run\n    outs:\n    - path: y\n      md5: '1'\n"


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A repository with stages a and b, both in the committed dvc.lock."""
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / "dvc.yaml").write_text("stages:\n  a:\n    cmd: run\n  b:\n    matrix: {i: [x-0]}\n    cmd: run\n")
    (tmp_path / "dvc.lock").write_text(TWO)
    git("init", "--quiet", cwd=tmp_path)
    git("add", "dvc.lock", "dvc.yaml", cwd=tmp_path)
    git("commit", "--quiet", "-m", "lock", cwd=tmp_path)
    return tmp_path


def mend(folder: Path) -> str:
    """What the script says; the patience is short, for nobody writes here."""
    command = [sys.executable, str(ROOT / "scripts/mend_pipeline.py"), "--patience", "0.05"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("half", [WHOLE, TWO.removesuffix("\n")])
def test_a_cut_that_is_still_yaml_is_seen(committed: Path, half: str) -> None:
    (committed / "dvc.lock").write_text(half)
    assert "mended: dvc.lock" in mend(committed)
    assert (committed / "dvc.lock").read_text() == TWO


def test_what_was_changed_on_purpose_stays(committed: Path) -> None:
    lock = committed / "dvc.lock"
    longer = TWO.replace("'1'", "'2'") + TWO.partition("stages:\n")[2].replace("b@x-0", "b@y-0").replace("  a:", "  c:")
    lock.write_text(longer)
    assert (mend(committed), lock.read_text()) == ("", longer)
    lock.write_text(WHOLE)  # b went from dvc.yaml as well
    (committed / "dvc.yaml").write_text("stages:\n  a:\n    cmd: run\n")
    assert (mend(committed), lock.read_text()) == ("", WHOLE)


def test_nothing_is_mended_while_a_dvc_is_at_work(committed: Path) -> None:
    lock, rwlock = committed / "dvc.lock", committed / ".dvc/tmp/rwlock"
    lock.write_text("schema: '2")
    for name in ("lock", "rwlock.lock"):  # as DVC takes them
        rwlock.write_text("{")
        held = zc.lockfile.LockFile(str(committed / ".dvc/tmp" / name))
        assert (mend(committed), lock.read_text(), rwlock.read_text()) == ("", "schema: '2", "{")
        held.close()
    for entries in ({"read": {"x": [{"pid": os.getpid(), "cmd": "dvc repro"}]}},
                    {"write": {"x": {"pid": os.getpid(), "cmd": "dvc repro"}}}):  # fmt: skip
        rwlock.write_text(json.dumps(entries))
        assert (mend(committed), lock.read_text()) == ("", "schema: '2")
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    rwlock.write_text(json.dumps({"write": {"x": {"pid": ended.pid, "cmd": "dvc repro"}}}))
    assert "mended: dvc.lock" in mend(committed)
    assert lock.read_text() == TWO
