"""Models as safetensors: weights, and how the model was made as JSON in the file's metadata.

The format (https://github.com/huggingface/safetensors) has no code to run, and no checksum: one is kept beside the
record, so that a flipped bit is found.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcgen.errors import CheckpointError
from pcgen.io.files import atomic
from pcgen.rebuilding import first_line

SAFETENSORS = ".safetensors"
LARGEST_HEADER = 16 << 20  # bytes: names and shapes of about 150 000 tensors
KEY = "pcgen"


def write_safetensors(path: str | os.PathLike[str], weights: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write weights and a record, whole or not at all.

    Args:
        path: The file; one that is there is replaced.
        weights: Tensors by name. Those that share memory are each written.
        record: Plain data that JSON can hold.

    Raises:
        DataError: If the file cannot be written.
    """
    from safetensors.torch import save_file

    # Each with memory of its own, one row after the other: the format has no strides and takes no tensor twice.
    own = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    said = json.dumps({**record, "sha256": _digest(own)}, ensure_ascii=False)
    with atomic(path, durable=True) as unfinished:
        # One entry: the library writes several in any order, and the same model would not be the same file.
        save_file(own, unfinished, metadata={KEY: said})


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Give the weights, on the CPU, and the record.

    Time and memory are those of reading the file, whatever its header says.

    Raises:
        CheckpointError: If it is damaged, of another kind, made to harm, or has no record of pcgen's.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    _check_header(file)
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            said = (opened.metadata() or {}).get(KEY)
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 -- it is no dictionary
        record = None if said is None else json.loads(said)
    except (SafetensorError, OSError, ValueError, RuntimeError, RecursionError) as error:
        raise CheckpointError(
            f"{file} cannot be read: truncated, damaged or of another kind ({first_line(error)})"
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get(KEY), dict):
        raise CheckpointError(f"{file} holds weights without a record of pcgen's; give one that `pcgen export` wrote")
    if record.pop("sha256", None) != _digest(weights):
        raise CheckpointError(f"{file} is damaged: its weights are not those that were written (their sha256 differs)")
    return weights, record


def _check_header(file: Path) -> None:
    """Refuse a header that the file has not, or a huge one, before anything is read for it."""
    with file.open("rb") as stream:
        claimed, size = int.from_bytes(stream.read(8), "little"), file.stat().st_size
    if size < 8 or claimed > size - 8:
        raise CheckpointError(f"{file} cannot be read: it has {size} bytes and announces a header of {claimed}")
    if claimed > LARGEST_HEADER:
        raise CheckpointError(f"{file} is refused: its header has {claimed} bytes; {LARGEST_HEADER} are read")


def _digest(weights: Mapping[str, Tensor]) -> str:
    """Give sha256 of names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
