"""From a checkpoint to its model, safely: no code that the file names is run, unless it is pcgen's own."""

import warnings
from pathlib import Path
from typing import Any

import torch

from pcgen.base import CHECKPOINT_FORMAT, CHECKPOINT_KEY, GenerativeModel
from pcgen.errors import CheckpointError
from pcgen.io.torch_archive import ForeignPickleError, TornArchiveError, survey
from pcgen.rebuilding import first_line, is_rebuilding, rebuild
from pcgen.recipe import build
from pcgen.safetensors import SAFETENSORS, read_safetensors, write_safetensors

PathLike = str | Path


def load(path: PathLike, *, map_location: Any = "cpu", trust: bool = False) -> GenerativeModel:
    """Load the model that a checkpoint holds.

    The file alone is enough: it says how its networks were built and what its data were. It is read with
    `weights_only=True`, and its classes must be pcgen's.

    Args:
        path: A checkpoint, what `pcgen export` made of one (`.safetensors`), a run's folder (then its last checkpoint),
            or a folder of runs (then the newest's).
        map_location: Where the weights go, as in `torch.load`.
        trust: Also build classes from outside `pcgen.`, which runs their code. Pickled objects stay refused.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: If the file is missing, truncated, not a checkpoint of pcgen, holds pickled objects, names
            untrusted classes, or does not fit this version.
    """
    if is_rebuilding():
        raise CheckpointError(f"the record names the file {path}: it may hold a model, but not name one")
    file = find_checkpoint(path)
    checkpoint = read_checkpoint(file, map_location=map_location)
    card, weights = checkpoint[CHECKPOINT_KEY], checkpoint.get("state_dict")
    try:
        model = rebuild(lambda: _build(card, trust=trust), weights)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {first_line(error)}") from error
    data = card.get("data")
    model.data_info = data if isinstance(data, dict) else None
    place = torch.device(map_location) if isinstance(map_location, str | torch.device) else _device_of(weights)
    return model.to(place).eval()


def _build(card: dict[str, Any], *, trust: bool) -> GenerativeModel:
    model = build(card.get("model"), trust=trust)
    if not isinstance(model, GenerativeModel):
        raise CheckpointError(f"its record is of a {type(model).__name__}, not of a generative model")
    return model


def _device_of(weights: Any) -> torch.device:
    return next((w.device for w in weights.values() if isinstance(w, torch.Tensor)), torch.device("cpu"))


def read_checkpoint(path: PathLike, *, map_location: Any = "cpu", resumable: bool = False) -> dict[str, Any]:
    """Read a checkpoint's plain content and check that it is pcgen's.

    Args:
        path: As `load`.
        map_location: As `load`; a `.safetensors` is read to the CPU.
        resumable: Refuse a file that no training can go on from, for it holds weights alone.

    Returns:
        Lightning's dictionary with pcgen's card under `"pcgen"`: format, version, model, data.

    Raises:
        CheckpointError: As `load`.
    """
    file = find_checkpoint(path)
    if file.suffix == SAFETENSORS:
        if resumable:
            raise CheckpointError(
                f"{file} holds a model alone, and not what a training goes on from: give the .ckpt that it came from"
            )
        weights, content = read_safetensors(file)
        _check_format(content[CHECKPOINT_KEY], file)
        return content | {"state_dict": weights}
    _check_format(_survey(file)[CHECKPOINT_KEY], file)
    try:
        checkpoint: dict[str, Any] = torch.load(file, map_location=map_location, weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{file} cannot be read as a checkpoint ({first_line(error)})") from error
    return checkpoint


def _check_format(card: dict[str, Any], file: Path) -> None:
    if card.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{file} has checkpoint format {first_line(repr(card.get('format')))} and this pcgen reads "
            f"{CHECKPOINT_FORMAT}: it was written by pcgen {first_line(card.get('version'))}"
        )


