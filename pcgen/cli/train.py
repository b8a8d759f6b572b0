"""`pcgen fit | validate | test | predict`: the Lightning CLI over the zoo, with a folder of its own for every run."""

import re
import signal
import warnings
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Never

import yaml
from jsonargparse import Namespace
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.exceptions import (  # type: ignore[attr-defined]  # a documented place without __all__
    MisconfigurationException,
    SIGTERMException,
)

import pcgen.callbacks
import pcgen.datamodules
import pcgen.losses
import pcgen.models
import pcgen.nets  # noqa: F401 -- imported so that a config may use the short names of all these rooms' classes
from pcgen.base import DataModule, GenerativeModel
from pcgen.callbacks.preemption import Preempted
from pcgen.cli import common, dashboards, folders, runs, trust
from pcgen.cli.config_errors import explain
from pcgen.errors import CheckpointError, ConfigurationError, DivergenceError, PcgenError

VERB_ARGUMENTS = (
    *trust.OF_A_COMMAND,
    "verbose",
    "return_predictions",
    "folder",
)  # of single verbs, not of an experiment
KEYWORDS = ("last", "best", "hpc")  # in the place of a checkpoint's path

# What torch's backends say where a process that they wait for is gone.
_LOST = re.compile(
    r"Connection (closed|reset) by peer|Connection refused|NCCL.*(remote|abort)|gloo.*closed", re.IGNORECASE
)


class Parser(LightningArgumentParser):
    """Says what is wrong with a config in one line."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise the error instead of printing the usage of four hundred options."""
        if not self.exit_on_error:  # the parser of a part: what it says ends up inside the whole's message
            super().error(message, ex)
        raise ConfigurationError(explain(message, self)) from ex


