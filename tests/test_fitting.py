"""A network of one's own: what does not fit together is named in one line, and what does is left as it was."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator

import attrs
import pytest
import torch
from torch import Tensor, nn

from replication.config import Experiment
from replication.datasets import PreparedDataset
from replication.errors import ConfigError, TrainingError
from replication.fitting import check_fits
from replication.models.resnet import ConvolutionalStem, Head, MLPBlock, PlainBlock, ReleasedBlock, ResNet
from replication.training import update
from replication.training.adaboost_mm import train_adaboost_mm
from replication.training.boostresnet import train_boostresnet
from replication.training.device import choose_device
from replication.training.end_to_end import train_end_to_end
from replication.training.gradient_boosting import train_gradient_boosting
from replication.training.record import Recorder
from replication.training.seeds import seeding_modules, stream_seed
from replication.training.session import Session, open_session, own_session

IMAGE = torch.rand(1, 3, 8, 8)


class Adding(nn.Module):
    """Adds to what it is given, in its place."""

    def forward(self, g: Tensor) -> Tensor:
        return g.add_(1.0)


class Asserting(nn.Module):
    def forward(self, g: Tensor) -> Tensor:
        if g.shape[1] == 4:
            raise AssertionError
        return g


class Pair(nn.Module):
    def forward(self, g: Tensor) -> tuple[Tensor, Tensor]:
        return g, g


class Centring(nn.Module):
    """Subtracts the mean of the batch, in evaluation mode, too."""

    def forward(self, g: Tensor) -> Tensor:
        return g - 0.1 * g.mean(0)


class Merging(nn.Module):
    """Makes one output of all images of a batch."""

    def forward(self, g: Tensor) -> Tensor:
        return g.mean(0, keepdim=True)


class CentringHead(Head):
    def forward(self, g: Tensor) -> Tensor:
        return super().forward(g - g.mean(0))


class Grouped(nn.Module):
    """g + f(g), where f goes by the image alone though it has no statistics of others."""

    def __init__(self) -> None:
        super().__init__()
        self.residual = nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.Dropout())

    def forward(self, g: Tensor) -> Tensor:
        return g + self.residual(g)


def network(*modules: nn.Module, features: int = 4, classes: int = 2, pool: bool = True, **others) -> ResNet:
    modules = modules or (ConvolutionalStem(3, 4), PlainBlock(4))
    settings = {"names": [f"part{index}" for index in range(len(modules))], "stage_starts": (), "flatten": False}
    return ResNet(list(modules), head=Head(features, classes, pool=pool), **settings | others)


def stem() -> ConvolutionalStem:
    return ConvolutionalStem(3, 4)


def tied() -> ResNet:
    block = PlainBlock(4)
    return network(stem(), block, block)


def headless() -> ResNet:
    whole = network()
    whole.head = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    return whole


def without_statistics(norm: nn.Module) -> ResNet:
    """As it may start, with nothing that it adds."""
    nn.init.zeros_(norm.weight)
    block = PlainBlock(4)
    block.residual[4] = norm
    return network(stem(), block)


def with_centring_head() -> ResNet:
    whole = network()
    whole.head = CentringHead(4, 2, pool=True)
    return whole


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (nn.Sequential(nn.Flatten()), "the network is a Sequential; put its modules and head into a ResNet"),
        (headless(), "the head is a Sequential; it must be a Head, with its map in `linear`"),
        (network(names=["stem"]), "the network has 2 modules and 1 names; give it modules, and a name for each"),
        (network(stage_starts=(0,)), r"stage_starts is \(0,\); it must be indices of modules after the first, in"),
        (network(stage_starts=(2,)), r"stage_starts is \(2,\); "),
        (network(stage_starts=1), "stage_starts is 1; it must be indices"),
        (network(stem(), PlainBlock(4), PlainBlock(4), stage_starts=(2, 1)), r"stage_starts is \(2, 1\); "),
        (network(stem(), PlainBlock(5)), r"module 1 \(part1\) does not take \(4, 8, 8\), which comes before it: "),
        (network(ConvolutionalStem(1, 4)), r"module 0 \(part0\) does not take \(3, 8, 8\), which comes before it: "),
        (network(stem(), ReleasedBlock(4, 8, 2), features=8),
         r"module 1 \(part1\) makes \(8, 4, 4\) of \(4, 8, 8\); put 1 into stage_starts if a stage begins there"),
        (network(stem(), Adding()), r"module 1 \(part1\) overwrites its input, which is used again"),
        (network(stem(), nn.ReLU(inplace=True)), r"module 1 \(part1\) overwrites its input"),
        (tied(), r"module 2 \(part2\) has weights of module 1 \(part1\); give every part weights of its own"),
        (without_statistics(nn.BatchNorm2d(4, track_running_stats=False)),
         r"module 1 \(part1\) has a batch norm without running statistics; set its track_running_stats$"),
        (without_statistics(nn.SyncBatchNorm(4, track_running_stats=False)), r"module 1 \(part1\) has a batch norm"),
        (network(stem(), Centring()), r"module 1 \(part1\) makes something else of an image when another is in its"),
        (network(stem(), Merging()), r"module 1 \(part1\) makes something else of an image when another is in its"),
        (with_centring_head(), "the head makes something else of an image when another is in its batch; "),
        (network(stem(), Asserting()), r"module 1 \(part1\) does not take \(4, 8, 8\), .*: AssertionError$"),
        (network(stem(), Pair()), r"module 1 \(part1\) gives a tuple; it must be a tensor"),
        (network(features=5), r"the head does not take \(4, 8, 8\), which comes before it: "),
        (network(features=4, pool=False), r"the head does not take \(4, 8, 8\), which comes before it: "),
        (network(classes=3), r"the head makes \(3,\) of one image; it must be a logit for each of the 2 classes"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(wrong, problem):
    with pytest.raises(TrainingError, match=f"^{problem}") as found:
        check_fits(wrong, IMAGE, 2)
    assert "\n" not in str(found.value)
    assert wrong.training, "left as it was"


def test_what_fits_is_left_as_it_was():
    fitting = network(stem(), PlainBlock(4), Grouped(), ReleasedBlock(4, 8, 2), features=8, stage_starts=(3,))
    fitting.rounds[1].eval()
    before = {name: value.clone() for name, value in fitting.state_dict().items()}
    generator = torch.get_rng_state()
    check_fits(fitting, IMAGE, 2)
    assert [module.training for module in fitting.rounds] == [True, False, True, True]
    assert all(torch.equal(before[name], value) for name, value in fitting.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())


def sized(size: float, second: nn.Module) -> ResNet:
    """Its first module puts out the sum of the image's pixels times `size`, 192 times."""
    first = nn.Linear(192, 192, bias=False)
    nn.init.constant_(first.weight, size)
    return network(first, second, features=192, pool=False, flatten=True)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_that_other_images_matter_is_seen_at_any_size(size):
    with pytest.raises(TrainingError, match=r"module 1 \(part1\) makes something else of an image"):
        check_fits(sized(size, Centring()), IMAGE, 2)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30, float("inf"), float("nan")])
