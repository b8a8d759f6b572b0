"""Generative PointNet: the energy, the chain, the objective, and the verbs."""

import functools
import math

import pytest
import torch
import yaml
from pytorch_lightning import Callback
from torch import nn

import pcgen
from pcgen.base import Batch
from pcgen.chains import CodeInference, DataStart, DivergenceGuard, NoiseStart, PersistentStart
from pcgen.errors import ConfigurationError, DataError
from pcgen.models import GenerativePointNet
from pcgen.nets import PointNetScore
from pcgen.ops import energy_gradient

SGD = functools.partial(torch.optim.SGD, lr=0.01)
STARTS = {"noise": NoiseStart, "persistent": functools.partial(PersistentStart, num_chains=20), "data": DataStart}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(*shape, seed=0, dtype=None):
    return 0.3 * torch.randn(*shape, generator=seeded(seed), dtype=dtype)


# ── energy ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_published_network_has_the_published_number_of_parameters(root):
    config = yaml.safe_load((root / "configs/generative-pointnet-modelnet10-chairs-paper.yaml").read_text())
    given = config["model"]["init_args"]
    model = GenerativePointNet(PointNetScore(**given["score"]["init_args"]))
    own = {"num_points": 2048, "reference_std": 0.3, "steps": 64, "step_size": 0.01, "clamp": 1.0, "jitter": 0.01}
    assert own.items() <= given.items()
    assert own.items() <= vars(model).items()
    assert (model.score_scale, model.energy_weight, model.noise_decay, model.noise_end) == (1, 0, False, None)
    assert given["optimizer"]["init_args"] == {"lr": 5e-4}
    assert given["lr_scheduler"]["init_args"] == {"step_size": 10, "gamma": 0.998}
    assert (config["data"]["init_args"]["batch_size"], config["trainer"]["max_steps"]) == (128, 2000)
    assert sum(p.numel() for p in model.parameters()) == 1_391_617


def test_energy_by_hand(energy_model):
    model, x = energy_model(reference_std=0.5), points(3, 16, 3)
    expected = -16 * model.score(x) + (x**2).sum((1, 2)) / (2 * 0.5**2)
    torch.testing.assert_close(model.energy(x), expected.detach())
    assert not model.energy(x).requires_grad
    assert model.energy(x.requires_grad_()).requires_grad


def test_the_order_of_points_changes_no_energy_but_the_published_networks(energy_model):
    x = points(4, 16, 3)
    shuffled = x[:, torch.randperm(16, generator=seeded(1))]
    model = energy_model()
    torch.testing.assert_close(model.energy(shuffled), model.energy(x), rtol=1e-5, atol=1e-4)
    paper = energy_model(score=PointNetScore((8, 16), (8,), norm="paper", num_points=16))
    torch.testing.assert_close(paper.energy(shuffled), paper.energy(x), rtol=1e-5, atol=1e-4)  # scales begin at 1
    with torch.no_grad():
        for name, parameter in paper.score.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn(parameter.shape, generator=seeded(2)))
    assert (paper.energy(shuffled) - paper.energy(x)).abs().min() > 1e-3


@pytest.mark.parametrize("norm", ["channel", "paper", "none"])
def test_gradient_of_the_energy_against_finite_differences(norm, energy_model):
    score = PointNetScore((6, 8), (5,), norm=norm, num_points=5 if norm == "paper" else None)
    model = energy_model(score=score, num_points=5).double()
    x = points(2, 5, 3, dtype=torch.float64)
    given, h = energy_gradient(model.energy, x), 1e-6
    for i in range(15):
        step = torch.zeros(15, dtype=torch.float64)
        step[i] = h
        difference = (model.energy(x + step.view(5, 3)) - model.energy(x - step.view(5, 3))) / (2 * h)
        torch.testing.assert_close(given.flatten(1)[:, i], difference, rtol=1e-5, atol=1e-6)
    with_graph = x.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(model.energy(with_graph).sum(), with_graph)[0], given)


def test_energies_of_any_number_of_points(energy_model):
    assert energy_model().energy(points(2, 40, 3)).shape == (2,)


