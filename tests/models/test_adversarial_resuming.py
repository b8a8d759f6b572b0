"""A training that is killed and resumed ends with exactly the weights of one that never was."""

import functools
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint

import pcgen

HALVE = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
EPOCHS = 3  # of six batches

# Model, its arguments, the trainer's, and the step at which it is killed.
CASES = {
    "GAN": ("GAN", {"discriminator_steps": 2, "lr_scheduler": HALVE}, {}, 9),
    "GAN-from-outside": ("GAN", {"ema_decay": None}, {}, 7),
    "GAN-accumulating": ("GAN", {"lr_scheduler": HALVE}, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}, 4),
    "EBGAN-in-the-warm-up": ("EBGAN", {"warmup_steps": 5}, {}, 3),
    "EBGAN": ("EBGAN", {"warmup_steps": 5, "discriminator_steps": 2, "lr_scheduler": HALVE}, {}, 10),
    "LatentGAN": ("LatentGAN", {"discriminator_steps": 3, "lr_scheduler": HALVE}, {}, 10),
}

# Trains each case in a process of its own, which dies in the midst of it: none gets to clean up after itself.
SCRIPT = """
import json, os, signal, sys, tempfile
sys.path.insert(0, sys.argv[1])
tempfile.tempdir = sys.argv[2] + "/tmp"
import conftest, test_adversarial_resuming as cases

def die(name, folder, pipe):
    if name.endswith("outside"):
        callback = cases.Tell(pipe)
    else:
        callback = cases.Die(cases.CASES[name][3])
    tools = conftest.adversary, conftest.quiet_trainer, conftest.clouds
    cases.train(*tools, name, folder, [callback], seed=0, epochs=99)

for name in cases.CASES:
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            die(name, sys.argv[2] + "/" + name, into)
        finally:
            os._exit(1)
    os.close(into)
    with os.fdopen(out) as lines:
        for line in lines:
            if int(line) == cases.CASES[name][3]:
                os.kill(pid, signal.SIGKILL)
    print("ENDED", json.dumps([name, os.WTERMSIG(os.waitpid(pid, 0)[1])]), flush=True)
"""


class Die(Callback):
    """Kills its own process before a given step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class Tell(Callback):
    """Tells of every step, and goes on."""

    def __init__(self, pipe):
        self.pipe = pipe

    def on_train_batch_end(self, trainer, *_):
        os.write(self.pipe, f"{trainer.global_step}\n".encode())


def train(adversary, quiet_trainer, clouds, name, folder, callbacks=(), *, seed, epochs=EPOCHS, ckpt_path=None):
    kind, arguments, options, _ = CASES[name]
    model = adversary(kind, seed=seed, **arguments)
    saver = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_last=True)
    options = options | {"callbacks": [saver, *callbacks], "enable_checkpointing": True}
    runner = quiet_trainer(folder, max_epochs=epochs, **options)
    runner.fit(model, clouds(), ckpt_path=ckpt_path)
    return runner


@pytest.fixture(autouse=True)
def one_thread():
    """As many as the killed processes have: sums over batches depend on it in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def killed(tmp_path_factory, together):
    """Folders of checkpoints that processes left which were killed, by the case's name."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "tmp").mkdir()
    (said,) = together(SCRIPT, [Path(__file__).parent, folder], folder, 1)
    ended = dict(json.loads(line.split(" ", 1)[1]) for line in said.splitlines() if line.startswith("ENDED"))
    assert ended == dict.fromkeys(CASES, signal.SIGKILL), said[-3000:]
    return folder


def same(a, b):
    """Whether two nests of dicts, lists, tensors and numbers are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_run(one, other):
    assert one.global_step == other.global_step
    weights, others = one.lightning_module.state_dict(), other.lightning_module.state_dict()
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []
    assert same([o.state_dict() for o in one.optimizers], [o.state_dict() for o in other.optimizers])
    schedules = [[c.scheduler.state_dict() for c in runner.lr_scheduler_configs] for runner in (one, other)]
    assert same(*schedules)


@pytest.mark.parametrize("name", CASES)
def test_killed_and_resumed_equals_never_stopped(name, killed, adversary, quiet_trainer, clouds, tmp_path):
    run = functools.partial(train, adversary, quiet_trainer, clouds, name)
    checkpoint = killed / name / "last.ckpt"
    stopped = torch.load(checkpoint, weights_only=True)["global_step"]
    epochs = EPOCHS
    if name.endswith("outside"):  # it went on until it died, perhaps while it wrote a checkpoint
        epochs = stopped // 6 + 2
    else:
        assert stopped == CASES[name][3]
    resumed = run(tmp_path / "resumed", seed=99, epochs=epochs, ckpt_path=checkpoint)  # whatever the process's seed
    whole = run(tmp_path / "whole", seed=0, epochs=epochs)
    assert stopped < whole.global_step
    assert_same_run(resumed, whole)
    if whole.lightning_module.average is not None:
        assert whole.lightning_module.average.updates == whole.lightning_module.generator_steps > 0


def test_a_killed_trainings_checkpoint_loads_and_samples(killed):
    models = [pcgen.load(killed / name) for name in CASES]
    assert all(torch.isfinite(model.sample(2)).all() for model in models)
    assert int(models[-1].generator_steps) == 3


@pytest.mark.parametrize("step", [2, 6])
@pytest.mark.parametrize("name", ["GAN", "LatentGAN", "EBGAN"])
def test_resuming_from_what_a_validation_saved(name, step, adversary, fit, tmp_path):
    """Validation comes before the end of an epoch, at which schedules step: so it does at step 6 of six."""

    def run(seed, epochs=2, **options):
        model = adversary(name, seed=seed, lr_scheduler=HALVE, discriminator_steps=2)
        return fit(model, max_epochs=epochs, val_check_interval=2, enable_checkpointing=True, **options)

    saver = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, save_on_train_epoch_end=False)
    whole = run(0, callbacks=[saver])
    assert_same_run(run(9, ckpt_path=tmp_path / f"step={step}.ckpt"), whole)
