"""The classes of `Shapes`: what makes them, between which bounds their factors lie, and how large they are drawn."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcgen.datamodules import _furniture, _seats
from pcgen.datamodules._assembly import Assembly, join
from pcgen.datamodules._furniture import PARTS, Factors
from pcgen.datamodules._primitives import boxes, sample_union

__all__ = ["CLASSES", "FACTORS", "PARTS", "generate"]

FACTORS = Factors._fields
_LENGTHS = np.array([name not in ("tilt", "roundness") for name in FACTORS])
_CHUNK = 24  # shapes of a class sampled at once: few calls, and what they work on stays in the cache

Range = tuple[float, float]


class Made(NamedTuple):
    """Clouds of generated shapes, with all that is known of them.

    Attributes:
        points: (K, N, 3), centred on the middle of the shape's box.
        part: Which part each point belongs to (K, N), an index into `PARTS`.
        factors: (K, F), see `FACTORS`.
        has: Whether each shape has each part (K, P).
    """

    points: NDArray[np.float32]
    part: NDArray[np.int64]
    factors: NDArray[np.float32]
    has: NDArray[np.bool_]


class Kind(NamedTuple):
    """A class of furniture: its builder, its scale (1 / metre), and the bounds of its factors in metres and radians."""

    build: Callable[[np.random.Generator, Factors], Assembly]
    scale: float
    width: Range
    depth: Range
    leg_height: Range
    upper_height: Range
    tilt: Range
    thickness: Range
    roundness: Range = (0.0, 1.0)


# The scales bring every class to about the same size, the largest shape just inside the unit ball.
CLASSES: dict[str, Kind] = {
    "bed": Kind(_seats.bed, 0.62, (0.95, 1.8), (1.75, 2.1), (0.1, 0.35), (0.2, 0.7), (0, 0.3), (0.14, 0.3)),
    "chair": Kind(_seats.chair, 1.35, (0.38, 0.6), (0.38, 0.56), (0.32, 0.52), (0.3, 0.6), (0, 0.35), (0.03, 0.09)),
    "desk": Kind(_furniture.desk, 0.95, (1.0, 1.6), (0.5, 0.8), (0.45, 0.65), (0.06, 0.16), (0, 0.3), (0.02, 0.06)),
    "lamp": Kind(_furniture.lamp, 1.25, (0.25, 0.6), (0.18, 0.4), (0.45, 0.95), (0.15, 0.4), (0, 0.5), (0.014, 0.03)),
    "shelf": Kind(_furniture.shelf, 1.0, (0.5, 1.0), (0.22, 0.42), (0.05, 0.25), (0.7, 1.4), (0, 0.25), (0.018, 0.045)),
    "sofa": Kind(_seats.sofa, 0.72, (1.3, 2.2), (0.75, 0.95), (0.05, 0.2), (0.2, 0.45), (0, 0.35), (0.1, 0.26)),
    "stool": Kind(_seats.stool, 1.75, (0.3, 0.48), (0.28, 0.44), (0.32, 0.7), (0.01, 0.1), (0, 0.22), (0.03, 0.08)),
    "table": Kind(_furniture.table, 0.88, (0.8, 1.6), (0.6, 1.0), (0.3, 0.65), (0.04, 0.14), (0, 0.3), (0.025, 0.07)),
}


def draw(name: str, rng: np.random.Generator) -> tuple[Assembly, NDArray[np.float64]]:
    """Draw one shape of a class: its solids in metres, and its seven factors in the units of its cloud."""
    kind = CLASSES[name]
    low, high = np.array([getattr(kind, f) for f in FACTORS]).T
    values = low + (high - low) * rng.random(len(FACTORS))
    return kind.build(rng, Factors(*values.tolist())), np.where(_LENGTHS, values * kind.scale, values)


def generate(names: Sequence[str], num_points: int, seeds: Sequence[Sequence[int]]) -> Made:
    """Make one cloud for each class name given.

    Args:
        names: A class for each cloud (K).
        num_points: N.
        seeds: What each cloud's chance depends on, numbers (K, …).
    """
    made = Made(
        points=np.empty((len(names), num_points, 3), np.float32),
        part=np.empty((len(names), num_points), np.int64),
        factors=np.empty((len(names), len(FACTORS)), np.float32),
        has=np.zeros((len(names), len(PARTS)), np.bool_),
    )
    for name, kind in CLASSES.items():  # shapes of one class have about as many solids, which saves work
        members = np.flatnonzero(np.array(names) == name)
        for rows in np.split(members, range(_CHUNK, len(members), _CHUNK)):
            if not len(rows):
                continue
            drawn = [draw(name, np.random.default_rng(list(seeds[i]))) for i in rows]
            x, made.part[rows] = _sample([assembly for assembly, _ in drawn], num_points, list(seeds[rows[0]]))
            made.points[rows] = x * kind.scale
            made.factors[rows] = [f for _, f in drawn]
            for i, (assembly, _) in zip(rows, drawn, strict=True):
                made.has[i, assembly.label] = True
    return made


def _sample(
    assemblies: list[Assembly], num_points: int, seed: list[int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    solids = join(assemblies)
    low, high = boxes(solids)
    first = np.searchsorted(solids.shape, np.arange(len(assemblies)))
    middle = (np.minimum.reduceat(low, first) + np.maximum.reduceat(high, first)) / 2  # (S, 3)
    x, label, _ = sample_union(solids, num_points, np.random.default_rng([*seed, 1]))
    return x - middle[:, None], label
