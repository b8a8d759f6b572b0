"""Carry what is known of a few data to all others by way of a model's template: landmarks of images, parts of clouds.

Images: landmarks are marked in some labelled images (or in one, --source; or in the template itself, --marks without
--source) and found in all others. Where the true places are known the table has the mean distance in pixels, beside
that of the identity warp: the marks left where they were. Places are x,y in −1 … 1, from the centre of the first pixel
to that of the last, x to the right and y downwards.

Clouds: labelled clouds of the training split vote for the part that each point of the template belongs to, and each
point of the other clouds takes the part of the nearest point of its own reconstruction. The table has the share of
points that got their true part, beside the most frequent part everywhere and the labels of the nearest labelled cloud.
Any model that decodes its points in an order of its own may be tried.

Data of the training split that were labelled or marked are left out of what is found and measured.

The .npz of --out holds the places (B, L, 2) and those in the template, or the points (B, N, 3) in the file's units,
their parts (B, N) and the votes, and names. Clouds of more points than the model's have as many drawn of them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import DataModule
    from pcgen.cli.modeldata import ModelData

LABELLED = 10
DRAWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument(
        "--labelled",
        type=int,
        metavar="K",
        help=f"images or clouds of the training split of which all is known (default {LABELLED})",
    )
    parser.add_argument("--source", metavar="ROW", help="row or name of the one image that is marked")
    parser.add_argument(
        "--marks", metavar="X,Y;…", help='places instead of the known landmarks, such as --marks="-0.1,0.2;0.3,0.4"'
    )
    parser.add_argument("--class", dest="kind", metavar="NAME", help="this class alone, the labelled ones too")
    parser.add_argument("-n", type=int, help="only the first n of those that are not labelled (default: all)")
    parser.add_argument("--out", type=Path, help="write what was found as .npz")
    parser.add_argument("--png", type=Path, help=f"draw the first {DRAWN}")
    parser.add_argument("--json", type=Path, help="write the scores; - writes them to standard output, not the table")


def run(arguments: argparse.Namespace) -> int:
    """Transfer, measure, print, write and draw."""
    _check(arguments)
    model = common.load_model(arguments, "encode")
    from pcgen.cli.modeldata import is_images

    if is_images(model):
        from pcgen.cli.transfer_marks import transfer

        if not model.can("decompose"):
            raise model.unsupported("decompose")
    else:
        from pcgen.cli.transfer_parts import transfer

        for name in ("source", "marks"):
            if getattr(arguments, name) is not None:
                raise ConfigurationError(
                    f"--{name} is for images, and this {type(model).__name__} makes clouds: see --labelled"
                )
        if not model.can("decode"):
            raise model.unsupported("decode")
    transfer(model, arguments)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    for option, number in (("-n", arguments.n), ("--labelled", arguments.labelled)):
        if number is not None and number < 1:
            raise ConfigurationError(f"{option} {number}: give at least 1")
    if arguments.labelled is not None and (arguments.source is not None or arguments.marks is not None):
        other = "--source" if arguments.source is not None else "--marks"
        raise ConfigurationError(f"--labelled and {other} both say where the marks come from: give one of them")
    if arguments.out is not None and arguments.out.suffix != ".npz":
        raise ConfigurationError(f"--out {arguments.out}: what belongs together is written as .npz")
    common.check_writable("--out", arguments.out)
    common.check_picture("--png", arguments.png)
    common.check_writable("--json", arguments.json)


class Labelled(NamedTuple):
    """What all is known of: the first K of the training split, or of one class of it.

    Attributes:
        x: Data (K, …).
        truth: What is known of them, (K, …).
        rows: Of the training split (K,).
    """

    x: "Tensor"
    truth: "Tensor"
    rows: "Tensor"

    def rows_in(self, data: "ModelData", arguments: argparse.Namespace) -> list[int]:
        """Give their rows in the data that something is carried to: none where that is another split, or a file."""
        return self.rows.tolist() if arguments.data is None and data.split == "train" else []


def chosen(data: "ModelData", arguments: argparse.Namespace, known: Sequence[int] = ()) -> "Tensor":
    """Give the rows of the data that marks or labels are carried to: all but the known ones.

    Raises:
        ConfigurationError: If none is left.
    """
    import torch

    rows = torch.arange(len(data.x)) if arguments.kind is None else torch.from_numpy(data.of_class(arguments.kind))
    others = rows[~torch.isin(rows, torch.tensor(known, dtype=rows.dtype))]
    if not len(others):
        given = f"--source {arguments.source}" if arguments.source is not None else f"--labelled {len(known)}"
        raise ConfigurationError(f"{given}: no others are left of {results.place_of(data, arguments.kind)}")
    if known and arguments.source is None:
        common.say(f"left out, for they are labelled: {len(rows) - len(others)} of {data.place}")
    return others[: arguments.n]


def check_asked(why: str, what: str, arguments: argparse.Namespace) -> None:
    """Refuse to measure what has no truth, and to work for nothing.

    Raises:
        ConfigurationError: If scores are asked for, or neither a file nor a picture.
    """
    if arguments.json is not None:
        raise ConfigurationError(f"--json {arguments.json}: {why}, so there is nothing to measure: leave it out")
    if arguments.out is None and arguments.png is None:
        raise ConfigurationError(
            f"{why}, so there is nothing to measure: give --out FILE.npz for the {what}, or --png FILE for a picture"
        )


def labelled(datamodule: "DataModule", truth: str, arguments: argparse.Namespace) -> Labelled:
    """Give the first labelled data of the training split, and what is known of them by this name.

    Raises:
        ConfigurationError: If none is of the class that was asked for.
    """
    import torch

    K = LABELLED if arguments.labelled is None else arguments.labelled
    if arguments.kind is None:
        x = datamodule.take("train", K).x
        return Labelled(x, datamodule.truth("train", K)[truth], torch.arange(len(x)))
    batch, names = datamodule.take("train"), datamodule.class_names
    if batch.label is None or arguments.kind not in names:
        known = ", ".join(names) or "none"
        raise ConfigurationError(f"--class {arguments.kind}: the classes of the labelled training data are {known}")
    rows = (batch.label == names.index(arguments.kind)).nonzero()[:K, 0]
    return Labelled(batch.x[rows], datamodule.truth("train")[truth][rows], rows)
