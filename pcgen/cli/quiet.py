"""Warnings as one line, without a line of source; and without what is of no help to who types `pcgen`."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

# Lightning flattens batches with its copy of a function of torch's whose classes torch has deprecated since: nothing
# that a user, or pcgen, could change.
_LEAF_SPEC = r".*isinstance\(treespec, LeafSpec\)"
# Lightning's own command line calls a method that jsonargparse has deprecated since.
_PARSER = r"\s*(By default only one JsonargparseDeprecationWarning|``instantiate_classes`` was deprecated)"
# Every run has a folder of its own, so that a resumed one does not touch the first one's checkpoints: it is meant.
_NEW_FOLDER = r"The dirpath has changed from"
# An advertisement for a hosted service, printed at every start whatever loggers are configured.
_IGNORED_MESSAGES = ("litlogger",)


@contextmanager
def readable() -> Iterator[None]:
    """Print a warning as `pcgen: warning: …` and leave those above out, as long as the command runs."""
    with warnings.catch_warnings():
        for message in (_LEAF_SPEC, _PARSER, _NEW_FOLDER):
            warnings.filterwarnings("ignore", message)
        warnings.showwarning = _show
        log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
        log.addFilter(_is_of_use)
        try:
            yield
        finally:
            log.removeFilter(_is_of_use)


def _is_of_use(record: logging.LogRecord) -> bool:
    return not any(word in record.getMessage() for word in _IGNORED_MESSAGES)


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, UserWarning):
        (file or sys.stderr).write(f"pcgen: warning: {' '.join(str(message).split())}\n")
    else:  # for developers: where it comes from is what they need
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))
