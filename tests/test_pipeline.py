"""dvc.yaml against the code: every name in it resolves, and its lists of dependencies have not rotted."""

from __future__ import annotations

import ast
import fnmatch
import importlib.util
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from replication.config import METHODS, load_experiment, load_lists, load_variants
from replication.training.checkpoint import CODE
from scripts.reproduce import HALVES

ROOT = Path(__file__).resolve().parent.parent
PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, dict[str, Any]] = PIPELINE["stages"]

# Modules that no stage depends on: a change in them alone changes no output.
NOWHERE = {
    "replication.__main__": "parses and calls",
    "replication.analysis.checks": "which runs are refused, not what is published of the others",
    "replication.config": "its values are the stages' parameters",
    "replication.errors": "words",
    "replication.files": "how files are written, not what is in them",
    "replication.fitting": "which networks are refused, not what comes of the others",
    "replication.lock": "who may work",
    "replication.memory": "words",
    "replication.options": "parses",
    "replication.run_directory": "which runs are refused, not what is published of the others",
    "replication.terminal": "words",
    "replication.tracking": "MLflow is a view of runs/",
}
_READ = "reads data/prepared, which is a dependency"
_TRAINED = "a change there trains again, and what training leaves is a dependency"
# Modules that one stage knowingly does without.
_OF_RUNS = {
    "replication.boosting": _TRAINED,
    "replication.datasets": _TRAINED,
    "replication.models": _TRAINED,
    "replication.training": _TRAINED,
}
_REFUSES = "which parameters are refused, not what is written of the others"
WITHOUT = {
    "check": {
        "replication.analysis": _REFUSES,
        "replication.boosting": _REFUSES,
        "replication.datasets": _REFUSES,
        "replication.depth": _REFUSES,
        "replication.models": _REFUSES,
        "replication.rounding": _REFUSES,
        "replication.scratch_runs": _REFUSES,
        "replication.training": _REFUSES,
    },
    "prepare": {
        "replication.datasets.download": "the checksum decides what is read",
        "replication.datasets.transfer": "the checksum decides what is read",
        "replication.datasets.watchdog": "the checksum decides what is read",
        "replication.datasets.prepared": "the format has a schema number, which readers check",
    },
    "train": {"replication.datasets.prepared": _READ, "replication.datasets.sources": _READ},
    "refine": {
        "replication.boosting": "what it starts from is a dependency; it boosts nothing itself",
        "replication.datasets.pairs": "concerns boostresnet-binary",
        "replication.datasets.prepared": _READ,
        "replication.datasets.sources": _READ,
    },
    "evaluate": {**_OF_RUNS, "replication.analysis.sampling": "hands out all examples in order"},
    "analyse": _OF_RUNS,
    "depth": {
        "replication.analysis.sampling": "hands out all examples in order",
        "replication.analysis.theory": "concerns what `evaluate` adds for BoostResNet",
        "replication.datasets.prepared": _READ,
        "replication.datasets.sources": _READ,
    },
    "ablations": {
        "replication.analysis.sampling": "hands out all examples in order",
        "replication.analysis.theory": "concerns what `evaluate` adds for BoostResNet and is not published here",
        "replication.datasets.prepared": _READ,
        "replication.datasets.sources": _READ,
    },
    "budgets": {
        "replication.datasets.prepared": _READ,
        "replication.datasets.sources": _READ,
    },
    "cost": {
        "replication.datasets.prepared": _READ,
        "replication.datasets.sources": _READ,
    },
    "claims": {
        "replication.report.fields": "how a field of a file is checked, not what it says",
        "replication.report.formats": "words, for tables",
        "replication.report.labels": "names and colours",
        "replication.report.verdicts": "counts on the screen what was written",
    },
}


