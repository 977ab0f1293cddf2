"""A mistake in params.yaml under a real `dvc repro`: the first stage says so, and nothing that was made is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from replication.check import check_parameters
from replication.errors import ReplicationError

ROOT = Path(__file__).resolve().parent.parent
STAGE, RUN = "train@digits-hist-gradient-boosting-0", Path("runs/digits/hist-gradient-boosting/seed0")


MISTAKES = (
    ("binary.positive 12", "digits", "positive: 8 ", "positive: 12 "),
    ("binary.positive 3", "digits", "positive: 8 ", "positive: 3 "),
    ("model.blocks must be at least 3", "digits", "blocks: 6, width: 16", "blocks: 2, width: 16"),
    ("model.blocks must be at least 3", "digits", "model: {reading: paper-text, width: 15}",
     "model: {reading: released, blocks: 1}"),
    ("data.validation_fraction", "digits", "validation_fraction: 0.1 ", "validation_fraction: 0.0001 "),
    ("stock_library.train_samples", "mnist", "train_samples: 10000              # [?] trains",
     "train_samples: 5              # [?] trains"),
    (r"cost\.depths must be at least 4 for released, got 3", "digits", "depths: [9, 18, ", "depths: [3, 18, "),
    (r"cost\.depths must be at least 3 for mlp, got 2", "mnist", "depths: [9, 18, ", "depths: [2, 18, "),
    (r"needs model\.reading mlp", "digits", "depth_of: [mnist] ", "depth_of: [digits, mnist] "),
    (r"depth\.blocks must be at most 10, .*, got 11", "mnist", "blocks: [1, 2, 4, 6, 8, 10]", "blocks: [1, 2, 4, 11]"),
    (r"needs evaluation\.test_curve true", "mnist", "test_curve: true ", "test_curve: false "),
    (r"needs evaluation\.held_out_samples of at least 10000", "mnist", "held_out_samples: 100000 ",
     "held_out_samples: 9999 "),
    # Among the ablations, of which digits have all but one:
    ("prefix_mode", "digits", "flip: false\n    cached_views: 0 ", "flip: true\n    cached_views: 2 "),
)  # fmt: skip


@pytest.mark.parametrize(("words", "dataset", "before", "after"), MISTAKES)
def test_what_a_later_stage_would_refuse_is_refused_at_once(
    tmp_path: Path, words: str, dataset: str, before: str, after: str
) -> None:
    path, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    path.write_text(text)
    check_parameters(dataset, path)
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(ReplicationError, match=words) as caught:
        check_parameters(dataset, path)
    assert "\n" not in str(caught.value)


def test_what_concerns_another_dataset_is_not_refused(tmp_path: Path) -> None:
    path, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    for before, after in (("test_curve: true ", "test_curve: false "), ("depths: [9, 18, ", "depths: [3, 18, ")):
        assert before in text
        text = text.replace(before, after, 1)
    path.write_text(text.replace("depth_of: [mnist] ", "depth_of: [] "))
    check_parameters("mnist", path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")
def test_a_device_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("device: auto ", "device: cuda ", 1))
    with pytest.raises(ReplicationError, match=r"runtime\.device asks for CUDA"):
        check_parameters("digits", tmp_path / "params.yaml")


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "REPLICATION_TRACK": "0", "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout, by what DVC needs of it, in which one run was made."""
    folder = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "replication", folder / "replication", ignore=ignored)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    assert dvc(folder, "init", "--no-scm", "--quiet").returncode == 0
    answer = dvc(folder, "repro", STAGE)
    assert answer.returncode == 0, answer.stderr
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_mistake_removes_nothing_and_its_correction_makes_nothing_again(trained: Path) -> None:
    before, params = contents(trained / RUN), trained / "params.yaml"
    valid = params.read_text()
    assert "iterations: 100 " in valid
    params.write_text(valid.replace("iterations: 100 ", "iterations: -1 "))
    answer = dvc(trained, "repro", STAGE)
    assert answer.returncode != 0
    errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "stock_library.iterations" in errors[0]
    assert contents(trained / RUN) == before

    params.write_text(valid.replace("[?] the library's default", "[?] another comment"))
    answer = dvc(trained, "repro", STAGE)
    assert answer.returncode == 0, answer.stderr
    assert f"Stage '{STAGE}' didn't change, skipping" in answer.stdout
    assert contents(trained / RUN) == before


def test_every_stage_waits_for_the_check(trained: Path) -> None:
    listing = dvc(trained, "dag", "--dot")
    assert listing.returncode == 0, listing.stderr
    edges = [line.rstrip(";").split(" -> ") for line in listing.stdout.splitlines() if " -> " in line]
    above: dict[str, set[str]] = {}
    for upper, lower in ([name.strip().strip('"') for name in edge] for edge in edges):
        above.setdefault(lower, set()).add(upper)

    def checked(stage: str) -> bool:
        return stage.startswith("check@") or any(map(checked, above.get(stage, ())))

    stages = set(dvc(trained, "stage", "list", "--all", "--name-only").stdout.split())
    assert {f"check@{name}" for name in ("digits", "cifar10", "svhn", "mnist")} < stages
    assert not [stage for stage in stages if not checked(stage)]
