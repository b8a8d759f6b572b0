"""What a file of clouds holds, for `pcgen data info`."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.cloudset import SPLITS
from pcgen.io.formats import DEFAULT_POINTS, is_mesh, read_raw
from pcgen.io.listing import Catalog, Items
from pcgen.io.reading import catalog, read_rows

_READ = 64  # clouds looked at in a folder, spread over it: reading all would take minutes
_CHUNK = 256


def describe_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a file or folder of clouds.

    Args:
        path: Anything that `read_clouds` takes.

    Returns:
        Plain values: `path`, `kind`, `clouds`, `points` (a number, or [fewest, most]; of meshes the default that is
        drawn), `meshes`, `splits` {name: clouds}, `classes` {name: {split: clouds}}, `factors` (names), `up_axis`
        (0, 1, 2 or None) and in a word `up axis` (x, y, z or unknown), `low` and `high` (3 coordinates each), `sizes`
        [smallest, median, largest] longest side of a cloud, `non_finite` (clouds with NaN or infinity), `looked_at`
        (clouds that the last four are taken from) and `unreadable` [(file, reason)].

    Raises:
        DataError: If it is not there or of an unknown kind.
    """
    listing = catalog(path)
    alone = listing.items[0].row is None
    rows = np.unique(np.linspace(0, len(listing) - 1, _READ).astype(int)) if alone else np.arange(len(listing))
    items = listing.items.take(rows)
    extents, unreadable = _Extents(), []
    for begin, end in items.runs():
        for start in range(begin, end, _CHUNK):
            unreadable += _look(items[start : min(start + _CHUNK, end)], extents)
    meshes = alone and is_mesh(listing.items[0].path)
    return {
        "path": str(path),
        "kind": listing.kind,
        "clouds": len(listing),
        "points": DEFAULT_POINTS if meshes else extents.points(),
        "meshes": meshes,
        "splits": _by_split(listing, np.ones(len(listing), dtype=bool)),
        "classes": _classes(listing),
        "factors": list(listing.factor_names),
        "up_axis": listing.up_axis,
        "up axis": "unknown" if listing.up_axis is None else "xyz"[listing.up_axis],
        **extents.plain(),
        "looked_at": len(items) - len(unreadable),
        "unreadable": unreadable,
    }


def _classes(listing: Catalog) -> dict[str, dict[str, int]]:
    if listing.label is None:
        return {}
    return {name: _by_split(listing, listing.label == i) for i, name in enumerate(listing.class_names)}


def _by_split(listing: Catalog, mask: NDArray[np.bool_]) -> dict[str, int]:
    if listing.split is None:
        return {"all": int(mask.sum())}
    counts = {s: int((mask & (listing.split == s)).sum()) for s in SPLITS}
    return {s: n for s, n in counts.items() if n}


def _look(items: Items, extents: "_Extents") -> list[tuple[str, str]]:
    try:
        extents.add(read_raw(items[0].path)[None] if items[0].row is None else read_rows(items))
    except DataError as error:
        return [(str(i), str(error)) for i in items]
    return []


class _Extents:
    """Running extents of clouds."""

    def __init__(self) -> None:
        self.low, self.high = np.full(3, np.inf), np.full(3, -np.inf)
        self.sizes: list[float] = []
        self.numbers: set[int] = set()
        self.non_finite = 0

    def add(self, clouds: NDArray[Any]) -> None:
        """Take clouds (k, N, 3) into account; those that are not finite are only counted."""
        self.numbers.add(int(clouds.shape[1]))
        finite = np.isfinite(clouds).all((1, 2))
        self.non_finite += int((~finite).sum())
        low, high = clouds[finite].min(1), clouds[finite].max(1)  # (k, 3)
        self.sizes += (high - low).max(-1).tolist()
        if len(low):
            self.low, self.high = np.minimum(self.low, low.min(0)), np.maximum(self.high, high.max(0))

    def points(self) -> int | list[int] | None:
        """Return the number of points, or the fewest and the most."""
        if len(self.numbers) > 1:
            return [min(self.numbers), max(self.numbers)]
        return next(iter(self.numbers), None)

    def plain(self) -> dict[str, Any]:
        """Return low, high, sizes and the number of clouds that are not finite."""
        some = bool(self.sizes)
        return {
            "low": self.low.tolist() if some else None,
            "high": self.high.tolist() if some else None,
            "sizes": [min(self.sizes), float(np.median(self.sizes)), max(self.sizes)] if some else None,
            "non_finite": self.non_finite,
        }
