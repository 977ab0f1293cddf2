"""Residual blocks, and the one class of network that every method trains.

A network is a list of modules and a head: g_{t+1} = module_t(g_t), where a residual block computes f_t(g_t) + g_t
(eq. 1), and the head is the linear classifier W of eq. 2. What BoostResNet leaves behind is this class and nothing
else.

Sums and ReLUs overwrite what no gradient needs (convolutions and batch norms keep their inputs, ReLU its output): the
same numbers to the bit, in less time on a CPU, since these layers move bytes and calculate little.
"""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor, nn


class ConvolutionalStem(nn.Sequential):
    """3x3 convolution, batch norm, ReLU: (N, image channels, H, W) -> (N, channels, H, W)."""

    def __init__(self, image_channels: int, channels: int) -> None:
        convolution = _convolution(image_channels, channels, stride=1)
        super().__init__(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class ReleasedBlock(nn.Module):
    """Basic block of the released code: ReLU(f(g) + shortcut(g)) with f = conv-BN-ReLU-conv-BN.

    Where a stage starts, f halves the resolution and doubles the channels, and the shortcut takes every second pixel
    and pads the new channels with zeros (type A), so that it has no parameters.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, channels - channels_in
        self.residual = nn.Sequential(
            _convolution(channels_in, channels, stride),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            _convolution(channels, channels, stride=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, g: Tensor) -> Tensor:
        """(N, channels_in, H, W) -> (N, channels, ceil(H / stride), ceil(W / stride))."""
        shortcut = g
        if self.stride > 1:
            shortcut = shortcut[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        return self.residual(g).add_(shortcut).relu_()


class PlainBlock(nn.Module):
    """f(g) + g with f = conv-BN-ReLU-conv-BN at constant width and nothing after the sum: eq. 1 to the letter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(channels, channels, stride=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            _convolution(channels, channels, stride=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, g: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        return self.residual(g).add_(g)


class MLPBlock(nn.Module):
    """f(g) + g with f a perceptron of one hidden ReLU layer (the paper's MLP-ResNet)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, features))

    def forward(self, g: Tensor) -> Tensor:
        """(N, features) -> the same shape."""
        return self.residual(g).add_(g)


class Head(nn.Module):
    """The linear classifier: logits W^T g + b, with g averaged over its pixels first (`pool`) or flattened."""

    def __init__(self, features: int, num_classes: int, *, pool: bool) -> None:
        super().__init__()
        self.pool = pool
        self.linear = nn.Linear(features, num_classes)
        nn.init.zeros_(self.linear.bias)

    def forward(self, g: Tensor) -> Tensor:
        """(N, C, H, W) or (N, features) -> logits (N, num_classes)."""
        return self.linear(g.mean((2, 3)) if self.pool else g.flatten(1))


class ResNet(nn.Module):
    """A residual network: modules in order, then the head.

    Attributes:
        rounds: the modules in order, one per round of boosting: the stem, if there is one, then the blocks.
        names: one name per round, as in "stem", "stage2.block1".
        stage_starts: indices into `rounds` of the later stages' first blocks (stride 2).
        flatten: whether g_0 is the images as vectors.
    """

    def __init__(
        self, rounds: list[nn.Module], names: list[str], head: Head, *, stage_starts: tuple[int, ...], flatten: bool
    ) -> None:
        super().__init__()
        self.rounds, self.names, self.head = nn.ModuleList(rounds), tuple(names), head
        self.stage_starts, self.flatten = stage_starts, flatten

    def stem_input(self, images: Tensor) -> Tensor:
        """g_0: the images themselves, or flattened, (N, C*H*W), for a perceptron."""
        return images.flatten(1) if self.flatten else images

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) -> logits (N, num_classes)."""
        g = self.stem_input(images)
        for module in self.rounds:
            g = module(g)
        return self.head(g)

    @property
    def residual_blocks(self) -> int:
        """Number of residual blocks, the stem not counted."""
        return sum(not isinstance(module, ConvolutionalStem) for module in self.rounds)


def _convolution(channels_in: int, channels_out: int, stride: int) -> nn.Conv2d:
    """3x3 convolution without bias (a batch norm follows), initialised by fan-out as in fb.resnet.torch."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