def export(path: PathLike, out: PathLike, *, trust: bool = False) -> None:
    """Write the model that a checkpoint holds as safetensors: its weights, and its card in the metadata.

    `load` reads the file, and any program can that knows the format.

    Args:
        path: As `load`.
        out: The file, some `.safetensors`; one that is there is replaced.
        trust: As `load`.

    Raises:
        CheckpointError: As `load`.
        DataError: If the file cannot be written.
    """
    content, model = read_checkpoint(path), load(path, trust=trust)
    where = {name: content[name] for name in ("epoch", "global_step") if type(content.get(name)) is int}
    write_safetensors(out, model.state_dict(), {CHECKPOINT_KEY: content[CHECKPOINT_KEY], **where})


def find_checkpoint(path: PathLike) -> Path:
    """Resolve a checkpoint file, or a folder to its newest whole checkpoint.

    In a run's folder that is the one furthest in training, `last` if several are; of a folder of runs, the newest
    run's. One that is torn is passed over with a warning.

    Raises:
        CheckpointError: If there is none, or none is whole.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}")
    files = _candidates(path)
    if not files:
        raise CheckpointError(f"the folder {path} holds no checkpoint (*.ckpt, checkpoints/*.ckpt, or a run with them)")
    found, torn = _first_whole(files)
    if found is None:
        reasons = "; ".join(f"{file.name}: {why}" for file, why in torn.items())
        raise CheckpointError(f"{files[0].parent} holds no whole checkpoint ({reasons})")
    return found


def newest_whole(folder: PathLike) -> Path | None:
    """Give what `find_checkpoint` gives of a folder, or None where there is no whole checkpoint."""
    return _first_whole(_candidates(Path(folder)))[0]


def _candidates(folder: Path) -> list[Path]:
    """Give the checkpoints of the run that was written to last; what an interrupted save left is none."""
    for pattern in ("*.ckpt", "checkpoints/*.ckpt", "*/checkpoints/*.ckpt"):
        found = [file for file in folder.glob(pattern) if file.is_file() and not file.name.startswith(".")]
        if found:
            newest = max(found, key=_written).parent
            return sorted(file for file in found if file.parent == newest)
    return []


def _written(file: Path) -> float:
    return file.stat().st_mtime


def _first_whole(files: list[Path]) -> tuple[Path | None, dict[Path, str]]:
    """Give the whole file that is furthest in training, and those that are torn; a warning names them.

    How far one is stands in its pickle, which is read in milliseconds; all bytes are read, to compare them with their
    checksums, of the furthest, and of the next only if that is torn.
    """
    torn: dict[Path, str] = {}
    order = []
    for file in files:
        try:
            order.append((_steps(_survey(file, checksums=False)), file.stem == "last", _written(file), file))
        except CheckpointError as error:
            torn[file] = str(error)
    found = None
    for *_, file in sorted(order, reverse=True):
        try:
            _survey(file)
        except CheckpointError as error:
            torn[file] = str(error)
        else:
            found = file
            break
    if torn and found is not None:
        names = ", ".join(sorted(file.name for file in torn))
        warnings.warn(f"not whole, and passed over: {names} in {found.parent}; {found.name} is taken", stacklevel=4)
    return found, torn


def _steps(content: dict[str, Any]) -> int:
    steps = content.get("global_step")
    return steps if type(steps) is int else -1


def _survey(file: Path, *, checksums: bool = True) -> dict[str, Any]:
    """Give a checkpoint's content with claims for tensors.

    Raises:
        CheckpointError: If it is torn, of another kind, or made to harm.
    """
    try:
        content = survey(file, checksums=checksums)
    except TornArchiveError as error:
        raise CheckpointError(
            f"{file} cannot be read as a checkpoint: it is truncated, damaged or of another kind ({first_line(error)})"
        ) from error
    except ForeignPickleError as error:
        raise CheckpointError(
            f"{file} holds pickled objects, which can run code when they are loaded, and is refused; "
            "a checkpoint of pcgen holds tensors and plain values alone"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{file} is refused: {first_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get(CHECKPOINT_KEY), dict):
        keys = f", it holds {first_line(', '.join(map(str, list(content)[:5])))}" if isinstance(content, dict) else ""
        raise CheckpointError(f"{file} is not a checkpoint of pcgen{keys}; give one that `pcgen fit` wrote")
    return content
