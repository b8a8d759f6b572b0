"""A set in many HDF5 files, the shards, and the index that makes a folder of them a set.

A shard is an HDF5 file of clouds like any other. `shards.json` is there from the beginning and says how the set is
made; it says last of all that the set is whole, so a folder without that word is unfinished, whatever it holds.
"""

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pcgen.errors import DataError
from pcgen.io.files import atomic
from pcgen.io.hdf5 import open_catalog, opened
from pcgen.io.listing import Catalog, Items
from pcgen.io.mesh import Method
from pcgen.io.names import join

INDEX = "shards.json"
_FORMAT = "pcgen shards 1"
_SHARD = re.compile(r"shard-\d{5,}-of-\d{5,}\.h5")
MOST_SHARDS = 100_000  # of a set: a short index could announce any number, and each is a file to be looked for
_LARGEST_INDEX = 16 << 20  # bytes: room for the names of so many
_OTHER_SET = "they are not of one set; copy it again, or prepare it anew with --overwrite"
_GO_ON = "run the same `pcgen data prepare` again, which goes on where it stopped"


@dataclass(frozen=True)
class Plan:
    """What a prepared set depends on, and how it is cut.

    Attributes:
        num_points: Points a cloud.
        method: How meshes are sampled.
        seed: Of the samples.
        fingerprint: Of the source.
        version: Of pcgen.
        clouds: In the source.
        shard_size: Of them in a shard; those that cannot be converted are left out.
    """

    num_points: int
    method: Method
    seed: int
    fingerprint: str
    version: str
    clouds: int
    shard_size: int

    def rows(self) -> list[range]:
        """Give the rows of the source that each shard takes."""
        starts = range(0, self.clouds, self.shard_size)
        return [range(i, min(i + self.shard_size, self.clouds)) for i in starts]

    def num_shards(self) -> int:
        """Count the shards."""
        return -(-self.clouds // self.shard_size)

    def files(self) -> list[str]:
        """Give the names of the shards."""
        count = self.num_shards()
        return [f"shard-{i:05d}-of-{count:05d}.h5" for i in range(count)]

    def attributes(self) -> dict[str, Any]:
        """Give what a file says about how it was made."""
        told = asdict(self)
        return {k: told[k] for k in ("num_points", "method", "seed", "fingerprint", "version")}

    def differences(self, other: "Plan") -> str:
        """Say in which respects another plan differs, "" if in none."""
        pairs = [(k, v, getattr(other, k)) for k, v in asdict(self).items()]
        differing = [(k, a, b) for k, a, b in pairs if a != b]
        words = [k if k == "fingerprint" else f"{k} {b} instead of {a}" for k, a, b in differing]
        return ", ".join(words).replace("fingerprint", "files of the source that changed")


@dataclass(frozen=True)
class Index:
    """What `shards.json` says.

    Attributes:
        plan: How the set is made.
        counts: Clouds in each shard; None as long as the set is unfinished.
    """

    plan: Plan
    counts: list[int] | None = None

    def write(self, folder: Path) -> None:
        """Write it, so that it outlives a power cut."""
        told: dict[str, Any] = {"format": _FORMAT, "finished": self.counts is not None, **asdict(self.plan)}
        if self.counts is not None:
            files = zip(self.plan.files(), self.counts, strict=True)
            told["shards"] = [{"file": name, "clouds": count} for name, count in files]
        with atomic(folder / INDEX, durable=True) as temporary:
            temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def read_index(folder: Path) -> Index | None:
    """Read the index of a folder; None if it has none.

    Raises:
        DataError: If it is not one of ours.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        return _index(_parsed(path))
    except (ValueError, TypeError, KeyError, RecursionError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); prepare the set anew, with --overwrite") from error


def _parsed(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LARGEST_INDEX:
        raise ValueError(f"{path.stat().st_size} bytes")
    told = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(told, dict) or told.get("format") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT!r}")
    return told


def _index(told: dict[str, Any]) -> Index:
    kinds = {"num_points": int, "method": str, "seed": int, "fingerprint": str, "version": str}
    plan = Plan(**{k: _of_kind(told, k, kind) for k, kind in (kinds | {"clouds": int, "shard_size": int}).items()})
    if min(plan.num_points, plan.clouds, plan.shard_size) < 1 or plan.num_shards() > MOST_SHARDS:
        raise ValueError(f"{plan.clouds} clouds in shards of {plan.shard_size}")
    if not told.get("finished"):
        return Index(plan)
    shards = told["shards"]
    counts = [_of_kind(shard, "clouds", int) for shard in shards]
    if plan.num_shards() != len(shards) or [s["file"] for s in shards] != plan.files():
        raise ValueError("its shards are not those of its plan")
    if not all(0 <= k <= len(rows) for k, rows in zip(counts, plan.rows(), strict=True)) or not sum(counts):
        raise ValueError(f"{sum(counts)} clouds in {len(counts)} shards of up to {plan.shard_size}")
    return Index(plan, counts)


def _of_kind(told: dict[str, Any], key: str, kind: type) -> Any:
    if type(told[key]) is not kind:
        raise TypeError(f"{key} is {told[key]!r}")
    return told[key]


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_sharded(folder: Path) -> bool:
    """Say whether a folder is, or should be, a set of shards."""
    return (folder / INDEX).is_file() or any(_SHARD.fullmatch(p.name) for p in folder.glob("shard-*.h5"))


def shard_catalog(folder: Path) -> Catalog:
    """List the clouds of a set of shards, in the order of its source.

    Raises:
        DataError: If the set is unfinished, or a shard is missing or not the one that was written.
    """
    index = read_index(folder)
    if index is None:
        raise DataError(f"{folder} holds shards without their {INDEX}: copy it too, or prepare the set anew")
    plan = index.plan
    if index.counts is None:
        count = len(set(plan.files()) & {p.name for p in folder.iterdir()})
        raise DataError(f"{folder} is unfinished, with {count} of {plan.num_shards()} shards: {_GO_ON}")
    shards = zip(plan.files(), plan.rows(), index.counts, strict=True)
    return joined(str(folder), [_part(folder / file, plan, rows, k) for file, rows, k in shards if k])


def _part(path: Path, plan: Plan, rows: range, count: int) -> Catalog:
    if not path.is_file():
        raise DataError(f"{path} is missing: copy it again, or prepare the set anew with --overwrite")
    with opened(path) as file:
        part, differing = open_catalog(path, file), _differing(file, plan, rows)
    if len(part) != count:
        raise DataError(f"{path} has {len(part)} clouds instead of {count}: {_OTHER_SET}")
    if differing:
        raise DataError(f"{path} differs from {INDEX} in {', '.join(differing)}: {_OTHER_SET}")
    return part


def _differing(file: Any, plan: Plan, rows: range) -> list[str]:
    """Give what a shard says otherwise of how it was made, or does not say, than a plan."""
    expected = plan.attributes() | {"first": rows.start, "last": rows.stop - 1}
    return [k for k, v in expected.items() if _attribute(file, k) != v]


def _attribute(file: Any, name: str) -> int | str | None:
    """Read a number or a text that a shard has been given; None if there is none of that kind.

    Texts of a fixed length alone: others lie in a heap, of which a damaged one keeps HDF5 busy forever.
    """
    there = file.attrs.get_id(name) if name in file.attrs else None
    if there is None or there.shape or there.dtype.kind not in "iS":
        return None
    value = file.attrs[name]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else int(value)


def joined(source: str, parts: list[Catalog]) -> Catalog:
    """Put the listings of shards of one set one after the other.

    Raises:
        DataError: If they do not have the same columns, classes, factors and axis.
    """
    first = parts[0]
    for part in parts[1:]:
        different = [k for k, v in _common(part).items() if v != _common(first)[k]]
        if different:
            raise DataError(f"{part.source} and {first.source} have different {', '.join(different)}: {_OTHER_SET}")
    every: dict[str, Any] = {}
    for column in ("label", "split", "factors"):
        there = [getattr(p, column) for p in parts]
        every[column] = None if there[0] is None else np.concatenate(there)
    return replace(
        first,
        source=source,
        kind="a folder of HDF5 shards",
        items=Items.joined([p.items for p in parts]),
        name=join([p.name for p in parts]),
        **every,
    )


def _common(part: Catalog) -> dict[str, Any]:
    """Give what is the same in all shards of a set."""
    told: dict[str, Any] = {k: getattr(part, k) for k in ("class_names", "factor_names", "up_axis")}
    told["columns"] = [k for k in ("label", "split", "factors") if getattr(part, k) is not None]
    return told | {"numbers of factors": None if part.factors is None else part.factors.shape[1:]}


# ── making ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def whole(path: Path, plan: Plan, rows: range) -> bool:
    """Say whether a shard is there, whole, and what the plan asks for."""
    with suppress(DataError), opened(path) as file:
        points, failed = file["points"], len(file["failed"]) if "failed" in file else 0
        K = len(rows) - failed
        return (
            not _differing(file, plan, rows)
            and points.shape == (K, plan.num_points, 3)
            and points.id.get_storage_size() == 12 * K * plan.num_points
            and len(file["name"]) == K
        )
    return False


def ours(path: Path) -> bool:
    """Say whether a file in a folder of shards is one of its own."""
    return path.name == INDEX or _SHARD.fullmatch(path.name) is not None
