"""Chairs, stools, sofas and beds. Lengths in metres, angles in radians, front towards −y."""

import math

import numpy as np

from pcgen.datamodules._assembly import UPRIGHT, Assembly, Vector, turn_x, turn_y
from pcgen.datamodules._furniture import (
    ARM,
    BACK,
    BASE,
    LEG,
    MATTRESS,
    PILLOW,
    SEAT,
    Factors,
    Rng,
    chance,
    choose,
    column,
    corners,
    four_legs,
    leg,
    uniform,
)

# ── chair ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def chair(rng: Rng, f: Factors) -> Assembly:
    """Four legs, a column or runners; a tilted back of one of six kinds; with or without arms."""
    shape, top = Assembly(), f.leg_height + f.thickness / 2
    shape.slab((0, 0, top), (f.width, f.depth, f.thickness), SEAT, f.corner)
    radius = uniform(rng, 0.016, 0.028)
    places = corners(f, 1.5 * radius)
    style = choose(rng, "legs", "legs", "legs", "column", "runners")
    if style == "legs":
        four_legs(shape, rng, places, top, uniform(rng, 0, 0.15) * chance(rng, 0.6), radius, 0.4)
    elif style == "column":
        column(shape, rng, top, 0.5 * min(f.width, f.depth), 0.0, uniform(rng, 0.025, 0.04))
    else:
        _runners(shape, rng, places, top, radius)
    (x, y), high = places[3], f.upper_height + f.thickness / 2
    with shape.frame(turn_x(f.tilt), (0, y, top)):
        _back(shape, rng, f, x, high, radius)
    if chance(rng, 0.4):
        _arms(shape, rng, f, x, y, top, radius)
    return shape


def _runners(shape: Assembly, rng: Rng, places: list[tuple[float, float]], top: float, radius: float) -> None:
    hanging = chance(rng, 0.5)  # a cantilever has no back legs
    for front, back in ((places[0], places[2]), (places[1], places[3])):
        low_front, low_back = (*front, radius), (*back, radius)
        shape.rod((*front, top), low_front, radius, LEG)
        shape.rod((front[0], front[1] - radius, radius), low_back, radius, LEG)
        if not hanging:
            shape.rod((*back, top), low_back, radius, LEG)
    if hanging:
        shape.rod((*places[2], radius), (*places[3], radius), radius, LEG)


def _back(shape: Assembly, rng: Rng, f: Factors, x: float, high: float, radius: float) -> None:
    """Fill the tilted frame between the posts at ±x, from the seat's middle up to `high`."""
    style = choose(rng, "panel", "framed", "slats", "ladder", "hoop", "shell")
    wide = 2 * x + 2 * radius
    if style == "panel":
        thick, low = uniform(rng, 0.025, 0.05), 0.0 if chance(rng, 0.5) else 0.3 * high
        size = (wide, high - low, thick)
        shape.slab((0, 0, (high + low) / 2), size, BACK, f.roundness * min(size[:2]) / 2, UPRIGHT)
        if low:
            for sx in (-0.6, 0.6):
                shape.bar((sx * x, 0, 0), (sx * x, 0, low + 0.06), 0.025, BACK)
        return
    if style == "shell":  # a round back that wraps around the seat
        ring, bend = max(wide / 2, 0.05), uniform(rng, 0.7, 1.4)
        for k in range(4):
            z = high * (0.35 + 0.2 * k)
            shape.ring((0, -ring * math.cos(bend), z), ring, 0.035, BACK, _towards_y(), bend)
        for s in (-0.7, 0.0, 0.7):
            at = (ring * math.sin(s * bend), ring * (math.cos(s * bend) - math.cos(bend)))
            shape.rod((0.6 * at[0], 0, 0), (*at, 0.97 * high), 0.02, BACK)
        return
    if style == "hoop":
        _hoop(shape, rng, x, high, radius)
        return
    for s in (-1, 1):
        shape.bar((s * x, 0, 0), (s * x, 0, high), 1.8 * radius, BACK)
    _between(shape, rng, style, x, high)


def _towards_y() -> tuple[Vector, Vector, Vector]:
    return ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))  # an arc's middle, its own +x, comes to +y


