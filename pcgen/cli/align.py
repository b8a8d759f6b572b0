"""Bring images to their mean deformation, each class by itself where classes are known, and measure what that does.

Aligned images have their own pixels: x(V(p)), where V undoes the image's deformation and does the mean one. Textures
are what the model paints, at the mean deformation. The table has the variance of a pixel over the set, mean over the
pixels: of the inputs, of the aligned inputs and, as a control, of inputs by the warp of another (misaligned), with
their ratios to the inputs'; and of the textures, with the ratio to the model's reconstructions, which are as smooth.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData
    from pcgen.latents import Alignment

KINDS = {"inputs": "input", "aligned": "aligned", "textures": "texture"}  # as drawn
# After, and what it is compared with.
BEFORE = {"aligned": "inputs", "misaligned": "inputs", "textures": "reconstructions"}
EXAMPLES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument(
        "--class", dest="kind", metavar="NAME", help="this class alone; then single images are drawn too"
    )
    parser.add_argument("-n", type=int, help="only the first n of each class (default: all)")
    parser.add_argument("--png", type=Path, help="draw means and variances before and after")
    parser.add_argument(
        "--json", type=Path, help="write the variances; - writes them to standard output, not the table"
    )


def run(arguments: argparse.Namespace) -> int:
    """Align, measure, print and draw."""
    if arguments.n is not None and arguments.n < 1:
        raise ConfigurationError(f"-n {arguments.n}: at least one is aligned")
    common.check_writable("--json", arguments.json)
    common.check_picture("--png", arguments.png)
    model = common.load_model(arguments, "encode", "decompose")
    from pcgen.cli.modeldata import is_images, model_data

    if not is_images(model):
        raise ConfigurationError(
            f"this {type(model).__name__} makes clouds, whose points correspond as they are: pcgen decompose draws that"
        )
    data = model_data(model, arguments)
    sets = {name: rows[: arguments.n] for name, rows in _sets(data, arguments.kind).items()}
    found = _aligned(model, data, sets)
    _show({name: _measured(found[name], len(sets[name])) for name in sets}, data, arguments)
    if arguments.png is not None:
        results.write_picture(arguments, _picture(data, sets, found, arguments))
    return 0


def _sets(data: "ModelData", kind: str | None) -> dict[str, Any]:
    """Give the rows of what is aligned together, by name."""
    import numpy as np

    if kind is not None:
        return {kind: data.of_class(kind)}
    if data.label is None or not data.class_names:
        return {"all": np.arange(len(data.x))}
    present = {data.class_names[label] for label in data.label.tolist()}
    return {name: data.of_class(name) for name in data.class_names if name in present}


def _aligned(model: "GenerativeModel", data: "ModelData", sets: dict[str, Any]) -> dict[str, "Alignment"]:
    from pcgen.latents import align

    found, done, total = {}, 0, sum(map(len, sets.values()))
    with common.progress("aligning", total) as advance:
        for name, rows in sets.items():
            found[name] = align(model, data.x[rows])
            done += len(rows)
            advance(done, total)
    return found


def _measured(alignment: "Alignment", count: int) -> dict[str, Any]:
    totals = alignment.totals
    ratios = {after: totals[after] / totals[before] if totals[before] > 0 else None for after, before in BEFORE.items()}
    return {"count": count, "variance": totals, "ratio": ratios}


def _show(measured: dict[str, Any], data: "ModelData", arguments: argparse.Namespace) -> None:
    from pcgen import __version__

    content = {"sets": measured, "data": data.source, "split": data.split, "version": __version__}
    results.write_json(arguments.json, content, "variances")
    if arguments.json == Path("-"):
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"variance of a pixel over the set, {data.place}"), title_justify="left")
    table.add_column("set")
    for head in ("count", "inputs", "aligned", "ratio", "misaligned", "ratio", "textures", "ratio"):
        table.add_column(head, justify="right")
    for name, numbers in measured.items():
        cells = [str(numbers["count"]), f"{numbers['variance']['inputs']:.3g}"]
        for after, ratio in numbers["ratio"].items():
            cells += [f"{numbers['variance'][after]:.3g}", "–" if ratio is None else f"{ratio:.3f}"]
        table.add_row(escape(name), *cells)
    Console().print(table)


def _picture(
    data: "ModelData", sets: dict[str, Any], found: dict[str, "Alignment"], arguments: argparse.Namespace
) -> Any:
    import numpy as np

    from pcgen.viz import draw_alignment

    means = np.stack([[each.means[kind] for kind in KINDS] for each in found.values()])  # (R, 3, C, H, W)
    variances = np.stack([[each.variances[kind] for kind in KINDS] for each in found.values()])  # (R, 3, H, W)
    examples = None
    if arguments.kind is not None:
        before = data.x[sets[arguments.kind][:EXAMPLES]].numpy()
        examples = np.stack([before, found[arguments.kind].aligned[:EXAMPLES].numpy()])
    heading = f"{results.place_of(data, arguments.kind)}, brought to the mean deformation" + (
        " of each class" if len(sets) > 1 else ""
    )
    return draw_alignment(
        means, variances, labels=list(sets), kinds=list(KINDS.values()), examples=examples, heading=heading
    )
