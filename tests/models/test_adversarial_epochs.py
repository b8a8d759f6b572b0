"""Where an epoch of an adversarial training ends, early or in time, and what the next one finds."""

import functools

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, IterableDataset

from pcgen.base import Batch
from pcgen.errors import ConfigurationError, UnsupportedOperationError
from pcgen.models import LatentGAN

HALVE = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)


class StopAfter(Callback):
    """Stops the training after so many batches."""

    def __init__(self, batches):
        self.batches = batches

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = batch_idx + 1 == self.batches


def rates(runner):
    return [optimizer.param_groups[0]["lr"] for optimizer in runner.optimizers]


@pytest.mark.parametrize("step", [6, 12])
def test_resuming_from_an_epochs_last_batch_equals_never_stopping(step, adversary, fit, tmp_path):
    def run(seed, folder, **options):
        saver = ModelCheckpoint(tmp_path / folder, "{step}", every_n_train_steps=6, save_top_k=-1)
        model = adversary("GAN", seed=seed, lr_scheduler=HALVE)
        return fit(model, max_epochs=3, enable_checkpointing=True, callbacks=[saver], **options)

    whole = run(0, "whole")
    resumed = run(9, "resumed", ckpt_path=tmp_path / "whole" / f"step={step}.ckpt")
    assert resumed.global_step == whole.global_step == 18
    assert rates(resumed) == rates(whole) == [1.25e-4] * 2
    weights, others = whole.lightning_module.state_dict(), resumed.lightning_module.state_dict()
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []


@pytest.mark.parametrize("options", [{"max_steps": 3}, {"callbacks": [StopAfter(3)]}])
def test_an_unfinished_epoch_does_not_step_the_schedules(options, adversary, fit):
    runner = fit(adversary("GAN", lr_scheduler=HALVE), max_epochs=2, **options)
    assert runner.global_step == 3
    assert rates(runner) == [1e-3] * 2


def test_a_generator_that_waits_for_epochs_is_no_cause_for_a_warning(adversary, fit, recwarn):
    runner = fit(adversary("EBGAN", lr_scheduler=HALVE, warmup_steps=8), max_epochs=2)
    assert rates(runner) == [2.5e-4] * 2
    assert not [str(w.message) for w in recwarn if "lr_scheduler" in str(w.message)]


def test_a_callback_may_wait_for_the_means_of_an_epoch_that_another_stopped(adversary, fit, tmp_path):
    saver = ModelCheckpoint(tmp_path, monitor="train/discriminator_loss")
    runner = fit(adversary("GAN"), enable_checkpointing=True, callbacks=[StopAfter(3), saver])
    assert saver.best_model_score == runner.callback_metrics["train/discriminator_loss"]
    assert runner.callback_metrics["train/generator_steps"] == 3


class Endless(IterableDataset):
    """Batches without a length."""

    def __iter__(self):
        noise = torch.Generator().manual_seed(0)
        while True:
            yield Batch(torch.randn(8, 16, 3, generator=noise))


def test_data_without_a_length_in_epochs_of_so_many_batches(adversary, quiet_trainer, tmp_path):
    model = adversary("GAN", lr_scheduler=HALVE)
    runner = quiet_trainer(tmp_path, max_epochs=2, limit_train_batches=5, accumulate_grad_batches=3)
    runner.fit(model, DataLoader(Endless(), batch_size=None))
    assert runner.global_step == model.generator_steps == 4  # three batches and two, twice
    assert rates(runner) == [2.5e-4] * 2
    assert runner.callback_metrics["train/generator_steps"] == 4


@pytest.mark.parametrize(("scope", "told"), [("none", 0), ("shape", 1)])
def test_a_latent_gan_tells_of_data_normalised_otherwise(scope, told, adversary, clouds, fit, recwarn):
    model = adversary("LatentGAN")
    fit(model.autoencoder.requires_grad_(), clouds())
    recwarn.clear()
    fit(LatentGAN(model.autoencoder, (8,), (8,), noise_dim=4), clouds(scope=scope))
    texts = [str(w.message) for w in recwarn if "normalised otherwise" in str(w.message)]
    assert len(texts) == told
    assert all("scope shape instead of none" in text for text in texts)


@pytest.mark.parametrize("name", ["LatentGAN", "EBGAN"])
def test_prediction_reconstructs_where_the_model_can(name, adversary, clouds, quiet_trainer, tmp_path):
    model, data = adversary(name), clouds()
    predicted = torch.cat(quiet_trainer(tmp_path).predict(model, data))
    torch.testing.assert_close(predicted, model.reconstruct(data.take("test").x))


def test_prediction_says_which_models_can(adversary, clouds, quiet_trainer, tmp_path):
    with pytest.raises(UnsupportedOperationError, match=r"GAN cannot reconstruct; models that can: .*LatentGAN"):
        quiet_trainer(tmp_path).predict(adversary("GAN"), clouds())


def test_an_average_in_half_precision_is_refused(adversary, fit):
    with pytest.raises(ConfigurationError, match=r"precision is bf16-true.*decay 0\.999.*ema_decay to null"):
        fit(adversary("GAN"), precision="bf16-true")
    runner = fit(adversary("GAN", ema_decay=None), precision="bf16-true")
    assert runner.global_step == 6


def test_a_run_that_diverged_is_no_victory_of_the_discriminator(adversary):
    means = {"hinge_share": 0.0, "energy_real": 1.0, "energy_fake": 9.0}
    model = adversary("EBGAN")
    assert "wins outright" in model.defeat(means)
    assert model.defeat(means | {"energy_fake": torch.nan}) is None
