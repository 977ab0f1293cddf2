"""Networks: counted by hand, shaped as stated, and initialised by the seed alone."""

from __future__ import annotations

import attrs
import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from replication.config import ModelParams
from replication.errors import ConfigError
from replication.models import build_network
from replication.models.build import count_parameters, layer_table, stage_sizes
from replication.models.ensemble import build_weak_learner
from replication.models.hypothesis import HypothesisFactory
from replication.models.resnet import Head, MLPBlock, PlainBlock, ReleasedBlock, ResNet

RELEASED = ModelParams(reading="released", blocks=24, width=16)
PAPER_TEXT = ModelParams(reading="paper-text", blocks=25, width=15)
MLP = ModelParams(reading="mlp", blocks=10, width=1024)
SMALL = ModelParams(reading="released", blocks=6, width=4)


def test_released_network_on_cifar10_has_the_hand_counted_layers_and_parameters():
    rows = {row.name: row for row in layer_table(build_network(RELEASED, (3, 32, 32), 10, 0), (3, 32, 32))}
    stage = {k: sum(r.parameters for name, r in rows.items() if name.startswith(f"stage{k}")) for k in (1, 2, 3)}
    assert rows["stem"].parameters == 3 * 16 * 9 + 2 * 16 == 464
    assert stage[1] == 8 * (2 * 16 * 16 * 9 + 4 * 16) == 37_376
    assert stage[2] == (16 * 32 * 9 + 32 * 32 * 9 + 4 * 32) + 7 * (2 * 32 * 32 * 9 + 4 * 32) == 143_872
    assert stage[3] == (32 * 64 * 9 + 64 * 64 * 9 + 4 * 64) + 7 * (2 * 64 * 64 * 9 + 4 * 64) == 573_440
    assert rows["head"].parameters == 64 * 10 + 10 == 650
    assert sum(row.parameters for row in rows.values()) == 755_802
    assert sum(row.layers for row in rows.values()) == 50
    assert len(rows) == 26  # 25 rounds and the head


def test_released_network_halves_the_resolution_where_a_stage_starts():
    rows = {row.name: row.output_shape for row in layer_table(build_network(RELEASED, (3, 32, 32), 10, 0), (3, 32, 32))}
    assert rows["stage1.block8"] == (16, 32, 32)
    assert rows["stage2.block1"] == (32, 16, 16)
    assert rows["stage3.block8"] == (64, 8, 8)
    assert rows["head"] == (10,)


def test_paper_text_network_parameters_by_hand():
    network = build_network(PAPER_TEXT, (3, 32, 32), 10, 0)
    assert network.residual_blocks == 25
    assert count_parameters(network) == (3 * 15 * 9 + 30) + 25 * (2 * 15 * 15 * 9 + 60) + (15 * 32 * 32 * 10 + 10)
    assert count_parameters(network) == 256_795


def test_mlp_network_parameters_by_hand_and_no_round_for_flattening():
    network = build_network(MLP, (1, 28, 28), 10, 0)
    assert len(network.rounds) == network.residual_blocks == 10
    assert count_parameters(network) == 10 * (784 * 1024 + 1024 + 1024 * 784 + 784) + 7850 == 16_082_250


@pytest.mark.parametrize(
    ("model", "shape", "parameters"),
    [
        (RELEASED, (3, 32, 32), 464 + (2 * 16 * 16 * 9 + 64) + (16 * 10 + 10)),
        (PAPER_TEXT, (3, 32, 32), 435 + (2 * 15 * 15 * 9 + 60) + (15 * 32 * 32 * 10 + 10)),
        (MLP, (1, 28, 28), (784 * 1024 + 1024 + 1024 * 784 + 784) + 7850),
    ],
)
def test_a_weak_learner_is_one_block_and_its_parameters_by_hand(model, shape, parameters):
    learner = build_weak_learner(model, shape, 10, 0)
    assert learner.residual_blocks == 1
    assert count_parameters(learner) == parameters


def test_a_weak_learner_with_a_block_of_every_stage_and_its_parameters_by_hand():
    learner = build_weak_learner(RELEASED, (3, 32, 32), 10, 0, "stages")
    assert learner.residual_blocks == 3
    # As in the network: the stem, the first block of each stage (see `build`), and its linear classifier.
    assert count_parameters(learner) == 464 + (2 * 16 * 16 * 9 + 64) + 13_952 + 55_552 + 650
    for model, shape in ((PAPER_TEXT, (3, 32, 32)), (MLP, (1, 28, 28))):  # which have no stages
        alike = [build_weak_learner(model, shape, 10, 0, modules).state_dict() for modules in ("block", "stages")]
        assert alike[0].keys() == alike[1].keys()
        for name, value in alike[0].items():
            torch.testing.assert_close(value, alike[1][name], rtol=0, atol=0)


@pytest.mark.parametrize("model", [RELEASED, PAPER_TEXT, MLP, SMALL])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 17)])
def test_any_image_size(model, shape):
    logits = build_network(model, shape, 7, 0).eval()(torch.randn(2, *shape))
    assert logits.shape == (2, 7)


