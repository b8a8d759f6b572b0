"""Scores of any number of sets of clouds against one reference."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import occupancy
from pcgen.metrics.bootstrap import Interval, bootstrap_interval, check_bootstrap, divergence_interval
from pcgen.metrics.feature_scores import NAMES as OF_FEATURES
from pcgen.metrics.feature_scores import ReferenceFeatures
from pcgen.metrics.matrices import ReferenceDistances
from pcgen.metrics.pairs import DISTANCES
from pcgen.metrics.protocol import Protocol
from pcgen.metrics.ranks import ALONE, Ranks
from pcgen.metrics.remarks import remarks
from pcgen.metrics.scores import Scores
from pcgen.metrics.set_distances import SetDistances
from pcgen.metrics.set_scores import covered_references, exact_mean, matching_distances, neighbor_agreement
from pcgen.metrics.store import Store

if TYPE_CHECKING:
    from pcgen.metrics.extractors import Extractor

Progress = Callable[[float, float], None]
OUTSIDE = ("share_outside_ball", "reference_share_outside_ball")  # of the generated points and of the reference's


class Row(NamedTuple):
    """One set's scores.

    Attributes:
        values: By name.
        intervals: Low and high end by name, where there is one.
        pairs: By distance: pairs of clouds computed to the end, and distinct pairs that there are.
        remarks: Consequences of the sets that a reader has to know.
    """

    values: dict[str, float]
    intervals: dict[str, Interval]
    pairs: dict[str, tuple[int, int]]
    remarks: tuple[str, ...]


class SetEvaluator:
    """Scores any number of sets against one reference, whose own distances are computed once.

    Memory beside the clouds, measured at 8192 points on a CPU: the distances of all pairs (about 50 B a pair under the
    earth mover's distances, 4 B under Chamfer), 50 B a point for the former's bounds and 25 MB for its solver, 30 MB
    for Chamfer, 80 kB a cloud for the Jensen-Shannon divergence, and 130 MB for the extractor.

    Args:
        reference: Clouds (R, M, 3), on the device where the work is to be done.
        distances: Short names from `DISTANCES`.
        radius: Of the ball that the data are normalised to. Both sets are scaled by ½ / radius for the
            Jensen-Shannon divergence, which lives in the ball of radius ½; by this constant and never by a statistic
            of either set. None leaves the divergence out.
        resolution: Grid centres on an axis for it.
        allow_unequal: Let 1-NNA take S ≠ R.
        both_orientations: Add MMD and COV with generated and reference swapped, as `mmd_cd_swapped`.
        level: Of the confidence intervals.
        draws: Of the bootstrap; 0 for no intervals.
        seed: Of the bootstrap.
        extractor: Name, file or object of the network whose features give `fpd` and `kid`; None leaves them out. It
            wants the radius.
        up_axis: Of the clouds, for the extractor; None says that of its training.
        store: Keeps matrices of distances and features between runs; None for no such.

    Raises:
        DataError: If the reference is not (R, M, 3), empty or not finite.
        ConfigurationError: If an argument is out of range.
    """

    def __init__(
        self,
        reference: Tensor,
        *,
        distances: Sequence[str] = ("cd",),
        radius: float | None = 1.0,
        resolution: int = 28,
        allow_unequal: bool = False,
        both_orientations: bool = False,
        level: float = 0.95,
        draws: int = 1000,
        seed: int = 0,
        extractor: "str | Extractor | None" = None,
        up_axis: int | None = None,
        store: Store | None = None,
    ) -> None:
        if radius is not None and not 0 < radius < float("inf"):
            raise ConfigurationError(f"radius is {radius}; it is that of the ball the data are normalised to")
        check_bootstrap(level, draws or 1)
        self.reference = _checked("reference", reference)
        self.matrices = ReferenceDistances(self.reference, distances, store)
        self.distances = self.matrices.names
        self.radius, self.resolution = radius, resolution
        self.allow_unequal, self.both_orientations = allow_unequal, both_orientations
        self.level, self.draws, self.seed = level, draws, seed
        self._occupancy: Tensor | None = None
        self._features: ReferenceFeatures | None = None
        if extractor is not None:
            if radius is None:
                raise ConfigurationError("an extractor wants clouds of a known size: give the radius of their ball")
            self._features = ReferenceFeatures(self.reference, extractor, radius=radius, up_axis=up_axis, store=store)

    @property
    def names(self) -> list[str]:
        """Names of the scores it gives."""
        kinds = ["mmd_{}", "cov_{}", "1nna_{}"] + ["mmd_{}_swapped", "cov_{}_swapped"] * self.both_orientations
        of_distances = [kind.format(name) for name in self.distances for kind in kinds]
        of_features = [*OF_FEATURES] * (self._features is not None)
        return of_distances + of_features + ["jsd", *OUTSIDE] * (self.radius is not None)

    def score(
        self, generated: Tensor, *, progress: Progress | None = None
    ) -> tuple[dict[str, float], dict[str, Interval]]:
        """Give the values and intervals of `measure` alone."""
        row = self.measure(generated, progress=progress)
        return row.values, row.intervals

    def measure(
        self,
        generated: Tensor,
        *,
        distances: Mapping[str, SetDistances] | None = None,
        ranks: Ranks = ALONE,
        progress: Progress | None = None,
    ) -> Row:
        """Score one set.

        Args:
            generated: Clouds (S, N, 3).
            distances: From `compare`, if that was called already.
            ranks: Who shares the work; all call.
            progress: Called with the work done and to do, about proportional to the time.

        Raises:
            DataError: If the set is not (S, N, 3), empty or not finite.
            ConfigurationError: If S ≠ R and that was not allowed, or a distance cannot compare the sets.
        """
        generated = self.checked(generated)
        if distances is None:
            distances = self.compare(generated, ranks=ranks, progress=progress)
        values: dict[str, float] = {}
        intervals: dict[str, Interval] = {}
        for name, found in distances.items():
            self._score_distance(name, found, values, intervals)
        of_features: tuple[str, ...] = ()
        if self._features is not None:
            more, of_features = self._features.score(generated)
            values |= more
        if self.radius is not None:
            self._score_occupancy(generated, self.radius, values, intervals)
        pairs = {name: (found.solved, found.pairs) for name, found in distances.items()}
        notes = (*remarks(generated, self.reference, distances, values), *of_features)
        return Row(values, intervals, pairs, notes)

    def checked(self, generated: Tensor, whose: str = "generated") -> Tensor:
        """Give clouds (S, N, 3) on the reference's device and of its dtype, or refuse them as `measure` does."""
        generated = _checked(whose, generated).to(self.reference)
        S, R = len(generated), len(self.reference)
        if S != R and not self.allow_unequal:
            raise ConfigurationError(
                f"{S} {whose} clouds against {R} references: 1-NNA wants as many of each; draw {R}, or allow unequal"
            )
        self.matrices.check(generated)
        return generated

    def compare(
        self, generated: Tensor, *, ranks: Ranks = ALONE, progress: Progress | None = None
    ) -> dict[str, SetDistances]:
        """Give the distances of a set by short name, which is nearly all the work of `measure`."""
        generated = self.checked(generated)
        count = _Counter(progress, self.matrices.work(len(generated)))
        return {
            name: self.matrices.between(name, generated, ranks=ranks, progress=count.of(DISTANCES[name].cost))
            for name in self.distances
        }

    def result(
        self,
        generated: Tensor,
        *,
        oracle: Tensor | None = None,
        distances: Mapping[str, SetDistances] | None = None,
        progress: Progress | None = None,
        **known: Any,
    ) -> Scores:
        """Score one set beside the oracle's, with the protocol.

        Args:
            generated: Clouds (S, N, 3).
            oracle: Training clouds, as many.
            distances: From `compare`, if that was called already.
            progress: As in `measure`, of both sets.
            **known: Fields of the protocol that only the caller knows.

        Raises:
            DataError: As `measure`, of either set.
            ConfigurationError: Likewise.
        """
        if oracle is not None:
            oracle = self.checked(oracle, "oracle")  # before the work on the other set
        rows = 1 if oracle is None else 2
        row = self.measure(generated, distances=distances, progress=_share(progress, 0, rows))
        beside = None if oracle is None else self.measure(oracle, progress=_share(progress, 1, rows))
        return _scores(row, beside, self.protocol(generated, **known))

    def _score_distance(
        self, name: str, found: SetDistances, values: dict[str, float], intervals: dict[str, Interval]
    ) -> None:
        d_sr = found.sr
        terms: dict[str, tuple[Tensor, ...]] = {
            f"mmd_{name}": (matching_distances(d_sr),),
            f"cov_{name}": (covered_references(d_sr),),
            f"1nna_{name}": neighbor_agreement(found.ss, d_sr, found.rr),
        }
        if self.both_orientations:
            terms[f"mmd_{name}_swapped"] = (matching_distances(d_sr.T),)
            terms[f"cov_{name}_swapped"] = (covered_references(d_sr.T),)
        for key, groups in terms.items():
            values[key] = exact_mean(torch.cat(groups)).item()
            if self.draws:
                intervals[key] = bootstrap_interval(*groups, level=self.level, draws=self.draws, seed=self.seed)

    def _score_occupancy(
        self, generated: Tensor, radius: float, values: dict[str, float], intervals: dict[str, Interval]
    ) -> None:
        scale = occupancy.RADIUS / radius
        if self._occupancy is None:
            self._occupancy = occupancy.cloud_occupancy(self.reference * scale, resolution=self.resolution)
        counts = occupancy.cloud_occupancy(generated * scale, resolution=self.resolution)
        values["jsd"] = occupancy.occupancy_divergence(counts.sum(0), self._occupancy.sum(0)).item()
        for key, clouds in zip(OUTSIDE, (generated, self.reference), strict=True):
            values[key] = occupancy.share_outside_ball(clouds, radius=radius).item()
        if self.draws:
            draws = min(self.draws, 200)  # each draw is a product with 10 144 cells; 200 settle the second digit
            intervals["jsd"] = divergence_interval(
                counts, self._occupancy, level=self.level, draws=draws, seed=self.seed
            )

    def protocol(self, generated: Tensor, **others: Any) -> Protocol:
        """Say how the scores of a set are measured; `others` are the fields that only the caller knows."""
        return Protocol(
            num_reference=len(self.reference),
            num_generated=len(generated),
            num_points=self.reference.shape[1],
            num_generated_points=generated.shape[1],
            distances={name: DISTANCES[name].definition for name in self.distances},
            jsd_radius=self.radius,
            jsd_resolution=None if self.radius is None else self.resolution,
            seed=self.seed,
            extractor=None if self._features is None else self._features.identity,
            level=self.level if self.draws else None,
            draws=self.draws,
            reference=self.matrices.fingerprint[:12],
            **others,
        )


def _scores(row: Row, oracle: Row | None, protocol: Protocol) -> Scores:
    beside = oracle or Row({}, {}, {}, ())
    return Scores(row.values, protocol, row.intervals, beside.values, beside.intervals, row.pairs, row.remarks)


class _Counter:
    """Adds up the work done."""

    def __init__(self, progress: Progress | None, total: float) -> None:
        self.progress, self.total, self.done = progress, total, 0.0

    def of(self, cost: float) -> Callable[[int], None]:
        """Count pairs of a cost."""
        return lambda pairs: self._add(cost * pairs)

    def _add(self, work: float) -> None:
        self.done = min(self.done + work, self.total)
        if self.progress is not None:
            self.progress(self.done, self.total)


def _share(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Report one row's progress as that of a whole of equal parts."""
    if progress is None:
        return None
    return lambda done, total: progress(part * total + done, parts * total)


def _checked(name: str, clouds: Tensor) -> Tensor:
    if clouds.ndim != 3 or clouds.shape[-1] != 3 or not clouds.numel():
        raise DataError(f"the {name} clouds have shape {tuple(clouds.shape)}; give (S, N, 3), at least one cloud")
    if not torch.isfinite(clouds).all():
        bad = int((~torch.isfinite(clouds)).any(-1).any(-1).sum())
        raise DataError(f"{bad} of the {len(clouds)} {name} clouds hold NaN or infinity: no score is made of them")
    return clouds.detach()
