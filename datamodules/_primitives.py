"""Solids with exact areas, and points uniform by area on the surface of their union.

A solid has a kind, four numbers, a rotation and a centre; its own axis is z. Kinds and their numbers:

    PRISM      half width, half depth, half height, corner radius   a box for radius 0, a cylinder for equal numbers
    FRUSTUM    radius at the bottom, at the top, half height, 1 with caps or 0 for an open shell without inside
    ELLIPSOID  three half axes, unused
    TORUS      ring radius, tube radius, half angle of its arc around +x (π: closed), unused; an open arc has end caps

Everything works on many solids at once: `params` is (n, 4), one row for each point.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

PRISM, FRUSTUM, ELLIPSOID, TORUS = range(4)
_MARGIN = np.float32(1e-5)  # of the boxes by which far pairs are sorted out in single precision
_SKIN = 1e-6  # a point is looked at this far outside and inside its surface, in the unit of the shapes (metres)


class Solids(NamedTuple):
    """P solids, each part of one of S shapes; solids of a shape stand together, shapes in order.

    Attributes:
        shape: Which shape a solid belongs to (P,).
        kind: PRISM, FRUSTUM, ELLIPSOID or TORUS (P,).
        params: The four numbers of its kind (P, 4).
        rotation: Own axes as columns (P, 3, 3).
        center: (P, 3).
        label: Number of the part of furniture that it is (P,).
    """

    shape: Ints
    kind: Ints
    params: Array
    rotation: Array
    center: Array
    label: Ints


# ── areas ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def areas(kind: Ints, params: Array) -> Array:
    """Give the surface areas (P,) of solids, end caps included."""
    from scipy.special import elliprg

    a, b, c, d = params.T
    out = np.empty(len(params))
    for k, area in (
        (PRISM, lambda a, b, h, r: 2 * (4 * a * b - (4 - np.pi) * r**2) + 2 * h * _perimeter(a, b, r)),
        (FRUSTUM, lambda r, s, h, caps: np.pi * ((r + s) * np.hypot(r - s, 2 * h) + caps * (r**2 + s**2))),
        # NIST Digital Library of Mathematical Functions, 19.33.1
        (ELLIPSOID, lambda a, b, c, _: 4 * np.pi * elliprg(a**2 * b**2, a**2 * c**2, b**2 * c**2)),
        (TORUS, lambda R, r, arc, _: 4 * np.pi * arc * R * r + np.where(arc < np.pi, 2 * np.pi * r**2, 0)),
    ):
        m = kind == k
        out[m] = area(a[m], b[m], c[m], d[m])
    return out


def _perimeter(a: Array, b: Array, r: Array) -> Array:
    return np.asarray(4 * (a - r) + 4 * (b - r) + 2 * np.pi * r, dtype=np.float64)


# ── points on one solid ───────────────────────────────────────────────────────────────────────────────────────────────


def _sign(rng: np.random.Generator, n: int) -> Array:
    return rng.integers(0, 2, n).astype(np.float64) * 2 - 1


def _on_prism(params: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    a, b, h, r = params.T
    n = len(params)
    flat = 4 * a * b - (4 - np.pi) * r**2
    side = 2 * h * _perimeter(a, b, r)
    on_face = rng.random(n) * (2 * flat + side) < 2 * flat
    # A rounded rectangle is a rectangle over the whole width, two strips beside it, and the four quarters of a disc;
    # its outline is two straight pairs and a circle. Both are drawn by one number along their parts.
    first = np.where(on_face, 4 * a * (b - r), 4 * (a - r))
    second = np.where(on_face, 4 * (a - r) * r, 4 * (b - r))
    u = rng.random(n) * np.where(on_face, flat, _perimeter(a, b, r))
    one, two = u < first, (u >= first) & (u < first + second)
    v, w, sign = 2 * rng.random(n) - 1, rng.random(n), _sign(rng, n)
    angle = np.pi * v
    cos, sin = np.cos(angle), np.sin(angle)
    rho = r * np.where(on_face, np.sqrt(w), 1)
    x = np.where(one, np.where(on_face, a, a - r) * v, np.where(on_face, (a - r) * v, sign * a))
    y = np.where(one, np.where(on_face, (b - r) * (2 * w - 1), sign * b), (b - r) * v)
    y = np.where(two & on_face, sign * (b - r + r * w), y)
    corner = ~(one | two)
    x = np.where(corner, rho * cos + np.sign(cos) * (a - r), x)
    y = np.where(corner, rho * sin + np.sign(sin) * (b - r), y)
    up = _sign(rng, n)
    z = np.where(on_face, up * h, h * (2 * rng.random(n) - 1))
    nx = np.where(corner, cos, np.where(two, sign, 0)) * ~on_face
    ny = np.where(corner, sin, np.where(one, sign, 0)) * ~on_face
    return np.stack([x, y, z], 1), np.stack([nx, ny, up * on_face], 1)


def _on_frustum(params: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    r, s, h, caps = params.T
    n = len(params)
    slant = np.hypot(r - s, 2 * h)
    u = rng.random(n) * ((r + s) * slant + caps * (r**2 + s**2))
    bottom = u < caps * r**2
    top = ~bottom & (u < caps * (r**2 + s**2))
    w, angle = rng.random(n), 2 * np.pi * rng.random(n)
    radius = np.sqrt(r**2 + w * (s**2 - r**2))  # rings count by their length
    with np.errstate(divide="ignore", invalid="ignore"):
        along = np.where(np.abs(s - r) > 1e-9, (radius - r) / (s - r), w)
    radius = np.where(bottom, r * np.sqrt(w), np.where(top, s * np.sqrt(w), radius))
    z = np.where(bottom, -h, np.where(top, h, h * (2 * along - 1)))
    cos, sin = np.cos(angle), np.sin(angle)
    side = ~(bottom | top)
    normal = [cos * 2 * h / slant * side, sin * 2 * h / slant * side, np.where(side, (r - s) / slant, top * 2.0 - 1)]
    return np.stack([radius * cos, radius * sin, z], 1), np.stack(normal, 1)


def _on_ellipsoid(params: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    axes = params[:, :3]
    stretch = np.prod(axes, 1, keepdims=True) / axes  # area of the ellipsoid for area of the sphere, by direction
    u = np.empty_like(axes)
    todo = np.arange(len(axes))
    while len(todo):
        v = rng.standard_normal((len(todo), 3))
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        u[todo] = v
        keep = np.linalg.norm(v * stretch[todo], axis=1) >= rng.random(len(todo)) * stretch[todo].max(1)
        todo = todo[~keep]
    normal = u / axes
    return u * axes, normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _on_torus(params: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    R, r, arc, _ = params.T
    n = len(params)
    cap = rng.random(n) * areas(np.full(n, TORUS), params) >= 4 * np.pi * arc * R * r
    around = np.where(cap, _sign(rng, n), 2 * rng.random(n) - 1) * arc
    tube = 2 * np.pi * rng.random(n)
    # Density 1 + (r/R) cos without rejection: what would be rejected is moved to the opposite side.
    moved = ~cap & (rng.random(n) > (1 + r / R * np.cos(tube)) / 2)
    tube = np.where(moved, tube + np.pi, tube)
    rho = r * np.where(cap, np.sqrt(rng.random(n)), 1)
    cos, sin = np.cos(around), np.sin(around)
    out, up = np.cos(tube), np.sin(tube)
    point = np.stack([(R + rho * out) * cos, (R + rho * out) * sin, rho * up], 1)
    tangent = np.stack([-sin, cos, np.zeros(n)], 1) * np.sign(around)[:, None]
    return point, np.where(cap[:, None], tangent, np.stack([out * cos, out * sin, up], 1))


_ON = {PRISM: _on_prism, FRUSTUM: _on_frustum, ELLIPSOID: _on_ellipsoid, TORUS: _on_torus}


def points_on(kind: Ints, params: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw one point on each solid, uniform by area.

    Args:
        kind: (n,).
        params: (n, 4).
        rng: Source of chance.

    Returns:
        Points (n, 3) and outward normals (n, 3) in the solids' own axes.
    """
    point, normal = np.empty((len(kind), 3)), np.empty((len(kind), 3))
    for k, draw in _ON.items():
        rows = np.flatnonzero(kind == k)
        if len(rows):
            point[rows], normal[rows] = draw(params[rows], rng)
    return point, normal


# ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def inside(kind: Ints, params: Array, point: Array) -> NDArray[np.bool_]:
    """Say which points (n, 3), in the solids' own axes, lie strictly inside their solid (n,)."""
    a, b, c, d = params.T
    x, y, z = point.T
    out = np.zeros(len(point), bool)
    m = kind == PRISM
    if m.any():
        qx, qy = np.abs(x[m]) - a[m], np.abs(y[m]) - b[m]
        r = d[m]
        in_corner = (np.maximum(qx + r, 0) ** 2 + np.maximum(qy + r, 0) ** 2 < r**2) | (qx < -r) | (qy < -r)
        out[m] = (qx < 0) & (qy < 0) & (np.abs(z[m]) < c[m]) & in_corner
    m = (kind == FRUSTUM) & (d > 0)  # a shell has no inside
    if m.any():
        radius = a[m] + (b[m] - a[m]) * (z[m] / c[m] + 1) / 2
        out[m] = (np.abs(z[m]) < c[m]) & (np.hypot(x[m], y[m]) < radius)
    m = kind == ELLIPSOID
    if m.any():
        out[m] = (x[m] / a[m]) ** 2 + (y[m] / b[m]) ** 2 + (z[m] / c[m]) ** 2 < 1
    m = kind == TORUS
    if m.any():
        in_tube = (np.hypot(x[m], y[m]) - a[m]) ** 2 + z[m] ** 2 < b[m] ** 2
        out[m] = in_tube & ((c[m] >= np.pi) | (np.abs(np.arctan2(y[m], x[m])) < c[m]))
    return out


