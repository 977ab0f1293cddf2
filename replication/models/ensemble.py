"""Weak learners and their weighted sum: what boosting in label space leaves, F(x) = sum_t a_t h_t(x)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from replication.config import ModelParams
from replication.models.build import STAGES, build_network, initialised_by
from replication.models.resnet import ConvolutionalStem, Head, ReleasedBlock, ResNet


def build_weak_learner(
    model: ModelParams, image_shape: tuple[int, int, int], num_classes: int, seed: int, modules: str = "block"
) -> ResNet:
    """A weak learner: one module of the network's first stage on the image itself, and a linear classifier; or with
    `modules` "stages", where the reading has stages, one module of each.

    AdaBoost is run "over the same convolutional modules" [P]; their exact shape is stated nowhere [?]. Ours is the
    smallest network of the reading: the convolutional stem and one residual block of the reading's width (for the MLP
    reading, one block), with the reading's own head. Without the stem a block could not read an image, for its
    shortcut keeps the number of channels. With a block of every stage it is BoostResNet's hypothesis module after the
    first block, whose auxiliary classifier has the later stages' first blocks in the released code.

    Args:
        model: reading and width; the number of blocks is not looked at.
        image_shape: (channels, height, width) of one image.
        num_classes: C.
        seed: of the initialisation; the global generator is left as it was.
        modules: "block" or "stages".
    """
    if modules == "stages" and model.reading == "released":
        return build_network(ModelParams(model.reading, STAGES, model.width), image_shape, num_classes, seed)
    if model.reading != "released":
        return build_network(ModelParams(model.reading, 1, model.width), image_shape, num_classes, seed)
    with initialised_by(seed):
        parts = [ConvolutionalStem(image_shape[0], model.width), ReleasedBlock(model.width, model.width, stride=1)]
        head = Head(model.width, num_classes, pool=True)
    return ResNet(parts, ["stem", "block1"], head, stage_starts=(), flatten=False)


class Ensemble(nn.Module):
    """sum_t a_t h_t(x), or with `vote` sum_t a_t [argmax h_t(x) = l].

    Attributes:
        learners: h_t, all of one shape.
        weights: a_t, (T,), float64.
        vote: whether a learner gives its class rather than its C outputs.
    """

    weights: Tensor

    def __init__(self, learners: list[ResNet], weights: list[float], *, vote: bool) -> None:
        super().__init__()
        self.learners, self.vote = nn.ModuleList(learners), vote
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))

    def stem_input(self, images: Tensor) -> Tensor:
        """What every learner starts from; see `ResNet.stem_input`."""
        first = self.learners[0]
        assert isinstance(first, ResNet)
        return first.stem_input(images)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) -> scores F (N, num_classes), float64.

        In float64 and in the order of the rounds, so that votes tie here exactly where they tied in training.
        """
        inputs = self.stem_input(images)
        total = torch.zeros((), dtype=torch.float64, device=images.device)
        for weight, learner in zip(self.weights, self.learners, strict=True):
            total = total + weight * contribution(learner(inputs), vote=self.vote)
        return total


def contribution(outputs: Tensor, *, vote: bool) -> Tensor:
    """What a learner with `outputs` (N, C) adds to the sum before its weight, float64."""
    if not vote:
        return outputs.double()
    return nn.functional.one_hot(outputs.argmax(1), outputs.shape[1]).double()
