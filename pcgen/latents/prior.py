"""Walks that need no data: between codes that the prior gives."""

import torch
from torch import Tensor

from pcgen.base import GenerativeModel, in_chunks
from pcgen.errors import ConfigurationError
from pcgen.latents.codes import require
from pcgen.ops.paths import Path, interpolate_codes


def walks_from_prior(model: GenerativeModel) -> bool:
    """Say whether a model can walk between draws of its prior."""
    return model.can("prior") and model.can("decode")


def prior_walk(
    model: GenerativeModel,
    pairs: int,
    steps: int,
    *,
    path: Path = "linear",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Walk between pairs of draws of the prior, and decode the stations.

    The way of a model that cannot encode, such as a GAN, to show whether it has learned more than single data: then
    what lies between two samples is a sample too.

    Args:
        model: Has a prior and decodes.
        pairs: Walks, at least 1.
        steps: Stations of each, both draws among them; at least 2.
        path: "linear" or "spherical", see `pcgen.ops.interpolate_codes`.
        generator: Makes the draws repeatable.

    Returns:
        (steps, pairs, …) on the model's device.

    Raises:
        UnsupportedOperationError: If the model has no prior or cannot decode.
        ConfigurationError: If pairs or steps is too small, or there is no such path.
        DataError: If codes have one dimension, which no great circle joins.
    """
    require(model, "prior", "decode")
    if pairs < 1:
        raise ConfigurationError(f"pairs is {pairs}; give at least 1")
    ends = model.prior(2 * pairs, generator=generator).unflatten(0, (pairs, 2))  # (B, 2, Z)
    z = interpolate_codes(ends[:, 0], ends[:, 1], steps, path=path)  # (S, B, Z)
    walk: Tensor = in_chunks(model.decode, z.flatten(0, 1), model.chunk_size).unflatten(0, z.shape[:2])
    return walk
