"""Tables, desks, shelves and lamps, and the legs that everything stands on. Lengths in metres, angles in radians.

Each class is a function of chance (for its style) and of its seven known factors.
"""

import math
from typing import NamedTuple

import numpy as np

from pcgen.datamodules._assembly import SIDEWAYS, Assembly, Vector, turn_x, turn_y

Rng = np.random.Generator
PARTS = ("leg", "seat", "back", "arm", "top", "board", "side", "base", "pole", "shade", "mattress", "pillow", "drawer")
LEG, SEAT, BACK, ARM, TOP, BOARD, SIDE, BASE, POLE, SHADE, MATTRESS, PILLOW, DRAWER = range(len(PARTS))


class Factors(NamedTuple):
    """What a shape is made from; see `Shapes` for what each means to each class."""

    width: float
    depth: float
    leg_height: float
    upper_height: float
    tilt: float
    thickness: float
    roundness: float

    @property
    def corner(self) -> float:
        """Corner radius of the seat, the top, the mattress."""
        return self.roundness * min(self.width, self.depth) / 2


def chance(rng: Rng, share: float) -> bool:
    """Be true in this share of the cases."""
    return bool(rng.random() < share)


def choose(rng: Rng, *options: str) -> str:
    """Pick one of the styles."""
    return options[int(rng.integers(len(options)))]


def uniform(rng: Rng, low: float, high: float) -> float:
    """Draw a number."""
    return low + (high - low) * float(rng.random())


# ── legs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def corners(f: Factors, margin: float) -> list[tuple[float, float]]:
    """Give the four places for legs under a slab with rounded corners: front left, front right, back left, right."""
    inset = margin + f.corner * (1 - math.sqrt(0.5))
    x, y = f.width / 2 - inset, f.depth / 2 - inset
    return [(-x, -y), (x, -y), (-x, y), (x, y)]


def leg(shape: Assembly, top: Vector, foot: Vector, radius: float, style: str, label: int = LEG) -> None:
    """Add a leg: `square`, `round`, or `tapered` towards the foot."""
    if style == "square":
        shape.bar(top, foot, 1.8 * radius, label)
    else:
        shape.rod(top, foot, radius, label, end=0.5 * radius if style == "tapered" else radius)


def four_legs(
    shape: Assembly, rng: Rng, places: list[tuple[float, float]], top: float, lean: float, radius: float, brace: float
) -> None:
    """Add legs that lean outwards; a share `brace` of them gets stretchers."""
    style, out = choose(rng, "square", "round", "tapered"), math.tan(lean) * top
    feet = []
    for x, y in places:
        far = math.hypot(x, y)
        feet.append((x + out * x / far, y + out * y / far))
        leg(shape, (x, y, top), (*feet[-1], 0.0), radius, style)
    if chance(rng, brace):
        t = uniform(rng, 0.25, 0.6)  # how far down the leg
        at = [(x + t * (u - x), y + t * (v - y), top * (1 - t)) for (x, y), (u, v) in zip(places, feet, strict=True)]
        pairs = [(0, 2), (1, 3)] if len(at) == 4 else [(i, (i + 1) % len(at)) for i in range(len(at))]
        for i, j in pairs:
            shape.rod(at[i], at[j], 0.6 * radius, LEG)
        if len(at) == 4:
            middle = [tuple((a + b) / 2 for a, b in zip(at[i], at[j], strict=True)) for i, j in pairs]
            shape.rod(middle[0], middle[1], 0.6 * radius, LEG)  # type: ignore[arg-type]  # three numbers each


