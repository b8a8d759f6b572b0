"""Write a model as .safetensors, or a classifier's network as a feature extractor (.pt), by the file's name.

A .safetensors holds any model's weights, and how it was built: every verb takes it where it takes a checkpoint, and so
does pcgen.load. A .pt is what FPD and KID can be measured with: the weights of a classifier, rounded to half precision,
and a card: the data, the training, and the accuracy of the rounded network on the validation and test splits, for which
the data must be where they were in the training.
"""

import argparse
import json
from pathlib import Path

from pcgen.cli import common
from pcgen.errors import ConfigurationError
from pcgen.io.files import atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    parser.add_argument("out", type=Path, help="the file: a model's (.safetensors) or an extractor's (.pt)")
    parser.add_argument("--name", help=".pt: what scores will call it (default: the file's name without .pt)")
    parser.add_argument("--card", type=Path, help=".pt: write the card as JSON too, for readers")
    parser.add_argument("--no-data", action="store_true", help=".pt: measure no accuracy: the data are not here")


def run(arguments: argparse.Namespace) -> int:
    """Write what the file's name asks for, and say what was written.

    Raises:
        ConfigurationError: If the name is of another kind, or an option would be without effect.
    """
    if arguments.out.suffix not in (".pt", ".safetensors"):
        raise ConfigurationError(
            f"{arguments.out}: call the file something.safetensors, for a model, or something.pt, for an extractor"
        )
    common.check_writable("the file", arguments.out)
    return _model(arguments) if arguments.out.suffix == ".safetensors" else _extractor(arguments)


def _model(arguments: argparse.Namespace) -> int:
    from pcgen.checkpoint import export, find_checkpoint

    given = {"--name": arguments.name, "--card": arguments.card, "--no-data": arguments.no_data or None}
    for option, value in given.items():
        if value is not None:
            raise ConfigurationError(f"{option} is for an extractor: leave it out, or call the file something.pt")
    source = find_checkpoint(arguments.checkpoint)
    export(source, arguments.out, trust=arguments.trust)
    size = arguments.out.stat().st_size
    common.say(f"the model of {common.shown(source)}: {common.shown(arguments.out)}, {size / 1e6:.2f} MB")
    return 0


def _extractor(arguments: argparse.Namespace) -> int:
    from pcgen.checkpoint import read_checkpoint
    from pcgen.models._classifier import Classifier

    model = common.load_model(arguments, "classify")
    if not isinstance(model, Classifier):
        raise ConfigurationError(f"{type(model).__name__} is no classifier: its features are not exported")
    datamodule = None
    if not arguments.no_data and model.data_info is not None:
        from pcgen.recipe import build_data

        datamodule = build_data(model.data_info["recipe"], trust=arguments.trust)
        datamodule.prepare_data()
        datamodule.setup("test")
    epochs = int(read_checkpoint(arguments.checkpoint)["epoch"]) + 1
    name = arguments.name or arguments.out.stem
    written = model.export_extractor(arguments.out, name=name, datamodule=datamodule, epochs=epochs)
    if arguments.card is not None:
        text = json.dumps(written.describe(), indent=2, ensure_ascii=False)
        with atomic(arguments.card) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")
    size = arguments.out.stat().st_size
    common.say(f"{name}: {common.shown(arguments.out)}, {size / 1e6:.2f} MB, identity {written.identity}")
    for split, found in written.card.get("accuracy", {}).items():
        common.say(
            f"{split:5s} accuracy {found['accuracy']:.2%}, mean of classes {found['mean_class_accuracy']:.2%}, "
            f"of {found['data']} data"
        )
    return 0
