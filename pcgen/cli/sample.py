"""Draw new clouds or images from a checkpoint.

The same checkpoint, number and seed give the same file, byte for byte, on one machine. Images are in [0, 1]: what a
model makes beyond is cut to it.
"""

import argparse
from typing import TYPE_CHECKING

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from pcgen.base import GenerativeModel

MOST_DRAWN = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    parser.add_argument("-n", type=int, default=16, help="how many (default 16)")
    common.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sample, write and draw."""
    common.check_outputs(arguments)
    if arguments.n < 1:
        raise ConfigurationError(f"-n {arguments.n}: at least one is drawn")
    model = common.load_model(arguments, "sample")
    results.check_kind(model, arguments)
    from pcgen.cli.modeldata import is_images

    first = _images(model, arguments) if is_images(model) else _clouds(model, arguments)
    if arguments.png is not None:
        from pcgen.viz import draw_samples

        results.write_picture(arguments, draw_samples(first, up_axis=results.up_axis(model)))
    return 0


def _clouds(model: "GenerativeModel", arguments: argparse.Namespace) -> "NDArray[np.float32]":
    """Draw and write clouds; give the first of them."""
    from pcgen.metrics import draw

    with common.progress("sampling") as advance:
        clouds: NDArray[np.float32] = draw(model, arguments.n, arguments.seed, progress=advance).cpu().numpy()
    results.write_results(arguments, clouds, up_axis=results.up_axis(model))
    return clouds[:MOST_DRAWN]


def _images(model: "GenerativeModel", arguments: argparse.Namespace) -> "NDArray[np.float32]":
    """Draw images and write them as they come; give the first of them."""
    import numpy as np

    first: list[NDArray[np.float32]] = []
    with common.progress("sampling", arguments.n) as advance:

        def parts() -> "Iterator[NDArray[np.float32]]":
            done = 0
            for part in image_parts(model, arguments.n, arguments.seed):
                done += len(part)
                if sum(map(len, first)) < MOST_DRAWN:
                    first.append(part)
                yield part
                advance(done, arguments.n)

        if arguments.out is None:
            for _ in parts():
                if sum(map(len, first)) >= MOST_DRAWN:
                    break
        else:
            results.write_image_parts(arguments, parts(), (arguments.n, *model.sample_shape))
    return np.concatenate(first)[:MOST_DRAWN]


def image_parts(model: "GenerativeModel", n: int, seed: int) -> "Iterator[NDArray[np.float32]]":
    """Draw images (b, C, H, W) in [0, 1] chunk by chunk, n in all, as `pcgen.metrics.draw` would."""
    from pcgen.cli.modeldata import as_images
    from pcgen.metrics import draw_chunks

    for part in draw_chunks(model, n, seed):
        yield as_images(part)
