"""Scores of recovered warps and layers, against loops in float64, closed forms and the invariances that they claim."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from pcgen.errors import DataError
from pcgen.latents.transfer import landmark_places, template_places
from pcgen.metrics.recovery import (
    Recovered,
    correlation,
    fit_gauge,
    in_images,
    landmark_errors,
    layer_correlation,
    remove_gauge,
    score_recovery,
    warp_correlation,
)
from pcgen.ops import affine_grid, identity_grid, warp_images

B, H, W = 12, 9, 11
GAUGE = torch.tensor([[0.8, 0.15, 0.1], [-0.1, 1.2, -0.2]], dtype=torch.float64)


def bent(rng, scale=0.1):
    """Smooth warps (B, H, W, 2) about the identity, each by a shift, a shear and a wave."""
    a = torch.from_numpy(rng.normal(0, scale, (B, 6, 1, 1)))
    p = identity_grid(H, W, dtype=torch.float64)
    x, y = p.unbind(-1)
    return p + torch.stack([a[:, 0] + a[:, 1] * y + 0.5 * a[:, 2] * torch.cos(2 * y), a[:, 3] + a[:, 4] * x], -1)


@pytest.fixture
def warps():
    """A true warp, one that resembles it, and what shows the object: places near the middle of the true frame."""
    rng = np.random.default_rng(0)
    true, other = bent(rng), bent(rng)
    return true + 0.4 * (other - identity_grid(H, W)), true, true.norm(dim=-1) < 0.7


def looped(found, true, support):
    """Pearson's correlation of residual warps from sums over single pixels."""
    a, b = [], []
    for k in range(B):
        for i in range(H):
            for j in range(W):
                if support[k, i, j]:
                    rest = (-1 + 2 * j / (W - 1), -1 + 2 * i / (H - 1))
                    for d in range(2):
                        a.append(float(found[k, i, j, d]) - rest[d])
                        b.append(float(true[k, i, j, d]) - rest[d])
    return pearsonr(a, b).statistic


def test_the_correlation_of_warps_is_pearsons(warps):
    found, true, support = warps
    assert warp_correlation(found, true, support) == pytest.approx(looped(found, true, support), abs=1e-12)
    assert 0.5 < warp_correlation(found, true, support) < 0.99
    assert warp_correlation(true, true, support) == 1
    assert warp_correlation(found.float(), true, support) == pytest.approx(looped(found, true, support), abs=1e-5)


def test_centred_it_looks_at_each_pixel_over_the_images_alone(warps):
    found, true, support = warps
    a, b = [], []
    for i in range(H):
        for j in range(W):
            rows = support[:, i, j]
            for d in range(2):
                for side, grid in ((a, found), (b, true)):
                    values = grid[rows, i, j, d].numpy()
                    side.extend(values - values.mean() if len(values) else [])
    expected = pearsonr(a, b).statistic
    assert warp_correlation(found, true, support, centered=True) == pytest.approx(expected, abs=1e-12)
    fixed = found + torch.from_numpy(np.random.default_rng(1).normal(size=(H, W, 2)))
    assert warp_correlation(fixed, true, support, centered=True) == pytest.approx(expected, abs=1e-9)


def test_pixels_beyond_the_support_do_not_count(warps):
    found, true, support = warps
    other = torch.where(support[..., None], found, 7.0)
    for centered in (False, True):
        assert warp_correlation(other, true, support, centered=centered) == pytest.approx(
            warp_correlation(found, true, support, centered=centered), abs=1e-12
        )


def test_a_warp_that_does_not_move_knows_nothing(warps):
    _, true, support = warps
    still = identity_grid(H, W).expand(B, -1, -1, -1)
    assert np.isnan(warp_correlation(still, true, support))
    shrunk = 0.8 * still
    gauge = fit_gauge(shrunk, true, support)
    assert np.isnan(warp_correlation(remove_gauge(shrunk, gauge), true, support, centered=True))
    assert np.isnan(warp_correlation(torch.zeros_like(true), true, support, centered=True))


def test_the_gauge_is_found_and_taken_away(warps):
    _, true, support = warps
    moved = affine_grid(true, GAUGE.expand(B, -1, -1))
    gauge = fit_gauge(moved, true, support)
    assert torch.allclose(gauge, GAUGE, atol=1e-10)
    assert torch.allclose(remove_gauge(moved, gauge), true, atol=1e-10)
    assert warp_correlation(moved, true, support) < 0.95
    scores = score_recovery(Recovered(grid=moved), Recovered(grid=true), support, gauge=gauge)
    assert scores["warp_without_gauge"] == pytest.approx(1, abs=1e-12)


def test_the_gauge_is_least_squares(warps):
    found, true, support = warps
    gauge = fit_gauge(found, true, support)
    known = np.concatenate([true[support].numpy(), np.ones((int(support.sum()), 1))], 1)
    expected = np.linalg.solve(known.T @ known, known.T @ found[support].numpy()).T
    assert np.abs(gauge.numpy() - expected).max() < 1e-10


def test_a_gauge_of_a_collapsed_warp_leaves_finite_numbers(warps):
    _, true, support = warps
    gauge = fit_gauge(torch.full_like(true, 0.3), true, support)
    assert remove_gauge(torch.full_like(true, 0.3), gauge).isfinite().all()


def test_no_other_warp_explains_by_chance():
    rng = np.random.default_rng(3)
    found = [warp_correlation(bent(rng), bent(rng), torch.ones(B, H, W, dtype=torch.bool)) for _ in range(40)]
    assert abs(np.mean(found)) < 0.12


