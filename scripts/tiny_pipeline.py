"""Run the complete pipeline (every dataset, method and stage) at a tiny budget and check what it leaves.

    python scripts/tiny_pipeline.py [--keep FOLDER]

The data are small archives in the official formats, made by tests/archives.py and served over loopback HTTP; what runs
is a clone of the checkout with its uncommitted changes, so that nothing in the checkout itself changes. No number that
comes out means anything; that every one of them comes out, is marked as made from an unofficial copy and is found where
a user would look for it (DVC, MLflow, tables, figures, the article) does. Takes some minutes on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from replication.config import DATASETS, load_lists  # noqa: E402
from replication.report.labels import UNOFFICIAL  # noqa: E402
from tests.archives import serve, write_archives  # noqa: E402

OFFICIAL = ("digits",)  # comes with scikit-learn, as it is
SEED = 0
_UP_TO_DATE = "Data and pipelines are up to date."
_STAGE = re.compile(r"^Running stage '([^']+)'", re.MULTILINE)
_COMMAND_SECONDS = 1800

_SMALL: Mapping[str, Any] = yaml.safe_load((Path(__file__).parent / "tiny_params.yaml").read_text(encoding="utf-8"))
_RUNNING: set[int] = set()  # process groups of the commands going on, whose numbers are those of their first processes


class PipelineError(Exception):
    """Something is not as it should be."""


def expect(condition: object, problem: str) -> None:
    """PipelineError where the condition does not hold."""
    if not condition:
        raise PipelineError(problem)


def end(group: int) -> None:
    """End a process group, if there is anything left of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@attrs.frozen
