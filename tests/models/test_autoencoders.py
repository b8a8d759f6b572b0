"""What is particular to each autoencoding model; what holds for all stands in tests/test_zoo.py."""

import functools

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

import pcgen
from pcgen.base import Batch
from pcgen.corruptions import CutHalfSpace, DropPoints, GaussianNoise
from pcgen.datamodules import Shapes
from pcgen.errors import ConfigurationError, DataError, UnsupportedOperationError
from pcgen.losses import (
    BernoulliReconstruction,
    Capacity,
    ChamferReconstruction,
    ConstantBeta,
    LinearBeta,
    SquaredErrorReconstruction,
)
from pcgen.metrics.functional import latent_mmd2
from pcgen.models import VAE, WAE, Autoencoder, BetaVAE
from pcgen.nets import CNNDecoder, CNNEncoder, ImageMLPDecoder, ImageMLPEncoder, MLPDecoder, PointNetEncoder
from pcgen.ops import GaussianKernel, MultiscaleInverseMultiquadratic, chamfer_distance

ADAM = functools.partial(torch.optim.Adam, lr=1e-3)


def clouds(model, **others):
    return model(PointNetEncoder((8, 16)), MLPDecoder(4, 24, (16,)), optimizer=ADAM, **others)


def images(model, **others):
    encoder, decoder = ImageMLPEncoder((1, 8, 8), (16,)), ImageMLPDecoder(4, (1, 8, 8), (16,))
    return model(encoder, decoder, SquaredErrorReconstruction(sigmoid=True), optimizer=ADAM, **others)


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def fit(model, folder=None, ckpt_path=None, **trainer):
    data = Shapes(num_points=32, train_size=32, val_size=16, test_size=16, batch_size=16)
    options = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": folder is not None}
    runner = Trainer(
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **(options | trainer)
    )
    runner.fit(model, data, ckpt_path=ckpt_path)
    return runner


# ── autoencoder ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_autoencoders_loss_is_the_distance_to_the_clean_data():
    model = clouds(Autoencoder, reconstruction=ChamferReconstruction(0.1), corruption=GaussianNoise(0.3)).eval()
    x = torch.rand(6, 30, 3)
    damaged = model.corruption(x, generator=seeded())
    expected = chamfer_distance(model.decode(model.encode(damaged)), x, reduction="sum").mean() / (2 * 0.1**2)
    torch.testing.assert_close(model.terms(x, generator=seeded())["loss"], expected)
    assert not torch.allclose(model.terms(x, generator=seeded(4))["loss"], expected)


def test_reconstruct_takes_data_as_they_are():
    model = clouds(Autoencoder, corruption=DropPoints(0.5))
    x = torch.rand(3, 30, 3)
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))
    torch.testing.assert_close(model.reconstruct(x), clouds_without(model).reconstruct(x))


def clouds_without(model):
    plain = clouds(Autoencoder)
    plain.load_state_dict(model.state_dict())  # a corruption has no weights
    return plain


def test_an_autoencoder_does_not_sample_and_says_who_does():
    with pytest.raises(UnsupportedOperationError, match=r"Autoencoder cannot sample; .*VAE.*WAE"):
        clouds(Autoencoder).sample(2)
    assert not Autoencoder.can("prior")
    assert not Autoencoder.can("posterior")


def test_every_corruption_is_drawn_anew_in_training_and_the_same_in_validation(tmp_path):
    seen = []

    class Spy(GaussianNoise):
        def forward(self, x, *, generator=None):
            y = super().forward(x, generator=generator)
            seen.append((tuple((y - x).flatten()[:4].tolist()), torch.is_grad_enabled()))
            return y

    fit(clouds(Autoencoder, corruption=Spy(0.1)), max_epochs=2, num_sanity_val_steps=0)
    training = [noise for noise, learns in seen if learns]
    validation = [noise for noise, learns in seen if not learns]
    assert len(set(training)) == len(training) == 4
    assert validation == [validation[0]] * 2


