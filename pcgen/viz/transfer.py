"""What was carried from a few data to others: marks on images, and labels of a cloud's points, as colours."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcgen.errors import DataError
from pcgen.viz.cells import checked_clouds, cloud_cells, enlargement, framed, image_cells
from pcgen.viz.layout import GAP, INK, PAPER, TITLE, Image, arrange, below, beside, columns_for, set_words
from pcgen.viz.palette import CLASS_COLORS
from pcgen.viz.render import Array, Camera

SIZE = 224  # least side of an image's cell in pixels
FINE = 4  # pixels drawn for each pixel shown, along each side
ARM, RING, STROKE, HALO = 0.020, 0.028, 0.0085, 0.007  # of a mark, in sides of a cell
PALER = 0.55  # share of white in a colour's second round
PALE = 0.65  # brightness of a mark that needs a dark edge
SWATCH = 16  # pixels


def draw_marks(
    images: ArrayLike,
    marks: ArrayLike,
    *,
    true: ArrayLike | None = None,
    titles: Sequence[str] | None = None,
    source: bool = False,
    heading: str = "",
) -> Image:
    """Draw images with marks as crosses, each in the colour of its number, and true ones as rings.

    Args:
        images: (K, C, H, W) with C 1 or 3.
        marks: Places (K, L, 2) in each, (x, y), −1 and 1 at the centres of the outermost pixels.
        true: Where they should be (K, L, 2), or None; NaN draws no ring.
        titles: Words above each image.
        source: Frame the first image, from which the marks come.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If the shapes do not fit.
    """
    pixels, crosses = np.asarray(images, dtype=np.float64), np.asarray(marks, dtype=np.float64)
    rings = np.full_like(crosses, np.nan) if true is None else np.asarray(true, dtype=np.float64)
    if pixels.ndim != 4 or crosses.ndim != 3 or crosses.shape != (len(pixels), crosses.shape[1], 2):
        raise DataError(f"marks have shape {crosses.shape} for images {pixels.shape}; give (K, L, 2) for (K, C, H, W)")
    if rings.shape != crosses.shape:
        raise DataError(f"true has shape {rings.shape} for marks {crosses.shape}; give a place for each mark")
    if titles is not None and len(titles) != len(pixels):
        raise DataError(f"titles holds {len(titles)} for {len(pixels)} images; give one for each")
    times = enlargement(pixels.shape[2:], SIZE)
    places = [_in_pixels(p, pixels.shape[2:], times) for p in (crosses, rings)]
    cells = [_marked(*each) for each in zip(image_cells(pixels, SIZE), *places, strict=True)]
    cells = [framed(cell, INK if source and k == 0 else (PAPER,) * 3) for k, cell in enumerate(cells)]
    across = columns_for(len(cells))
    starts = range(0, len(cells), across)
    words = None if titles is None else [list(titles[k : k + across]) for k in starts]
    return arrange([cells[k : k + across] for k in starts], titles=words, heading=heading)


def draw_labelled_clouds(
    rows: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    names: Sequence[str],
    *,
    row_labels: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    up_axis: int = 2,
    size: int = 150,
    heading: str = "",
) -> Image:
    """Draw rows of clouds whose points have the colours of their labels, with a legend in words.

    Args:
        rows: R times (K, N, 3).
        labels: R times (K, N), indices into `names`.
        names: P words; the legend has those of the labels that there are.
        row_labels: Words left of each row.
        titles: Words above each column.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cell.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If the shapes do not fit, a coordinate is not finite or a label has no name.
    """
    clouds = [checked_clouds(row, f"rows[{k}]") for k, row in enumerate(rows)]
    indices = [np.asarray(each) for each in labels]
    _check_labels(clouds, indices, names)
    present = np.unique(np.concatenate([each.ravel() for each in indices]))
    colors = np.zeros((len(names), 3))
    colors[present] = label_colors(len(present))
    camera = Camera(up_axis=up_axis)
    cells = [
        cloud_cells(row, like=clouds[0] if len(row) == len(clouds[0]) else None, camera=camera, size=size, colors=tint)
        for row, tint in zip(clouds, (colors[each] for each in indices), strict=True)
    ]
    words = None if titles is None else [list(titles), *[[] for _ in rows[1:]]]
    image = arrange(cells, titles=words, labels=row_labels, heading=heading)
    return below([image, _legend([names[k] for k in present], colors[present], image.shape[1])])


def label_colors(count: int) -> NDArray[np.float64]:
    """Give RGB (count, 3) in [0, 1]: the house palette, then the same colours paler and paler."""
    base = np.array([[int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)] for color in CLASS_COLORS])
    round_, k = np.divmod(np.arange(count), len(base))
    colors: NDArray[np.float64] = 1 - ((1 - PALER) ** round_)[:, None] * (1 - base[k])
    return colors


# ── marks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _in_pixels(places: Array, shape: tuple[int, ...], times: int) -> Array:
    """Bring (x, y) in −1 … 1 (…, 2) to places in an enlarged image of shape (H, W) before."""
    last = np.array([shape[1] - 1, shape[0] - 1])
    pixels: Array = ((places + 1) / 2 * last + 0.5) * times
    return pixels


def _marked(cell: Image, crosses: Array, rings: Array) -> Image:
    """Draw crosses and rings (L, 2), in pixels of the cell, with an edge that shows them on any ground."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    H, W = cell.shape[:2]
    fine = Picture.fromarray(cell).resize((W * FINE, H * FINE), Picture.Resampling.NEAREST)
    draw = ImageDraw.Draw(fine)
    side = FINE * min(H, W)
    for color, cross, ring in zip(label_colors(len(crosses)), FINE * crosses, FINE * rings, strict=True):
        shade = tuple(int(255 * c + 0.5) for c in color)
        edge = INK if color.mean() > PALE else (255, 255, 255)
        for ink, more in ((edge, HALO), (shade, 0.0)):
            width = max(round((STROKE + more) * side), 1)
            if np.isfinite(ring).all():
                reach = RING * side + width / 2
                draw.ellipse([*(ring - reach), *(ring + reach)], outline=ink, width=width)
            reach = (ARM + more / 2) * side
            for direction in ((1, 1), (1, -1)):
                step = reach * np.array(direction)
                draw.line([*(cross - step), *(cross + step)], fill=ink, width=width)
    return np.asarray(fine.resize((W, H), Picture.Resampling.BOX))


