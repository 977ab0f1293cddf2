"""What a reader must know of runs before comparing their line with another one."""

from __future__ import annotations

from collections.abc import Sequence

from replication.report.labels import BINARY, STOCK_LIBRARY
from replication.report.results import DatasetResults, Run, budgets_of

_BLOCK_BY_BLOCK = ("boostresnet", "boostresnet-refined", BINARY)


def remarks(runs: Sequence[Run], budgets: Sequence[float] = ()) -> tuple[str, ...]:
    """What sets these runs, all of one method, apart from others; `budgets` are those of the table they stand in."""
    return (*_of_method(runs[0]), *_of_settings(runs[0]), *_of_budget(runs, budgets)) if runs else ()


def detail(runs: Sequence[Run]) -> str:
    """What of the remarks differs from dataset to dataset."""
    run = next(iter(runs), None)
    if run is not None and run.method == STOCK_LIBRARY:
        fitted = run.metrics.train_samples
        part = fitted is not None and fitted < run.info.train_size
        return f"fitted to {fitted:,} of {run.info.train_size:,} training images" if part else ""
    return " against ".join(run.info.class_names) if run is not None and run.method == BINARY else ""


def curve_images(results: DatasetResults) -> str:
    """How many images are behind a point of the curves, for the splits of which it is not all: '2,000 training, 2,000
    validation and 2,000 test images'.
    """
    run = next(iter(results.all), None)
    if run is None:
        return ""
    settings, info = run.info.settings, run.info
    held_out = settings.get("evaluation.held_out_samples")
    samples = (
        ("training", settings.get("evaluation.train_samples"), info.train_size),
        ("validation", held_out, info.validation_size),
        ("test", held_out, info.test_size),
    )
    parts = [f"{taken:,} {name}" for name, taken, size in samples if isinstance(taken, int) and taken < size]
    return f"{' and '.join(filter(None, (', '.join(parts[:-1]), parts[-1])))} images" if parts else ""


def _of_method(run: Run) -> list[str]:
    if run.method == STOCK_LIBRARY:
        library = run.metrics.stock_library or "a stock library"
        return [
            f"a stock library's row, not our implementation ({library}), on raw pixels: no gradient updates and no "
            "budget"
        ]
    if run.method == BINARY:
        return ["two of the classes alone, by Algorithms 1 and 2: an easier problem than the other lines'"]
    return []


def _of_settings(run: Run) -> list[str]:
    """Shortcuts that are off by default."""
    if run.method == STOCK_LIBRARY:
        return []
    settings, texts = run.info.settings, []
    views = settings.get("augmentation.cached_views")
    if views and run.method in _BLOCK_BY_BLOCK and augmented(run):
        texts.append(f"batches of {views} augmented views of every image per block, drawn once and stored")
    if settings.get("runtime.precision") == "bfloat16":
        texts.append("forward passes on training batches in bfloat16")
    if settings.get("runtime.feature_precision") == "float16" and run.method in _BLOCK_BY_BLOCK:
        texts.append("outputs of the frozen blocks stored in float16")
    return texts


def _of_budget(runs: Sequence[Run], budgets: Sequence[float]) -> list[str]:
    """The budget, where not all lines of the table have the same."""
    own = budgets_of(runs)
    return [f"budget {', '.join(f'{budget:g}' for budget in own)}"] if own and len(budgets) > 1 else []


def augmented(run: Run) -> bool:
    """Whether its training images were augmented."""
    settings = run.info.settings
    return bool(settings.get("augmentation.crop_padding") or settings.get("augmentation.flip"))
