"""How checkpoints are written: whole or not at all, and safely on the disk before the older one goes."""

import errno
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import Strategy

from pcgen.errors import CheckpointError, DataError
from pcgen.io.files import atomic, remove_leftovers
from pcgen.safetensors import SAFETENSORS, read_safetensors

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, waits until the disk has it, and renames it.

    So whatever happens, a power cut too, a name stands for a whole checkpoint: the former or the new one. Lightning
    removes older checkpoints (`save_top_k`) only after this has returned. Every training of a pcgen model uses it
    unless the trainer was given another plugin; paths that are no local ones (`s3://…`) are left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What Lightning collected.
            path: Where it goes; a file there is replaced.
            storage_options: Must be None, as in Lightning's own.

        Raises:
            CheckpointError: If it cannot be written, as on a full disk. What was there before is as it was.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        file = Path(path)
        remove_leftovers(file.parent, file.name)  # of an earlier process: they may be what fills the disk
        try:
            with atomic(file, durable=True) as unfinished, unfinished.open("wb") as stream:
                torch.save(checkpoint, stream)
        except (DataError, OSError, RuntimeError) as error:
            raise _explained(file, error) from error

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint: tensors and plain values alone, unless Lightning is told otherwise.

        A `.safetensors` has what validating, testing and predicting need, and nothing to go on from.
        """
        if Path(path).suffix == SAFETENSORS:
            weights, record = read_safetensors(path)
            return record | {"state_dict": weights, "pytorch-lightning_version": version("pytorch-lightning")}
        return super().load_checkpoint(path, map_location, weights_only=True if weights_only is None else weights_only)


def write_durably(strategy: Strategy) -> None:
    """Put `DurableCheckpointIO` in the place of Lightning's default; a plugin that somebody chose stays."""
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = DurableCheckpointIO()


def _explained(file: Path, error: Exception) -> CheckpointError:
    """Say why a checkpoint could not be written, and what is left."""
    cause = next((e for e in _chain(error) if isinstance(e, OSError)), None)
    why = (cause.strerror if cause is not None else None) or str(error)
    if cause is not None and cause.errno in _FULL:
        free = shutil.disk_usage(file.parent).free if file.parent.is_dir() else 0
        why = f"{why.lower()} ({free / 1e6:.1f} MB free): make room there"
    kept = sorted(file.parent.glob("*.ckpt"), key=lambda p: p.stat().st_mtime) if file.parent.is_dir() else []
    more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
    left = f"; {kept[-1].name}{more} as before" if kept else "; there is no other checkpoint there"
    return CheckpointError(f"the checkpoint {file} cannot be written: {why}{left}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and what it came from. torch wraps an error of the file in errors of its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
