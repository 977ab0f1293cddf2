"""From archives to the prepared file and back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings, strategies as st

from replication import files
from replication.config import DataParams
from replication.datasets import SPLITS, download, load_prepared, prepare as prepare_module
from replication.datasets.prepare import prepare, statistics, stratified
from replication.datasets.prepared import PreparedDataset
from replication.datasets.sources import COLLECTIONS, MNIST, Archive, Collection
from replication.errors import DataError, ReplicationError
from tests.archives import make_images, serve, svhn_archive, write_archives

PARAMS = DataParams(
    allow_unofficial=True, validation_fraction=0.1, split_seed=0, include_extra=True, exact_test_images=None
)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    write_archives(folder, train=200, test=50)
    return folder


@pytest.fixture(autouse=True)
def _only_the_mirror(monkeypatch: pytest.MonkeyPatch, mirror: Path) -> None:
    """No test may reach the real servers."""
    collections = {
        name: attrs.evolve(
            collection, archives=tuple(attrs.evolve(archive, urls=()) for archive in collection.archives)
        )
        for name, collection in COLLECTIONS.items()
    }
    monkeypatch.setattr(prepare_module, "COLLECTIONS", collections)
    monkeypatch.setenv(download.MIRROR_VARIABLE, str(mirror))


def make(name: str, folder: Path, params: DataParams = PARAMS) -> PreparedDataset:
    return prepare(name, params, folder / "raw", folder / f"{name}.safetensors")


@pytest.mark.parametrize("name", list(COLLECTIONS))
def test_prepared_file_gives_back_what_was_prepared(name: str, tmp_path: Path) -> None:
    made = make(name, tmp_path)
    loaded = load_prepared(tmp_path / f"{name}.safetensors")
    assert loaded.image_shape == COLLECTIONS[name].image_shape
    assert loaded.num_classes == 10
    assert loaded.official == (name == "digits")
    for field in ("name", "mean", "std", "scale", "classes", "official", "sources", "content_hash"):
        assert getattr(loaded, field) == getattr(made, field)
    for split in SPLITS:
        np.testing.assert_array_equal(loaded.images[split], made.images[split])
        np.testing.assert_array_equal(loaded.labels[split], made.labels[split])
        assert set(loaded.labels[split].tolist()) == set(range(10))
    normalised = loaded.images["train"] / loaded.scale
    np.testing.assert_allclose(loaded.mean, normalised.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(loaded.std, normalised.std((0, 2, 3)), rtol=1e-12)
    assert json.loads(json.dumps(loaded.describe()))["train_size"] == len(loaded.labels["train"])


@pytest.mark.parametrize("name", list(COLLECTIONS))
def test_same_input_same_bytes(name: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        make(name, tmp_path / folder)
    assert files.md5(tmp_path / "a" / f"{name}.safetensors") == files.md5(tmp_path / "b" / f"{name}.safetensors")


def test_digits_are_the_same_everywhere(tmp_path: Path) -> None:
    """Pinned: a change here changes every published digits result."""
    digits = make("digits", tmp_path, attrs.evolve(PARAMS, allow_unofficial=False))
    assert {split: len(digits.labels[split]) for split in SPLITS} == {"train": 1293, "validation": 144, "test": 360}
    assert digits.content_hash.startswith("59dce8e39c42")
    assert digits.official


def test_digits_test_part_does_not_depend_on_the_split_seed(tmp_path: Path) -> None:
    one, other = (make("digits", tmp_path, attrs.evolve(PARAMS, split_seed=seed)) for seed in (0, 1))
    np.testing.assert_array_equal(one.images["test"], other.images["test"])
    assert not np.array_equal(one.images["validation"], other.images["validation"])


def test_served_over_http(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(mirror) as address:
        monkeypatch.setenv(download.MIRROR_VARIABLE, address)
        over_http = make("cifar10", tmp_path / "http")
    monkeypatch.setenv(download.MIRROR_VARIABLE, str(mirror))
    assert over_http.content_hash == make("cifar10", tmp_path / "folder").content_hash


def test_svhn_extra_can_be_left_out(tmp_path: Path) -> None:
    full = make("svhn", tmp_path)
    small = make("svhn", tmp_path, attrs.evolve(PARAMS, include_extra=False))
    assert len(full.labels["train"]) + len(full.labels["validation"]) == 400
    assert len(small.labels["train"]) + len(small.labels["validation"]) == 200
    assert [source.name for source in small.sources] == ["train_32x32.mat", "test_32x32.mat"]


def test_every_svhn_image_keeps_its_label(mirror: Path, tmp_path: Path) -> None:
    def labelled(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
        return [(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)]

    made, pairs = make("svhn", tmp_path), {}
    for part in ("train", "extra", "test"):
        archive = scipy.io.loadmat(mirror / "svhn" / f"{part}_32x32.mat")
        pairs[part] = labelled(archive["X"].transpose(3, 2, 0, 1), archive["y"].ravel() % 10)  # 10 is the digit 0
    ours = {split: labelled(made.images[split], made.labels[split]) for split in SPLITS}
    assert sorted(ours["train"] + ours["validation"]) == sorted(pairs["train"] + pairs["extra"])
    assert sorted(ours["test"]) == sorted(pairs["test"])


def test_unofficial_archives_are_refused_by_default(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        make("mnist", tmp_path, attrs.evolve(PARAMS, allow_unofficial=False))
    assert MNIST.archives[0].md5 in str(caught.value)
    assert not (tmp_path / "mnist.safetensors").exists()


def declared_official(mirror: Path) -> Collection:
    """SVHN with our archives for the official ones."""

    def declared(archive: Archive) -> Archive:
        path = mirror / "svhn" / archive.name
        return attrs.evolve(archive, md5=files.md5(path), size=path.stat().st_size, urls=())

    return attrs.evolve(COLLECTIONS["svhn"], archives=tuple(map(declared, COLLECTIONS["svhn"].archives)))


def test_official_archives_must_hold_the_official_counts(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "COLLECTIONS", {"svhn": declared_official(mirror)})
    with pytest.raises(DataError, match=r"has 50 images.*official data have 26032"):
        make("svhn", tmp_path)


def test_official_archives_must_hold_as_many_of_every_class(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = declared_official(mirror)

    def expect(test_counts: tuple[int, ...]) -> None:
        sizes = {"train": (200, (20,) * 10), "extra": (200, None), "test": (50, test_counts)}
        parts = {name: attrs.evolve(fake.parts[name], size=size, counts=n) for name, (size, n) in sizes.items()}
        monkeypatch.setattr(prepare_module, "COLLECTIONS", {"svhn": attrs.evolve(fake, parts=parts)})

    expect((5,) * 10)
    assert make("svhn", tmp_path).official
    expect((4, 6, *(5,) * 8))
    with pytest.raises(DataError, match=r"test_32x32\.mat.* 50 images, \(5, 5, .* official data have 50, \(4, 6, "):
        make("svhn", tmp_path)


def test_too_few_images_of_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archives(tmp_path, train=40, test=20)
    images, labels = make_images(40, (3, 32, 32), np.random.default_rng(0))
    labels[labels == 3] = 4
    (tmp_path / "svhn" / "train_32x32.mat").write_bytes(svhn_archive(images, labels))
    monkeypatch.setenv(download.MIRROR_VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match="0 images of class 3, too few"):
        make("svhn", tmp_path)


def test_constant_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archives(tmp_path, train=40, test=20)
    _, labels = make_images(40, (3, 32, 32), np.random.default_rng(0))
    archive = svhn_archive(np.full((40, 3, 32, 32), 7, np.uint8), labels)
    (tmp_path / "svhn" / "train_32x32.mat").write_bytes(archive)
    monkeypatch.setenv(download.MIRROR_VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match="do not vary"):
        make("svhn", tmp_path, attrs.evolve(PARAMS, include_extra=False))


def test_unknown_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown dataset 'imagenet'"):
        make("imagenet", tmp_path)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReplicationError, match="cannot write"):
        prepare("digits", PARAMS, tmp_path, tmp_path / "file" / "digits.safetensors")


@settings(max_examples=60)
@given(
    labels=st.lists(st.integers(0, 5), min_size=12, max_size=300).map(lambda values: [*range(6), *range(6), *values]),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
def test_split_is_stratified(labels: list[int], fraction: float, seed: int) -> None:
    array = np.array(labels)
    marked = stratified(array, fraction, seed)
    assert marked.sum() == round(fraction * len(array))
    np.testing.assert_array_equal(marked, stratified(array, fraction, seed))
    for label in range(6):
        members = int((array == label).sum())
        share = marked.sum() * members / len(array)
        assert abs(int(marked[array == label].sum()) - share) < 1
        assert marked[array == label].sum() < members  # something is left to train on


def test_split_is_pinned() -> None:
    """The bit stream of PCG64 is promised to stay; this notices if it does not."""
    marked = stratified(np.arange(100) % 10, 0.1, 0)
    assert np.flatnonzero(marked).tolist() == PINNED_SPLIT
    assert np.flatnonzero(stratified(np.arange(100) % 10, 0.1, 1)).tolist() != PINNED_SPLIT


PINNED_SPLIT = [2, 11, 23, 26, 29, 30, 57, 84, 88, 95]


def test_split_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="validation_fraction"):
        stratified(np.zeros(10, np.int64), 0.01, 0)


def test_statistics_against_numpy() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1500, 2, 5, 7)).astype(np.uint8)
    images[:, 1] //= 3
    mean, std = statistics(images, 255)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std, (images / 255).std((0, 2, 3)), rtol=1e-12)


def edit(path: Path, change: dict[str, object], tensors: dict[str, object] | None = None) -> None:
    """Rewrite the header of a prepared file."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = json.loads(header["__metadata__"]["dataset"]) | change
    header["__metadata__"]["dataset"] = json.dumps(metadata)
    for name, value in (tensors or {}).items():
        header[name] |= value
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[8 + size :])


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    make("digits", tmp_path)
    return tmp_path / "digits.safetensors"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"mean": []},
        {"mean": [float("nan")]},
        {"mean": "0.5"},
        {"std": [0.0]},
        {"std": [1, 1]},
        {"scale": 0},
        {"scale": 15},
        {"scale": "16"},
        {"classes": ["0"]},
        {"classes": [0] * 10},
        {"official": "yes"},
        {"official": False},
        {"sources": [{}]},
        {"sources": 3},
        {"name": None},
        {"content_hash": "0" * 64},
        {"name": "cifar10"},
    ],
)
def test_edited_metadata_is_noticed(digits: Path, change: dict[str, object]) -> None:
    edit(digits, change)
    assert_refused(digits)


