"""The update loop against Adam written out by hand, and the generators' independence."""

from __future__ import annotations

import shutil

import attrs
import pytest
import torch
from torch import nn

from replication.config import OptimizerParams
from replication.errors import TrainingError
from replication.models.resnet import PlainBlock
from replication.training.seeds import STREAMS, generator, stream_seed
from replication.training.update import UpdateLoop


class Scale(nn.Module):
    """Logits w * inputs: one parameter to follow by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([2.0]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.w * inputs


class HugeLoss(nn.Module):
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (1e25 * (logits - labels)).sum()


class SquareLoss(nn.Module):
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return ((logits - labels) ** 2).sum()


@pytest.mark.parametrize("clamp", [None, 0.1, 5.0])
def test_three_updates_are_adam_by_hand_on_clamped_gradients(clamp, experiment):
    model = Scale()
    batch = (torch.tensor([1.5]), torch.tensor([1.0]))
    loop = UpdateLoop(model, SquareLoss(), lambda: batch, OptimizerParams(0.01, clamp, 1), experiment.runtime, seed=0)
    w, m, v = 2.0, 0.0, 0.0
    for step in range(1, 4):
        gradient = 2 * (w * 1.5 - 1.0) * 1.5
        if clamp is not None:
            gradient = max(-clamp, min(clamp, gradient))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w -= 0.01 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)) ** 0.5 + 1e-8)
        loop.run(1)
        assert model.w.item() == pytest.approx(w, rel=1e-6)


def test_a_parameter_without_a_gradient_has_no_moments_to_keep(experiment):
    """An unused part of a network of one's own: a look at it must not make Adam take it for a used one."""
    batch, params = (torch.tensor([1.5]), torch.tensor([1.0])), OptimizerParams(0.01, None, 1)
    weights = []
    for look in (False, True):
        model = Scale()
        model.unused = nn.Parameter(torch.ones(2))
        loop = UpdateLoop(model, SquareLoss(), lambda: batch, params, experiment.runtime, seed=0)
        loop.run(2)
        if look:
            kept = loop.snapshot()
            loop = UpdateLoop(model, SquareLoss(), lambda: batch, params, experiment.runtime, seed=0)
            loop.restore(kept)
        loop.run(2)
        weights.append((model.w.item(), model.unused.tolist()))
    assert weights[0] == weights[1] == (weights[0][0], [1.0, 1.0])


def test_gradients_are_clamped_each_for_itself_not_by_their_common_norm(experiment):
    model = Scale()
    model.w = nn.Parameter(torch.tensor([2.0, 0.1]))
    inputs, labels = [1.5, 0.5], [1.0, 0.0]
    batch = torch.tensor(inputs), torch.tensor(labels)
    loop = UpdateLoop(model, SquareLoss(), lambda: batch, OptimizerParams(0.3, 0.1, 1), experiment.runtime, seed=0)
    expected, m, v = [2.0, 0.1], [0.0, 0.0], [0.0, 0.0]
    for step in range(1, 4):
        for i in range(2):
            gradient = max(-0.1, min(0.1, 2 * (expected[i] * inputs[i] - labels[i]) * inputs[i]))
            m[i], v[i] = 0.9 * m[i] + 0.1 * gradient, 0.999 * v[i] + 0.001 * gradient**2
            expected[i] -= 0.3 * (m[i] / (1 - 0.9**step)) / ((v[i] / (1 - 0.999**step)) ** 0.5 + 1e-8)
    loop.run(3)
    assert model.w.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_an_oracle_may_have_parameters_of_its_own(experiment):
    class Shifted(SquareLoss):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1))

        def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return super().forward(logits + self.shift, labels)

    loss = Shifted()
    params = OptimizerParams(0.01, None, 1)
    UpdateLoop(Scale(), loss, lambda: (torch.ones(1), torch.zeros(1)), params, experiment.runtime, seed=0).run(3)
    assert loss.shift.item() == pytest.approx(-0.03, rel=1e-3)

    # Clamped like the model's, gradients of 4 and less are all 0.1, so that every step of Adam is the learning rate.
    model, loss, params = Scale(), Shifted(), OptimizerParams(0.3, 0.1, 1)
    UpdateLoop(model, loss, lambda: (torch.ones(1), torch.zeros(1)), params, experiment.runtime, seed=0).run(3)
    assert [model.w.item(), loss.shift.item()] == pytest.approx([2.0 - 0.9, -0.9], rel=1e-5)