# ── the chain ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("clamp", [None, 0.5])
def test_the_chain_by_hand(clamp, energy_model):
    model, x = energy_model(clamp=clamp, steps=3), points(2, 16, 3)
    given = model.chain(x, generator=seeded(4))
    rng = seeded(4)
    for _ in range(3):
        leaf = x.requires_grad_()
        energy = (leaf**2).sum() / (2 * 0.3**2) - 16 * model.score(leaf).sum()
        (slope,) = torch.autograd.grad(energy, leaf)
        x = leaf.detach() - 0.1**2 / 2 * slope + 0.1 * torch.randn(2, 16, 3, generator=rng)
        x = x if clamp is None else x.clamp(-clamp, clamp)
    torch.testing.assert_close(given, x, rtol=1e-4, atol=1e-5)


def test_where_the_score_is_flat_the_chain_draws_from_the_reference(energy_model):
    """Of 100·48 coordinates; the unadjusted chain's variance is s²/(1 − δ²/(4s²)). Five statistical errors."""
    model = energy_model(steps=60, clamp=None, score_scale=1e-8)
    variance = model.sample(100, generator=seeded()).var()
    expected = 0.3**2 / (1 - 0.1**2 / (4 * 0.3**2))
    assert float(variance) == pytest.approx(expected, rel=5 * math.sqrt(2 / (100 * 48)))


def test_noise_falls_along_the_chain(energy_model):
    model = energy_model(noise_decay=True, steps=24)
    scale = [t**0.5 for t in model.temperatures(1.0)]
    assert scale == pytest.approx([1 - k / 22 for k in range(1, 23)] + [0, 0])
    assert [t**0.5 for t in model.temperatures(0.5)] == pytest.approx([s / 2 for s in scale])
    assert energy_model(steps=3).temperatures(1.0) == [1.0, 1.0, 1.0]
    for steps in (1, 2):
        short = energy_model(noise_decay=True, steps=steps)
        assert short.temperatures(1.0)[-1] == 0
        assert len(short.temperatures(1.0)) == steps
        assert short.sample(1).shape == (1, 16, 3)


def test_chains_leave_parameters_alone(energy_model):
    model = energy_model()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    model.sample(2)
    model.reconstruct(points(1, 16, 3))
    model.trajectory(1, 3)
    assert all((p.grad == 3).all() and p.requires_grad for p in model.parameters())


def test_parameters_learn_again_when_a_chain_fails(energy_model):
    model = energy_model()
    with pytest.raises(DataError):
        model.chain(torch.zeros(2, 16, 4))
    assert all(p.requires_grad for p in model.parameters())


# ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_terms_by_hand(energy_model):
    model, x, fake = energy_model(energy_weight=0.25), points(3, 16, 3), points(2, 16, 3, seed=1)
    terms = model.terms(x, fake)
    f, g = 16 * model.score(x), 16 * model.score(fake)
    real = (x**2).sum() / 3 / 0.18 - f.mean()
    made = (fake**2).sum() / 2 / 0.18 - g.mean()
    loss = g.mean() - f.mean() + 0.25 * ((f**2).mean() + (g**2).mean())
    expected = {"loss": loss, "energy_real": real, "energy_fake": made, "energy_gap": made - real}
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_a_step_follows_the_gradient_of_the_loss(fit, clouds, energy_model):
    """Nothing but ∇ mean f(X̃) − ∇ mean f(X) moves the weights."""
    model = energy_model(optimizer=SGD, jitter=0.0)
    before, seen = [p.detach().clone() for p in model.parameters()], []
    terms = model.terms
    model.terms = lambda x, fake: seen.append((x, fake)) or terms(x, fake)
    fit(model, max_steps=1, limit_val_batches=0)
    (x, fake) = seen[0]
    fresh = energy_model()
    loss = 16 * (fresh.score(fake).mean() - fresh.score(x).mean())
    for old, new, slope in zip(before, model.parameters(), torch.autograd.grad(loss, fresh.parameters()), strict=True):
        torch.testing.assert_close(new.detach(), old - 0.01 * slope, rtol=1e-4, atol=1e-6)
    assert not fake.requires_grad
    assert len(x) == len(fake) == 8


