"""Walk from one cloud or image to another between their codes, on a straight line or along a great circle.

Both ends are the model's reconstructions of the two data; what is written is in the model's units.
"""

import argparse
from typing import Any

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument("--from", dest="start", default="0", help="row or name of the first datum (default 0)")
    parser.add_argument("--to", dest="end", default="1", help="row or name of the last datum (default 1)")
    parser.add_argument("--steps", type=int, default=8, help="stations, both ends among them (default 8)")
    parser.add_argument(
        "--path",
        choices=["linear", "spherical"],
        default="linear",
        help="between the codes: a straight line, or a great circle, whose stations are as far from the origin as "
        "codes of the prior are (default linear)",
    )
    common.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Interpolate, write and draw."""
    common.check_outputs(arguments)
    if arguments.steps < 2:
        raise ConfigurationError(f"--steps {arguments.steps}: an interpolation has at least its two ends")
    model = common.load_model(arguments, "interpolate")
    results.check_kind(model, arguments)
    from pcgen.cli.modeldata import as_images, is_images, model_data

    data = model_data(model, arguments)
    start, end = data.row(arguments.start, "--from"), data.row(arguments.end, "--to")
    walked = model.interpolate(data.x[start], data.x[end], arguments.steps, path=arguments.path)
    walk = as_images(walked) if is_images(model) else walked.cpu().numpy()
    results.write_results(arguments, walk, up_axis=results.up_axis(model))
    if arguments.png is not None:
        from pcgen.viz import draw_interpolations

        ends = data.x[[start, end]].numpy()
        way = {"linear": "in a straight line", "spherical": "along a great circle"}[arguments.path]
        heading = f"{data.name[start]} to {data.name[end]} of {data.source}, {way}"
        how: dict[str, Any] = {"up_axis": results.up_axis(model), "heading": heading}
        results.write_picture(arguments, draw_interpolations(walk[None], ends[None], **how))
    return 0
