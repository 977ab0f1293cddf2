"""Is AdaBoost.MM held back by the surrogate that its weak learners go by here? Train it by another.

    python scripts/adaboost_surrogate.py mnist --budget 1 --seed 0

The paper does not say what its weak learners minimised. Ours go by the exponential surrogate of the cost (`CostLoss`),
whose gradient on a batch is that of a few images; here they go by the logistic one, which grows with the margin no
faster than linearly. All else is as in `python -m replication train DATASET adaboost-mm`. Prints every round, and the
accuracies at the end; publishes nothing. Stopped, it goes on where it was when it is called again.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from replication import terminal
from replication.config import changed, load_experiment
from replication.datasets import load_prepared
from replication.errors import ReplicationError
from replication.training import interruption
from replication.training.adaboost_mm import AdaBoostMMBooster
from replication.training.checkpoint import Checkpoints, run_key, what_determines
from replication.training.device import choose_device
from replication.training.record import Recorder
from replication.training.session import open_session
from replication.training.stagewise import StagewiseTrainer


class LogisticCostLoss(nn.Module):
    """Logistic surrogate of the cost: mean_i sum_{l != y_i} C(i, l) log2(1 + exp(z(i, l) - z(i, y_i))).

    Like `CostLoss` it bounds the cost of argmax z; where all logits are alike, it has the same value.
    """

    def forward(self, logits: Tensor, costs: Tensor) -> Tensor:
        """Logits (B, C) and cost rows (B, C) -> scalar."""
        correct = costs.argmin(1, keepdim=True)  # the one entry that is not positive
        exponents = logits - logits.gather(1, correct)
        return (costs.clamp(min=0.0) * functional.softplus(exponents)).sum(1).mean() / math.log(2)


class LogisticBooster(AdaBoostMMBooster):
    """AdaBoost.MM, its weak learners by the logistic surrogate."""

    def loss(self) -> nn.Module:
        return LogisticCostLoss()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("--budget", type=float, help="another than the experiment's")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    try:
        run(asked.dataset, asked.budget, asked.seed)
    except ReplicationError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(dataset: str, budget: float | None, seed: int) -> None:
    """Train and print."""
    experiment = load_experiment(dataset, Path("params.yaml"))
    if budget is not None:
        experiment = changed(experiment, {"budget": budget})
    data = load_prepared(Path(f"data/prepared/{dataset}.safetensors"), experiment.data)
    device = choose_device(experiment.runtime)
    key = run_key(what_determines(experiment, data, device) | {"surrogate": "logistic", "seed": seed})
    interruption.listen()
    recorder = Recorder(device, (terminal.progress_of(f"{dataset} adaboost-mm, logistic surrogate, seed {seed}"),))
    checkpoints = Checkpoints(Path("scratch") / key, experiment.checkpoint)
    session = open_session(experiment, data, seed, device, recorder, checkpoints)
    classes = session.network.head.linear.out_features
    StagewiseTrainer(session, LogisticBooster(session.train.labels, classes)).train()
    checkpoints.clear()
    last, rounds = recorder.rows["history"][-1], recorder.rows["rounds"]
    edges = ", ".join(f"{row['edge']:.4f}" for row in rounds)
    print(
        f"{dataset} seed {seed} budget {experiment.budget:g}: train {1 - rounds[-1]['train_error']:.4f}, "
        f"validation {last['validation_accuracy']:.4f}, test {last['test_accuracy']:.4f}; "
        f"{recorder.seconds:.0f} s; edges {edges}"
    )


if __name__ == "__main__":
    sys.exit(main())
