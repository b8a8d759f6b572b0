"""What a dashboard needs to know of a run besides its numbers."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger

from pcgen.callbacks._logging import batches_so_far, run_folder
from pcgen.loggers import (
    define_summaries,
    go_on_from,
    go_on_with_wandb,
    keep_wandb_run_id,
    log_hyperparameters_tab,
    wandb_step,
)


class Dashboards(Callback):
    """Lets W&B keep best values, and every logger go on with a run that is resumed.

    The W&B run's id is kept in `wandb-run-id` in the run's folder; `pcgen.loggers.wandb_run_id(folder)` reads it. The
    command line adds this callback to every training with a logger.
    """

    def __init__(self) -> None:
        self._loggers: list[Logger] = []  # none but on rank zero
        self._rows = 0  # of the W&B run, when the checkpoint was written that the training goes on from

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 -- Lightning's signature
        """Keep the id of the run, before anything is logged, and say which quantities have a better."""
        folder = run_folder(trainer)  # on every rank: it is a broadcast
        if stage != "fit" or not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        self._loggers = trainer.loggers
        for logger in self._loggers:
            keep_wandb_run_id(folder, logger)
            define_summaries(logger)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's signature
        """Show how the run was made, which the model has told the loggers by now."""
        for logger in self._loggers:
            log_hyperparameters_tab(logger)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's signature
        """Tell the loggers where the run goes on: its loops are restored by now, and nothing is logged yet."""
        for logger in self._loggers:
            go_on_from(logger, batches_so_far(trainer))
            go_on_with_wandb(logger, self._rows)

    def state_dict(self) -> dict[str, Any]:
        """Give the number of rows of the W&B run, where there is one."""
        rows = [step for logger in self._loggers if (step := wandb_step(logger)) is not None]
        # One more: the averages of an epoch are logged after its checkpoint is written.
        return {"wandb_rows": rows[0] + 1} if rows else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the number of rows up again."""
        self._rows = int(state_dict["wandb_rows"])
