"""pcgen: a PyTorch Lightning zoo of generative models of 3D point clouds.

`pcgen.load(path)` gives the model that a checkpoint holds. Importing this package costs nothing: every room is
imported when it is entered.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcgen.checkpoint import load as load

try:
    __version__ = version("pcgen")
except PackageNotFoundError:  # a source tree on the path, never installed
    __version__ = "0+unknown"

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from pcgen.checkpoint import load

        return load
    raise AttributeError(f"module 'pcgen' has no attribute {name!r}")
