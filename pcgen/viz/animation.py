"""Pictures one after the other, into a file."""

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import ConfigurationError, DataError
from pcgen.io.files import atomic
from pcgen.viz.layout import INK, PAPER, Image

_COLORS = 254  # that the pictures choose; paper and ink have places of their own
_PLACES = np.array([1 << 16, 1 << 8, 1], np.uint32)  # of red, green and blue in one number
_SAMPLED = 1 << 20  # pixels looked at to choose the colours


def save_gif(path: str | os.PathLike[str], frames: Sequence[Image], duration_ms: int = 80) -> None:
    """Write an animated GIF that runs for ever; nothing half-written stays behind.

    All frames share one palette of 256 colours, so nothing flickers that stands still. Frames that are equal and
    follow each other are stored as one, shown for as long.

    Args:
        path: Of the file; its folder is made if need be.
        frames: Images (H, W, 3) of one size.
        duration_ms: Of each frame; a GIF counts in steps of 10 ms.

    Raises:
        DataError: If there is no frame, one is not (H, W, 3) of bytes, or they differ in size.
        ConfigurationError: If the duration is below 10 ms.
    """
    from PIL import Image as Picture

    if duration_ms < 10:
        raise ConfigurationError(f"duration_ms is {duration_ms}; give at least 10, the least that a GIF can hold")
    shapes = {frame.shape for frame in frames}
    if len(shapes) != 1 or any(frame.dtype != np.uint8 or frame.ndim != 3 or frame.size == 0 for frame in frames):
        raise DataError(f"{path}: frames are (H, W, 3) of uint8 and of one size, these have shapes {sorted(shapes)}")
    if frames[0].shape[2] != 3:
        raise DataError(f"{path}: frames are (H, W, 3), these are {frames[0].shape}")
    palette, indices = _indexed(frames)
    pictures = [Picture.fromarray(index) for index in indices]
    for picture in pictures:
        picture.putpalette(palette.tobytes())
    with atomic(path) as unfinished:
        pictures[0].save(
            unfinished,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=round(duration_ms, -1),
            loop=0,
            optimize=False,
        )


def _indexed(frames: Sequence[Image]) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """Give a palette (256, 3) for all frames, and each frame as the places (H, W) of the colours nearest to its own."""
    from scipy.spatial import cKDTree

    packed = [np.ascontiguousarray(frame).astype(np.uint32) @ _PLACES for frame in frames]  # (H, W), below 2^24
    seen = np.zeros(1 << 24, np.bool_)
    for pixels in packed:
        seen[pixels] = True
    used = np.flatnonzero(seen)
    colors = (used[:, None] // _PLACES % 256).astype(np.uint8)  # (U, 3)
    chosen = colors if len(colors) <= 256 else _palette(frames)
    place = np.zeros(1 << 24, np.uint8)
    place[used] = cKDTree(chosen).query(colors)[1]
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(chosen)] = chosen
    return palette, [place[pixels] for pixels in packed]


def _palette(frames: Sequence[Image]) -> NDArray[np.uint8]:
    """Choose 256 colours for all frames; the background and the letters keep theirs exactly."""
    from PIL import Image as Picture

    pixels = np.concatenate([frame.reshape(-1, 3) for frame in frames])
    pixels = pixels[:: -(-len(pixels) // _SAMPLED)]
    cut = Picture.fromarray(pixels[None]).quantize(_COLORS, Picture.Quantize.MEDIANCUT).getpalette() or []
    return np.array([*cut[: 3 * _COLORS], *(PAPER,) * 3, *INK], np.uint8).reshape(-1, 3)
