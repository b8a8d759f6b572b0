"""Confidence intervals over the shapes of a set.

The naive bootstrap (draw clouds with replacement, score the drawn sets) is wrong for scores made of nearest
neighbours: a cloud drawn twice is its own neighbour at distance 0, which drives 1-NNA to 1, and a third of the
clouds are missing, which lowers COV and raises MMD. Here neighbours stay those of the whole sets and the shapes'
terms are drawn. The interval says how much of a score hangs on which shapes happened to be in the set.
"""

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.occupancy import occupancy_divergence
from pcgen.metrics.precision import in_double

Interval = tuple[float, float]
_CHUNK = 1 << 22  # drawn terms held at once


def bootstrap_interval(*terms: Tensor, level: float = 0.95, draws: int = 1000, seed: int = 0) -> Interval:
    """Percentile interval of the mean over one or more groups of terms.

    Args:
        *terms: (n,) for each group, one term a shape (`matching_distances`, `covered_references`,
            `neighbor_agreement`). Each group is drawn with replacement by itself and keeps its size.
        level: Share of the draws inside the interval.
        draws: How often to draw.
        seed: Makes the interval repeatable.

    Returns:
        Low and high end.

    Raises:
        ConfigurationError: If level or draws are out of range.
        DataError: If a group is empty.

    >>> low, high = bootstrap_interval(torch.tensor([0.0, 1.0]).repeat(50))
    >>> 0.35 < low < 0.5 < high < 0.65
    True
    """
    generator = _generator(level, draws, seed)
    if not terms or not all(len(t) for t in terms):
        raise DataError("an interval of no terms was asked for: give at least one shape in each group")
    total = torch.zeros(draws, dtype=torch.float64)
    for group in terms:
        total += _drawn_sums(in_double(group.detach()).cpu(), draws, generator)
    return _percentiles(total / sum(len(t) for t in terms), level)


def divergence_interval(p: Tensor, q: Tensor, *, level: float = 0.95, draws: int = 200, seed: int = 0) -> Interval:
    """Interval of the Jensen-Shannon divergence, drawing whole clouds of both sets.

    A drawn set has fewer distinct clouds and so a rougher occupancy, which lifts every drawn divergence; the draws
    are moved back by their mean difference from the divergence itself, so the interval is that of the score at this
    number of shapes.

    Args:
        p: Counts (S, C) of each cloud of one set (`cloud_occupancy`).
        q: Counts (R, C) of the other.
        level: Share of the draws inside the interval.
        draws: How often to draw.
        seed: Makes the interval repeatable.

    Returns:
        Low and high end in [0, 1].

    >>> counts = torch.tensor([[4.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
    >>> low, high = divergence_interval(counts, counts.flip(1))
    >>> 0 <= low < high <= 1
    True
    """
    generator = _generator(level, draws, seed)
    p, q = p.detach().float().cpu(), q.detach().float().cpu()  # counts far below 2²⁴ are exact in float32
    drawn = []
    for start in range(0, draws, 50):
        some = min(50, draws - start)
        drawn.append(
            occupancy_divergence(
                _multiplicities(len(p), some, generator) @ p, _multiplicities(len(q), some, generator) @ q
            )
        )
    replicates, value = torch.cat(drawn), occupancy_divergence(in_double(p).sum(0), in_double(q).sum(0))
    low, high = _percentiles((replicates - replicates.mean() + value).clamp(0, 1), level)
    return low, high


def _drawn_sums(terms: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    n, parts = len(terms), []
    step = max(1, _CHUNK // n)
    for start in range(0, draws, step):
        index = torch.randint(n, (min(step, draws - start), n), generator=generator)
        parts.append(terms[index].sum(dim=1))
    return torch.cat(parts)


def _multiplicities(n: int, draws: int, generator: torch.Generator) -> Tensor:
    """How often each of n is drawn, (draws, n) float32."""
    index = torch.randint(n, (draws, n), generator=generator)
    return torch.zeros(draws, n).scatter_add_(1, index, torch.ones(draws, n))


def _percentiles(values: Tensor, level: float) -> Interval:
    tail = (1 - level) / 2
    low, high = torch.quantile(values, torch.tensor([tail, 1 - tail], dtype=values.dtype)).tolist()
    return low, high


def check_bootstrap(level: float, draws: int) -> None:
    """Refuse what is no level or no number of draws.

    Raises:
        ConfigurationError: If one is out of range.
    """
    if not 0 < level < 1:
        raise ConfigurationError(f"level is {level}; a confidence level lies between 0 and 1, such as 0.95")
    if draws < 1:
        raise ConfigurationError(f"draws is {draws}; a bootstrap draws at least once, 1000 times as a rule")


def _generator(level: float, draws: int, seed: int) -> torch.Generator:
    check_bootstrap(level, draws)
    return torch.Generator().manual_seed(seed)
