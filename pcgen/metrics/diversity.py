"""How varied samples are, beside the data: the gauge of a generator that collapses onto few shapes.

    diversity = mean over i ≠ j of d(s_i, s_j)  /  mean over i ≠ j of d(r_i, r_j)

of samples s and data r, with d the Chamfer distance of clouds or the mean squared difference of pixels. Collapse may
also be onto several shapes that lie far apart, which the ratio does not see: COV under the same distance stands beside
it.
"""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.precision import in_double
from pcgen.metrics.ranks import Ranks
from pcgen.metrics.rows import RowSets
from pcgen.metrics.set_scores import coverage, exact_mean
from pcgen.metrics.store import fingerprint
from pcgen.ops import pairwise_chamfer_distance

_HALF = 1 << 24  # whole numbers below are exact in float32


def mean_pairwise_distance(d: Tensor) -> Tensor:
    """Average the distances within a set, each to every other.

    Args:
        d: Distances (n, n), n at least 2; the diagonal is not looked at.

    Returns:
        Scalar float64 in the unit of d.

    Raises:
        DataError: If d is not such a matrix, or holds NaN or infinity off its diagonal.

    >>> mean_pairwise_distance(torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 6.0], [2.0, 6.0, 0.0]])).item()
    3.0
    """
    if d.ndim != 2 or d.shape[0] != d.shape[1] or len(d) < 2:
        raise DataError(f"d has shape {tuple(d.shape)}; give the distances (n, n) among at least two")
    apart = d[~torch.eye(len(d), dtype=torch.bool, device=d.device)]  # (n (n − 1),)
    if not torch.isfinite(apart).all():
        raise DataError("a distance within the set is NaN or infinite: look for such values in the set")
    return exact_mean(apart)


def diversity(d_ss: Tensor, d_rr: Tensor) -> Tensor:
    """Divide the mean distance among samples by that among data.

    1 for samples as varied as the data, 0 for samples that are all alike, above 1 for samples more varied than the
    data, such as noise. It has no bias from the sizes of the sets, which may differ.

    Args:
        d_ss: Distances (S, S) among the samples, S at least 2; the diagonal is not looked at.
        d_rr: Distances (R, R) among the data, R at least 2.

    Returns:
        Scalar float64, at least 0.

    Raises:
        DataError: As `mean_pairwise_distance`, or if the data are all alike: nothing is more or less varied then.

    >>> diversity(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[0.0, 4.0], [4.0, 0.0]])).item()
    0.25
    """
    among_data = mean_pairwise_distance(d_rr)
    if among_data == 0:
        raise DataError(f"the {len(d_rr)} data are all alike, so nothing can be as varied as they are: give others")
    return mean_pairwise_distance(d_ss).to(among_data.device) / among_data


