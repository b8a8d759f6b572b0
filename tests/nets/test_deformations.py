"""Deformations: how they begin, what they do to templates, what they cost; formulas in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pcgen.errors import ConfigurationError
from pcgen.nets import FoldingDecoder, GridDeformation, ImageMLPDecoder, MLPDecoder, PointDeformation
from pcgen.nets.deformations import nearest_points
from pcgen.nets.folding import ball_points
from pcgen.nets.templates import SMALLEST
from pcgen.ops import identity_grid

H, W = 6, 5


def stirred(network, size=0.3, seed=0):
    """No layer is left at its beginning."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return network


def grid_deformation(**arguments):
    torch.manual_seed(0)
    return GridDeformation(ImageMLPDecoder(4, (2, H, W), (8,), batch_norm=False), **arguments)


def point_deformation(**arguments):
    torch.manual_seed(0)
    field = FoldingDecoder(4, 30, width=8, depth=2, code_widths=(8,), frequencies=1, batch_norm=False)
    return PointDeformation(field, **({"neighbors": 5} | arguments))


def given(kind, number=3, dtype=torch.float64):
    torch.manual_seed(1)
    shape = (3, H, W) if kind is grid_deformation else (30, 3)
    return torch.randn(number, 4, dtype=dtype), torch.rand(number, *shape, dtype=dtype)


KINDS = pytest.mark.parametrize("kind", [grid_deformation, point_deformation])


def soft(vector):
    return math.sqrt(sum(c * c for c in vector) + SMALLEST**2) - SMALLEST


# ── both ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@KINDS
def test_the_first_deformation_leaves_every_template_alone(kind):
    z, template = given(kind, dtype=torch.float32)
    made = kind()(z, template)
    torch.testing.assert_close(made.x, template, atol=1e-6, rtol=0)
    assert all(abs(value.item()) < 1e-5 for value in made.price().penalties().values())
    rest = identity_grid(H, W) if kind is grid_deformation else torch.zeros(30, 3)
    torch.testing.assert_close(made.deformation, rest.expand(3, *rest.shape), atol=1e-6, rtol=0)


