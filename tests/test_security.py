"""What the code never does: run a shell, read pickles, make the run browser public."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ("replication", "scripts", "tests") for path in (ROOT / folder).rglob("*.py"))
# Of data alone, by the full name of what is called.
REFUSED = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "eval", "exec", "torch.load",
    "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load", "np.load", "numpy.load", "joblib.load",
    "tarfile.extractall", "shutil.unpack_archive", "tempfile.mktemp",
}  # fmt: skip


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_shell_and_nothing_that_runs_what_it_reads(path: Path) -> None:
    for name, call in calls(path):
        shell = [keyword for keyword in call.keywords if keyword.arg == "shell"]
        assert not shell, f"{path}:{call.lineno} passes shell="
        assert name not in REFUSED, f"{path}:{call.lineno} calls {name}"
        assert not name.endswith((".extractall", ".extract")), f"{path}:{call.lineno} unpacks an archive onto the disk"


def test_the_environment_is_never_taken_as_a_whole() -> None:
    """The package asks for variables by name; what is handed to child processes is the tests' and scripts' affair."""
    for path in (ROOT / "replication").rglob("*.py"):
        for match in re.finditer(r"os\.environ(?!\.get\(|\.setdefault\(|\[)", path.read_text(encoding="utf-8")):
            line = path.read_text(encoding="utf-8")[: match.start()].count("\n") + 1
            text = path.read_text(encoding="utf-8").splitlines()[line - 1]
            assert re.search(r'"[A-Z_]+" (not )?in os\.environ', text), f"{path}:{line}: {text.strip()}"


def test_the_run_browser_is_for_this_machine_alone() -> None:
    answer = subprocess.run(["make", "--dry-run", "ui"], cwd=ROOT, capture_output=True, text=True, check=False)
    (line,) = [line for line in answer.stdout.splitlines() if "mlflow ui " in line]
    assert "--host '127.0.0.1'" in line
    told = subprocess.run(
        ["make", "--dry-run", "ui", "HOST=::1"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "--host '::1'" in told.stdout and "pages 'http://[::1]:5000'" in told.stdout