@pytest.mark.parametrize(
    "tensors",
    [
        {"test_images": {"dtype": "I8"}},
        {"test_images": {"dtype": "BF16", "shape": [180, 1, 8, 8]}},
        {"test_images": {"shape": [360, 64]}},
        {"test_images": {"shape": [360, 8, 8, 1]}},
        {"test_images": {"data_offsets": [0, 10**12]}},
        {"test_labels": {"dtype": "U64"}},
        {"test_labels": {"shape": [180, 2]}},
    ],
)
def test_edited_tensors_are_noticed(digits: Path, tensors: dict[str, object]) -> None:
    edit(digits, {}, tensors)
    assert_refused(digits)


def test_damaged_bytes_are_noticed(digits: Path) -> None:
    content = digits.read_bytes()
    damaged = {
        "empty": b"",
        "cut": content[:-1],
        "longer": content + b"\0",
        "random": bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)),
        "absurd header": (2**60).to_bytes(8, "little") + content[8:],
        "deep header": (200_000).to_bytes(8, "little") + b"[" * 200_000,
        "label": content.replace(content[-8000:-7000], b"\xff" * 1000),
        "pixel": content[:-100] + bytes([(content[-100] + 1) % 17]) + content[-99:],
    }
    for wrong in damaged.values():
        assert wrong != content
        digits.write_bytes(wrong)
        assert_refused(digits)
    digits.unlink()
    assert_refused(digits)
    digits.mkdir()
    assert_refused(digits)


