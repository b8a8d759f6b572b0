"""Traversals: one coordinate of a code is moved, the others stay."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pcgen.base import GenerativeModel, in_chunks
from pcgen.errors import ConfigurationError, DataError
from pcgen.latents.codes import require, spread


class Traversal(NamedTuple):
    """What `traverse` gives: D rows, one a latent dimension, of S data each.

    Attributes:
        data: (D, S, N, 3) or (D, S, C, H, W).
        base: The unchanged reconstruction (N, 3) or (C, H, W).
        values: Where the coordinate is moved to (S,), ascending and symmetric about 0.
        dims: Latent dimension of each row (D,) int64, the most relevant first.
        relevance: Of every latent dimension (Z,), see `pcgen.latents.relevance`.
        relevance_name: "KL" (nats) or "variance".
        current: The datum's own coordinate in each row (D,), in the units of `values`.
        unit: "" where values are coordinates, "σ" where they count standard deviations of the reference's codes from
            their mean.
    """

    data: Tensor
    base: Tensor
    values: Tensor
    dims: Tensor
    relevance: Tensor
    relevance_name: str
    current: Tensor
    unit: str

    @property
    def labels(self) -> list[str]:
        """Words for each row, such as `"z3  KL 2.41 nats"`."""
        words = {"KL": "KL {:.2f} nats", "variance": "var {:.2f}"}[self.relevance_name]
        return [f"z{k}  {words.format(self.relevance[k])}" for k in self.dims.tolist()]


def traverse(
    model: GenerativeModel,
    x: Tensor,
    *,
    reference: Tensor | None = None,
    dims: Sequence[int] | None = None,
    steps: int = 7,
    extent: float = 3.0,
) -> Traversal:
    """Move one coordinate after the other of a datum's code, and decode.

    Coordinates are moved from −extent to +extent, which for codes near N(0, 1) is where the data lie. The codes of a
    model without a prior may lie anywhere, so there the coordinate goes to mean + value · standard deviation of the
    reference's codes.

    Args:
        model: Encodes and decodes.
        x: One datum, (N, 3) or (C, H, W), or a batch of one.
        reference: Data (B, …) over which the relevance of the dimensions, and the standard deviation, is taken; None
            for x alone, which is enough for a model with a posterior.
        dims: Latent dimensions to traverse; None for all.
        steps: Stations of each row, S; at least 2. An odd number has 0 in the middle.
        extent: Above 0.

    Returns:
        The rows, the most relevant dimension first, all on the model's device.

    Raises:
        UnsupportedOperationError: If the model cannot encode and decode.
        ConfigurationError: If steps, extent or dims are out of range, or a dimension is named twice.
        DataError: If x is not one datum, or there are too few data to measure the relevance by.
    """
    require(model, "encode", "decode")
    _check_range(steps, extent)
    datum = _one(model, x)
    found = spread(model, datum if reference is None else reference)
    rows = _rows(found.relevance, dims)
    z = model.encode(datum).cpu().double()  # (1, Z)
    values = extent * (2 * torch.arange(steps, dtype=torch.float64) / (steps - 1) - 1)  # (S,), 0 exact
    codes = z.expand(len(rows), steps, -1).clone()  # (D, S, Z)
    for row, k in zip(codes, rows.tolist(), strict=True):
        row[:, k] = found.center[k] + values * found.scale[k]
    data = in_chunks(model.decode, codes.flatten(0, 1).to(model.like), model.chunk_size)
    moved = found.scale[rows] > 0
    current = torch.where(moved, (z[0, rows] - found.center[rows]) / found.scale[rows], 0.0)
    return Traversal(
        data=data.unflatten(0, (len(rows), steps)),
        base=model.decode(z.to(model.like))[0],
        values=values.to(model.device, torch.float32),
        dims=rows.to(model.device),
        relevance=found.relevance.to(model.device, torch.float32),
        relevance_name=found.name,
        current=current.to(model.device, torch.float32),
        unit=found.unit,
    )


def _check_range(steps: int, extent: float) -> None:
    if steps < 2:
        raise ConfigurationError(f"steps is {steps}; a traversal has at least its two ends")
    if not 0 < extent < float("inf"):
        raise ConfigurationError(f"extent is {extent}; give a finite number above 0, such as 3")


def _one(model: GenerativeModel, x: Tensor) -> Tensor:
    """Give one datum as a batch (1, …)."""
    batch = x[None] if x.ndim == len(model.sample_shape) else x
    if batch.ndim != len(model.sample_shape) + 1 or len(batch) != 1:
        raise DataError(
            f"x has shape {tuple(x.shape)}, which is not one datum of {type(model).__name__}: give one like "
            f"{tuple(model.sample_shape)}"
        )
    return batch


def _rows(relevance: Tensor, dims: Sequence[int] | None) -> Tensor:
    """Give the dimensions (D,) to traverse, the most relevant first and ties in their order."""
    Z = len(relevance)
    chosen = torch.arange(Z) if dims is None else torch.tensor(sorted(dims), dtype=torch.int64)
    if not len(chosen) or len(chosen.unique()) < len(chosen) or chosen[0] < 0 or chosen[-1] >= Z:
        given = "empty" if dims is not None and not len(dims) else str(list(dims or ()))
        raise ConfigurationError(
            f"dims is {given}; give different latent dimensions out of 0 to {Z - 1}, at least one, or None for all"
        )
    return chosen[relevance[chosen].argsort(descending=True, stable=True)]
