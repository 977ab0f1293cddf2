"""The one update loop: draw a batch, forward, backward, clamp, Adam. Every method trains through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from replication.config import OptimizerParams, RuntimeParams
from replication.errors import TrainingError
from replication.training.checkpoint import Snapshot, join
from replication.training.distributed import gather_rows, rank, sum_gradients, world
from replication.training.interruption import asked_to_stop
from replication.training.seeds import seeding_modules

Batch = tuple[Tensor, Tensor]


class UpdateLoop:
    """Adam on `model` under `loss`, on batches from `draw`; a new loop is a new Adam.

    Args:
        model: maps a batch's inputs to logits (B, C).
        loss: maps logits and labels to a scalar; its own parameters, if any, are trained along.
        draw: gives the next (inputs, labels).
        params: learning rate and gradient clamp.
        runtime: whether to use Adam's fused kernel, to compile the model, and the precision of the forward pass.
        seed: fixes, with the number of an update, what modules draw in it themselves, as dropout does.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        draw: Callable[[], Batch],
        params: OptimizerParams,
        runtime: RuntimeParams,
        *,
        seed: int,
    ) -> None:
        self._model, self._loss, self._draw = model, loss, draw
        self._seed, self._made = seed, 0
        self._parameters = [parameter for part in (model, loss) for parameter in part.parameters()]
        self._device = self._parameters[0].device
        # "auto" is "never" until a measurement shows that compiling pays within a run.
        self._forward = _compiled(model, self._device.type) if runtime.compile == "always" else model
        self._clamp = params.gradient_clamp
        # The fused kernel is one pass over the parameters instead of a dozen; same arithmetic up to rounding.
        self._optimizer = torch.optim.Adam(self._parameters, lr=params.learning_rate, fused=runtime.fast)
        self._autocast = forward_precision(self._device.type, runtime)

    def run(self, updates: int, where: str = "") -> int:
        """Make `updates` gradient updates, fewer if a signal asks to stop.

        Args:
            updates: how many.
            where: where training stands, for the error's message.

        Returns:
            The number of updates made.

        Raises:
            TrainingError: the loss is no longer a number (looked at once, at the end: looking waits for the device).
        """
        self._model.train()
        last, made = torch.zeros(()), 0
        with seeding_modules(self._device) as seed_modules:
            while made < updates and not (asked_to_stop() and world() == 1):  # several processes stop together, later
                seed_modules(self._seed + self._made * world() + rank())
                last = self._update()
                self._made += 1
                made += 1
        # An infinite second moment makes every later step zero, and nothing else would tell.
        squares = [state["exp_avg_sq"] for state in self._optimizer.state.values()]
        if not bool(torch.isfinite(last)) or not _all_finite([*self._parameters, *squares]):
            clamp = "" if self._clamp is not None else ", or set optimizer.gradient_clamp"
            raise TrainingError(
                f"the training loss is not a finite number any more{where and f' ({where})'}; lower"
                f" optimizer.learning_rate{clamp}"
            )
        return made

    def _update(self) -> Tensor:
        """One gradient update; gives its loss."""
        inputs, labels = self._draw()
        self._optimizer.zero_grad(set_to_none=True)  # before the forward pass, which may use their memory
        with self._autocast:
            logits = self._forward(inputs)
        # The oracle's loss is a function of the whole batch, not a mean over its parts.
        loss: Tensor = self._loss(gather_rows(logits.float(), len(labels)), labels)
        loss.backward()
        sum_gradients(self._model.parameters())
        if self._clamp is not None:
            nn.utils.clip_grad_value_(self._parameters, self._clamp)
        self._optimizer.step()
        return loss

    def snapshot(self) -> Snapshot:
        """Updates made, the loss's own parameters and Adam's moments; the model is its owner's to save."""
        moments = {
            f"{index}.{name}": tensor
            for index, parameter in enumerate(self._parameters)
            for name, tensor in self._optimizer.state.get(parameter, {}).items()  # none of what gets no gradient
        }
        return join(
            progress=Snapshot(values={"made": self._made}),
            loss=Snapshot(self._loss.state_dict()),
            adam=Snapshot(moments),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of a loop like this one."""
        self._made = snapshot.part("progress").values["made"]
        self._loss.load_state_dict(snapshot.part("loss").tensors)
        for name, tensor in snapshot.part("adam").tensors.items():
            index, _, moment = name.partition(".")
            parameter = self._parameters[int(index)]
            # In the parameter's own memory layout, which the fused kernel takes for granted.
            like = tensor if tensor.shape != parameter.shape or moment == "step" else parameter
            # Adam counts its steps on the CPU, but for the fused kernel.
            device = "cpu" if moment == "step" and not self._optimizer.defaults["fused"] else parameter.device
            kept = torch.empty_like(like, dtype=tensor.dtype, device=device, requires_grad=False)
            self._optimizer.state[parameter][moment] = kept.copy_(tensor)


def forward_precision(device_type: str, runtime: RuntimeParams) -> torch.autocast:
    """The context of a forward pass on a training batch, by `runtime.precision`; it may be entered again and again."""
    return torch.autocast(device_type, torch.bfloat16, enabled=runtime.precision == "bfloat16")


def _compiled(model: nn.Module, device_type: str) -> Callable[[Tensor], Tensor]:
    """`model` through torch.compile: the same arithmetic up to rounding. On CUDA its kernels are launched as one graph,
    since at these sizes launching them one by one takes longer than they do.
    """
    mode = "reduce-overhead" if device_type == "cuda" else "default"
    forward: Callable[[Tensor], Tensor] = torch.compile(model, mode=mode, dynamic=False)
    return forward


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    return bool(torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all())