def _hoop(shape: Assembly, rng: Rng, x: float, high: float, radius: float) -> None:
    ring, tube = min(x, 0.9 * high), 0.8 * radius
    axes = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))  # the arc's middle points up
    straight = high - ring
    shape.ring((0, 0, straight), ring, tube, BACK, axes, math.pi / 2)
    for s in (-1, 1):
        shape.rod((s * ring, 0, 0), (s * ring, 0, straight + 1e-3), tube, BACK)
    count = int(rng.integers(3, 7))
    for k in range(count):
        u = ring * (2 * (k + 1) / (count + 1) - 1)
        shape.rod((u, 0, 0), (u, 0, straight + math.sqrt(ring**2 - u**2)), 0.009, BACK)


def _between(shape: Assembly, rng: Rng, style: str, x: float, high: float) -> None:
    if style == "framed":
        shape.slab((0, 0, 0.62 * high), (2 * x, 0.6 * high, 0.022), BACK, 0.0, UPRIGHT)
    elif style == "slats":
        rail = uniform(rng, 0.05, 0.09)
        shape.slab((0, 0, high - rail / 2 + 0.01), (2 * x + 0.05, rail, 0.04), BACK, 0.015, UPRIGHT)
        count = int(rng.integers(3, 6))
        for k in range(count):
            u = x * (2 * (k + 1) / (count + 1) - 1)
            shape.slab((u, 0, (high - rail / 2) / 2), (0.035, high - rail / 2, 0.016), BACK, 0.0, UPRIGHT)
    else:
        count = int(rng.integers(2, 5))
        for k in range(count):
            z = high * (0.97 - 0.68 * k / count) - 0.03
            shape.slab((0, 0, z), (2 * x, 0.055, 0.02), BACK, 0.0, UPRIGHT)


def _arms(shape: Assembly, rng: Rng, f: Factors, x: float, y: float, top: float, radius: float) -> None:
    high = uniform(rng, 0.45, 0.65) * f.upper_height
    z, front = top + high, -y + uniform(rng, 0.0, 0.3) * y
    side = x + radius
    back = y + high * math.tan(f.tilt)
    padded = chance(rng, 0.5)
    for s in (-1, 1):
        if padded:
            middle = ((s * side), (front + back) / 2 - 0.02, z)
            shape.slab(middle, (0.055, back - front + 0.06, 0.03), ARM, 0.02)
        else:
            shape.rod((s * side, front - 0.02, z), (s * side, back, z), 0.018, ARM)
        shape.rod((s * (side - 0.004), front, z), (s * (x - 0.004), front, top - 0.3 * f.thickness), 0.8 * radius, ARM)


# ── stool ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def stool(rng: Rng, f: Factors) -> Assembly:
    """A seat with a cushion on three or four legs or on a column, often with a ring for the feet."""
    shape, top = Assembly(), f.leg_height + f.thickness / 2
    shape.slab((0, 0, top), (f.width, f.depth, f.thickness), SEAT, f.corner)
    shrink = 0.98 - 0.12 * (1 - f.roundness)
    dome = (f.upper_height + 0.8 * f.thickness) / 2  # its underside stays in the seat
    crown = f.leg_height + f.thickness + f.upper_height
    shape.ball((0, 0, crown - dome), (shrink * f.width / 2, shrink * f.depth / 2, dome), SEAT)
    half = min(f.width, f.depth) / 2
    if chance(rng, 0.25):
        column(shape, rng, top, 0.9 * half, 0.3 * math.tan(f.tilt) * f.leg_height, uniform(rng, 0.025, 0.04))
        radius, reach = 0.03, 0.75 * half
        bare = 0.0
    else:
        radius = uniform(rng, 0.016, 0.026)
        places = corners(f, 1.5 * radius)
        if chance(rng, 0.35):
            far = 0.72 * half
            places = [(far * math.cos(a), far * math.sin(a)) for a in (-math.pi / 2, math.pi / 6, 5 * math.pi / 6)]
        four_legs(shape, rng, places, top, f.tilt, radius, 0.35)
        reach, bare = math.hypot(*places[0]), 1.0
    if chance(rng, 0.5):
        z = uniform(rng, 0.25, 0.45) * f.leg_height
        shape.ring((0, 0, z), reach + bare * math.tan(f.tilt) * (top - z), 0.011, LEG)
        if not bare:
            for k in range(3):
                a = 2 * math.pi * k / 3
                shape.rod((0, 0, z), (reach * math.cos(a), reach * math.sin(a), z), 0.009, LEG)
    return shape


