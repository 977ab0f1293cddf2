"""The command line: one subcommand per stage. Parses and calls."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replication import terminal
from replication.config import DATASETS, Experiment, load_experiment
from replication.errors import ConfigError, ResultsError
from replication.options import (
    Dataset,
    Device,
    Method,
    OneBudget,
    OneMethod,
    OneSeed,
    OneVariant,
    Params,
    Publish,
    Seed,
    Track,
    at_budget,
    check_only,
)  # fmt: skip

if TYPE_CHECKING:
    from replication.datasets import PreparedDataset

app = typer.Typer(
    name="python -m replication",
    help="Replicate 'Learning Deep ResNet Blocks Sequentially using Boosting Theory' stage by stage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PARAMS = Path("params.yaml")
RAW, PREPARED, RUNS, RESULTS = Path("data/raw"), Path("data/prepared"), Path("runs"), Path("results")
GENERATED = Path("paper/generated")
CHECKED = Path("data/checked")


# Heavy packages are imported where they are used: --help answers at once, and the report needs no torch.


@app.command()
def check(dataset: Dataset, params: Params = PARAMS) -> None:
    """Check the parameters. The first stage: DVC removes what a later one shall make anew before that one sees them."""
    from replication.check import check_parameters
    from replication.files import write_json

    check_parameters(dataset, params)
    # The same for whatever is valid: what does not depend on a value that changed is not run again.
    write_json(CHECKED / f"{dataset}.json", {"dataset": dataset, "parameters": "valid"})


@app.command()
def prepare(dataset: Dataset, params: Params = PARAMS) -> None:
    """Download and verify a dataset's archives and write data/prepared/DATASET.safetensors."""
    from replication.datasets.prepare import prepare as prepare_dataset

    experiment = load_experiment(dataset, params)
    (RAW / dataset).mkdir(parents=True, exist_ok=True)  # the embedded data has no archives, the pipeline an output
    data = prepare_dataset(dataset, experiment.data, RAW, PREPARED / f"{dataset}.safetensors")
    sizes = ", ".join(f"{len(labels):,} {split}" for split, labels in data.labels.items())
    print(f"{dataset}: {sizes} images of {'x'.join(map(str, data.image_shape))}; {terminal.data_copy(data.official)}")


@app.command()
def train(
    dataset: Dataset, method: Method, seed: Seed = 0, params: Params = PARAMS, device: Device = "", track: Track = True
) -> None:
    """Train a method on a dataset and write runs/DATASET/METHOD/seedN."""
    from replication import tracking
    from replication.training import interruption
    from replication.training.runs import read_description, run_folder
    from replication.training.train import describe_start, train as train_run

    experiment, data = _prepared(dataset, params, device)
    if method == "boostresnet-refined":
        read_description(run_folder(RUNS, dataset, "boostresnet", seed))  # before a run is announced that cannot start
    target = run_folder(RUNS, dataset, method, seed)
    first = "WORLD_SIZE" not in os.environ or os.environ.get("RANK", "0") == "0"  # of torchrun's processes
    if (target / "run.json").is_file() and first:
        print(f"{target} holds a finished run, which this one replaces when it is done", flush=True)
    if method != "hist-gradient-boosting":  # a library's fit, which never asks whether it should stop
        interruption.listen()
    if not first:  # the first speaks for all
        train_run(experiment, data, method, seed, RUNS)
        return
    with tracking.open_tracker(describe_start(experiment, data, method, seed), enabled=track) as tracker:
        run = f"{dataset} {method} seed {seed}"
        with terminal.errors_named(run, target):
            folder = train_run(experiment, data, method, seed, RUNS, (tracker.log, terminal.progress_of(run)))
        tracker.finish(folder)
    print(f"wrote {folder}")


@app.command()
def evaluate(dataset: Dataset, method: Method, seed: Seed = 0, params: Params = PARAMS, device: Device = "") -> None:
    """Evaluate a run on its whole splits and publish results/DATASET/METHOD/seedN."""
    from replication.analysis.evaluate import evaluate as evaluate_run

    experiment, data = _prepared(dataset, params, device)
    metrics = evaluate_run(experiment, data, method, seed, RUNS, RESULTS)
    copy = terminal.data_copy(metrics["official_data"])
    print(f"{dataset} {method} seed {seed}: {terminal.accuracies_of(metrics)}; {copy}")


