"""How a pattern is drawn: an emblem's layout, its colours, the light on it, and the warp that bends it.

All places are (x, y) with −1 and 1 at the centres of the outermost pixels, x to the right and y downwards. In the
canonical frame every emblem has the same layout; a warp W leads from a place in the image to one there, so

    image(p) = albedo(W(p)) · shading(W(p)).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

WARPS = ("shift_x", "shift_y", "turn", "size", "bend", "arch", "squeeze_x", "squeeze_y")
COLORS = ("field", "quarters", "charges", "rim")
LIGHTS = ("light_x", "light_y")
NAMES = (*WARPS, *COLORS, *LIGHTS)
OF_WARP, OF_COLOR, OF_LIGHT = slice(0, 8), slice(8, 12), slice(12, 14)  # columns of the factors
FINE = 4  # places of a pixel along an axis, of which it shows the mean
_CHUNK = 16  # images drawn at once: what they need stays in the cache

# How far each factor moves a place at 1, in half sides of the image. For turn it is the tangent of the angle.
AMPLITUDES = np.array([0.10, 0.10, 0.18, 0.10, 0.08, 0.07, 0.07, 0.07])

DOME = 0.6  # slope of the surface at a distance of 1 from the middle
TILT = 0.6  # tangent of the angle of the light at a factor of 1

WIDTH, HEIGHT = 0.66, 0.68  # half the shield's
INNER = 0.84  # size of the part within the rim
MIDDLE = (0.04, -0.06)  # where the four quarters meet
DISC, DISC_RADIUS, DOT_RADIUS = (-0.27, -0.31), 0.20, 0.08
TRIANGLE = ((0.12, -0.16), (0.46, -0.16), (0.29, -0.50))
SQUARE, SQUARE_HALF = (-0.25, 0.17), 0.14
RING, RING_RADII = (0.26, 0.17), (0.09, 0.20)
BAR = (-0.20, 0.18, 0.39, 0.51)  # left, right, top, bottom

GROUND, RIM, FIELD, QUARTER, DISC_, DOT, TRIANGLE_, SQUARE_, RING_, BAR_ = range(10)
BASE = np.array(
    [
        [0.24, 0.28, 0.34],  # ground
        [0.60, 0.50, 0.28],  # rim
        [0.54, 0.24, 0.26],  # field: two of the quarters
        [0.26, 0.38, 0.54],  # the other two
        [0.70, 0.60, 0.52],  # disc
        [0.26, 0.24, 0.32],  # dot on the disc
        [0.58, 0.62, 0.28],  # triangle
        [0.26, 0.56, 0.38],  # square
        [0.56, 0.70, 0.62],  # ring
        [0.60, 0.40, 0.22],  # bar
    ]
)
# What each of the colour factors adds at 1: to the field and the square, the other quarters and the bar, the charges
# (disc, triangle, ring, and the dot the other way), the rim and the ground.
MOVES = np.zeros((4, 10, 3))
MOVES[0, FIELD], MOVES[0, SQUARE_] = (0.22, -0.12, -0.14), (-0.14, 0.18, 0.16)
MOVES[1, QUARTER], MOVES[1, BAR_] = (-0.14, 0.18, 0.22), (0.16, -0.18, 0.10)
MOVES[2, [DISC_, TRIANGLE_, RING_]] = [(0.06, -0.18, -0.26), (-0.20, 0.14, 0.12), (-0.22, 0.04, 0.14)]
MOVES[2, DOT] = (-0.12, 0.02, 0.14)
MOVES[3, RIM], MOVES[3, GROUND] = (0.17, 0.04, -0.16), (-0.10, 0.02, 0.14)

LANDMARKS = np.array(
    [
        MIDDLE,
        DISC,
        *TRIANGLE,
        *((SQUARE[0] + a * SQUARE_HALF, SQUARE[1] + b * SQUARE_HALF) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))),
        RING,
        (BAR[0], (BAR[2] + BAR[3]) / 2),
        (BAR[1], (BAR[2] + BAR[3]) / 2),
        (0.0, -HEIGHT * INNER),
        (0.0, HEIGHT),
        (-WIDTH * INNER, 0.0),
        (WIDTH * INNER, 0.0),
    ]
)  # (L, 2) in the canonical frame


# ── the warp ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def warp(x: Floats, y: Floats, factors: Floats, strength: float = 1.0) -> tuple[Floats, Floats]:
    """Lead places of images into the canonical frame: W(p) = p + Σ factor · amplitude · field(p).

    The fields are (1, 0) and (0, 1) for the shifts, (−y, x) for turn, (x, y) for size, (cos πy, 0) for bend,
    (0, cos πx) for arch, and (sin πx, 0) and (0, sin πy) for the squeezes. As W is linear in factors whose mean is 0,
    its mean over all images is the identity.

    Args:
        x: Of the places, (1 or K, ..., ...).
        y: Of the places, of a shape that goes with that of x.
        factors: (K, F).
        strength: Multiplies all amplitudes.

    Returns:
        x and y in the canonical frame, (K, ..., ...) each.
    """
    a = _amplitudes(factors, strength)
    return (
        (x + a[0] + a[3] * x + a[6] * np.sin(np.pi * x)) + (a[4] * np.cos(np.pi * y) - a[2] * y),
        (y + a[1] + a[3] * y + a[7] * np.sin(np.pi * y)) + (a[5] * np.cos(np.pi * x) + a[2] * x),
    )


def unwarp(places: Floats, factors: Floats, strength: float = 1.0) -> Floats:
    """Find where places of the canonical frame are in each image, by Newton's method on the warp.

    Args:
        places: (L, 2) in the canonical frame.
        factors: (K, F).
        strength: As in `warp`.

    Returns:
        (K, L, 2), p with W(p) = place.
    """
    u, v = places[None, :, :1], places[None, :, 1:]  # (1, L, 1)
    x, y = (np.repeat(c, len(factors), axis=0) for c in (u, v))  # (K, L, 1)
    a = _amplitudes(factors, strength)
    for _ in range(12):  # quadratic: five would do
        found = warp(x, y, factors, strength)
        xx, yy = 1 + a[3] + np.pi * a[6] * np.cos(np.pi * x), 1 + a[3] + np.pi * a[7] * np.cos(np.pi * y)
        xy, yx = -a[2] - np.pi * a[4] * np.sin(np.pi * y), a[2] - np.pi * a[5] * np.sin(np.pi * x)
        dx, dy, determinant = found[0] - u, found[1] - v, xx * yy - xy * yx
        x, y = x - (yy * dx - xy * dy) / determinant, y - (xx * dy - yx * dx) / determinant
    return np.concatenate([x, y], axis=2)


def _amplitudes(factors: Floats, strength: float) -> Floats:
    a = strength * AMPLITUDES.astype(factors.dtype) * factors[:, OF_WARP]
    return a.T[:, :, None, None]  # (8, K, 1, 1)


# ── the emblem ────────────────────────────────────────────────────────────────────────────────────────────────────────


def level(x: Floats, y: Floats) -> Floats:
    """Give the square of the size of the shield on whose outline each place lies: broad above, an ellipse below."""
    u, v = np.square(x / WIDTH), y / HEIGHT
    v2 = v * v
    found: Floats = np.where(v < 0, np.sqrt(u * u + v2 * v2), u + v2)
    return found


def regions(x: Floats, y: Floats) -> NDArray[np.uint8]:
    """Tell which region of the emblem each place of the canonical frame belongs to."""
    found = np.where((x < MIDDLE[0]) == (y < MIDDLE[1]), np.uint8(FIELD), np.uint8(QUARTER))
    disc = (x - DISC[0]) ** 2 + (y - DISC[1]) ** 2
    found[disc < DISC_RADIUS**2] = DISC_
    found[disc < DOT_RADIUS**2] = DOT
    (left, foot), (right, _), (_, top) = TRIANGLE
    slope = (foot - top) / ((right - left) / 2)
    found[(y < foot) & (y > top + slope * np.abs(x - (left + right) / 2))] = TRIANGLE_
    found[np.maximum(np.abs(x - SQUARE[0]), np.abs(y - SQUARE[1])) < SQUARE_HALF] = SQUARE_
    ring = (x - RING[0]) ** 2 + (y - RING[1]) ** 2
    found[(ring < RING_RADII[1] ** 2) & (ring > RING_RADII[0] ** 2)] = RING_
    found[(x > BAR[0]) & (x < BAR[1]) & (y > BAR[2]) & (y < BAR[3])] = BAR_
    size = level(x, y)
    found[size > INNER**2] = RIM
    found[size > 1] = GROUND
    return found


def palette(factors: Floats) -> Floats:
    """Give the colour of each region of each emblem (K, 10, 3): base colours, moved by the colour factors."""
    moved: Floats = np.einsum("kf,frc->krc", factors[:, OF_COLOR], MOVES)
    return BASE + moved


def shade(x: Floats, y: Floats, factors: Floats, strength: float = 1.0) -> Floats:
    """Light a domed surface in the canonical frame, as Lambert: n · l, 1 in the middle.

    The surface is the paraboloid of slope D r, D = 0.6 · strength, so n = (D x, D y, 1) / √(1 + D² r²), and the light
    comes from (0.6 light_x, 0.6 light_y, 1):

        shading = (1 + 0.6 D (x light_x + y light_y)) / √(1 + D² r²).

    Beyond the frame places are brought back to its border, as `grid_sample` with `padding_mode="border"` does.

    Args:
        x: Of the places (1 or K, ..., ...).
        y: Of the places, of a shape that goes with that of x.
        factors: (K, F).
        strength: 0 gives no shading, 1 everywhere.

    Returns:
        (K, ..., ...).
    """
    x, y = np.clip(x, -1, 1), np.clip(y, -1, 1)
    light = (DOME * strength * TILT * factors[:, OF_LIGHT]).T[:, :, None, None]  # (2, K, 1, 1)
    shading: Floats = (1 + light[0] * x + light[1] * y) / np.sqrt(1 + (DOME * strength) ** 2 * (x * x + y * y))
    return shading


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw(factors: Floats, size: int, warping: float, shading: float) -> NDArray[np.uint8]:
    """Draw images (K, 3, S, S) in steps of 1/255: each pixel is the mean of 4 × 4 places spread over it.

    Args:
        factors: (K, F).
        size: S.
        warping: Strength of the warp.
        shading: Strength of the shading.
    """
    pixels = np.empty((len(factors), 3, size, size), np.uint8)
    x, y = axes(fine(size).astype(np.float32))
    for start in range(0, len(factors), _CHUNK):
        part = factors[start : start + _CHUNK].astype(np.float32)
        u, v = warp(x, y, part, warping)
        light = shade(u, v, part, shading)
        pixels[start : start + _CHUNK] = np.rint(255 * _painted(regions(u, v), palette(part), light))
    return pixels


def draw_albedo(factors: Floats, size: int) -> Floats:
    """Draw the albedo (K, 3, S, S) in the canonical frame, each pixel the mean of 4 × 4 places spread over it."""
    found = regions(*np.broadcast_arrays(*axes(fine(size))))[0]
    shown = (found == np.arange(len(BASE), dtype=np.uint8)[:, None, None]).astype(np.float64)  # (10, 4S, 4S)
    albedo: Floats = np.einsum("krc,rhw->kchw", palette(factors), _means(shown), optimize=True)
    return albedo


def _painted(found: NDArray[np.uint8], colors: Floats, light: Floats) -> Floats:
    """Colour and light places (k, 4S, 4S), and give the means of 4 × 4 (k, 3, S, S)."""
    k = len(found)
    number = found + len(BASE) * np.arange(k, dtype=np.int32)[:, None, None]
    return np.stack([_means(colors[..., c].ravel().take(number) * light) for c in range(3)], axis=1)


def _means(values: Floats) -> Floats:
    """Give the means (k, S, S) of values (k, 4S, 4S) over the places of each pixel."""
    k, side = len(values), values.shape[1]
    means: Floats = values.reshape(k, side // FINE, FINE, side // FINE, FINE).mean((2, 4))
    return means


def axes(places: Floats) -> tuple[Floats, Floats]:
    """Give x along the columns (1, 1, W) and y down the rows (1, W, 1) of a square of places."""
    return places[None, None, :], places[None, :, None]


def centers(size: int) -> Floats:
    """Give the places of pixels' centres along an axis (S,)."""
    return np.linspace(-1, 1, size)


def fine(size: int) -> Floats:
    """Give FINE places for each pixel along an axis (FINE · S,), spread evenly over its width."""
    step = 2 / (size - 1)
    places: Floats = (centers(size)[:, None] + step * ((np.arange(FINE) + 0.5) / FINE - 0.5)).ravel()
    return places
