"""Runs trained elsewhere: a good one is taken in and recorded; whatever does not match is refused with the reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from replication.adopt import adopt
from replication.config import load_experiment
from replication.datasets.prepared import save_prepared
from replication.errors import ReplicationError, ResultsError
from replication.training.train import train
from tests.tampering import forget_digests

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def workspace(tmp_path, digits, monkeypatch):
    """Parameters of a short run and the prepared data, as the machine has them that adopts."""
    monkeypatch.chdir(tmp_path)
    parameters = (ROOT / "params.yaml").read_text().replace("budget: 0.005", "budget: 0.0004")
    Path("params.yaml").write_text(parameters)
    save_prepared(digits, Path("data/prepared/digits.safetensors"))
    return tmp_path


@pytest.fixture
def elsewhere(workspace, digits):
    """A run as another machine left it."""
    return train(load_experiment("digits"), digits, "boostresnet", 0, workspace / "elsewhere")


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_good_run_is_copied_whole(elsewhere):
    target, stage = adopt(elsewhere, Path("params.yaml"))
    assert (target, stage) == (Path("runs/digits/boostresnet/seed0"), "train@digits-boostresnet-0")
    for path in elsewhere.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()


def test_other_machine_settings_are_no_reason_to_refuse(elsewhere):
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    parameters["defaults"]["runtime"]["threads"] = 7
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    adopt(elsewhere, Path("params.yaml"))


def test_what_does_not_match_is_refused_with_the_reason(elsewhere, workspace):
    def refused(match: str, spoil) -> None:
        copy = workspace / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(elsewhere, copy)
        forget_digests(copy)
        spoil(copy)
        with pytest.raises(ReplicationError, match=match) as caught:
            adopt(copy, Path("params.yaml"))
        assert "\n" not in str(caught.value)
        assert not Path("runs").exists()

    def spoil_weights(copy: Path) -> None:
        weights = load_file(copy / "model.safetensors")
        weights["head.linear.bias"][0] = torch.nan
        save_file(weights, copy / "model.safetensors")

    config = json.loads((elsewhere / "run.json").read_text())["config"]
    data = json.loads((elsewhere / "run.json").read_text())["data"]
    refused("no finished run", lambda copy: (copy / "run.json").unlink())
    refused("names no run of ours", lambda copy: edit(copy / "run.json", method="magic"))
    refused(r"trained with budget = 0\.5, and params\.yaml has 0\.0004", lambda copy: edit(
        copy / "run.json", config=config | {"budget": 0.5}))  # fmt: skip
    refused("other data", lambda copy: edit(copy / "run.json", data=data | {"content_hash": "0" * 64}))
    refused(r"lacks rounds\.csv", lambda copy: (copy / "rounds.csv").unlink())
    refused("ends elsewhere", lambda copy: edit(copy / "run.json", gradient_updates=1))
    refused("other columns", lambda copy: (copy / "timing.csv").write_text("a,b\n1,2\n"))
    refused("model.safetensors", lambda copy: (copy / "model.safetensors").write_bytes(b"short"))
    refused("not finite", spoil_weights)


def test_without_the_prepared_data_it_says_what_to_run(elsewhere):
    Path("data/prepared/digits.safetensors").unlink()
    with pytest.raises(ReplicationError, match="prepare digits"):
        adopt(elsewhere, Path("params.yaml"))


def test_dvc_finds_an_adopted_run_up_to_date(elsewhere, workspace, digits):
    """In a real pipeline of two stages: the data, and the run that is adopted."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
           "DVC_NO_ANALYTICS": "1", "MLFLOW_TRACKING_URI": f"sqlite:///{workspace}/mlflow.db"}  # fmt: skip

    def call(*command: str) -> str:
        done = subprocess.run(command, cwd=workspace, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    stage = pipeline["stages"]["train"]
    stage["deps"] = ["data/prepared/${item.dataset}.safetensors"]
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": stage}}))
    call("dvc", "init", "--no-scm", "-q")
    call(sys.executable, "-m", "replication", "adopt", str(elsewhere))
    assert "didn't change, skipping" in call("dvc", "repro", "train@digits-boostresnet-0")


def test_a_folder_that_is_none_is_refused(workspace):
    with pytest.raises(ResultsError, match="there is no folder"):
        adopt(workspace / "nowhere", Path("params.yaml"))
