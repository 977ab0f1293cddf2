"""Whether each block moves its input down the gradient of the loss, as a weak learner of gradient boosting does."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from replication.analysis.unravelled import residual_blocks, without_branch
from replication.models.ensemble import Ensemble, contribution
from replication.models.resnet import ResNet


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
    shuffled = _shuffled(labels, rng)
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


def learner_alignment(
    ensemble: Ensemble, images: Tensor, labels: Tensor, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """The same rows for the weak learners of a sum F(x) = sum_t a_t h_t(x), to hold those of a network against.

    Here the sum so far is u = F_{t-1}(x), zero at first, the step is a_t h_t(x), and nothing follows but the
    cross-entropy: all of it happens in the space of the C scores. For gradient boosting it is the very direction that
    its learners were fitted to, on the training images. step_ratio has no value where u is zero.

    Args:
        ensemble: in evaluation mode, with parameters that need no gradient; one that adds up outputs, not votes.
        images: normalised, (B, C, H, W).
        labels: (B,).
        rng: permutes the labels.
    """
    shuffled = _shuffled(labels, rng)
    with torch.no_grad():
        inputs = ensemble.stem_input(images)
        steps = [
            weight * contribution(learner(inputs), vote=ensemble.vote)
            for weight, learner in zip(ensemble.weights, ensemble.learners, strict=True)
        ]
    rows, u = [], torch.zeros_like(steps[0])
    for block, step in enumerate(steps):
        start = u.detach().requires_grad_()
        size = u.norm(dim=1)
        rows.append({"block": block, "module": f"learner{block + 1}",
                     "alignment": _cosine(step, start, start, labels),
                     "control_alignment": _cosine(step, start, start, shuffled),
                     "step_ratio": float((step.norm(dim=1) / size).mean()) if size.all() else None})  # fmt: skip
        u = u + step
    return rows


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the blocks, and of how many the step goes down the gradient."""
    return {
        "mean": statistics.fmean(row["alignment"] for row in rows),
        "control_mean": statistics.fmean(row["control_alignment"] for row in rows),
        "positive_blocks": sum(row["alignment"] > 0 for row in rows),
        "blocks": len(rows),
    }


def _shuffled(labels: Tensor, rng: np.random.Generator) -> Tensor:
    return labels[torch.from_numpy(rng.permutation(len(labels))).to(labels.device)]


def _cosine(step: Tensor, logits: Tensor, u: Tensor, labels: Tensor) -> float:
    """Mean cosine of the steps (B, features) and each image's negative gradient at u, with these labels."""
    gradient = torch.autograd.grad(logits, u, loss_direction(logits, labels), retain_graph=True)[0].flatten(1).double()
    return float(functional.cosine_similarity(step, -gradient, dim=1, eps=1e-30).mean())


def loss_direction(logits: Tensor, labels: Tensor) -> Tensor:
    """The gradient of each image's cross-entropy in its logits, (B, C), divided by the probability of the other classes
    together: no cosine changes by that, and nothing is lost where the probability of the right class rounds to one.
    """
    correct = labels[:, None]
    others = torch.softmax(logits.detach().double().scatter(1, correct, -torch.inf), 1)
    return others.scatter(1, correct, -1.0).to(logits.dtype)


def _rest(network: ResNet, start: int, g: Tensor) -> Tensor:
    modules: list[nn.Module] = [*network.rounds[start:], network.head]
    for module in modules:
        g = module(g)
    return g
