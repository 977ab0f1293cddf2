"""g_t: outputs of the frozen prefix, computed once per block from those of the block before, or anew where
memory is short.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from replication.config import AugmentationParams, RuntimeParams
from replication.datasets.loader import DeviceSplit, random_crop_flip, sample_by_weight, sample_with_replacement
from replication.errors import TrainingError
from replication.models import ResNet
from replication.models.ensemble import Ensemble
from replication.models.folding import fold_batch_norms, has_foldable_norms
from replication.training.checkpoint import Snapshot
from replication.training.distributed import as_the_first_has_it, share
from replication.training.seeds import generator
from replication.training.stores import RowStore, make_store
from replication.training.update import Batch

SCRATCH = Path("scratch")
VIEW_CHUNK = 1000
# Pixels of images that go through convolutions at a time on a CPU: with more, the outputs of one leave the cache before
# the next reads them, and an unfolded network takes nearly twice the time (scripts/images_at_a_time.py).
_CACHED_PIXELS = 50 * 32 * 32


def check_views(augmentation: AugmentationParams, *, fixed: bool) -> None:
    """TrainingError where views of images are to be stored and the prefix's outputs on them are not `fixed`."""
    if augmentation.active and augmentation.cached_views and not fixed:
        raise TrainingError(
            "augmentation.cached_views stores what boostresnet.prefix_mode: training changes with every update; set"
            " it to 0, or prefix_mode to evaluation"
        )


class FrozenPrefix:
    """The modules that are done: in evaluation mode, outside autograd (the released code does neither).

    Args:
        network: whose modules they are.
        fast: channels last, and in the place of modules with batch norms copies in which these are folded.
        training: batch norms go by each training batch and follow it with their running statistics, as in the released
            code. The outputs on an image then change with every update, so that none are stored, and no norm is folded.
        bfloat16: convolutions and matrix products of training batches in bfloat16 (autocast), as in what is trained on
            them; what is stored or checked stays float32.
    """

    def __init__(
        self, network: ResNet | Ensemble, *, fast: bool = False, training: bool = False, bfloat16: bool = False
    ) -> None:
        self._network, self._fast, self.fixed, self._bfloat16 = network, fast, not training, bfloat16
        self.modules: list[nn.Module] = []

    @property
    def convolves(self) -> bool:
        """Whether the network takes images as they are, and not as vectors."""
        return self._network.stem_input(torch.empty(1, 1, 1, 1)).dim() == 4

    def freeze(self, module: nn.Module) -> None:
        """Take `module`, the next of the network, into the prefix."""
        module.eval()
        module.requires_grad_(False)
        module.zero_grad(set_to_none=True)  # gradients would only take room
        # A copy in which nothing is folded would only take room.
        folds = self._fast and self.fixed and has_foldable_norms(module)
        self.modules.append(fold_batch_norms(module) if folds else module)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) -> g_t."""
        g = self._network.stem_input(images)
        if self._fast and g.dim() == 4:
            g = g.contiguous(memory_format=torch.channels_last)
        for module in self.modules:
            g = module(g)
        return g

    def on_batch(self, images: Tensor) -> Tensor:
        """As `__call__`, for a batch to be trained on."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bfloat16):
            if self.fixed:
                return self(images)
            for module in self.modules:
                module.train()
            g: Tensor = self(images)
            for module in self.modules:
                module.eval()
            return g