# ── sofa ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def sofa(rng: Rng, f: Factors) -> Assembly:
    """A box on feet, cushions, a tilted back, block or rolled arms; sometimes a chaise on one side."""
    shape, base = Assembly(), 0.2
    seat = f.leg_height + base
    inner = f.width - 2 * f.thickness
    shape.slab((0, 0, f.leg_height + base / 2), (f.width - 0.02, f.depth, base), BASE)
    count = max(1, round(inner / uniform(rng, 0.5, 0.8)))
    chaise = int(rng.integers(2)) * (count - 1) if count > 1 and chance(rng, 0.3) else -1
    _feet(shape, rng, f)
    back = uniform(rng, 0.16, 0.22)
    wide = inner / count
    cushion = uniform(rng, 0.1, 0.16)
    for k in range(count):
        x = -inner / 2 + (k + 0.5) * wide
        deep = f.depth - back + 0.02
        extra = 0.5 if k == chaise else 0.0
        if extra:
            at = (x, -f.depth / 2 - extra / 2 + 0.01, f.leg_height + base / 2)
            shape.slab(at, (wide - 0.01, extra + 0.02, base - 0.005), BASE)
            for s in (-1, 1):
                leg(
                    shape,
                    (x + s * (wide / 2 - 0.06), -f.depth / 2 - extra + 0.06, f.leg_height + 0.02),
                    (x + s * (wide / 2 - 0.06), -f.depth / 2 - extra + 0.06, 0),
                    0.025,
                    "tapered",
                )
        size = (wide - 0.012, deep + extra, cushion + 0.02)
        corner = 0.25 * f.roundness * min(size[:2])
        shape.slab((x, -back / 2 - extra / 2 - 0.02, seat + cushion / 2 - 0.01), size, SEAT, corner)
    with shape.frame(turn_x(f.tilt), (0, f.depth / 2 - back, seat)):
        high = cushion + f.upper_height
        for k in range(count):
            x = -inner / 2 + (k + 0.5) * wide
            size = (wide - 0.012, high + 0.08, back)
            corner = 0.3 * f.roundness * min(size[:2])
            shape.slab((x, back / 2, high / 2 - 0.04), size, BACK, corner, UPRIGHT)
    _sofa_arms(shape, rng, f, seat, cushion)
    return shape


def _feet(shape: Assembly, rng: Rng, f: Factors) -> None:
    style, radius = choose(rng, "square", "tapered"), uniform(rng, 0.02, 0.035)
    for sx in (-1, 1):
        for sy in (-1, 1):
            at = (sx * (f.width / 2 - 0.08), sy * (f.depth / 2 - 0.08))
            leg(shape, (*at, f.leg_height + 0.02), (*at, 0.0), radius, style)


def _sofa_arms(shape: Assembly, rng: Rng, f: Factors, seat: float, cushion: float) -> None:
    style = choose(rng, "block", "rolled", "low")
    rise = cushion + (0.1 if style == "low" else uniform(rng, 0.35, 0.6) * f.upper_height)
    height, deep = seat + rise - f.leg_height, f.depth + 0.02
    across = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))  # seen from the front, the arm's section
    for s in (-1, 1):
        x, z = s * (f.width - f.thickness) / 2, f.leg_height + height / 2
        size = (f.thickness, height - 0.006, deep)
        shape.slab((x, -0.01, z), size, ARM, f.roundness * f.thickness / 2, across)
        if style == "rolled":
            top, roll = f.leg_height + height, 0.5 * f.thickness + 0.035
            shape.rod(
                (x + s * 0.02, -deep / 2 - 0.02, top - 0.3 * roll),
                (x + s * 0.02, deep / 2, top - 0.3 * roll),
                roll,
                ARM,
            )


