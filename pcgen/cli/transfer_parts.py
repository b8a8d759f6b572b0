"""`pcgen transfer` for clouds: which part each point belongs to, known of a few clouds, found for all."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.cli.transfer import DRAWN, check_asked, chosen, labelled
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pcgen.base import DataModule, GenerativeModel
    from pcgen.cli.modeldata import ModelData

WAYS = {
    "transferred": "by the template",
    "frequent": "most frequent part",
    "nearest": "from the nearest labelled cloud",
}


def transfer(model: "GenerativeModel", arguments: argparse.Namespace) -> None:
    """Label the clouds, measure where the truth is known, and write and draw what was asked for."""
    from pcgen.cli.modeldata import model_data
    from pcgen.latents import label_template, transfer_labels

    data = model_data(model, arguments)
    datamodule = _datamodule(model, arguments)
    if arguments.data is not None:
        check_asked(f"the true parts of {data.source} are not known", "parts", arguments)
    given = labelled(datamodule, "part", arguments)
    rows, (known, labels, _) = chosen(data, arguments, given.rows_in(data, arguments)), given
    x = data.x[rows]
    votes = label_template(model, known, labels, num_labels=len(datamodule.truth_names))
    found = {"transferred": transfer_labels(model, votes, x)}
    if arguments.data is None and data.split is not None:
        found["true"] = datamodule.truth(data.split)["part"][rows]
        ways = {"transferred": found["transferred"], **_controls(x, known, labels)}
        _show(_scores(ways, found["true"], datamodule.truth_names), len(known), data, arguments)
    names = [data.name[row] for row in rows.tolist()]
    if arguments.out is not None:
        points = data.undo(x, rows.numpy())
        _write(arguments.out, names, points, found["transferred"], votes, datamodule.truth_names)
    if arguments.png is not None:
        heading = f"{results.place_of(data, arguments.kind)}: parts by {_by(len(known))}"
        image = _picture(x, found, names, datamodule.truth_names, results.up_axis(model), heading)
        results.write_picture(arguments, image)


def _datamodule(model: "GenerativeModel", arguments: argparse.Namespace) -> "DataModule":
    """Give the datamodule of the training, which knows the parts of its clouds."""
    from pcgen.cli.modeldata import datamodule_of

    if model.data_info is None:
        raise ConfigurationError(
            "the checkpoint does not say what data it was trained on, so no parts are known to transfer"
        )
    datamodule = datamodule_of(model, trust=arguments.trust)
    if not datamodule.truth_names:
        raise ConfigurationError(
            f"{type(datamodule).__name__}, which this model was trained on, does not know the parts of its clouds; "
            "Shapes does"
        )
    return datamodule


def _controls(x: "Tensor", known: "Tensor", labels: "Tensor") -> "dict[str, Tensor]":
    """Label the clouds as it can be done without a model."""
    import torch

    from pcgen.metrics.transfer import labels_of_nearest_clouds

    frequent = labels.flatten().bincount().argmax()
    done, total = 0, len(x) * len(known)
    with common.progress("nearest labelled clouds", total) as advance:

        def more(pairs: int) -> None:
            nonlocal done
            done += pairs
            advance(done, total)

        nearest = labels_of_nearest_clouds(x, known, labels, progress=more)
    return {"frequent": torch.full(x.shape[:2], int(frequent)), "nearest": nearest}


def _scores(ways: "dict[str, Tensor]", true: "Tensor", names: tuple[str, ...]) -> dict[str, Any]:
    from pcgen.metrics.transfer import label_scores

    scores = {way: label_scores(found, true, len(names)) for way, found in ways.items()}
    each = {way: dict(zip(names, found.each.tolist(), strict=True)) for way, found in scores.items()}
    present = {names[k] for k in true.unique().tolist()}
    return {
        "num_clouds": len(true),
        "accuracy": {way: found.accuracy for way, found in scores.items()},
        "mean_over_parts": {way: found.mean for way, found in scores.items()},
        "each": {way: {name: share for name, share in row.items() if name in present} for way, row in each.items()},
    }


def _show(scores: dict[str, Any], num_labelled: int, data: "ModelData", arguments: argparse.Namespace) -> None:
    from pcgen import __version__

    how = {
        "num_labelled": num_labelled,
        "class": arguments.kind,
        "data": data.source,
        "split": data.split,
        "version": __version__,
    }
    results.write_json(arguments.json, {**scores, **how, "version": __version__}, "accuracies")
    if arguments.json == Path("-"):
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    what = common.count(scores["num_clouds"], "cloud")
    title = f"parts of {what}, {results.place_of(data, arguments.kind)}, by {_by(num_labelled)}"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("share of points right")
    for name in WAYS.values():
        table.add_column(name, justify="right")
    rows = {"of all": scores["accuracy"], "mean over parts": scores["mean_over_parts"]}
    rows |= {part: {way: scores["each"][way][part] for way in WAYS} for part in scores["each"]["transferred"]}
    for name, shares in rows.items():
        table.add_row(escape(name), *(f"{shares[way]:.3f}" for way in WAYS))
    Console().print(table)


def _by(num_labelled: int) -> str:
    return common.count(num_labelled, "labelled training cloud")


def _write(
    path: Path,
    names: list[str],
    points: "NDArray[np.float32]",
    found: "Tensor",
    votes: "Tensor",
    part_names: tuple[str, ...],
) -> None:
    import numpy as np

    arrays = {
        "points": points,
        "part": found.numpy(),
        "votes": votes.numpy(),
        "part_names": np.array(part_names),
        "name": np.array(names),
    }
    results.write_arrays(path, arrays, f"parts of {common.count(len(found), 'cloud')}")


def _picture(
    x: "Tensor", found: "dict[str, Tensor]", names: list[str], part_names: tuple[str, ...], up: int, heading: str
) -> Any:
    from pcgen.viz import draw_labelled_clouds

    rows = {name: found[name][:DRAWN].numpy() for name in ("true", "transferred") if name in found}
    clouds = [x[:DRAWN].numpy()] * len(rows)
    return draw_labelled_clouds(
        clouds,
        list(rows.values()),
        part_names,
        row_labels=list(rows),
        titles=names[:DRAWN],
        up_axis=up,
        heading=heading,
    )
