"""Margins of hypotheses, and the l1 norms that the margin bound grows with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from replication.analysis.unravelled import residual_blocks
from replication.models.resnet import ResNet

#: Where cumulative distributions are tabulated: -1, -0.95, ..., 1.
GRID = tuple(round(-1.0 + 0.05 * step, 2) for step in range(41))


def margins(outputs: Tensor, labels: Tensor) -> Tensor:
    """Normalised margins o(x, y) - max_{l != y} o(x, l), (N,), in [-1, 1] for class probabilities (N, C)."""
    correct = labels[:, None]
    others = outputs.scatter(1, correct, -math.inf).amax(1)
    return outputs.gather(1, correct)[:, 0] - others


def cumulative(values: Tensor) -> list[float]:
    """Fraction of `values` (N,) at or below each point of GRID."""
    ordered = values.double().sort().values
    grid = torch.tensor(GRID, dtype=torch.float64, device=values.device)
    return (torch.searchsorted(ordered, grid, right=True).double() / len(values)).tolist()


def summarise(values: Tensor) -> dict[str, float]:
    """Mean, tenth percentile, median, and the fraction that is not positive (the error, but for ties)."""
    values = values.double()
    low, median = (ordered_quantile(values, q) for q in (0.1, 0.5))
    return {
        "mean": float(values.mean()),
        "tenth_percentile": low,
        "median": median,
        "nonpositive": float((values <= 0).double().mean()),
    }


def ordered_quantile(values: Tensor, q: float) -> float:
    """The smallest value with at least a fraction q of the values (N,) at or below it; any N."""
    rank = max(1, math.ceil(q * len(values)))
    return float(values.kthvalue(rank).values)


def l1_complexity(network: ResNet, input_bound: float, inputs: int, examples: int) -> dict[str, Any]:
    """The l1 norms that enter a margin bound such as Corollary 4.3, and whether they leave it anything to say.

    An order of magnitude, and no limit of the corollary on either side: its constants and its norms of the blocks are
    not available to us. Ours is the usual shape of such a bound, every constant set to one and the network's
    amplification in the place of the norms:

        complexity * input_bound / theta * sqrt(ln(2 * inputs) / examples),

    where `complexity` bounds how much the network can amplify its input in the maximum norm: a layer by the largest
    l1 norm of a unit's incoming weights (batch norm's scale folded in; shifts and biases left out), a branch by the
    product over its layers, a residual block by one plus its branch, the network by the product over its modules and
    head. theta is 1, the largest margin there is. A number of 1 or more is called vacuous: as a bound on an error it
    would say nothing. Norms are of the trained network, in evaluation mode.

    Args:
        network: any reading.
        input_bound: largest absolute value of a normalised pixel.
        inputs: numbers per image.
        examples: training images m.

    Returns:
        `modules`: per module its name, `l1_unit` (product over its layers) and `l1_total` (sum of |w|);
        `l1_unit_sum`, `log10_complexity`, `log10_bound` and `vacuous`.
    """
    residual = set(residual_blocks(network))
    rows, log_complexity = [], 0.0
    for index, (name, module) in enumerate([*zip(network.names, network.rounds, strict=True), ("head", network.head)]):
        layers = _layers(module)
        unit = math.prod(float(weight.abs().flatten(1).sum(1).max()) for weight in layers)
        total = sum(float(weight.abs().sum()) for weight in layers)
        rows.append({"module": name, "l1_unit": unit, "l1_total": total})
        log_complexity += _log10(unit + (index in residual))
    factor = input_bound * math.sqrt(math.log(2 * inputs) / examples)
    log_bound = log_complexity + _log10(factor)
    return {
        "modules": rows,
        "l1_unit_sum": sum(row["l1_unit"] for row in rows),
        "log10_complexity": log_complexity,
        "log10_bound": log_bound,
        "vacuous": log_bound >= 0,
    }


def _log10(value: float) -> float:
    """Finite also for zero."""
    return math.log10(max(value, 1e-300))


def _layers(module: nn.Module) -> list[Tensor]:
    """Weights (outputs, ...), float64, of the weighted layers in order, each with the scale of its batch norm."""
    weights: list[Tensor] = []
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            weights.append(part.weight.detach().double())
        elif isinstance(part, nn.BatchNorm2d):
            assert part.running_var is not None
            scale = part.weight.detach().double() / (part.running_var.double() + part.eps).sqrt()
            weights[-1] = weights[-1] * scale.view(-1, 1, 1, 1)
    return weights
