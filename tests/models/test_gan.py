"""The GAN, and what it shares with the other adversarial models: sampling, the average, gauges and warnings."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pcgen
from pcgen.base import Batch
from pcgen.datamodules import Dots
from pcgen.errors import ConfigurationError, DataError
from pcgen.losses import HingeLoss, NonSaturatingLoss, WassersteinLoss
from pcgen.models import GAN
from pcgen.nets import (
    CNNDecoder,
    CNNEncoder,
    Decoder,
    Encoder,
    FoldingDecoder,
    ImageMLPDecoder,
    MLPDecoder,
    PointNetEncoder,
)

STILL = functools.partial(torch.optim.SGD, lr=0.0)
every = pytest.mark.parametrize("name", ["GAN", "LatentGAN", "EBGAN"])


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


# ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_both_players_objectives(adversary):
    model = adversary("GAN").train()
    x = torch.rand(6, 16, 3, generator=seeded())
    z = 0.2 * torch.randn(6, 4, generator=seeded(5))
    real, fake = model.discriminator(x), model.discriminator(model.generator(z))
    terms = model.discriminator_terms(x, generator=seeded(5))
    expected = -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean())
    torch.testing.assert_close(terms["loss"], expected)
    assert terms["accuracy_real"] == sum(score > 0 for score in real.tolist()) / 6
    assert terms["accuracy_fake"] == sum(score < 0 for score in fake.tolist()) / 6
    terms = model.generator_terms(6, generator=seeded(5))
    torch.testing.assert_close(terms["loss"], -fake.sigmoid().log().mean())


def test_the_penalty_is_part_of_what_the_discriminator_minimises_and_shown_apart(adversary):
    model = adversary("GAN", loss=WassersteinLoss(10.0))
    x = torch.rand(6, 16, 3, generator=seeded())
    terms = model.discriminator_terms(x, generator=seeded(5))
    torch.testing.assert_close(terms["loss"], terms["discriminator_loss"] + terms["penalty"])
    assert terms["penalty"] > 0
    assert not terms["penalty"].isclose(terms["loss"])


def test_neither_turn_moves_the_other_player(adversary):
    model = adversary("GAN")
    model.discriminator_terms(torch.rand(4, 16, 3))["loss"].backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None for p in model.discriminator.parameters())


# ── sampling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_noise_has_the_scale_it_is_told(adversary):
    z = adversary("GAN", noise_scale=3.0).prior(4000, generator=seeded())
    assert z.shape == (4000, 4)
    assert z.std().item() == pytest.approx(3.0, rel=0.02)
    assert adversary("GAN").prior(4000, generator=seeded()).std().item() == pytest.approx(0.2, rel=0.02)


@pytest.mark.parametrize("name", ["GAN", "EBGAN"])
def test_samples_come_from_the_average(name, adversary, fit):
    model = adversary(name)
    fit(model, max_epochs=2)
    z = model.prior(3, generator=seeded())
    averaged, raw = model.average.network.eval()(z), model.generator.eval()(z)
    assert torch.equal(model.decode(z), averaged)
    assert torch.equal(model.sample(3, generator=seeded()), averaged)
    assert not torch.allclose(averaged, raw, rtol=1e-3)


def test_a_latent_gans_codes_come_from_the_average(adversary, fit):
    model = adversary("LatentGAN")
    fit(model, max_epochs=2)
    z = model.noise(3, generator=seeded())
    averaged, raw = model.average.network.eval()(z), model.generator.eval()(z)
    given = model.standardized(model.prior(3, generator=seeded()))
    torch.testing.assert_close(given, averaged, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(given, raw, rtol=1e-3)


def test_without_a_decay_samples_come_from_the_generator(adversary, fit):
    model = adversary("GAN", ema_decay=None)
    fit(model)
    assert model.average is None
    assert not any("average" in key for key in model.state_dict())
    z = model.prior(3, generator=seeded())
    assert torch.equal(model.decode(z), model.generator.eval()(z))


@every
def test_the_checkpoint_holds_the_average(name, adversary, fit):
    model = adversary(name)
    runner = fit(model, max_epochs=2, enable_checkpointing=True)
    loaded = pcgen.load(runner.checkpoint_callback.best_model_path)
    assert torch.equal(loaded.sample(3, generator=seeded()), model.sample(3, generator=seeded()))
    for key, value in model.average.state_dict().items():
        assert torch.equal(loaded.average.state_dict()[key], value), key
    assert loaded.generator_steps == model.generator_steps > 0


@every
def test_each_optimizer_has_its_players_weights_and_no_others(name, adversary):
    slower = functools.partial(torch.optim.RMSprop, lr=1e-5)
    model = adversary(name, discriminator_optimizer=slower)
    generators, discriminators = (entry["optimizer"] for entry in model.configure_optimizers())
    for optimizer, player in ((generators, model.generator), (discriminators, model.discriminator)):
        assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in player.parameters()}
    assert isinstance(generators, torch.optim.Adam)
    assert isinstance(discriminators, torch.optim.RMSprop)


def test_images_are_sigmoids_everywhere(fit):
    shape = (1, 16, 16)
    model = GAN(CNNDecoder(3, shape, (4, 2), (8,)), CNNEncoder(shape, (2, 4), (8,), halving="stride", batch_norm=False))
    seen = []
    judge = model.discriminator.forward
    model.discriminator.forward = lambda x: seen.append(x.detach()) or judge(x)
    fit(model, Dots(16, train_size=16, val_size=8, test_size=8, batch_size=8))
    assert all(x.shape[1:] == shape and x.min() >= 0 and x.max() <= 1 for x in seen)
    z = model.prior(3, generator=seeded())
    torch.testing.assert_close(model.decode(z), model.average.eval()(z).sigmoid())
    assert model.features(torch.rand(2, *shape)).shape == (2, 8)


def test_spectral_normalisation_bounds_every_layer_of_the_discriminator(adversary, fit):
    model = adversary("GAN", spectral_norm=True, loss=HingeLoss())
    fit(model, max_epochs=3)
    layers = [m for m in model.discriminator.eval().modules() if isinstance(m, nn.Linear)]
    assert len(layers) == 4
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.05)
    assert not any("parametrizations" in key for key in model.generator.state_dict())


# ── arguments ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@every
@pytest.mark.parametrize(
    ("argument", "value"),
    [("discriminator_steps", 0), ("ema_decay", 1.0), ("ema_decay", -0.1), ("noise_scale", 0.0)],
)
def test_arguments_that_mean_nothing_are_refused(name, argument, value, adversary):
    with pytest.raises(ConfigurationError, match=f"{argument} is {value}"):
        adversary(name, **{argument: value})


@pytest.mark.parametrize("loss", [WassersteinLoss(), NonSaturatingLoss(r1_weight=1.0)])
def test_slopes_of_single_data_and_batch_normalisation_do_not_go_together(loss):
    networks = MLPDecoder(4, 16, (12,)), PointNetEncoder((8, 16), (8,))
    with pytest.raises(ConfigurationError, match=r"batch normalisation .*batch_norm to false"):
        GAN(*networks, loss)
    assert GAN(*networks, NonSaturatingLoss()).loss.needs_gradient is False
    assert GAN(*networks, WassersteinLoss(0.0)).loss.needs_gradient is False


def test_values_beside_the_coordinates_are_refused():
    folding = FoldingDecoder(4, 16, width=8, depth=2, code_widths=(8,), extra_channels=3)
    with pytest.raises(ConfigurationError, match="extra_channels 3"):
        GAN(folding)


@pytest.mark.parametrize("name", ["GAN", "EBGAN"])
def test_data_of_another_size_name_num_points(name, adversary, clouds, fit):
    data = clouds()
    data.num_points = data.stored_points = 24
    with pytest.raises(DataError, match=r"makes \(16, 3\) and the data are \(24, 3\): set .*num_points"):
        fit(adversary(name), data)


def test_codes_of_another_length_are_refused(adversary):
    for z in (torch.randn(2, 5), torch.randn(4)):
        with pytest.raises(DataError, match=r"this model's are \(B, 4\)"):
            adversary("GAN").decode(z)


# ── gauges and warnings ───────────────────────────────────────────────────────────────────────────────────────────────


class Noise(Decoder):
    """Clouds that are their codes, times a width: as varied as can be, or all one."""

    def __init__(self, width: float):
        super().__init__()
        self.latent_dim, self.sample_shape = 48, (16, 3)
        self.width = nn.Parameter(torch.tensor(width))

    def forward(self, z):
        return self.width * z.view(-1, 16, 3)


class Size(Encoder):
    """How far a cloud's points are from the origin."""

    permutation_invariant = True

    def __init__(self):
        super().__init__()
        self.out_features = 1
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.one * x.norm(dim=2).mean(1, keepdim=True)


