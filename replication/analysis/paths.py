"""The gradient that reaches the first block through paths of each length (Veit et al. 2016, section 4.3)."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from replication.analysis.sampling import subsets
from replication.analysis.unravelled import after, branch, residual_blocks, shortcut
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
