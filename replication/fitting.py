"""Whether the parts of a network fit together: one image is sent through it, module by module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from replication.errors import TrainingError
from replication.models.resnet import ResNet


def check_fits(network: ResNet, image: Tensor, num_classes: int) -> None:
    """See that the modules and the head of `network` fit together and the data; it is left as it was.

    Args:
        image: one, normalised, (1, C, H, W), on the network's device.
        num_classes: of the labels.

    Raises:
        TrainingError: it is no `ResNet`, or its head has no linear classifier; a module does not take what the one
            before it puts out, overwrites it, or changes its shape where no stage starts; or the head does not give a
            logit per class. The line names the module.
    """
    if not isinstance(network, ResNet):
        raise TrainingError(f"the network is a {type(network).__name__}; put its modules and head into a ResNet")
    if not isinstance(getattr(network.head, "linear", None), nn.Linear):
        raise TrainingError(f"the head is a {type(network.head).__name__}; it must be a Head, with its map in `linear`")
    rounds, names, starts = len(network.rounds), len(network.names), network.stage_starts
    if rounds == 0 or rounds != names:
        raise TrainingError(f"the network has {rounds} modules and {names} names; give it modules, and a name for each")
    if not isinstance(starts, tuple | list) or list(starts) != [i for i in range(1, rounds) if i in starts]:
        raise TrainingError(f"stage_starts is {starts}; it must be indices of modules after the first, in order")
    _check_weights_are_their_own(network)
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        logits = _output("the head", network.head, _through_modules(network, image))
    finally:
        for part, training in modes.items():
            part.training = training
    if logits.shape != (1, num_classes):
        raise TrainingError(
            f"the head makes {_shape(logits)} of one image; it must be a logit for each of the {num_classes} classes"
        )


def _check_weights_are_their_own(network: ResNet) -> None:
    """Trained again in a later round, a frozen module would no longer be the one that was measured."""
    owners: dict[nn.Parameter, str] = {}
    parts = [(f"module {index} ({name})", module)
             for index, (name, module) in enumerate(zip(network.names, network.rounds, strict=True))]  # fmt: skip
    for what, part in (*parts, ("the head", network.head)):
        for parameter in part.parameters():
            if owners.setdefault(parameter, what) != what:
                raise TrainingError(f"{what} has weights of {owners[parameter]}; give every part weights of its own")


def _through_modules(network: ResNet, image: Tensor) -> Tensor:
    g = network.stem_input(image)
    for index, (module, name) in enumerate(zip(network.rounds, network.names, strict=True)):
        written, what = g._version, f"module {index} ({name})"  # counts what is written to it
        output = _output(what, module, g)
        if g._version != written:
            raise TrainingError(f"{what} overwrites its input, which is used again; let it work on a copy")
        if index > 0 and output.shape != g.shape and index not in network.stage_starts:
            raise TrainingError(
                f"{what} makes {_shape(output)} of {_shape(g)}; put {index} into stage_starts if a stage begins there"
            )
        g = output
    return g


@torch.no_grad()
def _output(what: str, module: nn.Module, g: Tensor) -> Tensor:
    try:
        output = module(g)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise TrainingError(f"{what} does not take {_shape(g)}, which comes before it: {reason}") from error
    if not isinstance(output, Tensor):
        raise TrainingError(f"{what} gives a {type(output).__name__}; it must be a tensor")
    return output


def _shape(g: Tensor) -> str:
    """'(12, 16, 16)', without the batch."""
    return str(tuple(g.shape[1:]))
