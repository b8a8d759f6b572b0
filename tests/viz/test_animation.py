"""GIFs, read back with Pillow."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from pcgen.errors import ConfigurationError, DataError
from pcgen.viz import save_gif
from pcgen.viz.layout import INK, PAPER

RNG = np.random.default_rng(0)


def read(path):
    with Image.open(path) as gif:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
        return frames, gif.info


def test_few_colours_come_back_exactly(tmp_path):
    colors = RNG.integers(0, 256, size=(200, 3), dtype=np.uint8)
    frames = [colors[RNG.integers(0, 200, size=(30, 41))] for _ in range(5)]
    save_gif(tmp_path / "new" / "a.gif", frames, 120)
    found, info = read(tmp_path / "new" / "a.gif")
    assert len(found) == 5
    assert all(np.array_equal(a, b) for a, b in zip(found, frames, strict=True))
    assert info["duration"] == 120
    assert info["loop"] == 0  # for ever
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.gif"]


def test_many_colours_come_near_and_what_stands_still_does_not_flicker(tmp_path):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    still = np.stack([*np.meshgrid(ramp, ramp, indexing="ij"), np.full((64, 64), 90, np.uint8)], axis=-1)
    frames = []
    for k in range(4):
        moving = RNG.integers(40 * k, 40 * k + 90, size=(64, 30, 3), dtype=np.uint8)
        paper, ink = np.full((64, 5, 3), PAPER, np.uint8), np.full((64, 5, 3), INK, np.uint8)
        frames.append(np.concatenate([still, moving, paper, ink], axis=1))
    save_gif(tmp_path / "a.gif", frames)
    found, _ = read(tmp_path / "a.gif")
    assert len(found) == 4
    assert all(np.array_equal(frame[:, :64], found[0][:, :64]) for frame in found)
    assert all((frame[:, -10:] == frames[0][:, -10:]).all() for frame in found)  # paper and ink are exact
    assert all(np.abs(a.astype(int) - b).mean() < 12 for a, b in zip(found, frames, strict=True))
    assert len(np.unique(np.concatenate(found).reshape(-1, 3), axis=0)) <= 256


@pytest.mark.parametrize(
    ("frames", "duration", "error", "says"),
    [
        ([], 80, DataError, "have shapes"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], 80, DataError, r"\(4, 5, 3\)"),
        ([np.zeros((4, 4, 3))], 80, DataError, "of uint8"),
        ([np.zeros((4, 4, 4), np.uint8)], 80, DataError, r"\(4, 4, 4\)"),
        ([np.zeros((4, 4, 3), np.uint8)], 9, ConfigurationError, "duration_ms is 9"),
    ],
)
def test_what_is_no_animation_leaves_the_old_file_alone(tmp_path, frames, duration, error, says):
    (tmp_path / "a.gif").write_bytes(b"old")
    with pytest.raises(error, match=says):
        save_gif(tmp_path / "a.gif", frames, duration)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.gif", b"old")]
