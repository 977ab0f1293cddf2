"""What `pip install` gives: every file that the code reads beside itself."""

from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def pyproject() -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # pytest needs it there
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared(path: PurePosixPath, package_data: dict[str, list[str]]) -> bool:
    """Whether a package's patterns, which are relative to its folder, match `path`; their * stays within a folder."""
    for folder in path.parents:
        patterns = package_data.get(".".join(folder.parts), [])
        parts = path.relative_to(folder).parts
        for pattern in map(PurePosixPath, patterns):
            if len(pattern.parts) == len(parts) and all(map(fnmatchcase, parts, pattern.parts)):
                return True
    return False


def test_every_file_beside_the_code_is_declared_as_package_data() -> None:
    package_data = pyproject()["tool"]["setuptools"].get("package-data", {})
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", "replication"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [PurePosixPath(name) for name in listing.stdout.split("\0") if name and not name.endswith(".py")]
    assert PurePosixPath("replication/report/criteria.yaml") in files
    missing = [str(path) for path in files if not declared(path, package_data)]
    assert not missing, f"a wheel would lack {', '.join(missing)}; declare them in pyproject.toml"
