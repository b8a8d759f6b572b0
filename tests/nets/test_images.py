import pytest
import torch

from pcgen.errors import ConfigurationError, DataError
from pcgen.nets import CNNDecoder, CNNEncoder, ImageMLPDecoder, ImageMLPEncoder, MLPEncoder


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 20), (1, 29, 31), (2, 5, 7)])
@pytest.mark.parametrize("halving", ["max", "stride"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_any_size_goes_in_and_comes_out(shape, halving, batch_norm):
    encoder = CNNEncoder(shape, (4, 8), (6,), halving, batch_norm)
    decoder = CNNDecoder(3, shape, (8, 4), (6,), batch_norm)
    x = torch.rand(2, *shape)
    assert encoder(x).shape == (2, 6)
    assert decoder(torch.randn(2, 3)).shape == x.shape
    norms = [m for net in (encoder, decoder) for m in net.modules() if "BatchNorm" in type(m).__name__]
    assert bool(norms) == batch_norm
    assert encoder(x[:0]).shape == (0, 6) if not batch_norm else encoder.eval()(x[:0]).shape == (0, 6)


def test_an_mlp_sees_and_makes_whole_images():
    encoder, decoder = ImageMLPEncoder((3, 4, 5), (7,)), ImageMLPDecoder(2, (3, 4, 5), (7,))
    assert encoder(torch.rand(6, 3, 4, 5)).shape == (6, 7)
    assert decoder(torch.rand(6, 2)).shape == (6, 3, 4, 5)
    weights = encoder.layers[0].weight
    assert weights.shape == (7, 60)


def test_without_a_head_the_features_are_the_last_stages():
    encoder = CNNEncoder((1, 16, 16), (4, 8), ())
    assert encoder.out_features == 8 * 4 * 4
    assert encoder(torch.rand(2, 1, 16, 16)).shape == (2, 128)


def test_a_decoder_cuts_the_middle_out_of_what_its_doublings_give():
    """Of 12 × 12 pixels the middle 9 × 10 remain: the same weights give them for either size."""
    torch.manual_seed(0)
    whole, cut = (CNNDecoder(3, (1, h, w), (4, 2), (8,), batch_norm=False) for h, w in ((12, 12), (9, 10)))
    cut.load_state_dict(whole.state_dict())
    z = torch.randn(2, 3)
    assert torch.equal(cut(z), whole(z)[:, :, 1:10, 1:11])


@pytest.mark.parametrize("make", [CNNEncoder, ImageMLPEncoder])
@pytest.mark.parametrize("shape", [(2, 1, 28, 27), (2, 3, 28, 28), (1, 28, 28)])
def test_images_of_another_size_are_refused_naming_both(make, shape):
    with pytest.raises(
        DataError, match=rf"{make.__name__} was built for images \(B, 1, 28, 28\) and got .*image_shape"
    ):
        make()(torch.rand(shape))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CNNEncoder((1, 8, 8), (2, 4, 8, 16)), "halve 8 × 8 pixels to none"),
        (lambda: CNNEncoder((28, 28)), r"image_shape is \[28, 28\]"),
        (lambda: ImageMLPEncoder((1, 0, 8)), "H is 0"),
        (lambda: ImageMLPDecoder(0), "latent_dim is 0"),
        (lambda: CNNDecoder(channels=()), "channels is empty"),
        (lambda: CNNEncoder(halving="average"), 'halving is .average.; choose "max" or "stride"'),
        (lambda: ImageMLPEncoder(widths=()), "widths is empty"),
        (lambda: MLPEncoder(8, widths=[]), "widths is empty"),
        (lambda: CNNDecoder(channels=(4, 0)), "channels is 0"),
    ],
)
def test_networks_that_cannot_be_are_refused(make, said):
    with pytest.raises(ConfigurationError, match=said):
        make()


def test_networks_of_images_learn_where_things_are():
    """A strided encoder tells the column of a bar, and a decoder puts it back."""
    torch.manual_seed(0)
    column = torch.arange(8).repeat(4)
    x = torch.zeros(32, 1, 8, 8)
    x[torch.arange(32), 0, :, column] = 1
    encoder = CNNEncoder((1, 8, 8), (8, 16), (16,), "stride")
    decoder = CNNDecoder(16, (1, 8, 8), (16, 8), (32,))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-2)
    for _ in range(150):
        loss = (decoder(encoder(x)) - x).square().sum(dim=(1, 2, 3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.7  # of 7 for the mean image
