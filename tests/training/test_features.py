"""Stored prefix outputs: where they live, what they hold, and that they follow the prefix."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

from replication.config import ModelParams, load_experiment
from replication.datasets.loader import DeviceSplit, to_device_split
from replication.errors import TrainingError
from replication.models import build_network
from replication.models.folding import fold_batch_norms
from replication.training.features import FrozenPrefix, SplitFeatures
from replication.training.stores import make_store
from replication.training.train import train

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def network():
    """A network whose batch norms have seen something, so that folding them matters."""
    network = build_network(ModelParams(reading="released", blocks=6, width=4), (1, 8, 8), 10, 0)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(64, 1, 8, 8) * 3 + 1)
    return network.eval()


@pytest.fixture
def runtime(experiment):
    return experiment.runtime


def test_folding_changes_nothing_but_rounding_and_leaves_the_original_alone(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    g = torch.randn(16, 1, 8, 8)
    for module in network.rounds:
        folded = fold_batch_norms(module)
        assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
        with torch.no_grad():
            torch.testing.assert_close(folded(g), module(g), rtol=1e-4, atol=1e-5)
            g = module(g)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_frozen_prefix_copies_only_what_it_folds(network):
    perceptron = build_network(ModelParams(reading="mlp", blocks=2, width=8), (1, 8, 8), 10, 0)
    for whole, copies in ((network, True), (perceptron, False)):
        prefix = FrozenPrefix(whole, fast=True)
        for module in whole.rounds:
            prefix.freeze(module)
            assert (prefix.modules[-1] is not module) is copies
            assert not prefix.modules[-1].training
            assert not any(parameter.requires_grad for parameter in prefix.modules[-1].parameters())


@pytest.mark.parametrize(
    ("limits", "place"),
    [
        ({}, "device"),
        ({"memory_limit_gib": 0.0}, None),
        ({"memory_limit_gib": 0.0, "disk_limit_gib": 1.0}, "disk"),
        ({"feature_precision": "float16"}, "device"),
    ],
)
def test_features_follow_the_prefix_wherever_they_live(network, digits, runtime, tmp_path, monkeypatch, limits, place):
    monkeypatch.setattr("replication.training.features.SCRATCH", tmp_path)
    runtime = attrs.evolve(runtime, **limits)
    data = to_device_split(digits, "validation", "cpu")
    prefix = FrozenPrefix(network, fast=True)
    features = SplitFeatures(data, prefix, 50, runtime)
    images = data.normalise(data.images)
    tolerance = 1e-2 if runtime.feature_precision == "float16" else 1e-4
    g = images
    for module in network.rounds:
        prefix.freeze(module)
        features.advance()
        with torch.no_grad():
            g = module(g)
        assert (features.store.place if features.store else None) == place
        torch.testing.assert_close(torch.cat(list(features.chunks())), g, rtol=tolerance, atol=tolerance)
        index = torch.tensor([5, 0, 5, 143])
        torch.testing.assert_close(features[index], g[index], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("reading", "side", "at_a_time"), [("released", 32, 50), ("released", 8, 100), ("mlp", 32, 100)]
)
def test_on_a_cpu_no_more_images_at_a_time_than_its_cache_holds(runtime, reading, side, at_a_time):
    network = build_network(ModelParams(reading, 3, 4), (1, side, side), 10, 0)
    images = np.zeros((230, 1, side, side), np.uint8)
    data = DeviceSplit.from_arrays(images, np.zeros(230, np.int64), (0.0,), (1.0,), 255, "cpu")
    parts = list(SplitFeatures(data, FrozenPrefix(network), 100, runtime).parts())
    assert {part.stop - part.start for part in parts} == {at_a_time}
    assert [part.start for part in parts] == list(range(0, 230, at_a_time)), "all of them, in order"


@pytest.mark.parametrize("fast", [True, False])
def test_a_prefix_in_training_mode_goes_by_the_batch_and_follows_it(network, digits, runtime, fast):
    """As in the released code; a batch norm's running mean moves by a tenth of the way to the batch's."""
    data = to_device_split(digits, "validation", "cpu")
    prefix = FrozenPrefix(network, fast=fast, training=True)
    features = SplitFeatures(data, prefix, 50, attrs.evolve(runtime, fast=fast))
    stem = network.rounds[0]
    prefix.freeze(stem)
    features.advance()
    assert features.store is None  # it would be out of date after the next batch
    (norm,) = (part for part in stem.modules() if isinstance(part, torch.nn.BatchNorm2d))
    seen = []
    handle = norm.register_forward_hook(lambda _norm, inputs, _output: seen.append(inputs[0]))
    batch, weights = data.normalise(data.images[:20]), [value.clone() for value in stem.parameters()]
    mean = norm.running_mean.clone()
    g = prefix.on_batch(batch)
    handle.remove()
    assert not g.requires_grad and not stem.training
    expected = seen[0].mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, 0.9 * mean + 0.1 * expected)
    normalised = (seen[0] - expected[:, None, None]) / (seen[0].var((0, 2, 3), correction=0) + norm.eps).sqrt()[
        :, None, None
    ]
    normalised = normalised * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(g, torch.relu(normalised), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(old, new) for old, new in zip(weights, stem.parameters(), strict=True))
    assert not torch.allclose(prefix(batch), g)  # what is measured goes by the running statistics
    assert torch.equal(features[slice(0, 20)], prefix(batch))


def test_views_are_not_stored_of_a_prefix_that_changes(experiment, digits, tmp_path):
    augmentation = attrs.evolve(experiment.augmentation, crop_padding=1, cached_views=2)
    boostresnet = attrs.evolve(experiment.boostresnet, prefix_mode="training")
    with pytest.raises(TrainingError, match="prefix_mode to evaluation"):
        train(
            attrs.evolve(experiment, augmentation=augmentation, boostresnet=boostresnet),
            digits, "boostresnet", 0, tmp_path,
        )  # fmt: skip


def test_stored_feature_maps_are_used_channels_last_without_a_copy(runtime):
    store = make_store(6, torch.zeros(3, 4, 4), runtime, None)
    values = torch.randn(6, 3, 4, 4)
    store[0:6] = values
    batch = store[torch.tensor([4, 1])]
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, values[[4, 1]])
    assert store.nbytes == values.numel() * 4


def test_half_precision_takes_half_the_room(runtime):
    whole = make_store(10, torch.zeros(7), runtime, None)
    half = make_store(10, torch.zeros(7), attrs.evolve(runtime, feature_precision="float16"), None)
    assert half.nbytes * 2 == whole.nbytes
    assert half[0:2].dtype == torch.float32


def test_a_disk_without_room_is_no_place(runtime, tmp_path, monkeypatch):
    limits = attrs.evolve(runtime, memory_limit_gib=0.0, disk_limit_gib=1.0)

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    assert make_store(10, torch.zeros(7), limits, tmp_path) is None
    assert not list(tmp_path.iterdir())
    monkeypatch.delattr("os.posix_fallocate")  # as on macOS
    monkeypatch.setattr("os.pwrite", full)
    assert make_store(10, torch.zeros(7), limits, tmp_path) is None


def test_room_is_taken_where_the_system_has_no_call_for_it(runtime, tmp_path, monkeypatch):
    monkeypatch.delattr("os.posix_fallocate")
    limits = attrs.evolve(runtime, memory_limit_gib=0.0, disk_limit_gib=1.0)
    written: list[int] = []

    def write(handle: int, data: bytes, start: int) -> int:
        written.append(start + len(data))
        return pwrite(handle, data, start)

    pwrite = os.pwrite
    monkeypatch.setattr("os.pwrite", write)
    store = make_store(300_000, torch.zeros(7), limits, tmp_path)
    assert store is not None and store.place == "disk"
    assert len(written) == 9 and written[-1] == 300_000 * 7 * 4 == store.nbytes, "a part of a mebibyte last"


@pytest.mark.parametrize(
    ("split", "rows", "place", "gibibytes"),
    [("train", 543_949, "disk", 33.2), ("validation", 60_439, "device", 3.69), ("test", 26_032, "device", 1.59)],
)
def test_svhn_with_extra_stays_out_of_memory(monkeypatch, tmp_path, split, rows, place, gibibytes):
    """604,388 images for training, a tenth of them held out, at the first stage's 16 channels."""
    runtime = attrs.evolve(load_experiment("svhn", ROOT / "params.yaml").runtime, device="cpu")
    shape, row = (rows, 32, 32, 16), 16 * 32 * 32 * 4  # channels last; float32
    mapped, allocated = [], []

    def place_holder(kind: list[tuple[int, ...]], shape: tuple[int, ...]) -> torch.Tensor:
        kind.append(shape)
        return torch.zeros(1).expand(shape)  # the shape, and four bytes

    def mapped_rows(shape: tuple[int, ...], dtype: torch.dtype, size: int, scratch: Path) -> torch.Tensor:
        assert (dtype, size, scratch) == (torch.float32, rows * row, tmp_path)
        return place_holder(mapped, shape)

    def empty(shape: tuple[int, ...], **_options: object) -> torch.Tensor:
        return place_holder(allocated, shape)

    example = torch.zeros(16, 32, 32)
    monkeypatch.setattr("replication.training.stores._mapped_rows", mapped_rows)
    monkeypatch.setattr("torch.empty", empty)
    store = make_store(rows, example, runtime, tmp_path)
    monkeypatch.undo()
    assert store is not None and (store.place, store.nbytes) == (place, rows * row)
    assert store.nbytes / 2**30 == pytest.approx(gibibytes, rel=5e-3)
    assert (mapped, allocated) == (([shape], []) if place == "disk" else ([], [shape]))


