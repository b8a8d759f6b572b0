"""What a latent code says, as pictures: traversals and sums of codes."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from pcgen.errors import DataError
from pcgen.viz.cells import checked_rows, framed, row_cells
from pcgen.viz.layout import GAP, INK, PAPER, Image, arrange, columns_for, set_words
from pcgen.viz.render import Array, Camera

MARK = (213, 94, 0)  # RGB of what is marked
SLIDER = 240  # least width in pixels of the line with the knob, with the words at its ends
STRIP = 9  # height in pixels of the strip below a row, on which the datum's own value is marked


def draw_traversal(
    data: ArrayLike,
    *,
    base: ArrayLike,
    values: ArrayLike,
    labels: Sequence[str],
    current: ArrayLike | None = None,
    unit: str = "",
    up_axis: int = 2,
    size: int = 120,
    heading: str = "",
) -> Image:
    """Draw a traversal: one row a latent dimension, the unchanged reconstruction framed at the left of each.

    Everything is in one frame, so that what grows is seen to grow.

    Args:
        data: (D, S, N, 3) or (D, S, C, H, W), as `pcgen.latents.traverse` gives them.
        base: The unchanged reconstruction, (M, 3) or (C, H, W).
        values: Of the coordinate that is moved (S,), ascending; above the columns.
        labels: Words left of each row, such as "z3  KL 2.41".
        current: The datum's own value in each row (D,), shown by a small triangle below the row, where it lies between
            the columns or, pointing outwards, at the end that it is beyond; None for no triangles.
        unit: After each value.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cloud's cell.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If the shapes do not fit, or something is NaN or infinite.
    """
    rows, stations = checked_rows(data, "data"), _stations(values)
    unchanged = checked_rows(np.asarray(base)[None, None], "base")[0, 0]
    _check_traversal(rows, unchanged, stations, labels)
    own = None if current is None else np.asarray(current, dtype=np.float64)
    if own is not None and own.shape != rows.shape[:1]:
        raise DataError(f"current has shape {own.shape} for {len(rows)} rows; give one for each")
    flat = row_cells([unchanged, *rows.reshape(-1, *rows.shape[2:])], Camera(up_axis=up_axis), size)
    unmoved, others = framed(flat[0], MARK), [framed(cell, (PAPER,) * 3) for cell in flat[1:]]
    S = len(stations)
    cells = [[unmoved, *others[d * S : (d + 1) * S]] for d in range(len(rows))]
    if own is not None:
        cells = [_marked(row, stations, value) for row, value in zip(cells, own, strict=True)]
    titles = ["unchanged" if own is None else "unchanged  (at ▲)", *(_value(v, unit) for v in stations)]
    return arrange(cells, titles=[titles, *[[]] * (len(rows) - 1)], labels=labels, heading=heading)


def traversal_frames(
    data: ArrayLike,
    *,
    values: ArrayLike,
    labels: Sequence[str],
    unit: str = "",
    columns: int | None = None,
    up_axis: int = 2,
    size: int = 140,
    heading: str = "",
) -> list[Image]:
    """Draw the pictures of an animated traversal: all latent dimensions move together, there and back.

    Args:
        data: (D, S, N, 3) or (D, S, C, H, W); each of the D dimensions is a cell.
        values: Of the coordinate that is moved (S,), ascending; a knob below the cells shows it.
        labels: Words above each cell, such as "z3  KL 2.41".
        unit: After the values at the ends of the knob's line.
        columns: Cells in a row; None chooses.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cloud's cell.
        heading: Words above everything.

    Returns:
        2 S − 2 images (H, W, 3) of one size: the S stations, and those between the ends again on the way back.

    Raises:
        DataError: If the shapes do not fit, or something is NaN or infinite.
    """
    rows, stations = checked_rows(data, "data"), _stations(values)
    _check_traversal(rows, rows[0, 0], stations, labels)
    D, S = rows.shape[:2]
    flat = row_cells(list(rows.reshape(-1, *rows.shape[2:])), Camera(up_axis=up_axis), size)
    across = columns or columns_for(D)
    starts = range(0, D, across)
    titles = [list(labels[k : k + across]) for k in starts]
    frames = []
    for s in range(S):
        cells = flat[s::S]
        picture = _at_least(SLIDER, arrange([cells[k : k + across] for k in starts], titles=titles, heading=heading))
        frames.append(np.concatenate([picture, _slider(picture.shape[1], stations, s, unit)]))
    return [*frames, *frames[-2:0:-1]]


def draw_arithmetic(
    data: ArrayLike,
    originals: ArrayLike,
    scales: Sequence[float],
    *,
    labels: Sequence[str] | None = None,
    up_axis: int = 2,
    size: int = 160,
    heading: str = "",
) -> Image:
    """Draw what comes of adding a difference of codes: a row for each datum, a column for each scale.

    Args:
        data: (S, B, N, 3) or (S, B, C, H, W), as `pcgen.latents.latent_arithmetic` gives them.
        originals: The data (B, M, 3) or (B, C, H, W) that were started from, drawn at the left.
        scales: Of the difference (S,); the column of 0, the reconstruction, is framed.
        labels: Words left of each row.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cloud's cell.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If the shapes do not fit, or something is NaN or infinite.
    """
    rows = checked_rows(data, "data").swapaxes(0, 1)  # (B, S, …)
    starts = checked_rows(np.asarray(originals)[:, None], "originals")[:, 0]
    if (len(starts), len(scales)) != rows.shape[:2] or starts.ndim != rows.ndim - 1:
        raise DataError(
            f"data has shape {np.shape(data)} for {len(scales)} scales and originals of shape {starts.shape}; give "
            "(S, B, …) and (B, …)"
        )
    camera = Camera(up_axis=up_axis)
    edges = [(PAPER,) * 3, *(MARK if scale == 0 else (PAPER,) * 3 for scale in scales)]
    cells = [
        [framed(cell, edge) for cell, edge in zip(row_cells([start, *row], camera, size), edges, strict=True)]
        for start, row in zip(starts, rows, strict=True)
    ]
    titles = ["original", *("reconstructed" if s == 0 else f"{_signed(s)} × difference" for s in scales)]
    return arrange(cells, titles=[titles, *[[]] * (len(cells) - 1)], labels=labels, heading=heading)


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _stations(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    ascending = array.ndim == 1 and len(array) > 1 and all(a < b for a, b in pairwise(array))
    if not ascending or not np.isfinite(array).all():
        raise DataError(f"values are {array.tolist()}; give at least two finite numbers, ascending")
    return array


def _check_traversal(rows: Array, base: Array, values: Array, labels: Sequence[str]) -> None:
    if base.ndim != rows.ndim - 2 or (base.ndim == 3 and base.shape != rows.shape[2:]):
        raise DataError(f"base has shape {base.shape}, data {rows.shape}: the base is one of the data")
    if rows.shape[:2] != (len(labels), len(values)):
        raise DataError(f"data has shape {rows.shape} for {len(labels)} labels and {len(values)} values")


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _value(value: float, unit: str) -> str:
    return f"{_signed(value)} {unit}".strip()


# ── marks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _marked(row: list[Image], values: Array, current: float) -> list[Image]:
    """Put a strip below a row's cells, and a triangle where the datum's own value lies between the columns."""
    width = row[0].shape[1]
    place = float(np.interp(current, values, np.arange(len(values))))  # in columns
    column = int(np.clip(round(place), 0, len(values) - 1))
    half = STRIP - 2
    x = width / 2 + (place - column) * (width + GAP)
    x = float(np.clip(x, half, width - 1 - half))
    outward = int(current > values[-1]) - int(current < values[0])
    strips = [_strip(width, None, 0), *(_strip(width, x if k == column else None, outward) for k in range(len(values)))]
    return [np.concatenate([cell, strip]) for cell, strip in zip(row, strips, strict=True)]


def _strip(width: int, x: float | None, outward: int) -> Image:
    from PIL import Image as Picture
    from PIL import ImageDraw

    strip = Picture.new("RGB", (width, STRIP), (PAPER,) * 3)
    if x is not None:
        half, low, middle = STRIP - 2, STRIP - 1, STRIP // 2
        up = [(x - half, low), (x + half, low), (x, 1)]
        aside = [(x, 0), (x, low), (x + outward * half, middle)]
        ImageDraw.Draw(strip).polygon(aside if outward else up, fill=MARK)
    return np.asarray(strip)


def _at_least(width: int, image: Image) -> Image:
    """Put paper at both sides of an image that is narrower."""
    free = max(width - image.shape[1], 0)
    return np.pad(image, ((0, 0), (free // 2, free - free // 2), (0, 0)), constant_values=PAPER)


def _slider(width: int, values: Array, station: int, unit: str) -> Image:
    """Draw a line from the least value to the greatest with a knob at one of them."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    ends = [set_words(_value(v, unit), 60, 13) for v in (values[0], values[-1])]
    height = max(end.shape[0] for end in ends) + 2 * GAP
    picture = Picture.new("RGB", (width, height), (PAPER,) * 3)
    draw = ImageDraw.Draw(picture)
    left, right, y = 70, width - 70, height // 2
    draw.line([(left, y), (right, y)], fill=INK, width=2)
    for v in values[(values == 0) | (values == values[0]) | (values == values[-1])]:
        x = _between(v, values, left, right)
        draw.line([(x, y - 4), (x, y + 4)], fill=INK, width=2)
    x = _between(values[station], values, left, right)
    draw.ellipse([x - 6, y - 6, x + 6, y + 6], fill=MARK)
    image = np.asarray(picture).copy()
    for end, start in zip(ends, (GAP // 2, width - 60 - GAP // 2), strict=True):
        image[GAP : GAP + end.shape[0], start : start + 60] = end
    return image


def _between(value: float, values: Array, left: float, right: float) -> float:
    return float(left + (right - left) * (value - values[0]) / (values[-1] - values[0]))
