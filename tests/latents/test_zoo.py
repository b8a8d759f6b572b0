"""The tools with the models of the zoo, clouds and images."""

import pytest
import torch

from pcgen.latents import draw_codes, latent_arithmetic, mean_code, relevance, traverse
from pcgen.losses import SquaredErrorReconstruction
from pcgen.models import VAE, WAE, Autoencoder, BetaVAE
from pcgen.nets import ImageMLPDecoder, ImageMLPEncoder, MLPDecoder, PointNetEncoder

CLOUDS = torch.rand(9, 40, 3, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def make(kind, images):
    torch.manual_seed(0)
    if images:
        encoder = ImageMLPEncoder(image_shape=(1, 8, 8), widths=[16])
        decoder = ImageMLPDecoder(image_shape=(1, 8, 8), latent_dim=4, widths=[16])
        return kind(encoder, decoder, SquaredErrorReconstruction()), IMAGES
    return kind(PointNetEncoder(widths=[16, 32]), MLPDecoder(latent_dim=4, num_points=40, widths=[32])), CLOUDS


@pytest.mark.parametrize("images", [False, True], ids=["clouds", "images"])
@pytest.mark.parametrize("kind", [VAE, BetaVAE, WAE, Autoencoder])
def test_every_autoencoding_model_can_be_looked_into(kind, images):
    model, x = make(kind, images)
    model.chunk_size = 4
    model.train()  # as in the middle of an epoch
    found = traverse(model, x[0], reference=x, steps=3)
    weight, name = relevance(model, x)
    assert name == ("KL" if kind in (VAE, BetaVAE) else "variance")
    assert found.unit == ("σ" if kind is Autoencoder else "")
    assert model.training
    assert not found.data.requires_grad
    model.eval()
    assert torch.allclose(weight, relevance(model, x)[0])  # as in evaluation: the batch does not matter
    codes = model.encode(x)
    assert torch.allclose(mean_code(model, x), codes.mean(0), atol=1e-6)
    k = int(found.dims[0])
    z = codes[:1].clone()
    z[0, k] = codes[:, k].mean() + 3 * codes[:, k].std(correction=0) if kind is Autoencoder else 3.0
    assert torch.allclose(found.data[0, 2], model.decode(z)[0], atol=1e-5)
    sums = latent_arithmetic(model, x[:2], x[2:5], x[5:], scales=(2.0,))
    assert torch.allclose(sums[0], model.decode(codes[:2] + 2 * (codes[2:5].mean(0) - codes[5:].mean(0))), atol=1e-5)
    assert torch.equal(draw_codes(model, x), codes) == (kind in (WAE, Autoencoder))
