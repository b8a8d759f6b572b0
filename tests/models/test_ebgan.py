"""The EBGAN: hinges of single samples, a margin in the energy's units, and energies as scores."""

import functools
import math

import pytest
import torch

import pcgen
from pcgen.errors import ConfigurationError, DataError
from pcgen.losses import LearnedScaleChamferReconstruction, SquaredErrorReconstruction
from pcgen.models import EBGAN
from pcgen.nets import FoldingDecoder, ImageMLPDecoder, ImageMLPEncoder, MLPDecoder, PointNetEncoder

STILL = functools.partial(torch.optim.SGD, lr=0.0)


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def naive_energy(model, x):
    """Chamfer sums between clouds and what the discriminator's networks make of them, pair by pair in float64."""
    network = model.discriminator
    with torch.no_grad():
        y = network.decoder(network.bottleneck(network.encoder(x)))
    energies = []
    for a, b in zip(x.double(), y.double(), strict=True):
        there = sum(min(((p - q) ** 2).sum().item() for q in b) for p in a)
        back = sum(min(((p - q) ** 2).sum().item() for p in a) for q in b)
        energies.append(there + back)
    scale = 2 * model.discriminator.reconstruction.scale**2
    return [energy / scale for energy in energies]


@pytest.fixture
def ready(adversary, quiet_trainer, tmp_path):
    """A model past its warm-up, in evaluation mode, and its trainer at step 0."""

    def build(**arguments):
        model = adversary("EBGAN", **({"warmup_steps": 0, "margin": 1.0} | arguments)).eval()
        model.trainer = quiet_trainer(tmp_path)
        model.trainer.strategy.connect(model)
        return model

    return build


# ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_hinge_is_of_each_sample(ready):
    model = ready(noise_scale=20.0)
    x, fake = torch.rand(7, 16, 3, generator=seeded()), model.fake(7, generator=seeded(5))
    real_energies, fake_energies = naive_energy(model, x), naive_energy(model, fake)
    margin = sum(fake_energies) / 7  # here the hinge of the mean would be 0
    model.margin.fill_(margin)
    hinges = [max(0.0, margin - energy) for energy in fake_energies]
    assert 0 < sum(hinge > 0 for hinge in hinges) < 7
    terms = model.discriminator_terms(x, generator=seeded(5))
    expected = {
        "loss": sum(real_energies) / 7 + sum(hinges) / 7,
        "discriminator_loss": sum(real_energies) / 7 + sum(hinges) / 7,
        "energy_real": sum(real_energies) / 7,
        "energy_fake": margin,
        "hinge_share": sum(hinge > 0 for hinge in hinges) / 7,
        "margin": margin,
    }
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-4)
    evaluated = model.evaluation_terms(x, fake)
    for name in ("discriminator_loss", "energy_real", "energy_fake", "hinge_share"):
        assert evaluated[name].item() == pytest.approx(expected[name], rel=1e-4)
    assert evaluated["generator_loss"] == evaluated["energy_fake"]


def test_a_sample_above_the_margin_teaches_the_discriminator_nothing(ready):
    model = ready(margin=1e-6)
    x = torch.rand(5, 16, 3, generator=seeded())
    parameters = list(model.discriminator.parameters())
    with_samples = torch.autograd.grad(model.discriminator_terms(x, generator=seeded())["loss"], parameters)
    of_data = torch.autograd.grad(model.discriminator(x)[0].mean(), parameters)
    for a, b in zip(with_samples, of_data, strict=True):
        torch.testing.assert_close(a, b)


def test_pulling_away_is_the_generators_alone(ready):
    plain, repelled = ready(pulling_away_weight=0.0), ready(pulling_away_weight=30.0)
    x = torch.rand(6, 16, 3, generator=seeded())
    assert plain.discriminator_terms(x, generator=seeded()) == repelled.discriminator_terms(x, generator=seeded())
    terms, without = (model.generator_terms(6, generator=seeded()) for model in (repelled, plain))
    codes = repelled.features(repelled.fake(6, generator=seeded())).double()
    cosines = [torch.cosine_similarity(a, b, dim=0).item() ** 2 for i, a in enumerate(codes)
               for j, b in enumerate(codes) if i != j]  # fmt: skip
    assert terms["pulling_away"].item() == pytest.approx(sum(cosines) / 30, rel=1e-5)
    assert without["loss"] == without["generator_loss"] == terms["generator_loss"]
    assert terms["loss"].item() == pytest.approx(without["loss"].item() + sum(cosines), rel=1e-5)  # 30 / 30


def test_a_batch_of_one_has_no_pairs(ready):
    with pytest.raises(DataError, match="set batch_size to 2 or more, and drop_last"):
        ready().generator_terms(1)


# ── warm-up and margin ────────────────────────────────────────────────────────────────────────────────────────────────


def spied(model):
    """Take down what the discriminator's turns computed."""
    given, compute = [], model.discriminator_terms

    def terms(x, *, generator=None):
        given.append(compute(x, generator=generator))
        given[-1] = {name: value.detach().clone() for name, value in given[-1].items()} | {"loss": given[-1]["loss"]}
        return dict(given[-1])

    model.discriminator_terms = terms
    return given


