import functools
import math
import warnings

import pytest
import torch
from pytorch_lightning import Trainer

from pcgen.datamodules import Shapes
from pcgen.errors import ConfigurationError
from pcgen.losses import ChamferReconstruction, GaussianReconstruction, LearnedScaleChamferReconstruction
from pcgen.metrics import KLPerDimension
from pcgen.models import VAE
from pcgen.nets import Decoder, Encoder, MLPDecoder, PointNetEncoder


def small(**others) -> VAE:
    return VAE(PointNetEncoder((8, 16)), MLPDecoder(4, 24, (16,)), **others)


def test_the_objective_is_minus_the_elbo_with_sums_over_one_datum_and_a_mean_over_the_batch():
    model = small(reconstruction=ChamferReconstruction(0.1)).eval()
    x = torch.rand(6, 30, 3)
    terms = model.terms(x, generator=torch.Generator().manual_seed(3))
    mu, log_var = model.posterior(x)
    eps = torch.randn(1, *mu.shape, generator=torch.Generator().manual_seed(3))[0]
    z = mu + (0.5 * log_var).exp() * eps
    y = model.decoder(z)
    total = 0.0
    for i in range(6):  # datum by datum, in float64
        d = (x[i].double()[:, None] - y[i].double()[None]).square().sum(-1)
        reconstruction = (d.amin(0).sum() + d.amin(1).sum()) / (2 * 0.1**2)
        kl = 0.5 * (mu[i].double() ** 2 + log_var[i].double().exp() - log_var[i].double() - 1).sum()
        total += (reconstruction + kl).item() / 6
    assert terms["loss"].item() == pytest.approx(total, rel=1e-5)
    assert terms["loss"].item() == pytest.approx((terms["reconstruction"] + terms["kl"]).item())
    assert terms["kl_per_dimension"].shape == (6, 4)


def test_half_precision_does_not_reach_the_kl():
    model = small().eval()
    x = torch.rand(6, 30, 3)
    exact = model.terms(x)["kl_per_dimension"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = model.terms(x)
    assert terms["kl_per_dimension"].dtype == torch.float32
    assert (terms["kl_per_dimension"] >= -1e-6).all()
    torch.testing.assert_close(terms["kl_per_dimension"], exact, rtol=0.2, atol=0.02)
    terms["loss"].backward()


def test_double_precision_stays_double():
    terms = small().double().terms(torch.rand(4, 30, 3, dtype=torch.float64))
    assert terms["loss"].dtype == torch.float64


def test_verbs_take_their_arguments_by_name():
    model = small()
    x = torch.rand(3, 11, 3, dtype=torch.float64)
    assert torch.equal(model.encode(x=x), model.encode(x))
    assert model.decode(z=torch.zeros(1, 4, requires_grad=True)).requires_grad


def test_monte_carlo_samples_are_averaged_and_lower_the_variance():
    x = torch.rand(4, 30, 3)
    spread = []
    for m in (1, 25):
        torch.manual_seed(0)
        model = small(monte_carlo_samples=m).eval()
        spread.append(torch.stack([model.terms(x)["reconstruction"].detach() for _ in range(40)]))
    assert spread[1].std() < 0.4 * spread[0].std()
    assert spread[1].mean().item() == pytest.approx(spread[0].mean().item(), rel=0.1)


def test_monte_carlo_codes_meet_their_own_datum():
    """With a decoder that returns its code and codes without noise, each datum's error is its own."""

    class Identity(Decoder):
        latent_dim, sample_shape = 3, (1, 3)

        def forward(self, z):
            return z[:, None]

    class First(Encoder):
        out_features = 3

        def forward(self, x):
            return x[:, 0]

    model = VAE(First(), Identity(), GaussianReconstruction(1.0), monte_carlo_samples=3)
    with torch.no_grad():
        model.mean.weight.copy_(torch.eye(3))
        model.mean.bias.zero_()
        model.log_variance.weight.zero_()
        model.log_variance.bias.fill_(-60.0)
    assert model.terms(torch.randn(5, 1, 3))["reconstruction"].item() == pytest.approx(0, abs=1e-9)


def test_verbs_are_total():
    model = small().train()
    for n in (0, 1, 70):
        assert model.sample(n).shape == (n, 24, 3)
        assert model.encode(torch.rand(n, 11, 3)).shape == (n, 4)
        assert model.reconstruct(torch.rand(n, 11, 3)).shape == (n, 24, 3)
    assert model.training  # the mode is put back
    assert not model.sample(2).requires_grad
    z = torch.randn(2, 4, requires_grad=True)
    assert model.decode(z).requires_grad  # asked for
    assert model.interpolate(torch.rand(3, 9, 3), torch.rand(3, 9, 3), 5).shape == (5, 3, 24, 3)


def test_a_generator_decides_the_sample_whatever_the_global_state():
    model = small()
    a = model.sample(5, generator=torch.Generator().manual_seed(7))
    torch.randn(100)
    b = model.sample(5, generator=torch.Generator().manual_seed(7))
    assert torch.equal(a, b)
    assert not torch.equal(a, model.sample(5, generator=torch.Generator().manual_seed(8)))


def test_the_prior_is_standard_normal():
    z = small().prior(20000, generator=torch.Generator().manual_seed(0))
    assert z.mean(0).abs().max() < 0.03
    assert (z.T.cov() - torch.eye(4)).abs().max() < 0.04


def test_chunks_change_nothing():
    model = small()
    x = torch.rand(10, 15, 3)
    whole = model.reconstruct(x)
    model.chunk_size = 3
    torch.testing.assert_close(model.reconstruct(x), whole)


def test_interpolation_has_both_ends_in_and_is_linear_in_the_code():
    model = small().double()
    a, b = torch.rand(2, 11, 3, dtype=torch.float64), torch.rand(2, 11, 3, dtype=torch.float64)
    walk = model.interpolate(a, b, 3)
    torch.testing.assert_close(walk[0], model.reconstruct(a))
    torch.testing.assert_close(walk[2], model.reconstruct(b))
    torch.testing.assert_close(walk[1], model.decode((model.encode(a) + model.encode(b)) / 2))
    assert model.interpolate(a[0], b[0], 4).shape == (4, 24, 3)
    with pytest.raises(ValueError, match="steps is 1"):
        model.interpolate(a, b, 1)


def test_a_learned_scale_needs_its_channels():
    with pytest.raises(ConfigurationError, match="extra_channels 3"):
        small(reconstruction=LearnedScaleChamferReconstruction())
    model = VAE(PointNetEncoder((8,)), MLPDecoder(4, 24, (16,), extra_channels=3), LearnedScaleChamferReconstruction())
    assert model.sample(3).shape == (3, 24, 3)
    assert torch.isfinite(model.terms(torch.rand(4, 20, 3))["loss"])


def test_images_go_through_the_same_model():
    class Flat(Encoder):
        out_features = 16

        def forward(self, x):
            return x.flatten(1)

    class Unflat(Decoder):
        latent_dim, sample_shape = 2, (1, 4, 4)

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 16)

        def forward(self, z):
            return self.layer(z).view(-1, 1, 4, 4)

    model = VAE(Flat(), Unflat(), GaussianReconstruction(0.3))
    assert model.sample(5).shape == (5, 1, 4, 4)
    assert torch.isfinite(model.terms(torch.rand(3, 1, 4, 4))["loss"])


