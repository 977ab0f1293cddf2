"""The paper's statements held against trained networks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import attrs
import torch
from torch import Tensor, nn

from replication.analysis.sampling import batches
from replication.boosting.multiclass import module_classifier
from replication.datasets import PreparedDataset
from replication.datasets.loader import DeviceSplit, to_device_split
from replication.errors import ResultsError
from replication.files import read_csv
from replication.models.folding import fold_batch_norms
from replication.models.hypothesis import HypothesisFactory
from replication.models.resnet import ResNet
from replication.training.runs import load_network, load_tensors, read_description
from replication.training.seeds import stream_seed

_BATCH = 500


@attrs.frozen(eq=False)
class Hypotheses:
    """The hypothesis modules of a BoostResNet run, as they were when each round ended (with `prefix_mode: training` but
    for the blocks' running statistics, which then go on changing: they are as the training's end left them).

    Attributes:
        network: as it was trained.
        blocks: f_1, f_2, ..., the frozen prefix.
        auxiliaries: the auxiliary classifier of every round.
        alphas: alpha_1, alpha_2, ...
    """

    network: ResNet
    blocks: list[nn.Module]
    auxiliaries: list[nn.Module]
    alphas: list[float]

    def outputs(self, images: Tensor) -> Iterator[Tensor]:
        """o_1(x), o_2(x), ... (N, C), float64, of normalised images (N, channels, H, W)."""
        g = self.network.stem_input(images)
        for block, auxiliary in zip(self.blocks, self.auxiliaries, strict=True):
            g = block(g)
            yield torch.softmax(auxiliary(g).double(), 1)

    @torch.no_grad()
    def split_outputs(self, split: DeviceSplit, batch_size: int) -> list[Tensor]:
        """o_1, o_2, ... on a whole split, (N, C) each, float64."""
        parts = [list(self.outputs(images)) for images, _ in batches(split, batch_size)]
        return [torch.cat(outputs) for outputs in zip(*parts, strict=True)]


def load_hypotheses(
    folder: Path, image_shape: tuple[int, int, int], device: torch.device | str = "cpu", *, fast: bool = False
) -> Hypotheses:
    """The hypothesis modules of a run directory.

    Args:
        image_shape: (channels, height, width) of the images that it was trained on.
        fast: channels last and with folded batch norms; equal up to rounding.

    Raises:
        ResultsError: the run is missing or damaged.
    """
    description = read_description(folder)
    network = load_network(folder).to(device)
    factory = HypothesisFactory(
        network,
        description["config"]["boostresnet"]["auxiliary"],
        stream_seed(description["seed"], "auxiliary"),
        image_shape,
    )
    alphas = [float(row["alpha"]) for row in read_csv(folder / "rounds.csv")]
    if len(alphas) != len(network.rounds):
        raise ResultsError(
            f"{folder}/rounds.csv has {len(alphas)} rounds, its model {len(network.rounds)}; train again"
        )
    states = load_tensors(folder / "auxiliary.safetensors")
    blocks = list(network.rounds)
    auxiliaries = [_auxiliary(factory, index, states) for index in range(len(blocks))]
    if fast:
        network.to(memory_format=torch.channels_last)
        blocks, auxiliaries = _folded(blocks), _folded(auxiliaries)
    return Hypotheses(network, blocks, auxiliaries, alphas)


def _auxiliary(factory: HypothesisFactory, index: int, states: dict[str, Tensor]) -> nn.Module:
    """A copy: an auxiliary classifier shares blocks with the network, which hold their later, final weights."""
    auxiliary = copy.deepcopy(factory.hypothesis(index).auxiliary).eval()
    prefix = f"{index}."
    try:
        auxiliary.load_state_dict({k.removeprefix(prefix): v for k, v in states.items() if k.startswith(prefix)})
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(f"the auxiliary classifier of round {index} does not fit ({reason}); train again") from None
    return auxiliary


def _folded(modules: list[nn.Module]) -> list[nn.Module]:
    return [fold_batch_norms(module).to(memory_format=torch.channels_last) for module in modules]


@torch.no_grad()
def lemma_3_2_difference(folder: Path, data: PreparedDataset, split: str = "test") -> float | None:
    """Largest |F(x) - (1 / alpha_{T+1}) sum_t h_t(x)| over a split and all classes (Lemma 3.2).

    F(x) is the class probabilities of the plain network that BoostResNet left; every h_t comes from the block
    outputs, the auxiliary classifiers and the alphas that the rounds left. Logits are float32, everything after them
    float64. None where the last alpha is zero, for which the lemma says nothing.
    """
    hypotheses = load_hypotheses(folder, data.image_shape)
    hypotheses.network.to(memory_format=torch.channels_last)  # faster; both sides are computed alike
    alphas, differences = hypotheses.alphas, []
    if alphas[-1] == 0.0:
        return None
    for images, _ in batches(to_device_split(data, split, "cpu"), _BATCH):
        total = torch.zeros(len(images), data.num_classes, dtype=torch.float64)
        previous, previous_alpha = torch.zeros_like(total), 0.0
        for output, alpha in zip(hypotheses.outputs(images), alphas, strict=True):
            total += module_classifier(output, alpha, previous, previous_alpha)
            previous, previous_alpha = output, alpha
        network_output = torch.softmax(hypotheses.network(images).double(), 1)
        differences.append((network_output - total / alphas[-1]).abs().max())
    return float(torch.stack(differences).max())  # NaN where one is, which Python's max would pass over
