"""Clouds, meshes and HDF5: reading, writing, checking. Arrays in and out; nothing here knows torch.

Everything is imported when it is first asked for, so `import pcgen.io` costs nothing and neither Open3D nor h5py is
loaded before a file needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcgen.io.cloudset import CloudSet as CloudSet
    from pcgen.io.cloudset import resample as resample
    from pcgen.io.cloudset import warn_repeats as warn_repeats
    from pcgen.io.describe import describe_file as describe_file
    from pcgen.io.downloading import download as download
    from pcgen.io.downloading import extract_zip as extract_zip
    from pcgen.io.freshness import is_stale as is_stale
    from pcgen.io.lazy import LazyClouds as LazyClouds
    from pcgen.io.mesh import Mesh as Mesh
    from pcgen.io.mesh import read_mesh as read_mesh
    from pcgen.io.mesh import sample_mesh as sample_mesh
    from pcgen.io.normalization import Normalization as Normalization
    from pcgen.io.preparing import Summary as Summary
    from pcgen.io.preparing import prepare as prepare
    from pcgen.io.reading import catalog as catalog
    from pcgen.io.reading import read_clouds as read_clouds
    from pcgen.io.writing import write_clouds as write_clouds

_HOME = {
    "CloudSet": "cloudset",
    "LazyClouds": "lazy",
    "Mesh": "mesh",
    "Normalization": "normalization",
    "Summary": "preparing",
    "catalog": "reading",
    "describe_file": "describe",
    "download": "downloading",
    "extract_zip": "downloading",
    "is_stale": "freshness",
    "prepare": "preparing",
    "read_clouds": "reading",
    "read_mesh": "mesh",
    "resample": "cloudset",
    "sample_mesh": "mesh",
    "warn_repeats": "cloudset",
    "write_clouds": "writing",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 -- the table above is the list


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pcgen.io' has no attribute {name!r}")
    # No module here bears the name of a function: importing it would put the module in the function's place.
    value = getattr(importlib.import_module(f"pcgen.io.{_HOME[name]}"), name)
    globals()[name] = value
    return value
