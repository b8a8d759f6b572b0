"""Errors that a user is meant to read: one sentence each, with the value, where it came from and the remedy.

The command line prints them without a traceback and exits with status 2.
"""


class PcgenError(Exception):
    """Base of every error that pcgen raises on purpose."""


class DataError(PcgenError, ValueError):
    """A file, cloud or mesh is not what it should be."""


class CheckpointError(PcgenError, ValueError):
    """A checkpoint is missing, truncated, of another kind, or asks for code that is not trusted."""


class UnsupportedOperationError(PcgenError, NotImplementedError):
    """A model was asked for a verb that it does not have."""


class ConfigurationError(PcgenError, ValueError):
    """Arguments that cannot work together, or a value out of its range."""


class DivergenceError(PcgenError, ArithmeticError):
    """A training has diverged for good."""
