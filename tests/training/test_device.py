"""What a run says of the code and the machine that made it."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import torch

from replication.config import load_experiment
from replication.errors import TrainingError
from replication.training import device
from replication.training.device import (
    choose_device,
    describe_git,
    describe_hardware,
    forget_peak_memory,
    peak_memory,
)

_SETTINGS = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a git checkout, committed."""
    folder = tmp_path / "package"
    for name in (
        "training/update.py",
        "models/resnet.py",
        "report/criteria.yaml",
        "../params.yaml",
        "../tests/test.py",
    ):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1\n")
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    for command in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "a state")):
        subprocess.run(["git", *_SETTINGS, *command], cwd=tmp_path, check=True, capture_output=True)
    return folder


def test_a_run_names_the_commit(package: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=package, check=True, capture_output=True, text=True)
    assert describe_git(package) == {"commit": head.stdout.strip(), "dirty": False}


@pytest.mark.parametrize("name", ["training/update.py", "models/resnet.py", "report/criteria.yaml", "models/new.py"])
def test_changed_and_new_code_is_told_wherever_it_lies(package: Path, name: str) -> None:
    (package / name).write_text("2\n")
    assert describe_git(package)["dirty"] is True


@pytest.mark.parametrize("name", ["../params.yaml", "../tests/test.py", "models/__pycache__/resnet.pyc"])
def test_what_is_no_code_of_a_run_is_not_told(package: Path, name: str) -> None:
    """Parameters are in run.json as they were."""
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).write_text("2\n")
    assert describe_git(package)["dirty"] is False


def test_deleted_code_is_a_change(package: Path) -> None:
    (package / "models/resnet.py").unlink()
    assert describe_git(package)["dirty"] is True


def test_outside_a_checkout_nothing_is_known(tmp_path: Path) -> None:
    assert describe_git(tmp_path) == {"commit": None, "dirty": None}


EPYC = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nstepping\t: 1\n"
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


@pytest.mark.parametrize(
    ("text", "name", "generation"),
    [
        (f"{EPYC}\n{EPYC.replace('17', '1')}", "AMD EPYC", "cpu family 25, model 17, stepping 1"),
        (ARM, None, "CPU implementer 0x41, CPU part 0xd0c"),
        ("", None, None),
    ],
)
def test_processors_of_one_name_are_told_apart(tmp_path, monkeypatch, text, name, generation) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    read = device._processor(path)
    monkeypatch.setattr(device, "_processor", lambda: read)
    found = describe_hardware(torch.device("cpu"))
    assert found["cpu_model"] == generation
    assert found["cpu"] == name if name else found["cpu"]


def test_without_a_description_of_the_processor_none_is_invented(tmp_path) -> None:
    assert device._processor(tmp_path / "missing") == {}


@pytest.mark.skipif(sys.platform != "linux", reason="no other system lets the peak begin anew")
def test_the_peak_of_memory_is_that_of_what_comes_after() -> None:
    size, cpu = 300 * 2**20, torch.device("cpu")
    forget_peak_memory(cpu)
    with mmap.mmap(-1, size) as held:
        for start in range(0, size, mmap.PAGESIZE):
            held[start] = 1
        with_it = peak_memory(cpu)
    assert peak_memory(cpu) >= with_it, "a peak stays"
    forget_peak_memory(cpu)
    assert peak_memory(cpu) < with_it - size / 2


@pytest.mark.parametrize(
    ("name", "needed"), [("cpu", "a C++ compiler; install g++"), ("cuda", "a C compiler; install")]
)
def test_compiling_without_a_compiler_is_refused_before_training(monkeypatch, name: str, needed: str) -> None:
    monkeypatch.setattr(device.shutil, "which", lambda _name: None)
    runtime = load_experiment("digits", Path(__file__).parents[2] / "params.yaml").runtime
    with pytest.raises(TrainingError, match=needed.replace("+", r"\+")):
        choose_device(attrs.evolve(runtime, device=name, compile="always"))
