"""Shape apart from appearance, as pictures: templates, the deformations that carry them to the data, and swaps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pcgen.errors import DataError
from pcgen.viz.cells import check_finite, checked_clouds, cloud_cells, enlargement, framed, image_cells, row_cells
from pcgen.viz.lattice import LINES, lattice_cells
from pcgen.viz.layout import GAP, PAPER, Image, arrange, set_words
from pcgen.viz.palette import colorize
from pcgen.viz.render import Array, Camera, outermost

DONORS = ((213, 94, 0), (0, 114, 178))  # RGB around donors of the shape, and of the appearance
DARKEST, LIGHTEST = 0.08, 0.92  # of a colour that says where a point lies: no black and no white
FLAT = 0.01  # a shading that differs from 1 by no more is drawn as if it did by this much


def draw_decompositions(
    inputs: ArrayLike,
    reconstructions: ArrayLike,
    templates: ArrayLike,
    deformations: ArrayLike,
    layers: Mapping[str, ArrayLike] | None = None,
    *,
    titles: Sequence[str] | None = None,
    up_axis: int = 2,
    size: int = 140,
    heading: str = "",
) -> Image:
    """Draw data, what a deforming model makes of them, and what it puts that together from: one column a datum.

    Rows of images: input, reconstruction, appearance, albedo and shading where they are known, and the deformation as
    the lattice of the template's coordinates, seen in the datum: regular where nothing is deformed. Rows of clouds:
    input, reconstruction and template, in which each point has one colour, that of its place in the mean template, and
    the template coloured by how far each point goes, on one scale for all columns.

    Args:
        inputs: (K, C, H, W) or (K, M, 3).
        reconstructions: (K, C, H, W) or (K, N, 3).
        templates: (K, C, H, W) or (K, N, 3).
        deformations: Sampling grids (K, H, W, 2) or displacements (K, N, 3), see `pcgen.base.Decomposition`.
        layers: `"albedo"` (K, C, H, W) and `"shading"` (K, 1, H, W), or some of them; None for none.
        titles: Words above each column.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cell; images are enlarged by a whole number to at least that.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If the shapes do not fit, or something is NaN or infinite.
    """
    parts: dict[str, Array] = {
        "inputs": np.asarray(inputs, dtype=np.float64),
        "reconstructions": np.asarray(reconstructions, dtype=np.float64),
        "templates": np.asarray(templates, dtype=np.float64),
        **{name: np.asarray(layer, dtype=np.float64) for name, layer in (layers or {}).items()},
        "deformations": np.asarray(deformations, dtype=np.float64),
    }
    _check_parts(parts)
    rows = _image_rows(parts, size) if parts["inputs"].ndim == 4 else _cloud_rows(parts, Camera(up_axis=up_axis), size)
    words = None if titles is None else [list(titles), *[[] for _ in range(len(rows) - 1)]]
    return arrange(list(rows.values()), titles=words, labels=list(rows), heading=heading)


def draw_correspondence(
    clouds: ArrayLike,
    template: ArrayLike,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    up_axis: int = 2,
    size: int = 180,
    heading: str = "",
) -> Image:
    """Draw clouds whose points correspond, each point in the colour of its place in the template, which comes first.

    Args:
        clouds: (K, N, 3); point i of each is point i of the template.
        template: (N, 3).
        titles: Words above each cloud.
        columns: Cells in a row, the template's among them; None chooses.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cell.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If the shapes do not fit, or something is NaN or infinite.
    """
    checked = checked_clouds(clouds, "clouds")
    rest = checked_clouds(np.asarray(template)[None], "template")[0]
    if rest.shape != checked.shape[1:]:
        raise DataError(f"template has shape {rest.shape} for clouds of {checked.shape[1:]}; give a point for each")
    if titles is not None and len(titles) != len(checked):
        raise DataError(f"titles holds {len(titles)} for {len(checked)} clouds; give one for each")
    if columns is not None and columns < 1:
        raise DataError(f"columns is {columns}; give at least 1")
    shown = np.concatenate([rest[None], checked])  # (1 + K, N, 3)
    colors = np.broadcast_to(place_colors(rest), shown.shape)
    cells = cloud_cells(shown, like=None, camera=Camera(up_axis=up_axis), size=size, colors=colors)
    across = columns or (-(-len(shown) // 2) if 6 < len(shown) <= 16 else min(len(shown), 8))
    starts = range(0, len(shown), across)
    words = ["template", *(titles or [""] * len(checked))]
    return arrange(
        [cells[k : k + across] for k in starts], titles=[words[k : k + across] for k in starts], heading=heading
    )


def draw_swaps(
    shape_donors: ArrayLike,
    appearance_donors: ArrayLike,
    swapped: ArrayLike,
    *,
    words: tuple[str, str] = ("shape", "appearance"),
    row_labels: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    up_axis: int = 2,
    size: int = 140,
    heading: str = "",
) -> Image:
    """Draw a matrix of exchanged codes: each cell has the shape of its row and the appearance of its column.

    The donors are framed, those of the shape at the left and those of the appearance above. All clouds are in one
    frame, so that what is wide is seen to be wide.

    Args:
        shape_donors: (A, C, H, W) or (A, N, 3).
        appearance_donors: (B, …).
        swapped: (A, B, …).
        words: What is taken from the rows, and what from the columns.
        row_labels: Words left of each of the A rows.
        titles: Words above each of the B columns.
        up_axis: Which coordinate points up.
        size: Pixels along each side of a cloud's cell.
        heading: Words above everything.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If the shapes do not fit, or something is NaN or infinite.
    """
    first, second = np.asarray(shape_donors, dtype=np.float64), np.asarray(appearance_donors, dtype=np.float64)
    matrix = np.asarray(swapped, dtype=np.float64)
    _check_swap(first, second, matrix)
    A, B = len(first), len(second)
    for name, given, count in (("row_labels", row_labels, A), ("titles", titles, B)):
        if given is not None and len(given) != count:
            raise DataError(f"{name} holds {len(given)} for {count}; give one for each")
    flat = row_cells([*first, *second, *matrix.reshape(A * B, *matrix.shape[2:])], Camera(up_axis=up_axis), size)
    left, above = [framed(c, DONORS[0]) for c in flat[:A]], [framed(c, DONORS[1]) for c in flat[A : A + B]]
    inside = [framed(c, (PAPER,) * 3) for c in flat[A + B :]]
    rows = [[_corner(left[0].shape, words), *above], *([left[a], *inside[a * B : (a + 1) * B]] for a in range(A))]
    heads = None if titles is None else [["", *titles], *[[] for _ in range(A)]]
    labels = None if row_labels is None else ["", *row_labels]
    return arrange(rows, titles=heads, labels=labels, heading=heading)


def place_colors(template: Array) -> Array:
    """Give each point (N, 3) of a template the colour (N, 3) of its place: red along x, green along y, blue along z."""
    low, high = template.min(0), template.max(0)
    place = (template - low) / np.where(high > low, high - low, 1)
    colors: Array = DARKEST + (LIGHTEST - DARKEST) * place
    return colors


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _image_rows(parts: dict[str, Array], size: int) -> dict[str, list[Image]]:
    """Make the rows of images by their labels."""
    rows = {"input": parts["inputs"], "reconstruction": parts["reconstructions"], "appearance": parts["templates"]}
    if "albedo" in parts:
        rows["albedo"] = parts["albedo"]
    if "shading" in parts:
        excess = parts["shading"] - 1
        extent = max(float(abs(excess).max()), FLAT)
        rows[f"shading  (grey is 1, ±{extent:.2g})"] = 0.5 + 0.5 * excess / extent
    cells = {label: image_cells(row, size) for label, row in rows.items()}
    times = enlargement(parts["inputs"].shape[2:], size)
    cells[f"deformation  ({LINES})"] = lattice_cells(parts["deformations"], cells["reconstruction"], times)
    return cells


def _cloud_rows(parts: dict[str, Array], camera: Camera, size: int) -> dict[str, list[Image]]:
    """Make the rows of clouds by their labels."""
    inputs, made, templates = parts["inputs"], parts["reconstructions"], parts["templates"]
    colors = np.broadcast_to(place_colors(templates.mean(0)), made.shape)
    pooled = outermost(templates.reshape(-1, 3), camera)  # one frame for all templates, whose differences count
    alike = np.broadcast_to(pooled, (len(templates), *pooled.shape))
    both = np.concatenate([inputs, made], axis=1)  # a column's own frame, from which nothing sticks out
    length = np.linalg.norm(parts["deformations"], axis=-1)  # (K, N)

    def cells(clouds: Array, like: Array, tint: Array | None) -> list[Image]:
        return cloud_cells(clouds, like=like, camera=camera, size=size, colors=tint)

    return {
        "input": cells(inputs, both, None),
        "reconstruction  (by template)": cells(made, both, colors),
        "template": cells(templates, alike, colors),
        f"displacement  {length.min():.2g} to {length.max():.2g}": cells(templates, alike, colorize(length)),
    }


def _check_parts(parts: dict[str, Array]) -> None:
    shape = parts["inputs"].shape
    if len(shape) not in (3, 4) or 0 in shape:
        raise DataError(f"inputs have shape {shape}; give (K, C, H, W) or (K, N, 3), none of them zero")
    K, images = shape[0], len(shape) == 4
    N = parts["reconstructions"].shape[1:2]
    wanted: dict[str, tuple[Any, ...]] = {
        "inputs": shape if images else (K, shape[1], 3),
        "reconstructions": shape if images else (K, *N, 3),
        "templates": shape if images else (K, *N, 3),
        "albedo": shape,
        "shading": (K, 1, *shape[2:]),
        "deformations": (K, *shape[2:], 2) if images else (K, *N, 3),
    }
    known = wanted if images else {name: wanted[name] for name in wanted if name not in ("albedo", "shading")}
    for name, part in parts.items():
        if name not in known:
            raise DataError(f"there is no layer {name!r} of {'images' if images else 'clouds'} to draw; leave it out")
        if part.shape != known[name]:
            raise DataError(f"{name} have shape {part.shape}, which for these inputs is {known[name]}")
        check_finite(part, name)


def _check_swap(first: Array, second: Array, matrix: Array) -> None:
    shape = (len(first), len(second))
    fits = first.ndim in (3, 4) and first.ndim == second.ndim == matrix.ndim - 1 and matrix.shape[:2] == shape
    if not fits or 0 in (*first.shape, *second.shape, *matrix.shape):
        raise DataError(
            f"swapped has shape {matrix.shape} for donors of {first.shape} and {second.shape}; give (A, B, …), (A, …) "
            "and (B, …)"
        )
    for name, part in (("shape_donors", first), ("appearance_donors", second), ("swapped", matrix)):
        check_finite(part, name)


# ── cells ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _corner(shape: tuple[int, ...], words: tuple[str, str]) -> Image:
    """Say where the donors of what stand, in the corner between them."""
    corner = np.full(shape, PAPER, np.uint8)
    for text, bottom in ((f"{words[1]} →", False), (f"{words[0]} ↓", True)):
        line = set_words(text, shape[1] - 2 * GAP, 14)
        top = shape[0] - GAP - len(line) if bottom else (shape[0] - len(line)) // 3
        corner[top : top + len(line), GAP : GAP + line.shape[1]] = line
    return corner
