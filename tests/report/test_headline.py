"""The numbers that `dvc metrics show` prints."""

from __future__ import annotations

import pytest

from replication.errors import ResultsError
from replication.files import read_json
from replication.report.headline import write_headline
from tests.report.synthetic import edit_json


def test_means_over_seeds_and_nothing_of_what_was_not_run(plant, tmp_path):
    for method, accuracies in (("e2e", (0.9, 0.6, 0.6)), ("boostresnet", (1 / 3,))):
        for seed, accuracy in enumerate(accuracies):
            folder = plant("digits", method, seed)
            edit_json(folder / "metrics.json", lambda values, accuracy=accuracy: values.update(test_accuracy=accuracy))
    target = tmp_path / "results/digits/test_accuracy.json"
    values = write_headline("digits", tmp_path / "results", target)
    assert values == read_json(target) == {"boostresnet": 0.333333, "e2e": 0.7, "seeds": 1}
    assert write_headline("svhn", tmp_path / "results", target) == {"seeds": 0}


def test_half_a_run_is_refused(plant, tmp_path):
    (plant("digits", "e2e", 0) / "metrics.json").unlink()
    with pytest.raises(ResultsError, match=r"metrics\.json is missing"):
        write_headline("digits", tmp_path / "results", tmp_path / "test_accuracy.json")
    assert not (tmp_path / "test_accuracy.json").exists()
