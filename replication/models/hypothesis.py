"""Hypothesis modules (eq. 3): a block and an auxiliary classifier, o_{t+1}(x) = softmax(W_{t+1}^T g_{t+1}(x))."""

from __future__ import annotations

import math

from torch import Tensor, nn

from replication.models.build import initialised_by, layer_table
from replication.models.resnet import Head, ResNet


class AuxiliaryClassifier(nn.Module):
    """What turns g_{t+1} into logits: the later stages' first blocks, if they belong to it, and a linear classifier."""

    def __init__(self, transitions: list[nn.Module], head: Head) -> None:
        super().__init__()
        self.transitions, self.head = nn.ModuleList(transitions), head

    def forward(self, g: Tensor) -> Tensor:
        """g_{t+1} (N, ...) -> logits (N, C)."""
        for module in self.transitions:
            g = module(g)
        return self.head(g)


class HypothesisModule(nn.Module):
    """Block f_t and auxiliary classifier: g_t (N, ...) -> logits of o_{t+1} (N, C)."""

    def __init__(self, block: nn.Module, auxiliary: AuxiliaryClassifier) -> None:
        super().__init__()
        self.block, self.auxiliary = block, auxiliary

    def forward(self, g: Tensor) -> Tensor:
        return self.auxiliary(self.block(g))


class HypothesisFactory:
    """Makes the hypothesis module of every round of one network.

    `transition-blocks` (the released code): the first block of each later stage, which is the network's own and will
    have its own round when its turn comes, is trained along, and the network's head serves every round; all are
    carried over from round to round. `linear`: the head alone; a stage before the last one gets a linear classifier of
    its own, carried over within the stage, initialised from `seed`, on the means of the channels, as the released
    code's head is. `linear-flattened`: likewise, but on whole feature maps, as the paper's text has it, linear in g;
    in the last stage it is the network's head all the same, whatever that averages. `linear-anew`: as `linear`, but
    nothing is carried over: every round finds its classifier from a fresh start, as in the paper's algorithms, and the
    last round the network's head.

    Args:
        image_shape: (channels, height, width) of one image.
    """

    def __init__(self, network: ResNet, kind: str, seed: int, image_shape: tuple[int, ...]) -> None:
        self._network, self._kind, self._seed, self._image_shape = network, kind, seed, image_shape
        self._heads: dict[int, Head] = {}

    def hypothesis(self, index: int) -> HypothesisModule:
        """The hypothesis module of round `index`, sharing its block's parameters with the network."""
        network, anew = self._network, self._kind == "linear-anew"
        later = [start for start in network.stage_starts if start > index]
        if self._kind == "transition-blocks":
            auxiliary = AuxiliaryClassifier([network.rounds[start] for start in later], network.head)
        else:
            # The modules of a stage put out one shape, feature maps or features: the last one's classifier serves all.
            owner = index if anew else (later[0] if later else len(network.rounds)) - 1
            auxiliary = AuxiliaryClassifier([], self._head_behind(owner))
        return HypothesisModule(network.rounds[index], auxiliary)

    def state_dict(self) -> dict[str, Tensor]:
        """All linear classifiers but the network's head, "MODULE.NAME" -> tensor; empty with `transition-blocks`."""
        heads = self._heads.items()
        return {f"{module}.{name}": tensor for module, head in heads for name, tensor in head.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take what `state_dict` gave."""
        for module in {int(name.partition(".")[0]) for name in state}:
            own = {key.removeprefix(f"{module}."): t for key, t in state.items() if key.startswith(f"{module}.")}
            self._head_behind(module).load_state_dict(own)

    def _head_behind(self, module: int) -> Head:
        """The linear classifier that belongs to the module of this index: the network's head behind the last one."""
        if module == len(self._network.rounds) - 1:
            return self._network.head
        if module not in self._heads:
            shape = layer_table(self._network, self._image_shape)[module].output_shape
            # In the last stage all classifiers are of the head's kind, as where the head itself is carried through it.
            of_last_stage = all(start <= module for start in self._network.stage_starts)
            averaged = self._network.head.pool if of_last_stage else self._kind != "linear-flattened"
            pool, weight = len(shape) == 3 and averaged, self._network.head.linear.weight
            with initialised_by(self._seed + (module if self._kind == "linear-anew" else 0)):
                head = Head(shape[0] if pool else math.prod(shape), weight.shape[0], pool=pool)
            self._heads[module] = head.to(weight.device)
        return self._heads[module]