def judged_by_size(width, loss=None, score=(0.0, 0.0), steps=500):
    """A game that stands still: samples of a width, and scores that are a multiple of the size, plus something."""
    model = GAN(Noise(width), Size(), loss, noise_scale=1.0, optimizer=STILL)
    with torch.no_grad():
        model.discriminator.head.weight.fill_(score[0])
        model.discriminator.head.bias.fill_(score[1])
    model.generator_steps.fill_(steps)
    return model


def warned(recwarn):
    return [str(w.message) for w in recwarn if str(w.message).startswith("after epoch")]


def test_a_generator_of_one_cloud_is_told_of_once_and_in_words(fit, recwarn):
    runner = fit(judged_by_size(0.0), max_epochs=5)
    (text,) = warned(recwarn)
    assert text.startswith("after epoch 3: the generator has collapsed: its samples differ from each other by 0% ")
    assert "discriminator_steps" in text
    assert runner.callback_metrics["val/diversity"] == 0


def test_a_young_generator_may_make_one_cloud(fit, recwarn):
    fit(judged_by_size(0.0, steps=0), max_epochs=4)
    assert warned(recwarn) == []


def test_a_varied_generator_and_an_even_game_are_not_told_of(fit, recwarn):
    runner = fit(judged_by_size(0.4), max_epochs=4)
    assert runner.callback_metrics["val/diversity"] > 0.5
    assert warned(recwarn) == []


