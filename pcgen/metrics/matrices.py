"""Matrices of distances of any number of sets to one reference, each computed once and kept if there is a store."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError
from pcgen.metrics.pairs import (
    DISTANCES,
    Count,
    Distance,
    Known,
    distance_matrix,
    search_distances,
)
from pcgen.metrics.ranks import ALONE, Ranks
from pcgen.metrics.set_distances import SetDistances, number_of_pairs
from pcgen.metrics.store import Store, Tensors, fingerprint


class ReferenceDistances:
    """Distances of generated sets to one reference.

    Args:
        reference: Clouds (R, M, 3).
        names: Short names from `DISTANCES`.
        store: Where matrices are kept between runs; None for nowhere. Ranks that share the work do without: one might
            find what another does not.

    Raises:
        ConfigurationError: If there is no distance of a name.
    """

    def __init__(self, reference: Tensor, names: Sequence[str], store: Store | None = None) -> None:
        if unknown := sorted(set(names) - set(DISTANCES)):
            raise ConfigurationError(f"there is no distance {', '.join(unknown)}; there is {', '.join(DISTANCES)}")
        self.reference, self.names, self.store = reference, tuple(dict.fromkeys(names)), store
        self.fingerprint = fingerprint(reference)
        self._within: dict[str, Tensor] = {}
        self._known: dict[str, Known | None] = {}

    def check(self, generated: Tensor) -> None:
        """Refuse clouds (S, N, 3) that a distance cannot compare with the reference's.

        Raises:
            ConfigurationError: If a distance wants as many points in both.
        """
        N, M = generated.shape[1], self.reference.shape[1]
        wanting = [name for name in self.names if DISTANCES[name].equal_points]
        if N != M and wanting:
            raise ConfigurationError(
                f"{wanting[0]} compares clouds of as many points, but the generated ones have {N} and the references "
                f"{M}: take {min(N, M)} points of each"
            )

    def work(self, S: int) -> float:
        """Estimate the work for S generated clouds, in Chamfer distances of a pair."""
        return sum(self._entries(name, S) * DISTANCES[name].cost for name in self.names)

    def between(
        self, name: str, generated: Tensor, *, ranks: Ranks = ALONE, progress: Count | None = None
    ) -> SetDistances:
        """Give the matrices of one distance, on the CPU.

        Args:
            name: Of the distance.
            generated: (S, N, 3) on the reference's device.
            ranks: Who shares the work; all call.
            progress: Told how many more pairs are done, as many in all as `work` counts for this distance.
        """
        distance = DISTANCES[name]
        find = self._all_pairs if distance.search is None else self._searched
        count = _Remaining(progress, self._entries(name, len(generated)))
        found = find(name, distance, generated, ranks, count)
        count.finish()
        return SetDistances(found.ss.cpu(), found.sr.cpu(), found.rr.cpu(), *found[3:])

    def _entries(self, name: str, S: int) -> int:
        R = len(self.reference)
        if DISTANCES[name].search is not None:
            return number_of_pairs(S, R)
        return S * S + S * R + (0 if name in self._within else R * R)

    def _all_pairs(self, name: str, distance: Distance, generated: Tensor, ranks: Ranks, count: Count) -> SetDistances:
        R, marks = self.reference, (fingerprint(generated), self.fingerprint)

        def matrix(a: Tensor, b: Tensor, i: int, j: int) -> Tensor:
            key = self._key(distance, a=marks[i], b=marks[j], within=i == j)
            kept = self._get(key, ranks, {"d": (len(a), len(b))})
            if kept is not None:
                return kept["d"]
            d = distance_matrix(distance.pairwise, a, b, ranks=ranks, progress=count).cpu()
            self._put(key, ranks, {"d": d})
            return d

        if name not in self._within:
            self._within[name] = matrix(R, R, 1, 1)
        ss, sr = matrix(generated, generated, 0, 0), matrix(generated, R, 0, 1)
        pairs = number_of_pairs(*sr.shape)
        return SetDistances(ss, sr, self._within[name], pairs, pairs)

    def _searched(self, name: str, distance: Distance, generated: Tensor, ranks: Ranks, count: Count) -> SetDistances:
        S, R = len(generated), len(self.reference)
        key = self._key(distance, generated=fingerprint(generated), reference=self.fingerprint)
        kept = self._get(key, ranks, {"ss": (S, S), "sr": (S, R), "rr": (R, R), "counts": (3,)})
        if kept is not None:
            return SetDistances(kept["ss"], kept["sr"], kept["rr"], *kept["counts"].tolist())
        about_reference = self._key(distance, known_of=self.fingerprint)
        if name not in self._known:
            earlier = self._get(about_reference, ranks, {}) or {}
            self._known[name] = distance.known(self.reference, earlier) if distance.known else None
        known = self._known[name]
        found = search_distances(distance, generated, self.reference, known=known, ranks=ranks, progress=count)
        counts = {"counts": torch.tensor(found[3:])}
        self._put(key, ranks, {"ss": found.ss, "sr": found.sr, "rr": found.rr, **counts})
        if known is not None:
            self._put(about_reference, ranks, known.to_tensors())
        return found

    def _key(self, distance: Distance, **clouds: object) -> dict[str, object]:
        """Everything that the numbers depend on; one device's last bits are not another's."""
        kind = {"distance": distance.definition, "version": distance.version}
        return {**kind, "device": self.reference.device.type, **clouds}

    def _get(self, key: dict[str, object], ranks: Ranks, shapes: dict[str, tuple[int, ...]]) -> Tensors | None:
        if self.store is None or ranks.size > 1:
            return None

        def right(tensors: Tensors) -> bool:
            return all(name in tensors and tensors[name].shape == shape for name, shape in shapes.items())

        return self.store.get(key, right)

    def _put(self, key: dict[str, object], ranks: Ranks, tensors: Tensors) -> None:
        if self.store is not None and ranks.size == 1:
            self.store.put(key, tensors)


class _Remaining:
    """Passes progress on, never more than there is, and what is missing at the end."""

    def __init__(self, progress: Count | None, total: int) -> None:
        self.progress, self.left = progress, total

    def __call__(self, pairs: int) -> None:
        told = min(pairs, self.left)
        self.left -= told
        if self.progress is not None and told:
            self.progress(told)

    def finish(self) -> None:
        self(self.left)