def boxes(solids: Solids) -> tuple[Array, Array]:
    """Give the lowest and highest corners (P, 3) of boxes around the solids, along the world's axes."""
    a, b, c, _ = solids.params.T
    half = np.stack([a, b, c], 1)
    widest = np.maximum(a, b)
    half = np.where((solids.kind == FRUSTUM)[:, None], np.stack([widest, widest, c], 1), half)
    half = np.where((solids.kind == TORUS)[:, None], np.stack([a + b, a + b, b], 1), half)
    reach = np.einsum("pij,pj->pi", np.abs(solids.rotation), half)
    return solids.center - reach, solids.center + reach


# ── the union ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def sample_union(solids: Solids, num_points: int, rng: np.random.Generator) -> tuple[Array, Ints, Array]:
    """Draw points uniform by area over the surface of the union of each shape's solids.

    Candidates are drawn on all solids by area; those that another solid covers are dropped (so nothing lies inside a
    shape), and where two solids share a face the earlier one keeps it.

    Args:
        solids: The solids of S shapes.
        num_points: N.
        rng: Source of chance.

    Returns:
        Points (S, N, 3), the parts' labels (S, N), outward normals (S, N, 3).
    """
    shapes = int(solids.shape[-1]) + 1
    point, normal = np.empty((shapes, num_points, 3)), np.empty((shapes, num_points, 3))
    label = np.empty((shapes, num_points), np.int64)
    pending, tries = np.arange(shapes), num_points + num_points // 2 + 64
    while len(pending):  # it ends: a union of solids always has a surface
        p, n, part, free = _candidates(solids, pending, tries, rng)
        done = free.sum(1) >= num_points
        rows = np.flatnonzero(done)
        first = np.argsort(~free[rows], axis=1, kind="stable")[:, :num_points]  # the free ones, in drawing order
        take = (rows[:, None], first)
        point[pending[rows]], normal[pending[rows]] = p[take], n[take]
        label[pending[rows]] = solids.label[part[take]]
        pending, tries = pending[~done], 2 * tries
    return point, label, normal


def _candidates(
    solids: Solids, pending: Ints, tries: int, rng: np.random.Generator
) -> tuple[Array, Array, Ints, NDArray[np.bool_]]:
    # One long ruler: the shapes' areas end to end, each shape's scaled to 1.
    area = areas(solids.kind, solids.params)
    first = np.searchsorted(solids.shape, np.arange(int(solids.shape[-1]) + 2))
    total = np.add.reduceat(area, first[:-1])
    ruler = np.cumsum(area / total[solids.shape])
    start = np.concatenate([[0.0], ruler])[first[pending]]
    stop = np.nextafter(ruler[first[pending + 1] - 1], 0)
    mark = start[:, None] + rng.random((len(pending), tries)) * (stop - start)[:, None]
    part = np.searchsorted(ruler, mark, side="right")  # (S, T)
    flat = part.ravel()
    local, local_normal = points_on(solids.kind[flat], solids.params[flat], rng)
    rotation = solids.rotation[flat]
    point = np.einsum("nij,nj->ni", rotation, local) + solids.center[flat]
    normal = np.einsum("nij,nj->ni", rotation, local_normal)
    free = _uncovered(solids, part, point.reshape(*part.shape, 3), normal.reshape(*part.shape, 3), first, pending)
    return point.reshape(*part.shape, 3), normal.reshape(*part.shape, 3), part, free


def _uncovered(
    solids: Solids, part: Ints, point: Array, normal: Array, first: Ints, pending: Ints
) -> NDArray[np.bool_]:
    low, high = (x.astype(np.float32) for x in boxes(solids))
    low, high = low - _MARGIN, high + _MARGIN
    coordinates = point.transpose(2, 0, 1).astype(np.float32)  # (3, S, T)
    free = np.ones(part.shape, bool)
    for other in range(int((first[pending + 1] - first[pending]).max())):
        index = np.minimum(first[pending] + other, len(solids.kind) - 1)  # the other-th solid of each shape
        near = part != index[:, None]
        near &= (first[pending] + other < first[pending + 1])[:, None]
        for axis, x in enumerate(coordinates):  # most pairs end here
            near &= x > low[index, axis, None]
            near &= x < high[index, axis, None]
        flat = np.flatnonzero(near)
        if len(flat):
            rows = flat // part.shape[1]
            own = part.reshape(-1)[flat]
            covered = _covers(solids, index[rows], own, point.reshape(-1, 3)[flat], normal.reshape(-1, 3)[flat])
            free.reshape(-1)[flat[covered]] = False
    return free


def _covers(solids: Solids, other: Ints, own: Ints, point: Array, normal: Array) -> NDArray[np.bool_]:
    kind, params = solids.kind[other], solids.params[other]
    offset = point - solids.center[other]
    local = np.einsum("nji,nj->ni", solids.rotation[other], offset)
    skin = np.einsum("nji,nj->ni", solids.rotation[other], normal) * _SKIN
    outside = inside(kind, params, local + skin)
    shared = inside(kind, params, local - skin) & (other < own)
    return outside | shared
