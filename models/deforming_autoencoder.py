"""Deforming autoencoder: shape apart from appearance, of images and of point clouds, without labels.

Reference: Z. Shu, M. Sahasrabudhe, R. A. Güler, D. Samaras, N. Paragios, I. Kokkinos, "Deforming Autoencoders:
Unsupervised Disentangling of Shape and Appearance", ECCV 2018, https://arxiv.org/abs/1806.06503.

    (z_shape, z_appearance) = E(x),  T = D_T(z_appearance),  x̂(p) = T(W(p)),  W = D_W(z_shape)
    L = d(x, x̂) + λ₁ TV(W − W₀) + λ₂ (‖mean A − I‖² + ‖mean W − W₀‖²)

The template T lies in a canonical frame, and what one image's shape has of its own is all in the warp W, whose pixels
keep their order. With an `IntrinsicTemplate` T is albedo ⊙ shading, each with a code of its own. With clouds T is a set
of points and D_W moves each of them, so that point i of every output is the same point of the shape.

Where it differs, and why:

- Everything is a sum over the pixels of one datum, as everywhere in this zoo. The paper's weights stand beside a mean
  and are 1e-6 · B · C · H · W here (`GridDeformation`).
- The distance d is the squared error unless told otherwise; the authors' code has an absolute one
  (`AbsoluteErrorReconstruction`).
- The authors' code has no affine map, no class-aware variant, and dense blocks of which only the first layer acts. Here
  is what the paper describes; see `ClassAwareDeformingAutoencoder` for classes.
- Increments are softplus(a), which is 1 at rest, instead of a sigmoid: the first warp is exactly the identity.
- The affine map's mean is weighed by H W, as the warp's is a sum over pixels.
- Clouds are ours: the paper has images alone.

Its codes follow no known distribution, so it has no prior and does not sample.
"""

import torch

from pcgen.base import OptimizerFactory, SchedulerFactory
from pcgen.losses import Reconstruction
from pcgen.models._deforming import Deforming, DeformingDecoder
from pcgen.nets import Deformation, Encoder, Template


class DeformingAutoencoder(Deforming):
    """Autoencoder whose decoder paints a template and deforms it.

    Args:
        encoder: Data (B, …) to features. The layer from there to the code belongs to the model.
        template: The appearance: `DecodedTemplate`, `IntrinsicTemplate` or `LearnedTemplate`.
        deformation: The shape: `GridDeformation` for images, `PointDeformation` for clouds.
        reconstruction: Distance between data and reconstructions; the squared error for images and the Chamfer sum for
            clouds by default.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer, stepped once an epoch.
    """

    def __init__(
        self,
        encoder: Encoder,
        template: Template,
        deformation: Deformation,
        reconstruction: Reconstruction | None = None,
        optimizer: OptimizerFactory = torch.optim.Adam,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        super().__init__(encoder, DeformingDecoder(template, deformation), reconstruction, optimizer, lr_scheduler)
