"""Whether the parts of a network fit together: one image is sent through it, module by module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from replication.errors import TrainingError
from replication.models.modes import evaluating
from replication.models.resnet import ResNet

_ROUNDING = 1e-2  # of an output's size: far above what kernels for one and for two images differ by (below 1e-4)


def check_fits(network: ResNet, image: Tensor, num_classes: int) -> None:
    """See that the modules and the head of `network` fit together and the data; it is left as it was.

    Args:
        image: one, normalised, (1, C, H, W), on the network's device.
        num_classes: of the labels.

    Raises:
        TrainingError: it is no `ResNet`, or its head has no linear classifier; a module does not take what the one
            before it puts out, overwrites it, changes its shape where no stage starts, or makes of an image what
            depends on the others of its batch; or the head does not give a logit per class. The line names the module.
    """
    _check_is_resnet(network)
    if not isinstance(getattr(network.head, "linear", None), nn.Linear):
        raise TrainingError(f"the head is a {type(network.head).__name__}; it must be a Head, with its map in `linear`")
    rounds, names, starts = len(network.rounds), len(network.names), network.stage_starts
    if rounds == 0 or rounds != names:
        raise TrainingError(f"the network has {rounds} modules and {names} names; give it modules, and a name for each")
    if not isinstance(starts, tuple | list) or list(starts) != [i for i in range(1, rounds) if i in starts]:
        raise TrainingError(f"stage_starts is {starts}; it must be indices of modules after the first, in order")
    _check_weights_are_their_own(network)
    _check_norms_have_statistics(network)
    with evaluating(network):
        g = _through_modules(network, image)
        logits = _output("the head", network.head, g)
        _check_others_do_not_matter("the head", network.head, g, logits)
    if logits.shape != (1, num_classes):
        raise TrainingError(
            f"the head makes {_shape(logits)} of one image; it must be a logit for each of the {num_classes} classes"
        )


def check_placeable(network: ResNet, *, channels_last: bool) -> None:
    """See that `network` can be moved to a device, and its weights into the order of memory that is wanted.

    Raises:
        TrainingError: it is no `ResNet`, or has weights without a shape yet, or of five dimensions, which
            `channels_last` does not know. The line names the weights.
    """
    _check_is_resnet(network)
    for name, weights in network.named_parameters():
        if is_lazy(weights):
            raise TrainingError(f"{name} has no shape yet; send a batch through the network first")
        if channels_last and weights.dim() == 5:
            raise TrainingError(f"{name} has 5 dimensions, too many for runtime.fast; set runtime.fast to false")


def _check_is_resnet(network: object) -> None:
    if not isinstance(network, ResNet):
        raise TrainingError(f"the network is a {type(network).__name__}; put its modules and head into a ResNet")


def _check_weights_are_their_own(network: ResNet) -> None:
    """Trained again in a later round, a frozen module would no longer be the one that was measured."""
    owners: dict[nn.Parameter, str] = {}
    for what, part in _parts(network):
        for parameter in part.parameters():
            if owners.setdefault(parameter, what) != what:
                raise TrainingError(f"{what} has weights of {owners[parameter]}; give every part weights of its own")


def _check_norms_have_statistics(network: ResNet) -> None:
    """Without them a norm goes by its batch in evaluation mode, too; a weight of zero, from which it may start, hides
    that from `_check_others_do_not_matter`.
    """
    for what, part in _parts(network):
        if any(isinstance(norm, _BatchNorm) and norm.running_mean is None for norm in part.modules()):
            raise TrainingError(f"{what} has a batch norm without running statistics; set its track_running_stats")


def _check_others_do_not_matter(what: str, module: nn.Module, g: Tensor, output: Tensor) -> None:
    """What a frozen module makes of an image is stored, and used beside any others.

    Args:
        output: what `module` makes of `g` alone, which is of one image.
    """
    pair, alone = _output(what, module, torch.cat((g, 2 * g + 1))), output.float()
    allowed = _ROUNDING * (alone.abs() + alone.abs().mean())  # no number where `alone` is none: nothing exceeds it
    if pair.shape != (2, *output.shape[1:]) or bool(((pair[:1].float() - alone).abs() > allowed).any()):
        raise TrainingError(
            f"{what} makes something else of an image when another is in its batch; its output must depend on one alone"
        )


def _parts(network: ResNet) -> list[tuple[str, nn.Module]]:
    """The modules and, last, the head, each with what messages call it."""
    names = [f"module {index} ({name})" for index, name in enumerate(network.names)]
    return list(zip((*names, "the head"), (*network.rounds, network.head), strict=True))


def _through_modules(network: ResNet, image: Tensor) -> Tensor:
    g = network.stem_input(image)
    for index, (what, module) in enumerate(_parts(network)[:-1]):
        written = g._version  # counts what is written to it
        output = _output(what, module, g)
        if g._version != written:
            raise TrainingError(f"{what} overwrites its input, which is used again; let it work on a copy")
        _check_others_do_not_matter(what, module, g, output)
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
