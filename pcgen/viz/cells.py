"""Data to cells of one size: each cloud or image becomes a small picture, which figures then put together."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pcgen.errors import DataError
from pcgen.viz.layout import Image
from pcgen.viz.render import Array, Camera, outermost, render_cloud

LEAST_IMAGE_SIDE = 96  # small images are shown enlarged, pixel for pixel
FRAME = 3  # pixels around a marked cell


def row_cells(row: list[Array], camera: Camera, size: int) -> list[Image]:
    """Make the cells of data to be compared: clouds (N, 3), N may differ, in one frame, or images (C, H, W)."""
    if row[0].ndim == 3:
        return image_cells(np.stack(row))
    frame = outermost(np.concatenate(row), camera)[None]  # (1, M, 3)
    return [cloud_cells(cloud[None], like=frame, camera=camera, size=size)[0] for cloud in row]


def checked_rows(data: ArrayLike, name: str) -> Array:
    """Give R rows of S data (R, S, …) as float64, or raise a DataError."""
    array = np.asarray(data, dtype=np.float64)
    if array.ndim not in (4, 5) or 0 in array.shape:
        raise DataError(f"{name} has shape {array.shape}; give (B, S, N, 3) or (B, S, C, H, W), none of them zero")
    check_finite(array, name)
    return array


def cloud_cells(
    clouds: ArrayLike, *, like: ArrayLike | None, camera: Camera, size: int, colors: Array | None = None, **how: Any
) -> list[Image]:
    """Make the cells of clouds (K, N, 3), in their own frames or those of `like`; `how` goes to `render_cloud`."""
    checked = checked_clouds(clouds, "clouds")
    frames = checked if like is None else checked_clouds(like, "like")
    if len(frames) != len(checked):
        raise DataError(f"like holds {len(frames)} clouds for {len(checked)} to draw; give one for each")

    def cell(k: int) -> Image:
        tint = None if colors is None else colors[k]
        return render_cloud(checked[k], camera=camera, size=size, like=frames[k], colors=tint, **how)

    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:  # NumPy lets go of the lock
        return list(pool.map(cell, range(len(checked))))


def image_cells(images: ArrayLike, least: int = LEAST_IMAGE_SIDE) -> list[Image]:
    """Make the cells of images (K, C, H, W), small ones enlarged to at least so many pixels a side."""
    pixels = np.asarray(images, dtype=np.float64)
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or 0 in pixels.shape:
        raise DataError(f"images have shape {pixels.shape}; give (K, C, H, W) with K at least 1 and C 1 or 3")
    check_finite(pixels, "images")
    shown = np.repeat(pixels, 3 // pixels.shape[1], axis=1).transpose(0, 2, 3, 1)  # (K, H, W, 3)
    times = enlargement(shown.shape[1:3], least)
    shown = shown.repeat(times, axis=1).repeat(times, axis=2)
    return list((np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8))


def framed(cell: Image, color: tuple[int, int, int]) -> Image:
    """Put a frame of one colour around a cell."""
    around = np.empty((cell.shape[0] + 2 * FRAME, cell.shape[1] + 2 * FRAME, 3), np.uint8)
    around[:] = color
    around[FRAME:-FRAME, FRAME:-FRAME] = cell
    return around


def enlargement(shape: tuple[int, ...], least: int = LEAST_IMAGE_SIDE) -> int:
    """Give the number of pixels that a pixel of an image (H, W) becomes along each side."""
    return max(-(-least // min(shape)), 1)


def checked_clouds(clouds: ArrayLike, name: str) -> Array:
    """Give clouds (K, N, 3) as float64, or raise a DataError."""
    array = np.asarray(clouds, dtype=np.float64)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise DataError(f"{name} has shape {array.shape}; give (K, N, 3) with at least one cloud of at least one point")
    check_finite(array, name)
    return array


def check_finite(array: Array, name: str) -> None:
    """Raise a DataError for data (K, …) of which some are NaN or infinite."""
    bad = (~np.isfinite(array)).reshape(len(array), -1).any(axis=1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{name}: {bad.sum()} of {len(array)} hold NaN or infinity, the first at index {first}; "
            "leave them out or find out why they are not finite"
        )
