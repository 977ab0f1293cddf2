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
from typer.testing import CliRunner

from replication.__main__ import app
from replication.adopt import adopt, in_order, record
from replication.budgets import measure_budgets, measure_one
from replication.config import load_budgets, load_experiment
from replication.datasets.prepared import save_prepared
from replication.errors import ReplicationError, ResultsError
from replication.files import read_csv, write_csv
from replication.training.train import train
from tests.tampering import renew_digests

ROOT = Path(__file__).resolve().parent.parent


CODE = Path("replication/training/update.py")  # what a run depends on; its content is that of no Python here
NO_CODE = Path("replication/report/tables.py")  # what it does not


def git(*arguments: str) -> str:
    settings = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *settings, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit() -> str:
    """Commit whatever is there; the new commit."""
    git("add", "--all")
    git("commit", "--quiet", "--message", "a state")
    return git("rev-parse", "HEAD")


def short_parameters() -> str:
    return (ROOT / "params.yaml").read_text().replace("budget: 0.005", "budget: 0.0004")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits):
    """A run of a second."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "params.yaml").write_text(short_parameters())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return train(load_experiment("digits"), digits, "boostresnet", 0, folder / "runs")


@pytest.fixture
def workspace(tmp_path, digits, monkeypatch):
    """Parameters of a short run, pipeline, code and prepared data, as the machine has them that adopts."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    monkeypatch.chdir(checkout)
    Path("params.yaml").write_text(short_parameters())
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    Path(".gitignore").write_text("/data/\n/runs/\n__pycache__/\n")
    for path in (CODE, NO_CODE):
        path.parent.mkdir(parents=True)
        path.write_text("one = 1\n")
    git("init", "--quiet")
    commit()
    save_prepared(digits, Path("data/prepared/digits.safetensors"))
    return tmp_path


@pytest.fixture
def elsewhere(workspace, trained):
    """A run as another machine left it, of the code that is committed in the workspace."""
    folder = workspace / "elsewhere"
    shutil.copytree(trained, folder)
    edit(folder / "run.json", git={"commit": git("rev-parse", "HEAD"), "dirty": False})
    return folder


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_good_run_is_copied_whole(elsewhere):
    target, stage = adopt(elsewhere, Path("params.yaml"))
    assert (target, stage) == (Path("runs/digits/boostresnet/seed0"), "train@digits-boostresnet-0")
    for path in elsewhere.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()


def test_a_refinement_is_recorded_by_its_own_stage(workspace, digits, trained):
    runs = trained.parents[2]
    folder = train(load_experiment("digits"), digits, "boostresnet-refined", 0, runs)
    edit(folder / "run.json", git={"commit": git("rev-parse", "HEAD"), "dirty": False})
    target, stage = adopt(folder, Path("params.yaml"))
    assert target == Path("runs/digits/boostresnet-refined/seed0")
    assert stage == "refine@digits-boostresnet-refined-0"
    adopt(folder, Path("params.yaml"))  # beside no BoostResNet run; and beside its own:
    shutil.copytree(trained, "runs/digits/boostresnet/seed0")
    adopt(folder, Path("params.yaml"))


def test_a_refinement_is_taken_in_after_the_run_it_started_from(workspace, digits, trained):
    """In whatever order they are named: a shell's pattern has the refinement first."""
    refined = train(load_experiment("digits"), digits, "boostresnet-refined", 0, trained.parents[2])
    broken, missing = workspace / "broken", workspace / "missing"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    assert in_order([refined, broken, trained, missing]) == [broken, trained, missing, refined]


def test_a_refinement_of_another_run_than_the_one_that_is_here_is_refused(workspace, digits, trained):
    folder = train(load_experiment("digits"), digits, "boostresnet-refined", 0, trained.parents[2])
    start = Path("runs/digits/boostresnet/seed0")
    shutil.copytree(trained, start)
    rows = read_csv(start / "history.csv")
    rows[-1]["validation_loss"] = str(1.001 * float(rows[-1]["validation_loss"]))
    write_csv(start / "history.csv", tuple(rows[0]), rows)
    with pytest.raises(ResultsError, match=r"seed0/history\.csv is not what training wrote"):
        adopt(folder, Path("params.yaml"), other_code=True)
    renew_digests(start)
    with pytest.raises(ResultsError, match="boostresnet-refined/seed0 started from another run than runs/digits"):
        adopt(folder, Path("params.yaml"), other_code=True)
    assert not Path("runs/digits/boostresnet-refined").exists()