CERTAIN = (-20.0, 100.0)  # data are within 1 of the origin, samples at about 16


def test_a_discriminator_that_wins_outright_is_told_of_once_and_in_words(fit, recwarn):
    runner = fit(judged_by_size(10.0, score=CERTAIN), max_epochs=5)
    assert runner.callback_metrics["train/accuracy_real"] == runner.callback_metrics["train/accuracy_fake"] == 1
    (text,) = warned(recwarn)
    assert text.startswith("after epoch 3: the discriminator wins outright: it tells 100.0% of data and samples")
    assert "its gradient has norm" in text
    assert "WassersteinLoss" in text


def test_to_a_wasserstein_critic_that_is_no_defeat(fit, recwarn):
    runner = fit(judged_by_size(10.0, WassersteinLoss(0.0), CERTAIN), max_epochs=4)
    assert runner.callback_metrics["train/accuracy_real"] == runner.callback_metrics["train/accuracy_fake"] == 1
    assert warned(recwarn) == []


def test_what_is_logged_of_an_evaluation_is_over_all_its_data(clouds, fit):
    data = clouds(batch_size=5)  # 16 = 5 + 5 + 5 + 1
    data.prepare_data()
    data.setup("fit")
    size = data.take("val").x.norm(dim=2).mean(1)
    middle = size.sort().values[4:6].mean().item()
    runner = fit(judged_by_size(10.0, HingeLoss(), (1.0, -middle)), data)
    score = size.double() - middle
    logged = runner.callback_metrics
    assert logged["val/accuracy_real"].item() == pytest.approx(11 / 16)
    assert logged["val/accuracy_fake"] == 0
    # Of samples, all far from the origin, the hinges are 1 more than minus the generator's loss.
    hinges = logged["val/discriminator_loss"] + logged["val/generator_loss"] - 1
    assert hinges.item() == pytest.approx(F.relu(1 - score).mean().item(), abs=1e-4)


@every
def test_an_epochs_means_are_logged_under_their_names(name, adversary, fit):
    logged = fit(adversary(name), max_epochs=2).callback_metrics
    shared = {"discriminator_loss", "generator_loss", "discriminator_gradient_norm", "generator_gradient_norm"}
    own = {"energy_real", "energy_fake", "hinge_share", "margin", "pulling_away"}
    own = own if name == "EBGAN" else {"accuracy_real", "accuracy_fake", "penalty"}
    assert {f"train/{key}" for key in shared | own} | {"train/generator_steps"} <= logged.keys()
    assert {"val/discriminator_loss", "val/generator_loss", "val/diversity", "val/coverage"} <= logged.keys()
    assert all(torch.isfinite(value) for value in logged.values())


def test_samples_are_compared_with_images_of_their_own_shape():
    model = GAN(ImageMLPDecoder(4, (1, 8, 8), (8,)))
    with pytest.raises(DataError, match="image_shape"):
        model.real(Batch(torch.rand(2, 1, 9, 9)))
