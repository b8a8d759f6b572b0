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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument("--shapes", default="0,1,2", help="rows or names, separated by commas (default 0,1,2)")
    parser.add_argument("--appearances", default="3,4,5", help="rows or names, separated by commas (default 3,4,5)")
    parser.add_argument(
        "--parts", default="shape", help="of the code, separated by commas, that come from --shapes (default shape)"
    )
    parser.add_argument(
        "-n", type=int, default=PAIRS, help=f"random pairs of clouds to measure; 0 for none (default {PAIRS})"
    )
    parser.add_argument(
        "--references", type=int, default=REFERENCES,
        help=f"random training clouds among which the nearest is looked for (default {REFERENCES})",
    )  # fmt: skip
    common.add_output_arguments(parser)
    parser.add_argument("--json", type=Path, help="write the numbers; - writes them to standard output, not the table")


def run(arguments: argparse.Namespace) -> int:
    """Swap, write, draw, and measure clouds."""
    _check(arguments)
    model = common.load_model(arguments, "encode", "decode")
    results.check_kind(model, arguments)
    parts = _parts(model, arguments)
    from pcgen.cli.modeldata import is_images, model_data

    if is_images(model):
        if arguments.json is not None:
            raise ConfigurationError(
                "--json is for the numbers of clouds: this model makes images, which are not measured"
            )
        common.check_outputs(arguments)
    data = model_data(model, arguments)
    if arguments.out is not None or arguments.png is not None:
        _matrix(model, data, parts, arguments)
    if not is_images(model) and arguments.n:
        from pcgen.cli.swap_scores import measure, show

        show(measure(model, data, parts, arguments), parts, data, arguments)
    return 0


def swapped(model: "GenerativeModel", first: "Tensor", second: "Tensor", parts: tuple[str, ...]) -> "Tensor":
    """Give data (B, …), on the CPU, with the named parts of `first` and all others of `second`."""
    from pcgen.base import in_chunks
    from pcgen.latents import exchange

    made = in_chunks(model.decode, exchange(model, second, first, parts), model.chunk_size).float().cpu()
    return made.clamp(0, 1) if made.ndim == 4 else made


def _check(arguments: argparse.Namespace) -> None:
    if arguments.n < 0:
        raise ConfigurationError(f"-n {arguments.n}: give the number of random pairs, 0 for none")
    if arguments.references < 1:
        raise ConfigurationError(f"--references {arguments.references}: give at least 1")
    if not arguments.n and arguments.out is None and arguments.png is None:
        raise ConfigurationError("nothing to do: give --png FILE or --out FILE for the matrix, or -n pairs to measure")
    if arguments.out is not None or arguments.png is not None:
        common.check_outputs(arguments)
    common.check_writable("--json", arguments.json)


def _parts(model: "GenerativeModel", arguments: argparse.Namespace) -> tuple[str, ...]:
    """Give the names of the parts that come from the rows; some must be left for the columns."""
    parts = tuple(common.split_list(arguments.parts))
    model.columns(parts)  # raises where one is unknown
    others = set(model.latent_parts) - set(parts)
    if not parts or not others:
        known = ", ".join(model.latent_parts)
        raise ConfigurationError(
            f"--parts {arguments.parts}: name some, and not all, of {known}, or nothing is swapped"
        )
    return parts


def _matrix(model: "GenerativeModel", data: "ModelData", parts: tuple[str, ...], arguments: argparse.Namespace) -> None:
    rows = data.rows(arguments.shapes, "--shapes")
    columns = data.rows(arguments.appearances, "--appearances")
    pairs = [(row, column) for row in rows for column in columns]
    made = swapped(model, data.x[[row for row, _ in pairs]], data.x[[column for _, column in pairs]], parts)
    names = tuple(f"{data.name[row]} x {data.name[column]}" for row, column in pairs)
    up = results.up_axis(model)
    results.write_results(arguments, made.numpy(), name=names, up_axis=up)
    if arguments.png is not None:
        from pcgen.viz import draw_swaps

        matrix = made.unflatten(0, (len(rows), len(columns))).numpy()
        words = (" and ".join(parts), " and ".join(name for name in model.latent_parts if name not in parts))
        image = draw_swaps(
            data.x[rows].numpy(), data.x[columns].numpy(), matrix, words=words,
            row_labels=[data.name[row] for row in rows], titles=[data.name[column] for column in columns], up_axis=up,
            heading=f"{words[0]} of the row, {words[1]} of the column",
        )  # fmt: skip
        results.write_picture(arguments, image)