def test_stage_sizes_are_even_and_complete():
    assert stage_sizes(24) == (8, 8, 8)
    assert stage_sizes(8) == (3, 3, 2)
    assert all(sum(stage_sizes(blocks)) == blocks for blocks in range(3, 60))


def test_too_few_blocks_is_one_clear_line():
    with pytest.raises(ConfigError, match=r"model\.blocks must be at least 3"):
        build_network(ModelParams(reading="released", blocks=2, width=4), (3, 8, 8), 10, 0)


def test_the_seed_alone_fixes_the_initialisation_and_the_global_generator_is_untouched():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (build_network(SMALL, (3, 8, 8), 10, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_convolutions_start_by_their_fan_out_and_heads_without_bias():
    network = build_network(RELEASED, (3, 32, 32), 10, 0)
    first_of_stage_2 = network.rounds[9].residual[0].weight
    assert first_of_stage_2.shape == (32, 16, 3, 3)
    assert first_of_stage_2.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)  # of 4,608, good to 1%
    for model in (RELEASED, PAPER_TEXT, MLP):
        assert not build_network(model, (1, 8, 8), 10, 0).head.linear.bias.any()


def test_the_type_a_shortcut_takes_every_second_pixel_and_pads_with_zeros():
    block = ReleasedBlock(2, 4, stride=2).eval()
    nn.init.zeros_(block.residual[-1].weight)  # the last batch norm: f = 0, so only the shortcut is left
    g = torch.rand(1, 2, 4, 4)
    out = block(g)
    assert torch.equal(out[:, :2], g[:, :, ::2, ::2])
    assert torch.equal(out[:, 2:], torch.zeros(1, 2, 2, 2))


def out_of_place(block, g):
    """A block's forward pass as its formula has it: every layer with an output of its own."""
    f = block.residual
    if isinstance(block, MLPBlock):
        return f[2](torch.relu(f[0](g))) + g
    total = f[4](f[3](torch.relu(f[1](f[0](g)))))
    if isinstance(block, PlainBlock):
        return total + g
    shortcut = functional.pad(g[:, :, :: block.stride, :: block.stride], (0, 0, 0, 0, 0, block.new_channels))
    return torch.relu(total + shortcut)


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (ReleasedBlock(4, 4, stride=1), (5, 4, 6, 6)),
        (ReleasedBlock(4, 8, stride=2), (5, 4, 6, 6)),
        (PlainBlock(4), (5, 4, 6, 6)),
        (MLPBlock(12, 7), (5, 12)),
    ],
    ids=["released", "stage start", "paper-text", "mlp"],
)
def test_overwriting_changes_no_bit_of_output_and_gradients(block, shape):
    """And not the input: with a frozen prefix it lies in the feature store."""
    g = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    kept, results = g.clone(), []
    for forward in (type(block).__call__, out_of_place):
        inputs = g.clone().requires_grad_()
        # A leaf may not be overwritten: a block that did so to its input would fail here.
        outputs = forward(block, inputs)
        gradients = torch.autograd.grad(outputs.square().sum(), [inputs, *block.parameters()])
        results.append([outputs.detach(), *gradients])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    with torch.no_grad():
        block.eval()(g)
    assert torch.equal(g, kept)


def test_a_block_with_zero_residual_is_the_identity_in_the_paper_text_reading():
    network = build_network(PAPER_TEXT, (3, 8, 8), 10, 0).eval()
    block = network.rounds[1]
    nn.init.zeros_(block.residual[-1].weight)
    g = torch.randn(2, 15, 8, 8)
    assert torch.equal(block(g), g)


def test_the_auxiliary_classifier_of_the_first_stage_takes_the_later_transitions_along():
    network = build_network(RELEASED, (3, 32, 32), 10, 0)
    factory = HypothesisFactory(network, "transition-blocks", 0, (3, 32, 32))
    transitions = {index: list(factory.hypothesis(index).auxiliary.transitions) for index in range(25)}
    second, third = network.rounds[9], network.rounds[17]
    assert all(transitions[index] == [second, third] for index in range(9))
    assert all(transitions[index] == [third] for index in range(9, 17))
    assert all(transitions[index] == [] for index in range(17, 25))
    assert factory.hypothesis(24).auxiliary.head is network.head


def test_linear_auxiliary_classifiers_fit_their_stage_and_are_carried_over_within_it():
    network = build_network(SMALL, (3, 8, 8), 10, 0)
    factory = HypothesisFactory(network, "linear", 0, (3, 8, 8))
    heads = [factory.hypothesis(index).auxiliary.head for index in range(7)]
    assert [head.linear.in_features for head in heads] == [4, 4, 4, 8, 8, 16, 16]
    assert heads[0] is heads[2] and heads[3] is heads[4] and heads[5] is heads[6] is network.head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = Head(4, 10, pool=True)
    assert torch.equal(heads[0].linear.weight, expected.linear.weight), "the seed alone fixes it"


