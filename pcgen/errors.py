"""Errors that a user is meant to read: one sentence each, with the value, where it came from and the remedy.

The command line prints them without a traceback and exits with status 2.
"""

import re

_LONGEST = 2000  # characters; of a longer message the middle is left out: the file stands first and the remedy last
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class PcgenError(Exception):
    """Base of every error that pcgen raises on purpose.

    Its text may hold words out of files that nobody vouches for: it is one line, never long, and nothing in it moves
    a terminal's cursor.
    """

    def __str__(self) -> str:
        text = _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), super().__str__())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 503]} … {text[-500:]}"


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
