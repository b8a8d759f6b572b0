"""Codes of data under a chain: how near the chain comes to the data from them, and that they correspond."""

import pytest
import torch

from pcgen.chains import CodeInference
from pcgen.errors import ConfigurationError
from pcgen.nets import PointNetScore
from pcgen.ops import chamfer_distance, gather_points, langevin_map, optimal_assignment


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clouds(n=3, points=16):
    """Boxes of different sizes."""
    sizes = torch.linspace(0.3, 0.8, 3 * n).reshape(n, 1, 3)
    return (torch.rand(n, points, 3, generator=seeded(1)) - 0.5) * sizes


def chain(gradient="exact", *, steps=6, step_size=0.25):
    """A chain that bends space: it draws points to two places."""
    places = torch.tensor([[0.4, 0.0, 0.0], [-0.4, 0.1, 0.0]])

    def energy(x):
        return -0.5 * torch.logsumexp(-4 * (x[:, :, None] - places).square().sum(3), 2).sum(1)

    return lambda z: langevin_map(energy, z, steps=steps, step_size=step_size, gradient=gradient)


NOISE = 0.3 * torch.randn(16, 3, generator=seeded(2))


@pytest.mark.parametrize("distance", ["pointwise", "chamfer"])
def test_the_chain_comes_far_nearer_to_the_data_than_from_where_it_began(distance):
    x = clouds()
    infer = CodeInference(steps=60, learning_rate=0.05, distance=distance)
    z = infer(chain(), x, NOISE)
    assert z.shape == x.shape
    assert not z.requires_grad
    before = chamfer_distance(chain()(NOISE.expand(3, -1, -1)), x)
    after = chamfer_distance(chain()(z), x)
    assert (after < 0.2 * before).all()


def test_straight_through_finds_codes_of_a_gentle_chain_and_the_exact_gradient_of_any():
    """A step that overshoots turns directions round, which straight-through takes for unchanged."""
    x = clouds()
    target = gather_points(x, optimal_assignment(NOISE.expand(3, -1, -1), x))

    def error(gradient, **options):
        z = CodeInference(steps=60, learning_rate=0.05, gradient=gradient)(chain(gradient, **options), x, NOISE)
        return (chain(**options)(z) - target).square().sum()

    gentle, wild = {"steps": 6, "step_size": 0.25}, {"steps": 1, "step_size": 0.9}
    start = {steps: (chain(steps=steps)(NOISE.expand(3, -1, -1)) - target).square().sum() for steps in (6, 1)}
    assert error("exact", **gentle) < 0.02 * start[6]
    assert error("straight-through", **gentle) < 0.02 * start[6]
    assert error("exact", **wild) < 0.1 * start[1]
    assert error("straight-through", **wild) > 2 * error("exact", **wild)


@pytest.mark.parametrize("distance", ["pointwise", "chamfer"])
def test_the_order_of_a_clouds_points_changes_no_code(distance):
    x = clouds()
    shuffled = x[:, torch.randperm(16, generator=seeded(3))]
    infer = CodeInference(steps=10, learning_rate=0.05, distance=distance)
    torch.testing.assert_close(infer(chain(), shuffled, NOISE), infer(chain(), x, NOISE), rtol=1e-4, atol=1e-5)


def test_codes_stay_near_the_common_noise_point_by_point():
    """So codes of different clouds correspond: each point began at the same place."""
    z = CodeInference(steps=30, learning_rate=0.05)(chain(), clouds(), NOISE)
    own = (z - NOISE).norm(dim=2).mean()
    others = (z - NOISE[torch.randperm(16, generator=seeded(4))]).norm(dim=2).mean()
    assert own < 0.7 * others


def test_each_cloud_is_on_its_own_and_none_is_fine():
    x = clouds()
    infer = CodeInference(steps=5)
    torch.testing.assert_close(infer(chain(), x[1:2], NOISE), infer(chain(), x, NOISE)[1:2], rtol=1e-4, atol=1e-6)
    assert infer(chain(), x[:0], NOISE).shape == (0, 16, 3)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_it_finds_its_gradient_where_there_is_none(around):
    x, infer = clouds(), CodeInference(steps=3)
    expected = infer(chain(), x, NOISE)
    with around():
        found = infer(chain(), x * 1, NOISE * 1)
    assert torch.equal(found, expected)
    assert not torch.allclose(found, NOISE.expand_as(found), atol=1e-3)


def test_parameters_get_no_gradient():
    torch.manual_seed(0)
    net = PointNetScore((8,), (4,))
    CodeInference(steps=2)(lambda z: langevin_map(net, z, steps=2, step_size=0.3), clouds(), NOISE)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"gradient": "no"}, {"distance": "no"}],
)
def test_arguments_out_of_their_range(wrong):
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} is "):
        CodeInference(**wrong)
