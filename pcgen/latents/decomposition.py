"""Data taken apart by a deforming model: template, deformation and layers of each."""

import torch
from torch import Tensor

from pcgen.base import Decomposition, GenerativeModel
from pcgen.errors import DataError
from pcgen.latents.codes import require


def decompose(model: GenerativeModel, x: Tensor) -> Decomposition:
    """Encode data and decompose their codes, in chunks.

    Args:
        model: Encodes and decomposes.
        x: Data (B, …), at least one.

    Returns:
        The decomposition of all, on the CPU.

    Raises:
        UnsupportedOperationError: If the model cannot encode and decompose.
        DataError: If there are no data.
    """
    require(model, "encode", "decompose")
    if len(x) < 1:
        raise DataError("there are no data to decompose; give at least one datum")
    parts = [model.decompose(model.encode(part)) for part in x.split(model.chunk_size)]
    return Decomposition(
        _joined([part.x for part in parts]),
        _joined([part.template for part in parts]),
        _joined([part.deformation for part in parts]),
        {name: _joined([part.layers[name] for part in parts]) for name in parts[0].layers},
    )


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.float().cpu() for part in parts])
