"""NaN and infinity in trainings of models as small as can be: what is stopped, left out, said and kept."""

import copy
import functools
import json
import math
import re
import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins import MixedPrecision
from torch import nn

import pcgen
from pcgen.base import GenerativeModel
from pcgen.callbacks import NumericalHealth
from pcgen.datamodules import Shapes
from pcgen.datamodules._loading import TrainSampler
from pcgen.errors import ConfigurationError, DataError, DivergenceError
from pcgen.losses import NonSaturatingLoss
from pcgen.models import GAN, VAE, GenerativePointNet, PointNetClassifier
from pcgen.nets import MLPDecoder, PointNetEncoder, PointNetScore

ADAM = functools.partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1)
BAD = 4  # the step, the second of the second epoch

MODELS = {
    "VAE": lambda: VAE(PointNetEncoder((8, 16)), MLPDecoder(4, 32, (16,)), optimizer=ADAM),
    "GAN": lambda: GAN(
        MLPDecoder(4, 32, (16,)),
        PointNetEncoder((8, 16), (8,), batch_norm=False),
        NonSaturatingLoss(),
        optimizer=ADAM,
        discriminator_optimizer=functools.partial(torch.optim.RMSprop, lr=1e-3, weight_decay=0.1, momentum=0.9),
    ),
    "PointNetClassifier": lambda: PointNetClassifier(PointNetEncoder((8, 16), (12,)), num_classes=3, optimizer=ADAM),
}
every_model = pytest.mark.parametrize("name", MODELS)


class Layers(GenerativeModel):
    """Layers on the clouds' first point, and a loss of what they give."""

    def __init__(self):
        super().__init__()
        self.net, self.loss = nn.Sequential(nn.Linear(3, 4)), torch.mean
        self.optimizer = functools.partial(torch.optim.SGD, lr=0.01)

    def training_step(self, batch, batch_idx):
        loss = self.loss(self.net(batch.x[:, 0]))
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch.x))
        return loss


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Poison(Callback):
    """Puts NaN into the second cloud of a batch, or makes a weight infinite before it."""

    def __init__(self, *steps, weight=None, rank=0):
        self.steps, self.weight, self.rank = steps, weight, rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx in self.steps and trainer.global_rank == self.rank:
            if self.weight is None:
                batch.x[1, 0, 2] = math.nan
            else:
                with torch.no_grad():
                    pl_module.get_parameter(self.weight).view(-1)[0] = math.inf


class LeftOut(Callback):
    """What a skipped step has to equal: an optimizer that is not called, and buffers that are put back."""

    def __init__(self, step, player=None):
        self.step, self.player = step, player

    def on_train_start(self, trainer, pl_module):
        for k, optimizer in enumerate(trainer.optimizers):
            optimizer.step = self.unless(trainer, optimizer.step, k)

    def unless(self, trainer, step, k):
        def stepping(closure=None):
            now = trainer.fit_loop.epoch_loop.total_batch_idx == self.step
            if not now or (self.player is not None and k != self.player):
                return step(closure)
            with torch.enable_grad():
                return closure()

        return stepping

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.buffers = {name: b.clone() for name, b in pl_module.named_buffers()}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.step and self.player is None:
            for name, b in pl_module.named_buffers():
                b.copy_(self.buffers[name])


def shapes():
    return Shapes(
        num_points=32, train_size=24, val_size=6, test_size=6, batch_size=8, classes=["chair", "table", "lamp"]
    )


