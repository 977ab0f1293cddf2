"""Errors that a user can act on: one line that names the cause and the mend."""

from __future__ import annotations


class ReplicationError(Exception):
    """Something the user can mend. The command line prints its message as one line and exits with `exit_code`."""

    exit_code = 1


class ConfigError(ReplicationError):
    """A parameter is unknown, of the wrong type or out of range."""

    exit_code = 2


class DataError(ReplicationError):
    """An archive or a prepared file is missing, damaged, or not the one expected."""


class TrainingError(ReplicationError):
    """Training cannot start or cannot go on."""


class ResultsError(ReplicationError):
    """A run directory or a published result is missing or malformed."""