def module_path(module: str) -> Path | None:
    """The file of a module of ours."""
    base = ROOT / Path(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imported(tree: ast.AST) -> set[str]:
    """Every module that is imported anywhere in a piece of code, also inside functions (and names that may be one)."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def ours(modules: set[str]) -> set[str]:
    """Those that are modules of this project."""
    return {name for name in modules if belongs_to(name, ["replication"]) and module_path(name)}


def is_only_a_door(path: Path) -> bool:
    """Whether a package's __init__.py does nothing but import."""
    return path.name == "__init__.py" and all(
        isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )


def belongs_to(module: str, packages: Iterable[str]) -> str | None:
    """The one of `packages` (or modules) that `module` is, or is in."""
    return next((name for name in packages if module == name or module.startswith(f"{name}.")), None)


def entry_points(stage: str) -> set[str]:
    """The modules that a stage's subcommand imports."""
    subcommand = STAGES[stage]["cmd"].split()[3].replace("-", "_")
    tree = ast.parse((ROOT / "replication" / "__main__.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == subcommand]
    assert len(functions) == 1, f"no function {subcommand} in replication/__main__.py"
    return ours(imported(functions[0]))


def reached(stage: str) -> set[str]:
    """Every module of ours that a stage can come to import, but for what `NOWHERE` and `WITHOUT` keep out."""
    kept_out = [name for name in NOWHERE if not any(belongs_to(name, [dep]) for dep in named_modules(stage))]
    seen, waiting = set(), entry_points(stage)
    while waiting:
        module = waiting.pop()
        if module in seen or belongs_to(module, kept_out):
            continue
        seen.add(module)
        path = module_path(module)
        assert path is not None
        waiting |= ours(imported(ast.parse(path.read_text(encoding="utf-8"))))
    return seen


def named_modules(stage: str) -> list[str]:
    """The modules and packages that a stage declares."""
    return [dep.removesuffix(".py").replace("/", ".") for dep in STAGES[stage]["deps"]]


def declared(stage: str) -> list[Path]:
    """The files and folders of code that a stage declares."""
    return [ROOT / dep for dep in STAGES[stage]["deps"] if dep.startswith("replication")]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_determines_its_output(stage: str) -> None:
    missing = set()
    for module in reached(stage):
        path = module_path(module)
        assert path is not None
        covered = any(path == dep or dep in path.parents for dep in declared(stage))
        if not (covered or is_only_a_door(path) or belongs_to(module, WITHOUT.get(stage, {}))):
            missing.add(str(path.relative_to(ROOT)))
    assert not missing, f"{stage} imports these without depending on them; add them in dvc.yaml, or here with a reason"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_other_code(stage: str) -> None:
    modules = reached(stage)
    paths = {module_path(module) for module in modules}
    for dep in declared(stage):
        assert dep.exists(), f"{stage} depends on {dep.relative_to(ROOT)}, which does not exist"
        if dep.is_file() and dep.suffix != ".py":
            continue
        assert any(path == dep or (path and dep in path.parents) for path in paths), f"{stage} does not import {dep}"
    stale = [name for name in WITHOUT.get(stage, {}) if not any(belongs_to(module, [name]) for module in modules)]
    stale += [name for name in WITHOUT.get(stage, {}) if module_path(name) in declared(stage)]
    assert not stale, f"{stage} imports none of these, or depends on them; take them out of WITHOUT"


def test_the_code_in_the_key_of_a_run_is_what_the_stage_depends_on() -> None:
    hashed = {ROOT / "replication" / part for part in CODE}
    assert set(declared("train")) == hashed
    assert all(path in hashed or path.parent in hashed for path in declared("refine"))


def test_every_file_a_stage_reads_is_made_by_another_or_kept_in_git() -> None:
    made = set()
    for name, stage in STAGES.items():
        for out in outputs(name):
            made |= expanded(stage, out)
    folders = {parent.as_posix() for out in made for parent in Path(out).parents}
    for name, stage in STAGES.items():
        for dep in stage["deps"]:
            for path in expanded(stage, dep):
                assert path in made | folders or (ROOT / path).exists(), f"{name}: no stage makes {path}"


def outputs(stage: str) -> list[str]:
    """What a stage writes, as dvc.yaml has it."""
    entries = (*STAGES[stage].get("outs", ()), *STAGES[stage].get("metrics", ()))
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def test_what_was_computed_can_come_back_from_the_run_cache():
    """After a cut dvc.lock, or another value tried. DVC keeps no run cache of a stage with an output that persists."""
    persist = {name for name, stage in STAGES.items() if "persist" in str(stage["outs"])}
    assert persist == {"prepare"}  # whose downloads take longer than the rest


def files_named(stage: str) -> set[str]:
    """Names of tables and JSON files, whole or at a string's end, in the code that a stage comes to import."""
    named = set()
    for module in reached(stage):
        path = module_path(module)
        assert path is not None
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= set(re.findall(r"(?:^|/)([\w-]+\.(?:csv|json))$", node.value))
    return named


def unseen(stage: str, deps: list[str]) -> set[str]:
    """Published files that a stage's code names, that other stages make, and that are not in or under `deps`."""
    found = set()
    for maker in STAGES.keys() - {stage}:
        made = [out for out in outputs(maker) if Path(out).name in files_named(stage)]
        covered = {path for dep in deps for path in expanded(STAGES[stage], dep)}
        for path in {path for out in made for path in expanded(STAGES[maker], out)}:
            if not covered & {path, *(parent.as_posix() for parent in Path(path).parents)}:
                found.add(path)
    return found


@pytest.mark.parametrize("stage", ["claims", "report"])
def test_a_stage_that_reads_published_files_waits_for_those_who_make_them(stage: str) -> None:
    readers = {name for name in STAGES if any(dep.startswith("results") for dep in STAGES[name]["deps"])}
    assert readers == {"claims", "report"}
    made = {Path(out).name for maker in STAGES for out in outputs(maker)}
    assert {"metrics.json", "analysis.json", "cost.json", "depth.csv"} <= files_named(stage) <= made
    assert not unseen(stage, STAGES[stage]["deps"])
    # Without one of its folders it would judge by what may not be there yet.
    without = [
        dep for dep in STAGES[stage]["deps"] if dep not in ("results/${item.dataset}/e2e", "results/${item.dataset}")
    ]
    assert "results/mnist/e2e/depth.csv" in unseen(stage, without)


def test_the_metrics_are_those_of_every_dataset() -> None:
    assert len(PIPELINE["metrics"]) == len(PARAMS["datasets"])
    made = set().union(*(expanded(STAGES["claims"], path) for path in outputs("claims")))
    assert set(PIPELINE["metrics"]) == {path for path in made if path.endswith("accuracy.json")}


def expanded(stage: dict[str, Any], path: str) -> set[str]:
    """A path of dvc.yaml for every item of its stage's matrix."""
    items = itertools.product(*map(matrix_values, stage["matrix"].values()))
    return {filled(stage, path, values) for values in items}


def filled(stage: dict[str, Any], path: str, values: Iterable[Any]) -> str:
    """A path of dvc.yaml for one item of its stage's matrix."""
    for key, value in zip(stage["matrix"], values, strict=True):
        path = path.replace(f"${{item.{key}}}", str(value))
    return path


def matrix_values(template: str) -> list[Any]:
    """What a list such as ${methods.all} in dvc.yaml stands for."""
    place: Any = PARAMS
    for key in template.removeprefix("${").removesuffix("}").split("."):
        place = place[key]
    return list(place)


def test_every_parameter_a_stage_names_exists() -> None:
    for name, stage in STAGES.items():
        for parameter in set().union(*(expanded(stage, parameter) for parameter in stage.get("params", ()))):
            place: Any = PARAMS
            for key in parameter.split("."):
                assert key in place, f"{name}: params.yaml has no {parameter}"
                place = place[key]


def test_the_runs_that_variants_are_held_against_are_dependencies() -> None:
    for dataset in PARAMS["datasets"]:
        for variant in load_variants(dataset, ROOT / "params.yaml"):
            for method in variant.methods:
                assert f"runs/${{item.dataset}}/{method}" in STAGES["ablations"]["deps"], variant.name


def load_tiny_pipeline() -> ModuleType:
    specification = importlib.util.spec_from_file_location("tiny_pipeline", ROOT / "scripts" / "tiny_pipeline.py")
    assert specification and specification.loader
    tiny_pipeline = importlib.util.module_from_spec(specification)
    sys.modules["tiny_pipeline"] = tiny_pipeline  # attrs looks the module up
    specification.loader.exec_module(tiny_pipeline)
    return tiny_pipeline


def test_a_command_of_the_tiny_pipeline_has_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_pipeline = load_tiny_pipeline()
    place = tiny_pipeline.Workplace(tmp_path, dict(os.environ))
    assert place.run("sh", "-c", "echo said; echo more >&2") == "said\nmore\n"
    monkeypatch.setattr(tiny_pipeline, "_COMMAND_SECONDS", 0.2)
    # The first process ends at once; what it has started holds the output open.
    with pytest.raises(tiny_pipeline.PipelineError, match=r"`sh -c sleep 100 & echo` ran past 0\.2 s"):
        place.run("sh", "-c", "sleep 100 & echo")
    assert not tiny_pipeline._RUNNING


def test_the_tiny_pipeline_knows_the_parameters(tmp_path: Path) -> None:
    tiny_pipeline = load_tiny_pipeline()
    # Whatever the lists of the checkout are.
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"ablations_of": [], "budgets": {}}))
    tiny_pipeline.shrink_params(tmp_path / "params.yaml")
    assert load_lists(tmp_path / "params.yaml").seeds == (0,)
    shrunk = yaml.safe_load((tmp_path / "params.yaml").read_text(encoding="utf-8"))
    assert shrunk["ablations_of"] and set(shrunk["datasets"]) == set(shrunk["budgets"])
    for dataset in PARAMS["datasets"]:
        experiment = load_experiment(dataset, tmp_path / "params.yaml")
        assert experiment.budget < 0.001
        assert experiment.data.allow_unofficial
        assert experiment.runtime.threads == 1