def column(shape: Assembly, rng: Rng, top: float, reach: float, flare: float, radius: float) -> None:
    """Add one central column on a disc or on a star of feet."""
    wide = radius + flare
    shape.rod((0, 0, top), (0, 0, 0.02), radius, POLE, end=wide)
    if chance(rng, 0.5):
        disc = max(reach, 1.3 * wide)
        shape.rod((0, 0, 0), (0, 0, 0.03), disc, BASE, end=0.9 * disc)
        return
    feet, turn = int(rng.integers(3, 6)), uniform(rng, 0, 2 * math.pi)
    for k in range(feet):
        angle = turn + 2 * math.pi * k / feet
        end = (1.15 * reach * math.cos(angle), 1.15 * reach * math.sin(angle), 0.015)
        shape.rod((0, 0, 0.25 * top), end, 0.02, BASE, end=0.012)


# ── table ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(rng: Rng, f: Factors) -> Assembly:
    """Dining and coffee tables: four legs or a column, with or without a board below."""
    shape, under = Assembly(), f.leg_height + f.upper_height
    shape.slab((0, 0, under + f.thickness / 2), (f.width, f.depth, f.thickness), TOP, f.corner)
    if chance(rng, 0.3):
        size = (0.45 * f.width, 0.45 * f.depth, f.upper_height + f.thickness)
        shape.slab((0, 0, f.leg_height + size[2] / 2 - 1e-3), size, SIDE, f.roundness * min(size[:2]) / 2)
        reach = 0.33 * min(f.width, f.depth)
        column(shape, rng, under, reach, 0.5 * math.tan(f.tilt) * f.leg_height, uniform(rng, 0.03, 0.07))
        return shape
    radius = uniform(rng, 0.025, 0.045)
    places = corners(f, 1.6 * radius)
    four_legs(shape, rng, places, under + f.thickness / 2, f.tilt, radius, 0.15)
    apron(shape, f, places)
    if chance(rng, 0.3) and f.tilt < 0.2:
        x, y = abs(places[0][0]), abs(places[0][1])
        shape.slab((0, 0, 0.3 * f.leg_height), (2 * x, 2 * y, 0.02), BOARD)
    return shape


def apron(shape: Assembly, f: Factors, places: list[tuple[float, float]]) -> None:
    """Add the frame between the legs, right under the top."""
    (x, y), thick = (abs(places[0][0]), abs(places[0][1])), 0.02
    height = f.upper_height + f.thickness / 2
    z = f.leg_height + height / 2
    for side in (-1, 1):
        shape.slab((0, side * y, z), (2 * x, thick, height), SIDE)
        shape.slab((side * x, 0, z), (thick, 2 * y, height), SIDE)


# ── desk ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def desk(rng: Rng, f: Factors) -> Assembly:
    """A pedestal of drawers on one side, a pair of legs that leans outwards on the other."""
    shape, under = Assembly(), f.leg_height + f.upper_height
    side = 1 if chance(rng, 0.5) else -1
    wide = uniform(rng, 0.26, 0.36) * f.width
    x, deep = side * (f.width / 2 - wide / 2 - 0.03), f.depth - 0.06
    shape.slab((0, 0, under + f.thickness / 2), (f.width, f.depth, f.thickness), TOP, 0.5 * f.corner)
    bottom = uniform(rng, 0.03, 0.12)
    shape.slab((x, 0, (bottom + under + 0.005) / 2), (wide, deep, under + 0.005 - bottom), SIDE)
    for sx in (-1, 1):
        for sy in (-1, 1):
            at = (x + sx * (wide / 2 - 0.03), sy * (deep / 2 - 0.03))
            shape.slab((*at, bottom / 2 + 0.005), (0.04, 0.04, bottom + 0.01), LEG)
    drawers(shape, int(rng.integers(2, 5)), (x, -deep / 2, bottom), wide, under - bottom)
    radius, out = uniform(rng, 0.02, 0.035), math.tan(f.tilt) * under
    style, edge = choose(rng, "square", "round", "tapered"), f.width / 2 - 0.06 - 0.15 * f.corner
    for y in (-f.depth / 2 + 0.07 + 0.15 * f.corner, f.depth / 2 - 0.07 - 0.15 * f.corner):
        leg(shape, (-side * (edge - 0.5 * out), y, under + 0.01), (-side * (edge + 0.5 * out), y, 0.0), radius, style)
    # The drawer beside the pedestal, under the top.
    inner = x - side * (wide / 2 - 0.01)
    outer = -side * (edge - 0.5 * out)
    size = (abs(inner - outer), deep - 0.08, f.upper_height + 0.005)
    shape.slab(((inner + outer) / 2, 0, f.leg_height + size[2] / 2), size, DRAWER)
    if chance(rng, 0.5):
        high = uniform(rng, 0.4, 0.7) * under
        shape.slab((0, 0.4 * deep, under - high / 2 + 0.005), (0.86 * f.width, 0.02, high), BACK)
    if chance(rng, 0.4):
        hutch(shape, rng, f, under + f.thickness)
    return shape


