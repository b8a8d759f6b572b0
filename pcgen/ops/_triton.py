"""When the Triton kernels can be used, and how they are launched.

Triton runs on NVIDIA's and AMD's GPUs, which torch both calls "cuda". Everywhere else, and where Triton is not
installed (Windows, macOS, some builds of torch), `pcgen.ops._chunked` does the same by torch operations.
"""

import contextlib
import functools
import importlib
from contextlib import AbstractContextManager

import torch

OLDEST_NVIDIA = (7, 0)  # compute capability that Triton still compiles for


def available(device: torch.device) -> bool:
    """Say whether the kernels run on a device."""
    return device.type == "cuda" and _compiles_for(device.index or 0)


@functools.lru_cache
def _compiles_for(index: int) -> bool:
    try:
        importlib.import_module("triton")
    except Exception:  # noqa: BLE001  # a Triton that does not fit its torch or driver fails in many ways
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(index) >= OLDEST_NVIDIA


def on(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one, as a launch demands; the CPU (the interpreter) needs nothing."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@functools.lru_cache
def _processors(index: int | None) -> int:
    return int(torch.cuda.get_device_properties(index or 0).multi_processor_count)


def processors(device: torch.device) -> int:
    """Give the number of multiprocessors; 1 for the interpreter."""
    return _processors(device.index) if device.type == "cuda" else 1
