"""What the command line does to the loggers of a run: all of them write into its folder, and go on with it."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from pcgen.errors import ConfigurationError
from pcgen.loggers import wandb_run_id
from pcgen.training.provenance import hides_something

CSV = "pcgen.loggers.ResumableCSVLogger"
LIGHTNING = {"name": "lightning_logs", "version": None}  # Lightning's defaults: folders of its own in the run's folder
PROJECT = "pcgen"
# What `wandb.init` reads from the environment, unless an argument says otherwise; `wandb agent` sets some of them.
ENVIRONMENT = {"name": "WANDB_NAME", "group": "WANDB_RUN_GROUP", "job_type": "WANDB_JOB_TYPE", "tags": "WANDB_TAGS"}


def loggers(
    configured: Any, folder: Path, *, name: str, verb: str = "fit", tags: Sequence[str] = ()
) -> list[Namespace]:
    """Put every logger's files into the run's folder and make sure that metrics.csv is among them.

    What the user gave stays, but for the CSVLogger: Lightning's deletes the metrics of a run that goes on, so ours
    takes its place.

    Args:
        configured: `trainer.logger` of the config.
        folder: Of the run.
        name: Of the experiment: W&B's group.
        verb: W&B's job type.
        tags: W&B's, such as the classes of model and data.

    Returns:
        What `trainer.logger` becomes.
    """
    given = [] if configured in (None, True) else configured if isinstance(configured, list) else [configured]
    found = [_completed(logger, folder) for logger in given]
    for logger in found:
        if _is(logger, "WandbLogger"):
            _complete_wandb(logger, folder, name=folder.name, group=name, job_type=verb, tags=list(tags))
    if any(_is(logger, "CSVLogger") for logger in found):
        return found
    return [Namespace(class_path=CSV, init_args=Namespace(save_dir=str(folder))), *found]


def callbacks(configured: Any) -> list[Namespace]:
    """Add what tells the loggers of a training where it goes on, unless it is there."""
    given = [] if configured is None else configured if isinstance(configured, list) else [configured]
    if any(_is(callback, "Dashboards") for callback in given):
        return given
    return [*given, Namespace(class_path="pcgen.callbacks.Dashboards", init_args=Namespace())]


@contextmanager
def explained() -> Iterator[None]:
    """Say what W&B lacks in one line.

    Raises:
        ConfigurationError: If W&B refuses to begin, as without a key.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "wandb":  # which is not imported for those who do without
            raise
        raise ConfigurationError(
            f"W&B: {' '.join(str(error).split()).rstrip('.')}: `wandb login` asks for a key, and WANDB_MODE=offline "
            "needs neither key nor network"
        ) from error


def _is(thing: Any, name: str) -> bool:
    return str(thing.class_path).endswith(name)


def _completed(logger: Any, folder: Path) -> Namespace:
    """Give arguments that the user left alone the values that put its files into the run's folder."""
    arguments = Namespace(**dict(logger.get("init_args") or {}))
    if arguments.get("save_dir") in (None, ".", ""):
        arguments["save_dir"] = str(folder)
    csv, tensorboard = _is(logger, "CSVLogger"), _is(logger, "TensorBoardLogger")
    if csv or tensorboard:
        for key, default in LIGHTNING.items():
            if arguments.get(key, default) == default:
                arguments[key] = ""
    if tensorboard:
        arguments["default_hp_metric"] = False  # a scalar that nobody measured; the HPARAMS tab has val/loss instead
    more = {"dict_kwargs": dict(logger["dict_kwargs"])} if logger.get("dict_kwargs") else {}
    return Namespace(class_path=CSV if csv else logger.class_path, init_args=arguments, **more)


def _complete_wandb(logger: Namespace, folder: Path, **more: Any) -> None:
    """Name the run after its folder, group it with the experiment's other runs, and give it an id to go on with."""
    arguments, extra = logger.init_args, logger.get("dict_kwargs", {})  # `wandb.init`'s arguments may be in either
    given = {key for part in (arguments, extra) for key, value in dict(part).items() if value is not None}
    for key in [key for key, value in dict(arguments).items() if value is None]:
        del arguments[key]  # a null that is passed on would undo the logger's own `resume`
    for key, value in more.items():
        if key not in given and not os.environ.get(ENVIRONMENT[key]):
            arguments[key] = value
    if "project" not in given:
        arguments["project"] = os.environ.get("WANDB_PROJECT") or PROJECT
    if not given & {"id", "version"}:
        arguments["id"] = wandb_run_id(folder)
    if hides_something(sys.argv):  # W&B's own metadata have the command line as it is
        for part in (part for part in (extra, arguments) if isinstance(part.get("settings"), dict)):
            part["settings"].setdefault("x_disable_meta", True)
        if "settings" not in given:
            arguments["settings"] = {"x_disable_meta": True}
