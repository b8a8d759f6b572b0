"""Data files: turn meshes or clouds into one HDF5 file, or say what a file holds."""

import argparse
from pathlib import Path

from pcgen.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the two verbs and their arguments."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="prepare | info")
    prepare = verbs.add_parser(
        "prepare",
        help="meshes or clouds -> HDF5",
        description="Sample meshes (or gather clouds) into one HDF5 file, on all cores. A bad mesh is reported with "
        "its reason and the rest goes on; the exit status is then 1 unless --allow-failures is given.",
    )
    prepare.add_argument("source", type=Path, help="a folder of meshes or clouds, a data set's tree, or one file")
    prepare.add_argument("out", type=Path, help="the HDF5 file to write")
    prepare.add_argument("--points", type=int, default=2048, help="points a cloud (default 2048)")
    prepare.add_argument("--method", choices=["uniform", "poisson"], default="uniform", help="how meshes are sampled")
    prepare.add_argument("--seed", type=int, default=0, help="the same seed gives the same file, for any --jobs")
    prepare.add_argument("--jobs", type=int, help="processes (default: one a core)")
    prepare.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    prepare.add_argument("--allow-failures", action="store_true", help="exit with 0 even if some meshes are bad")
    info = verbs.add_parser("info", help="what a file or folder holds", description="Say what a file or folder holds.")
    info.add_argument("file", type=Path)
    info.add_argument("--json", action="store_true", help="for machines")


def run(arguments: argparse.Namespace) -> int:
    """Prepare or describe."""
    return _prepare(arguments) if arguments.what == "prepare" else _info(arguments)


def _prepare(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from pcgen.io import prepare

    summary = prepare(
        arguments.source,
        arguments.out,
        num_points=arguments.points,
        method=arguments.method,
        seed=arguments.seed,
        jobs=arguments.jobs,
        overwrite=arguments.overwrite,
    )
    Console(stderr=True).print(summary.table())
    common.say(f"{summary.converted} clouds of {arguments.points} points: {arguments.out}")
    return 1 if summary.failed and not arguments.allow_failures else 0


def _info(arguments: argparse.Namespace) -> int:
    from pcgen.io import describe_file

    facts = describe_file(arguments.file)
    if arguments.json:
        import json
        import sys

        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in facts.items():
        table.add_row(f"[bold]{key.replace('_', ' ')}[/bold]", str(value))
    Console().print(table)
    return 0
