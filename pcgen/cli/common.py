"""What several verbs share: arguments, the model, its data, and where results go."""

import argparse
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import ConfigurationError
from pcgen.io.progress import progress as progress  # noqa: PLC0414 -- the verbs take it from here

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import DataModule, GenerativeModel

CLOUD_SUFFIXES = (".h5", ".npy", ".npz", ".ply", ".xyz")


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
    """Declare the clouds that a model works on."""
    parser.add_argument(
        "data",
        nargs="?",
        help="clouds or meshes: HDF5, .npy, .npz, .ply, .pcd, .xyz, .off, .obj, a folder of them or a data set's tree; "
        "without it, the data that the checkpoint was trained on",
    )
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
    parser.add_argument("--out", type=Path, help=f"write the clouds ({', '.join(CLOUD_SUFFIXES)})")
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
    if arguments.out is None and arguments.png is None:
        raise ConfigurationError("nothing to write: give --out FILE for the clouds, --png FILE for a picture, or both")
    if arguments.out is not None and arguments.out.suffix not in CLOUD_SUFFIXES:
        raise ConfigurationError(f"--out {arguments.out}: clouds are written as {', '.join(CLOUD_SUFFIXES)}")
    if arguments.png is not None and arguments.png.suffix != ".png":
        raise ConfigurationError(f"--png {arguments.png}: the picture's name must end in .png")
    check_writable("--out", arguments.out)
    check_writable("--png", arguments.png)


def load_model(arguments: argparse.Namespace, needs: str | None = None) -> "GenerativeModel":
    """Load the checkpoint that was asked for, onto its device.

    Args:
        arguments: With `checkpoint`, `device` and `trust`.
        needs: A verb that the model must have.

    Raises:
        CheckpointError: As `pcgen.load`.
        UnsupportedOperationError: If the model lacks the verb, naming those that have it.
    """
    from pcgen.checkpoint import load

    model = load(arguments.checkpoint, map_location=device(arguments.device), trust=arguments.trust)
    if needs is not None and not model.can(needs):
        raise model.unsupported(needs)
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


@dataclass(frozen=True)
class ModelData:
    """Clouds as the model wants them, and the way back.

    Attributes:
        x: Normalised as in the model's training, (K, N, 3) on the CPU.
        center: Of each cloud (K, 3), in the file's units.
        scale: Of each cloud (K,).
        name: Of each cloud.
        source: File, split and classes, for protocols and captions.
        split: The split that was taken, or None where there are none.
    """

    x: "Tensor"
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    name: tuple[str, ...]
    source: str
    split: str | None

    def undo(self, points: "Tensor", rows: Any = slice(None)) -> NDArray[np.float32]:
        """Put clouds (k, N, 3) back into the file's units."""
        from pcgen.io import Normalization

        return Normalization(scope="none").undo(points.cpu().numpy(), self.center[rows], self.scale[rows])


def model_data(model: "GenerativeModel", arguments: argparse.Namespace) -> ModelData:
    """Read the clouds for a model and normalise them as its training data were.

    Args:
        model: Knows its data's classes, points and normalisation.
        arguments: With `data`, `split`, `classes`, `normalize` and `seed`.

    Raises:
        DataError: As `pcgen.io.read_clouds`.
        ConfigurationError: If there is no data to take.
    """
    if arguments.data is None:
        return _training_data(model, arguments)
    import torch

    clouds, split = read_selected(arguments.data, arguments.split, _classes(arguments, model), arguments.seed)
    N = (model.data_info or {}).get("sample_shape", clouds.points.shape[1:])[0]
    if clouds.points.shape[1] > N:
        clouds = clouds.resample(N, seed=arguments.seed)
    x, center, scale = normalization(model, arguments.normalize).apply(clouds.points)
    _warn_far(model, x)
    return ModelData(torch.from_numpy(x), center, scale, clouds.name, str(arguments.data), split)


def normalization(model: "GenerativeModel | None", asked: Literal["none", "ball", "box"] | None) -> Any:
    """Give the normalisation that was asked for, or else the one that a model's training data had."""
    from pcgen.io import Normalization

    plain = ((model.data_info if model is not None else None) or {}).get("normalization")
    if asked is not None and asked != "none":
        return Normalization(scope="shape", region=asked, radius=(plain or {}).get("radius", 1.0))
    return Normalization.from_plain(plain) if plain and asked is None else Normalization(scope="none")


