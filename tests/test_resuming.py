"""A training that goes on from any step's checkpoint is, to the last bit, one that was never stopped."""
# ruff: noqa: NPY002 -- NumPy's global generator is what some of it is about

import functools
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping
from torch import nn

import pcgen
from pcgen.datamodules import Shapes
from pcgen.datamodules.augmentations import Augmentation
from pcgen.models import GAN, VAE
from pcgen.nets import MLPDecoder, PointNetEncoder
from pcgen.training.chance import RandomState, seed_global_generators

HERE = Path(__file__).parent
from _resuming_in_two import NAMES  # noqa: E402
from test_zoo import ADAM, CRITIC, HALVE, SMALL, data, every_model, trainer  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*the posterior has collapsed"),
]


class Diary(Checkpoint):
    """Writes down what happens, and saves a checkpoint wherever anybody may."""

    def __init__(self, folder, points=()):
        self.folder, self.points = folder, points
        self.events, self.saved = [], {}

    def _happens(self, trainer, what):
        if not trainer.sanity_checking:
            logger_step = trainer.fit_loop.epoch_loop._batches_that_stepped
            self.events.append((what, trainer.current_epoch, trainer.global_step, logger_step))

    def _save(self, trainer, when):
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        if (name := f"{when}-{batches}") in self.points:
            trainer.save_checkpoint(self.folder / f"{name}.ckpt")
            self.saved[name] = len(self.events)

    def on_train_epoch_start(self, trainer, _):
        self._happens(trainer, "epoch")

    def on_train_batch_start(self, trainer, _, batch, batch_idx):
        self._happens(trainer, (batch_idx, float(batch.x.double().sum())))

    def on_train_batch_end(self, trainer, _model, _outputs, _batch, batch_idx):
        self._happens(trainer, f"end of batch {batch_idx}")
        self._save(trainer, "batch")

    def on_validation_start(self, trainer, _):
        self._happens(trainer, "validation")

    def on_validation_end(self, trainer, _):
        self._happens(trainer, "end of validation")
        if not trainer.sanity_checking:
            self._save(trainer, "validation")

    def on_train_epoch_end(self, trainer, _):
        self._happens(trainer, "end of epoch")
        self._save(trainer, "epoch")
        trainer.save_checkpoint(self.folder / "final.ckpt")


def run(make, source, folder, seed, points=(), ckpt_path=None, **options):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    diary = Diary(folder, points)
    quiet = {"max_epochs": 2}
    callbacks = [diary, *(make_callback() for make_callback in options.pop("callbacks", ()))]
    runner = trainer(folder, callbacks=callbacks, **(quiet | options))
    runner.fit(make(), source(), ckpt_path=ckpt_path)
    return diary


