"""Batch norms folded into the convolutions before them: the same function in evaluation mode with half the passes."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def has_batch_norms(module: nn.Module) -> bool:
    """Whether there is any batch norm in `module`."""
    return any(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """A copy of `module` in evaluation mode in which every convolution absorbs the batch norm that follows it.

    Equal to the original in evaluation mode up to rounding; not to be trained.
    """
    folded = copy.deepcopy(module).eval().requires_grad_(False)
    for part in folded.modules():
        if isinstance(part, nn.Sequential):
            _fold_sequence(part)
    return folded


def _fold_sequence(sequence: nn.Sequential) -> None:
    for index in range(len(sequence) - 1):
        convolution, norm = sequence[index], sequence[index + 1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            sequence[index] = fuse_conv_bn_eval(convolution, norm)
            sequence[index + 1] = nn.Identity()
