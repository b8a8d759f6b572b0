"""Cells and words put together into one image, and that image into a file."""

import functools
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgen.errors import DataError
from pcgen.io.files import atomic

Image = NDArray[np.uint8]  # (H, W, 3)

PAPER = 247  # grey of the background
INK = (45, 52, 60)  # RGB of letters
GAP = 6  # pixels between cells
TITLE, LABEL, HEADING = 14, 15, 18  # heights of letters in pixels
SMALLEST = 9


def save_png(path: str | os.PathLike[str], image: Image) -> None:
    """Write an image as PNG; nothing half-written stays behind.

    Args:
        path: Of the file; its folder is made if need be.
        image: (H, W, 3).

    Raises:
        DataError: If the image is not (H, W, 3) of bytes.
    """
    from PIL import Image as Picture

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise DataError(f"{path}: an image is (H, W, 3) of uint8, this is {image.shape} of {image.dtype}")
    with atomic(path) as unfinished:
        Picture.fromarray(image).save(unfinished, format="PNG")


def arrange(
    rows: Sequence[Sequence[Image]],
    *,
    titles: Sequence[Sequence[str]] | None = None,
    labels: Sequence[str] | None = None,
    heading: str = "",
) -> Image:
    """Lay cells out in rows.

    Args:
        rows: Images of one size; rows may differ in length.
        titles: Words above each cell, in rows like the cells; None for none. A long one is set in two lines or
            smaller letters, and only then shortened.
        labels: Words left of each row, or None.
        heading: Words above everything, or empty.

    Returns:
        (H, W, 3).
    """
    height, width = rows[0][0].shape[:2]
    columns = max(map(len, rows))
    gutter = _text_width(labels, int(1.2 * width)) if labels else 0
    parts = [] if not heading else [set_words(heading, gutter + columns * (width + GAP), HEADING)]
    for k, row in enumerate(rows):
        cells = [*row, *[_paper(height, width)] * (columns - len(row))]
        label = [_centered(set_words(labels[k], gutter, LABEL), height)] if labels else []
        if titles is not None and any(titles[k]):
            words = [*titles[k], *[""] * (columns - len(titles[k]))]
            parts.append(_beside([_paper(1, gutter), *_level([set_words(word, width, TITLE) for word in words])]))
        parts.append(_beside([*label, *cells]))
    return _framed(below(parts))


def columns_for(count: int) -> int:
    """Choose in how many columns to lay out so many cells: about twice as wide as high."""
    return min(count, 8 if count > 16 else math.ceil(math.sqrt(2 * count)))


def beside(images: Sequence[Image]) -> Image:
    """Join images (H, W, 3) of any sizes from left to right, their tops level."""
    return _beside(_level(images, top=True))


def below(images: Sequence[Image]) -> Image:
    """Join images (H, W, 3) of any sizes from top to bottom, their left sides in line."""
    width = max(image.shape[1] for image in images)
    parts = [part for image in images for part in (_to_width(image, width), _paper(GAP, width))]
    return np.concatenate(parts[:-1], axis=0)


def _framed(image: Image) -> Image:
    return np.pad(image, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=PAPER)


def _paper(height: int, width: int) -> Image:
    return np.full((height, width, 3), PAPER, np.uint8)


def _beside(images: Sequence[Image]) -> Image:
    shown = [image for image in images if image.shape[1]]
    height = max(image.shape[0] for image in shown)
    parts = [part for image in shown for part in (_to_height(image, height), _paper(height, GAP))]
    return np.concatenate(parts[:-1], axis=1)


def _level(images: Sequence[Image], *, top: bool = False) -> list[Image]:
    height = max(image.shape[0] for image in images)
    return [_to_height(image, height, top=top) for image in images]


def _to_height(image: Image, height: int, *, top: bool = False) -> Image:
    free = height - image.shape[0]
    space = (0, free) if top else (free, 0)
    return np.pad(image, (space, (0, 0), (0, 0)), constant_values=PAPER)


def _to_width(image: Image, width: int) -> Image:
    return np.pad(image, ((0, 0), (0, width - image.shape[1]), (0, 0)), constant_values=PAPER)


def _centered(image: Image, height: int) -> Image:
    above = max((height - image.shape[0]) // 2, 0)
    return np.pad(image, ((above, max(height - image.shape[0] - above, 0)), (0, 0), (0, 0)), constant_values=PAPER)


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _font(size: int) -> Any:
    import matplotlib as mpl
    from PIL import ImageFont

    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)  # has Greek and accents


def set_words(words: str, width: int, size: int) -> Image:
    """Set words in at most two lines of at most `width` pixels, centred."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    lines, size = _fit(words, width, size)
    image = Picture.new("RGB", (width, int(1.3 * size) * len(lines) + 2), (PAPER,) * 3)
    draw = ImageDraw.Draw(image)
    for k, line in enumerate(lines):
        draw.text(((width - _font(size).getlength(line)) / 2, 1.3 * size * k), line, INK, _font(size))
    return np.asarray(image)


def _fit(words: str, width: int, size: int) -> tuple[list[str], int]:
    for letters in range(size, SMALLEST - 1, -1):
        for lines in ([words], _halves(words)):
            if all(_font(letters).getlength(line) <= width for line in lines):
                return lines, letters
    while words and _font(SMALLEST).getlength(words + "…") > width:
        words = words[:-1]
    return [words + "…" if words else ""], SMALLEST


def _halves(words: str) -> list[str]:
    if "  " in words:  # two spaces say where
        return words.split("  ", 1)
    parts = words.split()
    cuts = [(" ".join(parts[:k]), " ".join(parts[k:])) for k in range(1, len(parts))]
    return list(min(cuts, key=lambda cut: max(map(len, cut)))) if cuts else [words]


def _text_width(words: Sequence[str], most: int) -> int:
    longest = max((_font(LABEL).getlength(line) for word in words for line in _halves(word)), default=0)
    return min(int(longest) + 8, most)
