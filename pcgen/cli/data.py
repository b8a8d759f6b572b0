"""Data files: turn meshes or clouds into HDF5, one file or shards, or say what a file holds."""

import argparse
from pathlib import Path
from typing import Any

from pcgen.cli import common
from pcgen.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the two verbs and their arguments."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="prepare | info")
    prepare = verbs.add_parser(
        "prepare",
        help="meshes or clouds -> HDF5",
        description="Sample meshes (or gather clouds) into one HDF5 file, or with --shard-size into a folder of them, "
        "in as many processes as pay. The same command goes on where it was interrupted, even killed, and leaves alone "
        "what is finished. A bad mesh is reported with its reason and the rest goes on; the exit status is then 1, or "
        "0 with --allow-failures.",
    )
    prepare.add_argument("source", type=Path, help="a folder of meshes or clouds, a data set's tree, or one file")
    prepare.add_argument("out", type=Path, help="the HDF5 file to write, or the folder of shards")
    prepare.add_argument("--points", type=int, default=2048, help="points a cloud (default 2048)")
    prepare.add_argument(
        "--method",
        choices=["uniform", "poisson"],
        default="uniform",
        help="how meshes are sampled: by area, or evenly spread (default uniform)",
    )
    prepare.add_argument(
        "--seed", type=int, default=0, help="the same seed gives the same file for any --jobs (default 0)"
    )
    prepare.add_argument(
        "--shard-size",
        type=int,
        metavar="N",
        help="N clouds in each file of a folder, for sets that memory does not hold",
    )
    prepare.add_argument("--jobs", type=int, help="processes (default: as many as pay, up to all cores)")
    prepare.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    prepare.add_argument("--allow-failures", action="store_true", help="exit with 0 even if some meshes are bad")
    info = verbs.add_parser("info", help="what a file or folder holds", description="Say what a file or folder holds.")
    info.add_argument("file", type=Path, help="clouds or meshes, as any other verb takes them")
    info.add_argument("--json", action="store_true", help="for machines")


def run(arguments: argparse.Namespace) -> int:
    """Prepare or describe."""
    return _prepare(arguments) if arguments.what == "prepare" else _info(arguments)


def _prepare(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from pcgen.io import prepare

    for flag, number in (
        ("--points", arguments.points),
        ("--jobs", arguments.jobs),
        ("--shard-size", arguments.shard_size),
    ):
        if number is not None and number < 1:
            raise ConfigurationError(f"{flag} {number}: at least 1 is needed")
    summary = prepare(
        arguments.source,
        arguments.out,
        num_points=arguments.points,
        method=arguments.method,
        seed=arguments.seed,
        jobs=arguments.jobs,
        overwrite=arguments.overwrite,
        shard_size=arguments.shard_size,
    )
    Console(stderr=True).print(summary.table())
    if summary.found:
        common.say(f"{common.count(summary.found, 'cloud')} had been done by an earlier run")
    common.say(f"{common.count(summary.converted, 'cloud')} of {arguments.points} points: {common.shown(summary.path)}")
    return 1 if summary.failed and not arguments.allow_failures else 0


def _info(arguments: argparse.Namespace) -> int:
    from pcgen.io import describe_file

    facts = describe_file(arguments.file)
    if arguments.json:
        import json
        import sys

        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return 0
    _print_facts(facts)
    return 0


def _print_facts(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _words(facts).items():
        table.add_row(f"[bold]{name}[/bold]", escape(value))
    console = Console()
    console.print(table)
    if facts["classes"]:
        splits = list(facts["splits"])
        classes = Table("class", box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for split in splits:
            classes.add_column("clouds" if split == "all" else split, justify="right")
        for name, counts in facts["classes"].items():
            classes.add_row(escape(name), *[str(counts.get(split, 0)) for split in splits])
        console.print("", classes)


def _words(facts: dict[str, Any]) -> dict[str, str]:
    """Put the facts into words, those that say something."""
    words = {
        "path": common.shown(facts["path"]),
        "kind": facts["kind"],
        "meshes" if facts["meshes"] else "clouds": str(facts["clouds"]),
        "points": _points(facts),
        "splits": ", ".join(f"{name} {n}" for name, n in facts["splits"].items() if name != "all"),
        "factors": ", ".join(facts["factors"]),
        "up axis": "" if facts["up_axis"] is None else "xyz"[facts["up_axis"]],
        "extent": "",
        "longest side": "",
        "not finite": f"{facts['non_finite']} clouds hold NaN or infinity" if facts["non_finite"] else "",
        "unreadable": "\n".join(reason for _, reason in facts["unreadable"]),
    }
    if facts["sizes"] is not None:
        sides = zip("xyz", facts["low"], facts["high"], strict=True)
        words["extent"] = ", ".join(f"{axis} {low:.4g} to {high:.4g}" for axis, low, high in sides)
        least, median, most = facts["sizes"]
        words["longest side"] = f"{least:.4g} to {most:.4g}, median {median:.4g}"
        if facts["looked_at"] < facts["clouds"]:
            words["longest side"] += f" (of {facts['looked_at']} looked at)"
    return {name: text for name, text in words.items() if text}


def _points(facts: dict[str, Any]) -> str:
    points = facts["points"]
    if facts["meshes"]:
        return f"{points} are drawn from each mesh, unless asked otherwise"
    return f"{points[0]} to {points[1]}" if isinstance(points, list) else str(points or "")
