"""The zoo: one LightningModule a file."""

from pcgen.models.vae import VAE

__all__ = ["VAE"]
