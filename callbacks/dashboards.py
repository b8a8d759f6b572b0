"""What a dashboard needs to know of a run besides its numbers."""

from pytorch_lightning import Callback, LightningModule, Trainer

from pcgen.callbacks._logging import batches_so_far, run_folder
from pcgen.loggers import define_summaries, go_on_from, keep_wandb_run_id, log_hyperparameters_tab


class Dashboards(Callback):
    """Lets W&B keep best values, and every logger go on with a run that is resumed.

    The W&B run's id is kept in `wandb-run-id` in the run's folder; `pcgen.loggers.wandb_run_id(folder)` reads it. The
    command line adds this callback to every training with a logger.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 -- Lightning's signature
        """Keep the id of the run, before anything is logged, and say which quantities have a better."""
        folder = run_folder(trainer)  # on every rank: it is a broadcast
        if stage != "fit" or not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        for logger in trainer.loggers:
            keep_wandb_run_id(folder, logger)
            define_summaries(logger)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's signature
        """Show how the run was made, which the model has told the loggers by now."""
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                log_hyperparameters_tab(logger)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's signature
        """Tell the loggers where the run goes on: its loops are restored by now, and nothing is logged yet."""
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                go_on_from(logger, batches_so_far(trainer))
