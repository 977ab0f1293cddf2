"""Deviations, measured: the default as it was run, every variant trained anew, and nothing taken for what it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs
import pytest
from typer.testing import CliRunner

from replication.__main__ import app
from replication.ablations import COLUMNS, measure_ablations, measure_one
from replication.analysis.evaluate import evaluate
from replication.budgets import measure_budgets
from replication.config import OtherBudget, Variant, load_experiment
from replication.datasets.prepare import prepare
from replication.errors import ConfigError, ResultsError
from replication.files import read_csv
from replication.report.ablations import load_ablations
from replication.training.train import train

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def exponential(experiment):
    changed = attrs.evolve(experiment.boostresnet, oracle_loss="exponential", initial_edge=0.5)
    changes = {"boostresnet.oracle_loss": "exponential", "boostresnet.initial_edge": 0.5}
    return Variant("exponential", changes, ("boostresnet",), attrs.evolve(experiment, boostresnet=changed))


@pytest.fixture
def trained(monkeypatch):
    """Method and seed of every training that was started."""
    calls = []

    def counted(experiment, data, method, seed, *arguments):
        calls.append((method, seed))
        return train(experiment, data, method, seed, *arguments)

    monkeypatch.setattr("replication.scratch_runs.train", counted)
    return calls


def test_a_dataset_without_variants_has_a_table_that_the_report_takes(experiment, digits):
    assert measure_ablations(experiment, (), digits, (0, 1)) == []
    assert Path("results/digits/ablations.csv").read_text().strip() == ",".join(COLUMNS)
    assert load_ablations("digits") == ()


def test_the_default_is_the_run_and_the_variant_is_trained_as_it_says(experiment, exponential, digits, trained):
    for seed in (0, 1):
        train(experiment, digits, "boostresnet", seed)
    rows = measure_ablations(experiment, (exponential,), digits, (0, 1))
    written = read_csv(Path("results/digits/ablations.csv"))
    assert [(row["variant"], row["seed"]) for row in written] == [
        ("default", "0"), ("default", "1"), ("exponential", "0"), ("exponential", "1"),
    ]  # fmt: skip
    assert written[2]["changes"] == "boostresnet.oracle_loss = exponential, boostresnet.initial_edge = 0.5"
    assert trained == [("boostresnet", 0), ("boostresnet", 1)]
    metrics = evaluate(experiment, digits, "boostresnet", 1)
    assert {key: value for key, value in rows[1].items() if key in metrics} == {
        key: value for key, value in metrics.items() if key in COLUMNS
    }
    # Fewer points on the curves than a run of its own would have, and the same network.
    train(exponential.experiment, digits, "boostresnet", 1, Path("whole"))
    whole = evaluate(exponential.experiment, digits, "boostresnet", 1, Path("whole"), Path("whole/results"))
    assert {key: value for key, value in rows[3].items() if key in whole} == {
        key: value for key, value in whole.items() if key in COLUMNS
    }


def test_an_interrupted_call_goes_on_and_other_parameters_are_trained_anew(experiment, exponential, digits, trained):
    train(experiment, digits, "boostresnet", 0)
    first = measure_ablations(experiment, (exponential,), digits, (0,))
    assert measure_ablations(experiment, (exponential,), digits, (0,)) == first
    assert len(trained) == 1
    unclamped = attrs.evolve(exponential.experiment.optimizer, gradient_clamp=None)
    other = attrs.evolve(exponential, experiment=attrs.evolve(exponential.experiment, optimizer=unclamped))
    measure_ablations(experiment, (other,), digits, (0,))
    assert len(trained) == 2


def test_a_default_that_is_missing_or_another_is_named(experiment, exponential, digits, trained):
    with pytest.raises(ResultsError, match="no finished run in runs/digits/boostresnet/seed0"):
        measure_ablations(experiment, (exponential,), digits, (0,))
    train(exponential.experiment, digits, "boostresnet", 0)
    with pytest.raises(ResultsError, match=r"boostresnet/seed0 was trained with boostresnet\.oracle_loss = expon"):
        measure_ablations(experiment, (exponential,), digits, (0,))
    train(experiment, digits, "boostresnet", 0)
    faster = attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, precision="bfloat16", threads=2))
    with pytest.raises(ResultsError, match=r"trained with runtime\.precision = auto, and params\.yaml has bfloat16"):
        measure_ablations(faster, (exponential,), digits, (0,))
    assert not trained and not Path("results").exists()


def test_other_methods_stand_beside_their_own_default(experiment, exponential, digits):
    short = attrs.evolve(experiment, end_to_end=attrs.evolve(experiment.end_to_end, updates=4))
    unclamped = attrs.evolve(short, optimizer=attrs.evolve(short.optimizer, gradient_clamp=None))
    train(short, digits, "e2e", 0)
    variant = Variant("no-clamp", {"optimizer.gradient_clamp": None}, ("e2e",), unclamped)
    rows = measure_ablations(short, (variant,), digits, (0,))
    assert [(row["variant"], row["method"], row["gradient_updates"]) for row in rows] == [
        ("default", "e2e", 4), ("no-clamp", "e2e", 4),
    ]  # fmt: skip
    assert rows[1]["final_edge"] is None and rows[1]["changes"] == "optimizer.gradient_clamp = null"


def test_one_variant_and_seed_can_be_published_beside_what_is_published(experiment, exponential, digits, trained):
    linear = attrs.evolve(experiment.boostresnet, auxiliary="linear")
    changes = {"boostresnet.auxiliary": "linear"}
    second = Variant("linear", changes, ("boostresnet",), attrs.evolve(experiment, boostresnet=linear))
    variants, table = (exponential, second), Path("results/digits/ablations.csv")
    for seed in (0, 1):
        train(experiment, digits, "boostresnet", seed)
        evaluate(experiment, digits, "boostresnet", seed)
    # In any order, and without the default's runs: what is published of them is enough.
    shutil.rmtree("runs")
    (row,) = measure_one(experiment, variants, digits, "linear", 1)
    assert row["seed"] == 1 and not table.exists()
    for name, seed in (("linear", 1), ("exponential", 1), ("linear", 0), ("exponential", 0), ("linear", 0)):
        measure_one(experiment, variants, digits, name, seed, results_root=Path("results"))
    assert [(row["variant"], row["seed"]) for row in read_csv(table)] == [
        (name, seed) for name in ("default", "exponential", "linear") for seed in ("0", "1")
    ]
    assert len(trained) == 4, "what is measured is not trained again"
    alone = table.read_bytes()
    for seed in (0, 1):
        train(experiment, digits, "boostresnet", seed)
    measure_ablations(experiment, variants, digits, (0, 1))
    assert table.read_bytes() == alone, "the stage writes the same"
    # A variant that params.yaml no longer has stays.
    measure_one(experiment, (exponential,), digits, "exponential", 0, results_root=Path("results"))
    assert table.read_bytes() == alone


def test_a_variant_of_another_budget_stands_beside_the_default_of_that_budget(experiment, exponential, digits, trained):
    longer = attrs.evolve(exponential, name="longer", experiment=attrs.evolve(exponential.experiment, budget=2.0))
    variants, table = (longer, exponential), Path("results/digits/ablations.csv")
    train(experiment, digits, "boostresnet", 0)
    evaluate(experiment, digits, "boostresnet", 0)
    rows = measure_ablations(experiment, variants, digits, (0,))
    assert [(row["variant"], row["budget"]) for row in rows] == [
        ("default", 1.0), ("exponential", 1.0), ("default", 2.0), ("longer", 2.0),
    ]  # fmt: skip
    assert [row["gradient_updates"] // rows[0]["gradient_updates"] for row in rows] == [1, 1, 2, 2]
    assert rows[3]["changes"] == rows[1]["changes"]
    whole = table.read_bytes()
    table.unlink()
    assert len(trained) == 3

    def publish(name):
        measure_one(experiment, variants, digits, name, 0, results_root=Path("results"))

    command = "python -m replication budgets digits --only boostresnet --seed 0 --budget 2 --publish"
    with pytest.raises(ResultsError, match=rf"budgets/2/digits/boostresnet/seed0 has no metrics.* first: {command}$"):
        publish("longer")
    measure_budgets(experiment, (OtherBudget(2.0, "boostresnet"),), digits, (0,))
    publish("longer")
    assert [row["budget"] for row in read_csv(table)] == ["2.0", "2.0"]
    publish("exponential")
    assert table.read_bytes() == whole and len(trained) == 3, "what one stage has trained the other takes"
    table.write_bytes(whole.replace(b",2.0,True", b",4.0,True"))
    with pytest.raises(ResultsError, match=r"has a row of default with budget 4\.0, and here it is 1\.0"):
        publish("exponential")
    table.write_bytes(b"".join(line.replace(b",2.0,True", b",1.0,True") for line in whole.splitlines(keepends=True)))
    with pytest.raises(ResultsError, match=r"has a row of longer with budget 1\.0, and here it is 2\.0"):
        publish("exponential")


def test_what_others_publish_during_a_training_is_kept(experiment, exponential, digits, monkeypatch):
    train(experiment, digits, "boostresnet", 0)
    evaluate(experiment, digits, "boostresnet", 0)
    table = Path("results/digits/ablations.csv")
    linear = attrs.evolve(experiment.boostresnet, auxiliary="linear")
    other = Variant("linear", {}, ("boostresnet",), attrs.evolve(experiment, boostresnet=linear))

    def publish(name):
        measure_one(experiment, (exponential, other), digits, name, 0, results_root=Path("results"))

    def meanwhile(*arguments):
        monkeypatch.setattr("replication.scratch_runs.train", train)
        publish("linear")
        return train(*arguments)

    monkeypatch.setattr("replication.scratch_runs.train", meanwhile)
    publish("exponential")
    assert [row["variant"] for row in read_csv(table)] == ["default", "exponential", "linear"]


def test_one_variant_is_held_against_nothing_that_is_not_alike(experiment, exponential, digits, trained):
    results, variants = Path("results"), (exponential,)

    def publish(under=experiment, variants=variants, seed=0):
        measure_one(under, variants, digits, "exponential", seed, results_root=results)

    with pytest.raises(ResultsError, match=r"results/digits/boostresnet/seed0 has no metrics\.json to hold"):
        publish()
    for seed in (0, 1):
        train(experiment, digits, "boostresnet", seed)
        evaluate(experiment, digits, "boostresnet", seed)
    faster = attrs.evolve(experiment, optimizer=attrs.evolve(experiment.optimizer, learning_rate=0.01))
    with pytest.raises(ResultsError, match=r"trained with optimizer\.learning_rate = "):
        publish(faster)
    table = results / "digits/ablations.csv"
    publish()
    before = table.read_text()
    for old, new, message in (
        (",1.0,True", ",0.5,True", r"has a row of default with budget 0\.5, and here it is 1\.0; get it back"),
        (",1.0,True", ",1.0,False", r"has a row of default with official_data False, and here it is True; "),
        ("oracle_loss = exponential", "oracle_loss = other", "has a row of exponential with changes .*= other"),
        ("boostresnet,0", "boostresnet,a", "is damaged, or of another version"),
        ("variant,changes", "variant,change", "is damaged, or of another version"),
    ):
        assert old in before
        table.write_text(before.replace(old, new))
        with pytest.raises(ResultsError, match=rf"^results/digits/ablations\.csv {message}"):
            publish(seed=1)
    table.write_text(before)
    # Of another seed than the one that is measured, too: the table has its row.
    description = Path("results/digits/boostresnet/seed0/run.json")
    whole = description.read_text()
    for text, message in (
        (whole.replace(digits.content_hash, "0" * 64), "is of other data than digits's here; evaluate"),
        ("[]", "/run.json is damaged; evaluate a run of the same data first"),
    ):
        description.write_text(text)
        with pytest.raises(ResultsError, match=f"^results/digits/boostresnet/seed0.*{message}"):
            publish(seed=1)
    description.write_text(whole)
    Path("results/digits/boostresnet/seed0/metrics.json").write_text("[]")
    with pytest.raises(ResultsError, match=r"seed0/metrics\.json is damaged; evaluate the run again"):
        publish(seed=1)
    assert table.read_text() == before and len(trained) == 1


def test_the_command_measures_one_and_publishes_it_if_asked_to(digits):
    parameters = (ROOT / "params.yaml").read_text().replace("budget: 0.005", "budget: 0.0001")
    Path("params.yaml").write_text(parameters)
    short = load_experiment("digits", Path("params.yaml"))
    prepare("digits", short.data, Path("data/raw"), Path("data/prepared/digits.safetensors"))
    train(short, digits, "boostresnet", 2)
    evaluate(short, digits, "boostresnet", 2)
    table = Path("results/digits/ablations.csv")
    command = ["ablate", "digits", "--only", "no-clamp", "--seed", "2"]
    answer = CliRunner().invoke(app, command)
    assert "digits no-clamp boostresnet seed 2: accuracy train " in answer.output and not table.exists()
    assert answer.output.endswith("ablations.csv is as it was; --publish adds these rows to it\n")
    answer = CliRunner().invoke(app, [*command, "--publish"])
    assert answer.output.endswith("wrote results/digits/ablations.csv\n"), answer.output
    assert [(row["variant"], row["seed"]) for row in read_csv(table)] == [("default", "2"), ("no-clamp", "2")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "no-clamp"], "--only VARIANT and --seed N go together"),
        (["--publish"], "--publish goes with --only VARIANT and --seed N"),
        (
            ["--only", "no-clamps", "--seed", "1"],
            "params.yaml: ablations, on digits, asks for adaboost-larger, ",
        ),
        (["--only", "no-augmentation", "--seed", "1"], "not for 'no-augmentation'; choose one of these, or add it"),
        (["--only", "no-clamp", "--seed", "7"], "params.yaml: 7 is not among seeds; add it, or choose one of 0, 1, 2"),
    ],
)
def test_what_the_stage_would_not_measure_is_refused(arguments, message):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    answer = CliRunner().invoke(app, ["ablate", "digits", *arguments])
    assert isinstance(answer.exception, ConfigError) and message in str(answer.exception)
