"""Progress on the console, for work that takes longer than a moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[float, float | None], None]  # how much is done in all, and of how much (None: as before)


@contextmanager
def progress(
    description: str, total: float | None = None, *, shown: bool | None = None, in_bytes: bool = False
) -> Iterator[Report]:
    """Show a bar with the time that remains, on the error stream.

    Args:
        description: What is going on.
        total: Of everything, None if it is unknown or will be told later.
        shown: Whether to show anything; None does where the error stream is a terminal.
        in_bytes: Count in bytes and show the speed.

    Yields:
        A function to call with how much is done in all and of how much, `report(3, 10)`; `report(3, None)` leaves the
        total as it is.
    """
    from rich.console import Console

    console = Console(stderr=True)  # one of its own: another bar may be live on the default one
    if not (console.is_terminal if shown is None else shown):
        yield lambda done, total: None  # noqa: ARG005 -- nobody watches
        return
    from rich import progress as bars

    counts = (bars.DownloadColumn(), bars.TransferSpeedColumn()) if in_bytes else (bars.MofNCompleteColumn(),)
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), *counts, bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=console, transient=console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
