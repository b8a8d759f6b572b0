"""The Langevin operator against theory: stationary distributions of the unadjusted chain, and single steps by hand."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.ops import energy_gradient, langevin, langevin_states


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def bowl(x):
    return x.square().flatten(1).sum(1) / 2


# ── stationary distributions ──────────────────────────────────────────────────────────────────────────────────────────

SIGMA = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def gaussian(x):
    return (x.square() / (2 * SIGMA.square())).sum(1)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_stationary_variance_is_the_closed_form_of_the_unadjusted_chain(temperature):
    """σ²t/(1 − δ²/(4σ²)). Of n chains a variance is known to √(2/n); five such errors are let pass."""
    n, step_size = 20_000, 0.6
    expected = temperature * SIGMA**2 / (1 - step_size**2 / (4 * SIGMA**2))
    x = langevin(
        gaussian,
        torch.zeros(n, 3, dtype=torch.float64),
        steps=120,  # the slowest coordinate forgets by (1 − δ²/(2σ²))^120 = 4e-3, in its variance 1e-5
        step_size=step_size,
        temperature=temperature,
        generator=seeded(),
    )
    error = 5 * math.sqrt(2 / n)
    torch.testing.assert_close(x.var(0), expected, rtol=error, atol=0)
    assert expected[0] > (1 + 3 * error) * temperature * SIGMA[0] ** 2  # so the bias of the step size is seen
    assert (x.mean(0).abs() < 5 * (expected / n).sqrt()).all()


def test_mean_and_covariance_of_a_correlated_gaussian():
    """Σ(I − δ²/4 Σ⁻¹)⁻¹ by the same recursion in the eigenvectors of Σ."""
    n, step_size = 20_000, 0.4
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    precision = torch.linalg.inv(covariance)

    def energy(x):
        return ((x - mean) @ precision * (x - mean)).sum(1) / 2

    begin = mean + torch.randn(n, 2, generator=seeded(1), dtype=torch.float64)
    x = langevin(energy, begin, steps=100, step_size=step_size, generator=seeded(2))
    eye = torch.eye(2, dtype=torch.float64)
    expected = covariance @ torch.linalg.inv(eye - step_size**2 / 4 * precision)
    error = 5 * math.sqrt(2 / n) * float(expected.diagonal().max())
    torch.testing.assert_close(x.T.cov(), expected, rtol=0, atol=error)
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=5 * math.sqrt(float(expected.max()) / n))


def test_a_mixture_s_masses_moments_and_distribution():
    """All chains begin in the lighter component of two; they must find the share of the heavier one."""
    n, share = 4_000, torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.tensor([[-1.0, 0.5], [1.0, 0.0]], dtype=torch.float64)
    sigma = torch.tensor([[0.5, 0.6], [0.6, 0.8]], dtype=torch.float64)
    constants = share.log() - sigma.log().sum(1)

    def energy(x):
        parts = [((x - means[i]) / sigma[i]).square().sum(1) / 2 - constants[i] for i in (0, 1)]
        return -torch.logaddexp(-parts[0], -parts[1])

    x = langevin(energy, means[:1].repeat(n, 1), steps=800, step_size=0.2, generator=seeded(3))
    mean = share @ means
    second = (share[:, None, None] * (torch.diag_embed(sigma**2) + means[:, :, None] * means[:, None])).sum(0)
    # Four statistical errors of a variance near 1, and the bias of a variance, δ²/4 = .01.
    atol = 4 * math.sqrt(2 / n) + 0.01
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=atol)
    torch.testing.assert_close(x.T.cov(), second - mean[:, None] * mean, rtol=0, atol=atol)
    for k in (0, 1):  # Kolmogorov and Smirnov's distance to the true distribution of either coordinate

        def cdf(t, k=k):
            return sum(float(share[i]) * stats.norm.cdf(t, means[i, k], sigma[i, k]) for i in (0, 1))

        assert stats.ks_1samp(x[:, k].numpy(), cdf).statistic < 1.95 / math.sqrt(n) + 0.005  # p = .001, and the bias
    closer = ((x - means[1]).square().sum(1) < (x - means[0]).square().sum(1)).double().mean()
    drawn = torch.multinomial(share, 200_000, replacement=True, generator=seeded(4))
    drawn = means[drawn] + sigma[drawn] * torch.randn(len(drawn), 2, generator=seeded(5), dtype=torch.float64)
    expected = ((drawn - means[1]).square().sum(1) < (drawn - means[0]).square().sum(1)).double().mean()
    assert float(closer) == pytest.approx(float(expected), abs=4 * math.sqrt(0.25 / n))


# ── the update ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_step_by_hand():
    x = torch.tensor([[1.0, -2.0]])
    noise = torch.randn(1, 2, generator=seeded(4))
    out = langevin(lambda x: (3 * x.square()).sum(1), x, steps=1, step_size=0.2, temperature=4.0, generator=seeded(4))
    torch.testing.assert_close(out, x - 0.02 * 6 * x + 2 * 0.2 * noise)


def test_without_temperature_it_is_gradient_descent_and_draws_nothing():
    x = torch.randn(3, 4, 2, generator=seeded(5), dtype=torch.float64)
    generator = seeded(6)
    before = generator.get_state()
    out = langevin(lambda x: x.pow(4).sum((1, 2)), x, steps=7, step_size=0.1, temperature=0.0, generator=generator)
    expected = x.clone()
    for _ in range(7):
        expected = expected - 0.005 * 4 * expected**3
    torch.testing.assert_close(out, expected)
    assert torch.equal(generator.get_state(), before)


def test_a_temperature_for_each_step():
    x, temperatures = torch.randn(2, 3, generator=seeded(7)), [1.0, 0.0, 0.25]
    out = langevin(bowl, x, steps=3, step_size=0.5, temperature=temperatures, generator=seeded(8))
    rng, expected = seeded(8), x
    for t in temperatures:
        expected = expected * (1 - 0.125)
        if t:
            expected = expected + math.sqrt(t) * 0.5 * torch.randn(2, 3, generator=rng)
    torch.testing.assert_close(out, expected)


def test_values_are_clamped_after_each_step():
    x = torch.tensor([[0.5, -0.5]])
    # Uphill: from ±.5 by .75 to ±1.25, back to ±1, and from there out again.
    states = list(langevin_states(lambda x: -1.5 * bowl(x), x, steps=2, step_size=math.sqrt(2), temperature=0, clamp=1))
    assert [s.tolist() for s in states] == [[[0.5, -0.5]], [[1.0, -1.0]], [[1.0, -1.0]]]
    free = langevin(lambda x: -1.5 * bowl(x), x, steps=1, step_size=math.sqrt(2), temperature=0.0)
    torch.testing.assert_close(free, torch.tensor([[1.25, -1.25]]))


def test_states_are_those_of_the_chain_and_each_a_tensor_of_its_own():
    x = torch.randn(2, 3, generator=seeded(9))
    states = list(langevin_states(bowl, x, steps=5, step_size=0.3, generator=seeded(10)))
    assert len(states) == 6
    assert torch.equal(states[0], x)
    for k in range(6):
        assert torch.equal(states[k], langevin(bowl, x, steps=k, step_size=0.3, generator=seeded(10)))
    assert len({s.data_ptr() for s in (x, *states)}) == 7


def test_no_steps_and_no_data():
    x = torch.randn(2, 3)
    out = langevin(bowl, x, steps=0, step_size=0.1)
    assert torch.equal(out, x)
    assert out.data_ptr() != x.data_ptr()
    assert langevin(bowl, torch.zeros(0, 4, 3), steps=3, step_size=0.1).shape == (0, 4, 3)
    assert energy_gradient(bowl, torch.zeros(0, 4, 3)).shape == (0, 4, 3)


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 50])
def test_chunks_change_nothing(chunk_size):
    x = torch.randn(7, 5, generator=seeded(11))
    sizes = []

    def energy(x):
        sizes.append(len(x))
        return x.cos().sum(1)

    options = {"steps": 3, "step_size": 0.4}
    out = langevin(energy, x, generator=seeded(12), chunk_size=chunk_size, **options)
    assert max(sizes) == min(chunk_size, 7)
    assert torch.equal(out, langevin(energy, x, generator=seeded(12), **options))
    assert torch.equal(energy_gradient(energy, x, chunk_size=chunk_size), -x.sin())


@pytest.mark.parametrize(
    "energy",
    [lambda x: x.sum(1), lambda x: x.select(1, 0), lambda x: x.sum(1) * 2],
    ids=["sum", "coordinate", "scaled"],
)
def test_linear_energies_whose_gradient_is_one_number_seen_many_times(energy):
    x = torch.zeros(4, 3)
    (slope,) = torch.autograd.grad(energy(leaf := x.clone().requires_grad_()).sum(), leaf)
    for chunk_size in (None, 2):
        out = langevin(energy, x, steps=2, step_size=1.0, temperature=0.0, chunk_size=chunk_size)
        torch.testing.assert_close(out, -slope)


def test_an_energy_s_own_tensors_are_not_written_to():
    class Handed(torch.autograd.Function):
        """Gives a kept tensor as its gradient."""

        @staticmethod
        def forward(ctx, x):
            return x.sum(1)

        @staticmethod
        def backward(ctx, v):
            return kept

    kept = torch.ones(2, 3)
    x = torch.zeros(2, 3)
    langevin(Handed.apply, x, steps=2, step_size=1.0, temperature=0.0)
    assert torch.equal(kept, torch.ones(2, 3))
    assert torch.equal(x, torch.zeros(2, 3))


# ── surroundings ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_surrounding_mode_changes_nothing(around):
    x = torch.randn(3, 2, generator=seeded(13), requires_grad=True)
    expected = langevin(bowl, x, steps=4, step_size=0.3, generator=seeded(14))
    assert not expected.requires_grad
    with around():
        out = langevin(bowl, x * 1, steps=4, step_size=0.3, generator=seeded(14))
        assert torch.equal(energy_gradient(bowl, x * 1), x)
    assert torch.equal(out.clone(), expected)


def test_parameters_get_no_gradient_and_keep_what_they_have():
    net = nn.Linear(3, 1)
    net.weight.grad = torch.full((1, 3), 7.0)
    langevin(lambda x: net(x).squeeze(1).square(), torch.randn(4, 3), steps=3, step_size=0.1)
    assert torch.equal(net.weight.grad, torch.full((1, 3), 7.0))
    assert net.bias.grad is None


def test_the_type_of_the_data_stays():
    for dtype in (torch.float32, torch.float64):
        assert langevin(bowl, torch.zeros(2, 2, dtype=dtype), steps=1, step_size=0.1).dtype == dtype


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": -1}, "steps is -1; give 0 or more"),
        ({"step_size": 0.0}, "step_size is 0.0"),
        ({"step_size": math.inf}, "step_size is inf"),
        ({"step_size": math.nan}, "step_size is nan"),
        ({"temperature": -1.0}, "temperature is -1.0; it must be 0 or more"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": [1.0]}, "temperature has 1 values for 2 steps"),
        ({"temperature": [1.0, -1.0]}, "it must be 0 or more"),
        ({"clamp": 0.0}, "clamp is 0.0"),
        ({"clamp": math.nan}, "clamp is nan"),
        ({"chunk_size": 0}, "chunk_size is 0"),
    ],
)
def test_numbers_out_of_their_range(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        langevin(bowl, torch.zeros(1, 2), **({"steps": 2, "step_size": 0.1} | wrong))


def test_an_energy_that_is_none():
    options = {"steps": 1, "step_size": 0.1}
    with pytest.raises(
        DataError, match=r"the energy gave \(\) for data \(2, 3\); it is one number for each datum, \(2,\)"
    ):
        langevin(lambda x: x.sum(), torch.zeros(2, 3), **options)
    with pytest.raises(DataError, match=r"the energy gave \(2, 1\)"):
        langevin(lambda x: x.sum(1, keepdim=True), torch.zeros(2, 3), **options)
    with pytest.raises(DataError, match="has no gradient"):
        langevin(lambda x: x.detach().sum(1), torch.zeros(2, 3), **options)
