"""Putting a shape together from solids: slabs, bars, rods, balls, rings, in metres, z up, front towards −y."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from pcgen.datamodules._primitives import ELLIPSOID, FRUSTUM, PRISM, TORUS, Solids

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]  # rows

IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
UPRIGHT: Matrix = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))  # a slab's depth becomes its height
SIDEWAYS: Matrix = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))  # a slab stands in the y-z plane

# Plain Python below: a shape has tens of solids, and for so few numbers it is faster than arrays.


def turn_x(angle: float) -> Matrix:
    """Rotate about x so that what points up leans towards +y by the angle (radians)."""
    c, s = math.cos(angle), math.sin(angle)
    return ((1.0, 0.0, 0.0), (0.0, c, s), (0.0, -s, c))


def turn_y(angle: float) -> Matrix:
    """Rotate about y so that what points up leans towards +x by the angle (radians)."""
    c, s = math.cos(angle), math.sin(angle)
    return ((c, 0.0, s), (0.0, 1.0, 0.0), (-s, 0.0, c))


def _product(a: Matrix, b: Matrix) -> Matrix:
    x, y, z = (_apply(a, column) for column in zip(*b, strict=True))
    return ((x[0], y[0], z[0]), (x[1], y[1], z[1]), (x[2], y[2], z[2]))


def _apply(a: Matrix, v: Vector) -> Vector:
    x, y, z = (r[0] * v[0] + r[1] * v[1] + r[2] * v[2] for r in a)
    return (x, y, z)


def _along(p: Vector, q: Vector) -> tuple[Matrix, Vector, float]:
    """Give axes whose z runs from p to q and whose x is as near to the world's as can be, the middle, the length."""
    d = (q[0] - p[0], q[1] - p[1], q[2] - p[2])
    length = math.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2)
    z = (d[0] / length, d[1] / length, d[2] / length)
    near = (1.0, 0.0, 0.0) if abs(z[0]) < 0.9 else (0.0, 1.0, 0.0)
    dot = near[0] * z[0] + near[1] * z[1] + near[2] * z[2]
    x = (near[0] - dot * z[0], near[1] - dot * z[1], near[2] - dot * z[2])
    norm = math.sqrt(x[0] ** 2 + x[1] ** 2 + x[2] ** 2)
    x = (x[0] / norm, x[1] / norm, x[2] / norm)
    y = (z[1] * x[2] - z[2] * x[1], z[2] * x[0] - z[0] * x[2], z[0] * x[1] - z[1] * x[0])
    axes = ((x[0], y[0], z[0]), (x[1], y[1], z[1]), (x[2], y[2], z[2]))
    return axes, ((p[0] + q[0]) / 2, (p[1] + q[1]) / 2, (p[2] + q[2]) / 2), length


class Assembly:
    """The solids of one shape, in the order in which they were added."""

    def __init__(self) -> None:
        self.kind: list[int] = []
        self.params: list[tuple[float, float, float, float]] = []
        self.rotation: list[Matrix] = []
        self.center: list[Vector] = []
        self.label: list[int] = []
        self._frame: tuple[Matrix, Vector] | None = None

    def _add(self, kind: int, params: tuple[float, float, float, float], axes: Matrix, at: Vector, label: int) -> None:
        if self._frame is not None:
            turn, origin = self._frame
            axes, moved = _product(turn, axes), _apply(turn, at)
            at = (moved[0] + origin[0], moved[1] + origin[1], moved[2] + origin[2])
        self.kind.append(kind)
        self.params.append(params)
        self.rotation.append(axes)
        self.center.append(at)
        self.label.append(label)

    @contextmanager
    def frame(self, turn: Matrix, origin: Vector) -> Iterator[None]:
        """Add what follows in axes of its own, turned about an origin."""
        before, self._frame = self._frame, (turn, origin)
        try:
            yield
        finally:
            self._frame = before

    def slab(self, at: Vector, size: Vector, label: int, corner: float = 0.0, axes: Matrix = IDENTITY) -> None:
        """Add a box of a full size about a centre; `corner` rounds its outline as seen along its own z."""
        a, b, c = size[0] / 2, size[1] / 2, size[2] / 2
        self._add(PRISM, (a, b, c, min(corner, a, b)), axes, at, label)

    def bar(self, p: Vector, q: Vector, width: float, label: int, depth: float | None = None) -> None:
        """Add a bar with rectangular section from p to q."""
        axes, middle, length = _along(p, q)
        self._add(PRISM, (width / 2, (depth or width) / 2, length / 2, 0.0), axes, middle, label)

    def rod(
        self, p: Vector, q: Vector, radius: float, label: int, end: float | None = None, *, hollow: bool = False
    ) -> None:
        """Add a round rod or cone from p to q, an open sheet if it is hollow."""
        axes, middle, length = _along(p, q)
        self._add(
            FRUSTUM, (radius, radius if end is None else end, length / 2, 0.0 if hollow else 1.0), axes, middle, label
        )

    def ball(self, at: Vector, radii: Vector, label: int, axes: Matrix = IDENTITY) -> None:
        """Add an ellipsoid."""
        self._add(ELLIPSOID, (*radii, 0.0), axes, at, label)

    def ring(
        self, at: Vector, ring: float, tube: float, label: int, axes: Matrix = IDENTITY, half_arc: float = math.pi
    ) -> None:
        """Add a torus about its own z, or an arc of it about its own +x."""
        self._add(TORUS, (ring, tube, half_arc, 0.0), axes, at, label)


def join(assemblies: Sequence[Assembly]) -> Solids:
    """Put the solids of several shapes into one table."""
    counts = [len(a.kind) for a in assemblies]
    return Solids(
        shape=np.repeat(np.arange(len(assemblies)), counts),
        kind=np.array([k for a in assemblies for k in a.kind], np.int64),
        params=np.array([p for a in assemblies for p in a.params], np.float64),
        rotation=np.array([r for a in assemblies for r in a.rotation], np.float64),
        center=np.array([c for a in assemblies for c in a.center], np.float64),
        label=np.array([x for a in assemblies for x in a.label], np.int64),
    )
