"""A residual block taken apart: its branch f, its shortcut, and what follows the sum.

Every block of every reading computes after(f(g) + shortcut(g)), where the shortcut has no parameters and `after` is a
ReLU (released) or nothing. Without f, what remains of a block is after(shortcut(g)): the identity, or, where a stage
starts, the type A shortcut (every second pixel, zeros for the new channels).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from replication.models.resnet import ConvolutionalStem, ReleasedBlock, ResNet


def residual_blocks(network: ResNet) -> list[int]:
    """Indices into `network.rounds` of the residual blocks: all modules but the stem."""
    return [index for index, module in enumerate(network.rounds) if not isinstance(module, ConvolutionalStem)]


def changes_shape(block: nn.Module) -> bool:
    """Whether the block starts a stage, so that its shortcut is not the identity."""
    return isinstance(block, ReleasedBlock) and (block.stride > 1 or block.new_channels > 0)


def branch(block: nn.Module, g: Tensor) -> Tensor:
    """f(g)."""
    residual = block.residual
    assert isinstance(residual, nn.Module)
    return residual(g)


def shortcut(block: nn.Module, g: Tensor) -> Tensor:
    """What f(g) is added to; `g` itself unless the block changes the shape."""
    if not isinstance(block, ReleasedBlock):
        return g
    if block.stride > 1:
        g = g[:, :, :: block.stride, :: block.stride]
    if block.new_channels:
        g = functional.pad(g, (0, 0, 0, 0, 0, block.new_channels))
    return g


def after(block: nn.Module, total: Tensor) -> Tensor:
    """What the block makes of the sum."""
    return torch.relu(total) if isinstance(block, ReleasedBlock) else total


def without_branch(block: nn.Module, g: Tensor) -> Tensor:
    """The block's output with f deleted."""
    return after(block, shortcut(block, g))


def interchangeable(network: ResNet) -> list[list[int]]:
    """Groups of residual blocks that map the same shape to itself, so that any order of a group fits."""
    groups: list[list[int]] = [[]]
    for index in residual_blocks(network):
        if changes_shape(network.rounds[index]):
            groups.append([])
        else:
            groups[-1].append(index)
    return [group for group in groups if group]
