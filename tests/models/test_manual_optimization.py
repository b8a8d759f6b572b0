"""What a user of Lightning's trainer gets from the models that optimise by hand: the same as from any other."""

import datetime as dt
import functools
import math

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import ReduceLROnPlateau
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.strategies import FSDPStrategy, SingleDeviceStrategy

from pcgen.errors import ConfigurationError
from pcgen.losses import WassersteinLoss

ADVERSARIES = ("GAN", "LatentGAN", "EBGAN")
every = pytest.mark.parametrize("name", ADVERSARIES)
SGD = functools.partial(torch.optim.SGD, lr=0.05)
HALVE = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)


def flat(network):
    return torch.cat([p.detach().flatten().clone() for p in network.parameters() if p.requires_grad])


class Steps(Callback):
    """Takes down each optimizer step: whose it is, and the gradient that it is made with."""

    def __init__(self, model):
        self.model, self.taken, self.asked = model, [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.asked.append((self.player(optimizer), self.gradient(optimizer)))

    def on_train_start(self, trainer, pl_module):
        for optimizer in trainer.optimizers:  # Lightning clips within the step, so a hook before it sees too much
            optimizer.register_step_post_hook(lambda o, *_: self.taken.append((self.player(o), self.gradient(o))))

    def player(self, optimizer):
        own = optimizer.param_groups[0]["params"][0]
        return "generator" if any(own is p for p in self.model.generator.parameters()) else "discriminator"

    def gradient(self, optimizer):
        return torch.cat([p.grad.flatten().clone() for p in optimizer.param_groups[0]["params"]])

    def of(self, player, steps=None):
        return [gradient for who, gradient in (self.taken if steps is None else steps) if who == player]


# ── how the steps are counted ─────────────────────────────────────────────────────────────────────────────────────────


@every
def test_several_steps_of_the_discriminator_and_global_step_counts_batches(name, adversary, fit):
    model = adversary(name, discriminator_steps=2)
    steps = Steps(model)
    runner = fit(model, max_epochs=2, callbacks=[steps])
    waits = 1 if name == "EBGAN" else 0  # of the turns due at steps 2, 4, …, that at 2 falls in the warm-up
    assert runner.global_step == len(steps.of("discriminator")) == 12
    assert model.generator_steps == len(steps.of("generator")) == 6 - waits
    assert [who for who, _ in steps.taken[-3:]] == ["discriminator", "discriminator", "generator"]
    assert runner.callback_metrics["train/generator_steps"] == 6 - waits
    if model.average is not None:
        assert model.average.updates == 6 - waits


@every
def test_max_steps_counts_batches(name, adversary, fit):
    model = adversary(name, discriminator_steps=2)
    runner = fit(model, max_epochs=-1, max_steps=8)
    assert runner.global_step == 8
    assert model.generator_steps == (3 if name == "EBGAN" else 4)


@every
def test_checkpoints_every_so_many_batches(name, adversary, fit, tmp_path):
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
    fit(adversary(name), max_epochs=2, enable_checkpointing=True, callbacks=[saver])
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == [
        "step=12.ckpt", "step=3.ckpt", "step=6.ckpt", "step=9.ckpt"
    ]  # fmt: skip


# ── clipping ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@every
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipping_bounds_the_gradient_of_either_player(name, algorithm, adversary, fit):
    bound = 1e-4
    model = adversary(name)
    steps = Steps(model)
    runner = fit(model, gradient_clip_val=bound, gradient_clip_algorithm=algorithm, callbacks=[steps])
    for player in ("generator", "discriminator"):
        given, taken = steps.of(player, steps.asked), steps.of(player)
        assert len(given) == len(taken) > 0
        for before, after in zip(given, taken, strict=True):
            if algorithm == "norm":
                expected = before * min(1.0, bound / before.norm().item())
                torch.testing.assert_close(after, expected, rtol=2e-2, atol=1e-9)  # torch adds 1e-6 to the norm
            else:
                assert torch.equal(after, before.clamp(-bound, bound))
        assert any(not torch.equal(*pair) for pair in zip(given, taken, strict=True))
        # What is logged is the norm before: afterwards it would always be the bound.
        mean = sum(before.norm().item() for before in given) / len(given)
        assert runner.callback_metrics[f"train/{player}_gradient_norm"].item() == pytest.approx(mean, rel=1e-5)


# ── accumulation ──────────────────────────────────────────────────────────────────────────────────────────────────────


def noise_in_turn(model):
    """Give the model noise from one long row, so that two draws of 8 are one of 16."""
    row, place = torch.randn(4096, model.noise_dim, generator=torch.Generator().manual_seed(1)), [0]

    def noise(n, *, generator=None):
        place[0] += n
        return row[place[0] - n : place[0]]

    model.noise = noise
    return model


@pytest.mark.parametrize("discriminator_steps", [1, 3])
def test_accumulated_batches_are_one_large_one(discriminator_steps, adversary, clouds, fit):
    large, small = (
        noise_in_turn(adversary("GAN", batch_norm=False, discriminator_steps=discriminator_steps, optimizer=SGD))
        for _ in range(2)
    )
    start = flat(large)
    whole = fit(large, clouds(batch_size=24), max_epochs=3)
    parts = fit(small, clouds(batch_size=8), max_epochs=3, accumulate_grad_batches=3)
    assert whole.global_step == parts.global_step == 6
    assert large.generator_steps == small.generator_steps == 6 // discriminator_steps
    torch.testing.assert_close(flat(small), flat(large), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(flat(large), start, atol=1e-4)


@pytest.mark.parametrize("name", ["LatentGAN", "EBGAN"])
def test_the_other_models_accumulate_too(name, adversary, fit):
    model = adversary(name)
    steps = Steps(model)
    runner = fit(model, accumulate_grad_batches=2, callbacks=[steps])
    assert runner.global_step == len(steps.of("discriminator")) == 3
    assert len(steps.of("generator")) == (1 if name == "EBGAN" else 3)


@every
def test_an_epochs_last_batches_step_though_the_group_is_not_full(name, adversary, clouds, fit):
    model = adversary(name)
    steps = Steps(model)
    runner = fit(model, clouds(train_size=40), max_epochs=2, accumulate_grad_batches=2, callbacks=[steps])
    assert runner.global_step == 6  # 2 + 2 + 1 batches, twice
    assert len(steps.of("discriminator")) == 6


def test_nothing_of_a_step_is_left_for_the_next(adversary, fit):
    """The discriminator's gradients of the generator's turn would be, were it not frozen."""
    model = adversary("GAN")
    seen = []

    class Look(Callback):
        def on_train_batch_end(self, *_):
            seen.extend(p.grad for p in model.parameters() if p.grad is not None)
            assert all(p.requires_grad for p in model.discriminator.parameters())

    fit(model, callbacks=[Look()])
    assert not any(gradient.any() for gradient in seen)


# ── precision ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@every
@pytest.mark.parametrize("loss", [None, WassersteinLoss()])
def test_half_precision_trains(name, loss, adversary, clouds, fit):
    if name == "EBGAN" and loss:
        pytest.skip("an EBGAN has one game")
    model = adversary(name, **({"loss": loss} if loss else {}))
    start = {player: flat(getattr(model, player)) for player in ("generator", "discriminator")}
    runner = fit(model, clouds(train_size=24), precision="bf16-mixed", limit_val_batches=1)
    for player, before in start.items():
        after = flat(getattr(model, player))
        assert after.dtype == torch.float32
        assert torch.isfinite(after).all()
        assert not torch.equal(after, before)
    assert all(math.isfinite(value) for value in runner.callback_metrics.values())


@every
def test_double_precision_trains(name, adversary, fit):
    model = adversary(name)
    fit(model, precision="64-true", gradient_clip_val=1.0)
    assert flat(model.generator).dtype == torch.float64
    assert torch.isfinite(flat(model)).all()


def on_scaled_half_precision():
    """float16 with a loss scale, as on a GPU, on the CPU."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**12))


@pytest.mark.parametrize("name", ["GAN", "LatentGAN"])
def test_clipping_and_norms_are_of_gradients_without_the_loss_scale(name, adversary, fit):
    logged = []
    for plugins in (None, on_scaled_half_precision()):
        runner = fit(adversary(name), max_steps=2, limit_val_batches=0, plugins=plugins, gradient_clip_val=0.01)
        logged.append({key: value.item() for key, value in runner.callback_metrics.items() if "norm" in key})
        assert all(value > 0.02 for value in logged[-1].values())
    assert logged[1] == pytest.approx(logged[0], rel=2e-2)


def test_a_step_that_overflows_is_left_out_of_the_mean_norm(adversary, fit):
    """The EBGAN's sums of squares, times the loss scale, are too large for half precision at first."""
    model = adversary("EBGAN", warmup_steps=0, margin=5.0)
    plugin = on_scaled_half_precision()
    runner = fit(model, plugins=plugin, limit_val_batches=0, max_epochs=4)
    assert plugin.scaler.get_scale() < 2**12
    norms = [value for key, value in runner.callback_metrics.items() if "norm" in key]
    assert len(norms) == 2
    assert all(0 < norm < math.inf for norm in norms)
    assert torch.isfinite(flat(model)).all()


# ── schedules ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@every
def test_both_schedules_step_once_an_epoch(name, adversary, fit):
    seen = []

    class Rates(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            seen.append([o.param_groups[0]["lr"] for o in trainer.optimizers])

    slower = functools.partial(torch.optim.Adam, lr=8e-4)
    model = adversary(name, lr_scheduler=HALVE, discriminator_optimizer=slower, discriminator_steps=4)
    fit(model, max_epochs=3, callbacks=[Rates()])
    assert seen == [[1e-3, 8e-4], [5e-4, 4e-4], [2.5e-4, 2e-4]]


@pytest.mark.parametrize("monitor", ["val/discriminator_loss", "train/discriminator_loss"])
def test_a_schedule_that_waits_for_progress(monitor, adversary, fit):
    never = functools.partial(ReduceLROnPlateau, monitor=monitor, patience=0, threshold=1e9, threshold_mode="abs")
    runner = fit(adversary("GAN", lr_scheduler=functools.partial(never, factor=0.5)), max_epochs=3)
    # The first value is the best there is; the second and the third do not beat it.
    assert [o.param_groups[0]["lr"] for o in runner.optimizers] == [2.5e-4] * 2


def test_a_schedule_that_waits_for_what_is_not_logged_says_what_is(adversary, fit):
    schedule = functools.partial(torch.optim.lr_scheduler.ReduceLROnPlateau)  # Lightning's default name: val/loss
    with pytest.raises(ConfigurationError, match=r"val/loss.*val/discriminator_loss"):
        fit(adversary("GAN", lr_scheduler=schedule))


# ── one fit after another ─────────────────────────────────────────────────────────────────────────────────────────────


@every
def test_fit_validate_test_and_fit_again(name, adversary, clouds, fit):
    model, data = adversary(name), clouds()
    runner = fit(model, data)
    (validated,) = runner.validate(model, data, verbose=False)
    (tested,) = runner.test(model, data, verbose=False)
    assert {key.removeprefix("val/") for key in validated} == {key.removeprefix("test/") for key in tested}
    assert runner.global_step == 6
    after_one = flat(model)
    runner.fit_loop.max_epochs = 2
    runner.fit(model, data)
    assert runner.global_step == 12
    assert not torch.equal(flat(model), after_one)
    again = fit(model, data, accumulate_grad_batches=2, gradient_clip_val=1.0)  # another trainer, with other options
    assert again.global_step == 3
    assert model.generator_steps == {"GAN": 15, "LatentGAN": 15, "EBGAN": 4 + 6 + 1}[name]


def test_a_checkpoint_that_would_never_be_written_is_refused(adversary, fit, tmp_path):
    saver = ModelCheckpoint(tmp_path, train_time_interval=dt.timedelta(minutes=5))
    with pytest.raises(ConfigurationError, match=r"train_time_interval.*GAN: give every_n_train_steps"):
        fit(adversary("GAN"), enable_checkpointing=True, callbacks=[saver])


def test_strategies_that_shard_are_refused(adversary):
    model = adversary("GAN")
    runner = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    model.trainer = runner
    runner.strategy.connect(model)
    model.setup("fit")
    assert isinstance(runner.strategy, SingleDeviceStrategy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(runner), "strategy", FSDPStrategy())
        with pytest.raises(ConfigurationError, match=r"FSDPStrategy shards models.*trainer\.strategy to ddp"):
            model.setup("fit")
