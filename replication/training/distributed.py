"""One run over several processes, each with a device of its own: `torchrun --nproc-per-node N -m replication train …`.

Every process holds the data and draws the same global batch; each takes its share of it. The loss is computed on the
whole batch's logits (exp of a mean does not split into shares), batch norms see the whole batch's statistics, and
gradients are summed: the result is that of one process with the same global batch, up to rounding (and to what modules
draw themselves, as dropout does, in every process for its share). The first process alone records, saves and writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce as differentiable_all_reduce

from replication.errors import TrainingError


def join_group(device_type: str) -> None:
    """Enter the process group that torchrun's environment variables describe; nothing where there are none.

    Raises:
        TrainingError: they describe none, or nobody answers at their address.
    """
    if dist.is_initialized() or _asked_for() == 1:
        return
    try:
        dist.init_process_group("nccl" if device_type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise TrainingError(f"cannot join the processes of torchrun ({reason}); check its address and port") from error


def _asked_for() -> int:
    """How many processes shall train together, by the environment."""
    asked = os.environ.get("WORLD_SIZE", "1")
    if not asked.isascii() or not asked.isdecimal() or int(asked) == 0:
        raise TrainingError(f"WORLD_SIZE={asked} is no number of processes; unset it, or start them with torchrun")
    return int(asked)


def leave_group() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0; the first one records and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(batch: Tensor) -> Tensor:
    """This process's part of a global batch (B, ...): every `world`-th example from the `rank`-th on."""
    return batch[rank() :: world()] if world() > 1 else batch


def gather_rows(rows: Tensor, total: int) -> Tensor:
    """The global batch's rows (total, ...) out of every process's share; gradients reach this process's rows only."""
    if world() == 1:
        return rows
    longest = -(-total // world())
    padded = torch.cat([rows.detach(), rows.new_zeros(longest - len(rows), *rows.shape[1:])])
    shares = [torch.empty_like(padded) for _ in range(world())]
    dist.all_gather(shares, padded.contiguous())
    whole = torch.stack(shares, 1).flatten(0, 1)[:total].clone()
    whole[rank() :: world()] = rows
    return whole


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum gradients over the processes: each holds what its own examples contribute."""
    if world() > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)


def agree(value: int) -> int:
    """The largest of the processes' values, so that all of them act alike."""
    if world() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(value, device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return int(shared)


def as_the_first_has_it(tensor: Tensor) -> Tensor:
    """The first process's `tensor` (of the same shape and type in all), for what must be equal to the last bit."""
    if world() > 1:
        tensor = tensor.contiguous().clone()
        dist.broadcast(tensor, 0)
    return tensor


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes (PyTorch's own does so on CUDA only)."""

    plain_in_evaluation = True  # so that it can be folded (`models.folding`)

    def forward(self, g: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and precision, computed in float32; in evaluation mode a plain batch norm."""
        if not self.training or world() == 1:
            return super().forward(g)
        precision, g = g.dtype, g.float()  # a batch in bfloat16 has sums that eight bits do not hold
        # Two passes, as the variance about the mean loses fewer digits than the mean of the squares.
        count = torch.tensor(float(g.numel() // g.shape[1]), device=g.device)
        dist.all_reduce(count)
        mean = differentiable_all_reduce(g.sum((0, 2, 3))) / count
        centred = g - mean[:, None, None]
        variance = differentiable_all_reduce(centred.square().sum((0, 2, 3))) / count
        self._track(mean.detach(), variance.detach(), count)  # as a tensor: a number would wait for the device
        scale = self.weight / torch.sqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(precision)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Running statistics as nn.BatchNorm2d keeps them, with the unbiased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


def synchronise_batch_norms(network: nn.Module) -> None:
    """Make every batch norm of `network` one over all processes; its weights and statistics stay as they are."""
    if world() > 1:
        for module in network.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = GlobalBatchNorm2d
