"""What MLflow runs when it loads a logged network: safetensors in, class scores out. No MLflow in here."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class ServedNetwork:
    """The network behind MLflow's `predict`."""

    def __init__(self, network: Any) -> None:
        self.network = network.eval()

    def predict(self, images: Any, params: dict[str, Any] | None = None) -> Any:
        """Class scores (N, classes), float32, of normalised images (N, C, H, W)."""
        import numpy as np
        import torch

        with torch.inference_mode():
            scores = self.network(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)))
        return scores.float().numpy()  # the signature's; an ensemble sums in float64


def _load_pyfunc(path: str) -> ServedNetwork:
    """MLflow's entry point; `path` holds run.json and model.safetensors."""
    from replication.training.runs import load_model

    return ServedNetwork(load_model(Path(path)))
