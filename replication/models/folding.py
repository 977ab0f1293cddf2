"""Batch norms folded into the convolutions before them: the same function in evaluation mode with half the passes."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def has_foldable_norms(module: nn.Module) -> bool:
    """Whether `fold_batch_norms` would fold any in `module`."""
    return next(_pairs(module), None) is not None


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """A copy of `module` in evaluation mode in which every convolution absorbs the batch norm that follows it in an
    `nn.Sequential`.

    Equal to the original in evaluation mode up to rounding; not to be trained. A pair stays as it is where something
    else could see or change what is between the two (a forward or a hook of one's own), and where the norm has no
    running statistics.
    """
    folded = copy.deepcopy(module).eval().requires_grad_(False)
    for sequence, index, convolution, norm in tuple(_pairs(folded)):
        sequence[index] = fuse_conv_bn_eval(convolution, norm)
        sequence[index + 1] = nn.Identity()
    return folded


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Sequential, int, nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and norms that can be folded, with their container and the convolution's place in it."""
    for sequence in module.modules():
        if not isinstance(sequence, nn.Sequential) or not _is_plain(sequence, nn.Sequential):
            continue
        for index, (convolution, norm) in enumerate(itertools.pairwise(sequence)):
            # The very class: a parametrised convolution has one of its own, which makes the weights anew in every pass.
            if type(convolution) is not nn.Conv2d or not isinstance(norm, nn.BatchNorm2d):
                continue
            plain = _is_plain(convolution, nn.Conv2d) and _is_plain(norm, nn.BatchNorm2d)
            if plain and norm.running_mean is not None:
                yield sequence, index, convolution, norm


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether `module` computes in evaluation mode what a `kind` does, and nothing else."""
    own = getattr(module.forward, "__func__", None) is kind.forward or getattr(module, "plain_in_evaluation", False)
    return own and not module._forward_hooks and not module._forward_pre_hooks
