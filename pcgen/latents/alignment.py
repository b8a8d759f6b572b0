"""Alignment of a set of images: everything brought to the mean deformation, without a label or a landmark.

Reference: Z. Shu, M. Sahasrabudhe, R. A. Güler, D. Samaras, N. Paragios, I. Kokkinos, "Deforming Autoencoders:
Unsupervised Disentangling of Shape and Appearance", ECCV 2018, https://arxiv.org/abs/1806.06503.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pcgen.base import Decomposition, GenerativeModel
from pcgen.errors import ConfigurationError, DataError
from pcgen.latents.codes import require
from pcgen.ops import unwarp_points, warp_images


class Alignment(NamedTuple):
    """What `align` gives, all on the CPU.

    Means and variances are by kind: `"inputs"`, `"aligned"`, `"misaligned"`, `"reconstructions"` and `"textures"`.
    The misaligned are a control: every warp applied to the next input of the set, the last one's to the first, which
    smooths and shrinks as much and fits nothing. A single image has no other: misaligned is aligned then, and nothing
    varies. Variances of textures compare with those of reconstructions, which the model has smoothed as much.

    Attributes:
        grid: Mean deformation W̄ (H, W, 2).
        aligned: The inputs' own pixels, brought to the mean deformation: x_i(W_i⁻¹(W̄(p))), (B, C, H, W); where W_i
            does not reach W̄(p), the pixel that comes nearest.
        textures: The model's appearances at the mean deformation: T_i(W̄(p)), (B, C, H, W).
        means: By kind, (C, H, W).
        variances: By kind, of each pixel over the set, mean over the channels, (H, W).
    """

    grid: Tensor
    aligned: Tensor
    textures: Tensor
    means: dict[str, Tensor]
    variances: dict[str, Tensor]

    @property
    def totals(self) -> dict[str, float]:
        """The mean over the pixels of the variances, by kind."""
        return {kind: variance.mean().item() for kind, variance in self.variances.items()}


def align(model: GenerativeModel, x: Tensor) -> Alignment:
    """Bring a set of images to their mean deformation, and measure how much less they then differ.

    Args:
        model: Encodes and decomposes images.
        x: Images (B, C, H, W), at least one; of one class, for a mean that looks like something.

    Returns:
        The aligned set, its means and variances (divided by B), before and after.

    Raises:
        UnsupportedOperationError: If the model cannot encode and decompose.
        ConfigurationError: If it makes clouds, whose points correspond already.
        DataError: If there are no images.
    """
    require(model, "encode", "decompose")
    if len(model.sample_shape) != 3:
        raise ConfigurationError(
            f"{type(model).__name__} makes clouds, whose points correspond as they are; only images are aligned"
        )
    if x.ndim != 4 or len(x) < 1:
        raise DataError(f"data to align have shape {tuple(x.shape)}; give at least one image, (B, C, H, W)")
    grids = (found.deformation.cpu().double().sum(0) for _, found in _decomposed(model, x))
    mean = torch.stack(list(grids)).sum(0) / len(x)  # (H, W, 2)
    others = x.roll(-1, 0).split(model.chunk_size)
    parts = [_brought(*part, other, mean) for part, other in zip(_decomposed(model, x), others, strict=True)]
    aligned, misaligned, made, textures = (torch.cat(kind) for kind in zip(*parts, strict=True))
    kinds = {
        "inputs": x.detach().cpu(),
        "aligned": aligned,
        "misaligned": misaligned,
        "reconstructions": made,
        "textures": textures,
    }
    moments = {name: torch.var_mean(images.double(), 0, correction=0) for name, images in kinds.items()}
    return Alignment(
        mean.to(aligned).cpu(),
        aligned,
        textures,
        {name: average.float() for name, (_, average) in moments.items()},
        {name: variance.mean(0).float() for name, (variance, _) in moments.items()},
    )


def _decomposed(model: GenerativeModel, x: Tensor) -> Iterator[tuple[Tensor, Decomposition]]:
    """Decompose in chunks; twice over the data costs less memory than all their grids."""
    for part in x.split(model.chunk_size):
        yield part, model.decompose(model.encode(part))


def _brought(x: Tensor, found: Decomposition, other: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give images at the mean deformation, others by the same warps, reconstructions, and templates at the mean."""
    goal = mean.to(found.deformation).expand_as(found.deformation)  # (b, H, W, 2)
    place, _ = unwarp_points(found.deformation, goal.flatten(1, 2))  # p with W_i(p) = W̄(q)
    inverse = place.unflatten(1, goal.shape[1:3])
    aligned, misaligned = (warp_images(images.to(inverse), inverse).cpu() for images in (x, other))
    return aligned, misaligned, found.x.cpu(), warp_images(found.template, goal).cpu()
