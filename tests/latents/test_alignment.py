"""Alignment and exchange with a model whose warp is known: a sheared square."""

import numpy as np
import pytest
import torch

from pcgen.errors import ConfigurationError, DataError, UnsupportedOperationError
from pcgen.latents import align, exchange
from pcgen.ops import unwarp_points, warp_images

CODES = torch.tensor([[-0.4, 1.0], [0.0, 1.0], [0.1, 1.0], [0.3, 1.0], [0.25, 1.0]])


def test_the_model_of_these_tests_reads_its_own_codes(sheared):
    codes = torch.tensor([[-0.4, 1.0], [0.0, 0.5], [0.3, 0.8]])
    torch.testing.assert_close(sheared.encode(sheared.decode(codes)), codes, atol=0.01, rtol=0)


def test_sheared_squares_are_all_brought_to_the_mean_shear(sheared):
    x = sheared.decode(CODES)
    found = align(sheared, x)
    shear = sheared.encode(x)[:, 0].mean()
    expected = sheared.decode(torch.tensor([[shear, 1.0]]))[0]
    inside = (slice(None), slice(None), slice(6, -6))  # at the border a sheared image shows less than the mean one
    assert abs(found.aligned - expected)[inside].max() < 0.12  # of steps between 0 and 1, interpolated twice
    assert abs(found.aligned - expected)[inside].mean() < 0.01
    assert abs(x - expected)[inside].mean() > 0.04
    torch.testing.assert_close(found.textures, expected.expand_as(x), atol=2e-2, rtol=0)
    y = torch.linspace(-1, 1, 41)[:, None]
    torch.testing.assert_close(found.grid[..., 0], torch.linspace(-1, 1, 41) + shear * y, atol=1e-5, rtol=0)


def test_means_and_variances_are_those_of_the_sets(sheared):
    x = sheared.decode(CODES)
    found = align(sheared, x)
    made = sheared.reconstruct(x)
    sets = {"inputs": x, "aligned": found.aligned, "reconstructions": made, "textures": found.textures}
    assert list(found.means) == list(found.variances) == list(found.totals)
    assert set(found.totals) == {*sets, "misaligned"}
    for kind, images in sets.items():
        array = images.double().numpy()
        np.testing.assert_allclose(found.means[kind], array.mean(0), atol=1e-6)
        np.testing.assert_allclose(found.variances[kind], array.var(0).mean(0), atol=1e-6)
        assert found.totals[kind] == pytest.approx(array.var(0).mean(), rel=1e-4, abs=1e-7)
    assert found.totals["aligned"] < 0.1 * found.totals["inputs"]
    assert found.totals["textures"] < 0.1 * found.totals["reconstructions"]


def test_the_warps_of_others_align_nothing(sheared):
    x = sheared.decode(CODES)
    found = align(sheared, x)
    assert found.totals["misaligned"] > 0.5 * found.totals["inputs"]
    turned = align(sheared, x.roll(-1, 0))  # the set in another order: the same warps, and other partners
    assert turned.totals["aligned"] == pytest.approx(found.totals["aligned"], rel=1e-4)
    torch.testing.assert_close(turned.means["misaligned"], found.means["misaligned"], atol=1e-5, rtol=0)


def test_each_warp_is_tried_on_the_next_image(sheared):
    """Three squares of which only the first is sheared: the second is bent by its warp, the other two stand still."""
    x = sheared.decode(torch.tensor([[0.4, 1.0], [0.0, 0.6], [0.0, 0.2]]))
    found = align(sheared, x)
    grids = sheared.decompose(sheared.encode(x)).deformation
    goal = found.grid.flatten(0, 1).expand(3, -1, -1)
    inverse = unwarp_points(grids, goal)[0].unflatten(1, (41, 41))
    expected = torch.stack([warp_images(x[[(k + 1) % 3]], inverse[[k]])[0] for k in range(3)])
    torch.testing.assert_close(found.means["misaligned"], expected.mean(0), atol=1e-5, rtol=0)
    alone = align(sheared, x[:1])
    torch.testing.assert_close(alone.means["misaligned"], alone.means["aligned"])


def test_alignment_keeps_the_appearance_apart(sheared):
    codes = torch.tensor([[-0.3, 1.0], [0.3, 0.5]])
    found = align(sheared, sheared.decode(codes))
    middle = found.aligned[:, 0, 20, 20]
    torch.testing.assert_close(middle, codes[:, 1], atol=3e-3, rtol=0)


def test_one_image_is_already_where_it_is(sheared):
    x = sheared.decode(CODES[:1])
    found = align(sheared, x)
    torch.testing.assert_close(found.aligned[..., 6:-6], x[..., 6:-6], atol=1e-4, rtol=0)
    assert found.totals["inputs"] == 0


def test_chunks_change_nothing(sheared):
    x = sheared.decode(CODES)
    few = align(sheared, x)
    sheared.chunk_size = 64
    all_ = align(sheared, x)
    torch.testing.assert_close(few.aligned, all_.aligned, atol=1e-5, rtol=0)
    torch.testing.assert_close(few.grid, all_.grid, atol=1e-6, rtol=0)


def test_what_cannot_be_aligned_says_so(sheared, toys):
    with pytest.raises(DataError, match="at least one image"):
        align(sheared, torch.zeros(0, 1, 41, 41))
    with pytest.raises(UnsupportedOperationError, match="decompose"):
        align(toys["Linear"](4, (1, 4, 4)), torch.zeros(2, 1, 4, 4))
    sheared.sample_shape = (5, 3)
    with pytest.raises(ConfigurationError, match="clouds, whose points correspond"):
        align(sheared, torch.zeros(2, 5, 3))


# ── exchange ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_named_parts_come_from_the_other(sheared):
    a, b = sheared.decode(CODES), sheared.decode(CODES.flip(0) * torch.tensor([1.0, 0.5]))
    own, others = sheared.encode(a), sheared.encode(b)
    found = exchange(sheared, a, b, ["shape"])
    assert torch.equal(found, torch.stack([others[:, 0], own[:, 1]], 1))
    assert torch.equal(exchange(sheared, a, b, ["appearance"]), torch.stack([own[:, 0], others[:, 1]], 1))
    assert torch.equal(exchange(sheared, a, b, ["appearance", "shape"]), others)
    assert torch.equal(exchange(sheared, a, b, []), own)


def test_parts_that_are_not_there_name_those_that_are(sheared, toys):
    x = torch.zeros(2, 1, 41, 41)
    with pytest.raises(ConfigurationError, match=r"no part 'color'.*shape, appearance"):
        exchange(sheared, x, x, ["color"])
    with pytest.raises(ConfigurationError, match="Linear"):
        exchange(toys["Linear"](), torch.zeros(2, 5, 3), torch.zeros(2, 5, 3), ["shape"])
    with pytest.raises(DataError, match="a holds 2 data and b 1"):
        exchange(sheared, x, x[:1], ["shape"])
