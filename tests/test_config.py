"""params.yaml: every mistake is one line that names the key; every valid object survives the way through run.json."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import attrs
import pytest
import yaml
from hypothesis import given, settings, strategies as st

from replication.config import (
    CHANGE_NO_RUN,
    COMMON,
    DATASETS,
    Experiment,
    OtherBudget,
    changed,
    experiment_from_dict,
    load_budgets,
    load_defaults,
    load_experiment,
    load_lists,
    load_variants,
)
from replication.config.strict_yaml import load_strictly
from replication.errors import ConfigError

PARAMS = Path(__file__).resolve().parent.parent / "params.yaml"
DOCUMENT = yaml.safe_load(PARAMS.read_text())


def write(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def document_with(keys: str, value: object) -> dict:
    document = copy.deepcopy(DOCUMENT)
    *parents, last = keys.split(".")
    section = document
    for key in parents:
        section = section[key]
    section[last] = value
    return document


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_committed_parameters_are_valid_and_survive_json(dataset):
    experiment = load_experiment(dataset, PARAMS)
    assert experiment_from_dict(json.loads(json.dumps(experiment.as_dict()))) == experiment


def test_the_defaults_know_nothing_of_the_datasets_own_settings(tmp_path):
    path = write(tmp_path, document_with("experiments.cifar10.evaluation", {"interval": 50_000}))
    assert load_experiment("cifar10", path).evaluation.interval == 50_000
    defaults = load_defaults("cifar10", path)
    assert defaults.as_dict()["evaluation"] == DOCUMENT["defaults"]["evaluation"]
    assert defaults.dataset == "cifar10" and not defaults.augmentation.active
    with pytest.raises(ConfigError, match=r"defaults: evaluation\.interval must be at least 1"):
        load_defaults("cifar10", write(tmp_path, document_with("defaults.evaluation.interval", 0)))


def test_the_papers_numbers_are_the_defaults():
    experiment = load_experiment("cifar10", PARAMS)
    assert (experiment.optimizer.learning_rate, experiment.optimizer.gradient_clamp) == (0.001, 0.1)
    assert (experiment.optimizer.batch_size, experiment.boostresnet.updates_per_block) == (100, 10_000)
    assert experiment.boostresnet.gamma_threshold == -0.0001
    assert experiment.boostresnet.check_interval == 10_000
    assert load_experiment("svhn", PARAMS).boostresnet.check_interval == 5_000
    assert load_experiment("mnist", PARAMS).model.width == 1024
    assert experiment.augmentation.crop_padding == 3 and DOCUMENT["defaults"]["budget"] == 1.0


@pytest.mark.parametrize("line", PARAMS.read_text().split("\ndefaults:\n")[1].split("\nexperiments:\n")[0].splitlines())
def test_every_default_states_its_source(line):
    """A leaf of `defaults` is followed by [P], [A] or [?], or is one of the few that change no result."""
    leaf = re.match(r"    (\w+): +\S+", line)
    of_the_machine = {"device", "threads", "fast", "feature_precision"}
    without_source = {"allow_unofficial", "crop_padding", "flip", "batch_size"} | of_the_machine
    if leaf and leaf[1] not in without_source and not leaf[1].endswith("_limit_gib"):
        assert re.search(r"\[[PA?]|\[P\]|Figure 3 shows", line), line


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (
            "defaults.optimizer.learning_rat",
            0.9,
            r"'optimizer\.learning_rat'; did you mean 'learning_rate'\? known here",
        ),
        ("defaults.optimizer.momentum", 0.9, r"unknown parameter 'optimizer\.momentum'; known here are learning_rate"),
        ("experiments.digits.boostresnet", {"gama_threshold": 0}, r"unknown parameter 'boostresnet\.gama_threshold'"),
        ("defaults.budget", "all", r"budget must be float, got 'all'"),
        ("defaults.budget", True, r"budget must be float, got True"),
        ("defaults.budget", "1e-3", r"budget must be float, got '1e-3' \(YAML takes that for text: it wants a point"),
        ("defaults.budget", 0, r"budget must be above 0"),
        ("defaults.budget", float("nan"), r"budget must be above 0"),
        ("defaults.optimizer.batch_size", 1.5, r"optimizer\.batch_size must be int, got 1\.5"),
        ("defaults.optimizer.batch_size", 0, r"optimizer\.batch_size must be at least 1"),
        ("defaults.optimizer.gradient_clamp", -1, r"optimizer\.gradient_clamp must be above 0"),
        ("defaults.model.reading", "resnet", r"model\.reading must be one of released, paper-text, mlp, got 'resnet'"),
        ("defaults.model", 3, r"model: must be a section"),
        ("defaults.runtime.device", "gpu", r"runtime\.device must be auto, cpu, cuda or cuda:N"),
        ("defaults.runtime.device", "cuda:99999999999999999999", r"runtime\.device must be auto, cpu, cuda or cuda:N"),
        ("defaults.runtime.device", "cuda:\u0661", r"runtime\.device must be auto, cpu, cuda or cuda:N"),
        ("defaults.runtime.device", "cuda:1\n", r"runtime\.device must be auto, cpu, cuda or cuda:N"),
        ("depth.blocks", [1, 1], r"depth\.blocks must be different whole numbers from 1 to 1000, got \[1, 1\]"),
        ("depth.blocks", [1, 1001], r"depth\.blocks must be different whole numbers from 1 to 1000"),
        ("cost.depths", [9, 10**8], r"cost\.depths must be different whole numbers from 1 to 1000"),
        ("experiments.digits", False, r"experiments\.digits: must be a section of named values"),
        ("experiments.cifar100", {}, r"unknown dataset 'experiments\.cifar100'"),
        ("extra", {}, r"unknown section 'extra'"),
        ("cost.repetitions", 0, r"cost\.repetitions must be at least 1"),
        ("cost.depths", [9, "many"], r"cost\.depths must be a list of whole numbers"),
        ("experiments.digits.cost", {"repetitions": 3}, r"'cost' is the same for every dataset"),
    ],
)
def test_mistakes_name_the_key(tmp_path, keys, value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_experiment("digits", write(tmp_path, document_with(keys, value)))
    assert "\n" not in str(caught.value)


def test_missing_keys_files_and_broken_yaml(tmp_path):
    document = copy.deepcopy(DOCUMENT)
    del document["defaults"]["optimizer"]["learning_rate"]
    with pytest.raises(ConfigError, match=r"missing parameter 'optimizer\.learning_rate'"):
        load_experiment("digits", write(tmp_path, document))
    with pytest.raises(ConfigError, match="cannot read"):
        load_experiment("digits", tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="unknown dataset 'imagenet'; choose one of digits"):
        load_experiment("imagenet", PARAMS)
    broken = tmp_path / "broken.yaml"
    broken.write_text("defaults: [\n")
    with pytest.raises(ConfigError, match="no valid YAML"):
        load_experiment("digits", broken)


METHODS_WITHOUT_E2E = {"from_scratch": ["boostresnet"], "refined": [], "all": ["boostresnet"], "analysed": ["e2e"]}
ONLY_REFINED = {
    "from_scratch": ["e2e"], "refined": ["boostresnet-refined"], "all": ["e2e", "boostresnet-refined"], "analysed": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("datasets", ["digits", "imagenet"], "unknown name 'imagenet'"),
        ("datasets", ["digits", "digits"], "different names"),
        ("ablations_of", ["imagenet"], "ablations_of: unknown name 'imagenet'"),
        ("budgets", {"digits": {}}, "datasets names cifar10, which has no section in budgets; add `cifar10: {}` there"),
        ("seeds", [0, -1], "-1 is no seed"),
        ("seeds", [True], "True is no seed"),
        ("seeds", [], "different whole numbers"),
        ("datasets", [], "datasets is empty; name at least one of digits"),
        ("methods.from_scratch", [], "from_scratch is empty"),
        ("methods.from_scratch", ["boostresnet-refined"], "from_scratch: unknown name 'boostresnet-refined'"),
        ("methods.refined", ["boostresnet"], "refined: unknown name 'boostresnet'; known are boostresnet-refined"),
        ("methods.analysed", ["hist-gradient-boosting"], "analysed: unknown name 'hist-gradient-boosting'"),
        ("methods", METHODS_WITHOUT_E2E, "analysed: 'e2e' is not in methods.all"),
        ("methods", ONLY_REFINED, "refined starts from runs of boostresnet; add it to from_scratch"),
        ("methods.all", ["boostresnet"], "of from_scratch and refined together"),
        ("methods.some", [], "from_scratch, refined, all and analysed"),
    ],
)
def test_mistakes_in_the_lists(tmp_path, keys, value, message):
    with pytest.raises(ConfigError, match=message):
        load_lists(write(tmp_path, document_with(keys, value)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    budget: 0.005", "    budget: 0.005\n    budget: 7.0", r"line \d+: 'budget' is there twice; leave one"),
        ("\ncost:", "\ncheckpoint: {updates: 3, minutes: 1.0}\ncost:", r"line \d+: 'checkpoint' is there twice"),
        ("minutes: 10.0", "minutes: 1:30", r"'minutes': '1:30' is no decimal number to YAML; write it without"),
        ("minutes: 10.0", "minutes: 1:30.5", r"'minutes': '1:30\.5' is no decimal number"),
        ("updates: 1000 ", "updates: 010 ", r"'updates': '010' is no decimal number"),
        ("seeds: [0, 1, 2]", "seeds: [0, 010]", r"line \d+: 'seeds': '010' is no decimal number"),
    ],
)
def test_yaml_that_says_something_else_than_it_looks_like(tmp_path, old, new, message):
    path, text = tmp_path / "params.yaml", PARAMS.read_text()
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        load_experiment("digits", path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_key_in_different_sections_and_a_quoted_time_are_no_mistakes():
    assert load_strictly("a: {b: 0, c: '1:30'}\nd: {b: 10}") == {"a": {"b": 0, "c": "1:30"}, "d": {"b": 10}}


def test_an_unknown_dataset_is_shown_in_one_line():
    with pytest.raises(ConfigError, match=r"unknown dataset 'a\\nb'") as caught:
        load_experiment("a\nb", PARAMS)
    assert "\n" not in str(caught.value)


def test_variants_change_what_they_say_and_nothing_else():
    default = load_experiment("digits", PARAMS)
    variants = {variant.name: variant for variant in load_variants("digits", PARAMS)}
    assert list(variants) == [
        "oracle-exponential", "initial-edge", "auxiliary-linear", "auxiliary-linear-flattened",
        "auxiliary-linear-anew", "paper-text", "prefix-in-training-mode", "no-clamp", "no-shrinkage",
        "larger-weak-learners", "larger-weak-learners-no-shrinkage", "adaboost-larger",
        "adaboost-resampled", "adaboost-resampled-larger", "gamma-checks", "gamma-checks-initial-edge",
    ]  # fmt: skip
    assert variants["no-shrinkage"].methods == ("gradient-boosting",)
    for name in ("gamma-checks", "gamma-checks-initial-edge"):  # as the default has it, no check can end a block early
        params = variants[name].experiment.boostresnet
        assert 5 * params.check_interval == params.updates_per_block == default.boostresnet.check_interval
    on_cifar10 = {variant.name for variant in load_variants("cifar10", PARAMS)}
    assert "no-augmentation" in on_cifar10  # it changes nothing on digits
    assert variants["no-clamp"].datasets == ("digits",) and "no-clamp" not in on_cifar10
    no_shrinkage, resampled, at_full_length, smaller = load_variants("mnist", PARAMS)
    assert no_shrinkage == attrs.evolve(variants["no-shrinkage"], experiment=no_shrinkage.experiment)
    assert resampled.name == "adaboost-resampled" and resampled.methods == at_full_length.methods == ("adaboost-mm",)
    assert resampled.changes == at_full_length.changes == {"weak_learners.adaboost_training": "resampled"}
    assert at_full_length.experiment == attrs.evolve(resampled.experiment, budget=1.0)
    assert smaller.name == "smaller-steps" and smaller.changes == {"optimizer.learning_rate": 0.0003}
    on_mnist = load_experiment("mnist", PARAMS)
    assert smaller.default(on_mnist) == attrs.evolve(on_mnist, budget=1.0)
    assert attrs.evolve(smaller.experiment, optimizer=on_mnist.optimizer) == smaller.default(on_mnist)
    paper = variants["paper-text"]
    assert paper.methods == ("boostresnet",)
    assert paper.changes == {
        "model.reading": "paper-text", "model.width": 15, "boostresnet.auxiliary": "linear",
    }  # fmt: skip
    assert paper.experiment.model.blocks == default.model.blocks
    wanted, found = default.as_dict(), paper.experiment.as_dict()
    for name, value in paper.changes.items():
        section, key = name.split(".")
        wanted[section][key] = value
    assert found == wanted


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("ablations", [], r"ablations: must be a section of named values, got \[\]"),
        ("ablations.no-clamp", None, r"ablations\.no-clamp: must be a section of named values, got None"),
        (
            "ablations.default",
            {},
            r"'ablations\.default': a variant's name is .* and not 'default'",
        ),
        ("ablations.../x", {}, r"a variant's name is of a-z"),
        ("ablations.no-clamp.optimiser", {}, r"unknown section 'ablations\.no-clamp\.optimiser'; a variant may have"),
        ("ablations.no-clamp.data", {"include_extra": False}, r"unknown section 'ablations\.no-clamp\.data'"),
        ("ablations.no-clamp.model", 3, r"ablations\.no-clamp\.model: must be a section of named values, got 3"),
        ("ablations.no-clamp.optimizer.clamp", 1, r"unknown parameter 'ablations\.no-clamp\.optimizer\.clamp'; known"),
        (
            "ablations.no-clamp.optimizer.batch_size",
            0,
            r"no-clamp\.optimizer\.batch_size must be at least 1",
        ),
        ("ablations.no-clamp.methods", ["boostresnet-refined"], r"ablations\.no-clamp\.methods: unknown name 'boost"),
        (
            "ablations.no-clamp.methods",
            ["e2e", "e2e"],
            r"ablations\.no-clamp\.methods must be a list of different names",
        ),
        ("ablations.no-clamp.datasets", "digits", r"ablations\.no-clamp\.datasets must be a list of different names"),
        (
            "ablations.no-clamp.datasets",
            ["cifar"],
            r"ablations\.no-clamp\.datasets: unknown name 'cifar'; did you mean 'cifar10'\? known",
        ),
        ("ablations.no-clamp.budget", 0, r"ablations\.no-clamp\.budget must be above 0"),
        ("ablations.no-clamp.budget", {"x": 1}, r"ablations\.no-clamp\.budget must be float, got"),
        ("defaults.budget", 0, r"defaults: budget must be above 0"),
    ],
)
def test_mistakes_in_variants_name_the_key(tmp_path, keys, value, message):
    document = copy.deepcopy(DOCUMENT)
    if keys == "ablations.../x":
        document["ablations"]["../x"] = value
    else:
        document = document_with(keys, value)
    with pytest.raises(ConfigError, match=message) as caught:
        load_variants("digits", write(tmp_path, document))
    assert "\n" not in str(caught.value)


def test_a_variant_of_another_budget_must_change_more(tmp_path):
    document = document_with("ablations", {"longer": {"budget": 2}, "other": {"budget": 2, "model": {"width": 8}}})
    (other,) = load_variants("digits", write(tmp_path, document))
    assert (other.name, other.changes) == ("other", {"model.width": 8})
    assert other.experiment.budget == 2.0 and type(other.experiment.budget) is float


def test_other_budgets_ascend_and_leave_out_the_experiments_own(tmp_path):
    digits = {"e2e": [0.5], "boostresnet": [1, 0.5, 0.005], "analysed": [1]}
    document = document_with("budgets", {"digits": digits, "mnist": {"e2e": [], "boostresnet": []}})
    assert load_budgets("digits", write(tmp_path, document)) == (
        OtherBudget(0.5, "boostresnet"), OtherBudget(0.5, "e2e"), OtherBudget(1.0, "boostresnet", analysed=True),
    )  # fmt: skip
    assert load_budgets("mnist", write(tmp_path, document)) == load_budgets("svhn", write(tmp_path, document)) == ()
    assert all(bool(load_budgets(name, PARAMS)) is (name != "svhn") for name in DOCUMENT["datasets"])


def test_end_to_end_may_be_alone_under_a_budget(tmp_path):
    document = document_with("budgets", {"digits": {"e2e": [0.5, 0.25], "boostresnet": [0.25], "analysed": [0.5]}})
    assert load_budgets("digits", write(tmp_path, document)) == (
        OtherBudget(0.25, "boostresnet"), OtherBudget(0.25, "e2e"), OtherBudget(0.5, "e2e", analysed=True),
    )  # fmt: skip


def test_a_refinement_under_another_budget_comes_after_what_it_starts_from(tmp_path):
    document = document_with("budgets", {"digits": {"boostresnet-refined": [1, 0.5], "boostresnet": [0.5, 1]}})
    found = [(one.budget, one.method) for one in load_budgets("digits", write(tmp_path, document))]
    methods = ("boostresnet", "boostresnet-refined")
    assert found == [(budget, method) for budget in (0.5, 1.0) for method in methods]


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ([], r"budgets: must be a section of named values, got \[\]"),
        ({"imagenet": {}}, r"unknown dataset 'budgets\.imagenet'; known are digits"),
        ({"mnist": [0.5]}, r"budgets\.mnist: must be a section of named values, got \[0\.5\]"),
        ({"mnist": {"sgd": [1]}}, r"budgets\.mnist: unknown name 'sgd'; known are boostresnet, e2e"),
        (
            {"mnist": {"hist-gradient-boosting": [1]}},
            r"unknown name 'hist-gradient-boosting'; did you mean 'gradient-boosting'\? known are",
        ),
        ({"mnist": {"e2e": 0.5}}, r"budgets\.mnist\.e2e must be a list of different budgets, got 0\.5"),
        (
            {"digits": {"e2e": [0.5, 0.5]}},
            r"budgets\.digits\.e2e must be a list of different budgets, got \[0\.5",
        ),
        ({"digits": {"e2e": [0.3333333, 0.33333331]}}, r"budgets\.digits\.e2e must be a list of different budgets"),
        ({"digits": {"e2e": [0]}}, r"budgets\.digits\.e2e: 0 is no budget; use numbers above 0, at most 100"),
        ({"digits": {"e2e": [float("nan")]}}, r"budgets\.digits\.e2e: nan is no budget"),
        ({"digits": {"e2e": [True]}}, r"budgets\.digits\.e2e: True is no budget"),
        ({"digits": {"e2e": ["0.5"]}}, r"budgets\.digits\.e2e: '0\.5' is no budget"),
        ({"mnist": {"analysed": [0.5]}}, r"analysed at 0\.5 has no run to take apart; add 0\.5 to"),
        ({"mnist": {"adaboost-mm": [0.5], "e2e": [0.5]}}, r"adaboost-mm at 0\.5 has no BoostResNet"),
        ({"digits": {"e2e": [101]}}, r"budgets\.digits\.e2e: 101 is no budget"),
        (
            {"mnist": {"boostresnet-refined": [0.5, 0.25], "boostresnet": [0.25]}},
            r"boostresnet-refined at 0\.5 has no BoostResNet .*; add 0\.5 to .*budgets\.mnist\.boostresnet$",
        ),
    ],
)
def test_mistakes_in_budgets_name_the_key(tmp_path, budgets, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_budgets("digits", write(tmp_path, document_with("budgets", budgets)))
    assert "\n" not in str(caught.value)


def test_budget_scales_lengths_and_never_to_nothing(experiment):
    import attrs

    small = attrs.evolve(experiment, budget=0.002)
    assert small.scaled(10_000) == 20
    assert small.scaled(1) == 1


_LEAVES = [
    (section, key)
    for section, values in DOCUMENT["defaults"].items()
    for key in (values if isinstance(values, dict) else [None])
]
_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)  # fmt: skip


def test_what_determines_a_run_leaves_out_what_no_dataset_overrides():
    experiment = load_experiment("digits", PARAMS)
    assert experiment.determining().keys() == experiment.as_dict().keys() - set(COMMON)
    # Another machine may change the last bits, but not which run it is.
    assert set(CHANGE_NO_RUN) == {*COMMON, "runtime"} and "runtime" in experiment.determining()


def test_settings_of_ones_own_change_what_they_say_and_nothing_else():
    default = load_experiment("mnist", PARAMS)
    ours = changed(default, {"boostresnet": {"auxiliary": "linear-flattened"}, "budget": 1})
    assert (ours.boostresnet.auxiliary, ours.budget) == ("linear-flattened", 1.0)
    assert (
        changed(ours, {"boostresnet": {"auxiliary": default.boostresnet.auxiliary}, "budget": default.budget})
        == default
    )
    assert changed(default, {}) == default


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"optimizer": {"learning_rate": -1.0}}, "settings: optimizer.learning_rate must be above 0, got -1.0"),
        ({"optimizer": {"rate": 0.1}}, "settings: unknown parameter 'optimizer.rate'; known here are learning_rate"),
        ({"seed": 3}, "settings: unknown parameter 'seed'; known here are dataset"),
        ({"optimizer": 3}, "settings.optimizer: must be a section of named values, got 3"),
        ({"boostresnet": {"auxiliary": "none"}}, "settings: boostresnet.auxiliary must be one of transition-blocks"),
    ],
)
def test_mistakes_in_settings_of_ones_own_name_the_key(sections, message):
    with pytest.raises(ConfigError) as caught:
        changed(load_defaults("digits", PARAMS), sections)
    assert str(caught.value).startswith(message)


@settings(max_examples=400)
@given(leaf=st.sampled_from(_LEAVES), value=_VALUES)
def test_any_value_anywhere_is_a_valid_object_or_a_clear_error(leaf, value):
    values = {"dataset": "digits", **copy.deepcopy({**DOCUMENT["defaults"], **{k: DOCUMENT[k] for k in COMMON}})}
    section, key = leaf
    if key is None:
        values[section] = value
    else:
        values[section][key] = value
    experiment, message = None, ""
    try:
        experiment = experiment_from_dict(values)
    except ConfigError as error:
        message = str(error)
    if experiment is None:
        assert section in message and "\n" not in message
    else:
        assert isinstance(experiment, Experiment)
        assert experiment_from_dict(experiment.as_dict()) == experiment


@settings(max_examples=200)
@given(text=st.one_of(st.text(max_size=60), st.binary(max_size=60)))
def test_random_files_are_refused_clearly(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError):
        load_experiment("digits", path)
