"""Run directories that are damaged, incomplete, or in another one's place: each is refused in one line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from replication.analysis.checks import check_finite, check_train_error, read_run
from replication.analysis.evaluate import evaluate
from replication.errors import ReplicationError
from replication.training.train import train
from tests.tampering import renew_digests


@pytest.fixture
def run(experiment, digits, tmp_path):
    """A whole BoostResNet run."""
    return train(experiment, digits, "boostresnet", 0, tmp_path / "runs")


def edit(folder: Path, old: str, new: str, *, within: str = "") -> None:
    path = folder / "run.json"
    content = path.read_text()
    start = content.index(within)
    assert old in content[start:], old
    path.write_text(content[:start] + content[start:].replace(old, new, 1))


def cut(path: Path, rows: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[: rows + 1]))


def test_what_is_whole_is_read(run):
    assert read_run(run, "digits", "boostresnet", 0) == json.loads((run / "run.json").read_text())


def test_a_run_in_another_ones_place_publishes_nothing(run, experiment, digits, tmp_path):
    for method, seed in (("e2e", 0), ("boostresnet", 1)):
        place = tmp_path / "runs/digits" / method / f"seed{seed}"
        shutil.copytree(run, place)
        with pytest.raises(ReplicationError, match=f"of another run .*boostresnet seed 0.*{method} seed {seed}"):
            evaluate(experiment, digits, method, seed, tmp_path / "runs", tmp_path / "results")
    assert not (tmp_path / "results").exists()
    with pytest.raises(ReplicationError, match="of another run"):
        read_run(run, "mnist", "boostresnet", 0)


DAMAGES = (
    ("rounds.csv ends elsewhere", lambda run: cut(run / "rounds.csv", 2)),
    ("rounds.csv has 0 rounds", lambda run: cut(run / "rounds.csv", 0)),
    ("history.csv has no rows", lambda run: cut(run / "history.csv", 0)),
    ("timing.csv is missing", lambda run: (run / "timing.csv").unlink()),
    ("timing.csv has other columns", lambda run: (run / "timing.csv").write_text("a,b\n1,2\n")),
    ("rounds.csv is cut off", lambda run: (run / "rounds.csv").write_text(
        (run / "rounds.csv").read_text().removesuffix("\n"))),
    ("rounds.csv is damaged in row 2, column edge", lambda run: (run / "rounds.csv").write_text(
        (run / "rounds.csv").read_text().replace("gamma,0.", "gamma,O.").replace("limit,0.", "limit,O."))),
    ("history.csv is damaged in row 1, column gradient_updates", lambda run: (run / "history.csv").write_text(
        (run / "history.csv").read_text().replace("test_loss\n", "test_loss\n,,,\n"))),
    ("history.csv ends elsewhere", lambda run: edit(run, '"gradient_updates": ', '"gradient_updates": 9')),
    ("no valid 'reading'", lambda run: edit(run, '"reading": "released"', '"reading": 1')),
    ("no valid 'blocks'", lambda run: edit(
        run, '"blocks": 4,\n  "parameters"', '"blocks": null,\n  "parameters"')),
    ("no valid 'config.binary'", lambda run: edit(run, '"negative": 3', '"negative": "3"')),
    ("no valid 'config.boostresnet.auxiliary'", lambda run: edit(run, "transition-blocks", "transition")),
    ("no valid 'config.boostresnet.initial_edge'", lambda run: edit(
        run, '"initial_edge": 0.0', '"initial_edge": 1')),
    ("no valid 'data.official'", lambda run: edit(run, '"official": true', '"official": "yes"')),
    ("leaves no model of its 'model.kind'", lambda run: edit(run, "{", '{"kind": "scores", ', within='\n  "model": {')),
    ("model.blocks is not that of its 'config'", lambda run: edit(
        run, '"blocks": ', '"blocks": 1', within='\n  "model": {')),
    ("run.json: NaN is no JSON", lambda run: edit(run, '"budget": 1.0', '"budget": NaN')),
    ("run.json: 1e999 is too large", lambda run: edit(run, '"budget": 1.0', '"budget": 1e999')),
)  # fmt: skip


def test_damage_is_named_in_one_line(run, tmp_path):
    for number, (words, damage) in enumerate(DAMAGES):
        copy = tmp_path / str(number)
        shutil.copytree(run, copy)
        damage(copy)
        renew_digests(copy)
        with pytest.raises(ReplicationError, match=re.escape(words)) as caught:
            read_run(copy, "digits", "boostresnet", 0)
        assert "\n" not in str(caught.value)


def test_a_model_that_does_not_give_what_its_run_recorded_publishes_nothing(run, experiment, digits, tmp_path):
    weights = load_file(run / "model.safetensors")
    weights["head.linear.weight"] = weights["head.linear.weight"].roll(1, 0).contiguous()  # every class is another
    save_file(weights, run / "model.safetensors")
    renew_digests(run)
    with pytest.raises(ReplicationError, match=r"model\.safetensors does not give what rounds\.csv records"):
        evaluate(experiment, digits, "boostresnet", 0, tmp_path / "runs", tmp_path / "results")
    weights["head.linear.weight"][0] = float("inf")
    save_file(weights, run / "model.safetensors")
    renew_digests(run)
    with pytest.raises(ReplicationError, match=r"model\.safetensors"):
        evaluate(experiment, digits, "boostresnet", 0, tmp_path / "runs", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_rounding_is_no_damage(tmp_path):
    (tmp_path / "rounds.csv").write_text("block,train_error\n0,0.25\n")
    check_train_error(tmp_path, "boostresnet", 0.252)
    check_train_error(tmp_path, "e2e", 0.9)  # has no rounds to be held against
    for error in (0.27, float("nan")):
        with pytest.raises(ReplicationError, match="does not give what rounds"):
            check_train_error(tmp_path, "boostresnet", error)


def test_numbers_that_are_not_finite_are_found_wherever_they_are(tmp_path):
    check_finite(tmp_path, {"a": [1.0, None, "x"], "b": {"c": 2}})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ReplicationError, match="not finite"):
            check_finite(tmp_path, {"a": [{"b": value}]})


def test_what_a_killed_evaluation_left_goes_with_the_next(run, experiment, digits, tmp_path):
    target = tmp_path / "results/digits/boostresnet/seed0"
    target.mkdir(parents=True)
    for name in (".run.json.abc.tmp", ".metrics.json.abc.tmp"):
        (target / name).write_text("{")
    evaluate(experiment, digits, "boostresnet", 0, tmp_path / "runs", tmp_path / "results")
    assert sorted(path.name for path in target.iterdir()) == [
        "history.csv", "metrics.json", "rounds.csv", "run.json", "timing.csv",
    ]  # fmt: skip