def test_plots_are_drawn_from_what_evaluate_publishes() -> None:
    columns = {"history.csv": {"gradient_updates", "test_accuracy"}, "rounds.csv": {"block", "gamma", "edge"}}
    drawn = set()
    for plot in PIPELINE["plots"]:
        for definition in plot.values():
            for path, names in definition["y"].items():
                results, dataset, method, seed, file = path.split("/")
                assert (results, seed) == ("results", "seed${seeds[0]}")
                assert method in METHODS
                assert {definition["x"], *([names] if isinstance(names, str) else names)} <= columns[file]
                drawn.add(dataset)
    assert drawn == set(PARAMS["datasets"])


def test_the_stages_are_the_product_of_the_lists() -> None:
    listing = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--all", "--name-only"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    expected = set()
    for name, stage in STAGES.items():
        for values in itertools.product(*map(matrix_values, stage["matrix"].values())):
            expected.add(f"{name}@{'-'.join(map(str, values))}")
    assert set(listing.stdout.split()) == expected
    lists = load_lists(ROOT / "params.yaml")
    for dataset, method, seed in itertools.product(lists.datasets, lists.methods, lists.seeds):
        assert f"evaluate@{dataset}-{method}-{seed}" in expected


ABOVE = ("replication.training", "replication.analysis", "replication.report", "replication.tracking")
ONE_WAY = {  # package -> what it must know nothing of
    "replication.boosting": (*ABOVE, "replication.models"),
    "replication.models": ABOVE,
    "replication.datasets": ABOVE,
    "replication.training": ABOVE[1:],
    "replication.analysis": ABOVE[2:],
    "replication.report": (*ABOVE[:2], "replication.tracking", "torch"),
}


