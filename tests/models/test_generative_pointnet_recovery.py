"""Trainings of the energy-based model that diverge: chains run again, weights brought back, and when it is given up."""

import functools
import math

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint

import pcgen
from pcgen.base import Batch
from pcgen.chains import DivergenceGuard, PersistentStart
from pcgen.errors import DivergenceError

ADAM = functools.partial(torch.optim.Adam, lr=1e-3)


def guard(**arguments):
    return DivergenceGuard(**({"resamples": 2, "keep_every": 2} | arguments))


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


class Watch(Callback):
    """Remembers the weights before each batch."""

    def __init__(self):
        self.were = []

    def on_train_batch_start(self, trainer, pl_module, *_):
        self.were.append(weights(pl_module))


class Break(Callback):
    """Spoils the weights before given batches of the training, each once."""

    def __init__(self, *batches, spoil):
        self.batches, self.spoil = list(batches), spoil

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx in self.batches:
            with torch.no_grad():
                self.spoil(pl_module)


def huge(model):
    """An energy with cliffs, at which chains are thrown to the clamp."""
    for parameter in model.score.parameters():
        parameter.normal_().mul_(30)


def not_a_number(model):
    next(model.score.parameters()).fill_(math.nan)


@pytest.mark.filterwarnings("ignore:step .*back to the weights")
@pytest.mark.parametrize("spoil", [huge, not_a_number])
def test_a_forced_divergence_recovers_by_itself(spoil, fit, energy_model, tmp_path):
    class Resamples(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch:
                resampled.append(float(trainer.callback_metrics["train/resamples"]))

    resampled = []  # in the first epoch, which has six steps
    model, watch = energy_model(guard=guard()), Watch()
    runner = fit(model, callbacks=[watch, Break(5, spoil=spoil), Resamples()], max_epochs=2)
    (fault,) = model.guard.history
    assert (fault.step, fault.resamples, fault.restored) == (5, 2, 4)
    assert ("variance" if spoil is huge else "not finite") in fault.reason
    # The step was repeated from the good weights: one step of Adam moves none by much more than its rate.
    for good, after in zip(watch.were[4], watch.were[6], strict=True):
        assert (good - after).abs().max() < 3e-3
    assert runner.callback_metrics["train/rollbacks"] == 1
    assert resampled == [2.0]
    assert runner.global_step == 12
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert model.sample(50, generator=torch.Generator().manual_seed(0)).var() < 0.19
    runner.save_checkpoint(tmp_path / "model.ckpt")
    kept = torch.load(tmp_path / "model.ckpt", weights_only=True)["pcgen_guard"]
    assert kept["history"] == [list(fault)]
    assert len(kept["kept"]) == 2


def test_a_learning_rate_that_was_too_large_for_one_step(fit, energy_model):
    class Spike(Callback):
        def on_train_batch_start(self, trainer, *_):
            rate = 300.0 if trainer.global_step == 4 else 1e-3
            trainer.optimizers[0].param_groups[0]["lr"] = rate

    model = energy_model(guard=guard())
    with pytest.warns(UserWarning, match=r"step 5: .*and 2 resamples did not help; back to the weights of step 4"):
        runner = fit(model, callbacks=[Spike()], max_epochs=2)
    assert [fault.restored for fault in model.guard.history] == [4]
    assert all(p.abs().max() < 10 for p in model.parameters())
    assert all(torch.isfinite(v) for v in runner.callback_metrics.values())


@pytest.mark.filterwarnings("ignore:step .*back to the weights")
def test_a_second_divergence_goes_further_back(fit, energy_model):
    model, watch = energy_model(guard=guard(keep_every=3)), Watch()
    fit(model, callbacks=[watch, Break(7, 8, spoil=huge)], max_epochs=2)
    assert [(fault.step, fault.restored) for fault in model.guard.history] == [(7, 6), (8, 3)]
    for good, after in zip(watch.were[3], watch.were[9], strict=True):
        assert (good - after).abs().max() < 3e-3


@pytest.mark.filterwarnings("ignore:step .*back to the weights")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(precision, fit, energy_model):
    class Poison(Callback):
        def on_after_backward(self, trainer, pl_module):
            if trainer.global_step == 3:
                list(pl_module.parameters())[2].grad[0] = math.nan

    class Check(Watch):
        def on_train_batch_end(self, trainer, pl_module, *_):
            assert all(torch.isfinite(p).all() for p in pl_module.parameters())
            if trainer.global_step == 4:  # not one of them has moved
                assert all(map(torch.equal, weights(pl_module), self.were[3]))

    model = energy_model(guard=guard())
    runner = fit(model, callbacks=[Poison(), Check()], precision=precision)
    (fault,) = model.guard.history
    assert (fault.step, fault.reason, fault.restored) == (4, "the gradient is not finite", 2)
    state = runner.optimizers[0].state_dict()["state"]
    assert all(torch.isfinite(v).all() for each in state.values() for v in each.values())
    assert torch.isfinite(runner.callback_metrics["train/gradient_norm"])


def test_data_that_are_not_finite_end_the_training_and_spare_the_weights(fit, energy_model):
    """Nothing that the guard can bring back helps."""
    model = energy_model(guard=guard(max_rollbacks=1))
    real = model._real
    model._real = lambda batch, rng: real(Batch(batch.x * math.nan), rng)
    with (
        pytest.warns(UserWarning, match="back to the weights"),
        pytest.raises(DivergenceError, match="gradient is not"),
    ):
        fit(model)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_chains_that_were_only_unlucky_are_run_again(fit, energy_model, recwarn):
    model = energy_model(guard=guard())
    chain, calls = model.chain, []

    def unlucky(x, *, generator):
        calls.append(model.trainer.global_step)
        ends = chain(x, generator=generator)
        return ends * 9 if calls.count(3) in (1, 2) and calls[-1] == 3 else ends

    model.chain = unlucky
    runner = fit(model, limit_val_batches=0)
    (fault,) = model.guard.history
    assert (fault.step, fault.resamples, fault.restored) == (3, 2, -1)
    assert calls.count(3) == 3
    assert runner.callback_metrics["train/resamples"] == 2
    assert runner.callback_metrics["train/rollbacks"] == 0
    assert not [w for w in recwarn if "back to the weights" in str(w.message)]


@pytest.mark.filterwarnings("ignore:step .*back to the weights")
def test_too_many_rollbacks_are_an_error(fit, energy_model):
    model = energy_model(guard=guard(max_rollbacks=2))
    message = (
        r"the chains diverge at step 5: the chains' variance is .*, above 0.19, after 2 resamples and 2 rollbacks; "
    )
    with pytest.raises(DivergenceError, match=message):
        fit(model, callbacks=[Break(*range(3, 6), spoil=huge)])
    assert [fault.step for fault in model.guard.history] == [3, 4]


def test_a_divergence_before_any_good_state_is_an_error(fit, energy_model):
    model = energy_model(guard=guard())
    huge_ = torch.no_grad()(huge)
    huge_(model)
    with pytest.raises(DivergenceError, match=r"diverge at step 0: .* after 2 resamples and 0 rollbacks"):
        fit(model, limit_val_batches=0, num_sanity_val_steps=0)


def test_a_loop_without_a_trainer(energy_model):
    """It trains; what diverges there nobody can bring back."""
    model = energy_model(guard=guard(), noise_end=10)
    x = 0.3 * torch.randn(4, 16, 3, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="log"):
        model.training_step(Batch(x), 0).backward()
    assert next(model.parameters()).grad is not None
    torch.no_grad()(huge)(model)
    with pytest.raises(DivergenceError, match="step 0"):
        model.training_step(Batch(x), 0)


@pytest.mark.filterwarnings("ignore:step .*back to the weights")
def test_gradients_of_bad_weights_are_not_accumulated(fit, energy_model):
    """The first of two batches had spoiled weights, whose gradient would be applied to the good ones."""
    seen = []

    class Spoil(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 2:
                for parameter in pl_module.parameters():
                    parameter.grad.fill_(1e6)
                torch.no_grad()(huge)(pl_module)

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            seen.append(max(float(p.grad.abs().max()) for p in pl_module.parameters()))

    model = energy_model(guard=guard())
    fit(model, callbacks=[Spoil()], accumulate_grad_batches=2)
    assert len(model.guard.history) == 1
    assert max(seen) < 1e5


@pytest.mark.filterwarnings("ignore:step .*back to the weights")
def test_a_new_training_has_its_own_history(fit, energy_model):
    """What an earlier one kept is of other weights."""
    model = energy_model(guard=guard())
    fit(model, callbacks=[Break(4, spoil=huge)])
    assert model.guard.rollbacks == 1
    watch = Watch()
    fit(model, callbacks=[watch, Break(1, spoil=huge)])
    assert [(fault.step, fault.restored) for fault in model.guard.history] == [(1, 0)]
    for good, after in zip(watch.were[0], watch.were[2], strict=True):
        assert (good - after).abs().max() < 3e-3


# ── resuming ──────────────────────────────────────────────────────────────────────────────────────────────────────────

HALVE = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=2, gamma=0.9)
CASES = {
    "plain": ({"lr_scheduler": HALVE}, ()),
    "persistent": ({"start": lambda: PersistentStart(12, 0.1), "noise_end": 30}, ()),
    "after a rollback": ({}, (5, 9)),
    "gradient at the stop": ({}, ()),
}


@pytest.mark.filterwarnings("ignore:step .*back to the weights")
@pytest.mark.parametrize("step", [7, 12])
@pytest.mark.parametrize("name", CASES)
def test_stopped_and_resumed_equals_never_stopped(name, step, fit, energy_model, tmp_path):
    arguments, breaks = CASES[name]

    class Poison(Callback):
        def on_after_backward(self, trainer, pl_module):
            if name.startswith("gradient") and trainer.global_step == step - 1:
                next(pl_module.parameters()).grad.fill_(math.nan)

    def run(seed, **options):
        made = arguments | {"start": arguments["start"]()} if "start" in arguments else arguments
        model = energy_model(seed=seed, guard=guard(keep_every=3), **made)
        # Each run spoils its weights in the same way.
        spoil = Break(*breaks, spoil=lambda m: [p.fill_(7.0 * (-1) ** i) for i, p in enumerate(m.score.parameters())])
        callbacks = [spoil, Poison(), *options.pop("callbacks", ())]
        return fit(model, callbacks=callbacks, max_epochs=3, enable_checkpointing=True, **options)

    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=step, save_top_k=-1)
    whole = run(0, callbacks=[saver])
    resumed = run(9, ckpt_path=tmp_path / f"step={step}.ckpt")
    ours, others = whole.lightning_module, resumed.lightning_module
    assert whole.global_step == resumed.global_step == 18
    assert [k for k, v in ours.state_dict().items() if not torch.equal(v, others.state_dict()[k])] == []
    assert ours.guard.history == others.guard.history
    assert len(ours.guard.history) == {"after a rollback": 2, "gradient at the stop": 1}.get(name, 0)
    states = [r.optimizers[0].state_dict() for r in (whole, resumed)]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for key, values in states[0]["state"].items():
        assert all(torch.equal(value, states[1]["state"][key][name]) for name, value in values.items())
    assert torch.equal(*(m.sample(2, generator=torch.Generator().manual_seed(1)) for m in (ours, others)))


def test_a_checkpoint_after_a_rollback_loads(fit, energy_model, tmp_path):
    model = energy_model(guard=guard())
    with pytest.warns(UserWarning, match="back to the weights"):
        runner = fit(model, callbacks=[Break(3, spoil=huge)])
    runner.save_checkpoint(tmp_path / "model.ckpt")
    loaded = pcgen.load(tmp_path / "model.ckpt")
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    assert torch.equal(loaded.sample(2, generator=generators[0]), model.sample(2, generator=generators[1]))
