"""The only file that imports MLflow: runs, curves, datasets and models in a tracking store."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from replication.errors import ReplicationError
from replication.files import read_json
from replication.lock import exclusive
from replication.run_directory import PUBLISHED, copy_model
from replication.tracking import records
from replication.tracking.location import artifact_location, database_path, one_line, without_credentials
from replication.tracking.records import Point

_ENVIRONMENT = {  # what the user has set stays
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_METRICS_AT_A_TIME, _PARAMS_AT_A_TIME = 900, 90  # MLflow's limits are 1000 and 100
_LOCK_SECONDS = 60.0
_EXPERIMENTS = "boostresnet/"  # and the dataset's name
_MODEL_PACKAGES = ("attrs", "numpy", "psutil", "pyyaml", "safetensors", "torch", "tqdm")


def installed() -> bool:
    """Whether MLflow can be imported here."""
    return importlib.util.find_spec("mlflow") is not None


@contextlib.contextmanager
def readable_errors(uri: str) -> Iterator[None]:
    """Turn whatever MLflow and its database or HTTP layers raise into one line.

    Raises:
        ReplicationError: instead of any other exception.
    """
    try:
        yield
    except ReplicationError:
        raise
    except Exception as error:
        raise ReplicationError(
            f"MLflow at {without_credentials(uri)} does not take the run ({one_line(error)}); "
            "check MLFLOW_TRACKING_URI, then run `python -m replication log-runs`"
        ) from error


class Store:
    """One tracking store. Every method may raise what MLflow raises; callers decide what that means."""

    def __init__(self, uri: str) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        if "MLFLOW_LOGGING_LEVEL" not in os.environ:  # errors are ours to tell, in one line
            for name in ("mlflow", "alembic", "urllib3", "sqlalchemy"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        self.uri = uri
        _create_database(uri)
        self.client: Any = MlflowClient(uri)

    def start(self, run: Mapping[str, Any], live: bool) -> str:
        """Create the MLflow run with all that is known beforehand; end the runs that killed processes left RUNNING."""
        from mlflow.entities import Param

        experiment = self.experiment_id(run["dataset"])
        self.end_stale_runs(self.find(experiment, records.run_key(run)), run)
        tags = records.run_tags(run) | ({"replication.process": records.this_process()} if live else {})
        start, name = records.now() if live else records.started(run), records.run_name(run)
        run_id = str(self.client.create_run(experiment, start_time=start, tags=tags, run_name=name).info.run_id)
        with self._failed_on_error(run_id):
            params = [Param(key, value[:6000]) for key, value in records.run_params(run).items()]
            for first in range(0, len(params), _PARAMS_AT_A_TIME):
                self.client.log_batch(run_id, params=params[first : first + _PARAMS_AT_A_TIME])
            self._log_dataset(run_id, run)
        return run_id

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Append points to the run's curves."""
        from mlflow.entities import Metric

        for first in range(0, len(points), _METRICS_AT_A_TIME):
            batch = points[first : first + _METRICS_AT_A_TIME]
            self.client.log_batch(run_id, metrics=[Metric(p.key, p.value, p.milliseconds, p.step) for p in batch])

    def complete(
        self,
        run_id: str,
        run_dir: Path,
        results_dir: Path | None,
        logged: set[tuple[str, int]],
        other_budget: str = "",
    ) -> None:
        """Bring a run up to date with its directory, but for the points (key, step) in `logged`; close it and retire
        its predecessors. `other_budget` is as `read_run` takes it.
        """
        from mlflow.entities import RunTag

        run = records.read_run(run_dir, other_budget)
        with self._failed_on_error(run_id):
            points = [point for point in records.all_points(run_dir, run) if (point.key, point.step) not in logged]
            self.log_points(run_id, points)
            for name in PUBLISHED:
                self.client.log_artifact(run_id, str(run_dir / name), "run")
            if records.keeps_model(run):
                self._log_model(run_id, run_dir, run)
            self.log_results(run_id, results_dir, {})
            tags = records.run_tags(run) | {"replication.content_sha256": records.content_hash(run_dir)}
            self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            # Of a run that was followed, MLflow's start is when following began, which may be after the run's own.
            start = self.client.get_run(run_id).info.start_time
            self.client.set_terminated(run_id, "FINISHED", start + records.lasted(run))
        self.retire_others(self.client.get_run(run_id))

    def log_results(self, run_id: str, results_dir: Path | None, tags: Mapping[str, str]) -> bool:
        """Log what is published of a run, numbers and files, but for what the hashes in the run's `tags` say is here.

        Returns:
            Whether there was anything to log.
        """
        changed = False
        for name, files in records.results_files(results_dir).items():
            tag, digest = f"replication.{name}_sha256", records.hash_of(files)
            if tags.get(tag) == digest:
                continue
            self.log_points(run_id, records.results_points(name, read_json(files[0])))
            for file in files:
                folder = "results" if file.parent == results_dir else f"results/{file.parent.name}"
                self.client.log_artifact(run_id, str(file), folder)
            self.client.set_tag(run_id, tag, digest)
            changed = True
        return changed

    def find(self, experiment_id: str, key: str) -> list[Any]:
        """The runs, not deleted, of a dataset/method/seed."""
        condition = f"tags.`replication.key` = '{key}'"
        return list(self.client.search_runs([experiment_id], condition, max_results=1000))

    def end_stale_runs(self, runs: Sequence[Any], run: Mapping[str, Any]) -> None:
        """Set RUNNING runs to KILLED whose process is gone; on another machine, those that `run` repeats."""
        for other in runs:
            tags = other.data.tags
            process = tags.get("replication.process", "")
            if records.same_machine(process):
                gone = not records.works_elsewhere(process)
            else:
                gone = tags.get("replication.config_sha256") == records.config_hash(run)
            if other.info.status == "RUNNING" and gone:
                self.client.set_terminated(other.info.run_id, "KILLED")

    def retire_others(self, run: Any) -> None:
        """Delete the other runs of the same key and config; link those of another config to `run`.

        Deleted runs stay in MLflow's bin until `mlflow gc`.
        """
        config = run.data.tags["replication.config_sha256"]
        for other in self.find(run.info.experiment_id, run.data.tags["replication.key"]):
            tags = other.data.tags
            busy = other.info.status == "RUNNING" and records.works_elsewhere(tags.get("replication.process", ""))
            if other.info.run_id == run.info.run_id or busy:
                continue
            if tags.get("replication.config_sha256") != config:
                self.client.set_tag(other.info.run_id, "replication.superseded_by", run.info.run_id)
                continue
            for model in (other.outputs.model_outputs if other.outputs else None) or []:
                self.client.delete_logged_model(model.model_id)
            self.client.delete_run(other.info.run_id)

    def experiments(self) -> dict[str, str]:
        """The ids of the datasets' experiments by their names, in the order of the names."""
        found = self.client.search_experiments(filter_string=f"name LIKE '{_EXPERIMENTS}%'", order_by=["name ASC"])
        return {experiment.name: str(experiment.experiment_id) for experiment in found}

    def experiment_id(self, dataset: str) -> str:
        """The id of the dataset's experiment, created if need be."""
        name = f"{_EXPERIMENTS}{dataset}"
        for last_attempt in (False, True):
            experiment = self.client.get_experiment_by_name(name)
            if experiment is not None:
                if experiment.lifecycle_stage == "deleted":
                    self.client.restore_experiment(experiment.experiment_id)
                return str(experiment.experiment_id)
            try:
                return str(self.client.create_experiment(name, artifact_location(self.uri, dataset)))
            except Exception:
                if last_attempt:  # at the first, another process may have been quicker
                    raise
        raise AssertionError

    @contextlib.contextmanager
    def _failed_on_error(self, run_id: str) -> Iterator[None]:
        """Leave no run RUNNING that is not worked on."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):
                self.client.set_terminated(run_id, "FAILED")
            raise

    def _log_dataset(self, run_id: str, run: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = run.get("data") or {}
        source = {"tags": {"mlflow.source.name": f"python -m replication prepare {run['dataset']}"}}
        digest = str(data.get("content_hash", "unknown"))[:36]  # MLflow's limit; replication.data_sha256 has it all
        profile = json.dumps(data)
        dataset = Dataset(run["dataset"], digest, "code", json.dumps(source), profile=profile)
        self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _log_model(self, run_id: str, run_dir: Path, run: Mapping[str, Any]) -> None:
        """Log the trained model with its signature.

        The flavour is a Python function over safetensors with this package's code beside it: nothing is pickled, so
        loading it runs no code but ours; and nothing is traced or imported now, which takes torch.export seconds.
        """
        import mlflow.pyfunc
        import numpy as np
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

        float32 = np.dtype("float32")
        images = TensorSpec(float32, (-1, *run["model"]["image_shape"]))
        scores = TensorSpec(float32, (-1, run["model"]["num_classes"]))
        versions = [f"{package}=={importlib.metadata.version(package)}" for package in _MODEL_PACKAGES]
        experiment = self.client.get_run(run_id).info.experiment_id
        params = {key: str(run[key]) for key in ("method", "seed", "reading", "blocks", "parameters") if key in run}
        input_note = "float32 images, normalised as in training: (pixels - mean) / std per channel"
        model = self.client.create_logged_model(experiment, f"{run['dataset']}-{run['method']}", run_id, params=params)
        identity = {"run_id": run_id, "model_uuid": model.model_id, "model_id": model.model_id}
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder, "weights")
            weights.mkdir()
            copy_model(run_dir, weights)
            code = Path(folder, "replication")
            shutil.copytree(Path(__file__).parents[1], code, ignore=shutil.ignore_patterns("__pycache__"))
            target = str(Path(folder, "model"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it would rather have an example than a signature
                mlflow.pyfunc.save_model(
                    target,
                    loader_module="replication.tracking.served",
                    data_path=str(weights),
                    code_paths=[str(code)],
                    mlflow_model=Model(model.artifact_location, **identity),
                    signature=ModelSignature(Schema([images]), Schema([scores])),
                    pip_requirements=versions,
                    metadata={"input": input_note},
                )
            self.client.log_model_artifacts(model.model_id, target)
        self.client.finalize_logged_model(model.model_id, "READY")


def _create_database(uri: str) -> None:
    """Make the SQLite database once.

    Parallel first starts would race on MLflow's migrations, and a killed one would leave half a schema: so one process
    makes the database under another name and renames it, the others wait.
    """
    path = database_path(uri)
    if path is None or path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with exclusive(lock, str(path), "made", ReplicationError, wait_seconds=_LOCK_SECONDS):
        if not path.exists():
            draft = path.with_name(f".{path.name}.new")
            draft.unlink(missing_ok=True)
            MlflowClient(f"sqlite:///{draft}").search_experiments(max_results=1)
            draft.replace(path)
