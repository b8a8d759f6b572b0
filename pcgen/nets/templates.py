"""The appearance side of a deforming autoencoder: codes to a template in the canonical frame, which is then deformed.

Reference: Z. Shu et al., "Deforming Autoencoders", ECCV 2018, https://arxiv.org/abs/1806.06503.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgen.errors import ConfigurationError
from pcgen.nets.base import Decoder, check_image_shape, check_positive, check_weight
from pcgen.nets.folding import ball_points
from pcgen.nets.initialization import zero_output
from pcgen.recipe import Recorded

ONE = math.log(math.e - 1)  # softplus(ONE) = 1
VARIATION = 0.3
SMALLEST = 1e-3  # lengths below it count by their squares


class Price(NamedTuple):
    """What something costs a batch, weighted.

    Attributes:
        costs: Means over the data, scalars by name.
        centers: Means over the data, vectors (D,) by name, that shall be 0: they cost their squared length, which is no
            mean over the data, so that an evaluation gathers the vectors.
    """

    costs: dict[str, Tensor]
    centers: dict[str, Tensor]

    def penalties(self) -> dict[str, Tensor]:
        """Give all costs, scalars by name."""
        return self.costs | {name: center.square().sum() for name, center in self.centers.items()}


def nothing() -> Price:
    """Cost nothing."""
    return Price({}, {})


class Painted(NamedTuple):
    """What a template is.

    Attributes:
        template: Images (B, C, H, W) or clouds (B, N, 3) in the canonical frame.
        layers: What it is the product of, by name; {} for a template of one piece.
        price: Computes what it costs, for those who ask; sums over pixels or points.
    """

    template: Tensor
    layers: dict[str, Tensor]
    price: Callable[[], Price] = nothing


class Template(Recorded, nn.Module):
    """Codes to a template.

    Attributes:
        inputs: Length of the code that each part is decoded from, by name: one's own code and, of a class-aware model,
            that of the class after it.
        sample_shape: (N, 3) or (C, H, W).
        terms: Names of what it costs.
        centers: Lengths of the vectors among them, by name.
    """

    inputs: dict[str, int]
    sample_shape: tuple[int, ...]
    terms: tuple[str, ...] = ()
    centers: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.centers = {}

    @abstractmethod
    def forward(self, codes: Mapping[str, Tensor], num: int) -> Painted:
        """Give `num` templates of the codes (num, …) named in `inputs`."""


class DecodedTemplate(Template):
    """A template from one code, "appearance".

    An image is the sigmoid of what the decoder gives. A cloud is a learned one, in the beginning points spread evenly
    in a ball, plus what the decoder gives, in the beginning nothing: so the templates of all codes are one at first,
    and neighbouring points stay neighbours while it takes shape. variation · Σ_i ‖D_i(z)‖, a sum of lengths and not of
    their squares, then lets few points part from it and far, such as the arms that some chairs have, while what all
    points share, such as size, is cheaper as a deformation.

    Args:
        decoder: Codes to images, or to clouds.
        variation: Weight of what parts a cloud's template from the learned one, 0.3 by default; for images None.
    """

    def __init__(self, decoder: Decoder, variation: float | None = None) -> None:
        super().__init__()
        if decoder.extra_channels:
            raise ConfigurationError(
                f"the decoder has extra_channels {decoder.extra_channels}; a template has none, give 0"
            )
        clouds = len(decoder.sample_shape) == 2
        if variation is not None and not clouds:
            raise ConfigurationError(
                f"variation is {variation}, and the decoder makes images {decoder.sample_shape}: it is for clouds, "
                "leave it out"
            )
        self.variation = check_weight(variation=VARIATION if variation is None else variation)
        self.decoder = zero_output(decoder) if clouds else decoder
        self.base = nn.Parameter(ball_points(decoder.sample_shape[0]) / 2) if clouds else None
        self.terms = ("variation",) if clouds else ()
        self.inputs = {"appearance": decoder.latent_dim}
        self.sample_shape = decoder.sample_shape

    def forward(self, codes: Mapping[str, Tensor], num: int) -> Painted:  # noqa: ARG002 -- known by the codes
        """Give σ(D(z)), or T₀ + D(z) of clouds."""
        made = wide(self.decoder(codes["appearance"]))
        if self.base is None:
            return Painted(made.sigmoid(), {})
        return Painted(self.base + made, {}, lambda: Price({"variation": self._cost(made)}, {}))

    def _cost(self, made: Tensor) -> Tensor:
        return self.variation * soft_length(made).sum() / max(len(made), 1)


class LearnedTemplate(Template):
    """One template for all data, which has no code: all that differs is deformation.

    A cloud begins as points spread evenly in a ball, an image as grey.

    Args:
        sample_shape: (N, 3) or (C, H, W).
    """

    def __init__(self, sample_shape: Sequence[int] = (512, 3)) -> None:
        super().__init__()
        self.inputs = {}
        if len(sample_shape) == 2 and sample_shape[1] == 3:
            check_positive(N=sample_shape[0])
            self.sample_shape = (sample_shape[0], 3)
            start = ball_points(sample_shape[0]) / 2
        else:
            self.sample_shape = check_image_shape(sample_shape)
            start = torch.zeros(self.sample_shape)
        self.learned = nn.Parameter(start)

    def forward(self, codes: Mapping[str, Tensor], num: int) -> Painted:  # noqa: ARG002 -- there are none
        """Give the template, once for each datum."""
        one = wide(self.learned.sigmoid() if self.learned.ndim == 3 else self.learned)
        return Painted(one.expand(num, *one.shape), {})


class IntrinsicTemplate(Template):
    """albedo (C channels) ⊙ shading (1 channel), each from a code of its own.

    The albedo is a sigmoid. The shading is positive (a softplus), begins as 1 everywhere and may be above 1. It
    is held smooth, by smoothness · Σ_p ‖∇S(p)‖², and 1 on the average over a batch, by bias · Σ_p (mean S(p) − 1)²,
    which says where brightness ends and colour begins. The paper's bias on the mean albedo is left out: with the mean
    shading fixed the data fix the albedo's, and a target of its own would draw every object's mean colour to it.

    Args:
        albedo: Codes to images (C, H, W).
        shading: Codes to images (1, H, W).
        smoothness: Weight of the shading's squared differences between neighbouring pixels.
        bias: Weight of the mean shading's distance from 1.
    """

    terms = ("shading_smoothness", "shading_bias")

    def __init__(self, albedo: Decoder, shading: Decoder, smoothness: float = 1.0, bias: float = 0.1) -> None:
        super().__init__()
        if shading.sample_shape != (1, *albedo.sample_shape[1:]) or len(albedo.sample_shape) != 3:
            raise ConfigurationError(
                f"albedo makes data {albedo.sample_shape} and shading {shading.sample_shape}: give images (C, H, W) "
                "and (1, H, W) of one size"
            )
        self.albedo, self.shading = albedo, zero_output(shading)
        self.smoothness, self.bias = check_weight(smoothness=smoothness), check_weight(bias=bias)
        self.inputs = {"albedo": albedo.latent_dim, "shading": shading.latent_dim}
        self.centers = {"shading_bias": math.prod(shading.sample_shape)}
        self.sample_shape = albedo.sample_shape

    def forward(self, codes: Mapping[str, Tensor], num: int) -> Painted:  # noqa: ARG002 -- known by the codes
        """Give A(z_albedo) ⊙ S(z_shading)."""
        albedo = wide(self.albedo(codes["albedo"])).sigmoid()
        shading = F.softplus(wide(self.shading(codes["shading"])) + ONE)
        return Painted(albedo * shading, {"albedo": albedo, "shading": shading}, lambda: self._price(shading))

    def _price(self, shading: Tensor) -> Price:
        slopes = shading.diff(dim=2).square().sum() + shading.diff(dim=3).square().sum()
        smooth = self.smoothness * slopes / max(len(shading), 1)
        center = self.bias**0.5 * (shading.mean(0) - 1).flatten()
        return Price({"shading_smoothness": smooth}, {"shading_bias": center})


def soft_length(x: Tensor) -> Tensor:
    """Give the lengths (…) of vectors (…, D), rounded off at 0, where every training begins and a root has no slope."""
    return (x.square().sum(-1) + SMALLEST**2).sqrt() - SMALLEST


def wide(x: Tensor) -> Tensor:
    """Give x in no less than single precision: half has no softplus(ONE), and is too coarse for sums over pixels."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