# ── layers ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def layers(warps):
    rng = np.random.default_rng(1)
    true = torch.from_numpy(rng.uniform(0.1, 1, (B, 3, H, W)))
    return true + torch.from_numpy(rng.normal(0, 0.2, true.shape)), true, warps[2]


def test_layers_are_correlated_together_or_image_by_image(layers):
    found, true, support = layers
    a = [found[k, c, i, j].item() for k, i, j in support.nonzero() for c in range(3)]
    b = [true[k, c, i, j].item() for k, i, j in support.nonzero() for c in range(3)]
    assert layer_correlation(found, true, support) == pytest.approx(pearsonr(a, b).statistic, abs=1e-12)
    each = [pearsonr(found[k][:, support[k]].flatten(), true[k][:, support[k]].flatten()).statistic for k in range(B)]
    assert layer_correlation(found, true, support, each=True) == pytest.approx(np.mean(each), abs=1e-12)


def test_scale_does_not_matter(layers):
    found, true, support = layers
    assert layer_correlation(3 * found + 1, true, support) == pytest.approx(
        layer_correlation(found, true, support), abs=1e-12
    )
    scale = torch.linspace(0.3, 3, B, dtype=torch.float64).view(B, 1, 1, 1)
    each = layer_correlation(found, true, support, each=True)
    assert layer_correlation(found * scale, true, support, each=True) == pytest.approx(each, abs=1e-12)
    assert layer_correlation(found * scale, true, support) < layer_correlation(found, true, support) - 0.05


def test_images_whose_layer_is_constant_are_passed_over(layers):
    found, true, support = layers
    flat = true.clone()
    flat[3:] = 0.5
    few = layer_correlation(found[:3], true[:3], support[:3], each=True)
    assert layer_correlation(found, flat, support, each=True) == pytest.approx(few, abs=1e-12)
    assert np.isnan(layer_correlation(found, torch.ones_like(true), support, each=True))


# ── landmarks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_landmarks_go_to_the_template_and_back(warps):
    """With an affine warp of each image the way is exact: p = A⁻¹ (u − t)."""
    rng = np.random.default_rng(2)
    matrix = torch.eye(2, 3, dtype=torch.float64) + torch.from_numpy(rng.normal(0, 0.08, (B, 2, 3)))
    grid = affine_grid(identity_grid(H, W, dtype=torch.float64).expand(B, -1, -1, -1), matrix)
    template = torch.from_numpy(rng.uniform(-0.5, 0.5, (5, 2)))
    places = torch.linalg.solve(matrix[:, None, :, :2], (template - matrix[:, None, :, 2])[..., None])[..., 0]
    assert torch.allclose(template_places(grid, places), template, atol=1e-12)
    assert torch.allclose(landmark_places(grid, template, chunk=5), places, atol=1e-6)


def test_the_template_places_are_means(warps):
    found, _, _ = warps
    pixels = [(2, 3), (6, 5), (4, 10)]  # row, column: no interpolation between
    at = torch.tensor([[2 * j / (W - 1) - 1, 2 * i / (H - 1) - 1] for i, j in pixels], dtype=torch.float64)
    expected = np.mean([[found[k, i, j].numpy() for i, j in pixels] for k in range(B)], axis=0)
    assert np.abs(template_places(found, at.expand(B, -1, -1)).numpy() - expected).max() < 1e-9


def test_errors_are_in_pixels():
    true = torch.zeros(2, 3, 2)
    found = true.clone()
    found[0, 0], found[1, 2] = torch.tensor([0.3, 0.0]), torch.tensor([0.3, 0.4])
    errors = landmark_errors(found, true, (9, 21))  # 4 pixels and 10 pixels to the border
    expected = torch.zeros(2, 3, dtype=torch.float64)
    expected[0, 0], expected[1, 2] = 3, (9 + 2.56) ** 0.5
    assert torch.allclose(errors, expected, atol=1e-6)


# ── all of it ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_truth_itself_scores_best(warps):
    _, true, support = warps
    rng = np.random.default_rng(5)
    template = torch.from_numpy(rng.uniform(-0.4, 0.4, (4, 2)))
    truth = {
        "grid": true,
        "albedo": torch.from_numpy(rng.uniform(size=(B, 3, H, W))),
        "shading": torch.from_numpy(rng.uniform(0.5, 1.5, (B, 1, H, W))),
        "landmarks": landmark_places(true, template),
    }
    seen = in_images(truth)
    assert torch.equal(seen.albedo, warp_images(truth["albedo"], true))
    found = seen._replace(landmarks=landmark_places(true, template_places(true, seen.landmarks)))
    scores = score_recovery(found, seen, support, gauge=fit_gauge(true, true, support))
    error = scores.pop("landmark_error")
    assert scores == pytest.approx(dict.fromkeys(("warp", "warp_without_gauge", "albedo", "shading"), 1.0), abs=1e-9)
    assert error < 1e-4
    assert score_recovery(Recovered(), seen, support) == {}


def test_errors():
    with pytest.raises(DataError, match="no grid but part"):
        in_images({"part": torch.zeros(3)})
    grid, support = torch.zeros(2, 4, 4, 2), torch.ones(2, 4, 4, dtype=torch.bool)
    with pytest.raises(DataError, match=r"\(2, 4, 5\)"):
        warp_correlation(grid, grid, torch.ones(2, 4, 5, dtype=torch.bool))
    with pytest.raises(DataError, match="layers of shapes"):
        layer_correlation(torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4), support)
    with pytest.raises(DataError, match="landmarks of shapes"):
        landmark_errors(torch.zeros(2, 3, 2), torch.zeros(2, 4, 2), (4, 4))
    with pytest.raises(DataError, match="as many of each"):
        correlation(torch.zeros(2), torch.zeros(3))