@pytest.mark.parametrize("name", STARTS)
def test_each_start_trains(name, fit, energy_model):
    model = energy_model(start=STARTS[name]())
    before = {k: v.clone() for k, v in model.score.named_parameters()}
    runner = fit(model, max_epochs=2)
    kept = {k for k, v in model.score.named_parameters() if torch.equal(v, before[k])}
    assert kept <= {"head.0.bias", "head.2.bias"}  # what all clouds get alike has no part in the loss
    logged = {"loss", "energy_real", "energy_fake", "energy_gap", "chain_variance", "clamped_share", "gradient_norm",
              "resamples", "rollbacks"}  # fmt: skip
    assert {f"train/{name}" for name in logged} <= runner.callback_metrics.keys()
    assert {"val/energy_gap", "val/diversity", "val/coverage"} <= runner.callback_metrics.keys()
    assert all(torch.isfinite(v) for v in runner.callback_metrics.values())
    assert model.guard.history == []


def test_training_opens_the_energy_gap(fit, clouds, energy_model):
    """Data get less energy than samples of the energy that it begins with."""
    model = energy_model(optimizer=functools.partial(torch.optim.Adam, lr=0.02))
    x = clouds().take("val").x
    begin = model.sample(16, generator=seeded())

    def preference():
        return float(model.energy(begin).mean() - model.energy(x).mean())

    before = preference()
    fit(model, max_epochs=4, limit_val_batches=0)
    assert preference() > before + 0.5


def test_data_are_jittered_and_clamped_in_training_alone(energy_model):
    model, x = energy_model(jitter=0.2, clamp=0.6), torch.full((64, 16, 3), 0.1)
    given = model._real(Batch(x), seeded())
    assert float((given[given < 0.6] - 0.1).std()) == pytest.approx(0.2, rel=0.1)
    assert given.max() == 0.6
    assert torch.equal(energy_model(jitter=0.0)._real(Batch(x), seeded()), x)
    assert torch.equal(x, torch.full_like(x, 0.1))
    assert float(energy_model(clamp=None)._real(Batch(10 * x), seeded()).min()) > 0.9


def test_data_of_another_number_of_points(fit, clouds, energy_model):
    with pytest.raises(DataError, match=r"the model draws \(32, 3\) and the data are \(16, 3\): set num_points"):
        fit(energy_model(num_points=32), num_sanity_val_steps=0)


# ── noise over the training, and the schedule ─────────────────────────────────────────────────────────────────────────


def test_noise_ends_and_samples_are_drawn_with_what_is_left(fit, energy_model, tmp_path):
    shares = []

    class Look(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            shares.append(float(pl_module.noise_share))

    model = energy_model(noise_end=4)
    runner = fit(model, callbacks=[Look()])
    assert shares == [1, 0.75, 0.5, 0.25, 0, 0]
    assert torch.equal(*(model.chain(points(2, 16, 3), generator=seeded(k)) for k in (0, 1)))  # no noise is left
    runner.save_checkpoint(tmp_path / "model.ckpt")
    loaded = pcgen.load(tmp_path / "model.ckpt")
    assert loaded.noise_share == 0
    assert torch.equal(loaded.sample(2, generator=seeded()), model.sample(2, generator=seeded()))
    fresh = energy_model(noise_end=4)
    assert not torch.equal(*(fresh.chain(points(2, 16, 3), generator=seeded(k)) for k in (0, 1)))


def test_the_schedule_steps_once_an_optimizer_step(fit, energy_model):
    schedule = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=2, gamma=0.5)
    runner = fit(energy_model(lr_scheduler=schedule))  # six batches
    assert runner.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 8)
    runner = fit(energy_model(lr_scheduler=schedule), accumulate_grad_batches=2)  # three steps
    assert runner.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 2)


def test_a_schedule_that_waits_for_a_score_steps_once_an_epoch(fit, energy_model):
    plateau = functools.partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, threshold=1e9, factor=0.5)
    runner = fit(energy_model(lr_scheduler=plateau), max_epochs=3)  # no score is good enough
    assert runner.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 8)


# ── verbs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("n", [0, 1, 5])
def test_any_number_of_data(n, energy_model):
    model, x = energy_model(), points(n, 16, 3)
    model.chunk_size = 2
    assert model.sample(n).shape == model.reconstruct(x).shape == (n, 16, 3)
    assert model.trajectory(n, 3).shape == model.interpolate(x, x, 3).shape == (3, n, 16, 3)
    assert model.encode(x).shape == model.prior(n).shape == (n, 48)
    assert model.decode(model.prior(n)).shape == (n, 16, 3)
    assert model.energy(x).shape == (n,)
    assert model.features(x).shape == (n, 24)


