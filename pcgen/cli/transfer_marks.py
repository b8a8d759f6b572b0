"""`pcgen transfer` for images: landmarks that are known of some are found in all."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.cli.transfer import DRAWN, check_asked, chosen, labelled
from pcgen.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData


@dataclass(frozen=True)
class Marks:
    """Where the marks come from.

    Attributes:
        template: Their places in the template (L, 2).
        rest: Where they are if no warp moves them (L, 2): the mean over the images that were marked, or the template.
        source: In words.
        row: Of the one image that was marked, in the data; None for others.
        known: Rows of the data that were marked, to which nothing is carried.
    """

    template: "Tensor"
    rest: "Tensor"
    source: str
    row: int | None = None
    known: tuple[int, ...] = ()


def transfer(model: "GenerativeModel", arguments: argparse.Namespace) -> None:
    """Find the marks in the images, measure where the truth is known, and write and draw what was asked for."""
    from pcgen.cli.modeldata import model_data
    from pcgen.latents import place_landmarks

    data = model_data(model, arguments)
    true = _true(model, data, arguments)
    marks = _marks(model, data, true, arguments)
    rows = chosen(data, arguments, marks.known)
    if arguments.marks is not None or true is None:
        true = None  # of these marks nobody knows it
        check_asked("where these marks truly lie is not known", "places", arguments)
    places = place_landmarks(model, marks.template, data.x[rows])  # (B, L, 2)
    if true is not None:
        _show(_scores(data, places, true[rows], marks), data, marks, arguments)
    if arguments.out is not None:
        _write(arguments.out, [data.name[row] for row in rows.tolist()], places, marks)
    if arguments.png is not None:
        image = _picture(model, data, rows, places, true, marks, results.place_of(data, arguments.kind))
        results.write_picture(arguments, image)


def _true(model: "GenerativeModel", data: "ModelData", arguments: argparse.Namespace) -> "Tensor | None":
    """Give the known landmarks (K, L, 2) of the images, or None."""
    from pcgen.cli.modeldata import datamodule_of

    if arguments.data is not None:
        return None
    assert data.split is not None
    return datamodule_of(model, trust=arguments.trust).truth(data.split).get("landmarks")


# ── where the marks come from ─────────────────────────────────────────────────────────────────────────────────────────


def _marks(model: "GenerativeModel", data: "ModelData", true: "Tensor | None", arguments: argparse.Namespace) -> Marks:
    given = None if arguments.marks is None else _read_marks(arguments.marks)
    if arguments.source is not None:
        return _of_source(model, data, true, given, arguments)
    if given is not None:
        return Marks(given, given, "marked in the template")
    if not _knows_landmarks(model, arguments):
        raise ConfigurationError(
            f"no landmarks are known of {data.source}, nor of the training data: mark some in the template, "
            '--marks "0.1,-0.2;0.3,0.4", or in an image, --source ROW --marks …'
        )
    return _of_labelled(model, data, arguments)


def _knows_landmarks(model: "GenerativeModel", arguments: argparse.Namespace) -> bool:
    """Say whether landmarks of the training images are known, as the images of a file may be found without them."""
    from pcgen.cli.modeldata import datamodule_of

    if model.data_info is None:
        return False
    try:
        return "landmarks" in datamodule_of(model, trust=arguments.trust).truth("train", 1)
    except DataError:
        if arguments.data is None:
            raise
        return False  # its files are not here


def _of_source(
    model: "GenerativeModel",
    data: "ModelData",
    true: "Tensor | None",
    given: "Tensor | None",
    arguments: argparse.Namespace,
) -> Marks:
    from pcgen.latents import mark_template

    row = data.row(arguments.source, "--source")
    if given is None and true is None:
        raise ConfigurationError(f'no landmarks are known of {data.source}: name them, --marks "0.1,-0.2;0.3,0.4"')
    landmarks = given if given is not None else true[row]  # type: ignore[index]  # one of them is there
    template = mark_template(model, data.x[row][None], landmarks[None])
    return Marks(template, landmarks, f"marked in {data.name[row]}", row, (row,))


def _of_labelled(model: "GenerativeModel", data: "ModelData", arguments: argparse.Namespace) -> Marks:
    from pcgen.cli.modeldata import datamodule_of
    from pcgen.latents import mark_template

    given = labelled(datamodule_of(model, trust=arguments.trust), "landmarks", arguments)
    where = f"marked in {common.count(len(given.x), 'training image')}"
    template, rest = mark_template(model, given.x, given.truth), given.truth.mean(0)
    return Marks(template, rest, where, known=tuple(given.rows_in(data, arguments)))


def _read_marks(text: str) -> "Tensor":
    """Read `x,y;x,y` as (L, 2).

    Raises:
        ConfigurationError: If it is something else, or a place lies outside.
    """
    import torch

    places = [common.number_list("--marks", word, float) for word in text.split(";") if word.strip()]
    if not places or any(len(place) != 2 for place in places):
        raise ConfigurationError(f'--marks {text}: give places x,y separated by semicolons, such as "0.1,-0.2;0.3,0.4"')
    for place in places:
        if not all(math.isfinite(v) and abs(v) <= 1 for v in place):
            raise ConfigurationError(f"--marks {text}: {place[0]:g},{place[1]:g} lies outside −1 … 1")
    return torch.tensor(places, dtype=torch.float32)


# ── what comes of it ──────────────────────────────────────────────────────────────────────────────────────────────────


def _scores(data: "ModelData", places: "Tensor", true: "Tensor", marks: Marks) -> dict[str, Any]:
    """Give the errors in pixels."""
    from pcgen.metrics.recovery import landmark_errors

    shape = (data.x.shape[2], data.x.shape[3])
    ways = {"transferred": places, "identity": marks.rest.expand_as(places)}
    errors = {way: landmark_errors(found, true, shape) for way, found in ways.items()}  # (B, L)
    return {
        "num_images": len(true),
        "num_landmarks": len(marks.rest),
        "error": {way: error.mean().item() for way, error in errors.items()},
        "median": {way: error.median().item() for way, error in errors.items()},
        "each": {way: error.mean(0).tolist() for way, error in errors.items()},
    }


def _show(scores: dict[str, Any], data: "ModelData", marks: Marks, arguments: argparse.Namespace) -> None:
    from pcgen import __version__

    how = {
        "marks": marks.source,
        "class": arguments.kind,
        "data": data.source,
        "split": data.split,
        "version": __version__,
    }
    results.write_json(arguments.json, {**scores, **how, "version": __version__}, "errors")
    if arguments.json == Path("-"):
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    what = f"{common.count(scores['num_landmarks'], 'landmark')} of {common.count(scores['num_images'], 'image')}"
    table = Table(
        title=escape(f"{what}, {results.place_of(data, arguments.kind)}, {marks.source}"), title_justify="left"
    )
    for head in ("error in pixels", "mean", "median", "worst landmark"):
        table.add_column(head, justify="left" if head == "error in pixels" else "right")
    for way, name in (("transferred", "by the template"), ("identity", "left where they are")):
        numbers = (scores["error"][way], scores["median"][way], max(scores["each"][way]))
        table.add_row(name, *(f"{number:.3f}" for number in numbers))
    Console().print(table)


def _write(path: Path, names: list[str], places: "Tensor", marks: Marks) -> None:
    import numpy as np

    arrays = {"landmarks": places.numpy(), "template": marks.template.numpy(), "name": np.array(names)}
    results.write_arrays(path, arrays, f"landmarks of {common.count(len(places), 'image')}")


def _picture(
    model: "GenerativeModel",
    data: "ModelData",
    rows: "Tensor",
    places: "Tensor",
    true: "Tensor | None",
    marks: Marks,
    place: str,
) -> Any:
    """Draw what was marked, the template or an image, and then the first of the others."""
    import torch

    from pcgen.latents import decompose
    from pcgen.viz import draw_marks

    rows = rows[: DRAWN - 1]
    if marks.row is None:
        first, title, start = decompose(model, data.x[rows]).template.mean(0), "mean template", marks.template
    else:
        first, title, start = data.x[marks.row], data.name[marks.row], marks.rest
    images, found = torch.cat([first[None], data.x[rows]]), torch.cat([start[None], places[: len(rows)]])
    heading, rings = f"{place}: landmarks {marks.source}", None
    if true is not None:
        rings = torch.cat([torch.full_like(start, math.nan)[None], true[rows]]).numpy()
        heading += "; rings are where they truly lie"
    titles = [title, *(data.name[row] for row in rows.tolist())]
    return draw_marks(images.numpy(), found.numpy(), true=rings, titles=titles, source=True, heading=heading)
