"""Encode and decode clouds: how much of a shape goes through the model's code.

The clouds are normalised as the model's training data were (or by --normalize), and what is written is in the file's
own units again.
"""

import argparse

from pcgen.cli import common
from pcgen.errors import ConfigurationError

DRAWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument("-n", type=int, help="only the first n (default: all)")
    common.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Reconstruct, write, draw, and state the mean Chamfer distance."""
    common.check_outputs(arguments)
    if arguments.n is not None and arguments.n < 1:
        raise ConfigurationError(f"-n {arguments.n}: at least one cloud is reconstructed")
    model = common.load_model(arguments, needs="reconstruct")
    data = common.model_data(model, arguments)
    x = data.x[: arguments.n]
    import torch

    from pcgen.ops import chamfer_distance

    with common.progress("reconstructing") as advance:
        parts = []
        for part in x.split(model.chunk_size):
            parts.append(model.reconstruct(part).cpu())
            advance(sum(map(len, parts)), len(x))
    y = torch.cat(parts)
    rows = slice(0, len(x))
    common.write_results(arguments, data.undo(y, rows), name=data.name[rows], up_axis=common.up_axis(model))
    mean = chamfer_distance(x, y).mean()
    common.say(f"mean Chamfer distance of {common.count(len(x), 'cloud')}, in the model's units: {mean:.6g}")
    if arguments.png is not None:
        from pcgen.viz import draw_pairs

        common.write_picture(arguments, draw_pairs(x[:DRAWN].numpy(), y[:DRAWN].numpy(), up_axis=common.up_axis(model)))
    return 0
