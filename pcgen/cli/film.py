"""Draw samples on their way from noise to data: as a grid, as a film, as clouds or images.

For models that make data step by step. The samples are those that `pcgen sample` draws with the same -n and --seed.
In the grid a row is a sample, a column the state after a share of the chain; the film shows the chains side by side.
What --out writes are the states of the grid in the model's units, one chain after the other, each from the noise to
the sample.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pcgen.base import GenerativeModel

FILM = ".gif"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    parser.add_argument("-n", type=int, default=4, help="chains (default 4)")
    parser.add_argument("--frames", type=int, default=8, help="columns of the grid, both ends among them (default 8)")
    parser.add_argument("--film-frames", type=int, default=48, help="states that the film shows (default 48)")
    common.add_output_arguments(parser)
    parser.add_argument("--gif", type=Path, help="draw them moving; --out FILE.gif is the same")


def run(arguments: argparse.Namespace) -> int:
    """Follow the chains, write and draw."""
    _check(arguments)
    model = common.load_model(arguments, "trajectory")
    results.check_kind(model, arguments)
    from pcgen.viz.chains import evenly

    total = arguments.frames if arguments.gif is None else arguments.film_frames
    states = _states(model, total, arguments)  # (F, n, …)
    _write(arguments, model, states, [int(k) for k in evenly(total, arguments.frames)])
    _draw(arguments, model, states)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out is not None and arguments.out.suffix == FILM and arguments.gif is None:
        arguments.gif, arguments.out = arguments.out, None
    common.check_outputs(arguments)
    if arguments.n < 1:
        raise ConfigurationError(f"-n {arguments.n}: at least one chain is followed")
    if arguments.frames < 2:
        raise ConfigurationError(f"--frames {arguments.frames}: a chain has at least its two ends")
    if arguments.gif is not None and arguments.film_frames < arguments.frames:
        raise ConfigurationError(
            f"--film-frames {arguments.film_frames}: the film shows at least the {arguments.frames} of --frames"
        )


def _states(model: "GenerativeModel", total: int, arguments: argparse.Namespace) -> "NDArray[np.float32]":
    from pcgen.cli.modeldata import as_images, is_images
    from pcgen.metrics import draw_trajectories

    with common.progress("sampling", arguments.n) as advance:
        found = draw_trajectories(model, arguments.n, total, arguments.seed, progress=advance)
    plain: NDArray[np.float32] = as_images(found) if is_images(model) else found.detach().float().cpu().numpy()
    return plain


def _write(
    arguments: argparse.Namespace, model: "GenerativeModel", states: "NDArray[np.float32]", shown: list[int]
) -> None:
    chains = states[shown].swapaxes(0, 1)  # (n, columns, …)
    share = [f"{100 * k / (len(states) - 1):.0f}%" for k in shown]
    names = tuple(f"sample_{i:05d} {done}" for i in range(len(chains)) for done in share)
    flat = chains.reshape(-1, *chains.shape[2:])
    results.write_results(arguments, flat, name=names, up_axis=results.up_axis(model))


def _draw(arguments: argparse.Namespace, model: "GenerativeModel", states: "NDArray[np.float32]") -> None:
    axis = results.up_axis(model)
    if arguments.png is not None:
        from pcgen.viz import draw_chains

        results.write_picture(arguments, draw_chains(states, columns=arguments.frames, up_axis=axis))
    if arguments.gif is not None:
        from pcgen.viz import chain_frames, save_gif

        save_gif(arguments.gif, chain_frames(states, up_axis=axis))
        common.say(f"film: {common.shown(arguments.gif)}")
