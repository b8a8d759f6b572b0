"""What the verbs leave behind: files of clouds or images, and pictures."""

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pcgen.cli.common import IMAGE_SUFFIXES, count, say, shown
from pcgen.cli.image_writing import write_images
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData


def check_kind(model: "GenerativeModel", arguments: argparse.Namespace) -> None:
    """Refuse an `--out` that cannot hold what the model makes, before any work is done.

    Raises:
        ConfigurationError: If it is for clouds alone, and the model makes images.
    """
    from pcgen.cli.modeldata import is_images

    out = arguments.out
    if is_images(model) and out is not None and out.suffix not in IMAGE_SUFFIXES:
        raise ConfigurationError(f"--out {out}: images are written as {', '.join(IMAGE_SUFFIXES)}")


def write_results(arguments: argparse.Namespace, x: NDArray[np.float32], **known: Any) -> None:
    """Write clouds (K, N, 3) or images (K, C, H, W) to `--out`, if that was asked for.

    Args:
        arguments: With `out`.
        x: Clouds in the units that they shall be written in, or images in [0, 1].
        **known: Further fields of a `CloudSet`; of images the `name`s alone are kept.
    """
    if arguments.out is None:
        return
    if x.ndim == 4:
        write_image_parts(arguments, [x], x.shape, name=known.get("name", ()))
        return
    from pcgen.io import CloudSet, write_clouds

    written = write_clouds(arguments.out, CloudSet(x, **known))
    say(f"{count(len(x), 'cloud')} of {x.shape[1]} points: {shown(written)}")


def write_image_parts(
    arguments: argparse.Namespace, parts: Iterable[NDArray[np.float32]], shape: tuple[int, ...], **known: Any
) -> None:
    """Write images that come in parts, (K, C, H, W) in all, to `--out`."""
    write_images(arguments.out, parts, shape, **known)
    say(f"{count(shape[0], 'image')} of {shape[3]} × {shape[2]} pixels: {shown(arguments.out)}")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], what: str) -> None:
    """Write arrays by name to a `.npz`, whole or not at all."""
    from pcgen.io.files import atomic

    with atomic(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    say(f"{what}: {shown(path)}")


def write_picture(arguments: argparse.Namespace, image: NDArray[np.uint8]) -> None:
    """Write the picture to `--png`."""
    from pcgen.viz import save_png

    save_png(arguments.png, image)
    say(f"picture: {shown(arguments.png)}")


def place_of(data: "ModelData", kind: str | None) -> str:
    """Say which data they are, or which class of them, for captions."""
    return data.place if kind is None else f"class {kind} of {data.place}"


def up_axis(model: "GenerativeModel") -> int:
    """Give the axis that points up in a model's clouds; z where nobody said."""
    known = (model.data_info or {}).get("up_axis")
    return 2 if known is None else int(known)


def _finite(value: Any) -> Any:
    """Give plain content with null for NaN and infinity, which JSON has not."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path | None, content: dict[str, Any], what: str) -> None:
    """Write plain content to `--json`, `-` for standard output; whole or not at all."""
    from pcgen.io.files import atomic

    if path is None:
        return
    text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if path == Path("-"):
        sys.stdout.write(text)
        return
    with atomic(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    say(f"{what}: {shown(path)}")
