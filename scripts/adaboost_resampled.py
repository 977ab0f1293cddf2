"""Is AdaBoost.MM held back by how its weak learners are trained here? Train them as BoostResNet's blocks are.

    python scripts/adaboost_resampled.py mnist --budget 1 --seed 0

The paper does not say what its weak learners minimised. Ours minimise the exponential surrogate of the cost, over
batches of all images alike: when the cost has gathered on a few of them, most batches have none of those, and clamping
cuts down the gradient of the others. Here a learner goes by BoostResNet's own oracle loss instead, on images drawn in
proportion to their cost (boosting by resampling); votes, edges, alphas and costs stay AdaBoost.MM's. Prints every
round, and the accuracies at the end; publishes nothing. Stopped, it goes on where it was when it is called again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from replication import terminal
from replication.boosting.multiclass import oracle_loss
from replication.config import changed, load_experiment
from replication.datasets import load_prepared
from replication.errors import ReplicationError
from replication.files import sha256
from replication.training import interruption
from replication.training.adaboost_mm import AdaBoostMMBooster
from replication.training.checkpoint import Checkpoints, run_key, what_determines
from replication.training.device import choose_device
from replication.training.features import BatchSource
from replication.training.record import Recorder
from replication.training.session import Session, open_session
from replication.training.stagewise import StagewiseTrainer


class BatchesByCost(BatchSource):
    """Batches of images drawn in proportion to their cost, with replacement; what goes with each is its label.

    Attributes:
        targets: the costs, (N, C), of which a row's one entry that is not positive stands at the label.
    """

    _drawn_by: Tensor | None = None  # the targets that the two below were made of
    _shares: Tensor
    _labels: Tensor

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Inputs (B, ...) and labels (B,)."""
        if self._drawn_by is not self.targets:
            self._drawn_by, self._labels = self.targets, self.targets.argmin(1)
            self._shares = self.targets.double().clamp(min=0.0).sum(1).cumsum(0)
        drawn = torch.rand(self._batch_size, generator=self._order, dtype=torch.float64, device=self._shares.device)
        index = torch.searchsorted(self._shares, drawn * self._shares[-1], right=True).clamp(max=len(self._shares) - 1)
        return self._features[index], self._labels[index]


class ResampledBooster(AdaBoostMMBooster):
    """AdaBoost.MM, its weak learners by the oracle loss of the name `loss_name`."""

    def __init__(self, labels: Tensor, num_classes: int, loss_name: str) -> None:
        super().__init__(labels, num_classes)
        self._loss_name = loss_name

    def loss(self) -> nn.Module:
        return oracle_loss(self._loss_name)


def trainer_of(session: Session) -> StagewiseTrainer:
    """AdaBoost.MM by resampling on the session's data.

    Raises:
        ReplicationError: its images are augmented.
    """
    if session.experiment.augmentation.active:
        raise ReplicationError("images are augmented in this experiment; resampling is for those that are not (mnist)")
    classes, name = session.network.head.linear.out_features, session.experiment.boostresnet.oracle_loss
    trainer = StagewiseTrainer(session, ResampledBooster(session.train.labels, classes, name))
    experiment, prefix = session.experiment, session.prefix()
    trainer.batches = BatchesByCost(
        trainer.inputs, prefix, experiment.augmentation, experiment.optimizer.batch_size, session.seed
    )
    return trainer


def run(dataset: str, budget: float | None, seed: int) -> None:
    """Train and print."""
    experiment = load_experiment(dataset, Path("params.yaml"))
    if budget is not None:
        experiment = changed(experiment, {"budget": budget})
    data = load_prepared(Path(f"data/prepared/{dataset}.safetensors"), experiment.data)
    device = choose_device(experiment.runtime)
    key = run_key(what_determines(experiment, data, device) | {"script": sha256(Path(__file__)), "seed": seed})
    interruption.listen()
    recorder = Recorder(device, (terminal.progress_of(f"{dataset} adaboost-mm, resampled, seed {seed}"),))
    checkpoints = Checkpoints(Path("scratch") / key, experiment.checkpoint)
    trainer_of(open_session(experiment, data, seed, device, recorder, checkpoints)).train()
    checkpoints.clear()
    last, rounds = recorder.rows["history"][-1], recorder.rows["rounds"]
    edges = ", ".join(f"{row['edge']:.4f}" for row in rounds)
    print(
        f"{dataset} seed {seed} budget {experiment.budget:g}: train {1 - rounds[-1]['train_error']:.4f}, "
        f"validation {last['validation_accuracy']:.4f}, test {last['test_accuracy']:.4f}; "
        f"after the first round train {1 - rounds[0]['train_error']:.4f}, test {rounds[0]['test_accuracy']:.4f}; "
        f"{recorder.seconds:.0f} s; edges {edges}"
    )


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


if __name__ == "__main__":
    sys.exit(main())
