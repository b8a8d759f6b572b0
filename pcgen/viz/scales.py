"""Which axis shows several sets of numbers: even, logarithmic, or stretched where the first set lies."""

import math
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOG_SPAN = 10.0  # positive numbers that span more than this factor are drawn on a logarithmic axis
NARROW = 1 / 12  # of an axis: less for the middle of the first set, and nobody sees how it is spread
MIDDLE = (0.05, 0.95)  # quantiles, between which the middle of a set lies
LEAST_WIDTH = 1e-12  # of a stretched axis' straight part, relative to the whole range: keeps edges apart in float64
TICKS = 7


MIDDLE_PLACES = 5.3  # of an "asinh" axis, three times what the middle of the first set takes of it


class Scale(NamedTuple):
    """How numbers become places on an axis.

    Attributes:
        name: "linear", "log", or "asinh": straight within about `width` of `center` and logarithmic farther out, on
            both sides.
        center: Of "asinh".
        width: Of "asinh".
    """

    name: Literal["linear", "log", "asinh"]
    center: float = 0.0
    width: float = 1.0

    def forward(self, x: Floats) -> Floats:
        """Give the places of numbers."""
        if self.name == "log":
            return np.log(x)
        return np.arcsinh((x - self.center) / self.width) if self.name == "asinh" else x

    def inverse(self, places: Floats) -> Floats:
        """Give the numbers at places."""
        if self.name == "log":
            return np.exp(places)
        return self.center + self.width * np.sinh(places) if self.name == "asinh" else places

    def ticks(self, low: float, high: float, count: int = TICKS) -> list[float]:
        """Choose at most so many round numbers from low to high, about evenly apart on the axis."""
        first, last = self.forward(np.array([low, high])).tolist()
        aims = self.inverse(np.linspace(first, last, count))
        steps = np.diff(aims)
        gaps = np.minimum([steps[0], *steps], [*steps, steps[-1]])  # to the nearer neighbour
        ways: list[Callable[[float], float]] = [math.ceil, *[round] * (count - 2), math.floor]  # the ends inwards
        rounded = {_rounded(aim, gap, way) for aim, gap, way in zip(aims.tolist(), gaps.tolist(), ways, strict=True)}
        return sorted(tick for tick in rounded if low <= tick <= high)


def choose_scale(sets: Iterable[Floats], *also: float) -> Scale:
    """Choose an axis on which all numbers find a place and the first set can be read.

    Logarithmic where all are positive and far apart, else linear; but where the middle of the first set (its quantiles
    5 % to 95 %) is narrow on that axis, since others are far away, "asinh" about its median. A first set of equal
    numbers has no middle: then the widest middle of the others counts.

    Args:
        sets: Finite numbers (n,) each, n at least 1.
        also: Further numbers that shall be on the axis.
    """
    known = list(sets)
    pooled = np.concatenate([*known, also])
    low, high = float(pooled.min()), float(pooled.max())
    plain = Scale("log" if low > 0 and high / low > LOG_SPAN else "linear")
    middles = [np.quantile(each, MIDDLE) for each in known]
    start, end = middles[0] if middles[0][1] > middles[0][0] else max(middles, key=lambda m: m[1] - m[0])
    if not end > start:
        return plain
    place = plain.forward(np.array([low, start, end, high]))
    if place[2] - place[1] >= NARROW * (place[3] - place[0]):
        return plain
    width = max((end - start) / 2, LEAST_WIDTH * (high - low))
    return Scale("asinh", float(np.median(known[0])), float(width))


def _rounded(value: float, gap: float, way: Callable[[float], float]) -> float:
    """Round to 1, 2 or 5 times a power of ten that is at most a third of what lies between a tick and the next."""
    power = 10.0 ** np.floor(np.log10(gap / 3))
    step = max(k * power for k in (1, 2, 5) if k * power <= gap / 3 or k == 1)
    return float(way(value / step) * step) + 0.0  # never −0
