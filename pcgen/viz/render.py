"""Clouds to pixels: a small splat renderer in NumPy.

Each point is a little sphere. A depth buffer decides what is in front, each point is lit by the normal of the surface
that its neighbours suggest, creases are darkened by the depth around them (eye-dome lighting, Boucheny 2009), far
points fade, and the shape throws a soft shadow on its floor. Orthographic, so that equal lengths look equal.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SUPERSAMPLING = 2  # pixels drawn for each pixel shown, along each side
MARGIN = 0.045  # of a cell's side, left free all around
NEIGHBORS = 14  # that suggest a point's normal
NEAR_TO_FAR = ((0.06, 0.30, 0.52), (0.16, 0.47, 0.70), (0.40, 0.66, 0.83), (0.68, 0.83, 0.92))  # RGB
PAPER = 0.97  # grey of the background
COVER = 2.5  # discs over each spot of a surface, on average
DIM, BRIGHT = 0.74, 1.28  # of a point turned away from the light and toward it
RIM = 0.72  # brightness at a point's rim, relative to its middle
LARGEST = 0.12  # radius of few points
LIGHT = (-0.45, 0.75, 0.5)  # where it comes from: the screen's right, up, toward the viewer
QUANTA = 1 << 30  # depths that the depth buffer tells apart
EMPTY = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Camera:
    """Where the viewer stands.

    Attributes:
        azimuth: Degrees about the up axis, from the first of the other two axes (in cyclic order) to the second.
        elevation: Degrees above the horizon.
        up_axis: Which coordinate points up.
    """

    azimuth: float = -55.0
    elevation: float = 22.0
    up_axis: int = 2

    def axes(self) -> Array:
        """Give the screen's right, the screen's up and the direction to the viewer as rows (3, 3)."""
        phi, theta = np.radians(self.azimuth), np.radians(self.elevation)
        toward = np.array([np.cos(theta) * np.cos(phi), np.cos(theta) * np.sin(phi), np.sin(theta)])
        right = np.array([-np.sin(phi), np.cos(phi), 0.0])
        axes = np.stack([right, np.cross(toward, right), toward])  # columns: first, second, up
        return np.roll(axes, self.up_axis - 2, axis=1)

    def view(self, points: Array) -> Array:
        """Turn points (…, 3) into right, up and toward the viewer, the same sums in the same order on any machine."""
        right, up, toward = self.axes()
        return np.stack([sum(points[..., i] * axis[i] for i in range(3)) for axis in (right, up, toward)], axis=-1)


def render_cloud(
    cloud: Array,
    *,
    camera: Camera,
    size: int,
    like: Array | None = None,
    colors: Array | None = None,
    radius: float | None = None,
    shadow: bool = True,
) -> NDArray[np.uint8]:
    """Draw one cloud.

    Args:
        cloud: (N, 3), finite.
        camera: Where the viewer stands.
        size: Pixels along each side.
        like: Points (M, 3) that set the frame; None for the cloud's own. What lies outside is cut off.
        colors: RGB of each point (N, 3) in [0, 1]; None shades from dark near the viewer to light far away.
        radius: Of a point, relative to half the frame; None chooses so that the points of a surface touch.
        shadow: Draw a soft shadow on the floor beneath the lowest point of `like`.

    Returns:
        (size, size, 3).
    """
    order = np.lexsort(cloud.T if colors is None else np.concatenate([colors.T, cloud.T]))
    cloud = cloud[order].astype(np.float64)  # one order for every permutation of the points: the same bytes
    frame = _Frame.around(cloud if like is None else like.astype(np.float64), camera)
    distance, near = _neighbors(cloud)  # (N, k)
    radius = _touching(distance, frame.half) if radius is None else radius
    frame = frame.fitted(size, radius)
    view = frame.to_pixels(camera.view(cloud))  # (N, 3)
    index, depth, bulge = _splat(view, radius * size * (0.5 - MARGIN) / (1 + radius), size)
    tint = _near_to_far(view[:, 2], frame.depth) if colors is None else colors[order]
    lit = (np.clip(tint, 0, 1) * _light(cloud, near, camera)[:, None]).astype(np.float32)  # (N, 3)
    floor = _shadow(cloud, frame, camera, size) if shadow else np.ones((size, size), np.float32)
    return _compose(lit, index, bulge, _creases(depth, frame.depth), floor)


@dataclass(frozen=True)
class _Frame:
    """What the cell shows: pixels = (view − center) · scale."""

    center: Array
    half: float  # of the greater side on the screen
    depth: float  # half of it
    floor: float  # the lowest coordinate along the up axis
    scale: float = 1.0

    @classmethod
    def around(cls, points: Array, camera: Camera) -> "_Frame":
        floor = points[:, camera.up_axis].min()
        seen = np.concatenate([camera.view(points), camera.view(_dropped(points, floor, camera))])  # and the shadow
        lo, hi = seen.min(axis=0), seen.max(axis=0)
        half = (hi - lo) / 2
        return cls((lo + hi) / 2, max(half[:2].max(), 1e-12), half[2], floor)

    def fitted(self, size: int, radius: float) -> "_Frame":
        scale = size * (0.5 - MARGIN) / (1 + radius) / self.half  # whole discs fit
        return replace(self, scale=scale, depth=max(self.depth * scale, 1.0))

    def to_pixels(self, view: Array) -> Array:
        return (view - self.center) * self.scale


def outermost(points: Array, camera: Camera) -> Array:
    """Give the few points (M, 3) out of (N, 3) that set the frame, the same that all of them would set."""
    up = points[:, camera.up_axis]
    seen = [camera.view(points), camera.view(_dropped(points, up.min(), camera))]
    ends = [found for view in seen for found in (view.argmin(axis=0), view.argmax(axis=0))]
    few: Array = points[np.unique([up.argmin(), *np.concatenate(ends)])]
    return few


def _dropped(points: Array, floor: float, camera: Camera) -> Array:
    points = points.copy()
    points[:, camera.up_axis] = floor
    return points


def _splat(view: Array, radius: float, size: int) -> tuple[Array, Array, Array]:
    side, radius = size * SUPERSAMPLING, max(radius * SUPERSAMPLING, 1.5)
    reach = int(np.ceil(radius))
    column = side / 2 - 0.5 + view[:, 0] * SUPERSAMPLING
    row = side / 2 - 0.5 - view[:, 1] * SUPERSAMPLING
    near = view[:, 2] * SUPERSAMPLING
    number = np.flatnonzero((abs(column - side / 2) < side / 2 + reach) & (abs(row - side / 2) < side / 2 + reach))
    column, row, near = column[number], row[number], near[number]
    width = side + 4 * reach  # a frame around, so that no pixel needs to be asked whether it is inside
    buffer = np.full(width * width, EMPTY)
    c0, r0 = np.rint(column), np.rint(row)
    right, down = (c0 - column).astype(np.float32), (r0 - row).astype(np.float32)
    top = near.max(initial=0) + radius
    quantum = (top - near.min(initial=0)) / QUANTA
    start = (r0.astype(np.int64) + 2 * reach) * width + c0.astype(np.int64) + 2 * reach
    for dy, dx in itertools.product(range(-reach, reach + 1), repeat=2):
        height2 = np.float32(radius**2) - (right + dx) ** 2 - (down + dy) ** 2  # of the little sphere above its disc
        hit = np.flatnonzero(height2 >= 0)
        far = (top - near[hit] - np.sqrt(height2[hit])) / quantum
        np.minimum.at(buffer, start[hit] + dy * width + dx, far.astype(np.int64) << 32 | number[hit])
    buffer = buffer.reshape(width, width)[2 * reach : -2 * reach, 2 * reach : -2 * reach]
    empty = buffer == EMPTY
    index = np.where(empty, -1, buffer & 0xFFFFFFFF)
    depth = (top - (buffer >> 32) * quantum).astype(np.float32)
    bulge = (depth - (view[:, 2] * SUPERSAMPLING).astype(np.float32)[index]) / radius  # 0 at a point's rim, 1 amid it
    return index, np.where(empty, -np.inf, depth / SUPERSAMPLING), bulge


def _near_to_far(toward: Array, half: float) -> Array:
    t = np.clip(0.5 - toward / max(2 * half, 1e-12), 0, 1)
    ramp = np.array(NEAR_TO_FAR)
    return np.stack([np.interp(t, np.linspace(0, 1, len(ramp)), ramp[:, k]) for k in range(3)], axis=-1)


def _neighbors(cloud: Array) -> tuple[Array, Array]:
    from scipy.spatial import cKDTree

    k = min(NEIGHBORS, len(cloud))
    distance, index = cKDTree(cloud).query(cloud, k=k)
    return distance.reshape(len(cloud), k), index.reshape(len(cloud), k)


def _touching(distance: Array, half: float) -> float:
    # k neighbours within d of a point of a surface: k discs of radius d √(COVER / k) cover that neighbourhood COVER
    # times over. Held near what a surface of the frame's size would ask for, so that noise and clumps stay points.
    usual = 1.5 / np.sqrt(len(distance))
    own = np.median(distance[:, -1]) * np.sqrt(COVER / distance.shape[1]) / half
    return float(min(np.clip(own, 0.7 * usual, 2 * usual), LARGEST))


def _light(cloud: Array, near: Array, camera: Camera) -> Array:
    normal = camera.view(_normals(cloud[near]))
    normal *= np.where(normal[:, 2:] < 0, -1, 1)  # the side that the viewer sees
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    lambert = np.clip((normal * light).sum(axis=-1), 0, 1)
    smooth: Array = lambert[near].mean(axis=1)  # where two faces lie close, a normal is a guess
    return DIM + (BRIGHT - DIM) * smooth


def _normals(patches: Array) -> Array:
    offset = patches - patches.mean(axis=1, keepdims=True)  # (N, k, 3)
    scatter = offset.transpose(0, 2, 1) @ offset
    return np.linalg.eigh(scatter)[1][:, :, 0]  # of the least spread: across the surface


def _creases(depth: Array, half: float) -> Array:
    size = len(depth) // SUPERSAMPLING
    depth = depth.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING)
    depth = np.maximum.reduce([depth[:, i, :, j] for i in range(SUPERSAMPLING) for j in range(SUPERSAMPLING)])
    depth = np.maximum(depth, -1e6)
    shade = np.zeros_like(depth)
    for step in (max(size // 70, 1), max(size // 35, 2)):
        padded = np.pad(depth, step, constant_values=-1e6)
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            top, left = step * (1 + dy), step * (1 + dx)
            before = padded[top : top + size, left : left + size] - depth  # how far the other stands in front
            shade += np.clip(before / half - 0.10, 0, 0.4)
    return np.exp(-0.22 * shade)


def _shadow(cloud: Array, frame: _Frame, camera: Camera, size: int) -> Array:
    from scipy.ndimage import gaussian_filter

    foot = frame.to_pixels(camera.view(_dropped(cloud, frame.floor, camera)))
    column, row = np.rint(foot[:, 0] + size / 2 - 0.5), np.rint(size / 2 - 0.5 - foot[:, 1])
    keep = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    at = (row * size + column)[keep].astype(np.int64)
    count = np.bincount(at, minlength=size * size).reshape(size, size).astype(np.float32)
    dense: Array = gaussian_filter(count, size * 0.022) * (size**2 / len(cloud))
    return 1 - 0.2 * (1 - np.exp(-0.3 * dense))


def _compose(lit: Array, index: Array, bulge: Array, crease: Array, floor: Array) -> NDArray[np.uint8]:
    total: Array = np.zeros((*floor.shape, 3), np.float32)
    free: Array = np.full(floor.shape, SUPERSAMPLING**2, np.float32)
    for i, j in itertools.product(range(SUPERSAMPLING), repeat=2):
        part = index[i::SUPERSAMPLING, j::SUPERSAMPLING]
        hit = part >= 0
        round_ = RIM + (1 - RIM) * bulge[i::SUPERSAMPLING, j::SUPERSAMPLING][hit]
        total[hit] += lit[part[hit]] * round_[:, None]
        free -= hit
    total = total * crease[..., None] + (free * floor * PAPER)[..., None]
    image: NDArray[np.uint8] = (np.clip(total / SUPERSAMPLING**2, 0, 1) * 255 + 0.5).astype(np.uint8)
    return image
