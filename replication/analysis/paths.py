"""The gradient that reaches the first block through paths of each length (Veit et al. 2016, section 4.3), and whether
each block moves its input down the gradient of the loss, as a weak learner of gradient boosting would.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from replication.analysis.sampling import subsets
from replication.analysis.unravelled import after, branch, residual_blocks, shortcut, without_branch
from replication.models.resnet import ResNet


@attrs.frozen(eq=False)
class _Step:
    """One block in the forward pass: leaf input, both summands with their graphs, and the slope of what follows."""

    g: Tensor
    branch: Tensor
    shortcut: Tensor
    slope: Tensor | None  # d after / d sum, of the sum's shape; None where nothing follows


class PathGradients:
    """Gradients of the cross-entropy of each image through single paths, activations as in the whole network.

    Args:
        network: in evaluation mode (so that images do not mix) with parameters that need no gradient.
        images: normalised, (B, C, H, W).
        labels: (B,).
    """

    def __init__(self, network: ResNet, images: Tensor, labels: Tensor) -> None:
        blocks = residual_blocks(network)
        with torch.no_grad():
            g = network.stem_input(images)
            for module in network.rounds[: blocks[0]]:
                g = module(g)
        self._steps = []
        for index in blocks:
            block = network.rounds[index]
            g = g.detach().requires_grad_()
            with torch.enable_grad():
                step = branch(block, g), shortcut(block, g)
            total = (step[0] + step[1]).detach().requires_grad_()
            output = after(block, total)
            slope = None if output is total else torch.autograd.grad(output.sum(), total)[0]
            self._steps.append(_Step(g, *step, slope))
            g = output
        g = g.detach().requires_grad_()
        # The sum over images: each row is then the gradient of that image's own loss.
        loss = functional.cross_entropy(network.head(g), labels, reduction="sum")
        self._last = torch.autograd.grad(loss, g)[0]

    def __len__(self) -> int:
        """Number of residual blocks n; there are 2^n paths."""
        return len(self._steps)

    def along(self, path: Collection[int]) -> Tensor:
        """Gradient at the first block's input, (B, ...), through f in the blocks of `path` (positions 0..n-1) and
        through the shortcut in all others.
        """
        gradient = self._last
        for position in reversed(range(len(self))):
            step = self._steps[position]
            if step.slope is not None:
                gradient = gradient * step.slope
            taken = step.branch if position in path else step.shortcut
            if taken is not step.g:
                gradient = torch.autograd.grad(taken, step.g, gradient, retain_graph=True)[0]
        return gradient


def gradient_by_length(gradients: PathGradients, number: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Rows {length, paths, draws, gradient_norm, contribution, share} for path lengths 0..n.

    gradient_norm is the mean over images and `number` random paths of that length (all paths where they are fewer) of
    the Euclidean norm; contribution is that times the number of paths, binomial(n, length); share is of the total.
    """
    n, rows = len(gradients), []
    for length in range(n + 1):
        chosen = subsets(n, length, number, rng)
        norm = sum(float(gradients.along(path).flatten(1).norm(dim=1).double().mean()) for path in chosen) / len(chosen)
        paths = math.comb(n, length)
        rows.append({"length": length, "paths": paths, "draws": len(chosen), "gradient_norm": norm,
                     "contribution": paths * norm})  # fmt: skip
    total = sum(row["contribution"] for row in rows)
    return [{**row, "share": row["contribution"] / total if total > 0 else math.nan} for row in rows]


def step_alignment(network: ResNet, images: Tensor, labels: Tensor, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Rows {block, module, alignment, control_alignment, step_ratio}: each block's step beside the negative gradient.

    Gradient boosting fits its next summand to the negative gradient of the loss at the sum so far. Here the sum so
    far is u, the block's output with its branch deleted; the step is what the branch adds to that output; the
    gradient, at u, is that of each image's cross-entropy behind the blocks that follow. alignment is the cosine of
    step and negative gradient and step_ratio is |step| / |u|, both averaged over the images. (The comparison is ours;
    a step of zero counts as cosine 0.)

    Behind a ReLU u has no negative entries and the step cannot point in every direction, so that unrelated directions
    need not have cosine 0 on average. Therefore control_alignment: the same step beside the gradient for another
    image's label. The labels are permuted once among the images, the same way for all blocks; some images keep theirs,
    one in C where classes are of one size.

    Args:
        network: in evaluation mode, with parameters that need no gradient.
        images: normalised, (B, C, H, W).
        labels: (B,).
        rng: permutes the labels.
    """
    shuffled = labels[torch.from_numpy(rng.permutation(len(labels))).to(labels.device)]
    rows = []
    with torch.no_grad():
        g = network.stem_input(images)
    for index, block in enumerate(network.rounds):
        with torch.no_grad():
            following = block(g)
        if index in residual_blocks(network):
            u = without_branch(block, g).detach().requires_grad_()
            logits = _rest(network, index + 1, u)
            step = (following - u).detach().flatten(1).double()
            ratio = step.norm(dim=1) / u.detach().flatten(1).double().norm(dim=1).clamp_min(1e-30)
            rows.append({"block": index, "module": network.names[index], "alignment": _cosine(step, logits, u, labels),
                         "control_alignment": _cosine(step, logits, u, shuffled),
                         "step_ratio": float(ratio.mean())})  # fmt: skip
        g = following
    return rows


def _cosine(step: Tensor, logits: Tensor, u: Tensor, labels: Tensor) -> float:
    """Mean cosine of the steps (B, features) and each image's negative gradient at u, with these labels."""
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    gradient = torch.autograd.grad(loss, u, retain_graph=True)[0].flatten(1).double()
    return float(functional.cosine_similarity(step, -gradient, dim=1, eps=1e-30).mean())


def _rest(network: ResNet, start: int, g: Tensor) -> Tensor:
    modules: list[nn.Module] = [*network.rounds[start:], network.head]
    for module in modules:
        g = module(g)
    return g
