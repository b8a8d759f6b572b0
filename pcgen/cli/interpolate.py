"""Walk from one cloud to another on a straight line between their codes.

Both ends are the model's images of the two clouds; what is written is in the model's units.
"""

import argparse

from pcgen.cli import common
from pcgen.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument("--from", dest="start", default="0", help="row or name of the first cloud (default 0)")
    parser.add_argument("--to", dest="end", default="1", help="row or name of the last cloud (default 1)")
    parser.add_argument("--steps", type=int, default=8, help="stations, both ends among them (default 8)")
    common.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Interpolate, write and draw."""
    common.check_outputs(arguments)
    if arguments.steps < 2:
        raise ConfigurationError(f"--steps {arguments.steps}: an interpolation has at least its two ends")
    model = common.load_model(arguments, needs="interpolate")
    data = common.model_data(model, arguments)
    start, end = (_row(data, word, flag) for word, flag in ((arguments.start, "--from"), (arguments.end, "--to")))
    walk = model.interpolate(data.x[start], data.x[end], arguments.steps).cpu().numpy()
    common.write_results(arguments, walk, up_axis=common.up_axis(model))
    if arguments.png is not None:
        from pcgen.viz import draw_interpolations

        ends = data.x[[start, end]].numpy()
        image = draw_interpolations(walk[None], ends[None], up_axis=common.up_axis(model))
        common.write_picture(arguments, image)
    return 0


def _row(data: common.ModelData, word: str, flag: str) -> int:
    if word in data.name:
        return data.name.index(word)
    if word.isdigit() and int(word) < len(data.x):
        return int(word)
    few = ", ".join(data.name[:3])
    raise ConfigurationError(f"{flag} {word}: {data.source} has rows 0 to {len(data.x) - 1}, and names such as {few}")
