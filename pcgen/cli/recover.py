"""How well models recover the warp, albedo and shading of images of which these are known.

For checkpoints that were trained on Patterns, or on any datamodule that knows the truth. All is measured on the test
split, over the pixels that show the object:

- warp: Pearson's correlation of the residual warps W − W₀, both coordinates of all pixels and images together. A model
  that is not told may have its canonical frame anywhere: W = G ∘ W_true with one G for all images explains as much. So
  it is given a second time without the affine part of G, which is fitted to the training images, and less the mean at
  each pixel: what is the same in all images says nothing of any.
- albedo: Pearson's correlation of all channels of all images together; shading: image by image, and the mean. Both are
  compared as the images show them, each brought there by its own warp.
- landmarks: a landmark's place in the template is the mean over the training images of where the warp leads from it;
  the error is the distance in pixels of where that place is found in a test image from where the landmark is.

A model that decomposes is read as it is ("decomposed"): the truth only marks landmarks and the gauge. Below it, and for
any other model with codes, stands what its codes tell to one who is "taught": ridge regression from codes to all that
is true, fitted to -n training images, its penalty chosen on half of them. Trivial rows say what no model at all gives:
the identity warp with the training images' mean layers and landmarks, and the image taken for its own albedo, its mean
over the channels for the shading.

Of checkpoints that were built alike, such as those of several seeds, mean and standard deviation follow.
"""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from pcgen.base import DataModule, GenerativeModel
    from pcgen.cli.recover_rows import Known, Row

LEAST = 4  # images that a ridge is fitted to
HEADS = {
    "mse": ("MSE\n×10³ ↓", 1000.0, 3),
    "warp": ("warp\n↑", 1.0, 3),
    "warp_without_gauge": ("less\ngauge ↑", 1.0, 3),
    "albedo": ("albedo\n↑", 1.0, 3),
    "shading": ("shading\n↑", 1.0, 3),
    "landmark_error": ("marks\nin px ↓", 1.0, 2),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "checkpoints", nargs="+", metavar="[NAME=]CKPT", help="checkpoints, or runs' folders; NAME is that of the row"
    )
    parser.add_argument("--split", choices=["test", "val"], default="test", help="split to measure on (default test)")
    parser.add_argument(
        "-n", type=int, default=2000, help="training images for the taught readings, the gauge and landmarks (2000)"
    )
    parser.add_argument(
        "--json", type=Path, help="write the numbers; - writes them to standard output, without a table"
    )
    common.add_device_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read each checkpoint, compare with the truth, print the table."""
    if arguments.n < LEAST:
        raise ConfigurationError(f"-n {arguments.n}: the taught readings are fitted to {LEAST} images at least")
    common.check_writable("--json", arguments.json)
    from pcgen.cli.names import named_paths
    from pcgen.cli.recover_rows import rows_of, trivial_rows

    models = {name: _loaded(path, arguments) for name, path in named_paths(arguments.checkpoints).items()}
    datamodule, train, test = _data(models, arguments)
    rows: list[Row] = []
    for name, model in models.items():
        rows += rows_of(name, model, train, test)
    rows += trivial_rows(train, test)
    _show(rows, datamodule, (len(train.x), len(test.x)), arguments)
    return 0


def _loaded(path: Path, arguments: argparse.Namespace) -> "GenerativeModel":
    arguments.checkpoint = path
    return common.load_model(arguments, "encode", "reconstruct")


def _data(models: "dict[str, GenerativeModel]", arguments: argparse.Namespace) -> "tuple[DataModule, Known, Known]":
    """Make the data again that all models were trained on, once.

    Raises:
        ConfigurationError: If one does not say, they differ, or know no truth.
    """
    from pcgen.cli.modeldata import datamodule_of
    from pcgen.cli.recover_rows import known_of

    for name, model in models.items():
        if model.data_info is None:
            raise ConfigurationError(
                f"{name} does not say what data it was trained on: train it by a Trainer with a pcgen datamodule"
            )
    (first, one), *others = models.items()
    for name, other in others:
        if _images(one) != _images(other):
            raise ConfigurationError(
                f"{first} and {name} were trained on different data: compare those of one datamodule and its arguments"
            )
    datamodule = datamodule_of(one, trust=arguments.trust)
    return datamodule, known_of(datamodule, "train", arguments.n), known_of(datamodule, arguments.split, None)


def _images(model: "GenerativeModel") -> dict[str, Any]:
    """Give what a model's data are made from; how they come in batches does not count."""
    assert model.data_info is not None
    recipe = model.data_info["recipe"]
    passing = {"batch_size", "drop_last", "num_workers", "seed"}
    kept = {name: value for name, value in recipe.get("init_args", {}).items() if name not in passing}
    return {"class_path": recipe["class_path"], **kept}


# ── what is said ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _show(rows: "list[Row]", datamodule: "DataModule", sizes: tuple[int, int], arguments: argparse.Namespace) -> None:
    from pcgen.cli.recover_rows import means_of

    place = f"{type(datamodule).__name__} ({arguments.split})"
    means = means_of([row for row in rows if row.model is not None])
    results.write_json(arguments.json, _content(rows, means, place, sizes), "numbers")
    if arguments.json == Path("-"):
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"recovered of {sizes[1]} images of {place}, taught by {sizes[0]}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("", overflow="fold", min_width=12)
    for head in ("weights", *(head for head, _, _ in HEADS.values())):
        table.add_column(head, justify="right", no_wrap=True)
    for trivial in (False, True):
        for row in rows:
            if (row.model is None) is trivial:
                table.add_row(_name(row), _parameters(row), *_cells(row))
        table.add_section()
    for mean, deviation in means:
        table.add_row(_name(mean), _parameters(mean), *_cells(mean, deviation))
    Console().print(table)


def _name(row: "Row") -> str:
    from rich.markup import escape

    return escape(row.name if row.model is None else f"{row.name}: {row.reading}")


def _parameters(row: "Row") -> str:
    return "" if row.parameters is None else f"{row.parameters:,}".replace(",", " ")


def _cells(row: "Row", deviation: dict[str, float] | None = None) -> list[str]:
    """Give what the table shows of a row, where it is a mean with the deviations below."""
    found = []
    for name, (_, unit, digits) in HEADS.items():
        value = row.scores.get(name, math.nan)
        spread = f"\n±{unit * deviation[name]:.{digits}f}" if deviation and name in deviation else ""
        found.append("–" if math.isnan(value) else f"{unit * value:.{digits}f}{spread}")
    return found


def _content(
    rows: "list[Row]", means: "list[tuple[Row, dict[str, float]]]", place: str, sizes: tuple[int, int]
) -> dict[str, Any]:
    from pcgen import __version__

    return {
        "data": place,
        "num_train": sizes[0],
        "num_test": sizes[1],
        "rows": [{"name": row.name, **row.to_plain()} for row in rows],
        "means": [{"name": row.name, **row.to_plain(), "deviations": spread} for row, spread in means],
        "version": __version__,
    }
