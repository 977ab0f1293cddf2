"""params.yaml, read and held against `schema`.

A key that does not exist, a value of the wrong type or out of range is a ConfigError that names the key by its dotted
path and what is allowed there; nothing is silently ignored or converted (an integer may stand for a float, nothing
else).
"""

from __future__ import annotations

import re
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
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
from replication.errors import ConfigError

# What PyYAML lets through when a scalar does not have the form that its tag demands, as in `!!bool maybe`.
_YAML_MISTAKES = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError, RecursionError)

_OF_ONE_STAGE = ("ablations", "ablations_of", "budgets", "depth_of")

_ANALYSED = "analysed"  # stands beside the methods in `budgets`

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 60, 60, 60

T = TypeVar("T")


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
    """The variants of `ablations` for this dataset that differ from its experiment, in their order.

    Raises:
        ConfigError: as in `load_experiment`; a mistake in a variant is named by its dotted path under `ablations`.
    """
    values = _values(dataset, path)
    default = experiment_from_dict(values, str(path))
    try:
        variants = [
            _variant(name, value, values) for name, value in _mapping(_read(path)["ablations"], "ablations").items()
        ]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return tuple(variant for variant in variants if dataset in variant.datasets and variant.experiment != default)


def load_budgets(dataset: str, path: Path = Path("params.yaml")) -> tuple[OtherBudget, ...]:
    """What `budgets.DATASET` asks for beside the experiment's own budget: budgets ascending, methods in the order in
    which they can be trained; nothing where the dataset has no section.

    Raises:
        ConfigError: as in `load_experiment`, or a list holds what is no budget, or one twice, or one at which
            BoostResNet is not run. End-to-end training may be alone: it is what others are held against.
    """
    own = load_experiment(dataset, path).budget
    sections = _mapping(_read(path)["budgets"], f"{path}: budgets")
    for name, section in sections.items():
        if name not in DATASETS:
            raise ConfigError(f"{path}: unknown dataset {_shown(f'budgets.{name}')}; known are {', '.join(DATASETS)}")
        _check_budgets(_mapping(section, f"{path}: budgets.{name}"), f"{path}: budgets.{name}")
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
            raise ConfigError(f"{where}: unknown name {_shown(method)}; known are {', '.join((*BUDGETED, _ANALYSED))}")
        wrong = f"{where}.{method} must be a list of different budgets, got {_shown(budgets)}"
        if not isinstance(budgets, list):
            raise ConfigError(wrong)
        for budget in budgets:
            if type(budget) not in (int, float) or not 0 < budget <= MOST_BUDGET:
                raise ConfigError(
                    f"{where}.{method}: {_shown(budget)} is no budget; use numbers above 0, at most {MOST_BUDGET}"
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
        raise ConfigError(f"{_shown(where)}: a variant's name is of a-z, 0-9 and hyphens, and not '{UNCHANGED}'")
    sections = dict(_mapping(value, where))
    methods = _names(sections.pop("methods", ["boostresnet"]), ABLATED, f"{where}.methods")
    if not methods:
        raise ConfigError(f"{where}.methods is empty; name what to train this way, or leave the variant out")
    datasets = _names(sections.pop("datasets", list(DATASETS)), DATASETS, f"{where}.datasets")
    for section in sections:
        if section not in VARIED:
            raise ConfigError(
                f"unknown section {_shown(f'{where}.{section}')}; "
                f"a variant may have methods, datasets, {', '.join(VARIED)}"
            )
    changes = {
        f"{section}.{key}": changed
        for section, keys in sections.items()
        for key, changed in _mapping(keys, f"{where}.{section}").items()
    }
    return Variant(name, changes, methods, _structure(Experiment, _merge(values, sections, where), where), datasets)


def _values(dataset: str, path: Path) -> dict[str, Any]:
    """What `Experiment` is made of, the defaults checked already."""
    document = _read(path)
    if dataset not in DATASETS:
        raise ConfigError(f"unknown dataset {_shown(dataset)}; choose one of {', '.join(DATASETS)}")
    experiments = _mapping(document["experiments"], "experiments")
    for name in experiments:
        if name not in DATASETS:
            raise ConfigError(
                f"{path}: unknown dataset {_shown(f'experiments.{name}')}; known are {', '.join(DATASETS)}"
            )
    defaults = _mapping(document["defaults"], "defaults")
    overrides = _mapping(experiments.get(dataset) or {}, f"experiments.{dataset}")
    # On their own first: a mistake in the defaults is one even where this dataset overrides it.
    common = {section: document[section] for section in COMMON}
    for section in COMMON:
        if section in defaults or section in overrides:
            raise ConfigError(f"{path}: '{section}' is the same for every dataset; set it at the top level")
    _defaults(dataset, path, document)
    merged = _merge(defaults, overrides, f"experiments.{dataset}")
    return {"dataset": dataset, **merged, **common}


def _defaults(dataset: str, path: Path, document: Mapping[str, Any]) -> Experiment:
    common = {section: document[section] for section in COMMON}
    defaults = _mapping(document["defaults"], "defaults")
    return experiment_from_dict({"dataset": dataset, **defaults, **common}, f"{path}: defaults")


def experiment_from_dict(values: Mapping[str, Any], origin: str = "parameters") -> Experiment:
    """An Experiment from the nested dictionary that `Experiment.as_dict` gives; ConfigError on anything else."""
    try:
        return _structure(Experiment, values, "")
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None


def changed(experiment: Experiment, sections: Mapping[str, Any]) -> Experiment:
    """The experiment with other values, given by section and key as in params.yaml: {"optimizer": {"batch_size": 50}}.

    Raises:
        ConfigError: a key or value is not allowed; the line names the key by its dotted path.
    """
    return experiment_from_dict(_merge(experiment.as_dict(), sections, "settings"), "settings")


def load_lists(path: Path = Path("params.yaml")) -> Lists:
    """The lists that span the pipeline's matrix; ConfigError on an unknown name, a duplicate or a bad seed."""
    document = _read(path)
    methods = _methods(document["methods"], f"{path}: methods")
    seeds = document["seeds"]
    wrong = f"{path}: seeds must be a list of different whole numbers, got {_shown(seeds)}"
    if not isinstance(seeds, list) or not seeds:
        raise ConfigError(wrong)
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ConfigError(f"{path}: seeds: {_shown(seed)} is no seed; use whole numbers from 0 to {2**32 - 1}")
    if len(set(seeds)) != len(seeds):
        raise ConfigError(wrong)
    for name in ("depth_of", "ablations_of"):
        _names(document[name], DATASETS, f"{path}: {name}")
    datasets = _names(document["datasets"], DATASETS, f"{path}: datasets")
    if not datasets:
        raise ConfigError(f"{path}: datasets is empty; name at least one of {', '.join(DATASETS)}")
    with_budgets = _mapping(document["budgets"], f"{path}: budgets")
    for name in datasets:
        if name not in with_budgets:
            raise ConfigError(
                f"{path}: datasets names {name}, which has no section in budgets; add `{name}: {{}}` there"
            )
    return Lists(datasets=datasets, methods=methods, seeds=tuple(seeds))


def _methods(value: Any, where: str) -> tuple[str, ...]:
    """The methods of `all`, once the four lists fit together."""
    allowed = {"from_scratch": FROM_SCRATCH, "refined": REFINED, "all": METHODS, "analysed": ANALYSED}
    methods = _mapping(value, where)
    if set(methods) != set(allowed):
        found = ", ".join(map(_shown, methods))
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
    wrong = f"{where} must be a list of different names, got {_shown(values)}"
    if not isinstance(values, list):
        raise ConfigError(wrong)
    for value in values:
        if value not in allowed:
            raise ConfigError(f"{where}: unknown name {_shown(value)}; known are {', '.join(allowed)}")
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
    document = _mapping(document, str(path))
    expected = {"defaults", "experiments", "datasets", "methods", "seeds", *_OF_ONE_STAGE, *COMMON}
    if set(document) != expected:
        missing, unknown = sorted(expected - set(document)), sorted(map(str, set(document) - expected))
        problem = f"missing section '{missing[0]}'" if missing else f"unknown section {_shown(unknown[0])}"
        raise ConfigError(f"{path}: {problem}; the sections are {', '.join(sorted(expected))}")
    return document


def _shown(value: Any) -> str:
    """A value as an error shows it: in one line, and cheaply, since with aliases a few lines of YAML grow for ever."""
    return _SHORT.repr(value)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{where}: must be a section of named values, got {_shown(value)}")
    return value


def _merge(base: Mapping[str, Any], override: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`base` with the values of `override` in place; sections are merged, everything else replaced."""
    merged = dict(base)
    for key, value in override.items():
        if isinstance(base.get(key), dict):
            merged[key] = _merge(base[key], _mapping(value, f"{where}.{key}"), f"{where}.{key}")
        else:
            merged[key] = value
    return merged


def _structure(cls: type[T], values: Any, where: str) -> T:
    """Build an attrs class from a mapping, with every key and type checked."""
    values = _mapping(values, where or "parameters")
    prefix = f"{where}." if where else ""
    fields = {field.name: field for field in attrs.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise ConfigError(f"unknown parameter {_shown(prefix + key)}; known here are {', '.join(fields)}")
    hints = typing.get_type_hints(cls)
    arguments = {}
    for name, field in fields.items():
        if name not in values:
            raise ConfigError(f"missing parameter '{prefix}{name}'")
        arguments[name] = _value(hints[name], values[name], f"{prefix}{name}")
        try:
            if field.validator is not None:
                field.validator(None, field, arguments[name])
        except ValueError as error:
            raise ConfigError(f"{prefix}{name} {error}, got {_shown(values[name])}") from None
    return cls(**arguments)


def _value(hint: Any, value: Any, where: str) -> Any:
    if attrs.has(hint):
        return _structure(hint, value, where)
    if hint == tuple[int, ...]:
        if not isinstance(value, list | tuple) or not value or any(type(item) is not int or item < 1 for item in value):
            raise ConfigError(f"{where} must be a list of whole numbers from 1 on, got {_shown(value)}")
        return tuple(value)
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in allowed:
        return None
    if float in allowed and type(value) is int and abs(value) <= 2**53:
        return float(value)
    if type(value) not in allowed:  # type(), not isinstance: True is an int to Python, not to a reader of params.yaml
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in allowed)
        meant = isinstance(value, str) and float in allowed and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value)
        hint = " (YAML takes that for text: it wants a point, as in 1.0e-3)" if meant else ""
        raise ConfigError(f"{where} must be {names}, got {_shown(value)}{hint}")
    return value
