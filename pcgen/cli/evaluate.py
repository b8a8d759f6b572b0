"""Score generated clouds or images against a reference, beside an oracle.

Clouds: MMD, COV and 1-NNA under each distance, JSD, and FPD and KID of a network's features. Images: FID and KID of a
network's features.

GENERATED is a checkpoint, which is sampled, or a file of anybody's clouds or images: .npy, .npz, HDF5, a saved tensor
of clouds (.pt), a folder, …. The oracle's row has the same scores of random training data: no model of these data
should be expected to do better. Clouds of a file are taken as they are; the reference of a checkpoint is normalised as
its training data were, that of a file is not, unless --normalize says otherwise. Images are in [0, 1].

Distances and features are kept by the content of the data (pcgen cache tells where), so a second question about the
same data is answered at once. Result files are put side by side by pcgen compare.
"""

import argparse
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError, PcgenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from pcgen.cli.sets import Sets
    from pcgen.metrics.store import Store

EXTRACTOR = "pointnet-modelnet10-v1"
Z = 2
CHUNK = 64  # pcgen.metrics.draw's default, part of the protocol
OF_CLOUDS = {
    "--points": "points", "--distances": "distances", "--normalize": "normalize", "--radius": "radius",
    "--up-axis": "up_axis", "--both-orientations": "both_orientations", "--level": "level", "--draws": "draws",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("generated", help="a checkpoint, a run's folder, or a file of clouds or images")
    parser.add_argument(
        "--reference",
        dest="data",
        metavar="DATA",
        help="clouds, meshes or images to compare with (default: a checkpoint's own data; a file wants one)",
    )
    parser.add_argument("--split", help="split of the reference (default: test where there are splits)")
    parser.add_argument("--classes", help="names, separated by commas (default: those the checkpoint was trained on)")
    parser.add_argument("-n", type=int, help="data on either side (default: as many as both sides have)")
    parser.add_argument("--points", type=int, help="points taken of each cloud of a file, at random (default: all)")
    parser.add_argument(
        "--distances",
        help="of clouds, by commas: cd (Chamfer, squared), emd (mean distance under the optimal assignment) and "
        "emd_squared (mean squared distance under the one optimal for it); the last two want as many points in every "
        "cloud (default cd)",
    )  # fmt: skip
    common.add_normalize_argument(parser, "the reference")
    parser.add_argument(
        "--radius",
        type=float,
        help="of the ball about the origin that the clouds of both files lie in: JSD, FPD and KID want it (default: "
        "what the normalisation says; without one they are left out)",
    )
    parser.add_argument(
        "--extractor",
        default="auto",
        help="network whose features give FPD and KID: a name, a file of pcgen export, or none (default: the one that "
        "comes with pcgen, where the radius is known)",
    )
    parser.add_argument(
        "--up-axis",
        choices=["x", "y", "z"],
        help="axis of the clouds that points up, for FPD and KID (default: what the data say, or else the extractor's)",
    )
    parser.add_argument(
        "--both-orientations",
        action="store_true",
        help="add MMD and COV with generated and reference swapped, as some papers print them",
    )
    parser.add_argument("--unequal", action="store_true", help="take all data of both sides, however many each has")
    parser.add_argument("--no-oracle", action="store_true", help="leave out the oracle's row, half of the work")
    parser.add_argument("--level", type=float, help="of the confidence intervals of clouds' scores (default 0.95)")
    parser.add_argument("--draws", type=int, help="of their bootstrap; 0: no intervals (default 1000)")
    parser.add_argument(
        "--json",
        type=Path,
        help="write the scores with their protocol; - writes them to standard output, without a table",
    )
    parser.add_argument(
        "--png",
        type=Path,
        help="draw clouds beside their nearest ones under the first distance, and what is not covered; images beside "
        "those with the nearest features",
    )
    add_cache_argument(parser)
    parser.add_argument(
        "--no-cache", action="store_true", help="neither look for what was computed before nor keep anything"
    )
    common.add_device_arguments(parser)


def add_cache_argument(parser: argparse.ArgumentParser) -> None:
    """Declare where distances are kept."""
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="where distances and features are kept (default: $PCGEN_CACHE/distances, or in the user's cache folder)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Gather the sets, score them, print the table and write the files."""
    _check(arguments)
    store = _store(arguments)
    model = _model(arguments)
    if _of_images(model, arguments):
        from pcgen.cli.evaluate_images import score_images

        return score_images(model, arguments, store)
    return _score_clouds(model, arguments, store)


def _score_clouds(model: Any, arguments: argparse.Namespace, store: "Store | None") -> int:
    from pcgen.cli.sets import choose_oracle, sets_of_files, sets_of_model
    from pcgen.metrics import SetEvaluator, ball_radius

    sets = sets_of_files(arguments) if model is None else sets_of_model(model, arguments)
    generated, reference, chunk = _both(model, sets, arguments)
    oracle = choose_oracle(sets, len(generated), arguments)
    radius = arguments.radius or ball_radius(sets.known["normalization"])
    up_axis = sets.up_axis if arguments.up_axis is None else "xyz".index(arguments.up_axis)
    network = _extractor(arguments, radius, up_axis)
    if radius is None:
        common.say("JSD, FPD and KID are left out: nobody said in which ball the clouds lie (--radius)")
    place = common.device(arguments.device)
    evaluator = SetEvaluator(
        reference.to(place), distances=arguments.distances, radius=radius, allow_unequal=arguments.unequal,
        both_orientations=arguments.both_orientations, level=arguments.level, draws=arguments.draws,
        seed=arguments.seed, extractor=network, up_axis=up_axis, store=store,
    )  # fmt: skip
    oracle = None if oracle is None else oracle.to(place)
    rows = 1 if oracle is None else 2
    with _percent("comparing") as advance:
        distances = evaluator.compare(generated.to(place), progress=lambda done, total: advance(done, rows * total))
        scores = evaluator.result(
            generated, oracle=oracle, distances=distances, progress=advance, chunk=chunk, **sets.known
        )
    show(scores, arguments, sets.known["data"])
    if arguments.png is not None:
        from pcgen.cli.coverage import coverage_picture

        name = evaluator.distances[0]
        axis = Z if up_axis is None else up_axis
        picture = coverage_picture(generated, reference, distances[name].sr, axis, name=name)
        results.write_picture(arguments, picture)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be done before anything is read or sampled; makes a list of the distances.

    `arguments.asked` then holds the options that were given and are of clouds alone.
    """
    from pcgen.metrics import DISTANCES
    from pcgen.metrics.bootstrap import check_bootstrap

    for option, value in (("-n", arguments.n), ("--points", arguments.points)):
        if value is not None and value < 1:
            raise ConfigurationError(f"{option} {value}: at least one is compared")
    if arguments.seed < 0:
        raise ConfigurationError(f"--seed {arguments.seed}: a seed is 0 or more")
    if arguments.radius is not None and not arguments.radius > 0:
        raise ConfigurationError(f"--radius {arguments.radius:g}: the ball that the clouds lie in has one above 0")
    arguments.asked = [o for o, name in OF_CLOUDS.items() if getattr(arguments, name) not in (None, False)]
    arguments.level = 0.95 if arguments.level is None else arguments.level
    arguments.draws = 1000 if arguments.draws is None else arguments.draws
    check_bootstrap(arguments.level, arguments.draws or 1)
    arguments.distances = common.split_list("cd" if arguments.distances is None else arguments.distances)
    unknown = [name for name in arguments.distances if name not in DISTANCES]
    if unknown or not arguments.distances:
        raise ConfigurationError(f"--distances {','.join(unknown)}: there is {', '.join(DISTANCES)}")
    common.check_writable("--json", arguments.json)
    common.check_picture("--png", arguments.png)


def _store(arguments: argparse.Namespace) -> "Store | None":
    from pcgen.metrics.store import Store

    if arguments.no_cache and arguments.cache is not None:
        raise ConfigurationError(f"--cache {arguments.cache} and --no-cache contradict each other; give one of them")
    return None if arguments.no_cache else Store(arguments.cache)


def _extractor(arguments: argparse.Namespace, radius: float | None, up_axis: int | None) -> Any:
    """Find the network whose features are compared; None for none.

    Raises:
        ConfigurationError: If one was asked for and is not there, or the radius is not known.
    """
    asked = arguments.extractor
    if asked == "none" or (asked == "auto" and radius is None):
        return None
    if radius is None:
        raise ConfigurationError(f"--extractor {asked} wants clouds of a known size: give --radius or --normalize")
    from pcgen.metrics.extractors import extractor

    try:
        found = extractor(EXTRACTOR if asked == "auto" else asked)
    except (PcgenError, OSError) as error:
        if asked != "auto":
            raise
        why = "its weights are not installed" if isinstance(error, OSError) else str(error)
        common.say(f"FPD and KID by {EXTRACTOR} are left out: {why}")
        return None
    if up_axis is None:
        common.say(f"nobody said which axis of the clouds is up: FPD and KID by {found.name} take its own (--up-axis)")
    return found


def _model(arguments: argparse.Namespace) -> Any:
    """Load GENERATED if it is a checkpoint or a run's folder; None for a file."""
    from pcgen.io.files import existing

    path = Path(arguments.generated)
    is_run = any(next(path.glob(pattern), None) for pattern in ("*.ckpt", "checkpoints/*.ckpt"))
    if path.suffix != ".ckpt" and not is_run:
        existing(path)
        return None
    if arguments.points is not None:
        raise ConfigurationError(f"--points is for files of clouds: {path} says how many points its model makes")
    arguments.checkpoint = arguments.generated
    return common.load_model(arguments, "sample")


def _of_images(model: Any, arguments: argparse.Namespace) -> bool:
    """Say whether images are compared; options of clouds alone are refused then.

    Raises:
        ConfigurationError: With those that were given.
    """
    from pcgen.cli.images import holds_images
    from pcgen.cli.modeldata import is_images

    if not (is_images(model) if model is not None else holds_images(Path(arguments.generated))):
        return False
    if arguments.asked:
        raise ConfigurationError(
            f"{arguments.generated} {'holds' if model is None else 'makes'} images, which are compared by FID and KID: "
            f"{' and '.join(arguments.asked)} {'is' if len(arguments.asked) == 1 else 'are'} of clouds; leave out"
        )
    return True


def _both(model: Any, sets: "Sets", arguments: argparse.Namespace) -> "tuple[Tensor, Tensor, int | None]":
    """Give the generated clouds and the references, as many of each unless told otherwise, and the chunk of a draw."""
    from pcgen.cli.sets import number, subset

    n = len(sets.reference) if arguments.unequal else number(sets, arguments.n)
    reference = subset(sets.reference, n, arguments.seed)
    if sets.generated is not None:
        if arguments.unequal and arguments.n is not None:
            raise ConfigurationError("-n and --unequal contradict each other for files of clouds; give one of them")
        generated = sets.generated if arguments.unequal else subset(sets.generated, n, arguments.seed)
        return generated, reference, None
    from pcgen.metrics import draw

    with common.progress("sampling") as advance:
        return draw(model, arguments.n or n, arguments.seed, progress=advance).cpu(), reference, CHUNK


def show(scores: Any, arguments: argparse.Namespace, data: str) -> None:
    """Print the table, or the JSON, and write the JSON."""
    if arguments.json == Path("-"):
        sys.stdout.write(scores.to_json())
        return
    from rich.console import Console

    Console().print(scores.table(f"{arguments.generated} against {data}"))
    if arguments.json is not None:
        scores.save(arguments.json)
        common.say(f"scores: {common.shown(arguments.json)}")


@contextmanager
def _percent(description: str) -> "Iterator[Callable[[float, float], None]]":
    """A bar of percent: pairs of clouds cost from microseconds to seconds, so their number says nothing of the time."""
    with common.progress(description, 100) as advance:
        yield lambda done, total: advance(100 * done / total if total else 100, 100)
