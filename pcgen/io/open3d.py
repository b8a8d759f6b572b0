"""The one place where Open3D is imported."""

import contextlib
import ctypes
import functools
import importlib.util
import platform
from typing import Any

from pcgen.errors import DataError


@functools.cache
def load_open3d() -> Any:
    """Import Open3D quietly, with the libusb that its wheel lacks.

    Raises:
        DataError: If it or a library it needs is missing, with the way to get it.
    """
    _preload_libusb()
    try:
        import open3d
    except ImportError as error:
        raise DataError(
            f"Open3D, which reads and samples meshes, cannot be loaded: {error}. {_remedy(error)}"
        ) from error
    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    return open3d


def _preload_libusb() -> None:
    """Load libusb into the process for all to see: Open3D 0.20 links against one by name, but ships none."""
    if platform.system() != "Linux" or importlib.util.find_spec("libusb_package") is None:
        return
    import libusb_package

    # an unreadable library is left for Open3D's own import to complain of
    with contextlib.suppress(OSError):
        ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)


def _remedy(error: ImportError) -> str:
    library = str(error).partition(":")[0]
    known = {
        "libusb-1.0.so.0": "`pip install libusb-package` brings it (or `apt-get install libusb-1.0-0`)",
        "libGL.so.1": "`apt-get install libgl1` brings it",
        "libgomp.so.1": "`apt-get install libgomp1` brings it",
        "libX11.so.6": "`apt-get install libx11-6` brings it",
        "libEGL.so.1": "`apt-get install libegl1` brings it",
    }
    if isinstance(error, ModuleNotFoundError):
        return "`pip install open3d` brings it"
    return known.get(library, f"Install the system package that holds {library}")
