"""What subcommands of the command line take, and whether it goes together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from replication.config import DATASETS, METHODS, OtherBudget
from replication.errors import ConfigError


def _one_of(kind: str, known: tuple[str, ...]) -> Callable[[str], str]:
    """A check before a subcommand starts; its ConfigError becomes one line, as every other does."""

    def check(value: str) -> str:
        if value not in known:
            raise ConfigError(f"unknown {kind} '{value}'; choose one of {', '.join(known)}")
        return value

    return check


def _only(kind: str) -> typer.models.OptionInfo:
    named = f"Train and measure this {kind.lower()} under --seed alone, and publish nothing."
    return typer.Option("--only", metavar=kind, help=named)


Dataset = Annotated[str, typer.Argument(help="digits, cifar10, svhn or mnist", callback=_one_of("dataset", DATASETS))]
Method = Annotated[
    str, typer.Argument(help="One of methods.all, for example boostresnet or e2e.", callback=_one_of("method", METHODS))
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Fixes initialisation, batch order and augmentation.")]
Params = Annotated[Path, typer.Option(help="The file with every number of every experiment.")]
Device = Annotated[str, typer.Option(help="Overrides runtime.device: auto, cpu, cuda or cuda:N.")]
OneMethod = Annotated[str, _only("METHOD")]
OneVariant = Annotated[str, _only("VARIANT")]
OneSeed = Annotated[int | None, typer.Option("--seed", min=0, max=2**32 - 1, help="Goes with --only.")]
OneBudget = Annotated[float | None, typer.Option("--budget", help="With --only: at this one of its budgets.")]
Publish = Annotated[bool, typer.Option("--publish", help="With --only: publish that, beside what is published.")]
Track = Annotated[bool, typer.Option(envvar="REPLICATION_TRACK", help="Follow the training in MLflow as it goes.")]


def check_only(
    kind: str,
    only: str,
    seed: int | None,
    publish: bool,
    params: Path,
    asked: tuple[str, set[str]],
    seeds: tuple[int, ...],
) -> None:
    """ConfigError where --only, --seed and --publish do not go together, or ask for what the stage does not make.

    Args:
        kind: what --only names, for the help: "METHOD".
        asked: the section of `params`, in words, and what it asks for.
    """
    if bool(only) != (seed is not None):
        raise ConfigError(f"--only {kind} and --seed N go together; without them every run is trained, then published")
    if publish and not only:
        raise ConfigError(
            f"--publish goes with --only {kind} and --seed N; without them everything is published anyway"
        )
    section, known = asked
    if only and only not in known:
        all_known = ", ".join(sorted(known)) or "nothing"
        raise ConfigError(f"{params}: {section} asks for {all_known}, not for '{only}'; choose one of these, or add it")
    if seed is not None and seed not in seeds:
        raise ConfigError(f"{params}: {seed} is not among seeds; add it, or choose one of {', '.join(map(str, seeds))}")


def at_budget(asked: tuple[OtherBudget, ...], only: str, budget: float | None, where: str) -> tuple[OtherBudget, ...]:
    """What is `asked` for at --budget, or all of it without.

    Args:
        only: what --only names, which is among what is asked for.
        where: the section, in words.

    Raises:
        ConfigError: --budget without --only, or the method is not asked for at this budget.
    """
    if budget is None:
        return asked
    if not only:
        raise ConfigError("--budget goes with --only METHOD and --seed N; without them every budget is run")
    known = [f"{one.budget:g}" for one in asked if one.method == only]
    if f"{budget:g}" not in known:
        raise ConfigError(f"{where} asks for {only} at {', '.join(known)}, not at {budget:g}; choose one, or add it")
    return tuple(one for one in asked if f"{one.budget:g}" == f"{budget:g}")
