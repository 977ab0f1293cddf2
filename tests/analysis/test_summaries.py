"""What analysis.json says in sum, from tables that can be added up by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from replication.analysis.analyse import (
    _lesion_summary,
    _normalised_outputs,
    _path_summary,
    _swap_summary,
)
from replication.analysis.lesion import SingleDeletion
from replication.analysis.probes import trend
from replication.models.ensemble import Ensemble
from replication.models.resnet import Head, MLPBlock, ResNet
from tests.analysis.test_lesion import split_of


def test_lesions_are_errors_added_by_what_is_missing():
    singles = [
        SingleDeletion(1, "one", False, 0.3),
        SingleDeletion(2, "two", True, 0.2),
        SingleDeletion(3, "three", False, 0.1),
    ]
    rows = [
        {"deleted": 1, "error": 0.2},
        {"deleted": 1, "error": 0.4},
        {"deleted": 2, "error": 0.9},
        {"deleted": 3, "error": 0.7},
    ]
    assert _lesion_summary(0.1, singles, rows, 0.05) == {
        "error": 0.1,
        "single_mean_increase": pytest.approx(0.1),  # of 0.2, 0.1 and 0
        "single_median_increase": pytest.approx(0.1),
        "single_max_increase": pytest.approx(0.2),
        "single_max_module": "one",
        "within_stages_mean_increase": pytest.approx(0.1),  # of 0.2 and 0
        "random_error": 0.05,
        "half_deleted": 1,  # as near to one and a half as 2, and the first
        "half_deleted_error": pytest.approx(0.3),
        "kendall_tau": pytest.approx(1 / 3),  # 0.3, 0.9, 0.7: two pairs rise, one falls
    }


def test_without_a_block_inside_a_stage_there_is_no_mean_over_them():
    only = [SingleDeletion(1, "one", True, 0.3)]
    assert _lesion_summary(0.1, only, [{"deleted": 1, "error": 0.3}], 0.1)["within_stages_mean_increase"] is None


def test_an_order_that_is_further_from_the_networks_own_and_worse_counts_negative():
    rows = [
        {"swaps": 1, "kendall_tau": 0.9, "error": 0.1},
        {"swaps": 1, "kendall_tau": 0.8, "error": 0.2},
        {"swaps": 5, "kendall_tau": 0.1, "error": 0.6},
    ]
    assert _swap_summary(rows) == {
        "tau_error_correlation": pytest.approx(-1.0),
        "one_swap_error": pytest.approx(0.15),
        "most_swaps": 5,
        "most_swaps_error": 0.6,
    }
    assert _swap_summary([]) is None


def test_paths_are_weighted_by_their_share_and_short_below_half():
    rows = [{"length": length, "share": share} for length, share in enumerate((0.5, 0.3, 0.2))]
    assert _path_summary(rows) == {
        "blocks": 2,
        "mean_length": pytest.approx(0.7),
        "shorter_than_half_share": pytest.approx(0.5),  # length 1 is half of 2, and not shorter
    }


def test_the_trend_is_that_of_the_test_images_from_first_to_last():
    accuracies = ((0.9, 0.2), (0.5, 0.6), (0.1, 0.5), (0.0, 0.7))
    rows = [{"probe_train_accuracy": train, "probe_test_accuracy": test} for train, test in accuracies]
    # Of six pairs one falls: 0.6 to 0.5.
    assert trend(rows) == {
        "probe_test_kendall_tau": pytest.approx(4 / 6),
        "probe_test_first": 0.2,
        "probe_test_last": 0.7,
    }


def constant(*outputs: float) -> ResNet:
    """A network that says the same of every image of four pixels."""
    network = ResNet([MLPBlock(4, 1)], ["one"], Head(4, len(outputs), pool=False), stage_starts=(), flatten=True)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        network.head.linear.bias.copy_(torch.tensor(outputs))
    return network.eval()


@torch.no_grad()
def test_shares_of_a_vote_are_of_all_weight_that_was_cast_for_or_against():
    split = split_of(torch.zeros(3, 1, 2, 2), [0, 1, 0])
    ensemble = Ensemble([constant(2.0, 1.0), constant(0.0, 1.0)], [0.5, -0.25], vote=True)
    shares = _normalised_outputs(ensemble, split, 2)
    torch.testing.assert_close(shares, torch.tensor([[2 / 3, -1 / 3]] * 3, dtype=torch.float64))
