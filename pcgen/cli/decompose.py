"""Take data apart with a deforming model: input, reconstruction, appearance, albedo and shading, deformation.

The deformation of images is drawn as the lattice of the template's coordinates: straight and even where nothing is
deformed. The points of clouds have the colours of their places in the template, so that what corresponds is seen; they
are drawn that way alone by --correspondence. The .npz of --out holds input, reconstruction, template, deformation, the
layers (albedo, shading) and the names, in the model's units.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from pcgen.base import Decomposition, GenerativeModel
    from pcgen.cli.modeldata import ModelData

COUNT = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--rows", help="rows or names of data, separated by commas")
    which.add_argument("-n", type=int, help=f"the first n (default {COUNT})")
    parser.add_argument("--class", dest="kind", metavar="NAME", help="the first n of this class")
    parser.add_argument("--out", type=Path, help="write everything as .npz")
    parser.add_argument("--png", type=Path, help="draw them, one column a datum")
    parser.add_argument("--correspondence", type=Path, metavar="PNG", help="draw clouds in the colours of the template")


def run(arguments: argparse.Namespace) -> int:
    """Decompose, write and draw."""
    _check(arguments)
    model = common.load_model(arguments, "encode", "decompose")
    from pcgen.cli.modeldata import is_images, model_data
    from pcgen.latents import decompose

    if arguments.correspondence is not None and is_images(model):
        raise ConfigurationError(
            f"--correspondence is for clouds, and this {type(model).__name__} makes images: see --png"
        )
    data = model_data(model, arguments)
    rows = _rows(data, arguments)
    found = decompose(model, data.x[rows])
    names = [data.name[row] for row in rows]
    if arguments.out is not None:
        _write(arguments.out, data, rows, names, found)
    _draw(arguments, model, data, rows, names, found)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out is None and arguments.png is None and arguments.correspondence is None:
        raise ConfigurationError(
            "nothing to write: give --out FILE.npz for the data, --png FILE or --correspondence FILE for a picture"
        )
    if arguments.n is not None and arguments.n < 1:
        raise ConfigurationError(f"-n {arguments.n}: at least one is decomposed")
    if arguments.rows is not None and arguments.kind is not None:
        raise ConfigurationError("--rows and --class both choose data: give one of them")
    if arguments.out is not None and arguments.out.suffix != ".npz":
        raise ConfigurationError(f"--out {arguments.out}: what belongs together is written as .npz")
    common.check_writable("--out", arguments.out)
    common.check_picture("--png", arguments.png)
    common.check_picture("--correspondence", arguments.correspondence)


def _rows(data: "ModelData", arguments: argparse.Namespace) -> list[int]:
    if arguments.rows is not None:
        return data.rows(arguments.rows, "--rows")
    known = range(len(data.x)) if arguments.kind is None else data.of_class(arguments.kind).tolist()
    return list(known[: COUNT if arguments.n is None else arguments.n])


def _write(path: Path, data: "ModelData", rows: list[int], names: list[str], found: "Decomposition") -> None:
    import numpy as np

    tensors = {
        "input": data.x[rows],
        "reconstruction": found.x,
        "template": found.template,
        "deformation": found.deformation,
        **found.layers,
    }
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    results.write_arrays(path, {**arrays, "name": np.array(names)}, common.count(len(rows), "decomposition"))


def _draw(
    arguments: argparse.Namespace,
    model: "GenerativeModel",
    data: "ModelData",
    rows: list[int],
    names: list[str],
    found: "Decomposition",
) -> None:
    from pcgen.viz import draw_correspondence, draw_decompositions, save_png

    x, template, up = found.x.numpy(), found.template.numpy(), results.up_axis(model)
    place = results.place_of(data, arguments.kind)
    if arguments.png is not None:
        layers = {name: layer.numpy() for name, layer in found.layers.items()}
        image = draw_decompositions(
            data.x[rows].numpy(), x, template, found.deformation.numpy(), layers, titles=names, up_axis=up,
            heading=f"{place}, taken apart",
        )  # fmt: skip
        results.write_picture(arguments, image)
    if arguments.correspondence is not None:
        heading = f"{place}: one colour, one point of the template"
        save_png(
            arguments.correspondence,
            draw_correspondence(x, template.mean(0), titles=names, up_axis=up, heading=heading),
        )
        common.say(f"picture: {common.shown(arguments.correspondence)}")
