"""What evaluation counts and which images it trusts; the accuracies themselves are tested where runs are trained."""

from __future__ import annotations

import attrs
import pytest

from replication.analysis.evaluate import _boosting_metrics, _ensemble_metrics, _exact_test_images, evaluate
from replication.config import BinaryParams
from replication.datasets.sources import Source
from replication.errors import ResultsError
from replication.training.train import train

CIFAR10_COPY = "f7b2a3fea01f4bb414222f9d4a4c1122"


def test_rounding_noise_is_no_positive_covariance():
    rows = [
        {"edge": "0.5", "bound": "0.9", "gamma": "0.5", "covariance": covariance}
        for covariance in ("7.7e-34", "-0.01", "0.0", "1e-6")
    ]
    assert _boosting_metrics(rows)["nonpositive_covariance_blocks"] == 3


def test_rounds_in_sum_by_hand():
    rounds = ((0.3, 0.3, 2.0), (0.1, -0.2, 3.0), (0.4, 0.1, 1.5), (0.2, 0.0, 2.5))
    rows = [{"edge": str(e), "gamma": str(g), "bound": str(b), "covariance": "-0.1"} for e, g, b in rounds]
    assert _boosting_metrics(rows) == {
        "final_edge": 0.2,
        "bound": 2.5,
        "positive_gamma_blocks": 2,
        "nonpositive_covariance_blocks": 4,
        "rounds": 4,
    }
    assert _ensemble_metrics(rows) == {"bound": 2.5, "smallest_edge": 0.1, "rounds": 4}


@pytest.mark.parametrize(
    ("sources", "asked", "expected"),
    [
        ([(CIFAR10_COPY, False)], 50, 50),
        ([(CIFAR10_COPY, False)], 10**6, 360),  # known of 1,000: all test images of the digits
        ([(CIFAR10_COPY, False)], None, 0),
        ([("0" * 32, False)], 50, 0),
        ([(CIFAR10_COPY, False), ("0" * 32, False)], 50, 0),
        ([(CIFAR10_COPY, False), ("0" * 32, True)], 50, 50),
        ([(CIFAR10_COPY, True)], 50, 0),
    ],
)
def test_only_of_a_copy_that_was_compared_are_images_known_to_be_official(experiment, digits, sources, asked, expected):
    copy = attrs.evolve(
        digits,
        official=all(official for _, official in sources),
        sources=tuple(Source("archive", md5, 1, official) for md5, official in sources),
    )
    changed = attrs.evolve(experiment, data=attrs.evolve(experiment.data, exact_test_images=asked))
    assert _exact_test_images(changed, copy, None) == expected
    of_pair = _exact_test_images(changed, copy, BinaryParams(3, 8))
    labels = digits.labels["test"][:expected]
    assert of_pair == int(((labels == 3) | (labels == 8)).sum())


def test_no_more_images_are_trusted_than_are_known(experiment, digits, monkeypatch):
    monkeypatch.setattr("replication.analysis.evaluate.KNOWN_COPIES", {"0" * 32: 20})
    copy = attrs.evolve(digits, official=False, sources=(Source("archive", "0" * 32, 1, official=False),))
    changed = attrs.evolve(experiment, data=attrs.evolve(experiment.data, exact_test_images=100))
    assert _exact_test_images(changed, copy, None) == 20


def test_a_run_of_other_parameters_replaces_no_published_one(experiment, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(experiment, digits, "e2e", 0, tmp_path / "runs")
    faster = attrs.evolve(experiment, optimizer=attrs.evolve(experiment.optimizer, learning_rate=0.5))
    with pytest.raises(ResultsError, match=r"optimizer\.learning_rate = 0\.001, and params\.yaml has 0\.5"):
        evaluate(faster, digits, "e2e", 0, tmp_path / "runs", tmp_path / "results")
    assert not (tmp_path / "results").exists()
