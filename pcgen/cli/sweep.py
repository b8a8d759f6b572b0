"""Run the trials of a sweep one after the other, from the file that `wandb sweep` takes too, without a server.

Each trial is `pcgen fit` in a folder of its own below the sweep's, and its W&B run is in the group of the sweep's name.
The same command again passes over the trials that have finished and goes on with the one that has not. In the end
there are a table, sorted by the sweep's metric, `sweep.csv`, and `sweep.png`: the metric over the first parameter, a
line for each value of the others. Methods are grid and random; what learns from earlier trials needs W&B's server.
"""

import argparse
import csv
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pcgen.cli.common import shown
from pcgen.cli.sweep_file import Sweep, Trial, read_sweep
from pcgen.cli.trust import TRUST
from pcgen.errors import ConfigurationError
from pcgen.io.files import atomic
from pcgen.io.logged import logged_rows

if TYPE_CHECKING:
    from rich.table import Table

STATE = "sweep.json"


class Result(NamedTuple):
    """What a trial came to: its metric's best value, the epoch of it, and the last one; None where it has none."""

    trial: Trial
    status: str
    best: float | None = None
    epoch: int | None = None
    last: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", type=Path, help="a W&B sweep configuration (YAML)")
    parser.add_argument("--folder", type=Path, help="of the sweep's runs (default runs/<its name>)")
    parser.add_argument("--count", type=int, help="trials of a random sweep (default: the file's run_cap)")
    parser.add_argument("--seed", type=int, default=0, help="of a random sweep (default 0)")
    parser.add_argument(
        "--trust", action="store_true", help="build classes that the file, or a config that it names, has from anywhere"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run none")


def run(arguments: argparse.Namespace) -> int:
    """Run what has not finished, then show the table and draw the picture."""
    sweep = read_sweep(arguments.file)
    more = [TRUST] if arguments.trust else []
    if not arguments.trust:
        sweep.check_trust(arguments.file)
    folder = arguments.folder or Path("runs") / sweep.name
    trials = sweep.trials(arguments.count, arguments.seed)
    if arguments.dry_run:
        for trial in trials:
            sys.stdout.write(f"pcgen {shlex.join([*_words(sweep, trial, folder), *more])}\n")
        return 0
    finished = _State(folder)
    for i, trial in enumerate(trials, start=1):
        _run(sweep, trial, folder, finished, f"trial {i} of {len(trials)}", more)
    results = sorted((_result(sweep, trial, folder, finished) for trial in trials), key=_order(sweep))
    _show(sweep, folder, results)
    return int(any(result.status != "finished" for result in results))


class _State:
    """The words of the trials that have finished, and the exit status of the others, in the sweep's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STATE
        self.trials: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            try:
                self.trials = json.loads(self.path.read_text(encoding="utf-8"))["trials"]
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigurationError(f"{self.path} is damaged: remove it, and finished trials run again") from error

    def has(self, trial: Trial, words: list[str]) -> bool:
        """Say whether a trial has finished.

        Raises:
            ConfigurationError: If it was another trial of that name.
        """
        known = self.trials.get(trial.name)
        if known is not None and known["words"] != words:
            raise ConfigurationError(
                f"{self.path.parent} holds {trial.name} of another sweep (fit {shlex.join(known['words'])}): "
                "give another --folder"
            )
        return known is not None and known["status"] == 0

    def note(self, trial: Trial, words: list[str], status: int) -> None:
        self.trials[trial.name] = {"words": words, "status": status}
        with atomic(self.path, durable=True) as unfinished:
            unfinished.write_text(json.dumps({"trials": self.trials}, indent=2) + "\n", encoding="utf-8")


def _words(sweep: Sweep, trial: Trial, folder: Path) -> list[str]:
    return ["fit", *sweep.words(trial), "--name", sweep.name, "--folder", str(folder / trial.name)]


def _run(sweep: Sweep, trial: Trial, folder: Path, state: _State, title: str, more: Sequence[str] = ()) -> None:
    if state.has(trial, sweep.words(trial)):
        sys.stdout.write(f"{title}: {trial.name} has finished before\n")
        return
    sys.stdout.write(f"{title}: {trial.name}\n")
    sys.stdout.flush()
    # A process for each: what one leaves behind (a W&B run, the seeds of generators) is nothing to the next.
    words = [*_words(sweep, trial, folder), *more]
    status = subprocess.run([sys.executable, "-m", "pcgen", *words], check=False).returncode  # noqa: S603 -- our own program
    state.note(trial, sweep.words(trial), status)


def _result(sweep: Sweep, trial: Trial, folder: Path, state: _State) -> Result:
    status = state.trials[trial.name]["status"]
    said = "finished" if status == 0 else f"failed ({status})"
    values = _logged(folder / trial.name / "metrics.csv", sweep.metric)
    if not values:
        return Result(trial, said)
    value, epoch = (max if sweep.maximize else min)(values, key=lambda pair: pair[0])
    return Result(trial, said, value, epoch, values[-1][0])


def _logged(file: Path, metric: str) -> list[tuple[float, int]]:
    """Give the finite values of a metric with their epochs."""
    rows = [(row[metric], int(row.get("epoch", 0))) for row in logged_rows(file) if metric in row]
    return [(value, epoch) for value, epoch in rows if math.isfinite(value)]


def _order(sweep: Sweep) -> Any:
    sign = -1 if sweep.maximize else 1
    return lambda result: (result.best is None, sign * (result.best or 0.0))  # those without a value come last


# ── what is shown ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _show(sweep: Sweep, folder: Path, results: Sequence[Result]) -> None:
    from rich.console import Console

    heads = (*sweep.varied, f"best {sweep.metric}", "epoch", "last", "status")
    rows = [[*(r.trial.values[key] for key in sweep.varied), r.best, r.epoch, r.last, r.status] for r in results]
    with atomic(folder / "sweep.csv") as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([heads, *rows])
    console = Console()
    console.print(_table(sweep, heads, rows))
    if all(result.best is None for result in results):
        console.print(f"no trial has logged {sweep.metric}", highlight=False)
    places = {"table": folder / "sweep.csv"} | (
        {"picture": folder / "sweep.png"} if _draw(sweep, folder, results) else {}
    )
    for what, where in places.items():
        console.print(f"{what:11s} {shown(where)}", highlight=False, soft_wrap=True, markup=False)


def _table(sweep: Sweep, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> "Table":
    from rich.table import Table

    goal = "largest" if sweep.maximize else "smallest"
    table = Table(title=f"{sweep.name}: {goal} {sweep.metric} first")
    for head in heads:
        table.add_column(sweep.short.get(head, head), justify="right")
    for row in rows:
        table.add_row(
            *("" if cell is None else f"{cell:.5g}" if isinstance(cell, float) else str(cell) for cell in row)
        )
    return table


def _draw(sweep: Sweep, folder: Path, results: Sequence[Result]) -> bool:
    """Draw the metric over the first varied number, a line for each setting of the others; False if there is none."""
    found = [result for result in results if result.best is not None]
    numbers = [key for key in sweep.varied if all(_is_number(result.trial.values[key]) for result in found)]
    if not found or not numbers:
        return False
    from pcgen.viz import draw_curves, save_png

    across, others = numbers[0], [key for key in sweep.varied if key != numbers[0]]
    lines: dict[str, list[tuple[float, float]]] = {}
    for result in sorted(found, key=lambda r: [_sortable(r.trial.values[key]) for key in (*others, across)]):
        name = ", ".join(f"{sweep.short[key]} {result.trial.values[key]}" for key in others) or sweep.metric
        assert result.best is not None
        lines.setdefault(name.replace("/", " "), []).append((float(result.trial.values[across]), result.best))
    goal = "largest" if sweep.maximize else "smallest"
    image = draw_curves(
        lines, panels=[list(lines)], x_name=sweep.short[across], title=f"{goal} {sweep.metric} of a run"
    )
    save_png(folder / "sweep.png", image)
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _sortable(value: Any) -> tuple[bool, float, str]:
    return (not _is_number(value), float(value) if _is_number(value) else 0.0, str(value))