def differences(a, b, path="checkpoint"):
    """Places at which two nests of dicts, lists, tensors and plain values differ in any bit."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) and a.dtype == b.dtype else [path]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{path}: {a.keys() ^ b.keys()}"]
        return [d for key in a for d in differences(a[key], b[key], f"{path}.{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{path}: {len(a)} and {len(b)}"]
        return [d for i in range(len(a)) for d in differences(a[i], b[i], f"{path}[{i}]")]
    return [] if a == b else [f"{path}: {a} and {b}"]


def final(folder):
    checkpoint = torch.load(folder / "final.ckpt", weights_only=True)
    del checkpoint["callbacks"], checkpoint["pcgen"]["data"]
    return checkpoint


def resume_everywhere(make, source, folder, points, **options):
    """Compare what happens after each checkpoint, and the last checkpoint, with those of a run that was not stopped."""
    whole = run(make, source, folder / "whole", 0, points, **options)
    assert whole.saved.keys() == set(points)
    expected = final(folder / "whole")
    for number, (name, place) in enumerate(whole.saved.items(), 1):
        resumed = run(make, source, folder / name, number, ckpt_path=folder / "whole" / f"{name}.ckpt", **options)
        assert resumed.events == whole.events[place:], name
        assert differences(expected, final(folder / name)) == [], name


AT_AN_EPOCHS_END = {"VAE", "EBGAN", "BetaVAE-capacity-images"}  # something changes there


@every_model
def test_every_model_goes_on_from_the_midst_of_an_epoch(name, tmp_path):
    points = ["batch-2", "batch-3"] if name in AT_AN_EPOCHS_END else ["batch-2"]
    resume_everywhere(SMALL[name], functools.partial(data, name), tmp_path, points)


# ── ways of training ──────────────────────────────────────────────────────────────────────────────────────────────────


class Monitored(torch.optim.lr_scheduler.ReduceLROnPlateau):
    """Steps down with every epoch, whatever the coverage is."""

    monitor = "val/coverage"


PLATEAU = {"patience": 0, "threshold": 10.0, "factor": 0.5}


def vae(schedule=None, interval="epoch"):
    model = VAE(PointNetEncoder((8, 16)), MLPDecoder(4, 32, (16,)), optimizer=ADAM, lr_scheduler=schedule)
    model.schedule_interval = interval
    return model


def gan(schedule=HALVE):
    generator, critic = MLPDecoder(4, 32, (16,)), CRITIC()
    return GAN(generator, critic, discriminator_steps=2, optimizer=ADAM, lr_scheduler=schedule)


def shapes(**arguments):
    """Five batches of clouds."""
    sizes = {"num_points": 32, "train_size": 40, "val_size": 16, "test_size": 8, "stored_points": 64}
    return Shapes(**(sizes | {"batch_size": 8} | arguments), resample=True, classes=["chair", "table", "lamp"])


ENDS = ("batch-5", "validation-5", "epoch-5")
ON_STEPS = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=2, gamma=0.5)
ON_PLATEAUS = functools.partial(torch.optim.lr_scheduler.ReduceLROnPlateau, **PLATEAU)
GAN_ON_PLATEAUS = functools.partial(gan, functools.partial(Monitored, **PLATEAU))

# Model, the data's arguments, where it is stopped, the trainer's options.
WAYS = {
    "schedule-of-epochs": (functools.partial(vae, HALVE), {}, ENDS, {}),
    "plateau": (functools.partial(vae, ON_PLATEAUS), {}, ("batch-3", *ENDS), {}),
    "plateau-of-two-players": (GAN_ON_PLATEAUS, {}, ("batch-3", *ENDS), {}),
    "validation-between": (
        functools.partial(vae, HALVE),
        {"val_size": 24},
        ("batch-2", "validation-2", "batch-9"),
        {"val_check_interval": 2},
    ),
    "validation-across-epochs": (
        vae,
        {},
        ("batch-3", "batch-5", "validation-6"),
        {"val_check_interval": 3, "check_val_every_n_epoch": None},
    ),
    "validation-between-turns": (gan, {}, ("batch-2", "validation-4"), {"val_check_interval": 2}),
    "without-validation": (functools.partial(vae, HALVE), {}, ("batch-5", "epoch-5"), {"limit_val_batches": 0}),
    "part-of-an-epoch": (functools.partial(vae, HALVE), {}, ("batch-3", "batch-4"), {"limit_train_batches": 3}),
    "clipped-sums-of-batches": (
        functools.partial(vae, ON_STEPS, "step"),
        {},
        ("batch-1", "batch-2", "batch-5"),  # the first without a step
        {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
    ),
    "clipped-sums-of-two-players": (
        gan,
        {},
        ("batch-1", "batch-5"),
        {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
    ),
    "number-of-steps": (
        functools.partial(vae, HALVE),
        {},
        ("batch-5", "epoch-5"),
        {"max_epochs": -1, "max_steps": 8},
    ),
    "without-the-rest": (vae, {"train_size": 44, "drop_last": True}, ("batch-5",), {}),
    "workers": (vae, {"num_workers": 2}, ("batch-3",), {}),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_training_goes_on(way, tmp_path):
    make, arguments, points, options = WAYS[way]
    resume_everywhere(make, functools.partial(shapes, **arguments), tmp_path, points, **options)


def test_neither_workers_nor_a_logger_change_a_training(tmp_path):
    run(vae, shapes, tmp_path / "plain", 0)
    run(vae, functools.partial(shapes, num_workers=2), tmp_path / "workers", 0)
    run(vae, shapes, tmp_path / "logger", 0, logger=True, log_every_n_steps=1)
    for other in ("workers", "logger"):
        assert differences(final(tmp_path / "plain"), final(tmp_path / other)) == []


class Stopper(Callback):
    """One of a user's own."""

    def on_train_epoch_end(self, trainer, _):
        trainer.should_stop = True


class Broken(Callback):
    """Logs what is not finite."""

    def on_train_epoch_end(self, _, model):
        model.log("broken", float("nan"))


loss = functools.partial(EarlyStopping, "val/loss", patience=99)
IMPATIENT = functools.partial(EarlyStopping, "val/loss", min_delta=1e9)

# What stops a training, and with what it goes on.
STOPS = {
    "patience": ([functools.partial(IMPATIENT, patience=0)], [functools.partial(IMPATIENT, patience=2)]),
    "threshold": ([functools.partial(loss, stopping_threshold=1e9)], [functools.partial(loss, stopping_threshold=0.0)]),
    "divergence": ([functools.partial(loss, divergence_threshold=-1e9)], [loss]),
    "finite": ([Broken, functools.partial(EarlyStopping, "broken")], [Broken]),
    "a user's own": ([Stopper], []),
}


