"""Draw new clouds from a checkpoint.

The same checkpoint, number and seed give the same file, byte for byte, on one machine.
"""

import argparse

from pcgen.cli import common
from pcgen.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    parser.add_argument("-n", type=int, default=16, help="how many (default 16)")
    common.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sample, write and draw."""
    common.check_outputs(arguments)
    if arguments.n < 1:
        raise ConfigurationError(f"-n {arguments.n}: at least one cloud is drawn")
    model = common.load_model(arguments, needs="sample")
    from pcgen.metrics import draw

    with common.progress("sampling") as advance:
        clouds = draw(model, arguments.n, arguments.seed, progress=advance).cpu().numpy()
    common.write_results(arguments, clouds, up_axis=common.up_axis(model))
    if arguments.png is not None:
        from pcgen.viz import draw_clouds

        common.write_picture(arguments, draw_clouds(clouds[:MOST_DRAWN], up_axis=common.up_axis(model)))
    return 0


MOST_DRAWN = 64