def drawers(shape: Assembly, count: int, at: Vector, wide: float, high: float) -> None:
    """Add fronts that stand out a little, each with a knob."""
    step = high / count
    for k in range(count):
        z = at[2] + (k + 0.5) * step
        shape.slab((at[0], at[1], z), (0.9 * wide, 0.03, 0.84 * step), DRAWER)
        shape.bar((at[0] - 0.2 * wide, at[1] - 0.03, z), (at[0] + 0.2 * wide, at[1] - 0.03, z), 0.035, DRAWER)


def hutch(shape: Assembly, rng: Rng, f: Factors, top: float) -> None:
    """Add a low shelf that stands on the back of the desk."""
    high, deep, w = uniform(rng, 0.15, 0.35), 0.3 * f.depth, 0.9 * f.width - 0.3 * f.corner
    y = 0.5 * f.depth - 0.5 * deep - 0.03 - 0.1 * f.corner
    shape.slab((0, y, top + high), (w, deep, 0.025), BOARD)
    for x in (-0.5 * w + 0.02, *([0.0] if chance(rng, 0.5) else []), 0.5 * w - 0.02):
        shape.slab((x, y, top + high / 2 - 0.005), (0.025, deep - 0.01, high), SIDE)


# ── shelf ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def shelf(rng: Rng, f: Factors) -> Assembly:
    """Boards between two sides or four posts, inclined for display, with or without a back and a divider."""
    shape, bottom, count = Assembly(), f.leg_height, int(rng.integers(3, 6))
    sides = chance(rng, 0.6)
    t, x, y = f.thickness, f.width / 2, f.depth / 2
    inside = f.width - t if sides else f.width - 0.02
    slope = math.tan(f.tilt) * f.depth / 2  # a board's front edge is this much lower than its middle
    for k in range(count):
        z = bottom + slope + t / 2 + k * (f.upper_height - 2 * slope - t) / (count - 1)
        size = (inside, (f.depth - 0.01) / math.cos(f.tilt) - t * math.tan(f.tilt), t)
        shape.slab((0, 0, z), size, BOARD, 0.0 if sides else 0.5 * f.roundness * f.depth, turn_x(-f.tilt))
    high = f.upper_height
    if sides:
        for s in (-1, 1):
            at = (s * (x - t / 2), 0, bottom + high / 2)
            shape.slab(at, (f.depth, high, t), SIDE, 0.5 * f.roundness * f.depth, SIDEWAYS)
    posts(shape, rng, f, full=not sides)
    if chance(rng, 0.5):
        trim = 0.5 * f.roundness * f.depth if sides else 0.0
        shape.slab((0, y - 0.01 - 0.3 * trim, bottom + high / 2), (inside, 0.015, high - 2 * t - trim), BACK)
    if chance(rng, 0.3):
        gap = (high - t) / (count - 1)
        shape.slab((0, 0, bottom + gap * (count - 1) / 2 + t / 2), (t, 0.85 * f.depth, gap * (count - 1)), SIDE)
    return shape


