"""Generative adversarial network of point clouds, or of images.

References: I. Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, https://arxiv.org/abs/1406.2661;
I. Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, https://arxiv.org/abs/1704.00028; for clouds
(r-GAN) P. Achlioptas et al., "Learning Representations and Generative Models for 3D Point Clouds", ICML 2018,
https://arxiv.org/abs/1707.02392.

    z ~ N(0, s² I),  fake = G(z);  D and G minimise the two sides of a loss of D(x) and D(fake) (pcgen.losses)

Where it differs, and why:

- Which game is played is an argument: the non-saturating one, Wasserstein with a gradient penalty, or hinges.
- Samples come from an exponential moving average of the generator, which wanders less than the generator itself.
- A discriminator without batch normalisation begins with He's weights: with PyTorch's its score is nearly a constant.
- Images are sigmoids of what the generator gives, in [0, 1] as data are.
"""

import torch
from torch import Tensor

from pcgen.base import OptimizerFactory, SchedulerFactory, in_chunks, verb
from pcgen.losses import AdversarialLoss
from pcgen.models._adversarial import SamplingByNoise
from pcgen.models._scoring import Scorer, Scoring
from pcgen.nets import Decoder, Encoder, MLPDecoder, PointNetEncoder, kaiming_initialized, uses_batch_norm


class GAN(Scoring, SamplingByNoise):
    """Generative adversarial network.

    Args:
        generator: Codes (B, Z) to data; by default the r-GAN's perceptron, 64-128-512-1024 to 2048 points. Its
            `latent_dim` is the noise's Z.
        discriminator: Data (B, …) to features; by default the r-GAN's PointNet, 64-128-256-256-512, max, 128-64. The
            layer from there to the score belongs to the model. For clouds it should not see the points' order. One
            without batch normalisation gets new weights: see `pcgen.nets.kaiming_initialized`.
        loss: The game: NonSaturatingLoss by default, WassersteinLoss or HingeLoss.
        discriminator_steps: Steps of the discriminator, one a batch, to one of the generator; 5 is usual for
            Wasserstein.
        noise_scale: s, the noise's standard deviation.
        ema_decay: Of the averaged generator that samples come from; null samples from the generator itself.
        spectral_norm: Divide every weight matrix of the discriminator by its largest singular value.
        optimizer: Makes the generator's optimizer from its parameters.
        discriminator_optimizer: Makes the discriminator's; as the generator's by default.
        lr_scheduler: Makes the learning-rate schedule of either optimizer, stepped once an epoch.
    """

    def __init__(
        self,
        generator: Decoder | None = None,
        discriminator: Encoder | None = None,
        loss: AdversarialLoss | None = None,
        discriminator_steps: int = 1,
        noise_scale: float = 0.2,
        ema_decay: float | None = 0.999,
        spectral_norm: bool = False,
        optimizer: OptimizerFactory = torch.optim.Adam,
        discriminator_optimizer: OptimizerFactory | None = None,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        features = discriminator or PointNetEncoder((64, 128, 256, 256, 512), (128, 64), batch_norm=False)
        scorer = Scorer(features, features.out_features)
        if not uses_batch_norm(features):
            kaiming_initialized(scorer)
        super().__init__(
            generator or MLPDecoder(128, 2048, (64, 128, 512, 1024), batch_norm=False),
            scorer,
            loss=loss,
            spectral_norm=spectral_norm,
            noise_scale=noise_scale,
            discriminator_steps=discriminator_steps,
            ema_decay=ema_decay,
            optimizer=optimizer,
            discriminator_optimizer=discriminator_optimizer,
            lr_scheduler=lr_scheduler,
        )

    @verb
    def features(self, x: Tensor) -> Tensor:
        """Give the discriminator's features (B, F) of data (B, …), before its score."""
        return in_chunks(self.discriminator.features, x, self.chunk_size)