class Workplace:
    """The clone and how commands run in it."""

    clone: Path
    environment: dict[str, str]

    def run(self, *command: str, show: re.Pattern[str] | None = None) -> str:
        """Standard output and error of a command, printing the lines that `show` fits; PipelineError if it fails."""
        lines = []
        process = subprocess.Popen(
            command, cwd=self.clone, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        late = threading.Event()

        def too_late() -> None:
            late.set()
            end(process.pid)

        limit = threading.Timer(_COMMAND_SECONDS, too_late)
        limit.start()
        _RUNNING.add(process.pid)
        with process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    lines.append(line)
                    if show is not None and show.search(line):
                        print(f"  {line}", end="", flush=True)
                code = process.wait()
            except BaseException:
                end(process.pid)
                raise
            finally:
                limit.cancel()
                _RUNNING.discard(process.pid)
        expect(not late.is_set(), f"`{' '.join(command)}` ran past {_COMMAND_SECONDS} s")
        if code != 0:
            print("".join(lines[-40:]), file=sys.stderr)
        expect(code == 0, f"`{' '.join(command)}` ended with {code}")
        return "".join(lines)

    def dvc(self, *arguments: str, show: re.Pattern[str] | None = None) -> str:
        """The output of a DVC command."""
        return self.run(sys.executable, "-m", "dvc", *arguments, show=show)

    def dvc_json(self, *arguments: str) -> Any:
        """The JSON that a DVC command prints, without what it says on standard error."""
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments, "--json"],
            cwd=self.clone, env=self.environment, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS,
        )  # fmt: skip
        expect(done.returncode == 0, f"`dvc {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def replication(self, *arguments: str) -> str:
        """The output of a subcommand of ours."""
        return self.run(sys.executable, "-m", "replication", *arguments)


def copy_checkout(target: Path) -> None:
    """Clone the checkout and lay over it every file that git tracks or would track, as it is now."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout

    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True)
    for name in filter(None, git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
        else:
            copy.unlink(missing_ok=True)


def forget_results(clone: Path) -> None:
    """Take out everything that an earlier reproduction left, so that whatever is there afterwards is new."""
    (clone / "dvc.lock").unlink(missing_ok=True)
    for folder in ("results", "paper/generated"):
        shutil.rmtree(clone / folder, ignore_errors=True)


def shrink_params(path: Path) -> None:
    """Rewrite params.yaml for runs of a few seconds: tiny_params.yaml everywhere, and one seed."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["seeds"] = [SEED]
    for dotted, value in _SMALL.items():
        *sections, name = dotted.split(".")
        place = document if dotted.partition(".")[0] in document else document["defaults"]
        for section in sections:
            place = place.get(section, {})
        expect(name in place, f"params.yaml has no {dotted}; bring scripts/tiny_params.yaml up to date")
        place[name] = value
        for experiment in document["experiments"].values():
            for section in sections:
                experiment = experiment.get(section) or {}
            experiment.pop(name, None)
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def reproduce(place: Workplace) -> str:
    """`dvc repro` of every dataset, as many at once as there are cores; gives all they print.

    Half of them are followed in MLflow as they go, two at a time. That takes longer than trainings of a second do, so
    that of the others the report stage takes in all runs at once.
    """
    datasets = load_lists(place.clone / "params.yaml").datasets
    followed = datasets[: len(datasets) // 2]

    def one_dataset(dataset: str) -> str:
        track = {"REPLICATION_TRACK": "1" if dataset in followed else "0"}
        here = attrs.evolve(place, environment=place.environment | track)
        return here.dvc("--wait-for-lock", "repro", f"report@{dataset}", show=_STAGE)

    print(f"dvc repro report@… for {', '.join(datasets)}", flush=True)
    with ThreadPoolExecutor(min(len(datasets), os.cpu_count() or 1)) as pool:
        try:
            return "".join(pool.map(one_dataset, datasets))
        except BaseException:  # a signal as well: the pool waits for its threads, and these for their commands
            pool.shutdown(wait=False, cancel_futures=True)
            for group in list(_RUNNING):
                end(group)
            raise


def check_stages(place: Workplace, output: str) -> None:
    """Every stage of dvc.yaml ran once, and is in dvc.lock."""
    stages = place.dvc("stage", "list", "--all", "--name-only").split()
    ran = Counter(_STAGE.findall(output))
    missing, repeated = sorted(set(stages) - set(ran)), sorted(name for name, count in ran.items() if count > 1)
    expect(not missing, f"stages that did not run: {', '.join(missing)}")
    expect(not repeated, f"stages that ran more than once: {', '.join(repeated)}")
    locked = yaml.safe_load((place.clone / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    expect(set(locked) == set(stages), f"dvc.lock differs from dvc.yaml: {', '.join(set(stages) ^ set(locked))}")


def runs(place: Workplace) -> Iterator[tuple[str, str]]:
    """Every dataset and method that the parameters ask for."""
    lists = load_lists(place.clone / "params.yaml")
    return ((dataset, method) for dataset in lists.datasets for method in lists.methods)


def check_results(place: Workplace) -> None:
    """Every run is published, complete, finite, and says what copy of the data it was made from."""
    for dataset, method in runs(place):
        where = f"results/{dataset}/{method}/seed{SEED}"
        folder = place.clone / where
        for name in ("history.csv", "rounds.csv", "timing.csv", "run.json", "metrics.json"):
            expect((folder / name).is_file(), f"{where}/{name} is missing")
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        official = dataset in OFFICIAL
        expect(metrics["official_data"] is official, f"{where}/metrics.json: official_data is not {official}")
        expect(run["data"]["official"] is official, f"{where}/run.json: data.official is not {official}")
        for split in ("train", "validation", "test"):
            accuracy = metrics[f"{split}_accuracy"]
            expect(0 <= accuracy <= 1, f"{where}: {split}_accuracy is {accuracy}")


def check_report(place: Workplace) -> None:
    """Tables and figures are there, and those made from unofficial copies say so."""
    place.replication("readme")
    readme = (place.clone / "README.md").read_text(encoding="utf-8")
    expect(UNOFFICIAL in readme, f"the results in README.md do not say '{UNOFFICIAL}'")
    for dataset in DATASETS:
        folder, unofficial = place.clone / "paper" / "generated" / dataset, dataset not in OFFICIAL
        table = (folder / "table.tex").read_text(encoding="utf-8")
        expect((UNOFFICIAL in table) is unofficial, f"{dataset}/table.tex: '{UNOFFICIAL}' is where it should not be")
        longer = [name for name, methods in _SMALL["budgets"].items() if methods]
        for table_of, wanted in (("ablations", _SMALL["ablations_of"]), ("budgets", longer), ("budget-claims", longer)):
            part = folder / f"{table_of}.tex"
            expect(part.is_file() is (dataset in wanted), f"{part} is missing, or where it should not be")
            if part.is_file():
                marked = UNOFFICIAL in part.read_text(encoding="utf-8")
                expect(marked is unofficial, f"{dataset}/{part.name}: '{UNOFFICIAL}' is where it should not be")
        figures = sorted(folder.glob("*.pdf"))
        expect(figures, f"paper/generated/{dataset} holds no figure")
        for figure in figures if shutil.which("pdftotext") else []:
            marked = UNOFFICIAL in place.run("pdftotext", str(figure), "-")
            expect(marked is unofficial, f"{dataset}/{figure.name}: '{UNOFFICIAL}' is where it should not be")


def check_mlflow(place: Workplace) -> None:
    """One finished run for every dataset, method and budget, with the published numbers, and none left running."""
    from mlflow import MlflowClient

    client = MlflowClient(place.environment["MLFLOW_TRACKING_URI"])
    expected = Counter(f"{dataset}/{method}/{SEED}" for dataset, method in runs(place))
    for dataset, methods in _SMALL["budgets"].items():
        named = [(name, budget) for name, budgets in methods.items() if name != "analysed" for budget in budgets]
        expected.update(f"{dataset}/{name}/{SEED}@{budget}" for name, budget in named)
    found: Counter[str] = Counter()
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], max_results=1000):
            key = run.data.tags.get("replication.key", run.info.run_name)
            expect(run.info.status == "FINISHED", f"the MLflow run of {key} is {run.info.status}")
            (dataset, method, _), budget = key.partition("@")[0].split("/"), key.partition("@")[2]
            root = place.clone / "results" / (f"{dataset}/budgets/{budget}" if budget else "")
            metrics = root / dataset / method / f"seed{SEED}" / "metrics.json"
            wanted = json.loads(metrics.read_text(encoding="utf-8"))["test_accuracy"]
            logged = run.data.metrics.get("final/test_accuracy")
            expect(logged == wanted, f"MLflow has {logged} as test accuracy of {key}, metrics.json has {wanted}")
            found[key] += 1
    different = sorted((found - expected) + (expected - found))
    expect(not different, f"MLflow has too many or too few runs of {', '.join(different)}")
    counts = place.replication("log-runs").strip().splitlines()[-1]
    unchanged = f"0 imported, 0 updated, {len(expected)} unchanged, 0 skipped"
    expect(counts == unchanged, f"`log-runs` after the pipeline says '{counts}', not '{unchanged}'")


def check_dvc(place: Workplace) -> None:
    """Nothing is left to do, and the metrics and plots that dvc.yaml names can all be shown."""
    expect(_UP_TO_DATE in place.dvc("status"), "`dvc status` finds something to do")
    whole = place.dvc("repro")
    expect(_UP_TO_DATE in whole and not _STAGE.search(whole), "`dvc repro` of everything did something more")
    shown = place.dvc_json("metrics", "show")
    metrics = {
        path: entry.get("data") for revision in shown.values() for path, entry in revision.get("data", {}).items()
    }
    for dataset, method in runs(place):
        path = f"results/{dataset}/test_accuracy.json"
        expect(method in (metrics.get(path) or {}), f"`dvc metrics show` has no {method} in {path}")
    plots = place.dvc_json("plots", "show")
    expect(plots.get("data"), "`dvc plots show` shows nothing")
    expect(not plots.get("errors"), f"`dvc plots show` cannot draw {plots.get('errors')}")
    print(f"  {len(metrics)} metrics files, {len(plots['data'])} plots")


def check_paper(place: Workplace) -> None:
    """The article compiles without complaints where LaTeX is installed."""
    if shutil.which("latexmk") is None:
        print("  skipped: latexmk is not installed")
        return
    output = place.replication("paper")
    expect((place.clone / "paper" / "main.pdf").is_file(), "paper/main.pdf is missing")
    expect("warning" not in output.lower(), f"LaTeX complains: {output.strip()}")


def work(folder: Path) -> None:
    """Run and check everything in an empty folder."""
    clone, archives = folder / "clone", folder / "archives"
    copy_checkout(clone)
    forget_results(clone)
    shrink_params(clone / "params.yaml")
    write_archives(archives)
    with serve(archives) as address:
        place = Workplace(clone, environment(folder, address))
        begin = time.monotonic()
        output = reproduce(place)
        print(f"  took {time.monotonic() - begin:.0f} s", flush=True)
    # The server is gone: nothing after this may need it.
    for check in (check_results, check_report, check_mlflow, check_dvc, check_paper):
        print(f"{check.__name__.removeprefix('check_')}: {(check.__doc__ or '').strip()}", flush=True)
        check(place)
    check_stages(place, output)


def environment(folder: Path, mirror: str) -> dict[str, str]:
    """This process's environment, with the mirror, a tracking store of its own, and this Python first in PATH."""
    # Not resolved: the link in a virtual environment is what makes its packages visible.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy") and key != "DVC_ROOT"}
    return kept | {
        "PATH": path,
        "REPLICATION_DATA_MIRROR": f"{mirror}/",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "OMP_NUM_THREADS": "1",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this new folder and leave it there")
    keep = parser.parse_args().keep
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that commands are ended on the way out
    try:
        if keep is None:
            with tempfile.TemporaryDirectory(prefix="tiny-pipeline-") as folder:
                work(Path(folder))
        else:
            keep.mkdir(parents=True)
            work(keep.resolve())
    except (PipelineError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"the complete pipeline works on small archives ({time.monotonic() - begin:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