class Diversity(RowSets):
    """Whether a generator has collapsed: diversity and coverage of its samples beside data.

    `compute` gives `diversity` (see `functional.diversity`) and `coverage` (COV, see `functional.coverage`, of the data
    by as many samples). The distance is Chamfer (squared distances, mean over points, both directions added) for
    clouds and the mean squared difference of a pixel for images.

    Of more than `num` samples or data, `num` are kept, so that memory is bounded. A hash of their content chooses them:
    the same ones whatever the order, the batches and the number of processes, and of data sorted by class not one
    class alone. Each process adds its own share of the samples; what several add alike counts several times.

    Args:
        num: Samples and data to keep, at least 2; the time grows with its square.
        kwargs: Of every `torchmetrics.Metric`.

    Raises:
        ConfigurationError: If num is below 2.

    Warns:
        UserWarning: When samples hold NaN or infinity, or the data are all alike: both scores are NaN then.
    """

    generated_shape: Tensor
    data_shape: Tensor

    def __init__(self, num: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num < 2:
            raise ConfigurationError(f"num is {num}; a mean distance needs at least 2")
        self.num = num
        for name in ("generated", "data"):
            self.add_rows(name)  # (n, 2 + D): two halves of the hash, and the datum
            empty = torch.zeros(3, dtype=torch.int64)  # (C, H, W) of images, (0, N, 3) of clouds
            self.add_state(f"{name}_shape", default=empty, dist_reduce_fx="max")

    def update(self, generated: Tensor | None = None, data: Tensor | None = None) -> None:
        """Add samples, data or both.

        Args:
            generated: Clouds (B, N, 3) or images (B, C, H, W); B may be 0. None adds none.
            data: As generated; clouds may have another number of points.

        Raises:
            DataError: If they are neither, or cannot be compared with what was seen before.
        """
        given = {name: x for name, x in (("generated", generated), ("data", data)) if x is not None and len(x)}
        shapes = {name: _shape(name, x) for name, x in given.items()}
        self._check(shapes)
        for name, x in given.items():
            setattr(self, f"{name}_shape", torch.tensor(shapes[name], device=self.device))
            self._keep(name, x.flatten(1))

    def compute(self) -> dict[str, Tensor]:
        """Give `diversity` and `coverage`, scalars in float64; NaN where there are fewer than two of either."""
        unknown = torch.tensor(math.nan, dtype=torch.float64)
        scores = {"diversity": unknown, "coverage": unknown}
        if not (self.generated_shape.any() and self.data_shape.any()):
            return scores
        generated, data = self._kept("generated"), self._kept("data")
        least = min(len(generated), len(data))
        if least < 2:
            return scores
        distance = _pixel_distances if data.ndim == 4 else pairwise_chamfer_distance
        try:
            ratio = diversity(distance(generated, generated), distance(data, data))
            return {"diversity": ratio, "coverage": coverage(distance(generated[:least], data[:least]))}
        except DataError as error:  # of values: a gauge does not stop a training whose samples have diverged
            if Ranks.current().rank == 0:
                warnings.warn(f"diversity and coverage are NaN: {error}", stacklevel=2)
            return scores

    def _check(self, shapes: dict[str, tuple[int, int, int]]) -> None:
        """See that what comes can be compared with what was seen, and samples with data."""
        seen = {name: tuple(getattr(self, f"{name}_shape").tolist()) for name in ("generated", "data")}
        for name, shape in shapes.items():
            if any(seen[name]) and seen[name] != shape:
                raise DataError(f"{name} is like {_words(shape)} after {_words(seen[name])}; use a metric for each")
        samples, data = (seen | shapes)["generated"], (seen | shapes)["data"]
        clouds = samples[0] == data[0] == 0
        if any(samples) and any(data) and not clouds and samples != data:
            raise DataError(f"samples are like {_words(samples)} and data like {_words(data)}: there is no distance")

    def _keep(self, name: str, x: Tensor) -> None:
        """Add rows x (B, D), and keep of all the `num` whose hashes are least."""
        x = x.detach().to(torch.float32)
        marks = [int(fingerprint(row)[:12], 16) for row in x.cpu()]
        halves = torch.tensor([divmod(mark, _HALF) for mark in marks], dtype=torch.float32, device=x.device)
        self.append_rows(name, torch.cat([halves, x], 1))
        setattr(self, name, [self._least(name, 2 + x.shape[1]).flatten()])

    def _least(self, name: str, width: int) -> Tensor:
        """Give the `num` rows (n, width) of least hash, in the order of the hashes."""
        rows = self.rows(name, width)
        marks = rows[:, :2].cpu().double() @ torch.tensor([_HALF, 1.0], dtype=torch.float64)  # exact
        return rows[marks.argsort(stable=True)[: self.num].to(rows.device)]

    def _kept(self, name: str) -> Tensor:
        """Give the data (n, …) of all processes, n at most `num`."""
        shape = getattr(self, f"{name}_shape").tolist()
        shape = shape if shape[0] else shape[1:]
        kept: Tensor = self._least(name, 2 + math.prod(shape))[:, 2:].unflatten(1, shape)
        return kept


def _shape(name: str, x: Tensor) -> tuple[int, int, int]:
    if x.ndim == 3 and x.shape[2] == 3 and x.numel():
        return 0, x.shape[1], 3
    if x.ndim == 4 and x.numel():
        return x.shape[1], x.shape[2], x.shape[3]
    raise DataError(f"{name} has shape {tuple(x.shape)}; give clouds (B, N, 3) or images (B, C, H, W)")


def _words(shape: tuple[int, ...]) -> str:
    return f"images {shape}" if shape[0] else f"clouds {shape[1:]}"


def _pixel_distances(a: Tensor, b: Tensor) -> Tensor:
    """Give the mean squared differences (S, R) of images a (S, C, H, W) and b (R, C, H, W)."""
    a, b = in_double(a.flatten(1)), in_double(b.flatten(1))
    # By differences, in double precision: exact for images that are nearly alike, and at most a few dozen are kept.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square() / a.shape[1]
