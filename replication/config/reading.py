"""params.yaml, read and held against `schema`.

A key that does not exist, a value of the wrong type or out of range is a ConfigError that names the key by its dotted
path and what is allowed there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from replication.config.schema import (
    ABLATED,
    ANALYSED,
    BUDGETED,
    COMMON,
    DATASETS,
    FROM_SCRATCH,
    METHODS,
    MOST_BUDGET,
    REFINED,
    UNCHANGED,
    VARIED,
    Experiment,
    Lists,
    OtherBudget,
    Variant,
)
from replication.config.strict_yaml import load_strictly
from replication.config.structure import mapping, merge, offered, shown, structure
from replication.errors import ConfigError

# What PyYAML lets through when a scalar does not have the form that its tag demands, as in `!!bool maybe`.
_YAML_MISTAKES = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError, RecursionError)

_OF_ONE_STAGE = ("ablations", "ablations_of", "budgets", "depth_of")

_ANALYSED = "analysed"  # stands beside the methods in `budgets`


def load_experiment(dataset: str, path: Path = Path("params.yaml")) -> Experiment:
    """The experiment of one dataset: `defaults`, overridden by `experiments.DATASET`.

    Raises:
        ConfigError: the file is missing or malformed, or a key or value in it is not allowed.
    """
    return experiment_from_dict(_values(dataset, path), str(path))


def load_defaults(dataset: str, path: Path = Path("params.yaml")) -> Experiment:
    """The same without `experiments.DATASET`: what every dataset starts from.

    Raises:
        ConfigError: as in `load_experiment`.
    """
    return _defaults(dataset, path, _read(path))


def load_variants(dataset: str, path: Path = Path("params.yaml")) -> tuple[Variant, ...]:
    """The variants of `ablations` for this dataset that differ from its experiment in more than the budget, in their
    order; none where the dataset is not one of `ablations_of`.

    Raises:
        ConfigError: as in `load_experiment`; a mistake in a variant is named by its dotted path under `ablations`.
    """
    values, document = _values(dataset, path), _read(path)
    default = experiment_from_dict(values, str(path))
    try:
        variants = [
            _variant(name, value, values) for name, value in mapping(document["ablations"], "ablations").items()
        ]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    measured = dataset in _names(document["ablations_of"], DATASETS, f"{path}: ablations_of")
    return tuple(
        variant
        for variant in variants
        if measured and dataset in variant.datasets and variant.experiment != variant.default(default)
    )


def load_budgets(dataset: str, path: Path = Path("params.yaml")) -> tuple[OtherBudget, ...]:
    """What `budgets.DATASET` asks for beside the experiment's own budget: budgets ascending, methods in the order in
    which they can be trained; nothing where the dataset has no section.

    Raises:
        ConfigError: as in `load_experiment`, or a list holds what is no budget, or one twice, or one at which
            BoostResNet is not run. End-to-end training may be alone: it is what others are held against.
    """
    own = load_experiment(dataset, path).budget
    sections = mapping(_read(path)["budgets"], f"{path}: budgets")
    for name, section in sections.items():
        if name not in DATASETS:
            raise ConfigError(f"{path}: unknown dataset {shown(f'budgets.{name}')}; {offered(name, DATASETS)}")
        _check_budgets(mapping(section, f"{path}: budgets.{name}"), f"{path}: budgets.{name}")
    asked = sections.get(dataset, {})
    budgets = [budget for method, listed in asked.items() if method != _ANALYSED for budget in listed]
    others = {f"{budget:g}": float(budget) for budget in budgets if f"{budget:g}" != f"{own:g}"}
    return tuple(
        OtherBudget(others[name], method, name in _named(asked.get(_ANALYSED, ())))
        for name in sorted(others, key=lambda name: others[name])
        for method in METHODS
        if name in _named(asked.get(method, ()))
    )


def _named(budgets: Iterable[float]) -> set[str]:
    """Budgets as folders are named."""
    return {f"{budget:g}" for budget in budgets}


def _check_budgets(section: Mapping[str, Any], where: str) -> None:
    names: dict[str, set[str]] = {}
    for method, budgets in section.items():
        if method not in (*BUDGETED, _ANALYSED):
            raise ConfigError(f"{where}: unknown name {shown(method)}; {offered(method, (*BUDGETED, _ANALYSED))}")
        wrong = f"{where}.{method} must be a list of different budgets, got {shown(budgets)}"
        if not isinstance(budgets, list):
            raise ConfigError(wrong)
        for budget in budgets:
            if type(budget) not in (int, float) or not 0 < budget <= MOST_BUDGET:
                raise ConfigError(
                    f"{where}.{method}: {shown(budget)} is no budget; use numbers above 0, at most {MOST_BUDGET}"
                )
        names[method] = _named(budgets)
        if len(names[method]) != len(budgets):
            raise ConfigError(wrong)
    boosted, alone = names.get("boostresnet", set()), names.get("e2e", set())
    for method, budgets in names.items():
        known = budgets if method == "e2e" else boosted | alone if method == _ANALYSED else boosted
        for budget in sorted(budgets - known):
            lacks = "no run to take apart" if method == _ANALYSED else "no BoostResNet to start from or be held against"
            raise ConfigError(f"{where}: {method} at {budget} has {lacks}; add {budget} to {where}.boostresnet")


def _variant(name: str, value: Any, values: Mapping[str, Any]) -> Variant:
    where = f"ablations.{name}"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or name == UNCHANGED:
        raise ConfigError(f"{shown(where)}: a variant's name is of a-z, 0-9 and hyphens, and not '{UNCHANGED}'")
    sections = dict(mapping(value, where))
    methods = _names(sections.pop("methods", ["boostresnet"]), ABLATED, f"{where}.methods")
    if not methods:
        raise ConfigError(f"{where}.methods is empty; name what to train this way, or leave the variant out")
    datasets = _names(sections.pop("datasets", list(DATASETS)), DATASETS, f"{where}.datasets")
    for section in sections:
        if section not in (*VARIED, "budget"):
            raise ConfigError(
                f"unknown section {shown(f'{where}.{section}')}; "
                f"a variant may have methods, datasets, budget, {', '.join(VARIED)}"
            )
    changes = {
        f"{section}.{key}": changed
        for section, keys in sections.items()
        if section != "budget"
        for key, changed in mapping(keys, f"{where}.{section}").items()
    }
    return Variant(name, changes, methods, structure(Experiment, merge(values, sections, where), where), datasets)


def _values(dataset: str, path: Path) -> dict[str, Any]:
    """What `Experiment` is made of, the defaults checked already."""
    document = _read(path)
    if dataset not in DATASETS:
        raise ConfigError(f"unknown dataset {shown(dataset)}; {offered(dataset, DATASETS, 'choose one of')}")
    experiments = mapping(document["experiments"], "experiments")
    for name in experiments:
        if name not in DATASETS:
            raise ConfigError(f"{path}: unknown dataset {shown(f'experiments.{name}')}; {offered(name, DATASETS)}")
    defaults = mapping(document["defaults"], "defaults")
    given = experiments.get(dataset)
    overrides = mapping({} if given is None else given, f"experiments.{dataset}")
    # On their own first: a mistake in the defaults is one even where this dataset overrides it.
    common = {section: document[section] for section in COMMON}
    for section in COMMON:
        if section in defaults or section in overrides:
            raise ConfigError(f"{path}: '{section}' is the same for every dataset; set it at the top level")
    _defaults(dataset, path, document)
    merged = merge(defaults, overrides, f"experiments.{dataset}")
    return {"dataset": dataset, **merged, **common}


def _defaults(dataset: str, path: Path, document: Mapping[str, Any]) -> Experiment:
    common = {section: document[section] for section in COMMON}
    defaults = mapping(document["defaults"], "defaults")
    return experiment_from_dict({"dataset": dataset, **defaults, **common}, f"{path}: defaults")


def experiment_from_dict(values: Mapping[str, Any], origin: str = "parameters") -> Experiment:
    """An Experiment from the nested dictionary that `Experiment.as_dict` gives; ConfigError on anything else."""
    try:
        return structure(Experiment, values, "")
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None


def changed(experiment: Experiment, sections: Mapping[str, Any]) -> Experiment:
    """The experiment with other values, given by section and key as in params.yaml: {"optimizer": {"batch_size": 50}}.

    Raises:
        ConfigError: a key or value is not allowed; the line names the key by its dotted path.
    """
    return experiment_from_dict(merge(experiment.as_dict(), sections, "settings"), "settings")


def load_lists(path: Path = Path("params.yaml")) -> Lists:
    """The lists that span the pipeline's matrix; ConfigError on an unknown name, a duplicate or a bad seed."""
    document = _read(path)
    methods = _methods(document["methods"], f"{path}: methods")
    seeds = document["seeds"]
    wrong = f"{path}: seeds must be a list of different whole numbers, got {shown(seeds)}"
    if not isinstance(seeds, list) or not seeds:
        raise ConfigError(wrong)
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ConfigError(f"{path}: seeds: {shown(seed)} is no seed; use whole numbers from 0 to {2**32 - 1}")
    if len(set(seeds)) != len(seeds):
        raise ConfigError(wrong)
    for name in ("depth_of", "ablations_of"):
        _names(document[name], DATASETS, f"{path}: {name}")
    datasets = _names(document["datasets"], DATASETS, f"{path}: datasets")
    if not datasets:
        raise ConfigError(f"{path}: datasets is empty; name at least one of {', '.join(DATASETS)}")
    with_budgets = mapping(document["budgets"], f"{path}: budgets")
    for name in datasets:
        if name not in with_budgets:
            raise ConfigError(
                f"{path}: datasets names {name}, which has no section in budgets; add `{name}: {{}}` there"
            )
    return Lists(datasets=datasets, methods=methods, seeds=tuple(seeds))


