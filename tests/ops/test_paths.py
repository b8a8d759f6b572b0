import numpy as np
import pytest
import torch
from scipy.spatial import geometric_slerp

from pcgen.errors import ConfigurationError, DataError
from pcgen.ops import gaussian_kl, interpolate_codes


def test_the_great_circle_is_scipys():
    a, b = torch.nn.functional.normalize(torch.randn(2, 4, 5, dtype=torch.float64), dim=-1)
    walk = interpolate_codes(a, b, 6, path="spherical")
    for i in range(4):
        np.testing.assert_allclose(walk[:, i], geometric_slerp(a[i], b[i], np.linspace(0, 1, 6)), atol=1e-12)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_both_ends_are_in_and_lengths_go_from_one_to_the_other(path):
    a, b = torch.randn(3, 8, dtype=torch.float64), 4 * torch.randn(3, 8, dtype=torch.float64)
    walk = interpolate_codes(a, b, 9, path=path)
    torch.testing.assert_close(walk[0], a)
    torch.testing.assert_close(walk[-1], b)
    back = interpolate_codes(b, a, 9, path=path)
    torch.testing.assert_close(back.flip(0), walk)


def test_parallel_codes_are_joined_by_a_line_with_a_finite_gradient():
    a = torch.randn(1, 4, requires_grad=True)
    walk = interpolate_codes(a, 2 * a.detach(), 3, path="spherical")
    torch.testing.assert_close(walk[1], 1.5 * a)
    walk.sum().backward()
    assert a.grad.isfinite().all()


def test_the_circle_keeps_the_length_that_the_line_loses():
    a, b = torch.randn(2, 50, 128)
    middle = {path: interpolate_codes(a, b, 3, path=path)[1].norm(dim=1).mean() for path in ("linear", "spherical")}
    assert middle["linear"] < 9
    assert middle["spherical"] > 10.5  # √128 is 11.3


@pytest.mark.parametrize(
    ("a", "b", "steps", "path", "error", "said"),
    [
        (torch.ones(1, 1), torch.ones(1, 1), 3, "spherical", DataError, "one dimension"),
        (torch.ones(1, 3), -torch.ones(1, 3), 3, "spherical", DataError, "pair 0 .*opposite"),
        (torch.ones(1, 3), torch.zeros(1, 3), 3, "spherical", DataError, "zero"),
        (torch.ones(1, 3), torch.ones(2, 3), 3, "linear", DataError, r"\(2, 3\)"),
        (torch.ones(1, 3), torch.ones(1, 3), 1, "linear", ConfigurationError, "steps is 1"),
        (torch.ones(1, 3), torch.ones(1, 3), 2, "round", ConfigurationError, "'round'"),
    ],
)
def test_what_cannot_be_joined_is_refused(a, b, steps, path, error, said):
    with pytest.raises(error, match=said):
        interpolate_codes(a, b, steps, path=path)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_both_ends_are_the_codes_themselves_whatever_their_lengths(path):
    a, b = torch.tensor([[1e8, 1.0], [0.1, 0.7]]), torch.tensor([[0.1, 0.3], [0.3, 1e8]])
    walk = interpolate_codes(a, b, 5, path=path)
    torch.testing.assert_close(walk[0], a, rtol=3e-7, atol=0)
    torch.testing.assert_close(walk[-1], b, rtol=3e-7, atol=0)


def test_kl_against_torch_distributions():
    mu, log_var = torch.randn(5, 7), torch.randn(5, 7)
    q = torch.distributions.Normal(mu, (0.5 * log_var).exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mu, log_var), expected)
