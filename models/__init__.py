"""The zoo: one LightningModule a file."""

from pcgen.models.autoencoder import Autoencoder
from pcgen.models.beta_vae import BetaVAE
from pcgen.models.class_aware_deforming_autoencoder import ClassAwareDeformingAutoencoder
from pcgen.models.cnn_classifier import CNNClassifier
from pcgen.models.deforming_autoencoder import DeformingAutoencoder
from pcgen.models.ebgan import EBGAN
from pcgen.models.gan import GAN
from pcgen.models.generative_pointnet import GenerativePointNet
from pcgen.models.latent_gan import LatentGAN
from pcgen.models.pointnet_classifier import PointNetClassifier
from pcgen.models.vae import VAE
from pcgen.models.wae import WAE

__all__ = [
    "EBGAN",
    "GAN",
    "VAE",
    "WAE",
    "Autoencoder",
    "BetaVAE",
    "CNNClassifier",
    "ClassAwareDeformingAutoencoder",
    "DeformingAutoencoder",
    "GenerativePointNet",
    "LatentGAN",
    "PointNetClassifier",
]