def train(folder, model, *callbacks, **options):
    """Three epochs of three batches."""
    trainer = pl.Trainer(
        **{"max_epochs": 3, "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks)} | options,
        default_root_dir=folder,
        callbacks=list(callbacks),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    pl.seed_everything(3)
    trainer.fit(model, datamodule=shapes())
    return trainer


def stopped(folder, model, *callbacks, policy="stop", **options):
    with pytest.raises(DivergenceError) as caught:
        train(folder, model, *callbacks, NumericalHealth(policy), **options)
    return str(caught.value)


def made(make):
    torch.manual_seed(0)
    return make()


def state(trainer):
    """Weights, buffers and what the optimizers keep."""
    kept = {f"{k}.{i}.{key}": value for k, optimizer in enumerate(trainer.optimizers)
            for i, of in optimizer.state_dict()["state"].items() for key, value in of.items()}  # fmt: skip
    return trainer.lightning_module.state_dict() | kept


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def report(folder, step=BAD):
    return json.loads((folder / "faults" / f"step_{step:06d}.json").read_text())


def rows_of(batch):
    """The data of a batch of the second epoch."""
    return [list(draw.rows) for draw in second_epoch()][batch]


def second_epoch():
    sampler = TrainSampler(24, 8, seed=shapes().seed)
    sampler.set_epoch(1)
    return sampler


# ── data ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@every_model
def test_stopping_names_the_datum_and_changes_nothing(name, tmp_path):
    model = made(MODELS[name])
    saving = ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1, save_top_k=1, save_on_exception=True)
    said = stopped(tmp_path, model, Poison(BAD), saving)
    before = train(tmp_path / "before", made(MODELS[name]), max_steps=BAD)
    assert_equal(model.state_dict(), before.lightning_module.state_dict())
    rows, names = rows_of(1), shapes().split("train").name
    assert said.startswith(f"step {BAD} of {name}, epoch 1: the loss is not finite, nor are the data of row {rows[1]} ")
    assert f"({names[rows[1]]}) in batch 1; batch 1 has rows {rows[0]}, {rows[1]}, {rows[2]} and 5 more" in said
    assert "policy: skip" in said
    found = report(tmp_path)
    assert found["batches"] == [
        {"process": 0, "batch": 1, "rows": rows, "names": [names[row] for row in rows], "bad_places": [1],
         "bad_rows": [rows[1]], "bad_names": [names[rows[1]]]}
    ]  # fmt: skip
    assert (found["action"], found["epoch"], found["losses"][0][0]) == ("stopped", 1, "nan")
    assert_equal(pcgen.load(tmp_path / "last.ckpt").state_dict(), before.lightning_module.state_dict())


@every_model
@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 0.5}])
def test_a_skipped_step_is_one_that_was_not_made(name, options, tmp_path):
    with pytest.warns(UserWarning, match=f"step {BAD} of {name}, epoch 1: the loss is not finite.* is left out") as w:
        skipping = train(tmp_path, made(MODELS[name]), Poison(BAD), NumericalHealth("skip"), **options)
    assert sum("left out" in str(x.message) for x in w) == 1
    reference = train(tmp_path, made(MODELS[name]), LeftOut(BAD, 1 if name == "GAN" else None), **options)
    assert_equal(state(skipping), state(reference))
    assert skipping.global_step == 9
    assert skipping.callback_metrics["train/skipped_steps"] == 1
    assert report(tmp_path)["action"] == "skipped"


def test_the_epochs_means_forget_a_skipped_step(tmp_path):
    class Means(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            self.found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("train/")}

    for name in ("VAE", "GAN"):
        means = Means()
        with pytest.warns(UserWarning, match="left out"):
            train(tmp_path, made(MODELS[name]), Poison(BAD), NumericalHealth("skip"), means, max_epochs=2)
        assert len(means.found) > 3
        assert all(math.isfinite(value) for value in means.found.values()), means.found
    model, means = made(Layers), Means()
    seen = []
    model.loss = lambda y: seen.append(y.mean().detach()) or y.mean()
    with pytest.warns(UserWarning, match="left out"):
        train(tmp_path, model, Poison(1), NumericalHealth("skip"), means, max_epochs=1)
    assert means.found["train/loss"] == pytest.approx(float(sum(v for v in seen if v.isfinite()) / 2))


def test_several_skips_in_a_row_stop(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DivergenceError, match=r"step 3 of Layers.*more than 2 steps in a row"):
            train(tmp_path, Layers(), Poison(1, 2, 3), NumericalHealth("skip", max_skips=2))
        done = train(tmp_path, Layers(), Poison(1, 2, 4, 5), NumericalHealth("skip", max_skips=2))
    assert done.global_step == 9


def test_accumulated_batches_are_one_step(tmp_path):
    options = {"accumulate_grad_batches": 3, "gradient_clip_val": 0.1}
    with pytest.warns(UserWarning, match="step 1 of VAE, epoch 1: .* in batch 1; batch 0 has rows"):
        skipping = train(tmp_path, made(MODELS["VAE"]), Poison(BAD), NumericalHealth("skip"), **options)
    assert [batch["bad_places"] for batch in report(tmp_path, 1)["batches"]] == [None, [1], None]
    assert skipping.global_step == 3
    assert all(value.isfinite().all() for value in state(skipping).values())
    fewer = train(tmp_path, made(MODELS["VAE"]), max_epochs=1, **options)
    once = [o.state_dict()["state"][0]["step"] for o in (*fewer.optimizers, *skipping.optimizers)]
    assert once == [1, 2]