def test_a_refinement_counts_on_from_its_start(workspace, digits, trained):
    """The same losses after another number of updates are another run's; curves of other images say nothing."""
    copied, start = workspace / "copied-refinement", Path("runs/digits/boostresnet/seed0")
    shutil.copytree(train(load_experiment("digits"), digits, "boostresnet-refined", 0, trained.parents[2]), copied)
    shutil.copytree(trained, start)
    first, *rest = read_csv(copied / "history.csv")
    first["gradient_updates"] = str(int(first["gradient_updates"]) - 1)
    write_csv(copied / "history.csv", tuple(first), [first, *rest])
    renew_digests(copied)
    with pytest.raises(ResultsError, match="copied-refinement started from another run than runs/digits"):
        adopt(copied, Path("params.yaml"), other_code=True)
    config = json.loads((start / "run.json").read_text())["config"]
    edit(start / "run.json", config=config | {"evaluation": config["evaluation"] | {"train_samples": 7}})
    assert adopt(copied, Path("params.yaml"), other_code=True)[1] == "refine@digits-boostresnet-refined-0"


def test_other_machine_settings_are_no_reason_to_refuse(elsewhere, capsys):
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    parameters["experiments"]["digits"]["runtime"]["threads"] = 7
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    adopt(elsewhere, Path("params.yaml"))
    assert "threads where params.yaml has 7: the same run up to rounding" in capsys.readouterr().err


@pytest.mark.parametrize(("key", "value"), [("precision", "bfloat16"), ("feature_precision", "float16")])
def test_settings_that_change_numbers_are_one(elsewhere, key, value):
    run = json.loads((elsewhere / "run.json").read_text())
    run["config"]["runtime"][key] = value
    (elsewhere / "run.json").write_text(json.dumps(run))
    with pytest.raises(ResultsError, match=rf"trained with runtime\.{key} = {value}, and params\.yaml has"):
        adopt(elsewhere, Path("params.yaml"))


def change(path: Path) -> None:
    path.write_text("one = 2\n")


def change_and_commit(path: Path) -> None:
    change(path)
    commit()


def add(path: Path) -> None:
    path.with_name("new.py").write_text("new = 1\n")


@pytest.mark.parametrize("alter", [change, change_and_commit, add, Path.unlink])
def test_a_run_of_other_code_is_refused_unless_asked_for(elsewhere, alter):
    alter(NO_CODE)
    adopt(elsewhere, Path("params.yaml"))
    alter(CODE)
    name = "new.py" if alter is add else CODE.name
    with pytest.raises(ResultsError, match=rf"at commit .*, and replication/training/{name} differ here") as caught:
        adopt(elsewhere, Path("params.yaml"))
    assert "\n" not in str(caught.value) and "--other-code" in str(caught.value)
    shutil.rmtree("runs")
    adopt(elsewhere, Path("params.yaml"), other_code=True)
    assert Path("runs/digits/boostresnet/seed0/run.json").is_file()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"dirty": True}, "uncommitted changes on top of commit"),
        ({"dirty": None}, "uncommitted changes on top of commit"),
        ({"commit": "0" * 40}, "commit 0000000000, which git does not know here; fetch it"),
        ({"commit": None}, "names no git commit"),
        ({"commit": "--output=file"}, "names no git commit"),
    ],
)
def test_a_run_of_unknown_code_is_refused_unless_asked_for(elsewhere, changes, match):
    edit(elsewhere / "run.json", git=json.loads((elsewhere / "run.json").read_text())["git"] | changes)
    with pytest.raises(ResultsError, match=match) as caught:
        adopt(elsewhere, Path("params.yaml"))
    assert "\n" not in str(caught.value) and "--other-code" in str(caught.value)
    assert not Path("runs").exists()
    adopt(elsewhere, Path("params.yaml"), other_code=True)