def assert_refused(path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_prepared(path)
    assert str(path) in str(caught.value)
    assert "replication prepare digits" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_under_another_name_is_refused(digits: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "mnist.safetensors"
    renamed.write_bytes(digits.read_bytes())
    with pytest.raises(DataError, match=r"holds the data set 'digits', not mnist; run .* prepare mnist") as caught:
        load_prepared(renamed)
    assert str(renamed) in str(caught.value)
    assert load_prepared(renamed, name="digits").name == "digits"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"allow_unofficial": False}, "unofficial copy, which data.allow_unofficial: false excludes"),
        ({"validation_fraction": 0.05}, "has 40 validation images where data.validation_fraction asks for 20"),
        ({"validation_fraction": 0.2}, "validation images where data.validation_fraction asks for"),
        ({"include_extra": False}, r"other archives than train_32x32\.mat, test_32x32\.mat, which data.include_extra"),
    ],
)
def test_a_file_of_other_parameters_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    make("svhn", tmp_path)
    path = tmp_path / "svhn.safetensors"
    assert load_prepared(path, PARAMS).name == "svhn"
    with pytest.raises(DataError, match=message) as caught:
        load_prepared(path, attrs.evolve(PARAMS, **change))
    assert "run `python -m replication prepare svhn` again" in str(caught.value)


@pytest.mark.parametrize("name", list(COLLECTIONS))
def test_a_file_is_what_its_own_parameters_ask_for(name: str, tmp_path: Path) -> None:
    for params in (PARAMS, attrs.evolve(PARAMS, include_extra=False, validation_fraction=0.07)):
        make(name, tmp_path, params)
        assert load_prepared(tmp_path / f"{name}.safetensors", params).name == name


def test_hash_check_can_be_left_out(digits: Path) -> None:
    edit(digits, {"content_hash": "0" * 64})
    assert load_prepared(digits, verify=False).name == "digits"


def test_loading_needs_no_torch() -> None:
    code = "import sys; import replication.datasets.prepare; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
