"""What a path holds, before any point of it is read: in arrays, because a set may have millions of clouds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.cloudset import check_classes, choose
from pcgen.io.names import Names, take


@dataclass(frozen=True)
class Item:
    """Where one cloud or mesh lies.

    Attributes:
        path: Its file.
        dataset: Name of the array inside the file, "" where the file is one.
        row: Its row in that array, None where the file holds it alone.
    """

    path: Path
    dataset: str = ""
    row: int | None = None

    def __str__(self) -> str:
        inside = f":{self.dataset}" if self.dataset else ""
        return f"{self.path}{inside}" + ("" if self.row is None else f"[{self.row}]")


class Items(Sequence[Item]):
    """Where many clouds lie: an `Item` is made when it is asked for.

    Args:
        arrays: (file, name of the array inside) of each array.
        array: In which of them each cloud lies (K,).
        row: In which row of it (K,), -1 where the file holds it alone.
    """

    def __init__(self, arrays: Sequence[tuple[Path, str]], array: NDArray[np.int64], row: NDArray[np.int64]) -> None:
        self.arrays, self.array, self.row = tuple(arrays), array, row

    @classmethod
    def rows(cls, path: Path, dataset: str, count: int) -> "Items":
        """List all rows of one array."""
        return cls([(path, dataset)], np.zeros(count, np.int64), np.arange(count))

    @classmethod
    def files(cls, paths: Sequence[Path]) -> "Items":
        """List files of one cloud each."""
        return cls([(p, "") for p in paths], np.arange(len(paths)), np.full(len(paths), -1))

    @classmethod
    def joined(cls, parts: Sequence["Items"]) -> "Items":
        """Put lists one after the other."""
        starts = np.cumsum([0, *(len(p.arrays) for p in parts)])
        array = [p.array + start for p, start in zip(parts, starts, strict=False)]
        none = np.empty(0, np.int64)
        rows = np.concatenate([none, *(p.row for p in parts)])
        return cls([a for p in parts for a in p.arrays], np.concatenate([none, *array]), rows)

    def __len__(self) -> int:
        return len(self.row)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "Items": ...
    def __getitem__(self, index: int | slice) -> "Item | Items":
        if isinstance(index, slice):
            return Items(self.arrays, self.array[index], self.row[index])
        path, dataset = self.arrays[self.array[index]]
        row = int(self.row[index])
        return Item(path, dataset, None if row < 0 else row)

    def take(self, rows: NDArray[np.int64]) -> "Items":
        """Keep some, in the order asked."""
        return Items(self.arrays, self.array[rows], self.row[rows])

    def compact(self) -> "Items":
        """Forget the arrays in which none lies: a few clouds of many files then are quickly sent to a process."""
        used, array = np.unique(self.array, return_inverse=True)
        return Items([self.arrays[i] for i in used.tolist()], array.reshape(-1), self.row)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Give (start, stop) of neighbours that lie in one array."""
        edges = np.flatnonzero(np.diff(self.array)) + 1
        if len(self):
            yield from pairwise([0, *edges.tolist(), len(self)])


@dataclass(frozen=True, eq=False)
class Catalog:
    """The clouds of a path, not yet read; fields as in `CloudSet`.

    Attributes:
        source: The path, for messages.
        kind: What it is, in words.
        items: Where each cloud lies.
    """

    source: str
    kind: str
    items: Items
    label: NDArray[np.int64] | None = None
    split: NDArray[np.str_] | None = None
    name: Sequence[str] = ()
    class_names: tuple[str, ...] = ()
    factors: NDArray[np.float32] | None = None
    factor_names: tuple[str, ...] = ()
    up_axis: int | None = None

    def __post_init__(self) -> None:
        K = len(self.items)
        if not K:
            raise DataError(f"{self.source}: {self.kind} without a single cloud")
        if not self.name:
            object.__setattr__(self, "name", Names.numbers(K))
        for field in ("label", "split", "name", "factors"):
            value = getattr(self, field)
            if value is not None and len(value) != K:
                raise DataError(f"{self.source}: {K} clouds but {len(value)} entries in {field}; one for each cloud")
        object.__setattr__(self, "class_names", check_classes(self.label, self.class_names, self.source))

    def __len__(self) -> int:
        return len(self.items)

    def select(self, split: str | None, classes: Sequence[str] | str | None) -> "Catalog":
        """Keep a split, or classes, or both; as `CloudSet.select`."""
        if split is None and classes is None:
            return self
        rows, known = choose(self, split, classes)
        return self.take(rows, known["label"], known["class_names"])

    def take(self, rows: NDArray[np.int64], label: NDArray[np.int64] | None, class_names: tuple[str, ...]) -> "Catalog":
        """Keep some rows, with their labels numbered anew."""
        return replace(
            self,
            items=self.items.take(rows),
            label=label,
            class_names=class_names,
            split=None if self.split is None else self.split[rows],
            name=take(self.name, rows),
            factors=None if self.factors is None else self.factors[rows],
        )