def test_cached_views_are_marked_and_need_room(experiment, digits, tmp_path):
    augmentation = attrs.evolve(experiment.augmentation, crop_padding=1, cached_views=2)
    views = attrs.evolve(experiment, augmentation=augmentation)
    first = train(views, digits, "boostresnet", 0, tmp_path / "a")
    again = train(views, digits, "boostresnet", 0, tmp_path / "b")
    exact = attrs.evolve(views, augmentation=attrs.evolve(augmentation, cached_views=0))
    other = train(exact, digits, "boostresnet", 0, tmp_path / "c")
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()
    cramped = attrs.evolve(views, runtime=attrs.evolve(views.runtime, memory_limit_gib=0.0))
    with pytest.raises(TrainingError, match=r"no room for 2 views of 1,293 images"):
        train(cramped, digits, "boostresnet", 0, tmp_path / "d")


def test_bfloat16_is_for_the_batches_alone_that_go_through_the_prefix(network, digits, experiment):
    runtime = attrs.evolve(experiment.runtime, precision="bfloat16")
    data = to_device_split(digits, "train", torch.device("cpu"))
    prefixes = [FrozenPrefix(network, fast=True, bfloat16=bfloat16) for bfloat16 in (False, True)]
    features = SplitFeatures(data, prefixes[1], 100, runtime)
    for module in network.rounds[:3]:
        for prefix in prefixes:
            prefix.freeze(module)
        features.advance()
    images = data.normalise(data.images[:50])
    exact, rounded = (prefix.on_batch(images).float() for prefix in prefixes)
    assert 1e-4 < float((rounded - exact).norm() / exact.norm()) < 0.02  # eight bits, three modules
    assert features[slice(0, 50)].dtype == torch.float32
    torch.testing.assert_close(features[slice(0, 50)], exact, rtol=1e-5, atol=1e-6)
