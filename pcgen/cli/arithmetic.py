"""Add the difference between two kinds of data to a code: z(a) + s (mean z(plus) − mean z(minus)).

PLUS and MINUS choose data by class (chair), by a known factor (leg_height>0.5, has_arm=1), by its upper or lower
quartile (leg_height:high, leg_height:low), or by several of these (chair & has_arm=1). Where a file of data knows no
classes or factors, such as a scan, the means are of the data that the model was trained on. What is written is in the
model's units: for each --from, one datum a scale.
"""

import argparse
import math
from typing import TYPE_CHECKING

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    common.add_data_arguments(parser)
    parser.add_argument(
        "--from",
        dest="start",
        action="append",
        metavar="ROW",
        help="row or name of a datum to start from; may be given several times (default 0)",
    )
    parser.add_argument("--plus", required=True, metavar="SELECTOR", help="which data have what is added")
    parser.add_argument("--minus", required=True, metavar="SELECTOR", help="which data lack it")
    parser.add_argument(
        "--scales",
        default="0,0.5,1,1.5",
        help="of the difference, separated by commas; 0 is the reconstruction (default 0,0.5,1,1.5; "
        "--scales=-1,0,1 where the first is below 0)",
    )
    parser.add_argument(
        "--means-split", help="split over which the means are taken (default: train where there are splits)"
    )
    common.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Add, write and draw."""
    common.check_outputs(arguments)
    scales = common.number_list("--scales", arguments.scales, float)
    if not all(map(math.isfinite, scales)):
        raise ConfigurationError(f"--scales {arguments.scales}: give finite numbers")
    model = common.load_model(arguments, "encode", "decode")
    results.check_kind(model, arguments)
    from pcgen.cli.modeldata import is_images, model_data
    from pcgen.latents import latent_arithmetic

    data = model_data(model, arguments)
    rows = [data.row(word, "--from") for word in arguments.start or ["0"]]
    plus, minus = _chosen(_means_data(model, data, arguments), arguments)
    made = latent_arithmetic(model, data.x[rows], plus, minus, scales=scales).float().cpu()  # (S, B, …)
    made = made.clamp(0, 1) if is_images(model) else made
    names = tuple(f"{data.name[row]} {scale:+g}" for row in rows for scale in scales)
    flat = made.transpose(0, 1).flatten(0, 1).numpy()  # (B·S, …)
    results.write_results(arguments, flat, name=names, up_axis=results.up_axis(model))
    if arguments.png is not None:
        from pcgen.viz import draw_arithmetic

        image = draw_arithmetic(
            made.numpy(), data.x[rows].numpy(), scales, labels=[data.name[row] for row in rows],
            up_axis=results.up_axis(model), heading=f"code + s (mean of {arguments.plus} − mean of {arguments.minus})",
        )  # fmt: skip
        results.write_picture(arguments, image)
    return 0


def _means_data(model: "GenerativeModel", data: "ModelData", arguments: argparse.Namespace) -> "ModelData":
    """The data over which the means are taken: another split of the same source, where there is one.

    A file that tells no data apart has no such means; those of the model's own training data serve.
    """
    from pcgen.cli.modeldata import model_data, train_split

    if not data.class_names and not data.factor_names and arguments.data is not None and model.data_info is not None:
        own = argparse.Namespace(**vars(arguments) | {"data": None, "normalize": None})
        return model_data(model, own, arguments.means_split or "train")
    if arguments.means_split is not None:
        return model_data(model, arguments, arguments.means_split)
    return train_split(model, arguments, data.split) or data


def _chosen(data: "ModelData", arguments: argparse.Namespace) -> "list[Tensor]":
    """Choose the data whose codes are averaged, and say how many of what."""
    from pcgen.latents import parse_selector

    words = {"--plus": arguments.plus, "--minus": arguments.minus}
    names = (data.class_names, data.factor_names)
    selectors = [parse_selector(word, *names, what=option) for option, word in words.items()]
    chosen = [selector.rows(data.batch, source=data.place) for selector in selectors]
    counts = " and ".join(f"{len(rows)} ({word})" for rows, word in zip(chosen, words.values(), strict=True))
    common.say(f"means over {counts} of {len(data.x)} data of {data.place}")
    return [data.x[rows] for rows in chosen]