@KINDS
def test_no_datum_sees_another_and_their_order_is_without_effect(kind):
    deformation = stirred(kind().double())
    z, template = given(kind, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    made, mixed = deformation(z, template), deformation(z[order], template[order])
    torch.testing.assert_close(mixed.x, made.x[order])
    torch.testing.assert_close(mixed.deformation, made.deformation[order])
    assert tuple(made.price().penalties()) == deformation.terms
    for name, value in made.price().penalties().items():
        torch.testing.assert_close(mixed.price().penalties()[name], value)
    alone = deformation(z[2:3], template[2:3])
    torch.testing.assert_close(alone.x[0], made.x[2])


@KINDS
def test_gradients_reach_every_weight_code_and_template(kind):
    deformation = stirred(kind().double(), 0.1)
    z, template = (tensor.requires_grad_() for tensor in given(kind))
    made = deformation(z, template)
    ((made.x * torch.randn_like(made.x)).sum() + sum(made.price().penalties().values())).backward()
    for tensor in (*deformation.parameters(), z, template):
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.any()


@KINDS
def test_the_first_step_has_finite_gradients_that_reach_the_last_layer(kind):
    deformation = kind()
    z, template = given(kind, dtype=torch.float32)
    made = deformation(z, template)
    (made.x.square().sum() + sum(made.price().penalties().values())).backward()
    grads = [p.grad for p in deformation.parameters()]
    assert all(torch.isfinite(g).all() for g in grads)
    assert sum(bool(g.any()) for g in grads) >= 2


@KINDS
def test_weights_scale_their_penalties_and_nothing_else(kind):
    plain, weighted = (stirred(kind(**w).double()) for w in ({}, {"smoothness": 3.0, "bias": 0.0}))
    z, template = given(kind)
    a, b = plain(z, template), weighted(z, template)
    assert torch.equal(a.x, b.x)
    torch.testing.assert_close(b.price().penalties()["smoothness"], 3 * a.price().penalties()["smoothness"])
    assert b.price().penalties()["bias"] == 0
    for name in ("smoothness", "bias"):
        with pytest.raises(ConfigurationError, match=f"{name} is -1"):
            kind(**{name: -1.0})


# ── images ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("affine", [True, False])
def test_the_warp_is_the_sum_of_softplus_increments_under_an_affine_map(affine):
    deformation = stirred(grid_deformation(affine=affine, smoothness=0.7, bias=0.4).double())
    z, template = given(grid_deformation)
    made = deformation(z, template)
    raw = deformation.decoder(z).tolist()
    one = math.log(math.e - 1)
    rest = [[(-1 + 2 * j / (W - 1), -1 + 2 * i / (H - 1)) for j in range(W)] for i in range(H)]
    local = np.empty((3, H, W, 2))
    for b in range(3):
        a = [[[math.log1p(math.exp(v + one)) for v in row] for row in channel] for channel in raw[b]]
        for i in range(H):
            for j in range(W):
                local[b, i, j, 0] = -1 + 2 / (W - 1) * (sum(a[0][i][k] for k in range(j + 1)) - 1)
                local[b, i, j, 1] = -1 + 2 / (H - 1) * (sum(a[1][k][j] for k in range(i + 1)) - 1)
    change = deformation.affine(z).detach().numpy().reshape(3, 2, 3) if affine else np.zeros((3, 2, 3))
    matrix = change + np.eye(2, 3)
    grid = np.einsum("bde,bije->bijd", matrix[:, :, :2], local) + matrix[:, None, None, :, 2]
    np.testing.assert_allclose(made.deformation.detach(), grid, atol=1e-12)

    residual = local - np.array(rest)
    variation = np.abs(np.diff(residual, axis=1)).sum() + np.abs(np.diff(residual, axis=2)).sum()
    bias = np.square(residual.mean(0)).sum() + H * W * np.square(change.mean(0)).sum()
    assert made.price().penalties()["smoothness"].item() == pytest.approx(0.7 * variation / 3, rel=1e-10)
    assert made.price().penalties()["bias"].item() == pytest.approx(0.4 * bias, rel=1e-10)
    looked_up = torch.nn.functional.grid_sample(
        template, torch.from_numpy(grid), padding_mode="border", align_corners=True
    )
    torch.testing.assert_close(made.x, looked_up)


def test_pixels_keep_their_order_for_any_weights():
    deformation = stirred(grid_deformation(affine=False), size=3.0)
    z, template = given(grid_deformation, 50, torch.float32)
    grid = deformation(10 * z, template).deformation
    rounding = 4 * torch.finfo(grid.dtype).eps * grid.abs().max()
    assert grid[..., 0].diff(dim=2).min() >= -rounding
    assert grid[..., 1].diff(dim=1).min() >= -rounding
    assert grid[..., 0].diff(dim=2).max() > 10 * 2 / (W - 1)  # and they did move


def test_under_autocast_the_grid_keeps_single_precision():
    """From the same increments and matrix: what the layers themselves round away is gone before."""
    deformation = stirred(grid_deformation(), 0.05)
    z, template = given(grid_deformation, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        made = deformation(z, template)
        increments, change = deformation.decoder(z).double(), deformation.affine(z).double()
    assert increments.isfinite().all()
    assert made.x.dtype == made.deformation.dtype == torch.float32
    a = torch.nn.functional.softplus(increments + math.log(math.e - 1))
    scale = torch.tensor([2 / (W - 1), 2 / (H - 1)], dtype=torch.float64)
    local = torch.stack([a[:, 0].cumsum(2), a[:, 1].cumsum(1)], -1).sub(1).mul(scale).sub(1)
    matrix = change.unflatten(1, (2, 3)) + torch.eye(2, 3, dtype=torch.float64)
    expected = torch.einsum("bhwe,bde->bhwd", local, matrix[:, :, :2]) + matrix[:, None, None, :, 2]
    torch.testing.assert_close(made.deformation.double(), expected, atol=3e-6, rtol=0)


def test_a_grid_deformation_is_for_images_of_its_size():
    with pytest.raises(ConfigurationError, match=r"increments along x and y are images \(2, H, W\)"):
        GridDeformation(ImageMLPDecoder(4, (3, H, W), (8,)))
    with pytest.raises(ConfigurationError, match=r"increments along x and y are images"):
        GridDeformation(MLPDecoder(4, 20, (8,)))
    deformation = grid_deformation()
    deformation.check((3, H, W))
    for shape in ((3, W, H), (20, 3)):
        with pytest.raises(ConfigurationError, match=r"images of \(6, 5\) pixels .* image_shape \[2, H, W\]"):
            deformation.check(shape)


# ── clouds ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("steps", [1, 3])
def test_points_follow_the_field_in_steps_and_pay_for_parting_from_neighbours(steps):
    deformation = stirred(point_deformation(steps=steps, smoothness=0.7, bias=0.4).double())
    z, template = given(point_deformation)
    made = deformation(z, template)
    x = template
    for _ in range(steps):
        x = x + deformation.field.steer(x, z) / steps
    torch.testing.assert_close(made.x, x)
    torch.testing.assert_close(made.deformation, x - template)
    assert made.deformation.abs().max() > 0.1
    d = made.deformation.tolist()
    smoothness = 0.0
    for b in range(3):
        near = cKDTree(template[b]).query(template[b], k=6)[1][:, 1:]
        for i in range(30):
            apart = [soft([p - q for p, q in zip(d[b][i], d[b][j], strict=True)]) for j in near[i]]
            smoothness += 0.7 * sum(apart) / 5 / 3
    mean = np.mean(d, axis=0)
    assert made.price().penalties()["smoothness"].item() == pytest.approx(smoothness, rel=1e-10)
    assert made.price().penalties()["bias"].item() == pytest.approx(0.4 * np.square(mean).sum(), rel=1e-10)


def test_several_steps_are_not_one():
    z, template = given(point_deformation)
    one, three = (stirred(point_deformation(steps=steps).double())(z, template).x for steps in (1, 3))
    assert not torch.allclose(one, three, atol=1e-3)


def test_moving_all_points_alike_costs_no_smoothness():
    deformation = point_deformation().double()
    with torch.no_grad():
        deformation.field.out.bias.copy_(torch.tensor([0.3, -0.2, 0.5]))
    made = deformation(*given(point_deformation))
    assert abs(made.price().penalties()["smoothness"].item()) < 1e-12
    assert made.price().penalties()["bias"].item() == pytest.approx(30 * (0.09 + 0.04 + 0.25), rel=1e-6)


@pytest.mark.parametrize("N", [20, 300])
def test_neighbours_are_those_of_a_tree(N):
    torch.manual_seed(0)
    x = torch.rand(3, N, 3) + torch.tensor([100.0, 0.0, 0.0])  # far off, where products of coordinates lose digits
    found = nearest_points(x, 6)
    assert found.shape == (3, N, 6)
    for b in range(3):
        expected = cKDTree(x[b].double()).query(x[b].double(), k=7)[1][:, 1:]
        np.testing.assert_array_equal(np.sort(found[b], 1), np.sort(expected, 1))


def test_neighbours_of_equal_points_are_others():
    found = nearest_points(torch.zeros(1, 6, 3), 5)
    for i in range(6):
        assert set(found[0, i].tolist()) == set(range(6)) - {i}


def test_few_clouds_at_once_have_the_same_neighbours(monkeypatch):
    x = torch.randn(5, 20, 3, generator=torch.Generator().manual_seed(0))
    whole = nearest_points(x, 6)
    monkeypatch.setattr("pcgen.nets.deformations.PAIRS", 2 * 20 * 20)
    sizes = []
    cdist = torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda a, b, **how: sizes.append(len(a)) or cdist(a, b, **how))
    assert torch.equal(nearest_points(x, 6), whole)
    assert sizes == [2, 2, 1]


def test_one_template_for_all_is_as_good_as_copies_of_it():
    template = ball_points(30).double()
    one, copies = template.expand(4, -1, -1), template.repeat(4, 1, 1)
    assert torch.equal(nearest_points(one, 5), nearest_points(copies, 5))
    deformation, z = stirred(point_deformation().double()), torch.randn(4, 4, dtype=torch.float64)
    a, b = deformation(z, one), deformation(z, copies)
    torch.testing.assert_close(a.x, b.x)
    for name in deformation.terms:
        torch.testing.assert_close(a.price().penalties()[name], b.price().penalties()[name])


def test_a_point_deformation_is_for_clouds_of_more_points_than_neighbours():
    deformation = point_deformation()
    deformation.check((6, 3))
    with pytest.raises(ConfigurationError, match=r"neighbors is 5 and the template has 5 points; take fewer"):
        deformation.check((5, 3))
    with pytest.raises(ConfigurationError, match=r"is for clouds .*\(3, 6, 5\): take a GridDeformation"):
        deformation.check((3, H, W))
    with pytest.raises(ConfigurationError, match="extra_channels 3; a displacement has none, give 0"):
        PointDeformation(FoldingDecoder(4, 30, width=8, depth=2, code_widths=(8,), extra_channels=3))
    for name in ("steps", "neighbors"):
        with pytest.raises(ConfigurationError, match=f"{name} is 0"):
            point_deformation(**{name: 0})


# ── the field ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("frequencies", [0, 3])
def test_a_folding_decoder_steers_its_own_template_as_it_decodes(frequencies):
    torch.manual_seed(0)
    field = FoldingDecoder(4, 25, width=8, depth=3, code_widths=(8,), frequencies=frequencies, extra_channels=2).eval()
    z = torch.randn(3, 4)
    steered = field.steer(ball_points(25).expand(3, -1, -1), z)
    assert steered.shape == (3, 25, 5)
    torch.testing.assert_close(steered, field(z), atol=1e-5, rtol=1e-5)
    more = field.steer(ball_points(40).expand(3, -1, -1), z)
    torch.testing.assert_close(more, field(z, 40), atol=1e-5, rtol=1e-5)


def test_a_steered_point_does_not_see_the_others():
    torch.manual_seed(0)
    field = FoldingDecoder(4, 25, width=8, depth=3, code_widths=(8,)).eval()
    points, z = torch.rand(3, 11, 3), torch.randn(3, 4)
    torch.testing.assert_close(field.steer(points, z)[:, 4:6], field.steer(points[:, 4:6], z))
    swapped = field.steer(points, z.flip(0))
    assert not torch.allclose(swapped[0], field.steer(points, z)[0], atol=1e-3)
