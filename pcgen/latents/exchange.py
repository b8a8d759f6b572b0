"""Codes put together from the parts of two data: the shape of one, the appearance of another."""

from collections.abc import Sequence

from torch import Tensor

from pcgen.base import GenerativeModel, in_chunks
from pcgen.errors import DataError
from pcgen.latents.codes import require


def exchange(model: GenerativeModel, a: Tensor, b: Tensor, parts: Sequence[str]) -> Tensor:
    """Give the codes of a with some parts of those of b; `decode` or `decompose` makes data of them.

    Args:
        model: Encodes, and knows the parts of its codes.
        a: Data (B, …).
        b: Data (B, …).
        parts: Names of `model.latent_parts` that are taken from b; all others stay those of a.

    Returns:
        (B, Z) on the model's device.

    Raises:
        UnsupportedOperationError: If the model cannot encode.
        ConfigurationError: If the model's codes have no part of that name.
        DataError: If a and b are not as many.
    """
    require(model, "encode")
    columns = model.columns(parts)
    if len(a) != len(b):
        raise DataError(f"a holds {len(a)} data and b {len(b)}; give one of b for each of a")
    codes, others = (in_chunks(model.encode, x, model.chunk_size).clone() for x in (a, b))
    for part in columns:
        codes[:, part] = others[:, part]
    return codes