class SplitFeatures:
    """g_t(x) for every x of a split, un-augmented.

    From the first block on they are stored where there is room (`stores`), and each g_{t+1} is computed from the stored
    g_t; where there is none, and for the images themselves, they are computed each time they are asked for.
    """

    def __init__(self, data: DeviceSplit, prefix: FrozenPrefix, batch_size: int, runtime: RuntimeParams) -> None:
        self.data, self._prefix = data, prefix
        if data.images.device.type == "cpu" and prefix.convolves:
            batch_size = min(batch_size, max(1, _CACHED_PIXELS // data.images[0, 0].numel()))
        self._batch_size, self.runtime, self.scratch = batch_size, runtime, SCRATCH
        self.store: RowStore | None = None

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """g_t of the examples that `index` selects."""
        return self._from_images(index) if self.store is None else self.store[index]

    def chunks(self) -> Iterator[Tensor]:
        """g_t of consecutive examples, at most `batch_size` at a time, in order."""
        for part in self.parts():
            yield self[part]

    @torch.no_grad()
    def advance(self) -> None:
        """Follow the prefix after it took one more module: g_t becomes g_{t+1}."""
        if not (self.runtime.fast and self._prefix.fixed):
            return  # from the images, every time
        old, newest = self.store, self._prefix.modules[-1]
        example = self._from_images(slice(0, 1))[0]
        if old is None or not old.fits(len(self), example):
            self.store = make_store(len(self), example, self.runtime, self.scratch)
        if self.store is None:
            return
        for part in self.parts():  # in place where old and new are one: a row depends on nothing but itself
            self.store[part] = self._from_images(part) if old is None else newest(old[part])

    def parts(self) -> Iterator[slice]:
        """Consecutive ranges of examples, at most `batch_size` long."""
        for start in range(0, len(self), self._batch_size):
            yield slice(start, start + self._batch_size)

    def _from_images(self, index: Tensor | slice) -> Tensor:
        return self._prefix(self.data.normalise(self.data.images[index]))


class BatchSource:
    """Draws training batches: indices with replacement, then g_t of the augmented images, or of the stored ones.

    Args:
        features: the training split's, followed as it advances.
        prefix: the frozen modules that augmented images go through.
        augmentation: none of it active means that stored outputs serve.
        batch_size: B.
        seed: of the run; batch order and augmentation each have a generator of their own.
        phase: distinguishes the streams of two trainings under one seed (the refinement's from the first).

    Attributes:
        targets: what goes with each example, (N, ...): its label, unless another tensor is put in its place.
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
        self.targets = features.data.labels
        device = features.data.images.device
        self._order = generator(seed, "batches", device, phase)
        self._crops = generator(seed, "augmentation", device, phase)
        self._drawn_by: Tensor | None = None
        self._views: RowStore | None = None
        self._crops_before_views: Tensor | None = None

    def snapshot(self) -> Snapshot:
        """Where the generators are; where that of the crops was before it drew the views that are in use, if any."""
        crops = self._crops.get_state() if self._crops_before_views is None else self._crops_before_views
        return Snapshot({"order": self._order.get_state(), "crops": crops})

    def restore(self, snapshot: Snapshot) -> None:
        """Draw on from a snapshot."""
        self._order.set_state(snapshot.tensors["order"])
        self._crops.set_state(snapshot.tensors["crops"])

    def draw_by(self, weights: Tensor | None) -> None:
        """From now on draw examples in proportion to `weights`, (N,), non-negative; None for all alike.

        Stored views are drawn all alike, and a snapshot does not have the weights.
        """
        if weights is not None:
            # Processes whose weights differ, if by a vote that rounding turned, would draw different batches. Summed on
            # the CPU: a run that goes on must get the same sums, and CUDA promises no order.
            weights = as_the_first_has_it(weights)
            weights = weights.cpu().double().cumsum(0).to(weights.device)
        self._drawn_by = weights

    def draw_views(self) -> None:
        """For the block about to be trained: draw `augmentation.cached_views` of every image and store their g_t.

        Off (0 views) by default, since an image is then seen in so many variants per block and in no others.

        Raises:
            TrainingError: there is no room for them, or the prefix does not stay as it is.
        """
        count, size = self._augmentation.cached_views, len(self._features)
        if not self._augmentation.active or count == 0:
            return
        check_views(self._augmentation, fixed=self._prefix.fixed)
        self._crops_before_views = self._crops.get_state()
        example = self._prefix(self._augmented(torch.arange(1)))[0]
        self._views = make_store(count * size, example, self._features.runtime, self._features.scratch)
        self._crops.set_state(self._crops_before_views)  # the row drawn for its shape does not count
        if self._views is None:
            raise TrainingError(
                f"no room for {count} views of {size:,} images; raise runtime.memory_limit_gib or disk_limit_gib,"
                " or set augmentation.cached_views to 0"
            )
        for start in range(0, count * size, VIEW_CHUNK):
            rows = torch.arange(start, min(start + VIEW_CHUNK, count * size))
            self._views[slice(start, start + len(rows))] = self._prefix(self._augmented(rows % size))

    def drop_views(self) -> None:
        """The block is trained."""
        self._views = self._crops_before_views = None

    def __call__(self) -> Batch:
        """Inputs (B, ...), this process's share of the batch, and the targets (B, ...) of the whole batch."""
        size = len(self._features)
        if self._views is not None:
            rows = sample_with_replacement(self._augmentation.cached_views * size, self._batch_size, self._order)
            return self._views[share(rows)], self.targets[rows % size]
        index = self._draw(size)
        if not self._augmentation.active and self._prefix.fixed:
            return self._features[share(index)], self.targets[index]
        return self._prefix.on_batch(share(self._augmented(index))), self.targets[index]

    def _draw(self, size: int) -> Tensor:
        if self._drawn_by is None:
            return sample_with_replacement(size, self._batch_size, self._order)
        return sample_by_weight(self._drawn_by, self._batch_size, self._order)

    def _augmented(self, index: Tensor) -> Tensor:
        """Normalised images (B, C, H, W), cropped and mirrored at random."""
        data = self._features.data
        images = data.normalise(data.images[index.to(data.images.device)])
        return random_crop_flip(images, self._augmentation.crop_padding, self._augmentation.flip, self._crops)
