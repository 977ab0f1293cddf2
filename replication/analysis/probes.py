"""Linear probes: how far a linear classifier gets on what each module puts out, and accuracies module by module."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from replication.analysis.sampling import batches
from replication.datasets.loader import DeviceSplit
from replication.models.resnet import ResNet
from replication.ranks import rank_correlation

_ITERATIONS = 300


@attrs.frozen(eq=False)
class Probe:
    """Multinomial logistic regression on standardised features."""

    mean: Tensor  # (F,)
    scale: Tensor  # (F,)
    weight: Tensor  # (C, F), of the standardised features
    bias: Tensor  # (C,)

    def logits(self, features: Tensor) -> Tensor:
        """Features (N, F) -> (N, C)."""
        return functional.linear((features.to(self.weight) - self.mean) / self.scale, self.weight, self.bias)

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Fraction of correct labels."""
        return float((self.logits(features).argmax(1) == labels).double().mean())


def fit_probe(features: Tensor, labels: Tensor, num_classes: int, strength: float = 1.0) -> Probe:
    """Fit by L-BFGS from zero: deterministic, no batches, no learning rate.

    The objective is scikit-learn's, sum of cross-entropies + strength / 2 * |W|^2 with the bias free, divided by N.

    Args:
        features: (N, F).
        labels: (N,).
        num_classes: C.
        strength: of the penalty (scikit-learn's 1 / C).
    """
    # float32 holds 5,000 x 15,360 features; where there are fewer, precision is cheap.
    dtype = torch.float64 if features.shape[1] <= 1024 else torch.float32
    features = features.to(dtype)
    mean, scale = features.mean(0), features.std(0, correction=0)
    scale = torch.where(scale > 1e-8, scale, 1.0)
    inputs = (features - mean) / scale
    weight = torch.zeros(num_classes, features.shape[1], dtype=dtype, device=features.device, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=dtype, device=features.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(functional.linear(inputs, weight, bias), labels)
        loss = loss + strength / (2 * len(labels)) * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return Probe(mean, scale, weight.detach(), bias.detach())


@torch.no_grad()
def probe_modules(
    network: ResNet, splits: dict[str, DeviceSplit], num_classes: int, batch_size: int
) -> list[dict[str, Any]]:
    """Rows {block, module, probe_NAME_accuracy...}: a probe per module, fitted on the split "train".

    Outputs of one module are held at a time, and the next module's are computed from them.
    """
    outputs = {
        name: [network.stem_input(images) for images, _ in batches(split, batch_size)] for name, split in splits.items()
    }
    rows = []
    for index, module in enumerate(network.rounds):
        features = {}
        for name, chunks in outputs.items():
            for position, g in enumerate(chunks):
                chunks[position] = module(g)
            features[name] = torch.cat([_as_the_head_sees(network, g) for g in chunks])
        probe = fit_probe(features["train"], splits["train"].labels, num_classes)
        accuracies = {
            f"probe_{name}_accuracy": probe.accuracy(features[name], split.labels) for name, split in splits.items()
        }
        rows.append({"block": index, "module": network.names[index], **accuracies})
    return rows


def _as_the_head_sees(network: ResNet, g: Tensor) -> Tensor:
    """(N, F): averaged over pixels, or flattened."""
    return g.mean((2, 3)) if network.head.pool else g.flatten(1)


def trend(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The first and the last accuracy of the probes on test images, and how they are ranked beside depth."""
    accuracies = [row["probe_test_accuracy"] for row in rows]
    return {
        "probe_test_kendall_tau": rank_correlation(range(len(rows)), accuracies),
        "probe_test_first": accuracies[0],
        "probe_test_last": accuracies[-1],
    }
