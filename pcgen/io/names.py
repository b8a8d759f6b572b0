"""Names of very many clouds."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Names(Sequence[str]):
    """Names kept as bytes of one length, a quarter of what strings take: each is decoded when it is asked for.

    Args:
        encoded: UTF-8 (K,) of NumPy's type `S`.
    """

    def __init__(self, encoded: NDArray[np.bytes_]) -> None:
        self.encoded = encoded

    @classmethod
    def numbers(cls, count: int) -> "Names":
        """Name clouds by their numbers, of five digits or more."""
        return cls(np.char.mod(b"%05d", np.arange(count)))

    def __len__(self) -> int:
        return len(self.encoded)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Names": ...
    def __getitem__(self, index: int | slice) -> "str | Names":
        if isinstance(index, slice):
            return Names(self.encoded[index])
        return bytes(self.encoded[index]).decode()

    def __iter__(self) -> Iterator[str]:
        return (v.decode() for v in self.encoded.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Names | tuple) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def take(names: Sequence[str], rows: NDArray[np.int64]) -> Sequence[str]:
    """Keep some names."""
    return Names(names.encoded[rows]) if isinstance(names, Names) else tuple(names[i] for i in rows.tolist())


def encode(names: Sequence[str]) -> NDArray[np.bytes_]:
    """Give names as UTF-8 (K,), whose order is that of the strings."""
    return names.encoded if isinstance(names, Names) else np.array([n.encode() for n in names] or [b""])[: len(names)]


def join(parts: Sequence[Sequence[str]], prefixes: Sequence[str] | None = None) -> Sequence[str]:
    """Put names one after the other.

    Args:
        parts: Names of each part.
        prefixes: What to put before the names of each part.
    """
    if prefixes is not None:
        parts = [_prefixed(p, prefix) for p, prefix in zip(parts, prefixes, strict=True)]
    encoded = [p.encoded for p in parts if isinstance(p, Names)]
    if len(encoded) == len(parts):
        return Names(np.concatenate(encoded))
    return tuple(n for p in parts for n in p)


def _prefixed(names: Sequence[str], prefix: str) -> Sequence[str]:
    if isinstance(names, Names):
        return Names(np.char.add(prefix.encode(), names.encoded))
    return tuple(prefix + n for n in names)
