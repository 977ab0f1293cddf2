"""Without room, memory, permission or a steady clock: one clear line, and nothing half-written is trusted later."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from replication import files
from replication.analysis.evaluate import evaluate
from replication.config import LengthParams
from replication.datasets.download import fetch
from replication.datasets.prepare import prepare
from replication.datasets.prepared import load_prepared, save_prepared
from replication.datasets.sources import Archive
from replication.errors import DataError, ReplicationError
from replication.lock import exclusive
from replication.training.train import train
from tests.archives import serve

ROOT = Path(__file__).resolve().parent.parent
ROOT_USER = os.geteuid() == 0
DETERMINED_BY_SEED = ("history.csv", "rounds.csv", "model.safetensors", "auxiliary.safetensors")
Write = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def short(experiment):
    return attrs.evolve(
        experiment,
        checkpoint=attrs.evolve(experiment.checkpoint, updates=2),
        end_to_end=LengthParams(updates=14),
    )


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def small_disk(folder: Path, *options: str) -> Iterator[Path]:
    """A real file system of its own; needs root, and a kernel that lets it mount."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(["size=64k", *options]), "tmpfs", str(folder)]
    if not ROOT_USER or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a small file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in DETERMINED_BY_SEED}


def whole_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def assert_one_line(error: pytest.ExceptionInfo[ReplicationError]) -> None:
    assert "\n" not in str(error.value)


# Room -------------------------------------------------------------------------------------------------


def test_prepare_without_room_leaves_nothing(short, tmp_path):
    path = tmp_path / "prepared" / "digits.safetensors"
    match = r"cannot write .*digits\.safetensors.*file-size limit"
    with file_size_limit(20_000), pytest.raises(ReplicationError, match=match) as error:
        prepare("digits", short.data, tmp_path / "raw", path)
    assert_one_line(error)
    assert whole_files(path.parent) == []
    prepare("digits", short.data, tmp_path / "raw", path)
    assert whole_files(path.parent) == [path.name]


def test_a_checkpoint_without_room_leaves_the_older_ones_to_go_on_from(short, digits, tmp_path):
    whole = contents(train(short, digits, "e2e", 0, tmp_path / "whole"))
    limits = contextlib.ExitStack()

    def fill_up(kind: str, row: dict[str, object]) -> None:
        if kind == "history" and row["gradient_updates"] == 10:
            limits.enter_context(file_size_limit(5000))

    with limits, pytest.raises(ReplicationError, match=r"cannot write .*\.checkpoint.*file-size limit") as error:
        train(short, digits, "e2e", 0, tmp_path / "runs", (fill_up,))
    assert_one_line(error)
    assert not (tmp_path / "runs").exists()
    assert len(whole_files(tmp_path / "scratch")) == 2  # the two checkpoints before; no lock, nothing half-written
    rows: list[object] = []
    folder = train(short, digits, "e2e", 0, tmp_path / "runs", (lambda _, row: rows.append(row),))
    assert contents(folder) == whole
    assert rows[0]["gradient_updates"] == 10  # it went on from update 8: the point at 5 is not measured again


def test_a_run_directory_without_room_is_absent(short, digits, tmp_path):
    method = "hist-gradient-boosting"  # keeps no checkpoints, which would meet the limit before
    with file_size_limit(6000), pytest.raises(ReplicationError, match=r"cannot write .*seed0: the file-size") as error:
        train(short, digits, method, 0, tmp_path / "runs")
    assert_one_line(error)
    assert whole_files(tmp_path / "runs") == []


def test_results_without_room_never_show_the_metrics_of_an_earlier_run(short, digits, tmp_path):
    train(short, digits, "e2e", 0)
    evaluate(short, digits, "e2e", 0)
    results = tmp_path / "results/digits/e2e/seed0"
    assert (results / "metrics.json").is_file()
    with file_size_limit(200), pytest.raises(ReplicationError, match=r"cannot write .*results.*file-size") as error:
        evaluate(short, digits, "e2e", 0)
    assert_one_line(error)
    assert not (results / "metrics.json").exists()
    assert not list(results.glob(".*"))


def test_a_full_disk(short, digits, tmp_path):
    """The real thing: ENOSPC from a file system of 64 KiB."""
    content, wider = bytes(200_000), attrs.evolve(short, model=attrs.evolve(short.model, width=8))
    (tmp_path / "server/demo").mkdir(parents=True)
    (tmp_path / "server/demo/archive.bin").write_bytes(content)
    with small_disk(tmp_path / "disk") as disk, serve(tmp_path / "server") as address:
        archive = Archive("demo", "archive.bin", (f"{address}/demo/archive.bin",), "0" * 32, len(content))
        writers: dict[str, Write] = {
            "raw": lambda folder: fetch(archive, folder, allow_unofficial=True, mirror=""),
            "copied": lambda folder: fetch(archive, folder, allow_unofficial=True, mirror=str(tmp_path / "server")),
            "prepared": lambda folder: save_prepared(digits, folder / "digits.safetensors"),
            "runs": lambda folder: train(wider, digits, "e2e", 0, folder),
        }
        for name, write in writers.items():
            with pytest.raises(
                ReplicationError, match=r"cannot write .*no space left on the device; free some"
            ) as error:
                write(disk / name)
            assert_one_line(error)
            assert not [file for file in whole_files(disk / name) if not file.endswith((".part", ".part.json"))]
            subprocess.run(["rm", "-rf", str(disk / name)], check=True)