@app.command()
def analyse(dataset: Dataset, method: Method, seed: Seed = 0, params: Params = PARAMS, device: Device = "") -> None:
    """Hold a run against the theory, and take it apart: margins, probes, deleted and reordered blocks, paths."""
    from replication.analysis.analyse import analyse as analyse_run

    experiment, data = _prepared(dataset, params, device)
    analyse_run(experiment, data, method, seed, RUNS, RESULTS)
    print(f"wrote {RESULTS / dataset / method}/seed{seed}/analysis.json")


@app.command()
def depth(dataset: Dataset, params: Params = PARAMS, device: Device = "") -> None:
    """Compare accuracy against depth: BoostResNet's rounds, and end-to-end training anew at every depth (Figure 2)."""
    from replication.config import load_lists
    from replication.depth import measure_depth
    from replication.training import interruption

    experiment, data = _prepared(dataset, params, device)
    interruption.listen()
    rows = measure_depth(experiment, data, load_lists(params).seeds, RUNS, RESULTS, progress=terminal.progress_of)
    print(f"wrote {RESULTS / dataset / 'e2e' / 'depth.csv'}: {len(rows)} rows")


@app.command()
def budgets(
    dataset: Dataset,
    only: OneMethod = "",
    seed: OneSeed = None,
    budget: OneBudget = None,
    publish: Publish = False,
    params: Params = PARAMS,
    device: Device = "",
) -> None:
    """Train methods under the other budgets of `budgets`: what do longer blocks change?"""
    from replication.budgets import measure_budgets, measure_one
    from replication.config import load_budgets, load_lists
    from replication.training import interruption

    asked, seeds = load_budgets(dataset, params), load_lists(params).seeds
    known = f"budgets.{dataset}", {one.method for one in asked}
    check_only("METHOD", only, seed, publish, params, known, seeds)
    asked = at_budget(asked, only, budget, f"{params}: budgets.{dataset}")
    experiment, data = _prepared(dataset, params, device)
    interruption.listen()
    show = terminal.progress_of
    if seed is not None:
        target = RESULTS if publish else None
        for folder in measure_one(experiment, asked, data, only, seed, results_root=target, progress=show):
            print(f"{'wrote' if publish else 'measured'} {folder}")
        return
    for folder in measure_budgets(experiment, asked, data, seeds, RESULTS, progress=show):
        print(f"wrote {folder}")


@app.command()
def ablate(
    dataset: Dataset,
    only: OneVariant = "",
    seed: OneSeed = None,
    publish: Publish = False,
    params: Params = PARAMS,
    device: Device = "",
) -> None:
    """Measure deviations: train the variants of `ablations` and hold them against the default's runs."""
    from replication.ablations import measure_ablations, measure_one
    from replication.config import load_lists, load_variants
    from replication.training import interruption

    variants, seeds = load_variants(dataset, params), load_lists(params).seeds
    known = f"ablations, on {dataset},", {variant.name for variant in variants}
    check_only("VARIANT", only, seed, publish, params, known, seeds)
    experiment, data = _prepared(dataset, params, device)
    interruption.listen()
    # A variant's curves are of one image: what counts is measured at its end.
    table, show = RESULTS / dataset / "ablations.csv", functools.partial(terminal.progress_of, accuracies=False)
    if seed is not None:
        target = RESULTS if publish else None
        for row in measure_one(experiment, variants, data, only, seed, results_root=target, progress=show):
            print(f"{dataset} {only} {row['method']} seed {seed}: {terminal.accuracies_of(row)}")
        print(f"wrote {table}" if publish else f"{table} is as it was; --publish adds these rows to it")
        return
    rows = measure_ablations(experiment, variants, data, seeds, RUNS, RESULTS, progress=show)
    print(f"wrote {table}: {len(rows)} rows")


@app.command()
def claims(dataset: Dataset) -> None:
    """Judge the paper's claims, and ours, by the criteria fixed beforehand; write the test accuracies beside them."""
    from replication.report.claims import write_claims
    from replication.report.headline import write_headline
    from replication.report.verdicts import applying, counted, load_verdicts

    write_headline(dataset, RESULTS, RESULTS / dataset / "test_accuracy.json")
    write_claims(dataset, RESULTS, RESULTS / dataset / "claims.json")
    print(f"{dataset}: {counted(applying(load_verdicts(dataset, RESULTS)))}")


@app.command()
def cost(dataset: Dataset, params: Params = PARAMS, device: Device = "") -> None:
    """Time updates and count their memory, against end-to-end training and the released code's way."""
    from replication.analysis.cost import measure_cost
    from replication.config import load_defaults

    experiment, data = _prepared(dataset, params, device)
    measured = measure_cost(experiment, load_defaults(dataset, params).evaluation, data, RESULTS)
    for name, ratio in measured["ratios"].items():
        print(f"{name:40} {ratio:8.3f}")


