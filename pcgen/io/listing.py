"""What a path holds, before any point of it is read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.cloudset import check_classes, choose


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
    items: list[Item]
    label: NDArray[np.int64] | None = None
    split: NDArray[np.str_] | None = None
    name: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    factors: NDArray[np.float32] | None = None
    factor_names: tuple[str, ...] = ()
    up_axis: int | None = None

    def __post_init__(self) -> None:
        K = len(self.items)
        if not K:
            raise DataError(f"{self.source}: {self.kind} without a single cloud")
        if not self.name:
            object.__setattr__(self, "name", tuple(f"{i:05d}" for i in range(K)))
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
            items=[self.items[i] for i in rows],
            label=label,
            class_names=class_names,
            split=None if self.split is None else self.split[rows],
            name=tuple(self.name[i] for i in rows),
            factors=None if self.factors is None else self.factors[rows],
        )