@pytest.mark.parametrize("stop", STOPS)
def test_a_stopped_training_stays_stopped_until_what_stopped_it_is_changed(stop, tmp_path):
    stopping, others = STOPS[stop]
    whole = run(vae, shapes, tmp_path / "whole", 0, callbacks=stopping, max_epochs=4)
    epochs = 2 if stop == "patience" else 1  # a first epoch is always better than none
    assert whole.events[-1][:3] == ("end of epoch", epochs - 1, 5 * epochs)
    path = tmp_path / "whole" / "final.ckpt"
    again = functools.partial(run, vae, shapes, ckpt_path=path, max_epochs=epochs + 1)
    assert again(tmp_path / "again", 1, callbacks=stopping).events == []
    assert again(tmp_path / "on", 2, callbacks=others).events[-1][2] == 5 * (epochs + 1)


class AfterTheEnd(Callback):
    """Saves when all is done, as a ModelCheckpoint with `save_last` does that had saved nothing since a kill."""

    def on_train_end(self, trainer, _):
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "after.ckpt")


def test_a_training_that_had_all_its_epochs_goes_on_with_more(tmp_path):
    patient = functools.partial(EarlyStopping, "val/diversity", patience=99, stopping_threshold=-1.0)
    callbacks = [patient, AfterTheEnd]
    whole = run(GAN_ON_PLATEAUS, shapes, tmp_path / "whole", 0, callbacks=callbacks)
    run(GAN_ON_PLATEAUS, shapes, tmp_path, 0, callbacks=callbacks, max_epochs=1)
    for number, name in enumerate(("final", "after"), 1):
        path, folder = tmp_path / f"{name}.ckpt", tmp_path / name
        more = run(GAN_ON_PLATEAUS, shapes, folder, number, ckpt_path=path, callbacks=callbacks)
        assert more.events == whole.events[-len(more.events) :]
        assert more.events[-1][:3] == ("end of epoch", 1, 10)
        assert differences(final(tmp_path / "whole"), final(folder)) == []


# ── chance ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Careless(VAE):
    """Draws from three generators that everybody shares, in its steps and between them."""

    def __init__(self):
        super().__init__(PointNetEncoder((8, 16)), MLPDecoder(4, 32, (16,)), optimizer=ADAM)
        self.dropout = nn.Dropout(0.3)
        self.register_buffer("walk", torch.zeros(3, dtype=torch.float64))
        self.drawn = []

    def moments(self, x):
        noise = np.random.standard_normal(3) + random.random()
        self.drawn.append(noise)
        return super().moments(self.dropout(x) + torch.from_numpy(0.1 * noise).to(x))

    def on_train_epoch_end(self):
        self.drawn.append(np.random.standard_normal(3) + random.random() + torch.rand(()).item())
        self.walk += torch.from_numpy(self.drawn[-1])


def test_what_is_drawn_from_global_generators_is_repeated(tmp_path):
    resume_everywhere(Careless, shapes, tmp_path, ["batch-2", "batch-5", "validation-5"])


def test_every_step_has_another_chance_and_validating_does_not_change_it(tmp_path):
    models = []

    def make():
        models.append(Careless())
        return models[-1]

    run(make, shapes, tmp_path / "a", 0, limit_val_batches=0)
    run(make, shapes, tmp_path / "b", 0, val_check_interval=1, num_sanity_val_steps=0)
    drawn, validating = ([tuple(noise) for noise in model.drawn] for model in models)
    assert len(set(drawn)) == len(drawn) == 12
    assert [noise for noise in validating if noise in drawn] == drawn
    assert len(set(validating)) == 14  # the two batches of every validation have the same chance each time


def test_training_leaves_the_process_with_the_chance_that_it_had(tmp_path):
    run(Careless, shapes, tmp_path, 3)
    after = torch.rand(2), np.random.rand(2), random.random()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    Careless(), shapes()
    assert torch.equal(after[0], torch.rand(2))
    assert (after[1] == np.random.rand(2)).all()
    assert after[2] == random.random()


class Shift(Augmentation):
    """One of a user's own, that knows nothing of generators."""

    def __call__(self, x, *, generator=None, up_axis=None):
        return x + float(np.random.standard_normal()) + torch.rand(3)


def test_an_augmentation_may_draw_from_global_generators(tmp_path):
    shifted = functools.partial(shapes, augment=[Shift()])
    resume_everywhere(vae, shifted, tmp_path, ["batch-2"])
    run(vae, functools.partial(shifted, num_workers=2), tmp_path / "workers", 0)
    assert differences(final(tmp_path / "whole"), final(tmp_path / "workers")) == []


