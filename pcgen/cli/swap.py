"""Put the shape of some data together with the appearance of others, every pair of them as a matrix.

--shapes names the rows of the matrix and --appearances its columns. What comes from the rows is the code's part
"shape", or --parts; all other parts come from the columns (of a class-aware model the class too).

For clouds the table says over random pairs whether a swap does what it says: how the extents of the swapped cloud
correlate with those of the two donors' reconstructions, and, where classes are known, whose class the nearest training
cloud has (Chamfer distance), among pairs of different classes.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData

PAIRS = 100
REFERENCES = 500
SHAPES, APPEARANCES = "0,1,2", "3,4,5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument("--shapes", help=f"rows or names, separated by commas (default {SHAPES})")
    parser.add_argument("--appearances", help=f"rows or names, separated by commas (default {APPEARANCES})")
    parser.add_argument(
        "--parts", default="shape", help="of the code, separated by commas, that come from --shapes (default shape)"
    )
    parser.add_argument("-n", type=int, help=f"random pairs of clouds to measure; 0 for none (default {PAIRS})")
    parser.add_argument(
        "--references",
        type=int,
        help=f"random training clouds among which the nearest is looked for (default {REFERENCES})",
    )
    common.add_output_arguments(parser)
    parser.add_argument("--json", type=Path, help="write the numbers; - writes them to standard output, not the table")


def run(arguments: argparse.Namespace) -> int:
    """Swap, write, draw, and measure clouds."""
    _check(arguments)
    _check_rows(arguments)
    model = common.load_model(arguments, "encode", "decode")
    results.check_kind(model, arguments)
    parts = _parts(model, arguments)
    from pcgen.cli.modeldata import is_images, model_data

    if is_images(model):
        _check_images(arguments)
    data = model_data(model, arguments)
    pairs = 0 if is_images(model) else PAIRS if arguments.n is None else arguments.n
    if pairs:
        from pcgen.cli.swap_scores import check_pairs

        check_pairs(pairs, data)
    if _wants_matrix(arguments):
        _matrix(model, data, parts, arguments)
    if pairs:
        from pcgen.cli.swap_scores import measure, show

        references = REFERENCES if arguments.references is None else arguments.references
        found = measure(model, data, parts, arguments, num_pairs=pairs, num_references=references)
        show(found, parts, data, arguments)
    return 0


def swapped(model: "GenerativeModel", first: "Tensor", second: "Tensor", parts: tuple[str, ...]) -> "Tensor":
    """Give data (B, …), on the CPU, with the named parts of `first` and all others of `second`."""
    from pcgen.base import in_chunks
    from pcgen.latents import exchange

    made = in_chunks(model.decode, exchange(model, second, first, parts), model.chunk_size).float().cpu()
    return made.clamp(0, 1) if made.ndim == 4 else made


def donor_words(model: "GenerativeModel", parts: tuple[str, ...]) -> tuple[str, str]:
    """Name what the rows give and what the columns give: the parts, and all others."""
    return " and ".join(parts), " and ".join(name for name in model.latent_parts if name not in parts)


def _wants_matrix(arguments: argparse.Namespace) -> bool:
    return arguments.out is not None or arguments.png is not None


def _check(arguments: argparse.Namespace) -> None:
    if arguments.n is not None and arguments.n < 0:
        raise ConfigurationError(f"-n {arguments.n}: give the number of random pairs, 0 for none")
    if arguments.references is not None and arguments.references < 1:
        raise ConfigurationError(f"--references {arguments.references}: give at least 1")
    if arguments.n == 0:
        if not _wants_matrix(arguments):
            raise ConfigurationError(
                "nothing to do: give --png FILE or --out FILE for the matrix, or -n pairs to measure"
            )
        for name in ("json", "references"):
            if (given := getattr(arguments, name)) is not None:
                raise ConfigurationError(f"--{name} {given} is for what is measured, and -n 0 measures nothing")
    if _wants_matrix(arguments):
        common.check_outputs(arguments)
    common.check_writable("--json", arguments.json)


def _check_images(arguments: argparse.Namespace) -> None:
    """Refuse what is for clouds alone, and ask for the matrix."""
    for option, given in (
        ("--json", arguments.json),
        ("-n", arguments.n or None),
        ("--references", arguments.references),
    ):
        if given is not None:
            raise ConfigurationError(
                f"{option} {given} is for measuring clouds: this model makes images, which are not measured"
            )
    common.check_outputs(arguments)


def _check_rows(arguments: argparse.Namespace) -> None:
    """Refuse rows of a matrix that nobody asked for."""
    for name in ("shapes", "appearances"):
        if (given := getattr(arguments, name)) is not None and not _wants_matrix(arguments):
            raise ConfigurationError(f"--{name} {given} is for the matrix: give --png FILE or --out FILE for it")


def _parts(model: "GenerativeModel", arguments: argparse.Namespace) -> tuple[str, ...]:
    """Give the names of the parts that come from the rows; some must be left for the columns."""
    parts = tuple(dict.fromkeys(common.split_list(arguments.parts)))
    model.columns(parts)  # raises where one is unknown
    if len(model.latent_parts) == 1:
        (only,) = model.latent_parts
        raise ConfigurationError(
            f"the codes of this {type(model).__name__} have one part alone, {only}: there is nothing to swap"
        )
    others = set(model.latent_parts) - set(parts)
    if not parts or not others:
        known = ", ".join(model.latent_parts)
        raise ConfigurationError(
            f"--parts {arguments.parts}: name some, and not all, of {known}, or nothing is swapped"
        )
    return parts


def _matrix(model: "GenerativeModel", data: "ModelData", parts: tuple[str, ...], arguments: argparse.Namespace) -> None:
    rows = data.rows(SHAPES if arguments.shapes is None else arguments.shapes, "--shapes")
    columns = data.rows(APPEARANCES if arguments.appearances is None else arguments.appearances, "--appearances")
    pairs = [(row, column) for row in rows for column in columns]
    made = swapped(model, data.x[[row for row, _ in pairs]], data.x[[column for _, column in pairs]], parts)
    names = tuple(f"{data.name[row]} x {data.name[column]}" for row, column in pairs)
    up = results.up_axis(model)
    results.write_results(arguments, made.numpy(), name=names, up_axis=up)
    if arguments.png is not None:
        from pcgen.viz import draw_swaps

        matrix = made.unflatten(0, (len(rows), len(columns))).numpy()
        words = donor_words(model, parts)
        image = draw_swaps(
            data.x[rows].numpy(), data.x[columns].numpy(), matrix, words=words,
            row_labels=[data.name[row] for row in rows], titles=[data.name[column] for column in columns], up_axis=up,
            heading=f"{words[0]} of the row, {words[1]} of the column",
        )  # fmt: skip
        results.write_picture(arguments, image)
