"""Write a classifier's network as a feature extractor, which FPD and KID can then be measured with.

The file holds the weights, rounded to half precision, and a card: the data, the training, and the accuracy of the
rounded network on the validation and test splits, for which the data must be where they were in the training.
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
    parser.add_argument("out", type=Path, help="the extractor's file (.pt)")
    parser.add_argument("--name", help="what scores will call it (default: the file's name without .pt)")
    parser.add_argument("--card", type=Path, help="write the card as JSON too, for readers")
    parser.add_argument("--no-data", action="store_true", help="do not measure the accuracy: the data are not here")


def run(arguments: argparse.Namespace) -> int:
    """Round, measure, write, and say what was written."""
    if arguments.out.suffix != ".pt":
        raise ConfigurationError(f"{arguments.out}: an extractor's file is called something.pt")
    from pcgen.checkpoint import read_checkpoint
    from pcgen.models._classifier import Classifier

    model = common.load_model(arguments, "classify")
    if not isinstance(model, Classifier):
        raise ConfigurationError(f"{type(model).__name__} is no classifier: its features are not exported")
    datamodule = None
    if not arguments.no_data and model.data_info is not None:
        from pcgen.recipe import build

        datamodule = build(model.data_info["recipe"], trust=arguments.trust, where="data")
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
