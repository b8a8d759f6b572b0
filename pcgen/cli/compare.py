"""Put the result files of pcgen evaluate, and of training runs, side by side in one table.

Results of different protocols are refused, with what differs: such numbers say nothing about each other. --ignore
names the fields of the protocol that may differ all the same.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pcgen.cli import common
from pcgen.cli.names import check_different, shortest, split_name

if TYPE_CHECKING:
    from pcgen.metrics import Scores

RUN = "scores"  # stem of the file that a training run leaves in its folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "results",
        nargs="+",
        metavar="[NAME=]FILE",
        help="result.json files, or runs' folders (then their scores.json); NAME is that of the row",
    )
    parser.add_argument("--ignore", default="", help="fields of the protocol that may differ, separated by commas")
    form = parser.add_mutually_exclusive_group()
    for name, what in (("markdown", "Markdown"), ("latex", "LaTeX (booktabs)"), ("csv", "CSV: raw numbers")):
        form.add_argument(f"--{name}", action="store_const", dest="form", const=name, help=f"write {what} instead")


def run(arguments: argparse.Namespace) -> int:
    """Read, compare and print."""
    from pcgen.metrics.scores import compared

    table = compared(_named(arguments.results), ignore=common.split_list(arguments.ignore))
    if arguments.form is not None:
        sys.stdout.write(getattr(table, arguments.form)())
        return 0
    from rich.console import Console

    Console().print(table.rich("scores"))
    return 0


def _named(words: list[str]) -> "dict[str, Scores]":
    """Read every file; a row's name is the one given, or else as much of the path as tells it from the others."""
    from pcgen.metrics import Scores

    given = [(name, _file(Path(place))) for name, place in map(split_name, words)]
    # A run is told by its name and time at least.
    short = shortest([path for name, path in given if not name], _parts, lambda path: 2 if path.stem == RUN else 1)
    names = [name or short[path] for name, path in given]
    check_different(names, given[-1][1], "results")
    return {name: Scores.load(path) for name, (_, path) in zip(names, given, strict=True)}


def _file(path: Path) -> Path:
    return path / f"{RUN}.json" if path.is_dir() else path


def _parts(path: Path) -> tuple[str, ...]:
    return path.parent.absolute().parts if path.stem == RUN else path.with_suffix("").parts