def test_without_git_nothing_is_compared_unless_asked_for(elsewhere, workspace):
    edit(elsewhere / "run.json", git=None)
    with pytest.raises(ResultsError, match="names no git commit"):
        adopt(elsewhere, Path("params.yaml"))
    shutil.rmtree(".git")
    with pytest.raises(ResultsError, match="there is no git checkout here") as caught:
        adopt(elsewhere, Path("params.yaml"))
    assert "\n" not in str(caught.value) and "--other-code" in str(caught.value)
    adopt(elsewhere, Path("params.yaml"), other_code=True)


def test_what_does_not_match_is_refused_with_the_reason(elsewhere, workspace):
    def refused(match: str, spoil) -> None:
        copy = workspace / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(elsewhere, copy)
        spoil(copy)
        renew_digests(copy)
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
    refused("is of 7, which is not in `seeds` of params.yaml", lambda copy: edit(copy / "run.json", seed=7))
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
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    stage = pipeline["stages"]["train"]
    stage["deps"] = ["data/prepared/${item.dataset}.safetensors", str(CODE)]
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": stage}}))
    call("dvc", "init", "--no-scm", "-q")
    call(sys.executable, "-m", "replication", "adopt", str(elsewhere))
    assert "didn't change, skipping" in call("dvc", "repro", "train@digits-boostresnet-0")


def test_a_run_under_another_budget_goes_where_its_stage_looks(elsewhere, digits):
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"seeds": [0]}
    parameters["budgets"]["digits"] = {"boostresnet": [0.0004]}
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    target, stage = adopt(elsewhere, Path("params.yaml"))
    assert stage == "budgets@digits" and target.is_relative_to("scratch/budgets/0.0004")
    weights = (target / "model.safetensors").read_bytes()
    answer = CliRunner().invoke(app, ["adopt", str(elsewhere)])
    assert "dvc repro --force --single-item budgets@digits" in answer.output and not Path("runs").exists()
    experiment, asked = load_experiment("digits"), load_budgets("digits")
    (measured,) = measure_one(experiment, asked, digits, "boostresnet", 0)
    assert (measured / "run.json").read_bytes() == (target / "run.json").read_bytes(), "it is not trained again"
    (published,) = measure_budgets(experiment, asked, digits, (0,))
    assert published == Path("results/digits/budgets/0.0004/digits/boostresnet/seed0")
    assert (target / "model.safetensors").read_bytes() == weights
    refined = target.parents[1] / "boostresnet-refined/seed0"
    refined.mkdir(parents=True)
    adopt(elsewhere, Path("params.yaml"))  # what the refinement started from
    (target / "model.safetensors").write_bytes(b"another's")
    with pytest.raises(ResultsError, match=r"boostresnet-refined/seed0 started from another run .*; remove it first"):
        adopt(elsewhere, Path("params.yaml"))
    parameters["budgets"]["digits"] = {"boostresnet": [0.001], "e2e": [0.0004]}  # this budget, but not of this method
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    with pytest.raises(ResultsError, match=r"trained with budget = 0\.0004, and params\.yaml has 0\.005"):
        adopt(elsewhere, Path("params.yaml"))
    edit(elsewhere / "run.json", budget=0.0005)
    with pytest.raises(ResultsError, match="budget"):
        adopt(elsewhere, Path("params.yaml"))


def test_what_dvc_says_is_passed_on_with_what_to_do(workspace, monkeypatch):
    program = workspace / "bin/dvc"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'ERROR: the lock is held' >&2\necho 'Having any troubles?' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(ReplicationError) as caught:
        record("train@digits-boostresnet-0")
    assert str(caught.value) == (
        "dvc does not take train@digits-boostresnet-0: the lock is held; the run is in its place; when that is mended:"
        " `dvc commit --force train@digits-boostresnet-0`"
    )
    program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(ReplicationError, match="exit code 3"):
        record("train@digits-boostresnet-0")


def test_a_folder_that_is_none_is_refused(workspace):
    with pytest.raises(ResultsError, match="nowhere is no folder; give the run directory"):
        adopt(workspace / "nowhere", Path("params.yaml"))
