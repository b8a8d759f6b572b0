import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pcgen.errors import DataError
from pcgen.ops import pairwise_marginal_bound


def exact(a, b, squared):
    out = torch.zeros(len(a), len(b), dtype=torch.float64)
    for i, x in enumerate(a.double()):
        for j, y in enumerate(b.double()):
            cost = (x[:, None] - y[None]).square().sum(-1)
            cost = cost if squared else cost.sqrt()
            rows, columns = linear_sum_assignment(cost.numpy())
            out[i, j] = cost[rows, columns].mean()
    return out


def by_loops(a, b, squared):
    """The bound of the coordinates' frame, written out."""
    out = np.zeros((len(a), len(b)))
    for i, x in enumerate(a.double().numpy()):
        for j, y in enumerate(b.double().numpy()):
            gaps = [np.abs(np.sort(x[:, k]) - np.sort(y[:, k])) for k in range(3)]
            out[i, j] = sum((g**2).mean() for g in gaps) if squared else np.sqrt(sum(g.mean() ** 2 for g in gaps))
    return torch.from_numpy(out)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("kind", ["normal", "sphere", "line", "grid", "moved"])
def test_never_above_the_distance(kind, squared):
    torch.manual_seed(0)
    a, b = torch.randn(5, 60, 3), torch.randn(4, 60, 3)
    if kind == "sphere":
        a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    if kind == "line":
        a, b = a * torch.tensor([1.0, 0, 0]), b * torch.tensor([0, 1.0, 0])
    if kind == "grid":
        a, b = a.round(), b.round()
    if kind == "moved":
        a = a + 1000
    d = exact(a, b, squared)
    bound = pairwise_marginal_bound(a, b, squared=squared)
    assert (bound <= d).all()
    assert (bound >= 0.2 * d).all()  # and it says something


@pytest.mark.parametrize("squared", [False, True])
def test_one_frame_is_the_formula_and_more_frames_only_raise_it(squared):
    torch.manual_seed(1)
    a, b = torch.randn(3, 40, 3), torch.randn(5, 40, 3) * 2
    one = pairwise_marginal_bound(a, b, squared=squared, frames=1)
    torch.testing.assert_close(one, by_loops(a, b, squared), rtol=1e-8, atol=0)
    assert (pairwise_marginal_bound(a, b, squared=squared, frames=6) >= one).all()


def test_a_translation_is_found_exactly():
    torch.manual_seed(2)
    x, shift = torch.randn(1, 50, 3, dtype=torch.float64), torch.tensor([0.3, -2.0, 0.7], dtype=torch.float64)
    assert pairwise_marginal_bound(x, x + shift).item() == pytest.approx(shift.norm().item(), rel=1e-8)
    assert pairwise_marginal_bound(x, x + shift, squared=True).item() == pytest.approx(
        shift.square().sum().item(), rel=1e-8
    )


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("places", range(5, 17))
def test_rounding_does_not_lift_the_bound_of_near_twins(places, squared):
    generator = torch.Generator().manual_seed(places)
    x = torch.rand(6, 48, 3, dtype=torch.float64, generator=generator)
    y = x.clone()
    y[:, 7] += 10.0**-places
    moved = (y - x)[:, 7].norm(dim=1)  # one point of 48, in double without rounding
    y = y[:, torch.randperm(48, generator=generator)]
    bound = pairwise_marginal_bound(x, y, squared=squared).diagonal()
    assert (bound <= (moved.square() if squared else moved) / 48).all()
    assert (pairwise_marginal_bound(x, x.flip(1), squared=squared).diagonal() == 0).all()


def test_sizes_must_agree():
    with pytest.raises(DataError, match=r"5 points a cloud and b 6"):
        pairwise_marginal_bound(torch.rand(1, 5, 3), torch.rand(1, 6, 3))
    assert pairwise_marginal_bound(torch.rand(0, 5, 3), torch.rand(2, 5, 3)).shape == (0, 2)
