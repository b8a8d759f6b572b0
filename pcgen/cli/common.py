"""What several verbs share: arguments, the model, and words for the user."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.errors import ConfigurationError
from pcgen.io.progress import progress as progress  # noqa: PLC0414 -- the verbs take it from here

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import GenerativeModel

CLOUD_SUFFIXES = (".h5", ".npy", ".npz", ".ply", ".xyz")
IMAGE_SUFFIXES = (".h5", ".npy", ".npz")
DATA_HELP = (
    "clouds or meshes: HDF5, .npy, .npz, .ply, .pcd, .xyz, .off, .obj, a folder of them or a data set's tree; images: "
    "HDF5, .npy, .npz, .png or a folder of these; without it, the data that the checkpoint was trained on"
)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoint and where it runs."""
    parser.add_argument("checkpoint", help="a checkpoint, or a run's folder (then its last checkpoint)")
    add_device_arguments(parser)


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where a model runs, the seed, and whose code may run."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, …; auto takes a GPU if there is one")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same result (default 0)")
    parser.add_argument(
        "--trust", action="store_true", help="also build classes from outside pcgen: runs the code that the file names"
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the data that a model works on, as the last positional argument."""
    parser.add_argument("data", nargs="?", help=DATA_HELP)
    add_selection_arguments(parser)


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is taken of the data."""
    parser.add_argument("--split", help="train, val or test (default: test where there are splits)")
    parser.add_argument("--classes", help="names, separated by commas (default: the classes the model was trained on)")
    add_normalize_argument(parser)


def add_normalize_argument(parser: argparse.ArgumentParser, what: str = "the file") -> None:
    """Declare how the clouds of `what` are normalised."""
    parser.add_argument(
        "--normalize",
        choices=["none", "ball", "box"],
        help=f"bring each cloud of {what} into the unit ball or box, or leave it as it is "
        "(default: as the model's training data were; without a model, none)",
    )


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where results go."""
    clouds, images = ", ".join(CLOUD_SUFFIXES), ", ".join(IMAGE_SUFFIXES)
    parser.add_argument("--out", type=Path, help=f"write them (clouds: {clouds}; images: {images})")
    parser.add_argument("--png", type=Path, help="draw them")


def check_writable(option: str, path: Path | None) -> None:
    """Refuse a file that could not be written, before any work is done for it.

    Raises:
        ConfigurationError: Naming the option and what is in the way.
    """
    if path is None or path == Path("-"):
        return
    if path.is_dir():
        raise ConfigurationError(f"{option} {path} is a folder; name a file in it")
    folder = next(p for p in path.absolute().parents if p.exists())
    if not folder.is_dir():
        raise ConfigurationError(f"{option} {path}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"{option} {path}: {folder} may not be written to; name another place")


def check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse a command without an output, or with one that cannot be written, before any work is done.

    Raises:
        ConfigurationError: Naming the argument.
    """
    gif = getattr(arguments, "gif", None)
    if arguments.out is None and arguments.png is None and gif is None:
        moving = ", --gif FILE for a moving one" if hasattr(arguments, "gif") else ""
        raise ConfigurationError(f"nothing to write: give --out FILE for the data, --png FILE for a picture{moving}")
    if arguments.out is not None and arguments.out.suffix not in CLOUD_SUFFIXES:
        raise ConfigurationError(f"--out {arguments.out}: clouds are written as {', '.join(CLOUD_SUFFIXES)}")
    check_writable("--out", arguments.out)
    check_picture("--png", arguments.png)
    check_picture("--gif", gif, ".gif")


def check_picture(option: str, path: Path | None, suffix: str = ".png") -> None:
    """Refuse a picture's file of another name than `suffix`, or one that cannot be written.

    Raises:
        ConfigurationError: Naming the option.
    """
    if path is not None and path.suffix != suffix:
        raise ConfigurationError(f"{option} {path}: the picture's name must end in {suffix}")
    check_writable(option, path)


def load_model(arguments: argparse.Namespace, *needs: str) -> "GenerativeModel":
    """Load the checkpoint that was asked for, onto its device.

    Args:
        arguments: With `checkpoint`, `device` and `trust`.
        needs: Verbs that the model must have.

    Raises:
        CheckpointError: As `pcgen.load`.
        UnsupportedOperationError: If the model lacks the verb, naming those that have it.
    """
    from pcgen.checkpoint import load

    model = load(arguments.checkpoint, map_location=device(arguments.device), trust=arguments.trust)
    for verb in needs:
        if not model.can(verb):
            raise model.unsupported(verb)
    return model


def device(name: str) -> str:
    """Resolve `auto` and refuse what is not there.

    Raises:
        ConfigurationError: If the device is unknown or absent.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        if "device string" in why:  # torch lists every kind of device that was ever thought of
            raise ConfigurationError(f"--device {name} is no device; cpu, cuda, cuda:1, mps are") from error
        raise ConfigurationError(f"--device {name}: {why}; cpu is always there") from error
    return name


def random_rows(x: "Tensor", n: int | None, seed: int) -> "Tensor":
    """Choose n rows (n,) of data (K, …) at random and without repeats, in ascending order; all if there are no more."""
    import torch

    if n is None or n >= len(x):
        return torch.arange(len(x))
    return torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:n].sort().values


def split_list(text: str) -> list[str]:
    """Split `a,b, c` at its commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def number_list(option: str, text: str, kind: "type[int | float]") -> list[Any]:
    """Read the numbers of an option at its commas.

    Raises:
        ConfigurationError: If there is none, or a word is no such number.
    """
    try:
        found = [kind(word) for word in split_list(text)]
    except ValueError:
        found = []
    if not found:
        what = "whole numbers" if kind is int else "numbers"
        raise ConfigurationError(f"{option} {text}: give {what}, separated by commas")
    return found


def count(number: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def shown(path: str | Path) -> str:
    """Write a path as the user would type it: relative to the current folder if it is inside."""
    absolute = Path(path).absolute()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)


def is_abstract(cls: type) -> bool:
    """Say whether a class leaves a method to its subclasses; `inspect.isabstract` sees only those of `ABCMeta`."""
    return any(getattr(getattr(cls, name, None), "__isabstractmethod__", False) for name in dir(cls))


def say(text: str) -> None:
    """Tell the user, on standard error: standard output is for results."""
    sys.stderr.write(text + "\n")
