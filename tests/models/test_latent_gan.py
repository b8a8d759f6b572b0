"""The latent GAN: codes of a frozen autoencoder, which it carries along."""

import functools

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import pcgen
from pcgen.base import Batch, DataModule, GenerativeModel, verb
from pcgen.datamodules import Dots
from pcgen.errors import CheckpointError, ConfigurationError
from pcgen.losses import BernoulliReconstruction, NonSaturatingLoss
from pcgen.models import EBGAN, GAN, VAE, Autoencoder, LatentGAN, PointNetClassifier
from pcgen.nets import CNNDecoder, CNNEncoder, MLPDecoder, PointNetEncoder

ADAM = functools.partial(torch.optim.Adam, lr=1e-3)


def autoencoder(model=Autoencoder):
    torch.manual_seed(1)
    return model(PointNetEncoder((8, 16)), MLPDecoder(4, 16, (12,)), optimizer=ADAM)


def latent_gan(of, **arguments):
    torch.manual_seed(0)
    return LatentGAN(of, (8,), (8,), noise_dim=4, **({"optimizer": ADAM} | arguments))


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def trained(fit):
    """An autoencoder whose normalisation layers have seen data."""
    model = autoencoder()
    fit(model)
    return model.eval()


# ── which models it takes ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_is_enough_without_the_autoencoders(fit, tmp_path):
    first = fit(autoencoder(), enable_checkpointing=True)
    file = first.checkpoint_callback.best_model_path
    model = latent_gan(file)
    assert "autoencoder" in model.card()["model"]["init_args"]
    assert str(tmp_path) not in str(model.card())
    runner = fit(model, enable_checkpointing=True)
    for checkpoint in tmp_path.glob("**/*.ckpt"):
        if str(checkpoint) != runner.checkpoint_callback.best_model_path:
            checkpoint.unlink()
    loaded = pcgen.load(runner.checkpoint_callback.best_model_path)
    assert torch.equal(loaded.sample(3, generator=seeded()), model.sample(3, generator=seeded()))
    x = torch.rand(2, 16, 3)
    assert torch.equal(loaded.reconstruct(x), model.reconstruct(x))
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        latent_gan(file)


@pytest.mark.parametrize("kind", [Autoencoder, VAE])
def test_what_it_is_over_stays_as_it_was(kind, fit):
    inner = autoencoder(kind)
    fit(inner)
    before = {key: value.clone() for key, value in inner.state_dict().items()}
    x = torch.rand(5, 16, 3)
    codes = inner.encode(x)
    model = latent_gan(inner)
    fit(model, max_epochs=2)
    model.train()
    assert not any(module.training for module in inner.modules())
    assert [key for key, value in inner.state_dict().items() if not torch.equal(value, before[key])] == []
    assert torch.equal(model.encode(x), codes)
    assert torch.equal(model.reconstruct(x), inner.reconstruct(x))
    assert not any(p.requires_grad for p in inner.parameters())
    z = model.prior(4, generator=seeded())
    assert torch.equal(model.sample(4, generator=seeded()), inner.decode(z))


def test_over_a_model_of_images(fit):
    encoder = CNNEncoder((1, 16, 16), (2, 4), (8,), halving="stride")
    inner = VAE(encoder, CNNDecoder(3, (1, 16, 16), (4, 2), (8,)), BernoulliReconstruction(), optimizer=ADAM)
    data = Dots(16, train_size=32, val_size=8, test_size=8, batch_size=8)
    model = latent_gan(inner)
    runner = fit(model, data)
    assert model.sample(2).shape == (2, 1, 16, 16)
    assert runner.callback_metrics["val/diversity"] >= 0


def test_models_without_codes_are_refused_with_those_that_have_them():
    gan = GAN(MLPDecoder(4, 16, (12,)), PointNetEncoder((8, 16), (8,), batch_norm=False))
    with pytest.raises(ConfigurationError, match=r"nothing to learn from: GAN cannot encode; .*VAE"):
        latent_gan(gan)
    decoder = MLPDecoder(4, 16, (12,), batch_norm=False)
    ebgan = EBGAN(MLPDecoder(4, 16, (12,)), PointNetEncoder((8,), batch_norm=False), decoder)
    with pytest.raises(ConfigurationError, match=r"EBGAN cannot encode"):
        latent_gan(ebgan)
    with pytest.raises(ConfigurationError, match=r"PointNetClassifier cannot encode; .*Autoencoder"):
        latent_gan(PointNetClassifier(PointNetEncoder((8, 16), (12,)), num_classes=3))


def test_a_model_that_encodes_and_does_not_decode_is_refused():
    class Blind(GenerativeModel):
        @verb
        def encode(self, x):
            return x.flatten(1)

    with pytest.raises(ConfigurationError, match=r"Blind cannot decode; .*VAE"):
        latent_gan(Blind())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*nowhere\.ckpt"):
        latent_gan(str(tmp_path / "nowhere.ckpt"))


def test_over_another_latent_gan_it_takes_that_ones_autoencoder():
    inner = autoencoder()
    model = latent_gan(latent_gan(inner))
    assert model.autoencoder is inner
    assert model.card()["model"]["init_args"]["autoencoder"]["class_path"].endswith("Autoencoder")


