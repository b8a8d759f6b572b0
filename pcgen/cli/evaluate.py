"""Score generated clouds against a reference: MMD, COV, 1-NNA and JSD, beside an oracle.

GENERATED is a checkpoint, which is sampled, or a file of anybody's clouds. The oracle's row has the same scores of
random training clouds: no model of this data should be expected to do better. Clouds of a file are taken as they are;
the reference of a checkpoint is normalised as its training data were, that of a file is not, unless --normalize says
otherwise.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcgen.cli import common
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("generated", help="a checkpoint, a run's folder, or a file of clouds")
    parser.add_argument(
        "--reference", dest="data", help="clouds or meshes to compare with (a checkpoint's own data by default)"
    )
    parser.add_argument("--split", help="split of the reference (default: test where there are splits)")
    parser.add_argument("--classes", help="names, separated by commas (default: those the checkpoint was trained on)")
    parser.add_argument("-n", type=int, help="clouds on either side (default: as many as the reference has)")
    parser.add_argument("--distances", default="cd", help="separated by commas (default cd, the Chamfer distance)")
    common.add_normalize_argument(parser)
    parser.add_argument("--radius", type=float, help="of the ball that the clouds lie in, for JSD")
    parser.add_argument("--both-orientations", action="store_true", help="add MMD and COV with the sets swapped")
    parser.add_argument("--json", type=Path, help="write the scores with their protocol")
    common.add_device_arguments(parser)


@dataclass(frozen=True)
class _Sets:
    """What is compared, and what is known of it.

    Attributes:
        generated: (S, N, 3), or None while a model has still to draw them.
        reference: (R, M, 3).
        oracle: Training clouds to choose from (K, M, 3), or None.
        known: Fields of the protocol: data, split, normalization.
    """

    generated: "Tensor | None"
    reference: "Tensor"
    oracle: "Tensor | None"
    known: dict[str, Any]


def run(arguments: argparse.Namespace) -> int:
    """Gather the sets, score them, print the table and write the file."""
    from rich.console import Console

    from pcgen.metrics import ball_radius, draw, evaluate_sets

    _check(arguments)
    model = _model(arguments)
    sets = _of_file(arguments) if model is None else _of_model(model, arguments)
    n = _number(sets, arguments.n)
    reference, chunk = _subset(sets.reference, n, arguments.seed), None
    oracle = _oracle(sets.oracle, n, arguments.seed)
    radius = arguments.radius or ball_radius(sets.known["normalization"])
    if radius is None:
        common.say("JSD is left out: nobody said in which ball the clouds lie (--radius)")
    if model is not None:
        with common.progress("sampling") as advance:
            generated, chunk = draw(model, n, arguments.seed, progress=advance).cpu(), CHUNK
    else:
        assert sets.generated is not None
        generated = _subset(sets.generated, n, arguments.seed)
    place = common.device(arguments.device)
    with common.progress("comparing") as advance:
        scores = evaluate_sets(
            generated.to(place),
            reference.to(place),
            oracle=None if oracle is None else oracle.to(place),
            distances=arguments.distances,
            radius=radius,
            both_orientations=arguments.both_orientations,
            seed=arguments.seed,
            chunk=chunk,
            progress=advance,
            **sets.known,
        )
    Console().print(scores.table(f"{arguments.generated} against {sets.known['data']}"))
    if arguments.json is not None:
        scores.save(arguments.json)
        common.say(f"scores: {common.shown(arguments.json)}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be done before anything is read or sampled; makes a list of the distances."""
    from pcgen.metrics import DISTANCES

    if arguments.n is not None and arguments.n < 1:
        raise ConfigurationError(f"-n {arguments.n}: at least one cloud is compared")
    if arguments.radius is not None and not arguments.radius > 0:
        raise ConfigurationError(f"--radius {arguments.radius:g}: the ball that the clouds lie in has one above 0")
    arguments.distances = common.split_list(arguments.distances)
    unknown = [name for name in arguments.distances if name not in DISTANCES]
    if unknown or not arguments.distances:
        raise ConfigurationError(f"--distances {','.join(unknown)}: there is {', '.join(DISTANCES)}")


CHUNK = 64  # pcgen.metrics.draw's default, part of the protocol


def _model(arguments: argparse.Namespace) -> Any:
    """Load GENERATED if it is a checkpoint or a run's folder; None for a file of clouds."""
    path = Path(arguments.generated)
    is_run = any(next(path.glob(pattern), None) for pattern in ("*.ckpt", "checkpoints/*.ckpt"))
    if path.suffix != ".ckpt" and not is_run:
        return None
    arguments.checkpoint = arguments.generated
    return common.load_model(arguments, needs="sample")


def _of_model(model: Any, arguments: argparse.Namespace) -> _Sets:
    """The reference as the model knows its data, and the training split of the same source for the oracle."""
    from pcgen.metrics import data_name

    data = common.model_data(model, arguments)
    info = model.data_info or {}
    name = data_name(data.source, info) if arguments.data is None else Path(data.source).name
    whole = info.get("normalization") or {}
    if arguments.normalize is not None:
        whole = common.normalization(model, arguments.normalize).to_plain()
    known = {"data": name, "split": data.split or "", "normalization": whole}
    return _Sets(None, data.x, common.training_clouds(model, arguments, data.split), known)


def _of_file(arguments: argparse.Namespace) -> _Sets:
    """Two files; the oracle comes from the reference's training split, if it has one."""
    import torch

    from pcgen.io import read_clouds

    if arguments.data is None:
        raise ConfigurationError(f"{arguments.generated} is a file of clouds: name the --reference to compare it with")
    classes = None if arguments.classes is None else (common.split_list(arguments.classes), True)
    generated = read_clouds(arguments.generated, seed=arguments.seed)
    reference, split = common.read_selected(arguments.data, arguments.split, classes, arguments.seed)
    whole = common.normalization(None, arguments.normalize)
    oracle = None
    if split not in {None, "train"}:
        train = common.read_selected(arguments.data, "train", classes, arguments.seed, missing_ok=True)[0]
        oracle = None if train is None else torch.from_numpy(whole.apply(train.points)[0])
    known = {"data": Path(arguments.data).name, "split": split or "", "normalization": whole.to_plain()}
    points = torch.from_numpy(whole.apply(reference.points)[0])
    return _Sets(torch.from_numpy(generated.points), points, oracle, known)


def _number(sets: _Sets, asked: int | None) -> int:
    """How many clouds on either side: 1-NNA wants as many of each."""
    there = {"reference": len(sets.reference)}
    if sets.generated is not None:
        there["generated"] = len(sets.generated)
    n = min(there.values()) if asked is None else asked
    for name, count in there.items():
        if count < n:
            raise ConfigurationError(f"-n {n}: the {name} set has only {common.count(count, 'cloud')}")
        if count > n:
            common.say(f"{n} of the {count} {name} clouds are taken, at random: both sides need as many")
    return n


def _subset(clouds: "Tensor", n: int, seed: int) -> "Tensor":
    """Choose n clouds as `DataModule.take` does, so that a run's own scores and these have the same oracle."""
    if len(clouds) == n:
        return clouds
    return clouds[np.random.default_rng(seed).permutation(len(clouds))[:n]]


def _oracle(clouds: "Tensor | None", n: int, seed: int) -> "Tensor | None":
    if clouds is None or len(clouds) < n:
        common.say("no oracle row: the reference has no training split with as many clouds")
        return None
    return _subset(clouds, n, seed)