# ── bed ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def bed(rng: Rng, f: Factors) -> Assembly:
    """A frame on legs, a mattress, a tilted headboard, pillows; often a footboard. The head is at +y."""
    shape, rail = Assembly(), 0.12
    top = f.leg_height + rail
    shape.slab((0, 0, f.leg_height + rail / 2), (f.width, f.depth, rail), BASE)
    soft = 0.5 * f.roundness * 0.6 * f.width / 2
    size = (f.width - 0.06, f.depth - 0.08, f.thickness + 0.03)
    shape.slab((0, -0.01, top + f.thickness / 2 - 0.015), size, MATTRESS, soft)
    cover = uniform(rng, 0.55, 0.75) * f.depth
    if chance(rng, 0.5):
        size = (f.width - 0.01, cover, f.thickness + 0.02)
        shape.slab((0, (cover - f.depth) / 2 + 0.04, top + f.thickness / 2 + 0.01), size, MATTRESS, 0.8 * soft)
    _bed_legs(shape, rng, f)
    high = rail + f.thickness + f.upper_height
    with shape.frame(turn_x(f.tilt), (0, f.depth / 2 - 0.02, f.leg_height)):
        _board(shape, rng, f, high)
    if chance(rng, 0.4):
        low = rail + f.thickness * uniform(rng, 0.6, 1.0) + uniform(rng, 0.0, 0.5) * f.upper_height
        with shape.frame(turn_x(0.0), (0, -f.depth / 2 + 0.005, f.leg_height)):
            _board(shape, rng, f, low)
    _pillows(shape, rng, f, top + f.thickness)
    return shape


def _bed_legs(shape: Assembly, rng: Rng, f: Factors) -> None:
    style, radius = choose(rng, "square", "round", "tapered"), uniform(rng, 0.035, 0.055)
    for sx in (-1, 1):
        for sy in (-1, 1):
            at = (sx * (f.width / 2 - 1.2 * radius), sy * (f.depth / 2 - 1.2 * radius))
            leg(shape, (*at, f.leg_height + 0.03), (*at, 0.0), radius, style)


def _board(shape: Assembly, rng: Rng, f: Factors, high: float) -> None:
    style, wide = choose(rng, "panel", "panel", "slats", "arch"), f.width + 0.02
    if style == "panel":
        corner = 0.5 * f.roundness * min(wide, high)
        shape.slab((0, 0.02, high / 2), (wide, high, 0.06), BACK, corner, UPRIGHT)
        return
    for s in (-1, 1):
        shape.bar((s * (wide / 2 - 0.03), 0.02, 0), (s * (wide / 2 - 0.03), 0.02, high), 0.06, BACK)
    if style == "arch":
        shape.slab((0, 0.02, 0.45 * high), (wide - 0.06, 0.9 * high, 0.03), BACK, 0.0, UPRIGHT)
        rise = (0.1 + 0.25 * f.roundness) * high
        shape.ball((0, 0.02, 0.88 * high), (wide / 2 - 0.04, 0.025, rise), BACK)
        return
    shape.bar((-wide / 2 + 0.03, 0.02, high - 0.03), (wide / 2 - 0.03, 0.02, high - 0.03), 0.055, BACK)
    count = int(rng.integers(5, 10))
    for x in np.linspace(-wide / 2 + 0.03, wide / 2 - 0.03, count + 2)[1:-1].tolist():
        shape.bar((x, 0.02, 0), (x, 0.02, high - 0.03), 0.03, BACK)


def _pillows(shape: Assembly, rng: Rng, f: Factors, top: float) -> None:
    count = 1 if f.width < 1.2 else 2
    wide = uniform(rng, 0.7, 0.86) * f.width / count
    for k in range(count):
        x = (k - (count - 1) / 2) * 0.46 * f.width
        axes = turn_y(uniform(rng, -0.05, 0.05))
        shape.ball((x, f.depth / 2 - 0.3, top + 0.04), (wide / 2, 0.2, 0.085), PILLOW, axes)
