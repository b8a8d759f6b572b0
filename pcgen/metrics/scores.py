"""Scores beside the oracle's, with their intervals and their protocol: as a table and as a file."""

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pcgen.errors import ConfigurationError, DataError
from pcgen.io.files import atomic, existing
from pcgen.metrics.bootstrap import Interval
from pcgen.metrics.protocol import Protocol
from pcgen.metrics.tables import Row, ScoreTable

if TYPE_CHECKING:
    from rich.console import Group

FORMAT = 2
READABLE = (1, 2)  # 1 says nothing of pairs, remarks, level, draws and the reference's digest
ORACLE = "oracle (training data)"
_LARGEST = 1 << 24  # bytes
OF_FEATURES = ("fpd", "fid", "kid")


@dataclasses.dataclass(frozen=True)
class Scores:
    """The result of an evaluation.

    Attributes:
        values: Score by name: `mmd_cd`, `cov_cd`, `1nna_cd`, `jsd`, `share_outside_ball` (of the generated points),
            `reference_share_outside_ball`, …, as fractions and squared distances, not percent; of images `fid` and
            `kid`.
        protocol: How they were measured.
        intervals: Low and high end by name, where there is one.
        oracle: The same scores of a training subset of the same size, or {}.
        oracle_intervals: Likewise.
        pairs: By distance, pairs of clouds that were computed to the end, and distinct pairs that there are.
        remarks: Consequences of the sets that a reader has to know.
    """

    values: dict[str, float]
    protocol: Protocol
    intervals: dict[str, Interval] = dataclasses.field(default_factory=dict)
    oracle: dict[str, float] = dataclasses.field(default_factory=dict)
    oracle_intervals: dict[str, Interval] = dataclasses.field(default_factory=dict)
    pairs: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def table(self, title: str = "scores", *, name: str = "model") -> "Group":
        """Give a table for rich: the model's row beside the oracle's, the protocol below.

        Args:
            title: Above it.
            name: Of the model's row.
        """
        return self.score_table(name=name).rich(title)

    def score_table(self, *, name: str = "model") -> ScoreTable:
        """Give the same as data, to be written as Markdown, LaTeX or CSV."""
        rows: dict[str, Row] = {name: (self.values, self.intervals)}
        if self.oracle:
            rows[ORACLE] = (self.oracle, self.oracle_intervals)
        solved = ", ".join(f"{key} {done} of {whole}" for key, (done, whole) in self.pairs.items())
        rest = "; bounds decided the others" if any(done < whole for done, whole in self.pairs.values()) else ""
        notes = (*self.remarks, *([f"pairs of clouds computed to the end: {solved}{rest}"] if solved else []))
        return ScoreTable(rows, (self.protocol.describe(), *notes), self.protocol.extractor)

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
            "pairs": {name: {"computed": done, "of": whole} for name, (done, whole) in self.pairs.items()},
            "remarks": list(self.remarks),
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
            _check_format(plain["format"])
            scores = cls(
                values=_numbers(plain["values"]),
                intervals=_intervals(plain["intervals"]),
                oracle=_numbers(plain["oracle"]),
                oracle_intervals=_intervals(plain["oracle_intervals"]),
                pairs={name: (int(each["computed"]), int(each["of"])) for name, each in plain.get("pairs", {}).items()},
                remarks=tuple(map(str, plain.get("remarks", ()))),
                protocol=Protocol.from_plain(plain["protocol"]),
            )
            scores.protocol.describe()  # which goes to the bottom of it
        except DataError:
            raise
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
            raise DataError(f"not a file of scores: {type(error).__name__} {error}") from error
        return scores

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
        there = existing(path)
        if there.is_file() and there.stat().st_size > _LARGEST:
            raise DataError(f"{path}: {there.stat().st_size} bytes; a file of scores has at most {_LARGEST}")
        try:
            return cls.from_json(there.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}") from error


def compare(rows: Mapping[str, Scores], *, title: str = "scores", ignore: Collection[str] = ()) -> "Group":
    """Give one table of several results, or refuse.

    Args:
        rows: Results by name.
        title: Above the table.
        ignore: Fields of the protocol that may differ.

    Raises:
        ConfigurationError: If protocols differ, with what differs between which two; or if there is nothing.
    """
    return compared(rows, ignore=ignore).rich(title)


def compared(rows: Mapping[str, Scores], *, ignore: Collection[str] = ()) -> ScoreTable:
    """Give the same as data, to be written as Markdown, LaTeX or CSV."""
    if not rows:
        raise ConfigurationError("there are no scores to compare")
    first, *others = rows
    for other in others:
        try:
            rows[first].protocol.require_same(rows[other].protocol, ignore=ignore)
        except ConfigurationError as error:
            raise ConfigurationError(f"{first} and {other}: {error}") from error
    whole = rows[first].protocol
    notes = [note for other in others for note in _how_different(first, other, whole, rows[other].protocol)]
    shown: dict[str, Row] = {name: (result.values, result.intervals) for name, result in rows.items()}
    with_oracle = [name for name, result in rows.items() if result.oracle]
    for name in with_oracle if notes else with_oracle[:1]:  # one protocol, one oracle
        shown[f"{name}: {ORACLE}" if notes else ORACLE] = (rows[name].oracle, rows[name].oracle_intervals)
    if len({result.protocol.extractor for result in rows.values()}) > 1:
        shown = {name: (_without_features(values), ends) for name, (values, ends) in shown.items()}
        notes.append("FPD, FID and KID are left out: the features of different extractors have nothing in common")
    notes += [f"{name}: {remark}" for name, result in rows.items() for remark in result.remarks]
    return ScoreTable(shown, (whole.describe(), *notes), whole.extractor)


def _how_different(first: str, other: str, one: Protocol, another: Protocol) -> list[str]:
    """Say in what a protocol that may differ differs."""
    fields = [f"{name} {theirs!r} instead of {mine!r}" for name, (mine, theirs) in one.differences(another).items()]
    return [f"{other} differs from {first}: {'; '.join(fields)}"] if fields else []


def _without_features(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name not in OF_FEATURES}


def _check_format(found: Any) -> None:
    if isinstance(found, int) and found > FORMAT:
        raise DataError(
            f"scores of format {found}, written by a newer pcgen; this one reads up to {FORMAT}: update pcgen"
        )
    if found not in READABLE:
        raise DataError(f"scores of format {found!r}; this version reads formats {', '.join(map(str, READABLE))}")


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else _number(value) for name, value in values.items()}


def _number(value: Any) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r:.100} where a number belongs")
    return float(value)


def _intervals(ends: Mapping[str, Any]) -> dict[str, Interval]:
    return {name: (_number(low), _number(high)) for name, (low, high) in ends.items()}
