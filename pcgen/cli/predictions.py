"""What `pcgen predict` writes: one file of all data, in their order, however many processes made it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Trainer

from pcgen.base import DataModule
from pcgen.callbacks._sharing import on_rank_zero

if TYPE_CHECKING:
    from torch import Tensor


def write_predictions(trainer: Trainer, datamodule: DataModule, folder: Path) -> Path:
    """Write what the trainer's last prediction made of the data, a row for each.

    Call it on every process: each has a contiguous share of the data, and rank zero writes them one after the other.

    Args:
        trainer: Has predicted, and kept the predictions.
        datamodule: What was predicted.
        folder: Of the run.

    Returns:
        `predictions.h5` for clouds (K, N, 3) and images (K, C, H, W), `predictions.csv` for a table (K, C), such as the
        probabilities of classes, or for numbers (K,), such as energies. No file is there if nothing of the kind was
        predicted.

    Raises:
        DataError: On every process, if rank zero finds predictions that are not finite, or cannot write.
    """
    parts = _whole(trainer)
    shape = parts[0].shape[1:] if parts else None
    file = folder / ("predictions.csv" if shape is not None and len(shape) < 2 else "predictions.h5")
    if shape is not None:
        on_rank_zero(trainer, lambda: _write(file, parts, datamodule))
    return file


def _whole(trainer: Trainer) -> list["Tensor"]:
    """Give all predictions on the CPU in the data's order, on rank zero; the others get their first batch alone."""
    import torch

    batches: list[Any] = list(trainer.predict_loop.predictions or [])
    if not batches or not all(isinstance(batch, torch.Tensor) and batch.ndim for batch in batches):
        return []
    if trainer.world_size == 1:
        return [batch.cpu() for batch in batches]
    shares: list[list[torch.Tensor]] = [[] for _ in range(trainer.world_size)]
    for gathered in _gathered(trainer, batches):
        if trainer.is_global_zero:
            for share, part in zip(shares, gathered, strict=True):
                share.append(part.cpu())
    return [part for share in shares for part in share] or batches[:1]


def _gathered(trainer: Trainer, batches: list["Tensor"]) -> Iterator[list["Tensor"]]:
    """Give the processes' batches, batch by batch, so that a device never holds more; all have as many batches."""
    from torchmetrics.utilities.distributed import gather_all_tensors

    for batch in batches:
        yield gather_all_tensors(batch.to(trainer.strategy.root_device))


def _write(file: Path, parts: list["Tensor"], datamodule: DataModule) -> None:
    import torch

    from pcgen.cli.image_writing import write_images
    from pcgen.cli.modeldata import as_images
    from pcgen.io import CloudSet, write_clouds

    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    if len(shape) <= 2:
        _write_table(file, torch.cat(parts).reshape(shape[0], -1), datamodule.class_names)
    elif len(shape) == 3 and shape[2] == 3:
        write_clouds(file, CloudSet(torch.cat(parts).numpy(), up_axis=datamodule.up_axis))
    elif len(shape) == 4:
        write_images(file, map(as_images, parts), shape)


def _write_table(file: Path, values: "Tensor", names: tuple[str, ...]) -> None:
    """Write values (K, C), with a name over each column."""
    import csv

    from pcgen.io.files import atomic

    columns = [names[k] if k < len(names) else str(k) for k in range(values.shape[1])]
    with atomic(file) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([columns, *values.tolist()])
