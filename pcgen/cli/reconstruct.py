"""Encode and decode clouds or images: how much of a datum goes through the model's code.

Clouds are normalised as the model's training data were (or by --normalize), and what is written is in the file's own
units again. Images are in [0, 1], and what a model makes beyond is cut to it.

A model that was trained with a corruption restores what is damaged already; pcgen restore damages clean data first and
says what that costs.
"""

import argparse
from typing import TYPE_CHECKING

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import GenerativeModel

DRAWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument("-n", type=int, help="only the first n (default: all)")
    common.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Reconstruct, write, draw, and state the mean error."""
    common.check_outputs(arguments)
    if arguments.n is not None and arguments.n < 1:
        raise ConfigurationError(f"-n {arguments.n}: at least one is reconstructed")
    model = common.load_model(arguments, "reconstruct")
    results.check_kind(model, arguments)
    from pcgen.cli.modeldata import model_data

    data = model_data(model, arguments)
    x, rows = data.x[: arguments.n], slice(0, arguments.n)
    y = reconstructions(model, x)
    results.write_results(arguments, data.undo(y, rows), name=data.name[rows], up_axis=results.up_axis(model))
    common.say(_error(x, y))
    if arguments.png is not None:
        from pcgen.viz import draw_pairs

        up = results.up_axis(model)
        results.write_picture(arguments, draw_pairs(x[:DRAWN].numpy(), y[:DRAWN].numpy(), up_axis=up))
    return 0


def reconstructions(model: "GenerativeModel", x: "Tensor", *, what: str = "reconstructing") -> "Tensor":
    """Reconstruct data (K, …) on the CPU, with a bar; images are cut to [0, 1]."""
    import torch

    parts: list[Tensor] = []
    with common.progress(what, len(x)) as advance:
        for part in x.split(model.chunk_size):
            parts.append(model.reconstruct(part).float().cpu())
            advance(sum(map(len, parts)), len(x))
    y = torch.cat(parts)
    return y.clamp(0, 1) if y.ndim == 4 else y


def _error(x: "Tensor", y: "Tensor") -> str:
    if x.ndim == 4:
        mean = (x - y).double().square().mean()
        return f"mean squared error of {common.count(len(x), 'image')}, over their pixels: {mean:.6g}"
    from pcgen.ops import chamfer_distance

    mean = chamfer_distance(x, y).mean()
    return f"mean Chamfer distance of {common.count(len(x), 'cloud')}, in the model's units: {mean:.6g}"
