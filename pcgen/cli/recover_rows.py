"""What `pcgen recover` measures: each reading of a model's images against the truth, and the trivial ones."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pcgen.cli import common
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import DataModule, GenerativeModel
    from pcgen.metrics.recovery import Recovered

DECOMPOSED, TAUGHT, TRIVIAL = "decomposed", "taught", "trivial"


@dataclass(frozen=True)
class Known:
    """Images of one split and what is true of them.

    Attributes:
        x: (B, C, H, W).
        true: Brought to where the images have it.
        support: Pixels that show the object (B, H, W), bool.
    """

    x: "Tensor"
    true: "Recovered"
    support: "Tensor"


@dataclass
class Row:
    """One line of the table.

    Attributes:
        name: What the line is called.
        model: Class of the model, None for a trivial reading.
        reading: `DECOMPOSED`, `TAUGHT` or `TRIVIAL`.
        scores: By name.
        parameters: Number of the model's parameters, None for a trivial reading.
        recipe: How the model was built, which is the same for models that differ by their seed alone.
    """

    name: str
    model: str | None
    reading: str
    scores: dict[str, float]
    parameters: int | None = None
    recipe: Any = field(default=None, repr=False)

    def to_plain(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {name: value for name, value in vars(self).items() if name not in {"name", "recipe"}}


def known_of(datamodule: "DataModule", split: str, n: int | None) -> Known:
    """Take the first n images of a split with their truth, all if None.

    Raises:
        ConfigurationError: If the datamodule knows of no warp.
    """
    import torch

    from pcgen.metrics.recovery import in_images

    truth = datamodule.truth(split, n)
    if "grid" not in truth:
        raise ConfigurationError(
            f"{type(datamodule).__name__} does not know the true warp of its data, and recover compares with it: give "
            "models that were trained on Patterns"
        )
    true = in_images(truth)
    assert true.grid is not None
    support = truth.get("support", torch.ones(true.grid.shape[:3], dtype=torch.bool))
    return Known(datamodule.take(split, n).x, true, support)


def rows_of(name: str, model: "GenerativeModel", train: Known, test: Known) -> Iterator[Row]:
    """Measure a checkpoint: what it says itself, if it decomposes, and what its codes tell to one who is told."""
    import torch

    from pcgen.cli.reconstruct import reconstructions
    from pcgen.latents.codes import codes
    from pcgen.metrics.recovery import score_recovery

    y = reconstructions(model, test.x, what=f"{name}: reconstructing")
    about = {"mse": (y - test.x).double().square().mean().item()}
    made = {"parameters": sum(p.numel() for p in model.parameters()), "recipe": model.card()["model"]}
    z = [codes(model, known.x) for known in (train, test)]
    if model.can("decompose"):
        found, gauge = _decomposed(name, model, z, train)
        scores = score_recovery(found, test.true, test.support, gauge=gauge)
        yield Row(name, type(model).__name__, DECOMPOSED, about | scores, **made)
    with common.progress(f"{name}: fitting to the truth"):
        found = _taught(z[0], z[1], train.true)
    told = torch.eye(2, 3, dtype=torch.float64)  # where the canonical frame is
    scores = score_recovery(found, test.true, test.support, gauge=told)
    yield Row(name, type(model).__name__, TAUGHT, about | scores, **made)


def trivial_rows(train: Known, test: Known) -> Iterator[Row]:
    """Measure what needs no model: no warp with the training images' mean layers, and the image as its own layers."""
    from pcgen.metrics.recovery import Recovered, score_recovery
    from pcgen.ops import identity_grid

    B, (H, W) = len(test.x), test.x.shape[2:]
    means = {
        name: None if value is None else value.mean(0).expand(B, *value.shape[1:])
        for name, value in train.true._asdict().items()
    }
    still = Recovered(**means)._replace(grid=identity_grid(H, W).expand(B, -1, -1, -1))
    itself = Recovered(albedo=test.x, shading=test.x.mean(1, keepdim=True))
    for name, found in (("identity warp, mean layers", still), ("the image itself", itself)):
        yield Row(name, None, TRIVIAL, score_recovery(found, test.true, test.support))


def means_of(rows: list[Row]) -> list[tuple[Row, dict[str, float]]]:
    """Average the rows of each reading of models that were built alike, where there are several.

    Returns:
        A row of means, and the standard deviations by name of the score, for each.
    """
    alike: dict[str, list[Row]] = {}
    for row in rows:
        alike.setdefault(repr((row.recipe, row.reading)), []).append(row)
    found = []
    for group in alike.values():
        if len(group) > 1:
            values = {key: [row.scores[key] for row in group] for key in group[0].scores}
            mean = {key: statistics.fmean(each) for key, each in values.items()}
            name = "mean of " + ", ".join(row.name for row in group)
            one = Row(name, group[0].model, group[0].reading, mean, group[0].parameters)
            found.append(
                (
                    one,
                    {
                        key: statistics.stdev(each) if all(map(math.isfinite, each)) else math.nan
                        for key, each in values.items()
                    },
                )
            )
    return found


# ── readings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _decomposed(
    name: str, model: "GenerativeModel", z: "list[Tensor]", train: Known
) -> "tuple[Recovered, Tensor | None]":
    """Read the model's own warp and layers of the test images; landmarks and gauge from the training images."""
    from pcgen.latents.transfer import landmark_places, template_places
    from pcgen.metrics.recovery import fit_gauge

    assert train.true.grid is not None
    with common.progress(f"{name}: decomposing", sum(map(len, z))) as report:
        reference = _own(model, z[0], report, 0)
        found = _own(model, z[1], report, len(z[0]))
    assert reference.grid is not None
    assert found.grid is not None
    gauge = fit_gauge(reference.grid, train.true.grid, train.support)
    if train.true.landmarks is not None:
        places = template_places(reference.grid, train.true.landmarks)
        found = found._replace(landmarks=landmark_places(found.grid, places))
    return found, gauge


def _own(model: "GenerativeModel", z: "Tensor", report: Any, before: int) -> "Recovered":
    """Give what a model makes of codes (B, Z), its layers seen in the images."""
    import torch

    from pcgen.metrics.recovery import Recovered
    from pcgen.ops import warp_images

    parts: dict[str, list[Tensor]] = {}
    for k, part in enumerate(z.split(model.chunk_size)):
        made = model.decompose(part)
        found = {name: warp_images(layer, made.deformation) for name, layer in made.layers.items()}
        for name, value in {"grid": made.deformation, **found}.items():
            parts.setdefault(name, []).append(value.detach().cpu())
        report(before + min((k + 1) * model.chunk_size, len(z)), None)
    return Recovered(**{name: torch.cat(values) for name, values in parts.items()})


def _taught(train: "Tensor", test: "Tensor", true: "Recovered") -> "Recovered":
    """Predict all that is true of the test images linearly from their codes, fitted to the truth of the others."""
    from pcgen.metrics.recovery import Recovered
    from pcgen.metrics.ridge import fit_ridge

    found = {
        name: fit_ridge(train, value.flatten(1)).predict(test).unflatten(1, value.shape[1:])
        for name, value in true._asdict().items()
        if value is not None
    }
    return Recovered(**found)
