"""`pcgen fit | validate | test | predict`: the Lightning CLI over the zoo, with a folder of its own for every run."""

import os
import sys
from datetime import datetime
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_only

import pcgen.callbacks
import pcgen.datamodules
import pcgen.losses
import pcgen.models
import pcgen.nets  # noqa: F401 -- imported so that a config may use the short names of all these rooms' classes
from pcgen.base import DataModule, GenerativeModel
from pcgen.cli.config_errors import explain
from pcgen.errors import ConfigurationError

RUN_FOLDER = "PCGEN_RUN_FOLDER"  # handed down to the processes that Lightning launches for the other ranks


class Parser(LightningArgumentParser):
    """Says what is wrong with a config in one line."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise the error instead of printing the usage of four hundred options."""
        if not self.exit_on_error:  # the parser of a part: what it says ends up inside the whole's message
            super().error(message, ex)
        raise ConfigurationError(explain(message, self)) from ex


class TrainCLI(LightningCLI):
    """The Lightning CLI with one verb's parser, short class names and run folders."""

    def __init__(self, verb: str, words: list[str]) -> None:
        self.verb = verb
        super().__init__(
            GenerativeModel,
            DataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            seed_everything_default=0,
            auto_configure_optimizers=False,  # optimizer and schedule are arguments of the model
            load_from_checkpoint_support=False,  # checkpoints carry a record of their own: pcgen.recipe
            save_config_kwargs={"overwrite": True},
            args=words,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # a static method there, of all verbs
        """Build the parser of the one verb that was asked for: each takes most of a second."""
        return {self.verb: LightningCLI.subcommands()[self.verb]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, then check the checkpoint to resume from before anything is built."""
        self.config = parser.parse_args(args)
        checkpoint = self.config[self.verb].get("ckpt_path")
        if checkpoint and checkpoint not in {"last", "best", "hpc", "registry"}:
            from pcgen.checkpoint import read_checkpoint

            read_checkpoint(checkpoint)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's name."""
        parser.add_argument(
            "--name", type=str | None, default=None, help="Name of the run: its folder is runs/<name>/<time>."
        )
        parser.add_argument("--runs", type=str, default="runs", help="Folder of all runs.")

    def before_instantiate_classes(self) -> None:
        """Give the run its folder, and everything that writes a place in it."""
        config = self.config[self.verb]
        self.folder = run_folder(config)
        trainer = config.trainer
        trainer.default_root_dir = str(self.folder)
        if trainer.logger is not False and not trainer.fast_dev_run:
            trainer.logger = _loggers(trainer.logger, self.folder)
        trainer.callbacks = _callbacks(trainer.callbacks, self.folder, enabled=trainer.enable_checkpointing)

    def after_fit(self) -> None:
        """Say where everything is."""
        _announce(self.trainer, self.folder)


def train(words: list[str]) -> int:
    """Run a trainer verb.

    Args:
        words: The verb and its arguments.

    Returns:
        Exit status.
    """
    from jsonargparse import set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=False)
    sys.argv = sys.argv[:1]  # Lightning warns where arguments are given twice
    TrainCLI(words[0], [_config_word(word, before) for before, word in pairwise(["", *words])])
    return 0


def run_folder(config: Namespace) -> Path:
    """Make up runs/<name>/<time> for a new run; the ranks that Lightning launches inherit it."""
    if RUN_FOLDER in os.environ and "LOCAL_RANK" in os.environ:
        return Path(os.environ[RUN_FOLDER])
    name = config.name or "-".join(_class_name(config[part]) for part in ("model", "data"))
    time = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path(config.runs) / name / time
    taken = 1
    while folder.exists():
        taken += 1
        folder = folder.with_name(f"{time}_{taken}")
    os.environ[RUN_FOLDER] = str(folder)
    return folder


def _class_name(part: Namespace) -> str:
    return str(part.class_path).rpartition(".")[2].lower()


def _config_word(word: str, before: str) -> str:
    """Resolve a config's name and check that it is YAML; any other word is left as it is."""
    flag, _, value = word.rpartition("=")
    if flag in {"--config", "-c"}:
        return f"{flag}={_checked(_find_config(value))}"
    return str(_checked(_find_config(word))) if before in {"--config", "-c"} else word


def _find_config(name: str) -> Path:
    """Find a config here, or among the shipped ones: `--config quickstart`."""
    if Path(name).is_file():
        return Path(name)
    folder = resources.files("pcgen.configs")
    shipped = sorted(f.name for f in folder.iterdir() if f.name.endswith(".yaml"))
    if (file := f"{Path(name).name.removesuffix('.yaml')}.yaml") in shipped:
        return Path(str(folder / file))
    raise ConfigurationError(f"there is no config {name!r}, here or among the shipped ones: {', '.join(shipped)}")


def _checked(file: Path) -> Path:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigurationError(f"{file}, line {line}: not YAML: {error.problem}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is not a text file, so not a config") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{file} holds no sections; a config has model:, data: and trainer:")
    return file


def _loggers(configured: Any, folder: Path) -> list[Namespace]:
    """Put every logger's files into the run's folder and make sure that metrics.csv is among them."""
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


def _callbacks(configured: Any, folder: Path, *, enabled: bool | None) -> list[Namespace]:
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
def _announce(trainer: Trainer, folder: Path) -> None:
    from rich.console import Console

    console = Console()
    kept = getattr(trainer.checkpoint_callback, "last_model_path", "") or getattr(
        trainer.checkpoint_callback, "best_model_path", ""
    )
    rows = {"run": folder, "checkpoint": kept, "pictures": folder / "figures"}
    for what, where in rows.items():
        if where and Path(where).exists():
            console.print(f"{what:11s} {where}", highlight=False, soft_wrap=True)
    if kept:
        console.print(f"next        pcgen sample {kept} -n 16 --png samples.png", highlight=False, soft_wrap=True)
