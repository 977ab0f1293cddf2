"""Where MLflow is, and how to speak of it in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or mlflow.db in the repository's main checkout; relative SQLite paths start there too."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = database_path(uri)
    return uri if path is None else f"sqlite:///{repository_root() / path}"


def database_path(uri: str) -> Path | None:
    """The file behind an SQLite address, None for every other address."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri or path in ("", ":memory:") else Path(path)


def artifact_location(uri: str, dataset: str) -> str | None:
    """Where a dataset's artifacts go: beside the database or in the repository; a server decides for itself (None)."""
    if uri.startswith(("http://", "https://", "databricks")):
        return None
    path = database_path(uri)
    folder = repository_root() if path is None else path.parent
    return (folder / "mlartifacts" / dataset).as_uri()


def repository_root() -> Path:
    """The main checkout's root, also from a subfolder and from the copies that `dvc exp run` makes in .dvc/tmp/exps."""
    start = Path(os.environ.get("DVC_ROOT") or Path.cwd()).absolute()
    found = (path for path in (start, *start.parents) if (path / "params.yaml").is_file())
    root = next(found, Path(__file__).resolve().parents[2])
    main, inside, _ = root.as_posix().partition("/.dvc/tmp/exps/")
    return Path(main) if inside else root


def without_credentials(text: str) -> str:
    """The text with user names and passwords in addresses left out; a password may have "@" and "/" in it."""
    return re.sub(r"(?<!/)//(?!/)\S*@", "//", text)


def one_line(error: BaseException) -> str:
    """What an exception says, in one line short enough for a terminal and without credentials."""
    text = without_credentials(" ".join(str(error).split()) or type(error).__name__)  # whole: a cut could hide the "@"
    return text if len(text) <= 160 else f"{text[:157]}..."