def test_flattened_linear_classifiers_see_whole_feature_maps_before_the_last_stage():
    network = build_network(SMALL, (3, 8, 8), 10, 0)
    factory = HypothesisFactory(network, "linear-flattened", 0, (3, 8, 8))
    heads = [factory.hypothesis(index).auxiliary.head for index in range(7)]
    assert [head.linear.in_features for head in heads] == [4 * 8 * 8] * 3 + [8 * 4 * 4] * 2 + [16] * 2
    assert heads[0] is heads[2] and heads[3] is heads[4] and heads[5] is heads[6] is network.head
    g = torch.randn(5, 3, 8, 8)
    out = network.rounds[0](g)
    weight, bias = heads[0].linear.weight, heads[0].linear.bias
    torch.testing.assert_close(factory.hypothesis(0)(g), out.flatten(1) @ weight.T + bias)


def test_linear_classifiers_found_anew_are_of_the_heads_kind_in_the_last_stage():
    network = build_network(attrs.evolve(SMALL, reading="paper-text", blocks=3), (3, 8, 8), 10, 0)
    factory = HypothesisFactory(network, "linear-anew", 0, (3, 8, 8))
    shapes = {factory.hypothesis(index).auxiliary.head.linear.weight.shape for index in range(len(network.rounds))}
    assert shapes == {network.head.linear.weight.shape}
    assert not network.head.pool


@pytest.mark.parametrize("index", range(7))
def test_linear_classifiers_found_anew_start_afresh_in_every_round_and_end_as_the_networks_head(index):
    network = build_network(SMALL, (3, 8, 8), 10, 0)
    factory, carried = (HypothesisFactory(network, kind, 0, (3, 8, 8)) for kind in ("linear-anew", "linear"))
    head, others = factory.hypothesis(index).auxiliary.head, set(range(7)) - {index}
    assert all(factory.hypothesis(other).auxiliary.head is not head for other in others)
    assert (head is network.head) == (index == 6)
    assert factory.hypothesis(index).auxiliary.head is head, "but one round has one"
    assert head.linear.weight.shape == carried.hypothesis(index).auxiliary.head.linear.weight.shape
    weights = {factory.hypothesis(other).auxiliary.head.linear.weight[0, 0].item() for other in range(7)}
    assert len(weights) == 7, "each has a start of its own"


def without_a_convolution_at_the_end() -> ResNet:
    """Three stages on images of 2x4x4: (3, 4, 4), of 12 channels after a convolution, then 5 features, then 6."""
    shuffled = nn.Sequential(nn.Conv2d(2, 12, 3, padding=1, stride=2), nn.BatchNorm2d(12), nn.PixelShuffle(2))
    modules = [shuffled, nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), MLPBlock(5, 7), nn.Linear(5, 6)]
    head = Head(6, 10, pool=False)
    return ResNet(modules, [f"part{index}" for index in range(5)], head, stage_starts=(2, 4), flatten=False)


def test_linear_auxiliary_classifiers_go_by_what_the_modules_put_out():
    """Whatever layers they are made of; and they are computed without a trace in the network or the generator."""
    network = without_a_convolution_at_the_end()
    network.rounds[0].eval()
    before, generator = {name: t.clone() for name, t in network.state_dict().items()}, torch.get_rng_state()
    factory = HypothesisFactory(network, "linear", 0, (2, 4, 4))
    hypotheses = [factory.hypothesis(index) for index in range(5)]
    assert [one.auxiliary.head.linear.in_features for one in hypotheses] == [3, 3, 5, 5, 6]
    assert [one.auxiliary.head.pool for one in hypotheses] == [True, True, False, False, False]
    assert [module.training for module in network.rounds] == [False, True, True, True, True]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    g = torch.randn(7, 2, 4, 4)
    for hypothesis in hypotheses:
        assert hypothesis(g).shape == (7, 10)
        g = hypothesis.block(g)


def test_linear_auxiliary_classifiers_come_back_from_what_was_saved():
    network = without_a_convolution_at_the_end()
    factory, again = (HypothesisFactory(network, "linear", seed, (2, 4, 4)) for seed in (0, 1))
    heads = [factory.hypothesis(index).auxiliary.head for index in (0, 2)]
    again.load_state_dict(factory.state_dict())
    for index, head in zip((1, 3), heads, strict=True):
        other, g = again.hypothesis(index).auxiliary.head, torch.randn(7, 3, 4, 4) if index == 1 else torch.randn(7, 5)
        assert other is not head and torch.equal(other(g), head(g))


def test_the_last_hypothesis_module_is_the_network():
    network = build_network(SMALL, (3, 8, 8), 10, 0).eval()
    images = torch.randn(5, 3, 8, 8)
    g = images
    for module in network.rounds[:-1]:
        g = module(g)
    last = HypothesisFactory(network, "transition-blocks", 0, (3, 8, 8)).hypothesis(6)
    assert torch.equal(last.eval()(g), network(images))


def test_building_leaves_every_global_generator_as_it_was(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _seed: pytest.fail("seeds the GPUs"))
    before = torch.get_rng_state()
    network = build_network(SMALL, (3, 8, 8), 4, 0)
    build_weak_learner(SMALL, (3, 8, 8), 4, 0)
    HypothesisFactory(network, "linear", 0, (3, 8, 8)).hypothesis(0)
    assert torch.equal(torch.get_rng_state(), before)
