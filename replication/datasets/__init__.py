"""Data sets, from the servers to batches.

`sources` says where they come from, `download` and `transfer` get them, `archives` reads them, `prepare` makes the one
file that `prepared` defines, `loader` keeps it on the training device. Only `loader` imports torch.
"""

from replication.datasets.prepared import SPLITS, PreparedDataset, load_prepared
from replication.datasets.sources import Source

__all__ = ["SPLITS", "PreparedDataset", "Source", "load_prepared"]
