"""Networks from parameters, and the table of their layers.

The released reading on CIFAR-10 (`python -m replication layers cifar10`), counted by hand:

    part      modules                                     weighted layers    parameters
    stem      3x3, 3 -> 16, BN                                          1           464 = 432 + 32
    stage 1   8 blocks of 16 on 32x32                                  16        37,376 = 8 (2 * 2,304 + 64)
    stage 2   8 blocks of 32 on 16x16, first from 16                   16       143,872 = 13,952 + 7 * 18,560
    stage 3   8 blocks of 64 on 8x8, first from 32                     16       573,440 = 55,552 + 7 * 73,984
    head      mean over pixels, linear 64 -> 10                         1           650
    total     25 rounds                                                50       755,802

The paper-text reading: stem 3 -> 15 (435) + 25 blocks of 15 (25 * 4,110) + linear 15,360 -> 10 (153,610) = 256,795.
The MLP reading on MNIST: 10 blocks (10 * (2 * 784 * 1,024 + 1,024 + 784)) + linear 784 -> 10 (7,850) = 16,082,250.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import attrs
import torch
from torch import nn

from replication.config import ModelParams
from replication.errors import ConfigError
from replication.models.modes import evaluating
from replication.models.resnet import ConvolutionalStem, Head, MLPBlock, PlainBlock, ReleasedBlock, ResNet

STAGES = 3


@contextlib.contextmanager
def initialised_by(seed: int) -> Iterator[None]:
    """Modules made inside have the weights that `seed` gives; the global generators are left as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too
        yield


def build_network(model: ModelParams, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> ResNet:
    """The network of `model`, initialised from `seed` alone; on the CPU, in training mode.

    Args:
        model: reading, number of residual blocks and width.
        image_shape: (channels, height, width) of one image.
        num_classes: C.
        seed: of the initialisation; the global generator is left as it was.

    Raises:
        ConfigError: the reading cannot have so few blocks.
    """
    builders = {"released": _released, "paper-text": _paper_text, "mlp": _mlp}
    with initialised_by(seed):
        return builders[model.reading](model, image_shape, num_classes)


def stage_sizes(blocks: int) -> tuple[int, ...]:
    """Blocks per stage, as even as can be, earlier stages taking the remainder: 24 -> (8, 8, 8), 8 -> (3, 3, 2)."""
    return tuple(blocks // STAGES + (stage < blocks % STAGES) for stage in range(STAGES))


def check_blocks(model: ModelParams) -> None:
    """ConfigError where the reading needs more blocks: one a stage."""
    if model.reading == "released" and model.blocks < STAGES:
        raise ConfigError(f"model.blocks must be at least {STAGES} in the released reading, got {model.blocks}")


def _released(model: ModelParams, image_shape: tuple[int, int, int], num_classes: int) -> ResNet:
    check_blocks(model)
    modules: list[nn.Module] = [ConvolutionalStem(image_shape[0], model.width)]
    names, starts = ["stem"], []
    channels = model.width
    for stage, size in enumerate(stage_sizes(model.blocks)):
        if stage > 0:
            starts.append(len(modules))
        for block in range(size):
            first_of_later_stage = stage > 0 and block == 0
            channels_in, channels = channels, model.width * 2**stage
            modules.append(ReleasedBlock(channels_in, channels, stride=2 if first_of_later_stage else 1))
            names.append(f"stage{stage + 1}.block{block + 1}")
    head = Head(channels, num_classes, pool=True)
    return ResNet(modules, names, head, stage_starts=tuple(starts), flatten=False)


def _paper_text(model: ModelParams, image_shape: tuple[int, int, int], num_classes: int) -> ResNet:
    channels, height, width = image_shape
    modules: list[nn.Module] = [ConvolutionalStem(channels, model.width)]
    modules += [PlainBlock(model.width) for _ in range(model.blocks)]
    names = ["stem", *(f"block{block + 1}" for block in range(model.blocks))]
    head = Head(model.width * height * width, num_classes, pool=False)
    return ResNet(modules, names, head, stage_starts=(), flatten=False)


def _mlp(model: ModelParams, image_shape: tuple[int, int, int], num_classes: int) -> ResNet:
    channels, height, width = image_shape
    features = channels * height * width
    modules: list[nn.Module] = [MLPBlock(features, model.width) for _ in range(model.blocks)]
    names = [f"block{block + 1}" for block in range(model.blocks)]
    return ResNet(modules, names, Head(features, num_classes, pool=False), stage_starts=(), flatten=True)


@attrs.frozen
class LayerRow:
    """A module: its name, output shape, number of weighted layers (batch norms not counted) and of parameters."""

    name: str
    output_shape: tuple[int, ...]
    layers: int
    parameters: int


def layer_table(network: ResNet, image_shape: tuple[int, ...]) -> list[LayerRow]:
    """One row per module and one for the head; the shapes are those of a real forward pass of one image, (C, H, W)."""
    rows = []
    with evaluating(network), torch.no_grad():
        g = network.stem_input(torch.zeros(1, *image_shape, device=network.head.linear.weight.device))
        for name, module in zip((*network.names, "head"), (*network.rounds, network.head), strict=True):
            g = module(g)
            weighted = sum(isinstance(part, nn.Conv2d | nn.Linear) for part in module.modules())
            rows.append(LayerRow(name, tuple(g.shape[1:]), weighted, count_parameters(module)))
    return rows


def count_parameters(module: nn.Module) -> int:
    """Number of trainable numbers (running statistics of batch norms are not among them)."""
    return sum(parameter.numel() for parameter in module.parameters())
