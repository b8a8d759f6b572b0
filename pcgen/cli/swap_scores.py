"""What a swap of clouds does, in numbers: whose extents and whose class the swapped clouds have."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.cli.swap import swapped
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData

DONORS = ("shape", "appearance")


def measure(
    model: "GenerativeModel", data: "ModelData", parts: tuple[str, ...], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Swap random pairs of clouds and compare the results with both donors.

    Returns:
        `"extents"`: for width, depth and height of the bounding box the correlation over the pairs with each donor's
        reconstruction; `"nearest"`: where classes are known the shares of pairs whose nearest training cloud has the
        class of a donor, and of reconstructions whose nearest has their own; else None.

    Raises:
        ConfigurationError: If there are fewer than three clouds, or two pairs: no correlation.
    """
    from pcgen.cli.reconstruct import reconstructions

    if len(data.x) < 3 or arguments.n < 2:
        raise ConfigurationError(
            f"-n {arguments.n}: a correlation needs at least two pairs out of three clouds, and {data.place} has "
            f"{common.count(len(data.x), 'cloud')}; -n 0 measures nothing"
        )
    first, second = _pairs(len(data.x), arguments.n, arguments.seed)
    made = swapped(model, data.x[first], data.x[second], parts)
    donors = [reconstructions(model, data.x[rows]) for rows in (first, second)]
    up = results.up_axis(model)
    return {
        "num_pairs": len(first),
        "extents": _correlations(made, donors, up),
        "nearest": _nearest(model, data, (first, second), made, donors[1], arguments),
    }


def show(found: dict[str, Any], parts: tuple[str, ...], data: "ModelData", arguments: argparse.Namespace) -> None:
    """Print the numbers, and write them to `--json`."""
    from pcgen import __version__

    how = {"parts": list(parts), "data": data.source, "split": data.split, "seed": arguments.seed}
    results.write_json(arguments.json, {**found, **how, "version": __version__}, "numbers")
    if arguments.json == Path("-"):
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"{found['num_pairs']} random pairs of {data.place}: {' and '.join(parts)} of one, the rest of another"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("of the swapped cloud")
    for donor in DONORS:
        table.add_column(f"{donor} donor", justify="right")
    for name, row in found["extents"].items():
        table.add_row(f"{name}, correlation with", *("–" if row[d] is None else f"{row[d]:.3f}" for d in DONORS))
    near = found["nearest"]
    if near is not None:
        table.add_row("nearest has the class of", *(f"{near[donor]:.3f}" for donor in DONORS))
    console = Console()
    console.print(table)
    if near is not None:
        text = (
            f"nearest of {near['num_references']} training clouds, for {near['num_pairs']} pairs of different classes; "
            f"of reconstructions {near['reconstruction']:.3f} have their own class"
        )
        console.print(text, style="dim italic", markup=False)


def _pairs(count: int, n: int, seed: int) -> "tuple[Tensor, Tensor]":
    """Draw n pairs of different rows."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(count, (n,), generator=generator)
    return first, (first + torch.randint(1, count, (n,), generator=generator)) % count


def _correlations(made: "Tensor", donors: "list[Tensor]", up: int) -> dict[str, dict[str, float | None]]:
    order = [*(axis for axis in range(3) if axis != up), up]
    names = ("width", "depth", "height")
    own, *others = (_extents(clouds)[:, order] for clouds in (made, *donors))  # (n, 3) each
    return {
        name: {donor: _correlation(own[:, k], other[:, k]) for donor, other in zip(DONORS, others, strict=True)}
        for k, name in enumerate(names)
    }


def _extents(clouds: "Tensor") -> "NDArray[np.float64]":
    extents: NDArray[np.float64] = (clouds.amax(1) - clouds.amin(1)).double().numpy()
    return extents


def _correlation(a: "NDArray[np.float64]", b: "NDArray[np.float64]") -> float | None:
    """Give Pearson's correlation, None where one of them does not vary."""
    import numpy as np

    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else None


def _nearest(
    model: "GenerativeModel",
    data: "ModelData",
    pairs: "tuple[Tensor, Tensor]",
    made: "Tensor",
    reconstructed: "Tensor",
    arguments: argparse.Namespace,
) -> dict[str, Any] | None:
    from pcgen.cli.modeldata import train_split
    from pcgen.ops import pairwise_chamfer_distance

    train = train_split(model, arguments, data.split)
    if data.label is None or train is None or train.label is None or train.class_names != data.class_names:
        return None
    labels = [data.label[rows] for rows in pairs]
    apart = labels[0] != labels[1]
    if not apart.any():
        return None
    rows = common.random_rows(train.x, arguments.references, arguments.seed)
    references, classes = train.x[rows], train.label[rows]

    def found(clouds: "Tensor") -> "Tensor":
        return classes[pairwise_chamfer_distance(clouds[apart], references).argmin(1)]

    seen = found(made)
    shares = {donor: seen.eq(label[apart]) for donor, label in zip(DONORS, labels, strict=True)}
    shares["reconstruction"] = found(reconstructed).eq(labels[1][apart])
    numbers = {name: share.double().mean().item() for name, share in shares.items()}
    return {**numbers, "num_pairs": int(apart.sum()), "num_references": len(rows)}