def _methods(value: Any, where: str) -> tuple[str, ...]:
    """The methods of `all`, once the four lists fit together."""
    allowed = {"from_scratch": FROM_SCRATCH, "refined": REFINED, "all": METHODS, "analysed": ANALYSED}
    methods = mapping(value, where)
    if set(methods) != set(allowed):
        found = ", ".join(map(shown, methods))
        raise ConfigError(f"{where} must hold from_scratch, refined, all and analysed, got {found}")
    for key, names in methods.items():
        _names(names, allowed[key], f"{where}.{key}")
    if not methods["from_scratch"]:
        raise ConfigError(f"{where}.from_scratch is empty; name at least one of {', '.join(FROM_SCRATCH)}")
    if sorted(methods["all"]) != sorted([*methods["from_scratch"], *methods["refined"]]):
        raise ConfigError(f"{where}.all must name the methods of from_scratch and refined together")
    for name in methods["analysed"]:
        if name not in methods["all"]:
            raise ConfigError(f"{where}.analysed: '{name}' is not in methods.all, so it has no runs")
    if methods["refined"] and "boostresnet" not in methods["from_scratch"]:
        raise ConfigError(f"{where}.refined starts from runs of boostresnet; add it to from_scratch")
    return tuple(methods["all"])


def _names(values: Any, allowed: tuple[str, ...], where: str) -> tuple[str, ...]:
    wrong = f"{where} must be a list of different names, got {shown(values)}"
    if not isinstance(values, list):
        raise ConfigError(wrong)
    for value in values:
        if value not in allowed:
            raise ConfigError(f"{where}: unknown name {shown(value)}; {offered(value, allowed)}")
    if len(set(values)) != len(values):
        raise ConfigError(wrong)
    return tuple(values)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = load_strictly(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}; run from the repository root, or name another file"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (yaml.YAMLError, *_YAML_MISTAKES) as error:
        raise ConfigError(f"{path} is no valid YAML: {' '.join(str(error).split()):.200}") from error
    document = mapping(document, str(path))
    expected = {"defaults", "experiments", "datasets", "methods", "seeds", *_OF_ONE_STAGE, *COMMON}
    if set(document) != expected:
        missing, unknown = sorted(expected - set(document)), sorted(map(str, set(document) - expected))
        if unknown:  # first: what is misspelt is missing under its own name
            choice = offered(unknown[0], missing or sorted(expected), "missing are" if missing else "the sections are")
            raise ConfigError(f"{path}: unknown section {shown(unknown[0])}; {choice}")
        raise ConfigError(f"{path}: missing section '{missing[0]}'; the sections are {', '.join(sorted(expected))}")
    return document
