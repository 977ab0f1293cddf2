"""The short version of `make torture`: real kills, a network that misbehaves, bad bytes at every reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.faults import run_faults
from tests.torture.inputs import run_inputs
from tests.torture.kills import run_kills


@pytest.mark.slow
def test_killed_processes_end_with_the_same_bytes(tmp_path: Path) -> None:
    tally = run_kills(tmp_path, 4, seed=0, methods=("adaboost-mm",), dvc=False)
    assert tally.problems == []
    assert tally.total >= 4


def test_a_misbehaving_network_gives_the_right_file_or_a_clear_failure(tmp_path: Path) -> None:
    tally = run_faults(tmp_path, 12, seed=0)
    assert tally.problems == []
    assert tally.total >= 12


def test_bad_bytes_give_a_clear_error_or_a_valid_object() -> None:
    tally = run_inputs(460, seed=0)
    assert tally.problems == []
    assert tally.total == 460