def test_files_of_a_killed_process_are_cleared_away(short, digits, tmp_path):
    folder, path = tmp_path / "runs/digits/e2e", tmp_path / "prepared/digits.safetensors"
    (folder / ".seed0.abc.tmp").mkdir(parents=True)
    (folder / ".seed0.abc.tmp/model.safetensors").touch()
    (folder / ".seed1.abc.tmp").mkdir()
    train(short, digits, "e2e", 0, tmp_path / "runs")
    assert sorted(entry.name for entry in folder.iterdir()) == [".seed1.abc.tmp", "seed0"]
    path.parent.mkdir()
    path.with_name(".digits.safetensors.abc.tmp").touch()
    prepare("digits", short.data, tmp_path / "raw", path)
    assert whole_files(path.parent) == [path.name]


def test_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch):
    target = tmp_path / "seed0"
    for content in ("old", "new"):
        with files.atomic_folder(target) as temporary:
            (temporary / "file").write_text(content)
        assert (target / "file").read_text() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["seed0"]
    # A kill while the old one is removed: the new one is there already.
    monkeypatch.setattr(files.shutil, "rmtree", lambda *_, **__: os.abort() if not (target / "file").exists() else None)
    with files.atomic_folder(target) as temporary:
        (temporary / "file").write_text("newest")
    assert (target / "file").read_text() == "newest"


def test_a_folder_may_have_folders(tmp_path):
    with files.atomic_folder(tmp_path / "budgets") as temporary:
        (temporary / "nested").mkdir()
        (temporary / "nested/file").write_text("new")
    assert (tmp_path / "budgets/nested/file").read_text() == "new"


def test_what_cannot_be_read_is_not_called_unwritable(tmp_path):
    source, target = tmp_path / "runs/history.csv", tmp_path / "results/history.csv"
    with (
        pytest.raises(ReplicationError, match=rf"cannot read {source} \(No such file or directory\)"),
        files.atomic_path(target) as temporary,
    ):
        shutil.copyfile(source, temporary)
    (tmp_path / "results/a").mkdir(parents=True)
    (tmp_path / "results/a/file").touch()
    for path in (tmp_path / "results/a/file/x.csv", tmp_path / "results/a/file/deep/x.csv"):
        with pytest.raises(ReplicationError, match=f"cannot write {path}"), files.atomic_path(path):
            pass


@pytest.mark.parametrize("ends", [OSError, KeyboardInterrupt])
def test_between_two_renamings_nothing_is_lost(tmp_path, monkeypatch, ends):
    target, rename = tmp_path / "seed0", Path.replace
    target.mkdir()
    (target / "file").write_text("old")

    def refuses_the_new(path, other):
        if other == target and path.name != target.name:
            raise ends(5, "no")
        return rename(path, other)

    def write_anew():
        with files.atomic_folder(target) as temporary:
            (temporary / "file").write_text("new")

    monkeypatch.setattr(Path, "replace", refuses_the_new)
    with pytest.raises((ReplicationError, KeyboardInterrupt)):
        write_anew()
    assert [entry.name for entry in tmp_path.iterdir()] == ["seed0"] and (target / "file").read_text() == "old"


# Memory, permission, clock ---------------------------------------------------------------------------


def replication(*arguments: str, address_space: int | None = None) -> subprocess.CompletedProcess[str]:
    """A real process, with so many bytes of address space."""
    code = "import resource, runpy, sys; " + (
        f"resource.setrlimit(resource.RLIMIT_AS, ({address_space}, {address_space})); " if address_space else ""
    )
    code += "sys.argv[0] = 'replication'; runpy.run_module('replication', run_name='__main__')"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("change", [("width: 16", "width: 2048"), ("crop_padding: 0  ", "crop_padding: 64 ")])