class TrainCLI(LightningCLI):
    """The Lightning CLI with one verb's parser, short class names and run folders."""

    def __init__(self, verb: str, words: list[str], *, trusts: bool = False) -> None:
        self.verb, self.words, self.trusts = verb, words, trusts
        super().__init__(
            GenerativeModel,
            DataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            seed_everything_default=0,
            auto_configure_optimizers=False,  # optimizer and schedule are arguments of the model
            load_from_checkpoint_support=False,  # checkpoints carry a record of their own: pcgen.recipe
            save_config_callback=runs.Experiment,
            args=words,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # a static method there, of all verbs
        """Build the parser of the one verb that was asked for: each takes most of a second."""
        return {self.verb: LightningCLI.subcommands()[self.verb]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, then check the checkpoint to resume from before anything is built.

        Raises:
            ConfigurationError: If a config says which, or it is not to be read strictly.
            CheckpointError: If it is none.
        """
        self.config = parser.parse_args(args)
        config = self.config[self.verb]
        for key in trust.OF_A_COMMAND:
            if config.get(key) is not None and not any(word.partition("=")[0] == f"--{key}" for word in self.words):
                raise ConfigurationError(f"{key} is not for a config: give --{key} on the command line")
        if not self.trusts:
            if config.get("weights_only") is False:
                raise ConfigurationError(
                    f"--weights_only false lets a checkpoint run code; pass {trust.TRUST}, too, if you know its origin"
                )
            config.weights_only = True
        if config.get("ckpt_path") and config.ckpt_path not in KEYWORDS:
            from pcgen.checkpoint import read_checkpoint

            read_checkpoint(config.ckpt_path, resumable=self.verb == "fit")

    def _parse_ckpt_path(self) -> None:
        """Leave the config as it is: Lightning would have a checkpoint's hyperparameters change what is built."""

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Resolve a keyword to the checkpoint that it stands for, and check that one, too."""
        arguments: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        if arguments.get("ckpt_path") in KEYWORDS:
            from pcgen.checkpoint import read_checkpoint

            connector = self.trainer._checkpoint_connector  # noqa: SLF001 -- the keywords' meaning is there alone
            try:
                found = connector._parse_ckpt_path(  # noqa: SLF001
                    TrainerFn(subcommand), arguments["ckpt_path"], model_provided=True, model_connected=False
                )
            except ValueError as error:
                _refuse("ckpt_path", error)
            if found is not None:
                read_checkpoint(found, resumable=True)
            arguments["ckpt_path"] = found
        return arguments

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's name and folder."""
        parser.add_argument(
            "--name", type=str | None, default=None, help="Name of the run: its folder is runs/<name>/<time>."
        )
        parser.add_argument(
            trust.TRUST,
            action="store_true",
            default=None,
            help="Also build classes from outside pcgen, PyTorch and Lightning: runs the code that a config names.",
        )
        parser.add_argument("--runs", type=str, default="runs", help="Folder of all runs.")
        if self.verb != "fit":
            return
        parser.add_argument(
            "--folder",
            type=str | None,
            default=None,
            help="Folder of this run, in the place of runs/<name>/<time>. A training that is there goes on from its "
            "newest whole checkpoint, so the same command, given again after whatever has ended it, finishes it.",
        )

    def before_instantiate_classes(self) -> None:
        """Give the run its folder, and everything that writes a place in it."""
        config = self.config[self.verb]
        self.experiment = _experiment(config)
        self.run = folders.find_folder(config, self.verb)
        self.folder = self.run.path
        if self.run.checkpoint is not None:
            self._go_on(config)
        trainer = config.trainer
        trainer.default_root_dir = str(self.folder)
        if trainer.logger is not False and not trainer.fast_dev_run:
            name = folders.experiment_name(config)
            tags = [str(part.class_path).rpartition(".")[2] for part in (config.model, config.data)]
            trainer.logger = dashboards.loggers(trainer.logger, self.folder, name=name, verb=self.verb, tags=tags)
            if self.verb == "fit":
                trainer.callbacks = dashboards.callbacks(trainer.callbacks)
        if self.verb == "fit" and trainer.callbacks:
            folders.check_keepers(self.run, trainer.callbacks)
        trainer.callbacks = runs.callbacks(
            trainer.callbacks, self.folder, enabled=trainer.enable_checkpointing, fits=self.verb == "fit"
        )

    def _go_on(self, config: Namespace) -> None:
        """Let the training go on from the checkpoint in its folder.

        Raises:
            ConfigurationError: If it was begun with other settings.
        """
        parser = self._parser(self.verb)
        folders.check_same(self.folder, yaml.safe_load(parser.dump(self.experiment, skip_none=False)))
        asked, config.ckpt_path = config.ckpt_path, str(self.run.checkpoint)
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # it is its own
        instead = f", not from {common.shown(asked)}" if asked and asked != config.ckpt_path else ""
        common.say(f"going on from {common.shown(config.ckpt_path)}{instead}")

    def instantiate_classes(self) -> None:
        """Build everything; what a class says of its arguments stands alone, without the parser's frame.

        Raises:
            PcgenError: If a class refuses its arguments.
        """
        try:
            super().instantiate_classes()
        except (PcgenError, ValueError, TypeError) as error:
            own = _own_error(error)
            if isinstance(own, CheckpointError):
                own = CheckpointError(f"{own}{_remedy(self.config[self.verb].model, str(own))}")
            raise own or error from None
        if self.verb == "fit":
            self._try_optimizer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, with our bar before all other callbacks, and the experiment as it will be saved.

        Raises:
            ConfigurationError: If it refuses an argument.
        """
        trainer = self.config_init[self.verb].trainer
        self.config[self.verb] = self.experiment
        callbacks = trainer.callbacks or []
        has_bar = any(type(c).__name__.endswith("ProgressBar") for c in callbacks)
        if trainer.enable_progress_bar is not False and not trainer.barebones and not has_bar:
            trainer.callbacks = [runs.Bar(), *callbacks]
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ModuleNotFoundError, ValueError, TypeError) as error:
            _refuse("trainer", error)

    def _try_optimizer(self) -> None:
        """Find out before the data are made whether the optimizer and its schedule take their arguments."""
        try:
            self.model.configure_optimizers()
        except (ValueError, TypeError) as error:
            _refuse("model.optimizer or model.lr_scheduler", error)

    def fit(self, **arguments: Any) -> None:
        """Train; whatever ends it, say where the checkpoint is."""
        try:
            with folders.occupied(self.folder), dashboards.explained():
                self.trainer.fit(**arguments)
        except BaseException as error:
            at_fault = isinstance(error, PcgenError) and not isinstance(error, DivergenceError | CheckpointError)
            if at_fault and self.trainer.global_step == 0:
                runs.discard(self.run)  # nothing has been trained
            elif self.folder.exists():
                runs.announce(self.trainer, self.folder, trained=True, finished=False)
            if isinstance(error, SIGTERMException):
                raise SystemExit(128 + signal.SIGTERM) from None
            if isinstance(error, Preempted) and error.signal == signal.SIGINT:
                raise KeyboardInterrupt from None
            if isinstance(error, SystemExit) and error.code == 1:  # Lightning's answer to Ctrl-C
                raise KeyboardInterrupt from None
            if self.trainer.world_size > 1 and _LOST.search(str(error)):
                raise PcgenError(
                    f"another process of this training has ended: its message says why ({error})"
                ) from error
            raise

    def after_fit(self) -> None:
        """Say where everything is."""
        runs.announce(self.trainer, self.folder, trained=True)

    def after_validate(self) -> None:
        """Say where everything is."""
        runs.announce(self.trainer, self.folder)

    def after_test(self) -> None:
        """Say where everything is."""
        runs.announce(self.trainer, self.folder)

    def after_predict(self) -> None:
        """Write the predictions and say where they are."""
        from pcgen.cli.predictions import write_predictions

        written = write_predictions(self.trainer, self.datamodule, self.folder)
        runs.announce(self.trainer, self.folder, predictions=written)


def _experiment(config: Namespace) -> Namespace:
    """Copy what makes an experiment: another run of it gets a folder of its own, and any verb can read it."""
    copy = config.clone()
    for key in VERB_ARGUMENTS:
        if key in copy:
            del copy[key]
    return copy


def _own_error(error: BaseException | None) -> PcgenError | None:
    """Find the error of ours that the parser wrapped."""
    while error is not None and not isinstance(error, PcgenError):
        error = error.__cause__ or error.__context__
    return error


def _remedy(model: Namespace, text: str) -> str:
    """Say which of the model's arguments names the checkpoint at fault, and which config makes a missing one."""
    for key, value in model.init_args.items():
        if isinstance(value, str) and str(Path(value)) in text:
            name = Path(value).name
            made = f"train one with pcgen fit --config {name}, or " if f"{name}.yaml" in _shipped() else ""
            return f": {made}give another as --model.{key}"
    return ""


def _refuse(key: str, error: Exception) -> Never:
    if isinstance(error, PcgenError):
        raise error
    raise ConfigurationError(f"{key}: {' '.join(str(error).split())}") from error


def train(words: list[str]) -> int:
    """Run a trainer verb.

    Args:
        words: The verb and its arguments.

    Returns:
        Exit status.
    """
    from jsonargparse import set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=False)
    try:
        trusts, words = trust.TRUST in words, [word for word in words if word != trust.TRUST]
        named = trust.own_words(words)
        checked = [_config_word(word, before, named, trusts=trusts) for before, word in pairwise(["", *words])]
        with dashboards.explained(), trust.guarded(named, trust=trusts):
            TrainCLI(words[0], checked, trusts=trusts)
    except MisconfigurationException as error:  # a ModelCheckpoint's monitor that nobody logs, for one
        raise ConfigurationError(" ".join(str(error).split())) from error
    return 0


def _config_word(word: str, before: str, named: list[str], *, trusts: bool) -> str:
    """Resolve a config's name and check what it holds; any other word is left as it is."""
    flag, _, value = word.rpartition("=")
    inside = flag in {"--config", "-c"}
    if not inside and before not in {"--config", "-c"}:
        return word
    file = _find_config(value if inside else word)
    trust.check_config(file, named=named, trust=trusts)
    return f"{flag}={file}" if inside else str(file)


def _find_config(name: str) -> Path:
    """Find a config here, or among the shipped ones: `--config quickstart`."""
    if Path(name).is_file():
        return Path(name)
    if (file := f"{Path(name).name.removesuffix('.yaml')}.yaml") in _shipped():
        return Path(str(resources.files("pcgen.configs") / file))
    raise ConfigurationError(f"there is no config {name!r}, here or among the shipped ones: {', '.join(_shipped())}")


def _shipped() -> list[str]:
    return sorted(f.name for f in resources.files("pcgen.configs").iterdir() if f.name.endswith(".yaml"))
