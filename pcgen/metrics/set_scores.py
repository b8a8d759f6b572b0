"""Scores between two sets of clouds, from matrices of distances.

Throughout, d[i, j] is the distance of generated cloud i to reference cloud j, (S, R). A published evaluation has the
two sides swapped (PointFlow between 2020-12 and 2022-04, and everything copied from it then), which changes MMD and
COV; `d.T` gives those numbers.

Every score is the mean of one term for each shape. The terms are public too: they say which shapes are missed, and
their spread gives the confidence interval (`bootstrap_interval`).
"""

import math

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.precision import in_double


def minimum_matching_distance(d: Tensor) -> Tensor:
    """MMD: how near the generated set comes to each reference, on average (Achlioptas et al. 2018). Lower is better.

    Not the kernel maximum mean discrepancy, which shares the abbreviation.

    Args:
        d: Distances (S, R) of generated to reference, both at least 1.

    Returns:
        Scalar float64 in the unit of d: mean over references of the least distance to a generated cloud.

    Raises:
        DataError: If d is not such a matrix, or holds NaN or infinity.

    >>> d = torch.tensor([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])  # three generated, two references
    >>> minimum_matching_distance(d).item()  # (1 + 5)/2
    3.0
    """
    return exact_mean(matching_distances(d))


def matching_distances(d: Tensor) -> Tensor:
    """Give each reference's distance to the nearest generated cloud, (R,); MMD is their mean. Takes d (S, R).

    >>> matching_distances(torch.tensor([[1.0, 5.0], [2.0, 4.0]]))
    tensor([1., 4.])
    """
    return _matrix("d", d).amin(dim=0)


def coverage(d: Tensor) -> Tensor:
    """COV: share of the references that are the nearest reference of a generated cloud. Higher is better.

    A generated cloud covers one reference. Where several are equally near it is the first of them, as in the
    published implementations: were it all of them, a generator that has diverged so far that every distance rounds
    to the same number would cover everything.

    Args:
        d: Distances (S, R) of generated to reference, both at least 1.

    Returns:
        Scalar float64 in (0, 1]; at most S / R.

    Raises:
        DataError: If d is not such a matrix, or holds NaN or infinity.

    >>> d = torch.tensor([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])  # all three are nearest to the first reference
    >>> coverage(d).item()
    0.5
    """
    return exact_mean(covered_references(d))


def covered_references(d: Tensor) -> Tensor:
    """Say of each reference whether it is covered, (R,) bool; COV is their mean. Takes d (S, R).

    >>> covered_references(torch.tensor([[1.0, 5.0], [2.0, 6.0]]))
    tensor([ True, False])
    """
    covered = torch.zeros(_matrix("d", d).shape[1], dtype=torch.bool, device=d.device)
    covered[d.argmin(dim=1)] = True
    return covered


def one_nearest_neighbor_accuracy(d_ss: Tensor, d_sr: Tensor, d_rr: Tensor, *, allow_unequal: bool = False) -> Tensor:
    """1-NNA: how well the nearest other cloud tells generated from reference (Lopez-Paz & Oquab 2017). Ideal is 50 %.

    Each of the S + R clouds is classified by the set that its nearest other cloud belongs to. Where several are
    equally near, the expectation under a fair draw among them counts, so that the order of the clouds has no say: a
    cloud with one neighbour of its own set and one of the other at the same distance is half right. 0 is a generator
    that repeats the reference, 1 one that has nothing in common with it.

    Args:
        d_ss: Distances (S, S) among the generated; the diagonal is not looked at.
        d_sr: Distances (S, R) of generated to reference.
        d_rr: Distances (R, R) among the references; the diagonal is not looked at.
        allow_unequal: Take S ≠ R. Two equal distributions then score
            (S (S − 1) + R (R − 1)) / ((S + R) (S + R − 1)) on average, the more above 50 % the more S and R differ.

    Returns:
        Scalar float64 in [0, 1].

    Raises:
        DataError: If the shapes do not belong together, or a distance is NaN or infinite.
        ConfigurationError: If S ≠ R, unless allowed.

    >>> near, far = torch.ones(2, 2), torch.full((2, 2), 9.0)
    >>> one_nearest_neighbor_accuracy(near, far, near).item()  # told apart without fail
    1.0
    >>> one_nearest_neighbor_accuracy(far, near, far).item()  # each stands nearer to the other set
    0.0
    """
    S, R = d_sr.shape if d_sr.ndim == 2 else (0, 0)
    if S != R and not allow_unequal:
        raise ConfigurationError(
            f"1-NNA of {S} generated and {R} reference clouds is not 50 % for equal distributions: give as many of "
            "each, or say allow_unequal=True"
        )
    return exact_mean(torch.cat(neighbor_agreement(d_ss, d_sr, d_rr)))