def test_a_guarded_model_goes_by_its_own_guard(tmp_path):
    def energy():
        return GenerativePointNet(PointNetScore((8,), (8,)), 32, steps=2, step_size=0.1, optimizer=ADAM)

    found = []
    for callbacks in ([NumericalHealth()], []):
        with pytest.warns(UserWarning, match="back to the weights"):
            runner = train(tmp_path, made(energy), Poison(BAD), *callbacks, max_epochs=2, limit_val_batches=0)
        found.append(runner)
    assert_equal(state(found[0]), state(found[1]))
    assert not (tmp_path / "faults").exists()


# ── where it began ────────────────────────────────────────────────────────────────────────────────────────────────────


def zeros(x):
    return 0 * x


@pytest.mark.parametrize(
    ("layers", "loss", "says", "module"),
    [
        (
            [Function(zeros), Function(torch.log)],
            torch.mean,
            "loss .*in net.2 .Function., whose input is finite",
            "net.2",
        ),
        (
            [Function(zeros), nn.Identity(), Function(torch.sqrt)],
            torch.mean,
            "gradient .*net.0.weight and 1 more.*in the way back through net.3 .Function., whose output's gradient is",
            "net.3",
        ),
        (
            [Function(zeros)],
            lambda y: y.sqrt().sum(),
            "gradient .*in the way back through the computation of Layers itself, in the gradient of what net gives",
            "",
        ),
        ([], lambda y: y.mean() / (0 * y.detach().mean()), "in the computation of Layers itself: the loss", ""),
        (
            [],
            lambda y: y.mean() + torch.tensor(math.inf),
            "the loss is not finite, first in the computation of Lay",
            "",
        ),
        ([Function(zeros)], lambda y: y.square().sum() * 1e30 + (1e30 * y).square().sum() * 1e30, None, None),
    ],
)
def test_the_first_module_is_named(layers, loss, says, module, tmp_path):
    model = made(Layers)
    model.net.extend(layers)
    model.loss = loss
    before = copy.deepcopy(model.state_dict())
    if says is None:  # too large for a norm, but finite
        train(tmp_path, model, NumericalHealth(), max_steps=1)
        return
    said = stopped(tmp_path, model)
    assert re.search(f"step 0 of Layers, epoch 0: .*{says}", said), said
    assert report(tmp_path, 0)["module"] == module
    assert_equal(model.state_dict(), before)


def test_what_one_module_gives_the_next_is_of_the_one_around_them(tmp_path):
    class Between(Layers):
        def training_step(self, batch, batch_idx):
            return self.net[1]((1e30 * self.net[0](batch.x[:, 0])).exp()).mean()

    model = Between()
    model.net.append(nn.Linear(4, 2))
    said = stopped(tmp_path, model)
    assert "first in the computation of Between itself, in what it gives to net.1" in said


def test_a_weight_that_is_infinite_stops_either_policy(tmp_path):
    for policy in ("stop", "skip"):
        said = stopped(tmp_path, made(MODELS["VAE"]), Poison(BAD, weight="decoder.layers.0.weight"), policy=policy)
        assert "as the weights were not before this step: decoder.layers.0.weight;" in said
        assert "go on from the last checkpoint" in said
        assert report(tmp_path)["module"] == "decoder.layers.0"


def test_a_weight_that_no_loss_shows_is_found_at_the_epochs_end(tmp_path):
    model = Layers()
    model.unused = nn.Parameter(torch.zeros(2))
    said = stopped(tmp_path, model, Poison(3, weight="unused"))
    assert said.startswith("step 5 of Layers, epoch 1: the weights are not finite after this step: unused")
    model.unused.data.zero_()
    with pytest.raises(DivergenceError, match="step 3 of Layers"):
        train(tmp_path, model, Poison(3, weight="unused"), NumericalHealth(every_n_steps=2))