@app.command()
def report(datasets: Annotated[list[str] | None, typer.Argument(help="default: every dataset")] = None) -> None:
    """Build the tables, figures and numbers of the article from results/; needs no training and no torch.

    The datasets' runs that are here are brought up to date in MLflow, where it is installed.
    """
    from replication import tracking
    from replication.report.build import build_report

    wanted = datasets or list(DATASETS)
    for dataset in wanted:
        written = build_report(dataset, RESULTS, GENERATED)
        print(f"{dataset}: {len(written)} files in {GENERATED / dataset}")
    tracking.try_log_runs(RUNS, RESULTS, wanted)


@app.command()
def paper() -> None:
    """Compile the article, paper/main.pdf, from whatever results there are."""
    from replication.report.compile import compile_paper

    pdf = compile_paper(GENERATED.parent)
    if pdf is not None:
        print(f"the report:       {pdf}")


@app.command()
def summary(dataset: Dataset) -> None:
    """Print the results of a dataset beside the paper's."""
    from replication.report.render import print_summary

    print_summary(dataset, RESULTS)


@app.command()
def readme(check: Annotated[bool, typer.Option("--check", help="Only say whether they are current.")] = False) -> None:
    """Bring the tables in README.md and docs/ up to date with results/."""
    from replication.report.readme import PAGES, is_current, update_page

    for page in PAGES:
        if not check:
            print(f"{page} updated" if update_page(page, RESULTS) else f"{page} was up to date")
        elif not is_current(page, RESULTS):
            raise ResultsError(f"the tables in {page} are not those of results/; run `python -m replication readme`")


@app.command()
def adopt(
    folders: Annotated[list[Path], typer.Argument(help="run directories, copied from where they were trained")],
    params: Params = PARAMS,
    other_code: Annotated[
        bool, typer.Option("--other-code", help="Take runs of other or unknown code, known to give the same results.")
    ] = False,
) -> None:
    """Take in runs trained elsewhere: check them, put them under runs/, record them in dvc.lock and MLflow. One under a
    budget of `budgets` goes to scratch/, where that stage finds it.
    """
    from replication import adopt as adoption, tracking

    for folder in adoption.in_order(folders):
        target, stage = adoption.adopt(folder, params, PREPARED, RUNS, other_code=other_code)
        if stage.startswith("budgets@"):
            print(f"{folder}: adopted as {target}; what is missing there is trained, and all of it published, by")
            print(f"  dvc repro --force --single-item {stage}")
            continue
        adoption.record(stage)
        print(f"{folder}: adopted as {target} ({stage})")
    tracking.try_log_runs(RUNS, RESULTS)


@app.command("log-runs")
def log_runs() -> None:
    """Import every finished run directory into MLflow; doing it again changes nothing."""
    from replication import tracking

    print(tracking.log_runs(RUNS, RESULTS))


@app.command()
def pages(
    address: Annotated[str, typer.Argument(help="where MLflow's user interface is")] = "http://127.0.0.1:5000",
) -> None:
    """Print where MLflow's user interface shows the runs of each dataset; `make ui` starts one."""
    from replication import tracking

    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"'{address}' is no address; it looks like http://127.0.0.1:5000")
    found = tracking.pages(address)
    print("the runs, by experiment:" if found else "MLflow has no runs of ours yet; `make reproduce` makes some")
    for name, page in found.items():
        print(f"  {name:20} {page}")


@app.command()
def layers(dataset: Dataset, params: Params = PARAMS) -> None:
    """Print the network's layers, shapes and parameter counts (the data need not be there)."""
    from replication.datasets.sources import COLLECTIONS
    from replication.models.build import build_network, layer_table

    experiment = load_experiment(dataset, params)
    shape, classes = COLLECTIONS[dataset].image_shape, COLLECTIONS[dataset].classes
    rows = layer_table(build_network(experiment.model, shape, len(classes), seed=0), shape)
    terminal.print_layers(f"{dataset}: {experiment.model.reading}", rows)


def _prepared(dataset: str, params: Path, device: str) -> tuple[Experiment, PreparedDataset]:
    """A dataset's experiment, on the device that is asked for, and its data."""
    from replication.config import experiment_from_dict
    from replication.datasets import load_prepared

    experiment = load_experiment(dataset, params)
    if device:
        values = experiment.as_dict()
        values["runtime"]["device"] = device
        experiment = experiment_from_dict(values, "--device")
    return experiment, load_prepared(PREPARED / f"{dataset}.safetensors", experiment.data)


def main() -> None:
    """Run the command line."""
    terminal.run(app)


if __name__ == "__main__":
    main()