def test_in_the_warm_up_the_discriminator_sees_data_alone_and_the_generator_waits(adversary, fit):
    model = adversary("EBGAN", warmup_steps=4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    turns = spied(model)
    fit(model, max_steps=4)
    changed = {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"discriminator", "margin", "warmup_energy"}
    assert all(turn.keys() == {"loss", "discriminator_loss", "energy_real"} for turn in turns)
    assert model.generator_steps == 0
    fit(model, max_steps=5)  # another trainer, whose steps begin anew: four of warm-up and one
    assert model.generator_steps == 1


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_margin_is_a_multiple_of_the_energy_followed(factor, adversary, fit):
    model = adversary("EBGAN", warmup_steps=4, margin_factor=factor)
    turns = spied(model)
    fit(model, max_epochs=2)
    energies = [turn["energy_real"].item() for turn in turns]
    followed = energies[0]
    for energy in energies[1:4]:
        followed += 0.1 * (energy - followed)
    assert model.warmup_energy.item() == pytest.approx(followed, rel=1e-5)
    assert model.margin.item() == pytest.approx(factor * followed, rel=1e-5)
    assert [turn["margin"].item() for turn in turns[4:]] == [model.margin.item()] * 8  # it stays


def test_a_margin_that_is_given_stays(adversary, fit):
    model = adversary("EBGAN", warmup_steps=2, margin=7.5)
    fit(model)
    assert model.margin == 7.5
    assert model.warmup_energy > 0


def test_the_checkpoint_keeps_the_margin(adversary, fit):
    model = adversary("EBGAN")
    runner = fit(model, enable_checkpointing=True)
    loaded = pcgen.load(runner.checkpoint_callback.best_model_path)
    assert torch.equal(loaded.margin, model.margin)
    x = torch.rand(3, 16, 3)
    assert torch.equal(loaded.energy(x), model.energy(x))


# ── energy ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_energy_of_each_datum_is_how_badly_it_is_reconstructed(adversary):
    model = adversary("EBGAN").eval()
    x = torch.rand(70, 16, 3, generator=seeded())  # more than a verb handles at once
    energy = model.energy(x)
    assert energy.shape == (70,)
    assert energy[:5].tolist() == pytest.approx(naive_energy(model, x[:5]), rel=1e-4)
    torch.testing.assert_close(torch.cat([model.energy(part) for part in x.split(9)]), energy)
    torch.testing.assert_close(model.energy(x[:, torch.randperm(16, generator=seeded())]), energy)
    assert model.energy(x[:0]).shape == (0,)


def test_the_energy_has_a_gradient_for_data_that_ask_for_one(adversary):
    x = torch.rand(2, 16, 3).requires_grad_()
    (slope,) = torch.autograd.grad(adversary("EBGAN").energy(x).sum(), x)
    assert slope.abs().sum() > 0


def test_the_energy_does_not_depend_on_the_rest_of_the_batch_even_with_normalisation():
    encoder = PointNetEncoder((8, 16), (8,))
    model = EBGAN(MLPDecoder(4, 16, (12,)), encoder, MLPDecoder(5, 16, (12,)))
    x = torch.rand(6, 16, 3)
    model.discriminator.train()(x + 1)
    torch.testing.assert_close(torch.cat([model.energy(part) for part in x.split(1)]), model.energy(x))


def test_energies_of_images_are_of_values_as_data_have_them():
    shape = (1, 8, 8)
    networks = [ImageMLPDecoder(4, shape, (8,)), ImageMLPEncoder(shape, (8,)), ImageMLPDecoder(3, shape, (8,))]
    model = EBGAN(*networks, SquaredErrorReconstruction(sigmoid=True)).eval()
    x = torch.rand(3, *shape)
    squares = (model.reconstruct(x) - x).square().flatten(1).sum(1)
    torch.testing.assert_close(model.energy(x) / squares, (model.energy(x) / squares)[:1].expand(3))
    for given in (model.reconstruct(x), model.sample(3)):
        assert given.min() >= 0
        assert given.max() <= 1


# ── arguments ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"margin": 0.0}, "margin is 0"),
        ({"margin": math.inf}, "margin is inf"),
        ({"margin_factor": -1.0}, "margin_factor is -1"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"warmup_steps": 0}, "warmup_steps is 0; .*the margin itself"),
        ({"pulling_away_weight": -0.1}, "pulling_away_weight is -0.1"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments, words, adversary):
    with pytest.raises(ConfigurationError, match=words):
        adversary("EBGAN", **arguments)


def test_energies_below_zero_are_refused():
    folding = FoldingDecoder(4, 16, width=8, depth=2, code_widths=(8,), extra_channels=3)
    with pytest.raises(ConfigurationError, match="an energy must not"):
        EBGAN(decoder=folding, reconstruction=LearnedScaleChamferReconstruction())
    with pytest.raises(ConfigurationError, match="extra_channels 3"):
        EBGAN(generator=folding)


# ── gauges ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def warned(recwarn):
    return [str(w.message) for w in recwarn if "wins outright" in str(w.message)]


def test_a_discriminator_with_nothing_left_to_learn_is_told_of_once(adversary, fit, recwarn):
    fit(adversary("EBGAN", margin=1e-6, optimizer=STILL), max_epochs=5)
    (text,) = warned(recwarn)
    assert text.startswith("after epoch 3: ")
    assert "above the margin of 1e-06" in text
    assert "margin_factor" in text


def test_a_game_with_active_hinges_is_not_told_of(adversary, fit, recwarn):
    runner = fit(adversary("EBGAN", margin=1e6, optimizer=STILL), max_epochs=4)
    assert runner.callback_metrics["val/hinge_share"] == runner.callback_metrics["train/hinge_share"] == 1
    assert warned(recwarn) == []