@every_model
def test_a_huge_learning_rate_leaves_the_last_good_checkpoint(name, tmp_path):
    model = made(MODELS[name])
    huge = functools.partial(torch.optim.SGD, lr=1e30)
    model.optimizer = model.discriminator_optimizer = huge
    saving = ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1, save_on_exception=True)
    said = stopped(tmp_path, model, saving)
    assert "first in" in said or "weights" in said
    kept = pcgen.load(tmp_path / "last.ckpt")
    assert all(value.isfinite().all() for value in kept.state_dict().values())


def test_the_generators_turn_alone_is_left_out(tmp_path):
    def spoiled(model, when):
        terms = model.generator_terms

        def generator_terms(n, *, generator=None):
            found = terms(n, generator=generator)
            bad = when and model.trainer.fit_loop.epoch_loop.total_batch_idx == BAD
            return found | ({"loss": found["loss"] * math.nan} if bad else {})

        model.generator_terms = generator_terms
        return model

    with pytest.warns(UserWarning, match="step 5 of GAN, epoch 1: the loss is not finite, first in the computation of"):
        skipping = train(tmp_path, spoiled(made(MODELS["GAN"]), when=True), NumericalHealth("skip"))
    reference = train(tmp_path, spoiled(made(MODELS["GAN"]), when=False), LeftOut(BAD, 0))
    assert_equal(state(skipping), state(reference))


def test_an_average_that_is_not_finite_does_not_get_there(tmp_path):
    """The generator's own running statistics, which the average would take up, go back before it does."""
    model = made(MODELS["GAN"])
    noise, calls = model.noise, []

    def noisy(n, *, generator=None):
        calls.append(n)
        return noise(n, generator=generator) * (math.nan if len(calls) in (5, 6) else 1)

    model.noise = noisy
    with pytest.warns(UserWarning, match="left out"):
        train(tmp_path, model, NumericalHealth("skip"), limit_val_batches=0)
    assert all(value.isfinite().all() for value in model.state_dict().values())


# ── precision ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_loss_scaler_finds_its_scale_and_nan_is_still_a_fault(tmp_path):
    def scaled():
        return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**24))

    model, plugin = made(Layers), scaled()
    start = copy.deepcopy(model.state_dict())
    train(tmp_path, model, NumericalHealth(), plugins=plugin, max_epochs=8)
    assert plugin.scaler.get_scale() < 2**24
    assert not torch.equal(start["net.0.weight"], model.net[0].weight)
    with pytest.raises(DivergenceError, match="nor are the data"):
        train(tmp_path, made(Layers), Poison(BAD), NumericalHealth(), plugins=scaled())
    with pytest.warns(UserWarning, match="left out"):
        train(tmp_path, made(Layers), Poison(BAD), NumericalHealth("skip"), plugins=scaled())


def test_bfloat16_is_watched_too(tmp_path):
    with pytest.warns(UserWarning, match="left out"):
        done = train(tmp_path, made(MODELS["VAE"]), Poison(BAD), NumericalHealth("skip"), precision="bf16-mixed")
    assert all(value.isfinite().all() for value in state(done).values())


# ── healthy trainings, arguments, evaluation ──────────────────────────────────────────────────────────────────────────


@every_model
def test_a_healthy_training_is_as_without(name, tmp_path):
    with_it = train(tmp_path, made(MODELS[name]), NumericalHealth("skip", every_n_steps=1))
    assert_equal(state(with_it), state(train(tmp_path, made(MODELS[name]))))
    assert not (tmp_path / "faults").exists()
    assert not {"training_step", "generator_terms"} & vars(with_it.lightning_module).keys()


def test_other_errors_of_a_step_are_not_touched(tmp_path):
    def wrong(y):
        raise DataError("a shape does not fit")

    model = Layers()
    model.loss = wrong
    with pytest.raises(DataError, match=r"^a shape does not fit$"):
        train(tmp_path, model, NumericalHealth("skip"))


def test_the_count_goes_on_with_the_checkpoint():
    first, second = NumericalHealth("skip"), NumericalHealth("skip")
    first.skipped = 3
    second.load_state_dict(first.state_dict())
    assert second.skipped == 3


def test_a_validation_that_is_not_finite_is_told_once(tmp_path):
    class Judged(Layers):
        def validation_step(self, batch, batch_idx):
            self.log("val/loss", self.net(batch.x[:, 0]).mean() * math.nan)

    with pytest.warns(UserWarning, match="epoch 0: val/loss is not finite, of data that are; the training goes") as w:
        train(tmp_path, Judged(), NumericalHealth())
    assert sum("val/loss" in str(x.message) for x in w) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"policy": "go"}, "policy is 'go'"), ({"max_skips": -1}, "max_skips is -1"), ({"every_n_steps": -2}, "is -2")],
)
def test_arguments_out_of_range_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        NumericalHealth(**arguments)


