"""The sets that `pcgen evaluate` compares: read from files, or from what a checkpoint says of its data."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcgen.cli import common
from pcgen.cli.modeldata import model_data, normalization, read_selected, train_split
from pcgen.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import GenerativeModel
    from pcgen.io import CloudSet

TORCH_SUFFIXES = (".pt", ".pth")  # saved tensors, as several models' own scripts leave their samples


@dataclass(frozen=True)
class Sets:
    """What is compared, and what is known of it.

    Attributes:
        generated: (S, N, 3) or (S, C, H, W), or None while a model has still to draw them.
        reference: (R, M, 3) or (R, C, H, W).
        oracle: Training data to choose from (K, …), or None.
        known: Fields of the protocol: data, split and, of clouds, normalization.
        up_axis: Of the reference, or None where nobody says.
        noun: What one of them is called.
    """

    generated: "Tensor | None"
    reference: "Tensor"
    oracle: "Tensor | None"
    known: dict[str, Any]
    up_axis: int | None = None
    noun: str = "cloud"


def sets_of_model(model: "GenerativeModel", arguments: argparse.Namespace) -> Sets:
    """The reference as the model knows its data, and the training split of the same source for the oracle."""
    from pcgen.metrics import data_name

    data = model_data(model, arguments)
    info = model.data_info or {}
    name = data_name(data.source, info) if arguments.data is None else Path(data.source).name
    whole = info.get("normalization") or {}
    if arguments.normalize is not None:
        whole = normalization(model, arguments.normalize).to_plain()
    known = {"data": name, "split": data.split or "", "normalization": whole}
    train = None if arguments.no_oracle else train_split(model, arguments, data.split)
    return Sets(None, data.x, None if train is None else train.x, known, info.get("up_axis"))


def sets_of_files(arguments: argparse.Namespace) -> Sets:
    """Two files; the oracle comes from the reference's training split, if it has one.

    Raises:
        ConfigurationError: If there is no reference.
        DataError: If a file is no set of clouds.
    """
    import torch

    if arguments.data is None:
        raise ConfigurationError(f"{arguments.generated} is a file of clouds: name the --reference to compare it with")
    generated = _points(read_any(arguments.generated, arguments.seed), arguments)
    reference, split = _selected(arguments, arguments.split)
    whole = normalization(None, arguments.normalize)
    oracle = None
    if split not in {None, "train"} and not arguments.no_oracle:
        train = _selected(arguments, "train", missing_ok=True)[0]
        oracle = None if train is None else torch.from_numpy(whole.apply(_points(train, arguments))[0])
    known = {"data": Path(arguments.data).name, "split": split or "", "normalization": whole.to_plain()}
    points = torch.from_numpy(whole.apply(_points(reference, arguments))[0])
    writable = np.require(generated, requirements="W")  # torch warns of mapped files
    return Sets(torch.from_numpy(writable), points, oracle, known, reference.up_axis)


def read_any(path: str, seed: int) -> "CloudSet":
    """Read clouds from whatever `pcgen.io.read_clouds` reads, or from a tensor that torch has saved."""
    from pcgen.io import read_clouds

    if Path(path).suffix.lower() in TORCH_SUFFIXES:
        return _saved_tensor(Path(path))
    return read_clouds(path, seed=seed)


def _saved_tensor(path: Path) -> "CloudSet":
    """Read a saved tensor of clouds; nothing that the file names is ever run."""
    import torch

    from pcgen.io import CloudSet
    from pcgen.io.files import existing
    from pcgen.io.torch_archive import Claim, survey
    from pcgen.rebuilding import first_line

    existing(path)
    try:
        claimed = survey(path)  # before torch believes it
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error
    except Exception as error:  # damaged in ways that torch has no name for; all become one error
        raise DataError(
            f"{path}: not a tensor as torch 1.6 or later saves one, or one that would run code when read; save a .npy "
            f"({first_line(error)})"
        ) from error
    if not isinstance(claimed, Claim):
        raise DataError(f"{path} holds a {type(claimed).__name__}; save the clouds alone, one tensor (S, N, 3)")
    return CloudSet(content.detach().float().numpy(), source=str(path))


def _selected(arguments: argparse.Namespace, split: str | None, *, missing_ok: bool = False) -> tuple[Any, str | None]:
    if Path(arguments.data).suffix.lower() in TORCH_SUFFIXES:
        clouds = None if missing_ok else read_any(arguments.data, arguments.seed)
        return (clouds if clouds is None else clouds.select(split=split)), split
    classes = None if arguments.classes is None else (common.split_list(arguments.classes), True)
    return read_selected(arguments.data, split, classes, arguments.seed, missing_ok=missing_ok)


def _points(clouds: "CloudSet", arguments: argparse.Namespace) -> Any:
    """Give (K, N, 3), with as many points of each cloud as were asked for."""
    N = clouds.points.shape[1]
    if arguments.points is None or arguments.points == N:
        return clouds.points
    if arguments.points > N:
        raise ConfigurationError(f"--points {arguments.points}: the clouds of {clouds.source} have {N}")
    return clouds.resample(arguments.points, seed=arguments.seed).points


def number(sets: Sets, asked: int | None) -> int:
    """How many on either side: 1-NNA wants as many of each, and the bias of FID hangs on the number."""
    there = {"reference": len(sets.reference)}
    if sets.generated is not None:
        there["generated"] = len(sets.generated)
    n = min(there.values()) if asked is None else asked
    for name, count in there.items():
        if count < n:
            raise ConfigurationError(f"-n {n}: the {name} set has only {common.count(count, sets.noun)}")
        if count > n:
            taken = f"{n} of the {count} {name} {sets.noun}s are taken, at random"
            common.say(f"{taken}: both sides need as many (--unequal)")
    return n


def subset(x: "Tensor", n: int, seed: int) -> "Tensor":
    """Choose n data as `DataModule.take` does, so that a run's own scores and these have the same oracle."""
    if len(x) == n:
        return x
    return x[np.random.default_rng(seed).permutation(len(x))[:n]]


def choose_oracle(sets: Sets, n: int, arguments: argparse.Namespace) -> "Tensor | None":
    """Choose n training data, or say why there are none."""
    if arguments.no_oracle:
        return None
    if sets.oracle is None or len(sets.oracle) < n:
        common.say(f"no oracle row: the reference has no training split with as many {sets.noun}s")
        return None
    return subset(sets.oracle, n, arguments.seed)
