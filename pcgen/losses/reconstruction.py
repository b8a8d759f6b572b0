"""How far a reconstruction is from its datum, as a negative log-likelihood up to a constant.

Every loss is a sum over the dimensions of one datum, so that beside a KL term with weight 1 it makes the textbook
ELBO.
"""

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.ops import chamfer_distance, gaussian_nearest_neighbors
from pcgen.recipe import Recorded


class Reconstruction(Recorded, nn.Module):
    """What a decoder's output says of a datum.

    Attributes:
        extra_channels: What the decoder must give beside each point's coordinates.
        clouds: Whether it is for clouds (B, N, 3).
        images: Whether it is for images (B, C, H, W).
    """

    extra_channels: int = 0
    clouds: bool = True
    images: bool = True

    @abstractmethod
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Give the loss of each datum, (B,), of the decoder's output (B, …) against data (B, …)."""

    def data(self, prediction: Tensor) -> Tensor:
        """Give the most likely data of a decoder's output."""
        return prediction


def _check_scale(scale: float) -> float:
    if not scale > 0 or not 0 < scale**2 < math.inf:
        raise ConfigurationError(f"scale is {scale}; an output's standard deviation is a number above 0")
    return scale


class ChamferReconstruction(Reconstruction):
    """CD_sum / (2 α²) with CD_sum = Σ_x min_y ‖x−y‖² + Σ_y min_x ‖x−y‖², both sums, squared distances.

    Args:
        scale: α, the output's standard deviation in the clouds' units. Smaller asks for finer reconstructions and
            buys them with KL: it is the rate of the code (dividing α by √2 is the same as halving β).
    """

    images = False

    def __init__(self, scale: float = 0.05) -> None:
        super().__init__()
        self.scale = _check_scale(scale)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Give the loss (B,) of clouds (B, M, 3) against (B, N, 3)."""
        return chamfer_distance(prediction, target, reduction="sum") / (2 * self.scale**2)


class LearnedScaleChamferReconstruction(Reconstruction):
    """The Chamfer sum with a standard deviation that the decoder gives for each of its points and axes.

    Σ_x min_y Σ_i [log σ(y)_i + (x_i−y_i)² / (2 σ(y)_i²)] + Σ_y min_x Σ_i [the same], the minimum over the whole
    bracket. With σ ≡ α it is `ChamferReconstruction` plus 3 (N + M) log α.

    Args:
        min_scale: Floor of σ, without which a point that sits on a datum would gain without bound.
        initial_scale: σ where the decoder gives 0.
    """

    extra_channels = 3
    images = False

    def __init__(self, min_scale: float = 0.005, initial_scale: float = 0.05) -> None:
        super().__init__()
        self.min_scale, self.initial_scale = _check_scale(min_scale), _check_scale(initial_scale)
        if min_scale >= initial_scale:
            raise ConfigurationError(f"min_scale {min_scale} must be below initial_scale {initial_scale}")

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Give the loss (B,) of points and raw scales (B, M, 6) against clouds (B, N, 3)."""
        points, log_scale = self.data(prediction), self.log_scale(prediction)
        cost_x, _, cost_y, _ = gaussian_nearest_neighbors(target, points, log_scale)
        return cost_x.sum(1) + cost_y.sum(1)

    def data(self, prediction: Tensor) -> Tensor:
        """Give the points (B, M, 3) of (B, M, 6)."""
        return prediction[..., :3]

    def log_scale(self, prediction: Tensor) -> Tensor:
        """Give log σ (B, M, 3): smooth, at least log(min_scale), log(initial_scale) where the decoder gives 0."""
        # σ = min + (initial − min) · softplus(raw) / softplus(0)
        unit = F.softplus(prediction[..., 3:]) / F.softplus(prediction.new_zeros(()))
        return (self.min_scale + (self.initial_scale - self.min_scale) * unit).log()


def _check_shapes(prediction: Tensor, target: Tensor) -> None:
    """Refuse data that the decoder's output would be stretched to fit, or could not be compared with."""
    if prediction.shape != target.shape:
        made, given = (tuple(t.shape[1:]) for t in (prediction, target))
        raise DataError(
            f"the decoder makes data {made} and was given {given} to compare them with: set its image_shape (or "
            "num_points) to the data's"
        )


def _wide(x: Tensor) -> Tensor:
    """Give x in no less than single precision: half is too coarse for a sum over pixels."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class SquaredErrorReconstruction(Reconstruction):
    """w ‖x − x̂‖², summed over pixels, or over points in their order.

    Args:
        weight: w. The WAE's on MNIST is 0.05.
        sigmoid: The decoder gives logits, and x̂ is their sigmoid: images lie in [0, 1] by themselves. Without it the
            decoder gives x̂, and images are cut to [0, 1] when they are asked for.
    """

    def __init__(self, weight: float = 1.0, sigmoid: bool = False) -> None:
        super().__init__()
        if not 0 < weight < math.inf:
            raise ConfigurationError(f"weight is {weight}; a reconstruction's weight is a number above 0")
        self.weight, self.sigmoid = weight, sigmoid

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Give the loss (B,) of predictions (B, …) against data of the same shape.

        Raises:
            DataError: If the shapes differ.
        """
        return self.weight * self.apart(prediction, target).square().sum(1)

    def apart(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Give x̂ − x, (B, D), of predictions (B, …) and data of the same shape."""
        _check_shapes(prediction, target)
        mean = _wide(prediction).sigmoid() if self.sigmoid else _wide(prediction)
        return (mean - target).flatten(1)

    def data(self, prediction: Tensor) -> Tensor:
        """Give x̂: images (B, C, H, W) in [0, 1], or clouds (B, N, 3)."""
        if self.sigmoid:
            return prediction.sigmoid()
        return prediction.clamp(0, 1) if prediction.ndim == 4 else prediction


class AbsoluteErrorReconstruction(SquaredErrorReconstruction):
    """w ‖x − x̂‖₁, summed over pixels, or over points in their order: sharper edges than the squared error's.

    Args:
        weight: w.
        sigmoid: As in `SquaredErrorReconstruction`.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Give the loss (B,) of predictions (B, …) against data of the same shape.

        Raises:
            DataError: If the shapes differ.
        """
        return self.weight * self.apart(prediction, target).abs().sum(1)


class GaussianReconstruction(SquaredErrorReconstruction):
    """‖x − x̂‖² / (2 α²), summed over pixels, or over points in their order.

    Args:
        scale: α, the output's standard deviation in the data's units.
        sigmoid: As in `SquaredErrorReconstruction`.
    """

    def __init__(self, scale: float = 0.1, sigmoid: bool = False) -> None:
        super().__init__(1 / (2 * _check_scale(scale) ** 2), sigmoid)
        self.scale = scale


class BernoulliReconstruction(Reconstruction):
    """−Σ [x log p + (1−x) log(1−p)] over the pixels of images in [0, 1]; the decoder gives logits of p."""

    clouds = False

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Give the loss (B,) of logits (B, C, H, W) against images of the same shape.

        Raises:
            DataError: If the shapes differ, or the data are no images.
        """
        _check_shapes(prediction, target)
        if target.ndim != 4:
            raise DataError(
                f"BernoulliReconstruction is for images (B, C, H, W) and got data {tuple(target.shape)}: for clouds "
                "take ChamferReconstruction"
            )
        loss = F.binary_cross_entropy_with_logits(_wide(prediction), _wide(target), reduction="none")
        return loss.flatten(1).sum(1)

    def data(self, prediction: Tensor) -> Tensor:
        """Give the probabilities of logits."""
        return prediction.sigmoid()
