"""From a checkpoint to its model, safely: no code that the file names is run, unless it is pcgen's own."""

import pickle
from pathlib import Path
from typing import Any

import torch

from pcgen.base import CHECKPOINT_FORMAT, CHECKPOINT_KEY, GenerativeModel
from pcgen.errors import CheckpointError, PcgenError
from pcgen.recipe import build

PathLike = str | Path


def load(path: PathLike, *, map_location: Any = "cpu", trust: bool = False) -> GenerativeModel:
    """Load the model that a checkpoint holds.

    The file alone is enough: it says how its networks were built and what its data were. It is read with
    `weights_only=True`, and its classes must be pcgen's.

    Args:
        path: A checkpoint, a run's folder (then its last checkpoint), or a folder of runs (then the newest's).
        map_location: Where the weights go, as in `torch.load`.
        trust: Also build classes from outside `pcgen.`, which runs their code. Pickled objects stay refused.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: If the file is missing, truncated, not a checkpoint of pcgen, holds pickled objects, names
            untrusted classes, or does not fit this version.
    """
    file = find_checkpoint(path)
    checkpoint = read_checkpoint(file, map_location=map_location)
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict):
        raise CheckpointError(f"{file} holds no weights (state_dict)")
    # First without memory: a record that claims a huge network is refused before anything is allocated.
    with torch.device("meta"):
        skeleton = _build(checkpoint, file, trust=trust)
    _check_weights(skeleton, weights, file)
    model = _build(checkpoint, file, trust=trust)
    model.load_state_dict(weights)
    model.data_info = checkpoint[CHECKPOINT_KEY].get("data")
    place = torch.device(map_location) if isinstance(map_location, str | torch.device) else _device_of(weights)
    return model.to(place).eval()


def _build(checkpoint: dict[str, Any], file: Path, *, trust: bool) -> GenerativeModel:
    try:
        model = build(checkpoint[CHECKPOINT_KEY].get("model"), trust=trust)
    except (PcgenError, TypeError, ValueError, AttributeError, KeyError, RuntimeError, IndexError) as error:
        raise CheckpointError(f"{file}: {_first_line(error)}") from error
    if not isinstance(model, GenerativeModel):
        raise CheckpointError(f"{file}: its record is of a {type(model).__name__}, not of a generative model")
    return model


def _check_weights(skeleton: GenerativeModel, weights: dict[str, Any], file: Path) -> None:
    """Compare names and shapes of the weights with those of the model that the record describes."""
    wanted = {name: tuple(value.shape) for name, value in skeleton.state_dict().items()}
    given = {name: tuple(getattr(value, "shape", ())) for name, value in weights.items()}
    wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{file}: the weights do not fit the model it names: {name} is {given.get(name, 'missing')} and should be "
            f"{wanted.get(name, 'absent')} ({len(wrong)} of {len(wanted)} differ)"
        )


def _device_of(weights: dict[str, Any]) -> torch.device:
    return next((w.device for w in weights.values() if isinstance(w, torch.Tensor)), torch.device("cpu"))


def read_checkpoint(path: PathLike, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint's plain content and check that it is pcgen's.

    Returns:
        Lightning's dictionary with pcgen's card under `"pcgen"`: format, version, model, data.

    Raises:
        CheckpointError: As `load`.
    """
    file = find_checkpoint(path)
    try:
        checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_why_refused(file, error)) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{file} cannot be read as a checkpoint: it is truncated or of another kind ({_first_line(error)})"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(CHECKPOINT_KEY), dict):
        keys = f", it holds {', '.join(map(str, list(checkpoint)[:5]))}" if isinstance(checkpoint, dict) else ""
        raise CheckpointError(f"{file} is not a checkpoint of pcgen{keys}; give one that `pcgen fit` wrote")
    version = checkpoint[CHECKPOINT_KEY].get("format")
    if version != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{file} has checkpoint format {version!r} and this pcgen reads {CHECKPOINT_FORMAT}: "
            f"it was written by pcgen {checkpoint[CHECKPOINT_KEY].get('version')}"
        )
    return checkpoint


def find_checkpoint(path: PathLike) -> Path:
    """Resolve a checkpoint file, a run's folder to its last checkpoint, or a folder of runs to that of its newest.

    Raises:
        CheckpointError: If there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}")
    for pattern in ("*.ckpt", "checkpoints/*.ckpt", "*/checkpoints/*.ckpt"):
        if found := sorted(path.glob(pattern), key=lambda p: p.stat().st_mtime):
            newest = found[-1].parent
            return next((p for p in found if p.parent == newest and p.stem == "last"), found[-1])
    raise CheckpointError(f"the folder {path} holds no checkpoint (*.ckpt, checkpoints/*.ckpt, or a run with them)")


def _why_refused(file: Path, error: Exception) -> str:
    text = str(error)
    if "GLOBAL " in text or "Unsupported global" in text or "Unsupported class" in text:
        return (
            f"{file} holds pickled objects, which can run code when they are loaded, and is refused; "
            "a checkpoint of pcgen holds tensors and plain values alone"
        )
    return f"{file} cannot be read as a checkpoint: it is truncated or of another kind ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