def fit(model, **trainer):
    data = Shapes(num_points=32, train_size=32, val_size=16, test_size=16, batch_size=16)
    options = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False} | trainer
    runner = Trainer(enable_progress_bar=False, enable_model_summary=False, **options)
    runner.fit(model, data)
    return runner, data


def test_logs_the_terms_and_the_active_units():
    runner, data = fit(small(optimizer=functools.partial(torch.optim.Adam, lr=1e-3)))
    logged = runner.callback_metrics
    for stage in ("train", "val"):
        assert {f"{stage}/loss", f"{stage}/reconstruction", f"{stage}/kl"} <= set(logged)
    assert logged["val/elbo"].item() == pytest.approx(-logged["val/loss"].item())
    assert 0 <= logged["val/active_units"].item() <= 4
    runner.test(runner.lightning_module, data, verbose=False)
    assert "test/elbo" in runner.callback_metrics


def test_warns_in_words_when_the_posterior_collapses():
    model = small()
    with torch.no_grad():  # q(z | x) = N(0, 1) for every x
        for head in (model.mean, model.log_variance):
            head.weight.zero_()
            head.bias.zero_()
    optimizer = functools.partial(torch.optim.SGD, lr=0.0)
    model.optimizer = optimizer
    with pytest.warns(UserWarning, match=r"posterior has collapsed: none of the 4"):
        runner, _ = fit(model, max_epochs=2)
    assert runner.callback_metrics["val/active_units"].item() == 0
    alive = small()
    with torch.no_grad():
        alive.log_variance.bias.fill_(-3.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runner, _ = fit(alive, max_epochs=2)
    assert runner.callback_metrics["val/active_units"].item() == 4
    assert not [w for w in caught if "collapsed" in str(w.message)]


def test_kl_per_dimension_is_a_mean_over_data_not_over_batches():
    metric = KLPerDimension(2)
    metric.update(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    metric.update(torch.tensor([[5.0, 0.3]]))
    torch.testing.assert_close(metric.compute(), torch.tensor([3.0, 0.1]))


def test_learns_to_tell_shapes_apart():
    """Spheres of two sizes: the reconstructions take the sizes of their data."""
    torch.manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(64, 48, 3), dim=-1)
    size = torch.tensor([0.4, 1.0]).repeat(32)
    x = direction * size[:, None, None]
    model = VAE(PointNetEncoder((16, 32)), MLPDecoder(2, 48, (64,)), ChamferReconstruction(0.1))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(150):
        loss = model.terms(x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    radius = model.reconstruct(x).norm(dim=-1).mean(1)
    assert radius[size == 0.4].mean() == pytest.approx(0.4, abs=0.1)
    assert radius[size == 1.0].mean() == pytest.approx(1.0, abs=0.1)
    assert math.isfinite(loss.item())


def test_monte_carlo_samples_below_one_are_refused():
    with pytest.raises(ConfigurationError, match="monte_carlo_samples is 0"):
        small(monte_carlo_samples=0)
