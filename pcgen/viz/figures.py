"""Clouds and images as pictures: arrays in, image (H, W, 3) out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pcgen.errors import DataError
from pcgen.viz.cells import checked_rows, cloud_cells, image_cells, row_cells
from pcgen.viz.layout import Image, arrange, columns_for
from pcgen.viz.palette import colorize
from pcgen.viz.render import Array, Camera


def draw_clouds(
    clouds: ArrayLike,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    up_axis: int = 2,
    values: ArrayLike | None = None,
    color: tuple[float, float, float] | None = None,
    like: ArrayLike | None = None,
    size: int = 200,
    heading: str = "",
    azimuth: float = -55.0,
    elevation: float = 22.0,
    point_radius: float | None = None,
    shadow: bool = True,
) -> Image:
    """Draw clouds side by side, each shaded by depth, with equal axes and the up axis up.

    Args:
        clouds: (K, N, 3), finite.
        titles: Words above each cloud.
        columns: Clouds in a row; None chooses.
        up_axis: Which coordinate points up: 0, 1 or 2.
        values: A number for each point, (K, N) or (N,), shown as colour; one scale for all clouds.
        color: RGB in [0, 1] for all points; None (and no values) shades from dark near the viewer to light far away.
        like: Clouds (K, M, 3) that set each cell's frame; None for the clouds' own. Give the originals to draw
            reconstructions at their scale.
        size: Pixels along each side of a cell.
        heading: Words above everything.
        azimuth: Where the viewer stands, in degrees about the up axis.
        elevation: Where the viewer stands, in degrees above the horizon.
        point_radius: Relative to half the frame; None chooses so that the points of a surface touch.
        shadow: Draw a soft shadow on the floor.

    Returns:
        (H, W, 3), the same bytes for the same sets of points, whatever their order.

    Raises:
        DataError: If there is no cloud or no point, or a coordinate is NaN or infinite.
    """
    cells = cloud_cells(
        clouds,
        like=like,
        colors=_point_colors(np.shape(clouds)[:2], values, color),
        camera=Camera(azimuth, elevation, up_axis),
        size=size,
        radius=point_radius,
        shadow=shadow,
    )
    return _in_columns(cells, titles, columns, heading)


def draw_images(
    images: ArrayLike, *, titles: Sequence[str] | None = None, columns: int | None = None, heading: str = ""
) -> Image:
    """Draw images side by side, small ones enlarged.

    Args:
        images: (K, C, H, W) with C 1 or 3; [0, 1], what lies outside is cut to it.
        titles: Words above each image.
        columns: Images in a row; None chooses.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If there is no image, C is neither 1 nor 3, or a pixel is NaN or infinite.
    """
    return _in_columns(image_cells(images), titles, columns, heading)


def draw_samples(
    x: ArrayLike,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    up_axis: int = 2,
    size: int = 200,
    heading: str = "",
) -> Image:
    """Draw data of either kind: clouds (K, N, 3) by `draw_clouds`, images (K, C, H, W) by `draw_images`."""
    if np.ndim(x) == 4:
        return draw_images(x, titles=titles, columns=columns, heading=heading)
    return draw_clouds(x, titles=titles, columns=columns, up_axis=up_axis, size=size, heading=heading)


def draw_rows(
    rows: Sequence[ArrayLike],
    *,
    labels: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    likes: Sequence[ArrayLike] | None = None,
    up_axis: int = 2,
    size: int = 160,
    heading: str = "",
) -> Image:
    """Draw rows of clouds or images, each row labelled at its left.

    Args:
        rows: Each (K, N, 3) or each (K, C, H, W); K may differ.
        labels: Words left of each row.
        titles: Words above each column.
        likes: For each row the clouds that set its frames, see `draw_clouds`; None for the rows' own.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cloud's cell.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: As `draw_clouds` and `draw_images`, or if labels or likes are not one for each row.
    """
    for name, given in (("labels", labels), ("likes", likes)):
        if given is not None and len(given) != len(rows):
            raise DataError(f"{name} holds {len(given)} for {len(rows)} rows; give one for each")
    if not rows:
        raise DataError("rows is empty; give at least one row to draw")
    camera = Camera(up_axis=up_axis)
    frames: Sequence[ArrayLike | None] = [None] * len(rows) if likes is None else likes
    cells = [
        image_cells(row) if np.ndim(row) == 4 else cloud_cells(row, like=like, camera=camera, size=size)
        for row, like in zip(rows, frames, strict=True)
    ]
    words = None if titles is None else [list(titles), *[[] for _ in rows[1:]]]
    return arrange(cells, titles=words, labels=labels, heading=heading)


def draw_pairs(
    originals: ArrayLike,
    reconstructions: ArrayLike,
    *,
    labels: tuple[str, str] = ("original", "reconstruction"),
    titles: Sequence[str] | None = None,
    up_axis: int = 2,
    size: int = 160,
    heading: str = "",
) -> Image:
    """Draw originals above their reconstructions, both in the originals' frames.

    Args:
        originals: (K, N, 3) or (K, C, H, W).
        reconstructions: (K, M, 3) or (K, C, H, W).
        labels: Words left of the two rows.
        titles: Words above each column.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cloud's cell.
        heading: Words above everything.

    Returns:
        (H, W, 3).
    """
    rows, likes = (originals, reconstructions), (originals, originals)
    return draw_rows(rows, labels=labels, titles=titles, likes=likes, up_axis=up_axis, size=size, heading=heading)


def draw_interpolations(
    walks: ArrayLike,
    ends: ArrayLike | None = None,
    *,
    labels: Sequence[str] | None = None,
    up_axis: int = 2,
    size: int = 160,
    heading: str = "",
) -> Image:
    """Draw walks from one datum to another, one in each row, everything in a row in one frame.

    Args:
        walks: (B, S, N, 3) or (B, S, C, H, W): S stations of B walks.
        ends: The data (B, 2, M, 3) or (B, 2, C, H, W) between which the walks go, drawn outside of them, or None.
        labels: Words left of each of the B rows.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cloud's cell.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If there is no walk or no station, or a value is NaN or infinite.
    """
    walks = checked_rows(walks, "walks")
    titles = [f"{100 * k / max(walks.shape[1] - 1, 1):.0f} %" for k in range(walks.shape[1])]
    rows: list[list[Array]] = [list(walk) for walk in walks]  # B of S of (N, 3) or (C, H, W)
    if ends is not None:
        pairs = checked_rows(ends, "ends")
        if pairs.shape[:2] != (len(walks), 2):
            raise DataError(f"ends has shape {pairs.shape} for {len(walks)} walks; give two for each")
        rows = [[pair[0], *row, pair[1]] for pair, row in zip(pairs, rows, strict=True)]
        titles = ["from", *titles, "to"]
    camera = Camera(up_axis=up_axis)
    cells = [row_cells(row, camera, size) for row in rows]
    return arrange(cells, titles=[titles, *[[]] * (len(rows) - 1)], labels=labels, heading=heading)


# ── colours and places ────────────────────────────────────────────────────────────────────────────────────────────────


def _point_colors(
    shape: tuple[int, ...], values: ArrayLike | None, color: tuple[float, float, float] | None
) -> Array | None:
    if values is not None and color is not None:
        raise DataError("values and color are both given; points take their colour from one of them")
    if color is not None:
        return np.broadcast_to(np.asarray(color, dtype=np.float64), (*shape, 3))
    if values is None:
        return None
    array = np.asarray(values, dtype=np.float64)
    if array.shape not in (shape, shape[1:]):
        raise DataError(f"values has shape {array.shape}; give a number for each point, {shape} or {shape[1:]}")
    if not np.isfinite(array).all():
        raise DataError("values hold NaN or infinity; a colour needs a finite number")
    return np.broadcast_to(colorize(array), (*shape, 3))


def _in_columns(cells: list[Image], titles: Sequence[str] | None, columns: int | None, heading: str) -> Image:
    if titles is not None and len(titles) != len(cells):
        raise DataError(f"titles holds {len(titles)} for {len(cells)} to draw; give one for each")
    if columns is not None and columns < 1:
        raise DataError(f"columns is {columns}; give at least 1")
    across = columns or columns_for(len(cells))
    starts = range(0, len(cells), across)
    words = None if titles is None else [list(titles[k : k + across]) for k in starts]
    return arrange([cells[k : k + across] for k in starts], titles=words, heading=heading)
