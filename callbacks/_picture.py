"""What every picture callback shares: when it draws, where it writes, and that it never stops a training."""

import csv
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from pcgen.base import DataModule, GenerativeModel
from pcgen.callbacks._logging import (
    last_step,
    log_animation,
    log_clouds,
    log_image,
    log_numbers,
    log_table,
    run_folder,
)
from pcgen.errors import ConfigurationError
from pcgen.io.files import atomic
from pcgen.viz import Image, save_gif, save_png

SPLITS = ("train", "val", "test")


class Table(NamedTuple):
    """The numbers behind a picture: a file `<name>.csv` in the run's folder, and a table for the loggers."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Drawing(NamedTuple):
    """What `Picture.draw` gives.

    Attributes:
        image: (H, W, 3).
        clouds: Clouds (K, N, 3) to turn with the mouse where a logger can show them, or None.
        table: What was drawn as numbers, or None.
        frames: Images (H, W, 3) of one size, of an animation beside the picture; empty for none.
        numbers: Single numbers for the loggers, by name, or None.
    """

    image: Image
    clouds: NDArray[Any] | None = None
    table: Table | None = None
    frames: Sequence[Image] = ()
    numbers: Mapping[str, float] | None = None


class Picture(Callback):
    """Draws at the end of chosen epochs and of the training, into the run's folder and to every logger.

    Files are `figures/<name>/epoch_0010.png` and, the latest again, `figures/<name>.png`; an animation is
    `figures/<name>.gif`. Rank zero alone draws. A
    picture that cannot be drawn costs a warning and nothing else, and drawing leaves the random numbers of the
    training as they were.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
    """

    name: ClassVar[str]
    verbs: ClassVar[tuple[str, ...]] = ()  # what the model must be able to do

    def __init__(self, every_n_epochs: int) -> None:
        if every_n_epochs < 0:
            raise ConfigurationError(f"every_n_epochs is {every_n_epochs}; give 0 or more")
        self.every_n_epochs = every_n_epochs
        self._ready = False
        self._epoch = self._drawn = 0  # epochs completed, and when the last picture was drawn

    @abstractmethod
    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing | None:
        """Draw after so many epochs; None for nothing to draw yet."""

    def check(self, trainer: Trainer) -> None:
        """Raise a ConfigurationError before the training if the picture's arguments cannot work with its data."""

    def unable(self, model: GenerativeModel) -> str | None:  # noqa: ARG002 -- a hook: subclasses look at the model
        """Say why there is nothing to draw of a model that has the verbs, after its name; None if there is."""
        return None

    # ── when ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out whether the model can, and whether the arguments can work."""
        if stage != "fit":
            return
        reason = self._lack(pl_module)
        self._ready = reason is None
        self._epoch = self._drawn = 0
        if reason is None:
            self.check(trainer)
        else:
            warn(trainer, f"{type(self).__name__} draws nothing: {type(pl_module).__name__} {reason}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw after the chosen epochs."""
        self._epoch = trainer.current_epoch + 1
        if self.every_n_epochs and self._epoch % self.every_n_epochs == 0:
            self._publish(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the end of the training, whatever its epoch."""
        if self._epoch > self._drawn:
            self._publish(trainer, pl_module)

    def _lack(self, model: LightningModule) -> str | None:
        for name in self.verbs:
            if not isinstance(model, GenerativeModel):
                return f"cannot {name}"
            if not model.can(name):
                return str(model.unsupported(name)).removeprefix(f"{type(model).__name__} ")
        return self.unable(model) if isinstance(model, GenerativeModel) else None

    # ── where ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _publish(self, trainer: Trainer, model: LightningModule) -> None:
        if not self._ready:
            return
        folder = run_folder(trainer)  # on every rank: it is a broadcast
        self._drawn = self._epoch
        if not trainer.is_global_zero:
            return
        with isolate_rng():
            try:
                drawing = self.draw(trainer, model, self._epoch)
                if drawing is not None and not getattr(
                    trainer, "fast_dev_run", False
                ):  # which writes nothing, but does find bugs
                    self._write(folder, drawing)
                    self._log(trainer, drawing, folder)
            except Exception as error:  # noqa: BLE001 -- whatever is wrong with a picture, hours of training go on
                reason = f"{type(error).__name__}: {error}"
                warn(trainer, f"no picture of {self.name} after epoch {self._epoch}: {reason}")

    def _write(self, folder: Path, drawing: Drawing) -> None:
        save_png(folder / "figures" / self.name / f"epoch_{self._epoch:04d}.png", drawing.image)
        save_png(folder / "figures" / f"{self.name}.png", drawing.image)
        if drawing.frames:
            save_gif(folder / "figures" / f"{self.name}.gif", drawing.frames)
        if drawing.table is not None:
            name, columns, rows = drawing.table
            with (
                atomic(folder / f"{name}.csv") as unfinished,
                unfinished.open("w", newline="", encoding="utf-8") as file,
            ):
                csv.writer(file, lineterminator="\n").writerows([columns, *rows])

    def _log(self, trainer: Trainer, drawing: Drawing, folder: Path) -> None:
        step = last_step(trainer)
        log_image(trainer, f"figures/{self.name}", drawing.image, step)
        if drawing.frames:
            log_animation(trainer, f"animations/{self.name}", folder / "figures" / f"{self.name}.gif", step)
        if drawing.numbers is not None:
            log_numbers(trainer, drawing.numbers, self._epoch - 1, step)
        if drawing.table is not None:
            log_table(trainer, *drawing.table, step)
        if drawing.clouds is not None and len(drawing.clouds):
            log_clouds(trainer, f"clouds/{self.name}", drawing.clouds, step, up_axis=up_axis(trainer))


def datamodule_of(trainer: Trainer, picture: Picture) -> DataModule:
    """Give the trainer's datamodule.

    Raises:
        ConfigurationError: If there is none that can give fixed data.
    """
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, DataModule):
        raise ConfigurationError(
            f"{type(picture).__name__} takes its data from a pcgen DataModule, and the trainer has "
            f"{type(datamodule).__name__ if datamodule is not None else 'none'}: pass trainer.fit(datamodule=…)"
        )
    return datamodule


def check_split(trainer: Trainer, picture: Picture, split: str, least: int = 1) -> None:
    """Raise a ConfigurationError unless the split is there and holds at least so many data."""
    if split not in SPLITS:
        raise ConfigurationError(f"{type(picture).__name__}: there is no split {split!r}; give one of train, val, test")
    found = len(datamodule_of(trainer, picture).take(split, least).x)
    if found < least:
        raise ConfigurationError(
            f"{type(picture).__name__} needs {least} of split {split!r}, which holds {found}; choose another split"
        )


def warn(trainer: Trainer, text: str) -> None:
    """Warn the user, once for all processes."""
    if trainer.is_global_zero:
        warnings.warn(text, stacklevel=3)


def several(name: str, given: Iterable[str]) -> tuple[str, ...]:
    """Give the words of an argument; raise a ConfigurationError for a single word or none."""
    if isinstance(given, str) or not tuple(given):
        raise ConfigurationError(f"{name} is {given!r}; give a list of at least one word, such as [{given or name}]")
    return tuple(given)


def at_least(least: int, **given: int) -> None:
    """Raise a ConfigurationError naming an argument that is below what makes sense."""
    for name, value in given.items():
        if value < least:
            raise ConfigurationError(f"{name} is {value}; give at least {least}")


def up_axis(trainer: Trainer) -> int:
    """Give the axis that points up in the trainer's data; z where nobody said."""
    known = getattr(getattr(trainer, "datamodule", None), "up_axis", None)
    return 2 if known is None else int(known)


def plain(x: Tensor) -> NDArray[np.float32]:
    """Bring a tensor (…) from any device and of any precision to NumPy."""
    array: NDArray[np.float32] = x.detach().float().cpu().numpy()
    return array


def for_viewing(x: NDArray[np.float32], n: int) -> NDArray[np.float32] | None:
    """Give the first n data if they are clouds (K, N, 3), None for images or for none."""
    return x[:n] if x.ndim == 3 and n > 0 else None
