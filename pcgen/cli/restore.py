"""Damage clean data as a model's training did, let it restore them, and state the error before and after.

For a model that was trained with a corruption. Chamfer distance for clouds (squared distances, mean over points, both
directions added), in the model's units; mean squared error of a pixel for images. The damage depends on --seed alone.

Data that are damaged already are restored by pcgen reconstruct.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData

DRAWN = 8
WORDS = {"chamfer": "Chamfer distance", "mse": "mean squared error"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument("-n", type=int, help="only the first n (default: all)")
    parser.add_argument("--png", type=Path, help="draw clean, corrupted and restored data")
    parser.add_argument("--json", type=Path, help="write the errors; - writes them to standard output, without a table")


def run(arguments: argparse.Namespace) -> int:
    """Corrupt, restore, print the errors and draw."""
    if arguments.n is not None and arguments.n < 1:
        raise ConfigurationError(f"-n {arguments.n}: at least one is restored")
    common.check_writable("--json", arguments.json)
    common.check_picture("--png", arguments.png)
    model = common.load_model(arguments, "reconstruct")
    if model.corruption is None:
        raise ConfigurationError(
            f"{arguments.checkpoint} holds a {type(model).__name__} that was trained without a corruption, so there is "
            "none to undo; pcgen reconstruct takes data as they are"
        )
    from pcgen.cli.modeldata import model_data

    data = model_data(model, arguments)
    clean = data.x[: arguments.n]
    corrupted = _corrupted(model, clean, arguments.seed)
    from pcgen.cli.reconstruct import reconstructions

    restored = reconstructions(model, corrupted, what="restoring")
    errors = _errors(clean, corrupted, restored)
    _show(errors, model, data, len(clean), arguments)
    if arguments.png is not None:
        results.write_picture(arguments, _picture(model, clean, corrupted, restored))
    return 0


def _corrupted(model: "GenerativeModel", clean: "Tensor", seed: int) -> "Tensor":
    """Damage data (K, …) on the CPU, so that every device sees the same."""
    import torch

    assert model.corruption is not None
    corruption, generator = model.corruption.cpu(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return torch.cat([corruption(part, generator=generator) for part in clean.split(model.chunk_size)])


def _errors(clean: "Tensor", corrupted: "Tensor", restored: "Tensor") -> dict[str, Any]:
    from pcgen.metrics import RestorationScores

    metric = RestorationScores()
    metric.update(clean, corrupted, restored)
    (name, before), (_, after) = metric.compute().items()
    ratio = (after / before).item() if before > 0 else None
    return {"distance": name.removesuffix("_before"), "before": before.item(), "after": after.item(), "ratio": ratio}


def _show(
    errors: dict[str, Any], model: "GenerativeModel", data: "ModelData", n: int, arguments: argparse.Namespace
) -> None:
    from pcgen import __version__
    from pcgen.recipe import describe

    recipe = describe(model.corruption, where="corruption")
    how = {"data": data.source, "split": data.split, "num_data": n, "seed": arguments.seed, "corruption": recipe}
    results.write_json(arguments.json, {**errors, **how, "version": __version__}, "errors")
    if arguments.json == Path("-"):
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"{WORDS[errors['distance']]}, mean over {n} of {data.place}"
    table = Table(title=escape(title), title_justify="left")
    for head in ("corrupted", "restored", "restored / corrupted"):
        table.add_column(head, justify="right")
    ratio = "–" if errors["ratio"] is None else f"{errors['ratio']:.3f}"
    table.add_row(f"{errors['before']:.6g}", f"{errors['after']:.6g}", ratio)
    console = Console()
    console.print(table)
    console.print(f"corruption {_words(recipe)}, seed {arguments.seed}", style="dim italic", markup=False)


def _words(recipe: dict[str, Any]) -> str:
    """Write a corruption in a line: its class, and what was not left out."""
    given = {name: value for name, value in recipe["init_args"].items() if value is not None}
    parts = given.pop("corruptions", None)
    if parts is not None:
        return ", then ".join(map(_words, parts))
    inside = ", ".join(f"{name} {value}" for name, value in given.items())
    return str(recipe["class_path"]).rpartition(".")[2] + (f" ({inside})" if inside else "")


def _picture(model: "GenerativeModel", *stages: "Tensor") -> Any:
    import numpy as np

    from pcgen.viz import draw_rows

    rows = [x[:DRAWN].numpy() for x in stages]
    # A cloud's frame holds its damage too: outliers would be cut off otherwise.
    likes = [np.concatenate(rows[:2], axis=1)] * 3 if rows[0].ndim == 3 else None
    labels = ("clean", "corrupted", "restored")
    return draw_rows(rows, labels=labels, likes=likes, up_axis=results.up_axis(model))