def test_too_little_memory_is_one_line_with_advice(digits, tmp_path, change):
    """The network itself does not fit; or a single step of the training does not."""
    parameters = (ROOT / "params.yaml").read_text().replace("threads: 2", "threads: 1")
    old, new = change
    assert old in parameters
    parameters = parameters.replace(old, new)
    if "crop" in old:
        parameters = parameters.replace("batch_size: 100 ", "batch_size: 900000 ")
    (tmp_path / "params.yaml").write_text(parameters)
    save_prepared(digits, tmp_path / "data/prepared/digits.safetensors")
    # Room for the program and its libraries (in 3 GiB Python at times fails to import the optimiser, in its own words),
    # and none for what is asked for: 66 GB of images in a batch, or 11 GB of weights.
    answer = replication("train", "digits", "e2e", "--no-track", address_space=4 << 30)
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: digits e2e seed 0: out of memory (") and "optimizer.batch_size" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate"])
def test_a_folder_that_cannot_be_written_is_one_line(short, digits, tmp_path, monkeypatch, stage):
    train(short, digits, "e2e", 0, tmp_path / "runs")

    writers: dict[str, Write] = {
        "prepare": lambda folder: prepare("digits", short.data, folder / "raw", folder / "digits.safetensors"),
        "train": lambda folder: train(short, digits, "e2e", 0, folder / "runs"),
        "evaluate": lambda folder: evaluate(short, digits, "e2e", 0, tmp_path / "runs", folder / "results"),
    }

    def attempt(folder: Path) -> None:
        monkeypatch.chdir(folder)
        match = "read-only" if ROOT_USER else "permission denied"
        with pytest.raises(ReplicationError, match=f"cannot write .*{match}") as error:
            writers[stage](folder)
        assert_one_line(error)
        monkeypatch.chdir(tmp_path)

    if ROOT_USER:  # permissions are nothing to root
        with small_disk(tmp_path / "disk", "ro") as disk:
            attempt(disk)
    else:
        (tmp_path / "folder").mkdir(mode=0o500)
        attempt(tmp_path / "folder")


def test_a_clock_that_jumps_changes_nothing(short, digits, tmp_path, monkeypatch):
    whole = contents(train(short, digits, "e2e", 0, tmp_path / "whole"))
    times = itertools.cycle([0.0, 4e9, 1e9, 2e9, 1.0])
    monkeypatch.setattr(time, "time", lambda: next(times))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(times) * 1e9))
    assert contents(train(short, digits, "e2e", 0, tmp_path / "runs")) == whole
    rows = files.read_csv(tmp_path / "runs/digits/e2e/seed0/timing.csv")
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds) and seconds[0] >= 0 and seconds[-1] < 60
    content = bytes(1000)
    (tmp_path / "server/demo").mkdir(parents=True)
    (tmp_path / "server/demo/archive.bin").write_bytes(content)
    with serve(tmp_path / "server") as address:
        digest = hashlib.md5(content).hexdigest()
        archive = Archive("demo", "archive.bin", (f"{address}/demo/archive.bin",), digest, len(content))
        assert fetch(archive, tmp_path / "raw", allow_unofficial=False, mirror="").source.official


# Twice at once -----------------------------------------------------------------------------------------


def test_two_preparations_of_one_file_do_not_meet(short, tmp_path):
    path = tmp_path / "prepared/digits.safetensors"
    holder = rf"digits\.safetensors is being prepared by process {os.getpid()} on "
    with exclusive(path.with_name(f".{path.name}.lock"), "it"), pytest.raises(DataError, match=holder):
        prepare("digits", short.data, tmp_path / "raw", path)
    path.with_name(f".{path.name}.lock").write_text("process 1 on another\n")  # of a process that was killed
    prepare("digits", short.data, tmp_path / "raw", path)
    assert whole_files(path.parent) == [path.name]
    assert load_prepared(path).name == "digits"


def test_two_downloads_of_one_archive_do_not_meet(tmp_path):
    archive = Archive("demo", "archive.bin", (), "0" * 32, 3)
    (tmp_path / "server/demo").mkdir(parents=True)
    (tmp_path / "server/demo/archive.bin").write_bytes(b"abc")

    def get() -> None:
        fetch(archive, tmp_path / "raw", allow_unofficial=True, mirror=str(tmp_path / "server"))

    with (
        exclusive(tmp_path / "raw/.demo.archive.bin.lock", "it"),
        pytest.raises(DataError, match="is being fetched by"),
    ):
        get()
    get()
    assert whole_files(tmp_path / "raw") == ["archive.bin"]
    with exclusive(tmp_path / "raw/.demo.archive.bin.lock", "it"):
        get()  # what is there already needs no lock: the folder may be read-only


def test_a_lock_is_taken_anew_when_its_holder_has_just_removed_it(tmp_path, monkeypatch):
    """Two processes must not hold one lock, one of them by a file that has no name any more."""
    import fcntl

    path, real, calls = tmp_path / "lock", fcntl.flock, 0

    def flock(stream: object, flags: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            path.unlink()
        real(stream, flags)

    monkeypatch.setattr(fcntl, "flock", flock)
    with exclusive(path, "it"):
        assert calls == 2 and path.is_file()
    assert not path.exists()
