"""Walks between draws of the prior, of a model whose decoder is a matrix."""

import pytest
import torch

from pcgen.errors import ConfigurationError, DataError, UnsupportedOperationError
from pcgen.latents import prior_walk, walks_from_prior
from pcgen.ops import interpolate_codes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ["Sampler", "WithPrior", "Variational"])
def test_a_linear_walk_is_linear_in_what_a_linear_decoder_gives(toys, shape, kind):
    model = toys[kind](sample_shape=shape)
    assert walks_from_prior(model)
    walk = prior_walk(model, 3, 5, generator=seeded())
    assert walk.shape == (5, 3, *shape)
    assert model.largest <= model.chunk_size  # 15 codes, decoded a few at a time
    a, b = walk[0].double(), walk[-1].double()
    for k, station in enumerate(walk):
        assert torch.allclose(station.double(), a + k / 4 * (b - a), atol=1e-5)
    z = model.prior(6, generator=seeded())
    assert torch.allclose(walk[[0, -1]].transpose(0, 1).flatten(0, 1), model.decode(z), atol=1e-6)


def test_a_spherical_walk_keeps_the_length_between_codes_of_one_length(toys):
    class OnSphere(toys["Sampler"]):
        def prior(self, n, *, generator=None):
            return torch.nn.functional.normalize(super().prior(n, generator=generator), dim=1)

    model = OnSphere()
    walk = prior_walk(model, 4, 6, path="spherical", generator=seeded(3))  # (6, 4, 5, 3)
    codes = walk.flatten(2) @ torch.linalg.pinv(model.V).T  # V has full rank
    assert torch.allclose(codes.norm(dim=-1), torch.ones(6, 4), atol=1e-4)
    ends = model.prior(8, generator=seeded(3)).view(4, 2, -1)
    assert torch.allclose(codes, interpolate_codes(ends[:, 0], ends[:, 1], 6, path="spherical"), atol=1e-4)


def test_the_generator_alone_says_which_walks(toys):
    model = toys["Sampler"]()
    state = torch.get_rng_state()
    assert torch.equal(prior_walk(model, 2, 3, generator=seeded(1)), prior_walk(model, 2, 3, generator=seeded(1)))
    assert not torch.equal(prior_walk(model, 2, 3, generator=seeded(1)), prior_walk(model, 2, 3, generator=seeded(2)))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_walked(toys):
    for kind, says in (("Linear", "Linear has no prior"), ("OnlyDecodes", "OnlyDecodes has no prior")):
        assert not walks_from_prior(toys[kind]())
        with pytest.raises(UnsupportedOperationError, match=says):
            prior_walk(toys[kind](), 1, 3)
    with pytest.raises(ConfigurationError, match="pairs is 0"):
        prior_walk(toys["Sampler"](), 0, 3)
    with pytest.raises(ConfigurationError, match="steps is 1"):
        prior_walk(toys["Sampler"](), 1, 1)
    with pytest.raises(DataError, match="one dimension"):
        prior_walk(toys["Sampler"](latent_dim=1), 1, 3, path="spherical")
