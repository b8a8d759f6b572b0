"""Scores of clouds as `torchmetrics.Metric`s: fed batch by batch, on any number of processes."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from pcgen.errors import ConfigurationError, DataError
from pcgen.losses.sinkhorn import SinkhornDivergence
from pcgen.metrics.evaluator import SetEvaluator
from pcgen.metrics.pairs import DISTANCES, PairedDistance, distance_matrix
from pcgen.metrics.ranks import ALONE, Ranks
from pcgen.metrics.set_scores import exact_mean, reconstruction_agreement
from pcgen.ops import pairwise_chamfer_distance

_CALLED = {"cd": "chamfer"}  # in the names of scores of reconstructions; the other distances go by their short names
_COVERAGES = ("reconstruction_coverage", "own_reconstruction_coverage")


class _CloudSets(Metric):
    """Keeps whole sets of clouds.

    A set is held as flat numbers beside its number of points: a process that has seen nothing then gives an empty
    list of the same rank as the others', which the exchange between processes wants.
    """

    full_state_update = False

    def _add_set(self, name: str) -> None:
        self.add_state(name, default=[], dist_reduce_fx="cat")
        self.add_state(f"{name}_points", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="max")

    def _append(self, name: str, clouds: Tensor) -> None:
        if clouds.ndim != 3 or clouds.shape[-1] != 3:
            raise DataError(f"{name} has shape {tuple(clouds.shape)}; clouds are (B, N, 3)")
        points = getattr(self, f"{name}_points")
        if int(points) not in {0, clouds.shape[1]}:
            raise DataError(f"{name} has clouds of {clouds.shape[1]} points after clouds of {int(points)}")
        setattr(self, f"{name}_points", torch.full_like(points, clouds.shape[1]))
        getattr(self, name).append(clouds.detach().to(self.device, torch.float32).flatten())

    @property
    def _ranks(self) -> Ranks:
        """Who shares the work of `compute`: after the exchange of states all processes are in it, with equal ones."""
        return Ranks.current(self.process_group) if self._is_synced and self._to_sync else ALONE

    def _clouds(self, name: str) -> Tensor:
        state = getattr(self, name)  # a list, or one tensor after the exchange
        if not len(state):
            return torch.empty(0, 1, 3, device=self.device)
        return dim_zero_cat(state).view(-1, int(getattr(self, f"{name}_points")), 3)


class ReconstructionScores(_CloudSets):
    """Distances of data to their reconstructions, and coverage by reconstructions.

    `compute` gives a dictionary. The distances are means over the data, each under its name: `chamfer` (squared
    distances, mean over points, both directions added), `emd` and `emd_squared` (mean distance, and mean squared
    distance, under the optimal one-to-one assignment) and `sinkhorn_0.05` (of that blur). `reconstruction_coverage` is
    the share of the data whose nearest other cloud under Chamfer, among all the data and all the reconstructions, is a
    reconstruction; `own_reconstruction_coverage` the share for which it is the datum's own. Each is averaged with one
    rounding, so processes and their order do not show.

    Args:
        distances: Short names of the distances, `cd` for `chamfer`; the `emd`s want as many points in both.
        sinkhorn_blur: Of the Sinkhorn divergence (p 2), in units of the clouds; None leaves it out.
        coverage: Give both coverages, which compare every datum with every other.
        kwargs: Of every `torchmetrics.Metric`.

    Raises:
        ConfigurationError: If there is no distance of a name, or the blur is no distance above 0.
    """

    def __init__(
        self,
        *,
        distances: Sequence[str] = ("cd",),
        sinkhorn_blur: float | None = None,
        coverage: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.coverage = coverage
        self._paired = _paired_distances(distances, sinkhorn_blur)
        for i in range(len(self._paired)):
            self.add_state(f"paired{i}", default=[], dist_reduce_fx="cat")
        if coverage:
            self._add_set("data")
            self._add_set("reconstructions")

    @property
    def names(self) -> list[str]:
        """Names of the scores it gives."""
        return [*self._paired, *(_COVERAGES if self.coverage else ())]

    def update(self, data: Tensor, reconstructions: Tensor) -> None:
        """Add data (B, N, 3) and their reconstructions (B, M, 3)."""
        if len(data) != len(reconstructions):
            raise DataError(f"{len(reconstructions)} reconstructions of {len(data)} data: give one for each")
        data, reconstructions = (x.detach().to(self.device, torch.float32) for x in (data, reconstructions))
        found = [distance(data, reconstructions) for distance in self._paired.values()]  # all, before any is added
        for i, values in enumerate(found):
            getattr(self, f"paired{i}").append(values)
        if self.coverage:
            self._append("data", data)
            self._append("reconstructions", reconstructions)

    def compute(self) -> dict[str, Tensor]:
        """Give the scores by name, scalars in float64; NaN where nothing was seen."""
        states = [getattr(self, f"paired{i}") for i in range(len(self._paired))]
        paired = [dim_zero_cat(state) if len(state) else torch.empty(0, device=self.device) for state in states]
        if not len(paired[0]):
            return dict.fromkeys(self.names, torch.tensor(torch.nan, dtype=torch.float64))
        scores = {name: exact_mean(values) for name, values in zip(self._paired, paired, strict=True)}
        if self.coverage:
            data, reconstructions = self._clouds("data"), self._clouds("reconstructions")
            agreement = reconstruction_agreement(
                distance_matrix(pairwise_chamfer_distance, data, data, ranks=self._ranks),
                distance_matrix(pairwise_chamfer_distance, data, reconstructions, ranks=self._ranks),
            )
            scores |= {name: exact_mean(terms) for name, terms in zip(_COVERAGES, agreement, strict=True)}
        return scores


def _paired_distances(names: Sequence[str], sinkhorn_blur: float | None) -> dict[str, PairedDistance]:
    known = {name: distance.paired for name, distance in DISTANCES.items() if distance.paired is not None}
    if unknown := sorted(set(names) - set(known)):
        raise ConfigurationError(
            f"there is no distance {', '.join(unknown)} of data to reconstructions; there is {', '.join(known)}"
        )
    found = {_CALLED.get(name, name): known[name] for name in names}
    if sinkhorn_blur is not None:
        found[f"sinkhorn_{sinkhorn_blur:g}"] = partial(_one_by_one, SinkhornDivergence(sinkhorn_blur))
    if not found:
        raise ConfigurationError(f"distances is empty; name one of {', '.join(known)}, or give sinkhorn_blur")
    return found


@torch.no_grad()
def _one_by_one(distance: PairedDistance, x: Tensor, y: Tensor) -> Tensor:
    """Give (B,), computed pair by pair: in bounded memory, and the same whatever else is in the batch."""
    parts = [distance(a[None], b[None]) for a, b in zip(x, y, strict=True)]
    return torch.cat(parts) if parts else x.new_empty(0)


class GenerationScores(_CloudSets):
    """MMD, COV and 1-NNA under each distance, and JSD, of generated clouds against reference clouds.

    `compute` gives a dictionary with `mmd_cd`, `cov_cd`, `1nna_cd`, `jsd`, `share_outside_ball` (of the generated
    points) and `reference_share_outside_ball`; see `pcgen.metrics.functional` for what they are and
    `pcgen.metrics.evaluate_sets` for intervals and the oracle's row.

    Args:
        distances: Short names of the distances.
        radius: Of the ball that the data are normalised to; None leaves JSD out.
        resolution: Of JSD's grid.
        allow_unequal: Let 1-NNA take as many generated clouds as there happen to be.
        both_orientations: Add MMD and COV with generated and reference swapped, as `mmd_cd_swapped`.
        kwargs: Of every `torchmetrics.Metric`.
    """

    def __init__(
        self,
        *,
        distances: Sequence[str] = ("cd",),
        radius: float | None = 1.0,
        resolution: int = 28,
        allow_unequal: bool = False,
        both_orientations: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.distances, self.radius, self.resolution = tuple(distances), radius, resolution
        self.allow_unequal, self.both_orientations = allow_unequal, both_orientations
        self._add_set("generated")
        self._add_set("reference")

    def update(self, *, generated: Tensor | None = None, reference: Tensor | None = None) -> None:
        """Add clouds (B, N, 3) to either set or both."""
        if generated is not None:
            self._append("generated", generated)
        if reference is not None:
            self._append("reference", reference)

    def compute(self) -> dict[str, Tensor]:
        """Give the scores by name, scalars in float64.

        Raises:
            DataError: If a set is empty or not finite.
            ConfigurationError: If the sets differ in size, unless allowed.
        """
        evaluator = SetEvaluator(
            self._clouds("reference"),
            distances=self.distances,
            radius=self.radius,
            resolution=self.resolution,
            allow_unequal=self.allow_unequal,
            both_orientations=self.both_orientations,
            draws=0,
        )
        row = evaluator.measure(self._clouds("generated"), ranks=self._ranks)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in row.values.items()}
