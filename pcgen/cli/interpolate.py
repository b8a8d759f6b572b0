"""Walk from one cloud or image to another between their codes, on a straight line or along a great circle.

Both ends are the model's reconstructions of the two data. A model that cannot encode, such as a GAN, walks between
draws of its prior instead, and so does any other that has one with --from-prior; then no data are needed. What is
written is in the model's units, one walk after the other. With --parts only some parts of the code move, such as the
shape of a deforming autoencoder, and the rest stays the first datum's.

The table says how smooth the walks are. A step's length is the root mean square of the displacements of the points
(for images of the changes of the pixels); the longest relative to the mean is 1 for even steps. The last column has
the same ratio without regard to the points' order, by the Chamfer distance of consecutive clouds.
"""

import argparse
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pcgen.base import GenerativeModel

WAYS = {"linear": "in a straight line", "spherical": "along a great circle"}
PAIRS = 4
_OF_DATA = {  # attributes that speak of data, as the user writes them
    "data": "DATA",
    "start": "--from",
    "end": "--to",
    "parts": "--parts",
    "split": "--split",
    "classes": "--classes",
    "normalize": "--normalize",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument("--from", dest="start", help="row or name of the first datum (default 0)")
    parser.add_argument("--to", dest="end", help="row or name of the last datum (default 1)")
    parser.add_argument(
        "--from-prior",
        action="store_true",
        help="walk between draws of the prior, which --seed chooses, and not between data",
    )
    parser.add_argument("--pairs", type=int, help=f"walks between draws of the prior (default {PAIRS})")
    parser.add_argument("--steps", type=int, default=8, help="stations, both ends among them (default 8)")
    parser.add_argument(
        "--path",
        choices=[*WAYS],
        default="linear",
        help="between the codes: a straight line, or a great circle, whose stations are as far from the origin as "
        "codes of the prior are (default linear)",
    )
    parser.add_argument("--parts", help="of the code, separated by commas, that move; all others stay (default: all)")
    common.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Interpolate, write and draw."""
    common.check_outputs(arguments)
    if arguments.steps < 2:
        raise ConfigurationError(f"--steps {arguments.steps}: an interpolation has at least its two ends")
    model = common.load_model(arguments)
    of_prior = _of_prior(model, arguments)
    results.check_kind(model, arguments)
    walks, picture = (_prior_walks if of_prior else _data_walk)(model, arguments)  # (B, S, …)
    results.write_results(arguments, walks.reshape(-1, *walks.shape[2:]), up_axis=results.up_axis(model))
    _show_smoothness(walks)
    if arguments.png is not None:
        from pcgen.viz import draw_interpolations

        results.write_picture(arguments, draw_interpolations(walks, up_axis=results.up_axis(model), **picture))
    return 0


def _of_prior(model: "GenerativeModel", arguments: argparse.Namespace) -> bool:
    """Say whether the walk is between draws of the prior, and refuse what the other walk has alone."""
    from pcgen.latents import walks_from_prior

    if not arguments.from_prior and not model.can("interpolate") and not walks_from_prior(model):
        raise model.unsupported("interpolate")
    if not arguments.from_prior and model.can("interpolate"):
        if arguments.pairs is not None:
            raise ConfigurationError(f"--pairs {arguments.pairs} counts draws of the prior: give --from-prior with it")
        return False
    given = [word for name, word in _OF_DATA.items() if getattr(arguments, name) is not None]
    if given:
        why = "" if arguments.from_prior else f" ({type(model).__name__} cannot encode data)"
        raise ConfigurationError(
            f"{given[0]} is for a walk between data, and this one is between draws of the prior{why}: leave it out"
        )
    if arguments.pairs is not None and arguments.pairs < 1:
        raise ConfigurationError(f"--pairs {arguments.pairs}: at least one walk is made")
    return True


def _data_walk(model: "GenerativeModel", arguments: argparse.Namespace) -> tuple["NDArray[np.float32]", dict[str, Any]]:
    """Walk between two data; give the walk (1, S, …) and what its picture shows besides."""
    from pcgen.cli.modeldata import model_data

    data = model_data(model, arguments)
    start = data.row("0" if arguments.start is None else arguments.start, "--from")
    end = data.row("1" if arguments.end is None else arguments.end, "--to")
    parts = _parts(model, arguments)
    walk = model.interpolate(data.x[start], data.x[end], arguments.steps, path=arguments.path, parts=parts)
    heading = f"{data.name[start]} to {data.name[end]} of {data.source}, {WAYS[arguments.path]}"
    if parts is not None:
        stays = " and ".join(name for name in model.latent_parts if name not in parts)
        heading += f": only {' and '.join(parts)}" + (f", with the {stays} of the first" if stays else "")
    return _plain(model, walk)[None], {"ends": data.x[[start, end]].numpy()[None], "heading": heading}


def _parts(model: "GenerativeModel", arguments: argparse.Namespace) -> list[str] | None:
    """Give the names of the parts that move, None for all."""
    if arguments.parts is None:
        return None
    parts = common.split_list(arguments.parts)
    if not parts:
        raise ConfigurationError(f"--parts {arguments.parts!r}: name at least one part of the code")
    model.columns(parts)  # raises where one is unknown
    return parts


def _prior_walks(
    model: "GenerativeModel", arguments: argparse.Namespace
) -> tuple["NDArray[np.float32]", dict[str, Any]]:
    """Walk between draws of the prior; give the walks (B, S, …) and what their picture shows besides."""
    import torch

    from pcgen.latents import prior_walk

    pairs = PAIRS if arguments.pairs is None else arguments.pairs
    generator = torch.Generator().manual_seed(arguments.seed)
    walks = prior_walk(model, pairs, arguments.steps, path=arguments.path, generator=generator)
    heading = f"between draws of the prior (seed {arguments.seed}), {WAYS[arguments.path]}"
    return _plain(model, walks.transpose(0, 1)), {"heading": heading}


def _show_smoothness(walks: "NDArray[np.float32]") -> None:
    import torch
    from rich.console import Console
    from rich.table import Table

    from pcgen.metrics.smoothness import smoothness_rows

    heads, rows = smoothness_rows(torch.from_numpy(walks))
    table = Table(title="steps of the walks", title_justify="left")
    words = {"mean_step": "mean", "longest_step": "longest", "ratio": "longest / mean", "chamfer_ratio": "by Chamfer"}
    for head in heads:
        table.add_column(words.get(head, head), justify="right")
    for number, *values in rows:
        numbers = ["–" if value is None else f"{value:.4g}" for value in values]
        table.add_row(str(number), *numbers)
    Console().print(table)


def _plain(model: "GenerativeModel", walk: Any) -> "NDArray[np.float32]":
    from pcgen.cli.modeldata import as_images, is_images

    plain: NDArray[np.float32] = as_images(walk) if is_images(model) else walk.cpu().numpy()
    return plain