def posts(shape: Assembly, rng: Rng, f: Factors, *, full: bool) -> None:
    """Add four feet under the sides, or four posts from the floor to the top."""
    style, radius = choose(rng, "square", "round"), max(0.6 * f.thickness, 0.014)
    trim = 0.15 * f.roundness * f.depth + radius
    x = f.width / 2 - (trim if full else 0.5 * f.thickness)
    y = f.depth / 2 - trim - (0.35 * f.roundness * f.depth if not full else 0)
    top = f.leg_height + (f.upper_height if full else 0.5 * f.roundness * f.depth + 0.02)
    for sx in (-1, 1):
        for sy in (-1, 1):
            leg(shape, (sx * x, sy * y, top), (sx * x, sy * y, 0.0), radius, style)


# ── lamp ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def lamp(rng: Rng, f: Factors) -> Assembly:
    """A base, a pole that bends halfway, a shade along the bent half."""
    shape, foot = Assembly(), f.depth / 2
    style = choose(rng, "disc", "dome", "tripod", "block")
    if style == "disc":
        shape.rod((0, 0, 0), (0, 0, 0.035), foot, BASE, end=0.92 * foot)
    elif style == "dome":
        shape.ball((0, 0, 0.2 * foot), (foot, foot, 0.2 * foot), BASE)
    elif style == "block":
        shape.slab((0, 0, 0.03), (1.7 * foot, 1.7 * foot, 0.06), BASE, 0.2 * foot)
    else:
        for k in range(3):
            angle = 2 * math.pi * k / 3 + 0.4
            tip = (1.2 * foot * math.cos(angle), 1.2 * foot * math.sin(angle), 0.01)
            shape.rod((0, 0, 0.35 * f.leg_height), tip, 1.1 * f.thickness, BASE, end=0.8 * f.thickness)
    half = f.leg_height / 2
    start = 0.33 * f.leg_height if style == "tripod" else 0.01
    shape.rod((0, 0, start), (0, 0, half + 0.3 * f.thickness), f.thickness, POLE)
    _belly(shape, rng, f, style)
    with shape.frame(turn_y(f.tilt), (0, 0, half)):
        shape.ball((0, 0, 0), (1.25 * f.thickness,) * 3, POLE)
        shape.rod((0, 0, 0), (0, 0, half + 0.5 * f.upper_height), f.thickness, POLE)
        _shade(shape, rng, f, half)
    return shape


def _belly(shape: Assembly, rng: Rng, f: Factors, style: str) -> None:
    if style == "tripod" or chance(rng, 0.5):
        return
    for k in range(int(rng.integers(1, 4))):
        z = f.leg_height * (0.14 + 0.11 * k)
        shape.ball((0, 0, z), (uniform(rng, 2.2, 3.6) * f.thickness,) * 2 + (0.07 * f.leg_height,), POLE)


def _shade(shape: Assembly, rng: Rng, f: Factors, low: float) -> None:
    wide = f.width / 2
    narrow = wide * (0.3 + 0.7 * f.roundness)
    high, holder = low + f.upper_height, low + 0.4 * f.upper_height
    waist = 0.6 * wide + 0.4 * narrow
    style = choose(rng, "open", "bulb", "solid", "bell")
    if style == "solid":
        shape.rod((0, 0, low), (0, 0, high), wide, SHADE, end=narrow)
        return
    if style == "bell":
        waist = 0.46 * (wide + narrow)
        shape.rod((0, 0, low), (0, 0, holder), wide, SHADE, end=waist, hollow=True)
        shape.rod((0, 0, holder), (0, 0, high), waist, SHADE, end=0.8 * narrow, hollow=True)
    else:
        shape.rod((0, 0, low), (0, 0, high), wide, SHADE, end=narrow, hollow=True)
    shape.rod((-waist, 0, holder), (waist, 0, holder), 0.007, SHADE)
    shape.rod((0, -waist, holder), (0, waist, holder), 0.007, SHADE)
    if style == "bulb":
        radius = min(0.05, 0.3 * wide)
        shape.ball((0, 0, low + 0.5 * f.upper_height), (radius, radius, 1.3 * radius), SHADE)
