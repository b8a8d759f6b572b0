"""Progress on the console, for work that takes longer than a moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(
    description: str, total: float | None, *, shown: bool = True, in_bytes: bool = False, done: float = 0
) -> Iterator[Callable[[float], None]]:
    """Show a bar with the time that remains, on the error stream.

    Args:
        description: What is going on.
        total: Of everything, None if unknown.
        shown: Whether to show anything.
        in_bytes: Count in bytes and show the speed.
        done: What was there before.

    Yields:
        A function to call with how much more is done.
    """
    if not shown:
        yield lambda _: None
        return
    from rich import progress as bars
    from rich.console import Console

    counts = (bars.DownloadColumn(), bars.TransferSpeedColumn()) if in_bytes else (bars.MofNCompleteColumn(),)
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), *counts, bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, completed=int(done))
        yield lambda more: bar.advance(task, more)