# ── labels ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _legend(names: Sequence[str], colors: Array, width: int) -> Image:
    """Set a patch of each colour and its word, in as many lines as it takes."""
    entries = []
    for name, color in zip(names, colors, strict=True):
        word = set_words(name, int(0.62 * TITLE * len(name)) + 2 * GAP, TITLE)
        patch = np.full((word.shape[0], SWATCH, 3), PAPER, np.uint8)
        top = max((len(patch) - SWATCH) // 2, 0)
        patch[top : top + SWATCH] = (255 * color + 0.5).astype(np.uint8)
        entries.append(beside([patch, word]))
    lines: list[list[Image]] = [[]]
    for entry in entries:
        if lines[-1] and sum(each.shape[1] + 3 * GAP for each in (*lines[-1], entry)) > width - 2 * GAP:
            lines.append([])
        lines[-1].append(np.pad(entry, ((0, 0), (0, 2 * GAP), (0, 0)), constant_values=PAPER))
    return np.pad(below([beside(line) for line in lines]), ((0, GAP), (GAP, 0), (0, 0)), constant_values=PAPER)


def _check_labels(clouds: list[Array], labels: list[Array], names: Sequence[str]) -> None:
    shapes = [row.shape[:2] for row in clouds], [each.shape for each in labels]
    if not clouds or shapes[0] != shapes[1]:
        raise DataError(f"labels have shapes {shapes[1]} for clouds {shapes[0]}; give one for each point")
    low, high = min(each.min() for each in labels), max(each.max() for each in labels)
    if low < 0 or high >= len(names):
        raise DataError(f"labels go from {low} to {high} and there are {len(names)} names; give a name for each label")
