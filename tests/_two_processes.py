"""What each of two processes does with every model of the zoo; `test_distributed.py` starts them and looks at it.

    python _two_processes.py gradients,training FOLDER [NAME …]

The processes are started as torchrun starts them: the environment says who they are.
"""

import contextlib
import functools
import os
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parent))
import test_zoo

from pcgen.base import Batch, GenerativeModel
from pcgen.losses import Capacity

B = 8  # the whole batch
SGD = functools.partial(torch.optim.SGD, lr=1e-4)


def launch(words, folder):
    """Run a script in two processes that find each other, within 200 s; give what they had to say."""
    import socket
    import subprocess

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    told = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "two",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}  # fmt: skip
    errors = [folder / f"errors-{rank}.txt" for rank in (0, 1)]
    runs = []
    try:
        for rank, errors_of_rank in enumerate(errors):
            environment = os.environ | {k: str(v) for k, v in (told | {"RANK": rank, "LOCAL_RANK": rank}).items()}
            with errors_of_rank.open("w") as stream:
                runs.append(subprocess.Popen([sys.executable, *words], stdout=stream, stderr=stream, env=environment))
        for run in runs:
            run.wait(timeout=200)
    except subprocess.TimeoutExpired:
        pass
    finally:
        for run in runs:
            run.kill()
    said = [file.read_text() for file in errors]
    assert [run.wait() for run in runs] == [0, 0], "\n".join(text[-3000:] for text in said)
    return said


# ── gradients of a step ───────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def noise_of_all(rank, world_size):
    """Let a draw of b rows be this rank's rows of a draw of W·b: then both sides compute with the same numbers."""
    share = B // world_size

    def sharing(draw):
        def drawn(*size, **options):
            size = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
            if share not in size:
                return draw(*size, **options)
            place = size.index(share)  # (m, b, Z) has its rows in the second place
            return draw(*size[:place], B, *size[place + 1 :], **options).narrow(place, rank * share, share)

        return drawn

    def integers(*bounds_and_size, **options):
        *bounds, size = bounds_and_size
        if share not in size:
            return randint(*bounds, size, **options)
        return randint(*bounds, (B, *size[1:]), **options)[rank * share : (rank + 1) * share]

    def order(n, **_):
        return torch.arange(n).roll(-rank * share)  # its first rows are the next process's on the next rank

    randn, rand, randint, randperm = torch.randn, torch.rand, torch.randint, torch.randperm
    torch.randn, torch.rand, torch.randint, torch.randperm = sharing(randn), sharing(rand), integers, order
    try:
        yield
    finally:
        torch.randn, torch.rand, torch.randint, torch.randperm = randn, rand, randint, randperm


class Gradients(pl.Callback):
    """Keeps the gradients of every optimizer's step, and batch normalisation as it is."""

    def __init__(self):
        self.found = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for module in pl_module.modules():
            if isinstance(module, _BatchNorm):
                module.eval()

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.found.append(
            {name: p.grad.clone() for name, p in pl_module.named_parameters() if id(p) in stepped and p.grad is not None}
        )


def step_generator(self, batch_idx=0):
    """Give every process the same generator."""
    return torch.Generator().manual_seed(1000 + 10 * self.trainer.global_step + batch_idx)


def gradients(name, rank=0, world_size=1):
    """Give the gradients of the steps of three batches, each the fixed one of eight data or this process's share."""
    torch.manual_seed(0)
    model = test_zoo.SMALL[name]()
    model.optimizer = model.discriminator_optimizer = SGD  # Adam would make much of what is nearly nothing
    data = test_zoo.data(name)
    whole = data.take("train", B)
    _between(model, whole)
    share = slice(rank * B // world_size, (rank + 1) * B // world_size)
    part = Batch(*(None if t is None else t[share].contiguous() for t in whole))
    data.train_dataloader = lambda: DataLoader([part] * 3, batch_size=None)
    kept = Gradients()
    devices = {"devices": world_size, "strategy": "ddp" if world_size > 1 else "auto"}
    runner = test_zoo.trainer(None, callbacks=[kept], enable_checkpointing=False, limit_val_batches=0,
                              use_distributed_sampler=False, **devices)  # fmt: skip
    before, GenerativeModel.step_generator = GenerativeModel.step_generator, step_generator
    try:
        with noise_of_all(rank, world_size):
            runner.fit(model, data)
    finally:
        GenerativeModel.step_generator = before
    return kept.found


def _between(model, whole):
    """Set a capacity between the KL of the first half and that of the second: |KL − C| then is no mean."""
    if not isinstance(getattr(model, "schedule", None), Capacity):
        return
    with torch.no_grad():
        model.eval()
        first, second = (model.terms(half)["kl"].item() for half in whole.x.chunk(2))
        model.train()
    target = min(first, second) + 0.25 * abs(first - second)
    model.schedule = Capacity(target, target, model.schedule.gamma, end_step=0)


# ── fit, validate, test ───────────────────────────────────────────────────────────────────────────────────────────────


def training(name, folder):
    """Fit two epochs with validation and a checkpoint, validate and test; give the ends of it all."""
    torch.manual_seed(0)
    model, data = test_zoo.SMALL[name](), test_zoo.data(name)
    runner = test_zoo.trainer(
        folder / name, devices=2, strategy="ddp", max_epochs=2, limit_train_batches=2, num_sanity_val_steps=0
    )
    runner.fit(model, data)
    logged = {key: value.clone() for key, value in runner.callback_metrics.items()}
    (validated,) = runner.validate(model, data, verbose=False)
    (tested,) = runner.test(model, data, verbose=False)
    return {
        "weights": {key: value.clone() for key, value in model.state_dict().items()},
        "logged": logged,
        "scores": validated | tested,
        "checkpoint": runner.checkpoint_callback.best_model_path,
        "ddp": dict(runner.strategy._ddp_kwargs),
        "seen": runner.global_step,
    }


if __name__ == "__main__":
    rank, (what, folder, *names) = int(os.environ["RANK"]), sys.argv[1:]
    for name in names or test_zoo.SMALL:
        for kind in what.split(","):
            found = gradients(name, rank, 2) if kind == "gradients" else training(name, Path(folder))
            torch.save(found, Path(folder) / f"{kind}-{name}-{rank}.pt")