def test_chunks_change_no_answer(energy_model):
    x, answers = points(5, 16, 3), []
    for size in (2, 64):
        model = energy_model()
        model.chunk_size = size
        z = model.encode(x)
        answers.append((z, model.decode(z), model.energy(x), model.features(x), model.sample(5, generator=seeded())))
    for a, b in zip(*answers, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("start", STARTS)
def test_draws_are_repeatable_and_a_trajectory_ends_in_the_sample(start, fit, energy_model):
    model = energy_model(start=STARTS[start]())
    fit(model, limit_val_batches=0)
    states = model.trajectory(3, 5, generator=seeded(3))  # of four steps: every state
    assert torch.equal(states[-1], model.sample(3, generator=seeded(3)))
    assert not torch.equal(states[-1], model.sample(3, generator=seeded(4)))
    noise = model.noise(3, generator=seeded(3))
    if start == "persistent":  # from where chains ended
        assert not torch.equal(states[0], noise)
        kept = model.start.chains[model.start.filled]
        assert all((kept == begin).all((1, 2)).any() for begin in states[0])
    else:
        assert torch.equal(states[0], noise)
    assert torch.equal(model.trajectory(3, 2, generator=seeded(3)), states[[0, 4]])
    assert torch.equal(model.trajectory(3, 3, generator=seeded(3)), states[[0, 2, 4]])
    assert len(model.trajectory(1, 9)) == 9  # more frames than states: some are shown twice
    with pytest.raises(ConfigurationError, match="frames is 1"):
        model.trajectory(3, 1)


def test_codes_are_draws_of_the_reference(energy_model):
    model = energy_model(reference_std=0.2)
    z = model.prior(400, generator=seeded())
    assert float(z.std()) == pytest.approx(0.2, rel=5 / math.sqrt(2 * z.numel()))
    assert torch.equal(model.prior(3, generator=seeded(1)), model.prior(3, generator=seeded(1)))
    with pytest.raises(ConfigurationError, match="n is -1"):
        model.sample(-1)


def test_decode_is_the_chain_without_noise_and_has_a_gradient_when_asked(energy_model):
    model = energy_model().double()
    z = model.prior(2, generator=seeded()).double()
    x = z.unflatten(1, (16, 3))
    for _ in range(4):
        x = (x - 0.1**2 / 2 * energy_gradient(model.energy, x)).clamp(-1, 1)
    torch.testing.assert_close(model.decode(z), x)
    assert not model.decode(z).requires_grad
    assert torch.equal(model.decode(z), model.decode(z))
    z, v = z.requires_grad_(), points(2, 16, 3, dtype=torch.float64)
    (slope,) = torch.autograd.grad((model.decode(z) * v).sum(), z)
    step = 1e-6 * torch.randn(2, 48, generator=seeded(2), dtype=torch.float64)
    with torch.no_grad():
        difference = ((model.decode(z + step) - model.decode(z - step)) * v).sum() / 2
    torch.testing.assert_close((slope * step).sum(), difference, rtol=1e-4, atol=1e-12)
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(DataError, match=r"codes have shape \(2, 4\); this model's are \(B, 48\)"):
        model.decode(torch.zeros(2, 4))


def test_reconstructions_are_near_and_do_not_depend_on_the_order(clouds, energy_model):
    model = energy_model(inference=CodeInference(steps=40, learning_rate=0.05))
    x = clouds().take("val", 4).x
    code = model.encode(x)
    made = model.decode(code)
    start = model.decode(model.noise(1, generator=seeded()).expand(4, -1, -1).flatten(1))
    error, before = (pcgen.ops.chamfer_distance(y, x) for y in (made, start))
    assert (error < 0.2 * before).all()
    shuffled = x[:, torch.randperm(16, generator=seeded(1))]
    torch.testing.assert_close(model.encode(shuffled), code, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.reconstruct(x), made)
    walk = model.interpolate(x[0], x[1], 5)
    assert walk.shape == (5, 16, 3)
    torch.testing.assert_close(walk[[0, -1]], made[:2], rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match=r"of 16 points, and the data are \(2, 20, 3\): give clouds \(B, 16, 3\)"):
        model.encode(points(2, 20, 3))


def test_verbs_within_a_validation(fit, clouds, energy_model):
    """One of its own is in inference mode."""
    answers, modes = [], []

    class Ask(Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            modes.append(torch.is_inference_mode_enabled())
            x = points(2, 16, 3)
            drawn = pl_module.sample(2, generator=seeded()), pl_module.trajectory(1, 2, generator=seeded())
            codes = pl_module.encode(x), pl_module.interpolate(x, x, 2)
            answers.append([*drawn, *codes, pl_module.energy(x), pl_module.features(x)])

    model = energy_model(start=PersistentStart(num_chains=20))
    runner = fit(model, max_epochs=2, callbacks=[Ask()])
    runner.validate(model, clouds(), verbose=False)
    assert modes == [False, False, True]
    for one, other in zip(*answers[1:], strict=True):  # of the same weights
        torch.testing.assert_close(one.clone(), other.clone())
    fit(model)  # and it still learns


# ── recorded, and its arguments ───────────────────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_gives_the_same_model(fit, energy_model, tmp_path):
    model = energy_model(
        score=PointNetScore((8,), (4,), norm="paper", num_points=16),
        reference_std=0.25,
        clamp=0.9,
        start=PersistentStart(30, 0.2),
        noise_decay=True,
        noise_end=9,
        energy_weight=0.01,
        inference=CodeInference(2, 0.1, "straight-through", "chamfer"),
        guard=DivergenceGuard(0.5, 3, 2, 1),
    )
    fit(model, limit_val_batches=0).save_checkpoint(tmp_path / "model.ckpt")
    loaded = pcgen.load(tmp_path / "model.ckpt")
    assert loaded.card()["model"] == model.card()["model"]
    assert vars(loaded.inference) == vars(model.inference)
    assert loaded.guard.max_variance == 0.5
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for answer in (lambda m: m.sample(2, generator=seeded()), lambda m: m.encode(points(2, 16, 3))):
        assert torch.equal(answer(loaded), answer(model.eval()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_points": 0}, "num_points is 0; it must be at least 1"),
        ({"steps": 0}, "steps is 0"),
        ({"noise_end": 0}, "noise_end is 0"),
        ({"reference_std": 0.0}, "reference_std is 0.0; give a number above 0"),
        ({"step_size": -0.1}, "step_size is -0.1"),
        ({"clamp": 0.0}, "clamp is 0.0"),
        ({"score_scale": math.inf}, "score_scale is inf"),
        ({"jitter": -1.0}, "jitter is -1.0; give a number of 0 or more"),
        ({"energy_weight": math.nan}, "energy_weight is nan"),
        ({"score": PointNetScore((4,), (4,), norm="paper", num_points=9)}, "num_points is 16 and the score network is"),
    ],
)
def test_arguments_out_of_their_range(wrong, message, energy_model):
    with pytest.raises(ConfigurationError, match=message):
        energy_model(**wrong)


# ── precision ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_half_precision_takes_the_same_step_within_its_rounding(fit, energy_model):
    """bfloat16 has eight bits: 2⁻⁸ of each product. The gradient's direction agrees within a few per cent."""
    directions = []
    for precision in ("32-true", "bf16-mixed"):
        model = energy_model(optimizer=SGD)
        before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        fit(model, max_steps=1, limit_val_batches=0, precision=precision)
        directions.append(nn.utils.parameters_to_vector(model.parameters()).detach() - before)
    whole, half = directions
    assert torch.cosine_similarity(whole, half, 0) > 0.98
    assert float(half.norm()) == pytest.approx(float(whole.norm()), rel=0.1)
    assert not torch.equal(whole, half)


def test_half_precision_leaves_the_chains_statistics(energy_model):
    """Mean energy and variance of 64 chains of the same noise, within 2 % of their spread and size."""
    model = energy_model(steps=30, score_scale=48.0)
    whole = model.sample(64, generator=seeded())
    with torch.autocast("cpu", torch.bfloat16):
        half = model.sample(64, generator=seeded())
    assert half.dtype == torch.float32
    assert not torch.equal(half, whole)
    assert float(half.var()) == pytest.approx(float(whole.var()), rel=0.02)
    energies = model.energy(half), model.energy(whole)
    assert float(energies[0].mean()) == pytest.approx(
        float(energies[1].mean()), abs=0.02 * float(energies[1].std()) + 0.1
    )
    assert (half - whole).abs().mean() < 0.02
