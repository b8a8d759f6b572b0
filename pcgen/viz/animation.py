"""Pictures one after the other, into a file."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from pcgen.errors import ConfigurationError, DataError
from pcgen.io.files import atomic
from pcgen.viz.layout import INK, PAPER, Image

_COLORS = 254  # that the pictures choose; paper and ink have places of their own
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
    palette = _palette(frames)
    pictures = [Picture.fromarray(frame).quantize(palette=palette, dither=Picture.Dither.NONE) for frame in frames]
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


def _palette(frames: Sequence[Image]) -> Any:
    """Choose 256 colours for all frames; the background and the letters keep theirs exactly."""
    from PIL import Image as Picture

    pixels = np.concatenate([frame.reshape(-1, 3) for frame in frames])
    pixels = pixels[:: -(-len(pixels) // _SAMPLED)]
    chosen = Picture.fromarray(pixels[None]).quantize(_COLORS, Picture.Quantize.MEDIANCUT).getpalette() or []
    colors = [*chosen[: 3 * _COLORS], *(PAPER,) * 3, *INK]
    palette = Picture.new("P", (1, 1))
    palette.putpalette(colors + colors[-3:] * (256 - len(colors) // 3))
    return palette