def test_imports_point_one_way() -> None:
    for path in sorted((ROOT / "replication").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        forbidden = ["dvc", "pydantic", *ONE_WAY.get(belongs_to(module, ONE_WAY) or "", ())]
        if module != "replication.tracking.store":
            forbidden.append("mlflow")
        bad = {name for name in imported(ast.parse(path.read_text(encoding="utf-8"))) if belongs_to(name, forbidden)}
        assert not bad, f"{module} must not import {', '.join(sorted(bad))}"


@pytest.mark.parametrize(
    ("module", "slow"),
    [
        ("replication.__main__", {"matplotlib", "mlflow", "numpy", "scipy", "sklearn", "torch"}),
        ("replication.report.build", {"mlflow", "pandas", "scipy", "sklearn", "torch"}),
        ("replication.report.claims", {"matplotlib", "mlflow", "scipy", "sklearn", "torch"}),
        ("replication.training.train", {"mlflow", "scipy", "sklearn", "sympy", "torch._dynamo", "torchvision"}),
    ],
)
def test_what_is_slow_to_import_waits_until_it_is_used(module: str, slow: set[str]) -> None:
    code = f"import sys, {module}; print(*{slow}.intersection(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


def test_the_halves_of_a_reproduction_are_disjoint_ordered_and_complete() -> None:
    stages = {
        f"{name}@{'-'.join(map(str, values))}": (name, values)
        for name, stage in STAGES.items()
        for values in itertools.product(*map(matrix_values, stage["matrix"].values()))
        if values[0] == "digits"
    }
    # As DVC takes them: pattern by pattern, in the order of dvc.yaml.
    halves = [
        [full for part in half for full in stages if fnmatch.fnmatchcase(full, part.format("digits"))]
        for half in HALVES
    ]
    of_runs = ("train", "refine", "evaluate", "analyse", "ablations", "budgets")
    assert sorted(itertools.chain(*halves)) == sorted(full for full, (name, _) in stages.items() if name in of_runs)
    # Every run that a stage starts from was made before it, by the same half.
    runs = {filled(STAGES[name], out, values) for name, values in stages.values() for out in outputs(name)}
    for half in halves:
        made: set[str] = set()
        for full in half:
            name, values = stages[full]
            read = {filled(STAGES[name], dep, values) for dep in STAGES[name]["deps"] if dep.startswith("runs/")}
            needed = {run for run in runs for path in read if run == path or run.startswith(f"{path}/")}
            assert len(needed) >= len(read)
            assert needed <= made, f"{full} comes before what makes {', '.join(sorted(needed - made))}"
            made |= {filled(STAGES[name], out, values) for out in outputs(name)}