# ── codes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_codes_are_standardised_over_the_training_data(trained, clouds, fit):
    model, data = latent_gan(trained), clouds()
    kept = []
    real = model.real
    model.real = lambda batch, *, generator=None: kept.append(model.codes) or real(batch, generator=generator)
    fit(model, data, limit_val_batches=0)
    codes = trained.encode(data.take("train").x).double()
    torch.testing.assert_close(model.code_mean, codes.mean(0).float())
    torch.testing.assert_close(model.code_std, (codes - codes.mean(0)).square().mean(0).sqrt().float())
    torch.testing.assert_close(kept[0].mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(kept[0].std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)
    assert model.codes is None  # not kept beyond the fit
    torch.testing.assert_close(model.standardized(codes.float()), kept[0], rtol=1e-4, atol=1e-5)


def test_a_dimension_that_never_changes_stays_as_it_is(clouds, fit):
    inner = autoencoder()
    with torch.no_grad():
        inner.bottleneck.weight[1] = 0
        inner.bottleneck.bias[1] = 7.0
    model = latent_gan(inner)
    fit(model)
    assert model.code_std[1] == 1
    assert model.code_mean[1] == 7
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_training_batch_is_of_the_training_datas_codes_and_an_evaluations_is_the_batchs(trained, clouds, fit):
    model, data = latent_gan(trained), clouds()
    seen = []
    real = model.real

    def spy(batch, *, generator=None):
        given = real(batch, generator=generator)
        seen.append((model.training, batch.x, given))
        return given

    model.real = spy
    fit(model, data)
    known = model.standardized(trained.encode(data.take("train").x))
    for training, x, given in seen:
        if training:
            assert torch.cdist(given, known, compute_mode="donot_use_mm_for_euclid_dist").min(1).values.max() < 1e-4
            assert len(given) == len(x)
        else:
            torch.testing.assert_close(given, model.standardized(trained.encode(x)))
    assert {training for training, *_ in seen} == {True, False}


def test_loaders_without_a_datamodule_are_refused(trained, clouds, quiet_trainer, tmp_path):
    data = clouds()
    data.prepare_data()
    data.setup("fit")
    with pytest.raises(ConfigurationError, match="pcgen DataModule"):
        quiet_trainer(tmp_path).fit(latent_gan(trained), data.train_dataloader())


# ── learning ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Plane(GenerativeModel):
    """A cloud's one point in the plane is its code."""

    def __init__(self):
        super().__init__()
        self.latent_dim, self.sample_shape = 2, (1, 3)
        self.weight = nn.Parameter(torch.zeros(1))

    @verb
    def encode(self, x):
        return x[:, 0, :2]

    @verb
    def decode(self, z):
        return nn.functional.pad(z, (0, 1))[:, None]


class Ring(DataModule):
    """Points on a ring about (5, −2)."""

    sample_shape = (1, 3)
    normalization: dict = {}  # noqa: RUF012 -- as the contract has it

    def take(self, split, n=None, *, seed=None):
        angle = 6.2832 * torch.rand(1024, generator=seeded())
        x = torch.stack([5 + angle.cos(), angle.sin() - 2, 0 * angle], 1)
        return Batch(x[:n, None])

    def train_dataloader(self):
        batches = [Batch(part) for part in self.take("train").x.split(128)]
        return DataLoader(batches, batch_size=None)


def mmd2(x, y, width=0.3):
    """Unbiased, by SciPy's distances and a Gaussian kernel."""
    from scipy.spatial.distance import cdist

    def k(a, b):
        return torch.as_tensor(cdist(a, b, "sqeuclidean")).div(-2 * width**2).exp()

    n, m = len(x), len(y)
    within = (k(x, x).sum() - n) / (n * (n - 1)) + (k(y, y).sum() - m) / (m * (m - 1))
    return (within - 2 * k(x, y).mean()).item()


def test_it_learns_how_codes_are_distributed(fit):
    torch.manual_seed(0)
    adam = functools.partial(torch.optim.Adam, betas=(0.0, 0.99))
    model = LatentGAN(
        *(Plane(), (64, 64), (64, 64), 4, NonSaturatingLoss(0.1)),
        noise_scale=1.0,
        ema_decay=0.99,
        optimizer=functools.partial(adam, lr=2e-3),
        discriminator_optimizer=functools.partial(adam, lr=1e-2),
    )
    data = Ring()
    points = data.take("train").x[:500, 0, :2]
    fit(model, data, max_steps=1, limit_val_batches=0)  # after this the mean and the spread are right
    before = model.prior(500, generator=seeded())
    fit(model, data, max_epochs=20, limit_val_batches=0)
    learned = mmd2(model.prior(500, generator=seeded()), points)
    normal = points.mean(0) + points.std(0) * torch.randn(500, 2, generator=seeded())
    assert learned < 0.1 * mmd2(before, points)
    assert learned < 0.6 * mmd2(normal, points)  # the ring's hole, which mean and covariance know nothing of