def test_what_is_large_or_no_number_is_not_taken_for_it(size):
    check_fits(sized(size, nn.Linear(192, 192)), IMAGE, 2)


def opened(experiment: Experiment, digits: PreparedDataset) -> Session:
    device = choose_device(experiment.runtime)
    return open_session(experiment, digits, seed=0, device=device, recorder=Recorder(device))


def test_a_session_takes_a_network_of_ones_own_and_refuses_what_does_not_fit(experiment, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = opened(experiment, digits)
    with pytest.raises(TrainingError, match=r"module 0 \(part0\) does not take \(1, 8, 8\)"):
        session.with_network(network(classes=10))
    with pytest.raises(TrainingError, match="must be a logit for each of the 10 classes"):
        session.with_network(network(ConvolutionalStem(1, 4), PlainBlock(4)))
    own = session.with_network(network(ConvolutionalStem(1, 4), PlainBlock(4), classes=10))
    assert attrs.evolve(own, network=session.network, own_network=False) == session
    train_boostresnet(own)
    assert [row["module"] for row in own.recorder.rows["rounds"]] == ["part0", "part1"]
    assert all(parameter.requires_grad for parameter in own.network.parameters()), "nothing stays frozen"
    again = session.with_network(own.network.requires_grad_(False))
    assert all(parameter.requires_grad for parameter in again.network.parameters())


def test_a_network_that_cannot_be_moved_is_refused_in_one_line(experiment, digits):
    class Volume(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 1, 3, padding=1)

        def forward(self, g: Tensor) -> Tensor:
            return g + self.conv(g[:, None])[:, 0]

    session = opened(experiment, digits)
    lazy = network(nn.Flatten(), nn.LazyLinear(12), classes=10, pool=False, stage_starts=(1,))
    with pytest.raises(TrainingError, match=r"^rounds\.1\.weight has no shape yet; send a batch through the network"):
        session.with_network(lazy)
    volume = network(ConvolutionalStem(1, 4), Volume(), classes=10)
    with pytest.raises(TrainingError, match=r"^rounds\.1\.conv\.weight has 5 dimensions, .*; set runtime\.fast"):
        session.with_network(volume)
    plain = attrs.evolve(
        session, experiment=attrs.evolve(experiment, runtime=attrs.evolve(experiment.runtime, fast=False))
    )
    assert plain.with_network(volume).network is volume
    with pytest.raises(TrainingError, match=r"^the network is a Linear; put its modules and head into a ResNet"):
        session.with_network(nn.Linear(2, 2))


def test_weights_handed_back_are_a_copy_and_tied_ones_are_kept(experiment, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Tied(nn.Module):
        """The same convolution twice."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(4, 4, 3, padding=1)
            self.second = self.first

        def forward(self, g: Tensor) -> Tensor:
            return g + self.second(torch.relu(self.first(g)))

    own = network(ConvolutionalStem(1, 4), Tied(), classes=10)
    settings = {"updates_per_block": 2, "experiment": experiment, "checkpoints": tmp_path / "mine"}
    weights = train_boostresnet(own_session(own, digits, **settings)).weights
    before = {name: value.clone() for name, value in weights.items()}
    train_end_to_end(own_session(own, digits, updates_per_block=2, experiment=experiment), updates=2)
    assert all(torch.equal(value, before[name]) for name, value in weights.items()), "trained on, and not followed"
    assert not torch.equal(own.state_dict()["head.linear.weight"], before["head.linear.weight"])


def test_linear_auxiliary_classifiers_take_features_as_well(experiment, digits, tmp_path, monkeypatch):
    """A network without convolutions, whose second stage has fewer features than its first."""
    monkeypatch.chdir(tmp_path)
    linear = attrs.evolve(experiment, boostresnet=attrs.evolve(experiment.boostresnet, auxiliary="linear"))
    modules = [MLPBlock(64, 8), nn.Linear(64, 16), MLPBlock(16, 8)]
    perceptron = network(*modules, features=16, classes=10, pool=False, stage_starts=(1,), flatten=True)
    own = opened(linear, digits).with_network(perceptron)
    outcome = train_boostresnet(own)
    assert [row["module"] for row in own.recorder.rows["rounds"]] == ["part0", "part1", "part2"]
    shapes = {name: tuple(tensor.shape) for name, tensor in outcome.auxiliary.items() if name.endswith("weight")}
    assert shapes == {"0.head.linear.weight": (10, 64), **{f"{i}.head.linear.weight": (10, 16) for i in (1, 2)}}


@pytest.mark.parametrize("train", [train_adaboost_mm, train_gradient_boosting])
def test_boosting_in_label_space_does_not_pretend_to_train_a_network_of_ones_own(
    experiment, digits, tmp_path, monkeypatch, train
):
    """Its weak learners would come from the experiment's model."""
    monkeypatch.chdir(tmp_path)
    session = opened(experiment, digits)
    own = session.with_network(network(ConvolutionalStem(1, 4), PlainBlock(4), classes=10))
    with pytest.raises(TrainingError, match="would not look at a network of your own; leave out with_network") as found:
        train(own)
    assert "\n" not in str(found.value) and not own.recorder.rows["history"]
    assert len(train(session).weights) > 0


def test_training_on_data_of_ones_own_goes_on_where_it_stopped(experiment, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fresh() -> ResNet:
        torch.manual_seed(3)
        return network(ConvolutionalStem(1, 4), PlainBlock(4), PlainBlock(4), classes=10)

    def stop(kind: str, row: dict[str, object]) -> None:
        if kind == "rounds" and row["block"] == 1:
            raise KeyboardInterrupt

    settings = {"updates_per_block": 3, "seed": 5, "experiment": experiment}
    whole = own_session(fresh(), digits, **settings)
    train_boostresnet(whole)
    assert [row["gradient_updates"] for row in whole.recorder.rows["rounds"]] == [3, 3, 3]
    kept = settings | {"checkpoints": tmp_path / "mine"}
    with pytest.raises(KeyboardInterrupt):
        train_boostresnet(own_session(fresh(), digits, observers=(stop,), **kept))
    for _ in range(2):  # and a third call finds everything done
        again = own_session(fresh(), digits, **kept)
        train_boostresnet(again)
        assert again.recorder.rows["rounds"] == whole.recorder.rows["rounds"]
        state = again.network.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in whole.network.state_dict().items())
    assert again.recorder.resumed == 2
    torch.manual_seed(4)
    others = {
        "network": own_session(network(ConvolutionalStem(1, 4), PlainBlock(4), classes=10), digits, **kept),
        "weights": own_session(network(ConvolutionalStem(1, 4), *map(PlainBlock, (4, 4)), classes=10), digits, **kept),
        "seed": own_session(fresh(), digits, **kept | {"seed": 6}),
        "length": own_session(fresh(), digits, **kept | {"updates_per_block": 2}),
        "data": own_session(fresh(), attrs.evolve(digits, content_hash="0"), **kept),
    }
    for name, other in others.items():
        train_boostresnet(other)
        assert other.recorder.resumed == 0, f"the checkpoints of another {name} were taken"
    with pytest.raises(TrainingError, match=r"those of another method; give every training a folder of its own"):
        train_end_to_end(own_session(fresh(), digits, **kept), updates=3)
    alone = kept | {"checkpoints": tmp_path / "end-to-end"}
    for resumed in (0, 1):  # its end is kept, too
        session = own_session(fresh(), digits, **alone)
        assert train_end_to_end(session, updates=3) == 3
        assert session.recorder.resumed == resumed
    assert train_end_to_end(own_session(fresh(), digits, **alone), updates=5) == 5, "and is gone on from"
    with pytest.raises(TrainingError, match="of 5 updates, more than the 4 asked for; give another folder"):
        train_end_to_end(own_session(fresh(), digits, **alone), updates=4)
    with pytest.raises(TrainingError, match="those of another method"):
        train_end_to_end(own_session(fresh(), digits, **alone), updates=4, done=20)
    for done in (-50, 2.5, True, "x"):
        with pytest.raises(TrainingError, match="done must be a number of updates"):
            train_end_to_end(own_session(fresh(), digits, **settings), updates=3, done=done)


def test_checkpoints_are_of_what_the_modules_compute(experiment, digits, tmp_path, monkeypatch):
    """A plain attribute and a forward of their own are in neither repr nor weights."""
    monkeypatch.chdir(tmp_path)

    class Scaled(PlainBlock):
        def __init__(self, channels: int, scale: float) -> None:
            super().__init__(channels)
            self.scale = scale

        def forward(self, g: Tensor) -> Tensor:
            return self.scale * super().forward(g)

    class Negated(Scaled):
        def forward(self, g: Tensor) -> Tensor:
            return -super().forward(g)

    Negated.__qualname__, Negated.__name__ = Scaled.__qualname__, Scaled.__name__
    settings = {"updates_per_block": 2, "experiment": experiment, "checkpoints": tmp_path / "mine"}
    for block, scale, resumed in ((Scaled, 1.0, 0), (Scaled, 2.0, 0), (Negated, 1.0, 0), (Scaled, 2.0, 1)):
        torch.manual_seed(3)
        session = own_session(network(ConvolutionalStem(1, 4), block(4, scale), classes=10), digits, **settings)
        train_boostresnet(session)
        assert session.recorder.resumed == resumed, (block.__mro__, scale)


@pytest.mark.parametrize("train", [train_boostresnet, lambda session: train_end_to_end(session, updates=6)])
def test_dropout_goes_by_the_seed_and_goes_on_where_it_stopped(train, experiment, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    often = attrs.evolve(
        experiment,
        checkpoint=attrs.evolve(experiment.checkpoint, updates=1),
        evaluation=attrs.evolve(experiment.evaluation, interval=1),
    )

    used: list[int] = []

    @contextlib.contextmanager
    def watched(device: torch.device) -> Iterator[Callable[[int], None]]:
        with seeding_modules(device) as seed_modules:
            yield lambda value: (used.append(value), seed_modules(value))[1]

    monkeypatch.setattr(update, "seeding_modules", watched)
    elsewhere = itertools.count()

    def trained(stop_after: int = 0, **others) -> tuple[dict[str, Tensor], int]:
        torch.manual_seed(3)
        own = network(ConvolutionalStem(1, 4), Grouped(), Grouped(), classes=10)
        torch.manual_seed(next(elsewhere))  # which must not matter
        before = torch.random.get_rng_state()

        def stop(kind: str, row: dict[str, object]) -> None:
            if kind == "history" and row["gradient_updates"] == stop_after:
                raise KeyboardInterrupt

        session = own_session(own, digits, updates_per_block=3, seed=5, experiment=often, observers=(stop,), **others)
        with pytest.raises(KeyboardInterrupt) if stop_after else contextlib.nullcontext():
            train(session)
        assert torch.equal(torch.random.get_rng_state(), before)
        return own.state_dict(), session.recorder.resumed

    def equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
        return all(torch.equal(value, theirs[name]) for name, value in ours.items())

    whole, _ = trained()
    phases, length = (3, 3) if train is train_boostresnet else (1, 6)
    wanted = [stream_seed(5, "modules", phase) + made for phase in range(phases) for made in range(length)]
    assert used == wanted
    assert equal(whole, trained()[0])
    kept = {"checkpoints": tmp_path / "mine"}
    trained(stop_after=5, **kept)  # within the second block
    used.clear()
    resumed, times = trained(**kept)
    assert times == 1
    assert used == wanted[-len(used) :] and 0 < len(used) < len(wanted)
    assert equal(whole, resumed)


def test_what_is_no_length_is_named(experiment, digits):
    for wrong in (0, -3, 2.5, "10", None, True):
        with pytest.raises(TrainingError, match=r"^updates_per_block is .*; it counts gradient updates and must be an"):
            own_session(
                network(ConvolutionalStem(1, 4), classes=10), digits, updates_per_block=wrong, experiment=experiment
            )
    session = own_session(
        network(ConvolutionalStem(1, 4), classes=10), digits, updates_per_block=1, experiment=experiment
    )
    with pytest.raises(TrainingError, match=r"^updates is 0; it counts gradient updates"):
        train_end_to_end(session, updates=0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data": {"train": 1}}, "data must be what datasets.prepared.assemble gives; got dict {'train': 1}"),
        ({"seed": -1}, "seed must be a whole number from 0 on; got int -1"),
        ({"seed": 1.0}, "seed must be a whole number from 0 on; got float 1.0"),
        ({"experiment": "cifar10"}, "experiment must be an Experiment, as of config.load_defaults; got str 'cifar10'"),
        ({"checkpoints": 3}, "checkpoints must be a folder; got int 3"),
        (
            {"observers": print},
            "observers must be a tuple of functions, as in (progress_of(...),); got builtin_function",
        ),
        ({"observers": None}, "observers must be a tuple of functions, as in (progress_of(...),); got NoneType None"),
        ({"observers": (1,)}, "observers must be a tuple of functions, as in (progress_of(...),); got tuple (1,)"),
    ],
)
def test_arguments_of_another_kind_are_named(experiment, digits, changes, problem):
    settings = {"data": digits, "updates_per_block": 1, "experiment": experiment} | changes
    with pytest.raises(TrainingError, match=f"^{re.escape(problem)}"):
        own_session(network(ConvolutionalStem(1, 4), classes=10), **settings)


@pytest.mark.parametrize(
    "first", [train_boostresnet, lambda session: train_end_to_end(session, updates=2), train_gradient_boosting]
)
def test_a_session_is_for_one_training(experiment, digits, tmp_path, monkeypatch, first):
    monkeypatch.chdir(tmp_path)
    session = opened(experiment, digits)
    first(session)
    rows = {kind: list(found) for kind, found in session.recorder.rows.items()}
    for again in (first, train_boostresnet, lambda session: train_end_to_end(session, updates=2), train_adaboost_mm):
        with pytest.raises(TrainingError, match=r"^this session has been trained in already; open another one for"):
            again(session)
    assert session.recorder.rows == rows


def test_without_parameters_the_line_says_where_they_are_looked_for(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"params\.yaml.*run from the repository root"):
        own_session(network(ConvolutionalStem(1, 4), classes=10), digits, updates_per_block=3)