# ── checkpoints ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_checkpoint_is_written_of_what_is_not_finite(tmp_path):
    trainer = train(tmp_path, made(MODELS["VAE"]), max_epochs=1)
    model, path = trainer.lightning_module, tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    good = path.read_bytes()
    moments = next(iter(trainer.optimizers[0].state.values()))
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm1d))
    for tensor, says in (
        (norm.running_var, "running_var holds NaN"),
        (model.decoder.layers[0].weight.data, r"decoder\.layers\.0\.weight holds NaN"),
        (moments["exp_avg"], "exp_avg of parameter 0 in optimizer 0 holds"),
    ):
        before = tensor.clone()
        tensor.view(-1)[-1] = math.nan
        with pytest.raises(DivergenceError, match=f"after step 3: .*{says}.*go on from the last"):
            trainer.save_checkpoint(path)
        assert path.read_bytes() == good
        assert [file.name for file in tmp_path.iterdir()] == ["model.ckpt"]
        tensor.copy_(before)
    moments["exp_avg_sq"].view(-1)[0] = math.inf  # that weight stands still; the others are well
    trainer.save_checkpoint(path)


def test_rows_are_what_is_drawn():
    for rank in range(3):
        sampler = TrainSampler(50, 6, num_replicas=3, rank=rank, seed=2)
        for epoch in (0, 7):
            sampler.set_epoch(epoch)
            drawn = [draw.rows.tolist() for draw in sampler]
            sampler.set_epoch(99)
            assert drawn == [sampler.rows(epoch, k).tolist() for k in range(len(drawn))]
            with pytest.raises(IndexError, match="batches 0 to 2, not 3"):
                sampler.rows(epoch, 3)


# ── two processes ─────────────────────────────────────────────────────────────────────────────────────────────────────

SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[2])
import test_numerical_health as here, torch, warnings
from pathlib import Path
for name in ("VAE", "GAN"):
    folder = Path(sys.argv[1]) / name
    folder.mkdir(exist_ok=True)
    options = {"devices": 2, "strategy": "ddp", "limit_val_batches": 0, "max_epochs": 2}
    try:
        here.train(folder, here.made(here.MODELS[name]), here.Poison(2, rank=1), here.NumericalHealth(), **options)
    except here.DivergenceError as error:
        (folder / f"stop_{os.environ['RANK']}.txt").write_text(str(error))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = here.train(folder, here.made(here.MODELS[name]), here.Poison(2, rank=1), here.NumericalHealth("skip"),
                          **options)
    said = [str(w.message) for w in caught if "left out" in str(w.message)]
    torch.save((done.lightning_module.state_dict(), said, done.callback_metrics), folder / f"{done.global_rank}.pt")
"""


def test_two_processes_decide_alike(tmp_path, together):
    together(SCRIPT, [tmp_path, Path(__file__).parent], tmp_path)
    for name in ("VAE", "GAN"):
        (first, said, logged), (second, silent, _) = (torch.load(tmp_path / name / f"{k}.pt") for k in (0, 1))
        weights = [key for key in first if "running" not in key]
        assert_equal({key: first[key] for key in weights}, {key: second[key] for key in weights})
        assert all(value.isfinite().all() for value in (*first.values(), *second.values()))
        assert (len(said), silent, logged["train/skipped_steps"]) == (1, [], 1)
        assert "on process 0 has rows" in said[0]
        found = report(tmp_path / name, 2)
        assert [(batch["process"], batch["bad_places"]) for batch in found["batches"]] == [(0, None), (1, [1])]
        samplers = [TrainSampler(24, 8, num_replicas=2, rank=k, seed=shapes().seed) for k in (0, 1)]
        assert [batch["rows"] for batch in found["batches"]] == [s.rows(1, 0).tolist() for s in samplers]
        stops = [(tmp_path / name / f"stop_{k}.txt").read_text() for k in (0, 1)]
        assert stops[0] == stops[1]
        assert stops[0].startswith(f"step 2 of {name}, epoch 1: the loss is not finite, nor are the data of row ")