def test_states_of_the_global_generators_are_plain_and_come_back():
    seed_global_generators(("a", 1))
    random.gauss(0, 1), np.random.standard_normal()  # both keep a second number for the next call
    state = RandomState(torch.device("cpu")).state_dict()

    def draw():
        return torch.rand(3).tolist(), np.random.standard_normal(3).tolist(), random.gauss(0, 1), random.random()

    first = draw()
    RandomState.of(state, torch.device("cpu")).restore()
    assert draw() == first
    seed_global_generators(("a", 2))
    assert draw() != first


# ── two processes ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def both(tmp_path_factory, together):
    """The folder of what either process had in the end, and what the first one said."""
    folder = tmp_path_factory.mktemp("two")
    said = together(HERE / "_resuming_in_two.py", [folder], folder)
    return folder, said


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_go_on_as_if_never_stopped(name, both):
    folder, _ = both
    for rank in (0, 1):
        whole, resumed = (torch.load(folder / f"{name}-{kind}-{rank}.pt") for kind in ("whole", "resumed"))
        assert differences(whole, resumed) == []
    checkpoint = torch.load(folder / f"{name}-whole.ckpt", weights_only=True)
    assert len(checkpoint["pcgen_ranks"]) == 2
    chances = [state["random"]["torch"] for state in checkpoint["pcgen_ranks"]]
    assert not torch.equal(*chances)


def test_the_chains_of_every_process_are_in_the_checkpoint(both):
    folder, _ = both
    path = folder / "GenerativePointNet-persistent-whole.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    first, second = checkpoint["state_dict"]["start.chains"], checkpoint["pcgen_ranks"][1]["model"]["chains"]
    assert first.any()
    assert second.any()
    assert not torch.equal(first, second)
    assert torch.equal(pcgen.load(path).start.chains, first)


def test_a_process_that_saves_alone_says_so_and_waits_for_nobody(both):
    _, said = both
    assert "STATES [True, False]" in said[0]
    assert said[0].count("did not save a checkpoint at the same time") == 2  # of two of them


def test_a_process_without_its_state_is_told(both, tmp_path):
    made = torch.load(both[0] / "alone.ckpt", weights_only=True)
    made["pcgen_ranks"].reverse()  # now it is the first one's that is lacking
    torch.save(made, tmp_path / "alone.ckpt")
    with pytest.warns(UserWarning, match=r"does not hold the state of process 0"):
        run(SMALL["VAE"], functools.partial(data, "VAE"), tmp_path, 0, ckpt_path=tmp_path / "alone.ckpt")


def test_processes_that_go_on_from_different_steps_are_refused_before_they_compute(both):
    for rank in (0, 1):
        said, validated = torch.load(both[0] / f"found-{rank}.pt")["apart"]
        assert f"from different steps, 0 to 1 (this one, rank {rank}, from {1 - rank})" in said
        assert validated == []


def test_what_is_not_finite_in_one_process_is_refused_by_both(both):
    first, second = (torch.load(both[0] / f"found-{rank}.pt")["spoiled"] for rank in (0, 1))
    assert len(first) == len(second) == 2
    assert all("process 1 holds NaN or infinity" in said for said in first)
    assert all("running_mean holds NaN or infinity" in said for said in second)
    assert not (both[0] / "spoiled.ckpt").exists()


def test_callbacks_see_one_model_at_an_epochs_end(both):
    first, second = (torch.load(both[0] / f"found-{rank}.pt")["seen"] for rank in (0, 1))
    assert any("running_mean" in name for name in first)
    assert differences(first, second) == []


def test_another_number_of_processes_is_told(both, tmp_path):
    path = both[0] / "GenerativePointNet-persistent-whole.ckpt"
    with pytest.warns(UserWarning, match=r"is of a training in 2 process\(es\) and goes on in 1"):
        run(SMALL["GenerativePointNet-persistent"], functools.partial(data, "G"), tmp_path, 0, ckpt_path=path)


def test_a_checkpoint_of_an_older_version_goes_on(tmp_path):
    make, source = SMALL["GAN"], functools.partial(data, "GAN")
    run(make, source, tmp_path, 0, ["batch-2"])
    checkpoint = torch.load(tmp_path / "batch-2.ckpt", weights_only=True)
    for key in [key for key in checkpoint if key.startswith("pcgen_") and key != "pcgen_noise_seed"]:
        del checkpoint[key]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    expected = final(tmp_path)["state_dict"]
    run(make, source, tmp_path / "resumed", 1, ckpt_path=tmp_path / "old.ckpt")
    assert differences(expected, final(tmp_path / "resumed")["state_dict"]) == []