def test_batch_norms_go_by_the_batch_in_whatever_mode_the_network_is_handed_over(experiment):
    model = nn.Sequential(nn.BatchNorm1d(1)).eval()
    batch, params = (torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)), OptimizerParams(0.01, None, 2)
    UpdateLoop(model, SquareLoss(), lambda: batch, params, experiment.runtime, seed=0).run(1)
    assert model[0].running_mean.item() == pytest.approx(0.2)  # a tenth of the way from 0 to the batch's mean


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_module_takes_the_same_updates(experiment):
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(8, 3, 6, 6, generator=generator), torch.arange(8) % 4

    def updated(compile: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(PlainBlock(3), nn.Flatten(), nn.Linear(108, 4))
        runtime = attrs.evolve(experiment.runtime, compile=compile)
        loop = UpdateLoop(model, nn.CrossEntropyLoss(), lambda: batch, OptimizerParams(0.01, 0.1, 8), runtime, seed=0)
        assert loop.run(3) == 3
        return model.state_dict()

    torch.testing.assert_close(updated("always"), updated("never"), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_for_the_forward_pass_and_weights_stay_float32(experiment):
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(32, 3, 6, 6, generator=generator), torch.arange(32) % 4

    def updated(precision: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(PlainBlock(3), nn.Flatten(), nn.Linear(108, 4))
        runtime = attrs.evolve(experiment.runtime, precision=precision)
        loop = UpdateLoop(
            model, nn.CrossEntropyLoss(), lambda: batch, OptimizerParams(0.001, None, 32), runtime, seed=0
        )
        loop.run(1)
        moments = loop.snapshot().part("adam").tensors
        means = {name: tensor for name, tensor in moments.items() if name.endswith("exp_avg")}
        return {**means, **dict(model.named_parameters())}

    exact, rounded = updated("float32"), updated("bfloat16")
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in rounded.values())
    # The first moment is a tenth of the gradient. Bfloat16 has eight bits: a few per cent at most, and never nothing.
    gradients = [torch.cat([t.flatten() for n, t in one.items() if n.endswith("exp_avg")]) for one in (exact, rounded)]
    difference = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
    assert 1e-5 < difference < 0.03
    weights = [torch.cat([t.detach().flatten() for n, t in one.items() if "exp" not in n]) for one in (exact, rounded)]
    assert float((weights[1] - weights[0]).norm() / weights[0].norm()) < 0.03


def test_streams_and_phases_of_one_seed_differ_and_are_stable():
    seeds = {(stream, phase): stream_seed(0, stream, phase) for stream in STREAMS for phase in (0, 1)}
    assert len(set(seeds.values())) == len(seeds)
    assert stream_seed(0, "batches") == stream_seed(0, "batches")
    assert stream_seed(0, "batches") != stream_seed(1, "batches")
    drawn = [torch.randint(1000, (5,), generator=generator(7, "batches")).tolist() for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_an_update_that_stalls_for_good_is_an_error(experiment):
    """Squares of such a gradient are infinite: Adam's steps would be zero from then on, and the loss stays finite."""
    model, params = Scale(), OptimizerParams(0.01, None, 1)
    loop = UpdateLoop(model, HugeLoss(), lambda: (torch.ones(1), torch.zeros(1)), params, experiment.runtime, seed=0)
    with pytest.raises(TrainingError, match=r"not a finite number any more; lower optimizer\.learning_rate, or set"):
        loop.run(2)
