"""What a swap of clouds does, in numbers: whose extents and whose class the swapped clouds have."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.cli.swap import donor_words, swapped
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData


def check_pairs(num_pairs: int, data: "ModelData") -> None:
    """Refuse what has no correlation, before any work is done.

    Raises:
        ConfigurationError: If there are fewer than three clouds, or two pairs.
    """
    if len(data.x) < 3 or num_pairs < 2:
        raise ConfigurationError(
            f"-n {num_pairs}: a correlation needs at least two pairs out of three clouds, and {data.place} has "
            f"{common.count(len(data.x), 'cloud')}; -n 0 measures nothing"
        )


def measure(
    model: "GenerativeModel",
    data: "ModelData",
    parts: tuple[str, ...],
    arguments: argparse.Namespace,
    *,
    num_pairs: int,
    num_references: int,
) -> dict[str, Any]:
    """Swap random pairs of clouds and compare the results with both donors, of which `donor_words` are the names.

    Returns:
        `"donors"`: their names, that of the parts first; `"extents"`: for width, depth and height of the bounding box
        the correlation over the pairs with each donor's reconstruction; `"nearest"`: of what is known of the clouds
        (their class, parts that they have or lack), by name, the shares of pairs whose nearest training cloud agrees
        with a donor, and of reconstructions whose nearest agrees with what they reconstruct, over the pairs that differ
        in it.
    """
    from pcgen.cli.reconstruct import reconstructions

    first, second = _pairs(len(data.x), num_pairs, arguments.seed)
    made = swapped(model, data.x[first], data.x[second], parts)
    words = donor_words(model, parts)
    donors = {word: reconstructions(model, data.x[rows]) for word, rows in zip(words, (first, second), strict=True)}
    pairs = dict(zip(words, (first, second), strict=True))
    return {
        "num_pairs": len(first),
        "donors": list(words),
        "extents": _correlations(made, donors, results.up_axis(model)),
        "nearest": _nearest(model, data, pairs, made, donors[words[1]], arguments, num_references),
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
    donors = found["donors"]
    for donor in donors:
        table.add_column(f"{donor} donor", justify="right")
    for name, row in found["extents"].items():
        table.add_row(f"{name}, correlation with", *("–" if row[d] is None else f"{row[d]:.3f}" for d in donors))
    for name, near in found["nearest"].items():
        table.add_row(f"nearest has the {name} of", *(f"{near[donor]:.3f}" for donor in donors))
    console = Console()
    console.print(table)
    for name, near in found["nearest"].items():
        text = (
            f"{name}: nearest of {near['num_references']} training clouds, for {near['num_pairs']} pairs that differ "
            f"in it; of reconstructions {near['reconstruction']:.3f} have their own"
        )
        console.print(text, style="dim italic", markup=False)


def _pairs(count: int, n: int, seed: int) -> "tuple[Tensor, Tensor]":
    """Draw n pairs of different rows."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(count, (n,), generator=generator)
    return first, (first + torch.randint(1, count, (n,), generator=generator)) % count


def _correlations(made: "Tensor", donors: "dict[str, Tensor]", up: int) -> dict[str, dict[str, float | None]]:
    order = [*(axis for axis in range(3) if axis != up), up]
    names = ("width", "depth", "height")
    own = _extents(made)[:, order]  # (n, 3)
    others = {donor: _extents(clouds)[:, order] for donor, clouds in donors.items()}
    return {
        name: {donor: _correlation(own[:, k], other[:, k]) for donor, other in others.items()}
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
    pairs: "dict[str, Tensor]",
    made: "Tensor",
    reconstructed: "Tensor",
    arguments: argparse.Namespace,
    num_references: int,
) -> dict[str, dict[str, Any]]:
    """Compare what the nearest training clouds are with what the donors are, by the name of what that is."""
    from pcgen.cli.modeldata import train_split
    from pcgen.ops import pairwise_chamfer_distance

    train = train_split(model, arguments, data.split)
    if train is None:
        return {}
    rows = common.random_rows(train.x, num_references, arguments.seed)
    references, known = train.x[rows], {name: kinds[rows] for name, kinds in _kinds(train).items()}
    asked = {name: kinds for name, kinds in _kinds(data).items() if name in known}
    first, second = pairs.values()
    apart = {name: kinds[first] != kinds[second] for name, kinds in asked.items()}
    if not any(flags.any() for flags in apart.values()):
        return {}
    near = {"made": made, "reconstruction": reconstructed}
    near = {name: pairwise_chamfer_distance(clouds, references).argmin(1) for name, clouds in near.items()}
    found = {}
    for name, flags in apart.items():
        if flags.any():
            seen, own = (known[name][near[which]][flags] for which in ("made", "reconstruction"))
            truth = {donor: asked[name][rows][flags] for donor, rows in pairs.items()}
            shares = {donor: seen == kinds for donor, kinds in truth.items()}
            shares["reconstruction"] = own == asked[name][second][flags]
            numbers = {which: share.double().mean().item() for which, share in shares.items()}
            found[name] = {**numbers, "num_pairs": int(flags.sum()), "num_references": len(references)}
    return found


def _kinds(data: "ModelData") -> "dict[str, Tensor]":
    """Give what is known of each cloud that is one of a few kinds, (K,): its class, and factors that are 0 or 1."""
    kinds = {} if data.label is None else {"class": data.label}
    if data.factors is None:
        return kinds
    flags = ((data.factors == 0) | (data.factors == 1)).all(0)
    return kinds | {name: data.factors[:, k] for k, name in enumerate(data.factor_names) if flags[k]}
