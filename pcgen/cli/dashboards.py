"""What the command line does to the loggers of a run, so that all of them write into its folder."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace


def loggers(configured: Any, folder: Path, *, name: str, resumed: bool) -> list[Namespace]:  # noqa: ARG001
    """Put every logger's files into the run's folder and make sure that metrics.csv is among them.

    Args:
        configured: `trainer.logger` of the config.
        folder: Of the run.
        name: Of the experiment.
        resumed: The folder's run goes on.

    Returns:
        What `trainer.logger` becomes.
    """
    csv = Namespace(
        class_path="pytorch_lightning.loggers.CSVLogger",
        init_args=Namespace(save_dir=str(folder), name="", version="", prefix="", flush_logs_every_n_steps=100),
    )
    given = [] if configured in (None, True) else configured if isinstance(configured, list) else [configured]
    for logger in given:
        arguments = logger.setdefault("init_args", Namespace()) if isinstance(logger, dict) else logger.init_args
        if "save_dir" in arguments and arguments["save_dir"] in (None, ".", ""):
            arguments["save_dir"] = str(folder)
    return [*([] if any("CSVLogger" in lg.class_path for lg in given) else [csv]), *given]
