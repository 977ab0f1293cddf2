"""dvc.yaml under DVC itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.torture.kills import make_workspace


def test_a_mistake_in_the_parameters_costs_nothing(tmp_path):
    workspace = make_workspace(tmp_path / "workspace")
    prepared, parameters = workspace / "data/prepared/digits.safetensors", workspace / "params.yaml"

    def dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "dvc", *arguments)
        env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run(command, cwd=workspace, env=env, capture_output=True, text=True)

    assert dvc("init", "--no-scm", "--quiet").returncode == 0
    made = dvc("repro", "prepare@digits")
    assert made.returncode == 0, made.stderr
    content, right = prepared.read_bytes(), parameters.read_text(encoding="utf-8")
    parameters.write_text(right.replace("validation_fraction: 0.1", "validation_fraction: 1.5"), encoding="utf-8")
    refused = dvc("repro", "prepare@digits")
    assert refused.returncode != 0 and "validation_fraction must be above 0 and at most 0.5, got 1.5" in refused.stderr
    assert prepared.read_bytes() == content
    parameters.write_text(right, encoding="utf-8")
    again = dvc("repro", "prepare@digits")
    assert again.returncode == 0 and "Stage 'prepare@digits' didn't change" in again.stdout
