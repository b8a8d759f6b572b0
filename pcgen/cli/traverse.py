"""Move one coordinate of a datum's code after the other: what each latent dimension does.

One row a latent dimension, the most relevant first: by its mean KL over the data, or for a model without a posterior by
the variance of the codes. The unchanged reconstruction is framed at the left, and a triangle marks its own value. What
is written is in the model's units, one row after the other.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData
    from pcgen.latents import Traversal

BETWEEN = 2  # stations of the moving picture for each of the grid
REFERENCE = 1000  # data over which the relevance is taken
NAMED = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument("--row", default="0", help="row or name of the datum (default 0)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--dims", help="latent dimensions, separated by commas")
    which.add_argument("--num-dims", type=int, default=10, help="so many, the most relevant (default 10)")
    parser.add_argument("--steps", type=int, default=7, help="columns (default 7)")
    parser.add_argument(
        "--extent",
        type=float,
        default=3.0,
        help="from −extent to +extent; without a prior, in standard deviations of the codes about their mean (default "
        "3)",
    )
    common.add_output_arguments(parser)
    parser.add_argument("--gif", type=Path, help="draw all of them moving, there and back")


def run(arguments: argparse.Namespace) -> int:
    """Traverse, write and draw."""
    _check(arguments)
    dims = None if arguments.dims is None else common.number_list("--dims", arguments.dims, int)
    model = common.load_model(arguments, "encode", "decode")
    results.check_kind(model, arguments)
    from pcgen.cli.modeldata import model_data

    data = model_data(model, arguments)
    row = data.row(arguments.row, "--row")
    steps = arguments.steps if arguments.gif is None else BETWEEN * (arguments.steps - 1) + 1
    found = _traversal(model, data, row, dims, steps, arguments)
    grid = slice(None, None, 1 if arguments.gif is None else BETWEEN)
    made, values = _plain(found.data), _plain(found.values)
    _say_order(found, data)
    _write(arguments, model, made[:, grid], values[grid], found)
    how: dict[str, Any] = {"unit": found.unit, "up_axis": results.up_axis(model)}
    how["heading"] = f"{data.name[row]} of {data.source}"
    if arguments.png is not None:
        from pcgen.viz import draw_traversal

        image = draw_traversal(
            made[:, grid], base=_plain(found.base), values=values[grid], labels=found.labels,
            current=_plain(found.current), **how,
        )  # fmt: skip
        results.write_picture(arguments, image)
    if arguments.gif is not None:
        from pcgen.viz import save_gif, traversal_frames

        save_gif(arguments.gif, traversal_frames(made, values=values, labels=found.labels, **how))
        common.say(f"moving picture: {common.shown(arguments.gif)}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    common.check_outputs(arguments)
    if arguments.num_dims < 1:
        raise ConfigurationError(f"--num-dims {arguments.num_dims}: at least one is traversed")
    if arguments.steps < 2:
        raise ConfigurationError(f"--steps {arguments.steps}: a traversal has at least its two ends")
    if not 0 < arguments.extent < float("inf"):
        raise ConfigurationError(f"--extent {arguments.extent:g}: give a number above 0, such as 3")


def _traversal(
    model: "GenerativeModel", data: "ModelData", row: int, dims: list[int] | None, steps: int, arguments: Any
) -> "Traversal":
    from pcgen.latents import relevance, traverse

    reference = data.x[common.random_rows(data.x, REFERENCE, arguments.seed)]
    Z = int(model.encode(data.x[row : row + 1]).shape[1])
    if dims is None:
        order = relevance(model, reference)[0].argsort(descending=True, stable=True)
        dims = order[: arguments.num_dims].tolist()
    elif len(set(dims)) < len(dims) or not all(0 <= k < Z for k in dims):
        raise ConfigurationError(f"--dims {arguments.dims}: this model's latent dimensions are 0 to {Z - 1}, each once")
    return traverse(model, data.x[row], reference=reference, dims=dims, steps=steps, extent=arguments.extent)


def _say_order(found: "Traversal", data: "ModelData") -> None:
    what = {"KL": "their KL in nats", "variance": "the variance of the codes"}[found.relevance_name]
    dims = found.dims.tolist()
    shown = ", ".join(f"z{k} {found.relevance[k]:.3g}" for k in dims[:NAMED])
    more = f" and {len(dims) - NAMED} more" if len(dims) > NAMED else ""
    common.say(f"latent dimensions by {what} over {min(len(data.x), REFERENCE)} of {data.place}: {shown}{more}")


def _write(arguments: argparse.Namespace, model: "GenerativeModel", made: Any, values: Any, found: "Traversal") -> None:
    from pcgen.cli.modeldata import is_images

    names = tuple(f"z{k}={value:.3g}{found.unit}" for k in found.dims.tolist() for value in values.tolist())
    flat = made.reshape(-1, *made.shape[2:])
    flat = flat.clip(0, 1) if is_images(model) else flat
    results.write_results(arguments, flat, name=names, up_axis=results.up_axis(model))


def _plain(x: Any) -> Any:
    return x.detach().float().cpu().numpy()