def test_a_denoiser_learns_to_denoise():
    """Spheres of two sizes with noise: what comes back is nearer to the clean cloud than what went in."""
    torch.manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(64, 48, 3), dim=-1)
    x = direction * torch.tensor([0.4, 1.0]).repeat(32)[:, None, None]
    model = Autoencoder(PointNetEncoder((16, 32)), MLPDecoder(2, 48, (64,)), corruption=GaussianNoise(0.2))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(200):
        loss = model.terms(x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    damaged = model.corruption(x, generator=seeded())
    assert chamfer_distance(model.reconstruct(damaged), x).mean() < 0.7 * chamfer_distance(damaged, x).mean()


# ── β-VAE ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_beta_one_is_the_vae():
    torch.manual_seed(0)
    plain = clouds(VAE)
    weighted = clouds(BetaVAE, schedule=ConstantBeta(1.0))
    weighted.load_state_dict(plain.state_dict(), strict=False)
    x = torch.rand(5, 30, 3)
    for model in (plain, weighted):
        model.eval()
    a, b = (model.terms(x, generator=seeded()) for model in (plain, weighted))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("schedule", [ConstantBeta(3.0), LinearBeta(4.0, 1.0, 10), Capacity(2.0, 5.0, 7.0, 10)])
def test_the_loss_is_the_reconstruction_plus_what_the_schedule_makes_of_the_kl(schedule):
    model = clouds(BetaVAE, schedule=schedule).eval()
    for step in (0, 5, 100):
        model.steps_taken.fill_(step)
        terms = model.terms(torch.rand(5, 30, 3))
        expected = terms["reconstruction"] + schedule.penalty(terms["kl"], step)
        torch.testing.assert_close(terms["loss"], expected)


def test_validation_has_the_beta_of_the_training_and_an_elbo_without_it(tmp_path):
    schedule = LinearBeta(10.0, 2.0, end_step=4)
    runner = fit(clouds(BetaVAE, schedule=schedule), tmp_path, max_epochs=1)  # two steps
    logged = {name: value.item() for name, value in runner.callback_metrics.items()}
    assert logged["train/beta"] == schedule.value(2) == 6.0
    assert logged["val/loss"] == pytest.approx(logged["val/reconstruction"] + 6 * logged["val/kl"], rel=1e-5)
    assert logged["val/elbo"] == pytest.approx(-logged["val/reconstruction"] - logged["val/kl"], rel=1e-5)
    # A later evaluation of the checkpoint goes on with what the training had.
    file = runner.checkpoint_callback.best_model_path
    again = clouds(BetaVAE, schedule=schedule)
    quiet = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    data = Shapes(num_points=32, train_size=32, val_size=16, test_size=16, batch_size=16)
    (found,) = quiet.validate(again, data, ckpt_path=file, verbose=False)
    assert found["val/loss"] == pytest.approx(found["val/reconstruction"] + 6 * found["val/kl"], rel=1e-5)
    assert pcgen.load(file).step == 2


def test_capacity_is_logged_under_its_own_name():
    runner = fit(clouds(BetaVAE, schedule=Capacity(0.0, 4.0, 1.0, end_step=4)))
    assert runner.callback_metrics["train/capacity"].item() == 2.0


@pytest.mark.parametrize("stop", [2, 3, 4, 5])
def test_resuming_in_the_middle_of_a_schedule_is_exact(stop, tmp_path):
    """Two steps an epoch; β moves at every step, and the checkpoint is of the end or the middle of an epoch."""
    schedule = LinearBeta(8.0, 1.0, end_step=7, begin_step=1)
    torch.manual_seed(0)
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    whole = fit(clouds(BetaVAE, schedule=schedule), tmp_path, max_epochs=4, callbacks=[saver])
    torch.manual_seed(7)  # nothing may depend on the state of the process that resumes
    resumed = clouds(BetaVAE, schedule=schedule)
    runner = fit(resumed, max_epochs=4, ckpt_path=tmp_path / f"step={stop}.ckpt")
    assert runner.global_step == whole.global_step == 8
    assert pcgen.load(tmp_path / f"step={stop}.ckpt").step == stop  # an evaluation of it has this step's β
    assert resumed.step == 8
    for key, value in whole.lightning_module.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


# ── WAE ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("kernel", [None, MultiscaleInverseMultiquadratic(), GaussianKernel(2.0)])
def test_the_waes_loss_is_reconstruction_plus_lambda_mmd(kernel, unbiased):
    model = images(WAE, mmd_weight=3.0, kernel=kernel, unbiased=unbiased).eval()
    x = torch.rand(7, 1, 8, 8)
    terms = model.terms(x, generator=seeded())
    z, y = model.encode(x), torch.randn(7, 4, generator=seeded())
    reconstruction = (model.decode(z) - x).square().flatten(1).sum(1).mean()
    mmd2 = naive_mmd2(z, y, kernel, unbiased=unbiased)
    assert terms["mmd2"].item() == pytest.approx(mmd2, rel=1e-4, abs=1e-6)
    assert terms["loss"].item() == pytest.approx(reconstruction.item() + 3 * mmd2, rel=1e-5)


def naive_mmd2(x, y, kernel, *, unbiased):
    """MODELS.md's formula, pair by pair in float64."""

    def k(a, b):
        if kernel is None:
            return 1 / (1 + ((a - b) ** 2).sum().item())
        return kernel(a[None], b[None]).item()

    x, y, n = x.double(), y.double(), len(x)
    same = [sum(k(s[i], s[j]) for i in range(n) for j in range(n) if not unbiased or i != j) for s in (x, y)]
    cross = sum(k(a, b) for a in x for b in y)
    return sum(same) / (n * (n - 1) if unbiased else n * n) - 2 * cross / n**2


def test_the_waes_evaluation_compares_all_codes_at_once():
    model = clouds(WAE, mmd_weight=2.0)
    runner = fit(model)
    logged = {name: value.item() for name, value in runner.callback_metrics.items()}
    assert logged["val/loss"] == pytest.approx(logged["val/reconstruction"] + 2 * logged["val/mmd2"], rel=1e-5)
    x = runner.datamodule.take("val").x
    assert logged["val/mmd2"] == pytest.approx(latent_mmd2(model.encode(x)).item(), rel=1e-4)


def test_the_discrepancy_pulls_the_codes_to_the_prior():
    torch.manual_seed(0)
    x = torch.rand(100, 1, 8, 8)
    model = images(WAE, mmd_weight=100.0)
    with torch.no_grad():
        model.bottleneck.bias.fill_(2.0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    before = model.terms(x)["mmd2"].item()
    for _ in range(250):
        loss = model.terms(x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z = model.train().code(x)  # normalised over the batch, as in the training
    assert model.terms(x)["mmd2"].item() < 0.1 * before
    assert z.mean(0).abs().max() < 0.5
    assert 0.5 < z.std() < 1.5


def test_the_u_statistic_of_one_datum_is_refused():
    with pytest.raises(DataError, match="at least 2"):
        images(WAE, unbiased=True).eval().terms(torch.rand(1, 1, 8, 8))


def test_the_u_statistic_is_evaluated_whatever_the_batches():
    """The evaluation compares all codes at once, so a batch of one datum is no obstacle."""
    x = torch.rand(5, 1, 8, 8)
    model = images(WAE, mmd_weight=2.0, unbiased=True).eval()
    for part in x.split(2):
        model.validation_step(Batch(part), 0)
    found = model.means()
    error = (model.reconstruct(x) - x).square().flatten(1).sum(1).mean().item()
    assert found["reconstruction"].item() == pytest.approx(error, rel=1e-5)
    assert found["mmd2"].item() == pytest.approx(latent_mmd2(model.encode(x)).item(), rel=1e-5)
    assert found["loss"].item() == pytest.approx(error + 2 * found["mmd2"].item(), rel=1e-5)


@pytest.mark.parametrize("weight", [-1, float("inf"), float("nan")])
def test_weights_that_are_none_are_refused(weight):
    with pytest.raises(ConfigurationError, match=rf"mmd_weight is {weight}"):
        images(WAE, mmd_weight=weight)


# ── all ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", [Autoencoder, VAE, BetaVAE, WAE])
def test_the_same_class_takes_clouds_and_images(model):
    small = model(CNNEncoder((1, 12, 12), (4, 8), (8,), "stride"), CNNDecoder(4, (1, 12, 12), (8, 4), (8,)),
                  SquaredErrorReconstruction())  # fmt: skip
    for network, x in ((small, torch.rand(5, 1, 12, 12)), (clouds(model), torch.rand(5, 24, 3))):
        network.train()
        network.terms(x)["loss"].backward()
        assert all(p.grad is not None for p in network.parameters())
        assert network.reconstruct(x).shape == x.shape
        assert network.interpolate(x[:2], x[2:4], 3, path="spherical").shape == (3, 2, *x.shape[1:])
    assert small.reconstruct(torch.rand(5, 1, 12, 12)).min() >= 0
    assert small.decode(100 * torch.randn(9, 4)).max() <= 1


@pytest.mark.parametrize("model", [Autoencoder, VAE, BetaVAE, WAE])
def test_half_precision_trains(model):
    network = clouds(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = network.terms(torch.rand(5, 24, 3))["loss"]
    assert loss.isfinite()
    loss.backward()


@pytest.mark.parametrize("model", [Autoencoder, VAE, BetaVAE, WAE])
@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_weights_of_another_precision_train(model, precision):
    network = clouds(model)
    assert fit(network, precision=precision).global_step == 2
    assert all(p.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("make", [clouds, images])
def test_a_training_batch_of_one_datum_is_refused_where_the_batch_normalises(make):
    x = torch.rand(1, 24, 3) if make is clouds else torch.rand(1, 1, 8, 8)
    model = make(Autoencoder)
    with pytest.raises(DataError, match=r"single datum .* batch_size to 2 .* batch_norm"):
        model.train().terms(x)
    assert model.eval().terms(x)["loss"].isfinite()
    without = Autoencoder(PointNetEncoder((8,), batch_norm=False), MLPDecoder(4, 24, (16,), batch_norm=False))
    assert without.train().terms(torch.rand(1, 24, 3))["loss"].isfinite()


@pytest.mark.parametrize("model", [Autoencoder, VAE, BetaVAE, WAE])
def test_losses_of_clouds_are_not_for_images_nor_the_reverse(model):
    with pytest.raises(ConfigurationError, match=r"ChamferReconstruction is not for images, .*ImageMLPDecoder.* set"):
        model(ImageMLPEncoder((1, 8, 8), (16,)), ImageMLPDecoder(4, (1, 8, 8), (16,)))  # the default is for clouds
    with pytest.raises(ConfigurationError, match=r"BernoulliReconstruction is not for clouds, .*to Chamfer"):
        clouds(model, reconstruction=BernoulliReconstruction())


@pytest.mark.parametrize("shape", [(2, 5), (4,), (2, 1, 4)])
def test_codes_of_another_length_are_refused_with_both(shape):
    with pytest.raises(DataError, match=rf"codes have shape \({shape[0]}, ?.*\(B, 4\)"):
        clouds(VAE).decode(torch.zeros(shape))


def test_fewer_than_no_samples_are_refused():
    with pytest.raises(ConfigurationError, match="n is -1"):
        clouds(VAE).sample(-1)
    assert clouds(VAE).sample(0).shape == (0, 24, 3)


def test_images_of_another_size_are_refused_in_words():
    with pytest.raises(DataError, match=r"built for images \(B, 1, 8, 8\) and got \(2, 1, 9, 8\)"):
        images(Autoencoder).reconstruct(torch.rand(2, 1, 9, 8))


def test_a_cut_that_leaves_nothing_is_refused_before_the_training():
    with pytest.raises((ConfigurationError, DataError), match="share"):
        clouds(Autoencoder, corruption=CutHalfSpace(1.0))


def test_a_batch_of_the_training_is_what_the_step_takes():
    model = images(Autoencoder)
    assert model.predict_step(Batch(torch.rand(3, 1, 8, 8)), 0).shape == (3, 1, 8, 8)
