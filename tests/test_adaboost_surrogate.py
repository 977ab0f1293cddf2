"""scripts/adaboost_surrogate.py: the other surrogate of AdaBoost.MM's cost, and a short run by it."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from replication.boosting.adaboost_mm import CostLoss
from scripts.adaboost_surrogate import LogisticCostLoss

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts/adaboost_surrogate.py"


def test_the_logistic_surrogate_of_the_cost() -> None:
    costs = torch.tensor([[-3.0, 1.0, 2.0], [0.5, 0.0, -0.5]])
    logits = torch.tensor([[math.log(2), 0.0, 0.0], [0.0, 0.0, 0.0]])
    # Beside the correct class: 1 and 2 times log2(1 + 1/2); 1/2 times log2(1 + 1), and nothing.
    assert LogisticCostLoss()(logits, costs).item() == pytest.approx((3 * math.log2(1.5) + 0.5) / 2, rel=1e-6)


def test_it_bounds_the_cost_and_starts_where_the_exponential_one_does() -> None:
    generator = torch.Generator().manual_seed(0)
    costs = torch.rand(50, 4, generator=generator)
    labels = torch.randint(4, (50,), generator=generator)
    costs.scatter_(1, labels[:, None], 0.0)
    costs.scatter_(1, labels[:, None], -costs.sum(1, keepdim=True))
    alike = torch.zeros(50, 4)
    assert LogisticCostLoss()(alike, costs).item() == pytest.approx(CostLoss()(alike, costs).item(), rel=1e-6)
    logits = 3 * torch.randn(50, 4, generator=generator)
    chosen = costs.clamp(min=0.0).gather(1, logits.argmax(1, keepdim=True)).mean()
    assert LogisticCostLoss()(logits, costs) >= chosen


def test_it_trains_as_a_user_types_it(tmp_path: Path) -> None:
    for command in (("-m", "replication", "prepare", "digits"), (str(SCRIPT), "digits", "--budget", "0.0002")):
        said = subprocess.run(
            [sys.executable, *command], cwd=_checkout(tmp_path), capture_output=True, text=True, check=True
        ).stdout
    last = re.fullmatch(
        r"digits seed 0 budget 0\.0002: train (0\.\d{4}), validation 0\.\d{4}, test 0\.\d{4}; \d+ s; edges (.*)",
        said.splitlines()[-1],
    )
    assert last and 0 < float(last[1]) < 1 and len(last[2].split(", ")) == 7
    assert not list(tmp_path.glob("scratch/*/*.checkpoint")), "a finished run leaves none"


@pytest.mark.parametrize("wrong", [("nothing",), ("mnist", "--budget", "0")])
def test_what_cannot_be_is_one_line(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *wrong], cwd=_checkout(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")


def _checkout(folder: Path) -> Path:
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return folder
