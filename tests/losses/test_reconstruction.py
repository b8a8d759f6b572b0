import math

import pytest
import torch

from pcgen.errors import ConfigurationError
from pcgen.losses import (
    BernoulliReconstruction,
    ChamferReconstruction,
    GaussianReconstruction,
    LearnedScaleChamferReconstruction,
)


def clouds(N, M, B=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(B, N, 3, generator=generator), torch.rand(B, M, 3, generator=generator)


def brackets(points, log_scale, target):
    """Σ_i [log σ(y)_i + (x_i − y_i)² / (2 σ(y)_i²)] for every pair, in float64 and without any trick: (B, N, M)."""
    x, y, s = target.double()[:, :, None], points.double()[:, None], log_scale.double()[:, None]
    return (s + (x - y).square() / (2 * (2 * s).exp())).sum(-1)


def test_constant_scale_is_the_chamfer_sum_over_two_alpha_squared():
    x, y = clouds(17, 23)
    d = (x.double()[:, :, None] - y.double()[:, None]).square().sum(-1)
    expected = (d.amin(2).sum(1) + d.amin(1).sum(1)) / (2 * 0.3**2)
    torch.testing.assert_close(ChamferReconstruction(0.3)(y, x).double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("N", "M"), [(20, 20), (13, 31)])
def test_learned_scale_equal_to_alpha_is_the_constant_case_plus_its_logarithms(N, M):
    alpha = 0.2
    x, y = clouds(N, M)
    loss = LearnedScaleChamferReconstruction(initial_scale=alpha)
    prediction = torch.cat([y, torch.zeros_like(y)], -1)
    expected = ChamferReconstruction(alpha)(y, x) + 3 * (N + M) * math.log(alpha)
    torch.testing.assert_close(loss(prediction, x), expected, rtol=1e-4, atol=1e-3)


def test_learned_scale_minimises_over_the_whole_bracket():
    x, y = clouds(19, 11)
    raw = 3 * torch.randn(3, 11, 3, generator=torch.Generator().manual_seed(1))
    loss = LearnedScaleChamferReconstruction(min_scale=0.01, initial_scale=0.1)
    prediction = torch.cat([y, raw], -1)
    b = brackets(y, loss.log_scale(prediction), x)
    expected = b.amin(2).sum(1) + b.amin(1).sum(1)
    torch.testing.assert_close(loss(prediction, x).double(), expected, rtol=1e-4, atol=1e-3)
    nearest = (x[:, :, None] - y[:, None]).square().sum(-1).argmin(2)
    assert (nearest != b.argmin(2)).any()  # the two minima do differ here


def test_learned_scale_has_the_gradient_of_the_bracket():
    x, y = (c.double() for c in clouds(9, 8))
    raw = torch.randn(3, 8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    loss = LearnedScaleChamferReconstruction()
    prediction = torch.cat([y, raw], -1).requires_grad_()
    loss(prediction, x).sum().backward()
    again = prediction.detach().clone().requires_grad_()
    b = brackets(loss.data(again), loss.log_scale(again), x)
    (b.amin(2).sum() + b.amin(1).sum()).backward()
    torch.testing.assert_close(prediction.grad, again.grad, rtol=1e-6, atol=1e-8)


def test_learned_scale_stays_above_its_floor():
    loss = LearnedScaleChamferReconstruction(min_scale=0.02, initial_scale=0.1)
    scale = loss.log_scale(torch.cat([torch.zeros(1, 3, 3), torch.full((1, 3, 3), -80.0)], -1)).exp()
    torch.testing.assert_close(scale, torch.full_like(scale, 0.02))


def test_gaussian_and_bernoulli_against_torch_distributions():
    generator = torch.Generator().manual_seed(0)
    x, logits = torch.rand(2, 1, 4, 5, generator=generator), torch.randn(2, 1, 4, 5, generator=generator)
    normal = torch.distributions.Normal(logits, 0.3)
    constant = 20 * (0.5 * math.log(2 * math.pi) + math.log(0.3))
    torch.testing.assert_close(GaussianReconstruction(0.3)(logits, x), -normal.log_prob(x).sum((1, 2, 3)) - constant)
    hard = (x > 0.5).float()
    bernoulli = torch.distributions.Bernoulli(logits=logits)
    torch.testing.assert_close(BernoulliReconstruction()(logits, hard), -bernoulli.log_prob(hard).sum((1, 2, 3)))
    torch.testing.assert_close(BernoulliReconstruction().data(logits), bernoulli.probs)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e-200])
def test_scales_must_be_positive(scale):
    with pytest.raises(ConfigurationError, match="above 0"):
        ChamferReconstruction(scale)
