"""MLflow: a view of the run directories, which stay the truth and can rebuild it at any time.

Two ways lead a run there. `open_tracker` follows a training as it happens, from a thread of its own, so that a slow or
dead server costs training nothing; `log_run` and `log_runs` import finished run directories, also of other machines.
Both end in the same state, and doing either twice changes nothing.

MLflow is imported by store.py alone, and there inside functions: everything else works without it.
"""

from __future__ import annotations

from replication.tracking.live import Tracker, open_tracker
from replication.tracking.location import tracking_uri
from replication.tracking.runs import ImportCounts, log_run, log_runs, pages, try_log_runs

__all__ = ["ImportCounts", "Tracker", "log_run", "log_runs", "open_tracker", "pages", "tracking_uri", "try_log_runs"]
