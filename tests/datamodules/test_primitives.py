"""Areas against quadrature, points against the areas, unions against areas known in closed form."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import dblquad, quad
from scipy.stats import chisquare, kstest

from pcgen.datamodules._assembly import Assembly, join, turn_x, turn_y
from pcgen.datamodules._primitives import ELLIPSOID, FRUSTUM, PRISM, TORUS, areas, inside, points_on, sample_union

N = 40_000


def draw(kind, params, seed=0, n=N):
    rows = np.tile(np.array(params, float), (n, 1))
    return points_on(np.full(n, kind), rows, np.random.default_rng(seed))


def area(kind, params):
    return float(areas(np.array([kind]), np.array([params], float))[0])


@pytest.mark.parametrize("axes", [(1, 1, 1), (1, 0.5, 0.2), (0.3, 0.3, 2)])
def test_ellipsoid_area_is_the_surface_integral(axes):
    a, b, c = axes

    def element(phi, theta):
        u = np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
        return np.linalg.norm(u * [b * c, a * c, a * b]) * np.sin(theta)

    expected = dblquad(element, 0, np.pi, 0, 2 * np.pi)[0]
    assert area(ELLIPSOID, (*axes, 0)) == pytest.approx(expected, rel=1e-6)


def test_areas_known_in_closed_form():
    assert area(PRISM, (1, 2, 3, 0)) == pytest.approx(2 * (2 * 4 + 2 * 6 + 4 * 6))
    assert area(PRISM, (1, 1, 2, 1)) == pytest.approx(2 * np.pi + 2 * np.pi * 4)  # a cylinder
    assert area(FRUSTUM, (1, 1, 2, 1)) == pytest.approx(2 * np.pi + 2 * np.pi * 4)
    assert area(FRUSTUM, (3, 0, 2, 0)) == pytest.approx(np.pi * 3 * 5)  # a cone's mantle, slant 5
    assert area(TORUS, (2, 0.5, np.pi, 0)) == pytest.approx(4 * np.pi**2 * 2 * 0.5)
    assert area(TORUS, (2, 0.5, np.pi / 2, 0)) == pytest.approx(2 * np.pi**2 * 2 * 0.5 + 2 * np.pi * 0.25)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (PRISM, (1, 0.6, 0.3, 0)),
        (PRISM, (1, 0.6, 0.3, 0.4)),
        (PRISM, (0.5, 0.5, 1, 0.5)),
        (FRUSTUM, (1, 0.4, 0.8, 1)),
        (FRUSTUM, (0.4, 1, 0.8, 1)),
        (ELLIPSOID, (1, 0.5, 0.2, 0)),
        (TORUS, (1, 0.4, np.pi, 0)),
        (TORUS, (1, 0.4, 1.1, 0)),
    ],
)
def test_points_lie_on_the_surface_with_outward_normals(kind, params):
    point, normal = draw(kind, params, n=5000)
    rows, kinds = np.tile(np.array(params, float), (5000, 1)), np.full(5000, kind)
    assert np.linalg.norm(normal, axis=1) == pytest.approx(1)
    assert inside(kinds, rows, point - 1e-5 * normal).mean() > 0.999  # but for edges narrower than the step
    assert not inside(kinds, rows, point + 1e-5 * normal).any()


def test_box_faces_get_points_by_their_areas():
    a, b, c = 1.0, 0.6, 0.3
    _, normal = draw(PRISM, (a, b, c, 0))
    counts = [(normal[:, i] == s).sum() for i in range(3) for s in (-1, 1)]
    share = np.repeat([b * c, a * c, a * b], 2)
    assert chisquare(counts, share / share.sum() * N).pvalue > 1e-3


def test_rounded_slab_is_uniform_on_face_and_outline():
    a, b, r = 1.0, 0.6, 0.4
    point, normal = draw(PRISM, (a, b, 0.5, r))
    face = point[np.abs(normal[:, 2]) == 1]

    def width(y):  # of the rounded rectangle at height y
        past = max(abs(y) - (b - r), 0)
        return 2 * (a - r + np.sqrt(r**2 - past**2))

    edges = np.linspace(-b, b, 13)
    expected = np.array([quad(width, lo, hi)[0] for lo, hi in pairwise(edges)])
    counts = np.histogram(face[:, 1], edges)[0]
    assert chisquare(counts, expected / expected.sum() * len(face)).pvalue > 1e-3
    side = normal[normal[:, 2] == 0]
    straight = [(np.abs(side[:, 0]) == 1).sum(), (np.abs(side[:, 1]) == 1).sum()]
    outline = np.array([4 * (b - r), 4 * (a - r), 2 * np.pi * r])
    counts = [*straight, len(side) - sum(straight)]
    assert chisquare(counts, outline / outline.sum() * len(side)).pvalue > 1e-3


def test_cone_and_torus_are_uniform_by_area():
    point, normal = draw(FRUSTUM, (1.0, 0.25, 0.5, 0))
    assert (np.abs(normal[:, 2]) < 1).all()  # a shell has no caps
    radius = np.hypot(point[:, 0], point[:, 1])
    assert kstest(radius, lambda r: (r**2 - 0.25**2) / (1 - 0.25**2)).pvalue > 1e-3
    point, _ = draw(TORUS, (1.0, 0.5, np.pi, 0))
    tube = np.arctan2(point[:, 2], np.hypot(point[:, 0], point[:, 1]) - 1)
    assert kstest(tube, lambda v: (v + np.pi + 0.5 * np.sin(v)) / (2 * np.pi)).pvalue > 1e-3


def test_ellipsoid_is_uniform_by_area():
    a, c = 1.0, 0.3  # a spheroid: a band's area is 2π ρ ds
    point, _ = draw(ELLIPSOID, (a, a, c, 0))
    edges = np.linspace(-c, c, 11)

    def band(t):
        return np.cos(t) * np.hypot(a * np.sin(t), c * np.cos(t))

    expected = np.array([quad(band, np.arcsin(lo / c), np.arcsin(hi / c))[0] for lo, hi in pairwise(edges)])
    counts = np.histogram(point[:, 2], edges)[0]
    assert chisquare(counts, expected / expected.sum() * N).pvalue > 1e-3


def union(*add):
    shape = Assembly()
    for one in add:
        one(shape)
    return join([shape])


def test_union_of_boxes_with_common_faces_is_one_longer_box():
    solids = union(
        lambda s: s.slab((0, 0, 0), (2, 2, 2), 0),
        lambda s: s.slab((1, 0, 0), (2, 2, 2), 1),
    )
    x, _, normal = sample_union(solids, N, np.random.default_rng(0))
    x, normal = x[0], normal[0]
    assert not ((np.abs(x[:, 0]) < 0.999) & (np.abs(x[:, 1:]) < 0.999).all(1)).any()
    counts = [(np.abs(normal[:, i]) > 0.5).sum() for i in range(3)]
    assert chisquare(counts, np.array([8, 12, 12]) / 32 * N).pvalue > 1e-3
    top = x[normal[:, 2] > 0.5, 0]
    assert kstest(top, lambda v: (v + 1) / 3).pvalue > 1e-3  # once where both solids have the face


def test_rod_in_slab_shares_points_by_free_area():
    solids = union(
        lambda s: s.slab((0, 0, 0), (2, 2, 0.2), 0),
        lambda s: s.rod((0, 0, 0), (0, 0, -1.1), 0.3, 1),
    )
    x, label, _ = sample_union(solids, N, np.random.default_rng(1))
    hole = np.pi * 0.09
    slab, rod = 8 + 8 * 0.2 - hole, hole + 2 * np.pi * 0.3 * 1.0
    counts = np.bincount(label[0])
    assert chisquare(counts, np.array([slab, rod]) / (slab + rod) * N).pvalue > 1e-3
    assert x[0][label[0] == 1][:, 2].max() <= -0.1 + 1e-9


def test_touching_faces_vanish():
    solids = union(lambda s: s.slab((0, 0, 0), (1, 1, 1), 0), lambda s: s.slab((0, 0, 1), (1, 1, 1), 1))
    x, _, _ = sample_union(solids, 5000, np.random.default_rng(2))
    interior = (np.abs(x[0, :, :2]) < 0.499).all(1) & (np.abs(x[0, :, 2] - 0.5) < 1e-6)
    assert not interior.any()


def test_a_sheet_inside_a_solid_is_not_seen():
    solids = union(
        lambda s: s.rod((0, 0, -2), (0, 0, 2), 0.3, 0, hollow=True),
        lambda s: s.ball((0, 0, 0), (1, 1, 1), 1),
    )
    x, label, _ = sample_union(solids, N, np.random.default_rng(0))
    sheet = x[0][label[0] == 0]
    assert np.linalg.norm(sheet, axis=1).min() >= 1 - 1e-6
    free = 2 * np.pi * 0.3 * 2 * (2 - np.sqrt(1 - 0.09))
    counts = [len(sheet), N - len(sheet)]
    assert chisquare(counts, np.array([free, 4 * np.pi]) / (free + 4 * np.pi) * N).pvalue > 1e-3


def test_turns_lean_where_they_say():
    assert np.array(turn_x(0.3)) @ [0, 0, 1] == pytest.approx([0, np.sin(0.3), np.cos(0.3)])
    assert np.array(turn_y(0.3)) @ [0, 0, 1] == pytest.approx([np.sin(0.3), 0, np.cos(0.3)])
