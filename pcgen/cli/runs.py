"""A run's folder, what writes into it, and what is said of it in the end."""

import contextlib
import shlex
import shutil
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only

from pcgen.base import GenerativeModel
from pcgen.callbacks._logging import run_folder as written_to
from pcgen.cli.common import shown
from pcgen.cli.folders import CHECKPOINTS, CONFIG, RunFolder
from pcgen.io.files import atomic

_PATHS = {
    "NumericalHealth": "pcgen.callbacks.NumericalHealth",
    "Preemption": "pcgen.callbacks.Preemption",
    "ModelCheckpoint": "pytorch_lightning.callbacks.ModelCheckpoint",
}
_ARGUMENTS = {"ModelCheckpoint": {"save_last": True, "dirpath": None}}
REFRESHES = 10  # of the progress bar in a second; Lightning's 100 cost more than a small training step


class Bar(RichProgressBar):
    """Lightning's bar, gone before the final table is printed instead of below it. Let it be the first callback."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=REFRESHES)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's signature
        """Stop with the training."""
        self._stop_progress()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop, unless a training goes on."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._stop_progress()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop with the test."""
        super().on_test_end(trainer, pl_module)
        self._stop_progress()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop with the prediction."""
        super().on_predict_end(trainer, pl_module)
        self._stop_progress()


class Experiment(SaveConfigCallback):
    """Writes the experiment's settings into the run's folder, whole or not at all."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 -- Lightning's
        """Write them."""
        folder = written_to(trainer)  # asked on every rank, which agree on it
        if trainer.is_global_zero:
            with atomic(folder / CONFIG, durable=True) as unfinished:
                self.parser.save(self.config, str(unfinished), skip_none=False, overwrite=True, multifile=False)


def callbacks(configured: Any, folder: Path, *, enabled: bool | None, fits: bool) -> list[Namespace]:
    """Put checkpoints into the run's folder, and give a training what every training should have.

    Args:
        configured: `trainer.callbacks` of the config.
        folder: Of the run.
        enabled: `trainer.enable_checkpointing`; without any word on checkpoints, the last is kept.
        fits: This is a training, which stops at a signal with a checkpoint, and at numbers that are not finite.
    """
    given = [] if configured is None else configured if isinstance(configured, list) else [configured]
    saves = enabled is not False
    default = {"NumericalHealth": fits, "Preemption": fits and saves, "ModelCheckpoint": saves}
    for name, wanted in default.items():
        if wanted and not any(c.class_path.endswith(name) for c in given):
            given = [*given, Namespace(class_path=_PATHS[name], init_args=Namespace(_ARGUMENTS.get(name, {})))]
    for keeper in (c for c in given if c.class_path.endswith("ModelCheckpoint")):
        if not keeper.init_args.get("dirpath"):
            keeper.init_args["dirpath"] = str(folder / CHECKPOINTS)
    return given


@rank_zero_only
def discard(run: RunFolder) -> None:
    """Remove the folder of a run that never began, unless it was there before."""
    if not run.fresh:
        return
    shutil.rmtree(run.path, ignore_errors=True)
    if not run.named:
        with contextlib.suppress(OSError):  # other runs of this name stay
            run.path.parent.rmdir()
            run.path.parent.parent.rmdir()


def kept_checkpoint(trainer: Trainer) -> Path | None:
    """Give the last checkpoint that this run wrote, or else its best one."""
    keeper = trainer.checkpoint_callback
    found = [getattr(keeper, name, "") for name in ("last_model_path", "best_model_path")]
    return next((Path(path) for path in found if path and Path(path).is_file()), None)


def _pictures(trainer: Trainer, folder: Path) -> Path:
    """Give the folder of the pictures; `trainer.log_dir` would ask all processes, of which some may have ended."""
    logger = trainer.loggers[0] if trainer.loggers else None
    return Path(getattr(logger, "log_dir", None) or getattr(logger, "save_dir", None) or folder) / "figures"


def announce(trainer: Trainer, folder: Path, *, trained: bool = False, finished: bool = True, **more: Path) -> None:
    """Say where everything is and what to do next.

    Args:
        trainer: Has run, or has failed: nothing is asked of other processes, which may be gone.
        folder: Of the run.
        trained: Speak of the checkpoint.
        finished: If not, the next thing is to go on with the training.
        more: What else was written.
    """
    _say_where(trainer, {"run": folder, "pictures": _pictures(trainer, folder), **more}, trained, finished)


@rank_zero_only
def _say_where(trainer: Trainer, places: dict[str, Path], trained: bool, finished: bool) -> None:
    from rich.console import Console

    kept = kept_checkpoint(trainer) if trained else None
    model = trainer.lightning_module
    rows = {what: shown(where) for what, where in places.items() if where.exists()}
    if kept is not None:
        word = shlex.quote(shown(kept))
        rows["checkpoint"] = shown(kept)
        run = shlex.quote(shown(places["run"]))
        go_on = f"pcgen fit --config {run}/config.yaml --folder {run}"
        rows["next"] = f"pcgen {_use(model, word)}" if finished else go_on
    elif trained and not finished:
        rows["checkpoint"] = "none yet: the first is written at the end of the first epoch"
    console = Console()
    for what in ("run", "checkpoint", "pictures", *places, "next"):
        if what in rows:
            console.print(f"{what:11s} {rows.pop(what)}", highlight=False, soft_wrap=True, markup=False)


# What a trained model is looked at with: the first verb that it has.
USES = {
    "sample": "sample {} -n 16 --png samples.png",
    "decompose": "decompose {} --png decompositions.png",
    "classify": "export {} extractor.pt",
    "reconstruct": "reconstruct {} --png reconstructions.png",
}


def _use(model: LightningModule, checkpoint: str) -> str:
    able = (verb for verb in USES if isinstance(model, GenerativeModel) and model.can(verb))
    return USES[next(able, "sample")].format(checkpoint)
