"""What BoostResNet is timed against does what it is said to do."""

from __future__ import annotations

import multiprocessing

import attrs
import pytest
import torch

from replication.analysis.rivals import as_released_update, dataloader_update, plain_end_to_end_update

CPU = torch.device("cpu")


def test_workers_live_in_the_loops_own_turns_alone(experiment, digits):
    action = dataloader_update(experiment, digits, CPU)
    assert not multiprocessing.active_children()
    action.prepare()
    assert len(multiprocessing.active_children()) == 2
    action.repeat(2)
    action.finish()
    assert not multiprocessing.active_children()
    assert action.turn(CPU) > 0, "the next turn starts them anew"
    assert not multiprocessing.active_children()


def test_the_loop_has_made_updates_before_the_clock_starts(experiment, digits):
    action = dataloader_update(experiment, digits, CPU)
    before = [parameter.detach().clone() for parameter in action.parameters]
    action.prepare()
    action.finish()
    assert not any(torch.equal(old, new) for old, new in zip(before, action.parameters, strict=True))


def test_a_plain_update_trains_every_parameter(experiment, digits):
    action = plain_end_to_end_update(experiment, digits, CPU)
    before = [parameter.detach().clone() for parameter in action.parameters]
    action.repeat(1)
    assert not any(torch.equal(old, new) for old, new in zip(before, action.parameters, strict=True))


def test_the_released_codes_way_trains_the_block_and_leaves_the_prefix(experiment, digits):
    action = as_released_update(experiment, digits, 1, CPU)
    before = [parameter.detach().clone() for parameter in action.parameters]
    action.repeat(1)
    changed = [not torch.equal(old, new) for old, new in zip(before, action.parameters, strict=True)]
    stem, block = changed[:3], changed[3:9]  # a convolution and a batch norm; two of each
    assert not any(stem) and all(block)
    assert all(parameter.grad is None for parameter in action.parameters[:3]), "computed and thrown away"


@pytest.mark.parametrize(("precision", "kind"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_what_is_timed_against_each_other_computes_in_one_precision(experiment, digits, precision, kind):
    experiment = attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, precision=precision))
    seen = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _inputs, output: seen.append(output.dtype) if isinstance(module, torch.nn.Conv2d) else None
    )
    try:
        for action in (
            plain_end_to_end_update(experiment, digits, CPU),
            as_released_update(experiment, digits, 1, CPU),
        ):
            action.repeat(1)
            assert set(seen) == {kind}
            seen.clear()
    finally:
        hook.remove()
