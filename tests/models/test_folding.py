"""Folding batch norms into convolutions: only where nothing else could see what is between the two."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

from replication.models.folding import fold_batch_norms, has_foldable_norms
from replication.models.resnet import ConvolutionalStem, PlainBlock
from replication.training.distributed import GlobalBatchNorm2d
from replication.training.features import FrozenPrefix
from tests.test_fitting import network


class Tapped(nn.Sequential):
    """Adds the convolution's output to the norm's."""

    def forward(self, g: Tensor) -> Tensor:
        convolution, norm = self
        middle = convolution(g)
        return norm(middle) + middle


class Doubling(nn.BatchNorm2d):
    def forward(self, g: Tensor) -> Tensor:
        return 2 * super().forward(g)


class Doubled(nn.Conv2d):
    def forward(self, g: Tensor) -> Tensor:
        return super().forward(g) + g


def convolution() -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, padding=1)


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda _module, _inputs, output: 2 * output)
    return module


def pre_hooked(module: nn.Module) -> nn.Module:
    module.register_forward_pre_hook(lambda _module, inputs: (2 * inputs[0],))
    return module


def with_forward_of_its_own() -> nn.Conv2d:
    one = convolution()
    one.forward = lambda g: 2 * g  # type: ignore[method-assign]
    return one


def seen(module: nn.Module) -> nn.Module:
    """`module` with statistics and weights of its norms that are not those of a fresh one, so that folding matters."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                if values is not None:
                    nn.init.uniform_(values, 0.5, 2.0)
    return module.eval()


@pytest.mark.parametrize(
    ("module", "folded_norms"),
    [
        (nn.Sequential(convolution(), nn.BatchNorm2d(4)), 1),
        (nn.Sequential(convolution(), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), 1),
        (nn.Sequential(nn.Sequential(convolution(), nn.BatchNorm2d(4, affine=False)), nn.BatchNorm2d(4)), 1),
        (nn.Sequential(convolution(), GlobalBatchNorm2d(4)), 1),
        (ConvolutionalStem(4, 4), 1),
        (PlainBlock(4), 2),
        (Tapped(convolution(), nn.BatchNorm2d(4)), 0),
        (nn.Sequential(Doubled(4, 4, 3, padding=1), nn.BatchNorm2d(4)), 0),
        (nn.Sequential(convolution(), Doubling(4)), 0),
        (nn.Sequential(with_forward_of_its_own(), nn.BatchNorm2d(4)), 0),
        (nn.Sequential(hooked(convolution()), nn.BatchNorm2d(4)), 0),
        (nn.Sequential(convolution(), hooked(nn.BatchNorm2d(4))), 0),
        (nn.Sequential(pre_hooked(convolution()), nn.BatchNorm2d(4)), 0),
        (nn.Sequential(convolution(), pre_hooked(nn.BatchNorm2d(4))), 0),
        (nn.Sequential(parametrizations.weight_norm(convolution()), nn.BatchNorm2d(4)), 0),
        (nn.Sequential(spectral_norm(convolution()), nn.BatchNorm2d(4)), 0),
        (nn.Sequential(convolution(), nn.BatchNorm2d(4, track_running_stats=False)), 0),
        (nn.Sequential(nn.BatchNorm2d(4), convolution()), 0),
    ],
)
def test_what_is_folded_gives_the_same_and_what_cannot_be_is_left(module, folded_norms):
    seen(module)
    folded = fold_batch_norms(module)
    norms = [sum(isinstance(part, nn.BatchNorm2d) for part in whole.modules()) for whole in (module, folded)]
    assert norms[0] - norms[1] == folded_norms
    assert has_foldable_norms(module) is (folded_norms > 0) and not has_foldable_norms(folded)
    g = torch.randn(5, 4, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(folded(g), module(g), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fast", [True, False])
def test_a_prefix_puts_out_what_the_network_does_also_where_nothing_can_be_folded(fast):
    whole = seen(network(ConvolutionalStem(3, 4), Tapped(convolution(), nn.BatchNorm2d(4))))
    prefix = FrozenPrefix(whole, fast=fast)
    for module in whole.rounds:
        prefix.freeze(module)
    assert [copy is not own for copy, own in zip(prefix.modules, whole.rounds, strict=True)] == [fast, False]
    images = torch.randn(5, 3, 6, 6)
    torch.testing.assert_close(prefix(images), whole.rounds[1](whole.rounds[0](images)), rtol=1e-4, atol=1e-4)