def _warn_far(model: "GenerativeModel", x: NDArray[np.float32]) -> None:
    """Tell the user of clouds in other units than the model's: what it makes of them means nothing."""
    radius = ((model.data_info or {}).get("normalization") or {}).get("radius")
    reach = float(np.sqrt(np.square(x, dtype=np.float64).sum(-1).max()))
    if radius is not None and reach > FAR * radius:
        warnings.warn(
            f"the clouds reach {reach:.4g} from the origin and those that the model was trained on {radius:.4g}: "
            "--normalize ball (or box) brings them there",
            stacklevel=2,
        )


FAR = 3  # times the model's own radius: a box's corners are at 1.7


def read_selected(
    path: str | Path,
    split: str | None,
    classes: tuple[list[str], bool] | None,
    seed: int,
    *,
    missing_ok: bool = False,
) -> tuple[Any, str | None]:
    """Read clouds and keep a split and some classes.

    Args:
        path: Anything that `pcgen.io.read_clouds` reads.
        split: None takes the test split where there is one.
        classes: Names, and whether they were asked for; those that were not are passed over where the file lacks them.
        seed: For meshes, and for subsets of points.
        missing_ok: Give None instead of an error where there is no such split.

    Returns:
        The CloudSet and the split that was taken.
    """
    from pcgen.io import read_clouds

    clouds = read_clouds(path, seed=seed)
    if split is None and clouds.split is not None and "test" in clouds.split:
        split = "test"
    if missing_ok and (clouds.split is None or split not in clouds.split):
        return None, split
    names, asked = classes if classes is not None else (None, False)
    if names is not None and not asked and not set(names) <= set(clouds.class_names):
        names = None
    return clouds.select(split=split, classes=names), split


def _classes(arguments: argparse.Namespace, model: "GenerativeModel") -> tuple[list[str], bool] | None:
    if arguments.classes is not None:
        return split_list(arguments.classes), True
    trained = (model.data_info or {}).get("class_names")
    return (list(trained), False) if trained else None


def split_list(text: str) -> list[str]:
    """Split `a,b, c` at its commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _training_data(model: "GenerativeModel", arguments: argparse.Namespace) -> ModelData:
    if model.data_info is None:
        raise ConfigurationError("the checkpoint does not say what data it was trained on: name a file of clouds")
    if arguments.normalize is not None:
        raise ConfigurationError("--normalize is for the clouds of a file: name one, or leave it out")
    if arguments.classes is not None:
        raise ConfigurationError("--classes selects from a file: name one, or leave it out for the training data's own")
    split = arguments.split or "test"
    datamodule = _datamodule(model, trust=arguments.trust)
    x = datamodule.take(split).x
    names = tuple(f"{split}_{i:05d}" for i in range(len(x)))
    return ModelData(x, np.zeros((len(x), 3)), np.ones(len(x)), names, type(datamodule).__name__, split)


def _datamodule(model: "GenerativeModel", *, trust: bool) -> "DataModule":
    """Make the datamodule again that the model was trained on."""
    from pcgen.recipe import build

    assert model.data_info is not None
    datamodule: DataModule = build(model.data_info["recipe"], trust=trust, where="data")
    datamodule.prepare_data()
    datamodule.setup("test")
    return datamodule


def training_clouds(model: "GenerativeModel", arguments: argparse.Namespace, split: str | None) -> "Tensor | None":
    """Give the training split (K, N, 3) of the source that `model_data` read, normalised; None where it has none."""
    if split in {None, "train"}:
        return None
    if arguments.data is None:
        return _datamodule(model, trust=arguments.trust).take("train").x
    import torch

    train, _ = read_selected(arguments.data, "train", _classes(arguments, model), arguments.seed, missing_ok=True)
    if train is None:
        return None
    N = (model.data_info or {}).get("sample_shape", train.points.shape[1:])[0]
    points = train.resample(N, seed=arguments.seed).points if train.points.shape[1] > N else train.points
    return torch.from_numpy(normalization(model, arguments.normalize).apply(points)[0])


def write_results(arguments: argparse.Namespace, points: NDArray[np.float32], **known: Any) -> None:
    """Write clouds (K, N, 3) to `--out`, with what is known of them."""
    if arguments.out is None:
        return
    from pcgen.io import CloudSet, write_clouds

    written = write_clouds(arguments.out, CloudSet(points, **known))
    say(f"{count(len(points), 'cloud')} of {points.shape[1]} points: {shown(written)}")


def write_picture(arguments: argparse.Namespace, image: NDArray[np.uint8]) -> None:
    """Write the picture to `--png`."""
    from pcgen.viz import save_png

    save_png(arguments.png, image)
    say(f"picture: {shown(arguments.png)}")


def up_axis(model: "GenerativeModel") -> int:
    """Give the axis that points up in a model's clouds; z where nobody said."""
    known = (model.data_info or {}).get("up_axis")
    return 2 if known is None else int(known)


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
