"""Fixtures for the tests of pcgen.io."""

import os
from pathlib import Path

import numpy as np
import pytest

CUBE = """OFF
8 6 12
0 0 0
1 0 0
1 1 0
0 1 0
0 0 1
1 0 1
1 1 1
0 1 1
4 0 3 2 1
4 4 5 6 7
4 0 1 5 4
4 1 2 6 5
4 2 3 7 6
4 3 0 4 7
"""


@pytest.fixture
def cube():
    """An OFF file's text: the unit cube in six squares."""
    return CUBE


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def shared_data():
    """The folder of real data, where it is there."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("PCGEN_TEST_DATA", root / "../shared/data"))
    if not (folder / "off").is_dir():
        pytest.skip("real data are not on this machine")
    return folder.resolve()


@pytest.fixture
def tree(tmp_path, cube, rng):
    """A ModelNet tree: 2 classes × (3 train + 2 test) meshes, each a box of other sides."""
    for name in ("chair", "night_stand"):
        for split, count in (("train", 3), ("test", 2)):
            folder = tmp_path / "tree" / name / split
            folder.mkdir(parents=True)
            for i in range(count):
                size = rng.uniform(1, 9, 3)
                lines = cube.splitlines()
                moved = [" ".join(map(str, np.array(v.split(), float) * size)) for v in lines[2:10]]
                text = "\n".join([*lines[:2], *moved, *lines[10:]])
                (folder / f"{name}_{split}_{i:04d}.off").write_text(text)
    (tmp_path / "tree" / "README.txt").write_text("not a cloud")
    return tmp_path / "tree"
