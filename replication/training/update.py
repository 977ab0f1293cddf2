"""The one update loop: draw a batch, forward, backward, clamp, Adam. Every method trains through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from replication.config import OptimizerParams
from replication.errors import TrainingError

Batch = tuple[Tensor, Tensor]


class UpdateLoop:
    """Adam on `model` under `loss`, on batches from `draw`; a new loop is a new Adam.

    Args:
        model: maps a batch's inputs to logits (B, C).
        loss: maps logits and labels to a scalar; its own parameters, if any, are trained along.
        draw: gives the next (inputs, labels).
        params: learning rate and gradient clamp.
    """

    def __init__(self, model: nn.Module, loss: nn.Module, draw: Callable[[], Batch], params: OptimizerParams) -> None:
        self._model, self._loss, self._draw = model, loss, draw
        self._parameters = [parameter for part in (model, loss) for parameter in part.parameters()]
        self._clamp = params.gradient_clamp
        # The fused kernel is one pass over the parameters instead of a dozen; same arithmetic.
        self._optimizer = torch.optim.Adam(self._parameters, lr=params.learning_rate, fused=True)

    def run(self, updates: int) -> None:
        """Make `updates` gradient updates.

        Raises:
            TrainingError: the loss is no longer a number (looked at once, at the end: looking waits for the device).
        """
        self._model.train()
        last = torch.zeros(())
        for _ in range(updates):
            inputs, labels = self._draw()
            last = self._loss(self._model(inputs), labels)
            self._optimizer.zero_grad(set_to_none=True)
            last.backward()
            if self._clamp is not None:
                nn.utils.clip_grad_value_(self._parameters, self._clamp)
            self._optimizer.step()
        if not bool(torch.isfinite(last)) or not _all_finite(self._parameters):
            raise TrainingError(
                "the training loss is not a finite number any more; lower optimizer.learning_rate"
                " or set optimizer.gradient_clamp"
            )


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    return bool(torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all())
