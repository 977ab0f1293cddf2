"""g_t: outputs of the frozen prefix, computed once per block from those of the block before, or anew where
memory is short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from replication.config import AugmentationParams
from replication.datasets.loader import DeviceSplit, random_crop_flip, sample_with_replacement
from replication.models import ResNet
from replication.training.seeds import generator
from replication.training.update import Batch


class FrozenPrefix:
    """The modules that are done: in evaluation mode, outside autograd (the released code does neither)."""

    def __init__(self, network: ResNet) -> None:
        self._network = network
        self.modules: list[nn.Module] = []

    def freeze(self, module: nn.Module) -> None:
        """Take `module`, the next of the network, into the prefix."""
        module.eval()
        module.requires_grad_(False)
        self.modules.append(module)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) -> g_t."""
        g = self._network.stem_input(images)
        for module in self.modules:
            g = module(g)
        return g


class SplitFeatures:
    """g_t(x) for every x of a split, un-augmented.

    Stored as float32 on the split's device while `memory_limit` bytes suffice, and then each g_{t+1} is computed from
    the stored g_t; otherwise they are computed from the images each time they are asked for.
    """

    def __init__(self, data: DeviceSplit, prefix: FrozenPrefix, batch_size: int, memory_limit: float) -> None:
        self.data, self._prefix = data, prefix
        self._batch_size, self._memory_limit = batch_size, memory_limit
        self._stored: Tensor | None = None
        self._store(self._from_images)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def stored(self) -> bool:
        """Whether g_t is held in memory."""
        return self._stored is not None

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """g_t of the examples that `index` selects."""
        return self._from_images(index) if self._stored is None else self._stored[index]

    def chunks(self) -> Iterator[Tensor]:
        """g_t of consecutive examples, at most `batch_size` at a time, in order."""
        for start in range(0, len(self), self._batch_size):
            yield self[start : start + self._batch_size]

    @torch.no_grad()
    def advance(self) -> None:
        """Follow the prefix after it took one more module: g_t becomes g_{t+1}."""
        old = self._stored
        newest = self._prefix.modules[-1]
        self._store(self._from_images if old is None else lambda index: newest(old[index]))

    def _from_images(self, index: Tensor | slice) -> Tensor:
        return self._prefix(self.data.normalise(self.data.images[index]))

    def _store(self, compute: Callable[[slice], Tensor]) -> None:
        """Fill the store chunk by chunk, over the old values where the shape stays; drop it where it would be
        too large.
        """
        target: Tensor | None = None
        for start in range(0, len(self), self._batch_size):
            part = slice(start, start + self._batch_size)
            g = compute(part)
            if target is None:
                shape = (len(self), *g.shape[1:])
                if len(self) * g[0].numel() * g.element_size() > self._memory_limit:
                    self._stored = None
                    return
                reusable = self._stored is not None and self._stored.shape == shape
                target = self._stored if reusable else g.new_empty(shape)
            assert target is not None
            target[part] = g
        self._stored = target


class BatchSource:
    """Draws training batches: indices with replacement, then g_t of the augmented images, or of the stored ones.

    Args:
        features: the training split's, followed as it advances.
        prefix: the frozen modules that augmented images go through.
        augmentation: none of it active means that stored outputs serve.
        batch_size: B.
        seed: of the run; batch order and augmentation each have a generator of their own.
        phase: distinguishes the streams of two trainings under one seed (the refinement's from the first).
    """

    def __init__(
        self,
        features: SplitFeatures,
        prefix: FrozenPrefix,
        augmentation: AugmentationParams,
        batch_size: int,
        seed: int,
        phase: int = 0,
    ) -> None:
        self._features, self._prefix = features, prefix
        self._augmentation, self._batch_size = augmentation, batch_size
        device = features.data.images.device
        self._order = generator(seed, "batches", device, phase)
        self._crops = generator(seed, "augmentation", device, phase)

    def __call__(self) -> Batch:
        """Inputs (B, ...) and labels (B,)."""
        data = self._features.data
        index = sample_with_replacement(len(data), self._batch_size, self._order)
        if not self._augmentation.active:
            return self._features[index], data.labels[index]
        images = data.normalise(data.images[index])
        images = random_crop_flip(images, self._augmentation.crop_padding, self._augmentation.flip, self._crops)
        return self._prefix(images), data.labels[index]
