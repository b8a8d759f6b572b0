"""A run's folder, what writes into it, and what is said of it in the end."""

import contextlib
import os
import shlex
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only

from pcgen.base import GenerativeModel
from pcgen.callbacks._logging import run_folder as written_to
from pcgen.cli.common import shown

RUN_FOLDER = "PCGEN_RUN_FOLDER"  # handed down to the processes that Lightning launches for the other ranks
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


def run_folder(config: Namespace, verb: str) -> Path:
    """Make up runs/<name>/<time> for a new run; the ranks that Lightning launches inherit it."""
    if RUN_FOLDER in os.environ and "LOCAL_RANK" in os.environ:
        return Path(os.environ[RUN_FOLDER])
    name = experiment_name(config)
    time = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S") + ("" if verb == "fit" else f"_{verb}")
    folder = Path(config.runs) / name / time
    taken = 1
    while folder.exists():
        taken += 1
        folder = folder.with_name(f"{time}_{taken}")
    os.environ[RUN_FOLDER] = str(folder)
    return folder


def experiment_name(config: Namespace) -> str:
    """Give the experiment's name: the one in the config, or what is trained on what."""
    return config.name or "-".join(_class_name(config[part]) for part in ("model", "data"))


def _class_name(part: Namespace) -> str:
    return str(part.class_path).rpartition(".")[2].lower()


def callbacks(configured: Any, folder: Path, *, enabled: bool | None) -> list[Namespace]:
    """Put checkpoints into the run's folder; without any word on them, keep the last."""
    given = [] if configured is None else configured if isinstance(configured, list) else [configured]
    keepers = [c for c in given if c.class_path.endswith("ModelCheckpoint")]
    if not keepers and enabled is not False:
        path = "pytorch_lightning.callbacks.ModelCheckpoint"
        keepers = [Namespace(class_path=path, init_args=Namespace(save_last=True, dirpath=None))]
        given = [*given, *keepers]
    for keeper in keepers:
        if not keeper.init_args.get("dirpath"):
            keeper.init_args["dirpath"] = str(folder / "checkpoints")
    return given


@rank_zero_only
def discard(folder: Path) -> None:
    """Remove the folder of a run that never began; `run_folder` made sure that it was new."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # other runs of this name stay
        folder.parent.rmdir()
        folder.parent.parent.rmdir()


def kept_checkpoint(trainer: Trainer) -> Path | None:
    """Give the last checkpoint that this run wrote, or else its best one."""
    keeper = trainer.checkpoint_callback
    found = [getattr(keeper, name, "") for name in ("last_model_path", "best_model_path")]
    return next((Path(path) for path in found if path and Path(path).is_file()), None)


def announce(trainer: Trainer, folder: Path, *, trained: bool = False, finished: bool = True, **more: Path) -> None:
    """Say where everything is and what to do next.

    Args:
        trainer: Has run. Call it on every rank: they agree on where the pictures are.
        folder: Of the run.
        trained: Speak of the checkpoint.
        finished: If not, the next thing is to go on with the training.
        more: What else was written.
    """
    _say_where(trainer, {"run": folder, "pictures": written_to(trainer) / "figures", **more}, trained, finished)


@rank_zero_only
def _say_where(trainer: Trainer, places: dict[str, Path], trained: bool, finished: bool) -> None:
    from rich.console import Console

    kept = kept_checkpoint(trainer) if trained else None
    model = trainer.lightning_module
    rows = {what: shown(where) for what, where in places.items() if where.exists()}
    if kept is not None:
        word = shlex.quote(shown(kept))
        rows["checkpoint"] = shown(kept)
        config = shlex.quote(shown(places["run"] / "config.yaml"))
        go_on = f"pcgen fit --config {config} --ckpt_path {word}"
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
