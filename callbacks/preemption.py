"""A training that is told to stop stops after a whole step, with a checkpoint."""

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from pcgen.callbacks._logging import run_folder
from pcgen.errors import ConfigurationError

LAST = "last.ckpt"


class Preempted(SystemExit):
    """The training has stopped because a signal asked for it, and its checkpoint is written.

    Attributes:
        signal: Which one it was; the exit status is 128 and its number, as shells have it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class Preemption(Callback):
    """Saves `last.ckpt` and stops when a signal says that the machine is needed elsewhere.

    Signals only leave a note. It is read after an optimizer step, when weights, optimizers and data are at one place;
    all processes agree, save, and stop. In a SLURM job, the signal that announces its end (`#SBATCH
    --signal=USR1@120`) also puts the job back into the queue; the same command then goes on, see `pcgen fit --folder`.
    A second interruption from the keyboard stops at once. A signal during validation waits for the next training step.

    It takes the place of Lightning's own handling, which saves in the middle of whatever a step is doing.

    Args:
        signals: Names of the signals that ask to stop.
        requeue_signal: The one after which a SLURM job is put back into the queue; null for none.
        every_n_steps: How often several processes ask each other whether one was told to stop, in optimizer steps: a
            small message each time.
    """

    def __init__(
        self,
        signals: Sequence[str] = ("SIGTERM", "SIGUSR1", "SIGINT"),
        requeue_signal: str | None = "SIGUSR1",
        every_n_steps: int = 10,
    ) -> None:
        if every_n_steps < 1:
            raise ConfigurationError(f"every_n_steps is {every_n_steps}; give 1 or more")
        self.signals = [_signal(name) for name in signals]
        self.requeue_signal = None if requeue_signal is None else _signal(requeue_signal)
        if self.requeue_signal not in (None, *self.signals):
            raise ConfigurationError(f"requeue_signal {requeue_signal} is not among the signals {list(signals)}")
        self.every_n_steps = every_n_steps
        self._received = 0  # number of the signal
        self._former: dict[int, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Take a place behind all that changes the model after a step, before the callbacks that save."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
        others = [c for c in callbacks if c is not self]
        acting = [c for c in others if not isinstance(c, Checkpoint)]
        trainer.callbacks = [*acting, self, *[c for c in others if isinstance(c, Checkpoint)]]  # type: ignore[attr-defined]

    # ── hearing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Listen, in the place of Lightning's handlers."""
        self._received = 0
        if threading.current_thread() is threading.main_thread():  # Python hears signals there alone
            self._former = {number: signal.signal(number, self._note) for number in self.signals}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received == number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        self._received = number
        rank_zero_info(f"{signal.Signals(number).name}: stopping after this step, with a checkpoint")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Stop listening."""
        self._stop_listening()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Stop listening."""
        self._stop_listening()

    def _stop_listening(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    # ── stopping ──────────────────────────────────────────────────────────────────────────────────────────────────

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int  # noqa: ARG002
    ) -> None:  # fmt: skip
        """Save and stop, if a process was told to.

        Raises:
            Preempted: Then.
        """
        whole = trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if whole and (number := self._agreed(trainer)):
            self._save(trainer)
            if number == self.requeue_signal and trainer.is_global_zero:
                requeue()
            raise Preempted(number)

    def _agreed(self, trainer: Trainer) -> int:
        """Give the signal that any process has received."""
        if trainer.world_size == 1:
            return self._received
        if trainer.global_step % self.every_n_steps and not trainer.is_last_batch:
            return 0
        import torch

        mine = torch.tensor(self._received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(mine, reduce_op="max"))

    def _save(self, trainer: Trainer) -> None:
        keeper = trainer.checkpoint_callback
        folder = keeper.dirpath if isinstance(keeper, ModelCheckpoint) else None
        file = Path(folder or run_folder(trainer) / "checkpoints") / LAST
        if isinstance(keeper, ModelCheckpoint) and keeper.save_last:
            keeper.last_model_path = str(file)  # it goes on to replace this file
        trainer.save_checkpoint(file)


def requeue() -> None:
    """Put this SLURM job back into the queue; what cannot be done is a warning."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{job}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if job else os.environ.get("SLURM_JOB_ID", "")
    if not job:
        return
    scontrol = shutil.which("scontrol")
    if scontrol is None or not re.fullmatch(r"\d+(_\d+)?", job):
        rank_zero_warn(f"job {job} is not requeued: there is no scontrol here")
        return
    try:
        done = subprocess.run([scontrol, "requeue", job], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 -- its words are checked
    except (OSError, subprocess.TimeoutExpired) as error:
        rank_zero_warn(f"job {job} is not requeued: {error}")
        return
    if done.returncode:
        rank_zero_warn(f"job {job} is not requeued: {done.stderr.strip() or f'scontrol ended with {done.returncode}'}")
    else:
        rank_zero_info(f"job {job} is in the queue again")


def _signal(name: str) -> signal.Signals:
    if name not in signal.Signals.__members__:
        raise ConfigurationError(f"there is no signal {name!r}; give names such as SIGTERM")
    return signal.Signals[name]
