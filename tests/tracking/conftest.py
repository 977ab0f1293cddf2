"""An empty MLflow store per test."""

from __future__ import annotations

from pathlib import Path

import pytest

from replication import tracking
from replication.tracking.store import Store


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store: MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    Store(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(tmp_path: Path, template_database: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    path.write_bytes(template_database.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    return Store(tracking.tracking_uri())
