"""The zoo: one LightningModule a file."""

from pcgen.models.autoencoder import Autoencoder
from pcgen.models.beta_vae import BetaVAE
from pcgen.models.cnn_classifier import CNNClassifier
from pcgen.models.pointnet_classifier import PointNetClassifier
from pcgen.models.vae import VAE
from pcgen.models.wae import WAE

__all__ = ["VAE", "WAE", "Autoencoder", "BetaVAE", "CNNClassifier", "PointNetClassifier"]
