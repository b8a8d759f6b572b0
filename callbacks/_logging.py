"""Where callbacks write: the run's folder and whatever loggers the trainer has.

Every function is told what to log and finds out which loggers can take it. A logger without the means for it (CSV
has none for pictures) is passed over: the files in the run's folder are there in any case.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.trainer.states import TrainerFn

from pcgen.errors import DataError


def run_folder(trainer: Trainer) -> Path:
    """Give the folder of this run.

    Call it on every rank: under distributed training the trainer broadcasts the answer of rank zero.

    Args:
        trainer: Its first logger's folder is the run's; without one, `default_root_dir` is.

    Returns:
        The folder, which may not exist yet.
    """
    return Path(trainer.log_dir or trainer.default_root_dir)


def batches_so_far(trainer: Trainer) -> int:
    """Give the step at which Lightning logs now; `global_step` counts each optimizer's, two a batch for a GAN."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped  # noqa: SLF001 -- as Lightning's own callbacks do


def last_step(trainer: Trainer) -> int:
    """Give the step at which Lightning has put the last averages, so that what belongs to them lines up."""
    steps = batches_so_far(trainer)  # a validation or test outside a training is logged there
    return max(steps - 1, 0) if trainer.state.fn == TrainerFn.FITTING else steps


def log_final(trainer: Trainer, values: Mapping[str, float]) -> None:
    """Send numbers of the final weights to every logger, beside the last epoch's; does nothing but on rank zero.

    For `on_train_end`, when `LightningModule.log` is not allowed any more.
    """
    epoch = max(trainer.current_epoch - 1, 0)  # the last one, since by now the trainer has counted it
    log_numbers(trainer, values, epoch, last_step(trainer))


def log_numbers(trainer: Trainer, values: Mapping[str, float], epoch: int, step: int) -> None:
    """Send numbers to every logger, whatever hook this is; does nothing but on rank zero."""
    for logger in _loggers(trainer):
        logger.log_metrics({**values, "epoch": epoch}, step)


def log_image(trainer: Trainer, name: str, image: NDArray[np.uint8], step: int | None = None) -> None:
    """Send one picture to the loggers that take pictures (TensorBoard, W&B); does nothing but on rank zero.

    Args:
        trainer: Has the loggers.
        name: Key, such as `"figures/samples"`.
        image: (H, W, 3).
        step: Batches trained on so far, the axis of Lightning's own metrics; None for now.
    """
    step = batches_so_far(trainer) if step is None else step
    for logger in _loggers(trainer):
        if hasattr(logger, "log_image"):
            logger.log_image(name, [image], step=step)
        elif (add_image := _writer_method(logger, "add_image")) is not None:
            add_image(name, image, step, dataformats="HWC")


def log_animation(trainer: Trainer, name: str, path: Path, step: int | None = None) -> None:
    """Send an animated GIF to TensorBoard and W&B, which both play it; does nothing but on rank zero.

    Args:
        trainer: Has the loggers.
        name: Key, such as `"animations/traversals"`.
        path: Of the file.
        step: Batches trained on so far, the axis of Lightning's own metrics; None for now.
    """
    step = batches_so_far(trainer) if step is None else step
    for logger in _loggers(trainer):
        if isinstance(logger, WandbLogger):
            import wandb

            logger.log_metrics({name: wandb.Video(str(path))}, step)
        elif (file_writer := _writer_method(logger, "_get_file_writer")) is not None:
            # `add_video` would encode the frames again, with a library of its own; a GIF is shown as it is.
            file_writer().add_summary(_summary(name, path), step)


def log_clouds(trainer: Trainer, name: str, clouds: NDArray[Any], step: int | None = None, *, up_axis: int = 2) -> None:
    """Send clouds that can be turned with the mouse to TensorBoard and W&B; does nothing but on rank zero.

    Args:
        trainer: Has the loggers.
        name: Key, such as `"clouds/samples"`.
        clouds: (K, N, 3), finite; each becomes an object of its own.
        step: Batches trained on so far, the axis of Lightning's own metrics; None for now.
        up_axis: Which coordinate points up. TensorBoard's viewer has the second up, W&B's the third; the clouds are
            turned for each.

    Raises:
        DataError: If the clouds are not (K, N, 3) or not finite: the viewers show nothing then, and say nothing.
    """
    _check_clouds(name, clouds)
    step = batches_so_far(trainer) if step is None else step
    for logger in _loggers(trainer):
        if isinstance(logger, WandbLogger):
            import wandb

            logger.log_metrics({name: [wandb.Object3D(cloud) for cloud in _turned(clouds, up_axis, 2)]}, step)  # type: ignore[dict-item]  # W&B logs media as it logs numbers
        elif (add_mesh := _writer_method(logger, "add_mesh")) is not None:
            import torch

            add_mesh(name, torch.from_numpy(_turned(clouds, up_axis, 1)), global_step=step)


def log_table(
    trainer: Trainer, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int | None = None
) -> None:
    """Send a table to the loggers that take tables (TensorBoard, W&B); does nothing but on rank zero.

    Args:
        trainer: Has the loggers.
        name: Key, such as `"scores/val"`.
        columns: Heads of the C columns.
        rows: C plain values each.
        step: Batches trained on so far, the axis of Lightning's own metrics; None for now.
    """
    step = batches_so_far(trainer) if step is None else step
    for logger in _loggers(trainer):
        if hasattr(logger, "log_table"):
            logger.log_table(name, columns=list(columns), data=[list(row) for row in rows], step=step)
        elif (add_text := _writer_method(logger, "add_text")) is not None:
            add_text(name, _markdown(columns, rows), step)


def _loggers(trainer: Trainer) -> Iterator[Logger]:
    if trainer.is_global_zero:
        yield from trainer.loggers


def _writer_method(logger: Logger, method: str) -> Any:
    # TensorBoard's writer stands behind `experiment`; other loggers' experiments lack these methods.
    return getattr(getattr(logger, "experiment", None), method, None)


def _summary(name: str, path: Path) -> Any:
    """Make what TensorBoard shows as an image, out of an encoded file."""
    from PIL import Image as Picture
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]  # generated by protoc

    with Picture.open(path) as picture:
        width, height = picture.size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
    return Summary(value=[Summary.Value(tag=name, image=image)])


def _turned(clouds: NDArray[Any], up_axis: int, target: int) -> NDArray[np.float32]:
    return np.roll(clouds, target - up_axis, axis=-1).astype(np.float32)  # cyclic, so that left stays left


def _check_clouds(name: str, clouds: NDArray[Any]) -> None:
    if clouds.ndim != 3 or clouds.shape[-1] != 3:
        raise DataError(f"{name}: clouds have shape {clouds.shape}; give (K, N, 3)")
    if not np.isfinite(clouds).all():
        bad = int((~np.isfinite(clouds)).any(axis=(1, 2)).sum())
        raise DataError(f"{name}: {bad} of {len(clouds)} clouds hold NaN or infinity; log finite ones only")


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
