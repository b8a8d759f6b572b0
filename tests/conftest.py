"""What every test may use: the real data, where it is, and runs of the real command line."""

import os
import sys
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers side by side, each with a thread for every core, wait for each other: the suite takes twice as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes of the tests inherit it

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))  # processes of the tests import some of its files, so they are modules


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def together():
    """Runs a program in processes that find each other."""
    from _processes import together

    return together


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; tests that need it are skipped on a machine without it."""
    folder = Path(os.environ.get("PCGEN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (PCGEN_TEST_DATA)")
    return folder
