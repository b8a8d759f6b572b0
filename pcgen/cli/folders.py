"""Which folder a run has: a new one, or that of a run that goes on. All processes of a run agree on it."""

import contextlib
import os
import uuid
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from jsonargparse import Namespace
from pytorch_lightning.plugins.environments import SLURMEnvironment  # type: ignore[attr-defined]  # without __all__

from pcgen.checkpoint import find_checkpoint
from pcgen.cli.trust import read_config
from pcgen.errors import CheckpointError, ConfigurationError
from pcgen.io.files import remove_leftovers

RUN_FOLDER = "PCGEN_RUN_FOLDER"  # handed down to the processes that Lightning launches for the other ranks
CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"

# What a run that goes on may have otherwise than before: how far, where and how watched, but not what is learned.
FREE = {
    "trainer": {
        "accelerator", "strategy", "devices", "num_nodes", "plugins", "logger", "callbacks", "max_epochs", "max_steps",
        "max_time", "min_epochs", "min_steps", "log_every_n_steps", "enable_checkpointing", "enable_progress_bar",
        "enable_model_summary", "profiler", "default_root_dir", "limit_test_batches", "limit_predict_batches",
        "num_sanity_val_steps",
    },
    "data": {"num_workers"},
}  # fmt: skip
_ACTING = (  # Lightning's callbacks that change what is learned; those of others are their users' to keep
    "EMAWeightAveraging", "WeightAveraging", "StochasticWeightAveraging", "GradientAccumulationScheduler",
    "ModelPruning", "BackboneFinetuning",
)  # fmt: skip


class RunFolder(NamedTuple):
    """Where a run writes.

    Attributes:
        path: The folder.
        fresh: It was not there before, so it may be removed if the run never begins.
        named: The user gave it.
        checkpoint: To go on from, if a run is there that has one.
    """

    path: Path
    fresh: bool
    named: bool
    checkpoint: Path | None = None


def find_folder(config: Namespace, verb: str) -> RunFolder:
    """Find the folder of a run: the one that was named, the one of this job, or a new one.

    A training goes on from the newest whole checkpoint in its folder.

    Raises:
        ConfigurationError: If the processes have no means to agree on one.
    """
    named = _named(config) if verb == "fit" else None
    path = named or _handed_down() or _of_job(config, verb) or _of_torchrun(config, verb) or _new(config, verb)
    os.environ[RUN_FOLDER] = str(path)
    checkpoint = _to_go_on_from(path / CHECKPOINTS) if verb == "fit" else None
    return RunFolder(path, not path.exists(), named is not None, checkpoint)


def _to_go_on_from(folder: Path) -> Path | None:
    """Give the newest whole checkpoint, None where there is none at all.

    Raises:
        CheckpointError: If there are some and none is whole: beginning anew would write over them.
    """
    if not any(folder.glob("[!.]*.ckpt")):
        return None
    try:
        return find_checkpoint(folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error}: move them away to begin anew in this folder") from error


def check_keepers(folder: RunFolder, callbacks: list[Namespace]) -> None:
    """Say of checkpoints that are kept outside the run's folder that a training does not go on from them.

    Raises:
        ConfigurationError: If the folder was named so that it does.
    """
    for callback in callbacks:
        place = (
            callback.get("init_args", {}).get("dirpath") if callback.class_path.endswith("ModelCheckpoint") else None
        )
        if place is None or Path(place).absolute().is_relative_to(folder.path.absolute()):
            continue
        text = (
            f"ModelCheckpoint's dirpath {place} lies outside the run's folder {folder.path}, in which a training looks"
        )
        if folder.named:
            raise ConfigurationError(f"{text} for what to go on from: leave dirpath out")
        warnings.warn(f"{text} for what to go on from", stacklevel=2)


def experiment_name(config: Namespace) -> str:
    """Give the name of an experiment: the one it was given, or its model's and data's."""
    return config.name or "-".join(config[part].class_path.rpartition(".")[2].lower() for part in ("model", "data"))


def _named(config: Namespace) -> Path | None:
    if config.folder is None:
        return None
    path = Path(config.folder)
    if path.exists() and not path.is_dir():
        raise ConfigurationError(f"--folder {path} is a file; name a folder for the run")
    return path


