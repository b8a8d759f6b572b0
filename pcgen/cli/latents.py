"""What the codes of one or more checkpoints say, side by side on the same data.

- Kernel MMD² of the codes to as many draws of N(0, I): the U-statistic under 1 / (1 + ‖x − y‖²), 0 on average for codes
  that are such draws. Of a variational model the codes are drawn from the posterior, as its decoder meets them in
  training.
- Active units: latent dimensions whose code varies over the data (variance above 0.01).
- Reconstruction error: Chamfer distance in the model's units, or mean squared error of a pixel.
- With known factors: modularity, compactness (which DCI calls completeness), informativeness, MIG, SAP, and R² of a
  linear map from codes to factors, of the latents that carry something: 0.01 nats of KL, or a variance of 0.01 where
  there is no posterior.

The picture puts the codes' histogram beside what the decoder makes of draws from N(0, I): where codes are not like such
draws, the decoder was never taught what to make of them.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from pcgen.base import GenerativeModel
    from pcgen.cli.codes import CodeScores
    from pcgen.cli.modeldata import ModelData

DRAWN = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="[NAME=]CKPT",
        help="checkpoints, or runs' folders; NAME is that of the column",
    )
    parser.add_argument("--data", metavar="DATA", help=common.DATA_HELP.replace("the checkpoint was", "they were"))
    common.add_selection_arguments(parser)
    parser.add_argument("-n", type=int, default=2000, help="data at most, at random (default 2000)")
    parser.add_argument(
        "--json", type=Path, help="write the numbers; - writes them to standard output, without a table"
    )
    parser.add_argument("--png", type=Path, help="draw histograms of the codes beside decoded draws of N(0, I)")
    common.add_device_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Encode, measure, print the table and draw."""
    if arguments.n < 2:
        raise ConfigurationError(f"-n {arguments.n}: at least two codes are compared with the prior")
    common.check_writable("--json", arguments.json)
    common.check_picture("--png", arguments.png)
    from pcgen.cli.codes import decoded_prior, score_codes
    from pcgen.cli.names import named_paths

    models = {name: _loaded(path, arguments) for name, path in named_paths(arguments.checkpoints).items()}
    found: dict[str, CodeScores] = {}
    pictures = []
    place = ""
    for name, (model, data) in zip(models, _with_data(models, arguments), strict=True):
        place = data.place
        found[name] = score_codes(model, data, arguments.n, arguments.seed, name=name)
        if arguments.png is not None:
            draws = decoded_prior(model, DRAWN, arguments.seed)
            pictures.append(_picture(found[name], draws, name, results.up_axis(model)))
    _show(found, place, arguments)
    if pictures:
        from pcgen.viz import below

        results.write_picture(arguments, below(pictures))
    return 0


def _loaded(path: Path, arguments: argparse.Namespace) -> "GenerativeModel":
    arguments.checkpoint = path
    return common.load_model(arguments, "encode", "decode")


def _with_data(
    models: "dict[str, GenerativeModel]", arguments: argparse.Namespace
) -> "list[tuple[GenerativeModel, ModelData]]":
    """Give each model the same data, clouds normalised as it knows them.

    Raises:
        ConfigurationError: If no data were named and the models were trained on different ones.
    """
    from pcgen.cli.modeldata import model_data

    if arguments.data is not None:
        return [(model, model_data(model, arguments)) for model in models.values()]
    (first, one), *others = models.items()
    for name, other in others:
        if differ := _differences(one.data_info, other.data_info):
            raise ConfigurationError(
                f"{first} and {name} were trained on different data ({differ}): name those to compare them on, --data"
            )
    data = model_data(one, arguments)
    return [(model, data) for model in models.values()]


def _differences(one: "dict[str, Any] | None", other: "dict[str, Any] | None") -> str:
    """Say in what two models' data differ; what batches and workers are does not count."""
    if one is None or other is None:
        return "" if one is other else "of one of them nobody knows"
    for field in ("sample_shape", "class_names", "factor_names", "normalization"):
        if one[field] != other[field]:
            return f"{field} {one[field]} and {other[field]}"
    kinds = [info["recipe"]["class_path"].rpartition(".")[2] for info in (one, other)]
    return "" if kinds[0] == kinds[1] else " and ".join(kinds)


def _show(found: "dict[str, CodeScores]", place: str, arguments: argparse.Namespace) -> None:
    from pcgen import __version__

    models = {name: scores.to_plain() for name, scores in found.items()}
    content = {"data": place, "seed": arguments.seed, "models": models, "version": __version__}
    results.write_json(arguments.json, content, "numbers")
    if arguments.json == Path("-"):
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    some = next(iter(found.values()))
    table = Table(title=escape(f"codes of {some.num_data} of {place}"), title_justify="left")
    for head in ("", *found):
        table.add_column(escape(head), justify="right" if head else "left", overflow="fold", no_wrap=not head)
    columns = [scores.cells() for scores in found.values()]
    for head in dict.fromkeys(head for column in columns for head in column):
        table.add_row(head, *(column.get(head, "–") for column in columns))
    console = Console()
    console.print(table)
    for note in dict.fromkeys(note for scores in found.values() for note in scores.notes):
        console.print(note, style="dim italic", markup=False)


def _picture(scores: "CodeScores", draws: Any, name: str, up_axis: int) -> Any:
    from pcgen.viz import beside, draw_latent_histogram, draw_samples

    title = f"{name} ({scores.model}): MMD² to N(0, I) {1000 * scores.mmd2:.3g} ×10⁻³".replace(" -", " −")
    histogram = draw_latent_histogram(scores.codes, title=title)
    return beside([histogram, draw_samples(draws, columns=4, up_axis=up_axis, heading="decoded draws of N(0, I)")])
