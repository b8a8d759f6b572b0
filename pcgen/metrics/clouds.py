"""Scores of clouds as `torchmetrics.Metric`s: fed batch by batch, on any number of processes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from pcgen.errors import DataError
from pcgen.metrics.evaluator import SetEvaluator
from pcgen.metrics.pairs import distance_matrix
from pcgen.metrics.ranks import ALONE, Ranks
from pcgen.metrics.set_scores import exact_mean, reconstruction_agreement
from pcgen.ops import chamfer_distance, pairwise_chamfer_distance

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
    """Chamfer distance of data to their reconstructions, and coverage by reconstructions.

    `compute` gives a dictionary: `chamfer` is the mean over the data of the Chamfer distance (squared distances, mean
    over points, both directions added); `reconstruction_coverage` the share of the data whose nearest other cloud,
    among all the data and all the reconstructions, is a reconstruction; `own_reconstruction_coverage` the share for
    which it is the datum's own. Each is averaged with one rounding, so processes and their order do not show.

    Args:
        coverage: Give both coverages, which compare every datum with every other.
        kwargs: Of every `torchmetrics.Metric`.
    """

    chamfer: list[Tensor]

    def __init__(self, *, coverage: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.coverage = coverage
        self.add_state("chamfer", default=[], dist_reduce_fx="cat")
        if coverage:
            self._add_set("data")
            self._add_set("reconstructions")

    @property
    def names(self) -> list[str]:
        """Names of the scores it gives."""
        return ["chamfer", *_COVERAGES] if self.coverage else ["chamfer"]

    def update(self, data: Tensor, reconstructions: Tensor) -> None:
        """Add data (B, N, 3) and their reconstructions (B, M, 3)."""
        if len(data) != len(reconstructions):
            raise DataError(f"{len(reconstructions)} reconstructions of {len(data)} data: give one for each")
        data, reconstructions = (x.detach().to(self.device, torch.float32) for x in (data, reconstructions))
        self.chamfer.append(chamfer_distance(data, reconstructions))
        if self.coverage:
            self._append("data", data)
            self._append("reconstructions", reconstructions)

    def compute(self) -> dict[str, Tensor]:
        """Give the scores by name, scalars in float64; NaN where nothing was seen."""
        chamfer = dim_zero_cat(self.chamfer) if len(self.chamfer) else torch.empty(0, device=self.device)
        if not len(chamfer):
            return dict.fromkeys(self.names, torch.tensor(torch.nan, dtype=torch.float64))
        scores = {"chamfer": exact_mean(chamfer)}
        if self.coverage:
            data, reconstructions = self._clouds("data"), self._clouds("reconstructions")
            agreement = reconstruction_agreement(
                distance_matrix(pairwise_chamfer_distance, data, data, ranks=self._ranks),
                distance_matrix(pairwise_chamfer_distance, data, reconstructions, ranks=self._ranks),
            )
            scores |= {name: exact_mean(terms) for name, terms in zip(_COVERAGES, agreement, strict=True)}
        return scores


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
        kwargs: Of every `torchmetrics.Metric`.
    """

    def __init__(
        self,
        *,
        distances: Sequence[str] = ("cd",),
        radius: float | None = 1.0,
        resolution: int = 28,
        allow_unequal: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.distances, self.radius, self.resolution = tuple(distances), radius, resolution
        self.allow_unequal = allow_unequal
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
            draws=0,
        )
        row = evaluator.measure(self._clouds("generated"), ranks=self._ranks)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in row.values.items()}
