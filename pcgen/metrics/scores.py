"""Scores beside the oracle's, with their intervals and their protocol: as a table and as a file."""

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pcgen.errors import ConfigurationError, DataError
from pcgen.io.files import atomic
from pcgen.metrics.bootstrap import Interval
from pcgen.metrics.protocol import Protocol

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Quantity:
    """How a score is shown: its head, where it should go, and what it is multiplied by."""

    label: str
    aim: str
    scale: int = 1
    digits: int = 3

    @property
    def head(self) -> str:
        """Column head, such as `MMD-CD ×10³ ↓`."""
        unit = {1: "", 100: " %", 1000: " ×10³"}[self.scale]
        return f"{self.label}{unit} {self.aim}".strip()


def quantity(name: str) -> Quantity:
    """Say how the score of a name is shown; a name that is not known is shown as it is."""
    swapped = " (swapped)" if name.endswith("_swapped") else ""
    stem, _, distance = name.removesuffix("_swapped").partition("_")
    distance = distance.upper()
    known = {
        "mmd": Quantity(f"MMD-{distance}{swapped}", "↓", 1000),
        "cov": Quantity(f"COV-{distance}{swapped}", "↑", 100, 1),
        "1nna": Quantity(f"1-NNA-{distance}", "→ 50", 100, 1),
        "jsd": Quantity("JSD", "↓", digits=4),
        "share": Quantity("outside ball", "", 100, 2),
        "reference": Quantity("reference outside ball", "", 100, 2),
        "chamfer": Quantity("Chamfer", "↓", 1000),
        "reconstruction": Quantity("covered by reconstructions", "↑", 100, 1),
        "own": Quantity("by their own", "↑", 100, 1),
    }
    return known.get(stem, Quantity(name, ""))


@dataclasses.dataclass(frozen=True)
class Scores:
    """The result of an evaluation.

    Attributes:
        values: Score by name: `mmd_cd`, `cov_cd`, `1nna_cd`, `jsd`, `share_outside_ball` (of the generated points),
            `reference_share_outside_ball`, …, as fractions and squared distances, not percent.
        protocol: How they were measured.
        intervals: Low and high end by name, where there is one.
        oracle: The same scores of a training subset of the same size, or {}.
        oracle_intervals: Likewise.
    """

    values: dict[str, float]
    protocol: Protocol
    intervals: dict[str, Interval] = dataclasses.field(default_factory=dict)
    oracle: dict[str, float] = dataclasses.field(default_factory=dict)
    oracle_intervals: dict[str, Interval] = dataclasses.field(default_factory=dict)

    def table(self, title: str = "scores", *, name: str = "model") -> "Table":
        """Give a table for rich: the model's row beside the oracle's, the protocol below.

        Args:
            title: Above it.
            name: Of the model's row.
        """
        rows = {name: (self.values, self.intervals)}
        if self.oracle:
            rows["oracle (training data)"] = (self.oracle, self.oracle_intervals)
        return _table(title, rows, self.protocol.describe())

    def plain_table(self) -> tuple[list[str], list[list[Any]]]:
        """Give heads and rows of plain values, for a logger's table: raw scores, the protocol in the last column."""
        rows = {"model": self.values} | ({"oracle": self.oracle} if self.oracle else {})
        names = list(self.values)
        protocol = self.protocol.describe()
        return ["", *names, "protocol"], [
            [row, *(values.get(name, math.nan) for name in names), protocol] for row, values in rows.items()
        ]

    def to_json(self) -> str:
        """Give it as JSON; NaN becomes null, which every reader takes."""
        plain = {
            "format": FORMAT,
            "values": _finite(self.values),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "oracle": _finite(self.oracle),
            "oracle_intervals": {name: list(ends) for name, ends in self.oracle_intervals.items()},
            "protocol": self.protocol.to_plain(),
        }
        return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Make it from what `to_json` gave.

        Raises:
            DataError: If the text is something else.
        """
        try:
            plain = json.loads(text)
            if plain["format"] != FORMAT:
                raise DataError(f"scores of format {plain['format']!r}; this version reads format {FORMAT}")
            return cls(
                values=_numbers(plain["values"]),
                intervals={name: (low, high) for name, (low, high) in plain["intervals"].items()},
                oracle=_numbers(plain["oracle"]),
                oracle_intervals={name: (low, high) for name, (low, high) in plain["oracle_intervals"].items()},
                protocol=Protocol.from_plain(plain["protocol"]),
            )
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise DataError(f"not a file of scores: {type(error).__name__} {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the JSON, all of it or nothing, making the folder if need be.

        Raises:
            DataError: If it cannot be written.
        """
        text = self.to_json()
        with atomic(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: If the file is missing or something else.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}") from error


def compare(rows: Mapping[str, Scores], *, title: str = "scores", ignore: Collection[str] = ()) -> "Table":
    """Give one table of several results, or refuse.

    Args:
        rows: Results by name.
        title: Above the table.
        ignore: Fields of the protocol that may differ.

    Raises:
        ConfigurationError: If protocols differ, with what differs between which two; or if there is nothing.
    """
    if not rows:
        raise ConfigurationError("there are no scores to compare")
    first, *others = rows
    for other in others:
        try:
            rows[first].protocol.require_same(rows[other].protocol, ignore=ignore)
        except ConfigurationError as error:
            raise ConfigurationError(f"{first} and {other}: {error}") from error
    shown = {name: (result.values, result.intervals) for name, result in rows.items()}
    if oracle := next((result for result in rows.values() if result.oracle), None):  # one protocol, one oracle
        shown["oracle (training data)"] = (oracle.oracle, oracle.oracle_intervals)
    note = f" (but for {', '.join(ignore)})" if ignore else ""
    return _table(title, shown, rows[first].protocol.describe() + note)


def _table(title: str, rows: Mapping[str, tuple[Mapping[str, float], Mapping[str, Interval]]], caption: str) -> "Table":
    from rich.table import Table

    names = list(dict.fromkeys(name for values, _ in rows.values() for name in values))
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("")
    for name in names:
        table.add_column(quantity(name).head, justify="right")
    for row, (values, intervals) in rows.items():
        table.add_row(row, *(_cell(name, values.get(name), intervals.get(name)) for name in names))
    return table


def _cell(name: str, value: float | None, interval: Interval | None) -> str:
    shown = quantity(name)
    if value is None:
        return "–"
    text = f"{value * shown.scale:.{shown.digits}f}"
    if interval is None:
        return text
    low, high = (end * shown.scale for end in interval)
    return f"{text}\n\\[{low:.{shown.digits}f}, {high:.{shown.digits}f}]"


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in values.items()}