def _handed_down() -> Path | None:
    """Give the folder that the first process has chosen, if Lightning launched this one."""
    return Path(os.environ[RUN_FOLDER]) if RUN_FOLDER in os.environ and "LOCAL_RANK" in os.environ else None


def _of_job(config: Namespace, verb: str) -> Path | None:
    """Give a SLURM job's folder, the same for all its processes and after it was requeued."""
    if not SLURMEnvironment.detect():
        return None
    words = [os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ["SLURM_JOB_ID"]]
    words += [os.environ[key] for key in ("SLURM_ARRAY_TASK_ID",) if key in os.environ]
    step = os.environ.get("SLURM_STEP_ID", "0")
    name = "job_" + "_".join(words) + (f".{step}" if step != "0" else "") + ("" if verb == "fit" else f"_{verb}")
    return Path(config.runs) / experiment_name(config) / name


def _of_torchrun(config: Namespace, verb: str) -> Path | None:
    """Give the folder of a run that torchrun launched, the same on all nodes and after it has started them again."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None and config.trainer.num_nodes == 1:
        return None
    if name in (None, "none"):
        raise ConfigurationError(
            "processes that were not launched by SLURM or by a torchrun with --standalone or --rdzv_id cannot agree on "
            "a folder: give them one with --folder"
        )
    with contextlib.suppress(ValueError):  # --standalone makes one up
        name = f"torchrun_{uuid.UUID(name).hex[:8]}"
    return Path(config.runs) / experiment_name(config) / (name + ("" if verb == "fit" else f"_{verb}"))


def _new(config: Namespace, verb: str) -> Path:
    """Make up runs/<name>/<time>."""
    folder = first = Path(config.runs) / experiment_name(config) / _time(verb)
    taken = 1
    while folder.exists():
        taken += 1
        folder = first.with_name(f"{first.name}_{taken}")
    return folder


def _time(verb: str) -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S") + ("" if verb == "fit" else f"_{verb}")


# ── a run that goes on ────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder, and clear away what a killed one left half written.

    Raises:
        ConfigurationError: If another training is in it.
    """
    if not _is_first():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as stream:
        if not _lock(stream):
            raise ConfigurationError(f"another training is running in {folder}: wait for it, or name another --folder")
        for place in (folder, folder / CHECKPOINTS):
            remove_leftovers(place)
        yield


def _lock(stream: TextIO) -> bool:
    """Lock a file until it is closed, or this process ends in whatever way; False if another has it."""
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # neither Windows nor every network's file system has such locks
        return True
    return True


def _is_first() -> bool:
    """Say whether this process is rank zero, whoever launched it, before anything is set up."""
    places = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK")
    return all(os.environ.get(place, "0") == "0" for place in places)


def check_same(folder: Path, experiment: dict[str, Any]) -> None:
    """Refuse to go on with a run under settings that make it another one.

    Args:
        folder: Of the run, which wrote its `config.yaml`.
        experiment: The settings of this command, as plain values.

    Raises:
        ConfigurationError: If they differ, naming the first that does.
    """
    file = folder / CONFIG
    if not file.is_file():
        return
    before = read_config(file)
    for settings in (before, experiment):
        settings.get("trainer", {})["callbacks that act"] = _acting(settings.get("trainer", {}).get("callbacks"))
    changed = [line for part in ("seed_everything", "model", "data", "trainer") for line in _changes(
        before.get(part), experiment.get(part), part)]  # fmt: skip
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigurationError(
            f"the run in {folder} was begun with {changed[0]}{more}: go on with its own settings, "
            f"--config {file}, or name another --folder"
        )


def _acting(callbacks: Any) -> list[Any]:
    """Give the callbacks that change what is learned, such as averages of weights."""
    given = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
    return [c for c in given if str(c.get("class_path")).rpartition(".")[2] in _ACTING]


def _changes(before: Any, now: Any, where: str) -> Iterator[str]:
    """Say of each value that differs what it was and what it would become."""
    if isinstance(before, dict) and isinstance(now, dict):
        free = FREE.get(where.removesuffix(".init_args"), set())
        for key in dict.fromkeys([*before, *now]):
            if key not in free:
                yield from _changes(before.get(key), now.get(key), f"{where}.{key}")
    elif before != now:
        yield f"{where} {before!r}, and this command says {now!r}"