def neighbor_agreement(d_ss: Tensor, d_sr: Tensor, d_rr: Tensor) -> tuple[Tensor, Tensor]:
    """Give the chance that each cloud's nearest other one is of its own set; 1-NNA is the mean over both sets.

    Args:
        d_ss: (S, S), the diagonal is not looked at.
        d_sr: (S, R).
        d_rr: (R, R), the diagonal is not looked at.

    Returns:
        For the generated (S,) and the references (R,), float64: 1 or 0, or a share where neighbours tie.

    >>> near, far = torch.ones(2, 2), torch.full((2, 2), 9.0)
    >>> neighbor_agreement(near, far, near)
    (tensor([1., 1.], dtype=torch.float64), tensor([1., 1.], dtype=torch.float64))
    """
    _matrix("d_sr", d_sr)
    own_s, own_r = _without_diagonal("d_ss", d_ss, d_sr.shape[0]), _without_diagonal("d_rr", d_rr, d_sr.shape[1])
    return _own_share(own_s, d_sr), _own_share(own_r, d_sr.T)


def reconstruction_agreement(d_dd: Tensor, d_dr: Tensor) -> tuple[Tensor, Tensor]:
    """Say of each datum whether its nearest other cloud, among data and reconstructions, is a reconstruction.

    Args:
        d_dd: Distances (n, n) among the data; the diagonal is not looked at.
        d_dr: Distances (n, n) of datum i to reconstruction j.

    Returns:
        (n,) float64 for any reconstruction, and (n,) for the datum's own: 1 or 0; where several clouds are equally
        near, the share of them that counts.

    >>> d_dd, d_dr = torch.tensor([[0.0, 2.0], [2.0, 0.0]]), torch.tensor([[1.0, 9.0], [1.0, 9.0]])
    >>> reconstruction_agreement(d_dd, d_dr)  # both are nearest to the first reconstruction
    (tensor([1., 1.], dtype=torch.float64), tensor([1., 0.], dtype=torch.float64))
    """
    n = _matrix("d_dr", d_dr).shape[0]
    if d_dr.shape[1] != n:
        raise DataError(f"d_dr has shape {tuple(d_dr.shape)}; every datum has one reconstruction, so it is square")
    others = _without_diagonal("d_dd", d_dd, n)
    nearest = torch.minimum(others.amin(dim=1), d_dr.amin(dim=1))
    tied_data = in_double((others == nearest[:, None]).sum(dim=1))
    tied_reconstructions = in_double((d_dr == nearest[:, None]).sum(dim=1))
    tied = tied_data + tied_reconstructions
    return tied_reconstructions / tied, in_double(d_dr.diagonal() == nearest) / tied


def exact_mean(terms: Tensor) -> Tensor:
    """Average in float64 with one rounding, so that neither order nor number of processes shows in the last bit.

    Args:
        terms: Any shape, at least one term.

    Returns:
        Scalar float64 on the device of the terms, or on the CPU if that has no float64.
    """
    terms = in_double(terms.detach())
    total = math.fsum(terms.flatten().tolist())
    return torch.tensor(total / terms.numel(), dtype=torch.float64, device=terms.device)


def _own_share(own: Tensor, other: Tensor) -> Tensor:
    """Share of each row's nearest neighbours that stand in `own` and not in `other`, float64."""
    nearest = torch.minimum(own.amin(dim=1), other.amin(dim=1))[:, None]
    tied_own = in_double((own == nearest).sum(dim=1))
    return tied_own / (tied_own + in_double((other == nearest).sum(dim=1)))


def _without_diagonal(name: str, d: Tensor, n: int) -> Tensor:
    if d.shape != (n, n):
        raise DataError(
            f"{name} has shape {tuple(d.shape)}, but the other matrices speak of {n} clouds: give ({n}, {n})"
        )
    diagonal = torch.eye(n, dtype=torch.bool, device=d.device)
    _matrix(name, d.masked_fill(diagonal, 0))  # what stands on the diagonal is nobody's distance
    return d.masked_fill(diagonal, torch.inf)


def _matrix(name: str, d: Tensor) -> Tensor:
    if d.ndim != 2 or not d.numel():
        raise DataError(
            f"{name} has shape {tuple(d.shape)}; a matrix of distances is (S, R) with at least one cloud each"
        )
    if not torch.isfinite(d).all():
        bad = (~torch.isfinite(d)).nonzero()[0].tolist()
        raise DataError(
            f"{name}[{bad[0]}, {bad[1]}] is {d[bad[0], bad[1]].item()}: look for NaN or infinity in the clouds"
        )
    return d
