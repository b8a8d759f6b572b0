"""How a score was measured: without it a score is a number."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from pathlib import PurePath
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from pcgen import __version__
from pcgen.errors import ConfigurationError, DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """What two scores must have in common to be compared. Plain values alone.

    Attributes:
        data: Name of the reference data.
        split: Split of it.
        num_reference: Reference shapes.
        num_generated: Generated shapes, or reconstructions.
        num_points: Points of a reference cloud; None for images.
        num_generated_points: Points of a generated cloud; None for images.
        normalization: What was applied to the data, as plain values; {} for none.
        distances: What stands behind each distance's short name: kind, reduction, solver.
        jsd_radius: Radius of the ball that was scaled to ½ for the Jensen-Shannon divergence; None without it.
        jsd_resolution: Grid centres on an axis.
        seed: Of the samples, of the oracle's subset and of the intervals.
        chunk: Samples drawn at once, which is part of the seed; None for clouds that came from a file.
        extractor: Identity of the network whose features were compared, if any: name, hash, axis taken for up.
        level: Of the confidence intervals; None without them.
        draws: Of the bootstrap that gave them.
        reference: Digest of the reference as it was compared: two files of one name may differ.
        image_shape: [C, H, W] of images; None for clouds.
        version: Of the code.
    """

    data: str
    split: str
    num_reference: int
    num_generated: int
    num_points: int | None
    num_generated_points: int | None
    normalization: dict[str, Any]
    distances: dict[str, str]
    jsd_radius: float | None = None
    jsd_resolution: int | None = None
    seed: int = 0
    chunk: int | None = None
    extractor: str | None = None
    level: float | None = 0.95
    draws: int = 1000
    reference: str = ""
    image_shape: list[int] | None = None
    version: str = __version__

    def differences(self, other: "Protocol") -> dict[str, tuple[Any, Any]]:
        """Give the fields in which the other protocol differs, with both values."""
        mine, theirs = self.to_plain(), other.to_plain()
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}

    def require_same(self, other: "Protocol", *, ignore: Collection[str] = ()) -> None:
        """Refuse to compare with a score of another protocol.

        Args:
            other: The other score's.
            ignore: Fields that may differ.

        Raises:
            ConfigurationError: With everything that differs.
        """
        names = {field.name for field in dataclasses.fields(self)}
        if unknown := sorted(set(ignore) - names):
            raise ConfigurationError(f"a protocol has no {', '.join(unknown)}; it has {', '.join(sorted(names))}")
        differ = {name: pair for name, pair in self.differences(other).items() if name not in ignore}
        if differ:
            listed = "; ".join(f"{name} {mine!r} against {theirs!r}" for name, (mine, theirs) in differ.items())
            remedy = f"to compare them all the same, ignore {','.join(differ)}"
            raise ConfigurationError(f"scores of different protocols are not compared: {listed} ({remedy})")

    def describe(self) -> str:
        """Give it as one line for people, without what is empty."""
        plain = {name: value for name, value in self.to_plain().items() if value not in (None, {}, "")}
        if self.normalization.get("scope") == "none":  # the region and radius of nothing would mislead
            plain["normalization"] = "none"
        return ", ".join(f"{name.replace('_', ' ')} {_words(value)}" for name, value in plain.items())

    def to_plain(self) -> dict[str, Any]:
        """Give it as plain values, with lists for tuples, as JSON would."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Make it from what `to_plain` gave.

        Raises:
            DataError: If fields are missing, unknown, or of the wrong kind.
        """
        try:
            protocol = cls(**plain)
        except TypeError as error:
            raise DataError(f"not the protocol of a score: {error}") from error
        for name, kind in get_type_hints(cls).items():
            value = getattr(protocol, name)
            if not _fits(value, kind):
                raise DataError(f"not the protocol of a score: its {name} is {value!r:.100}, {kind} is needed")
        return protocol


def ball_radius(normalization: Mapping[str, Any]) -> float | None:
    """Give the radius of the ball about the origin that normalised data lie in.

    Args:
        normalization: As a datamodule gives it: `scope`, `region` ("ball" or "box") and `radius` (half the side of
            the box).

    Returns:
        The radius; for a box that of its corners; None where nothing is known.
    """
    if normalization.get("scope", "none") == "none" or "radius" not in normalization:
        return None
    return float(normalization["radius"]) * (math.sqrt(3) if normalization.get("region") == "box" else 1)


def data_name(kind: str, info: Mapping[str, Any]) -> str:
    """Name data for a protocol: the same on every machine, so without the folder they lie in.

    Args:
        kind: Of data, such as the datamodule's class.
        info: `DataModule.info()`, or as much of it as is known.

    Returns:
        The file's name for data of one file, the kind with its variant for others, and the classes: such as
        `chairs.h5 (chair)` and `ModelNet10 (chair)`.
    """
    arguments = (info.get("recipe") or {}).get("init_args") or {}
    name = PurePath(str(arguments.get("path") or "")).name or f"{kind}{arguments.get('variant') or ''}"
    classes = ", ".join(info.get("class_names") or ())
    return name + (f" ({classes})" if classes else "")


def _fits(value: Any, kind: Any) -> bool:
    """Say whether a plain value is of an annotated kind; what containers hold is not looked at."""
    if get_origin(kind) is UnionType:
        return any(_fits(value, each) for each in get_args(kind))
    kind = get_origin(kind) or kind
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return isinstance(value, kind)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name}: {_words(each)}" for name, each in value.items() if each is not None) + ")"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
