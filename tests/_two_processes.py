"""What each of two processes does with every model of the zoo; `test_distributed.py` starts them and looks at it.

    python _two_processes.py FOLDER [NAME …]

They are started as torchrun starts them: the environment says who they are.
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
from pcgen.cli.predictions import write_predictions
from pcgen.errors import DataError
from pcgen.losses import Capacity
from pcgen.models import EBGAN, WAE, CNNClassifier, GenerativePointNet, _whole_batch
from pcgen.models._deforming import Deforming
from pcgen.models._two_players import TwoPlayers
from pcgen.ops.processes import all_rows, mean_over_processes, take_from_first

B = 8  # the whole batch
SGD = functools.partial(torch.optim.SGD, lr=1e-9)
PREDICTED = ("Autoencoder", "CNNClassifier", "Autoencoder-images", "GenerativePointNet")

# Models with a term that is no mean over data.
NO_MEANS = (
    "BetaVAE-capacity-images",
    "WAE",
    "WAE-images",
    "EBGAN",
    "EBGAN-images",
    "DeformingAutoencoder",
    "DeformingAutoencoder-learned",
    "DeformingAutoencoder-images",
    "DeformingAutoencoder-intrinsic-images",
    "ClassAwareDeformingAutoencoder-images",
)


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

    randint = torch.randint
    news = {"randn": sharing(torch.randn), "rand": sharing(torch.rand), "randint": integers, "randperm": order}
    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(GenerativeModel, "step_generator", step_generator))
        for draw, new in news.items():
            stack.enter_context(replaced(torch, draw, new))
        yield


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
        named = pl_module.named_parameters()
        self.found.append({k: p.grad.clone() for k, p in named if id(p) in stepped and p.grad is not None})


def step_generator(self, batch_idx=0):
    """Give every process the same generator."""
    return torch.Generator().manual_seed(1000 + 10 * self.trainer.global_step + batch_idx)


@functools.cache
def fixed(images):
    """Give the data of images or of clouds, made once, and eight of them."""
    data = test_zoo.data("CNN" if images else "")
    return data, data.take("train", B)


def data_of(model):
    """Give the data that a model can take, and eight of them."""
    return fixed(isinstance(model, CNNClassifier) or len(getattr(model, "sample_shape", ())) == 3)


def gradients(name, rank=0, world_size=1):
    """Give the gradients of the steps of one batch of eight data, or this process's share of it.

    Where an optimizer waits for its turn, or chains go on, the batch comes three times.
    """
    torch.manual_seed(0)
    model = test_zoo.SMALL[name]()
    model.optimizer = model.discriminator_optimizer = SGD  # Adam would make much of what is nearly nothing
    data, whole = data_of(model)
    emphasize(model, whole)
    share = slice(rank * B // world_size, (rank + 1) * B // world_size)
    part = Batch(*(None if t is None else t[share].contiguous() for t in whole))
    kept, times = Gradients(), 3 if isinstance(model, TwoPlayers | GenerativePointNet) else 1
    runner = test_zoo.trainer(
        None,
        callbacks=[kept],
        enable_checkpointing=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
        devices=world_size,
        strategy="ddp" if world_size > 1 else "auto",
    )
    with noise_of_all(rank, world_size), replaced(data, "train_dataloader", lambda: DataLoader([part] * times, None)):
        runner.fit(model, data)
    return kept.found


def emphasize(model, whole):
    """Make terms that are no means over data so large that nobody overlooks their gradients."""
    if isinstance(getattr(model, "schedule", None), Capacity):  # between two halves' KL: |KL − C| then is no mean
        with torch.no_grad():
            first, second = (model.eval().terms(half)["kl"].item() for half in whole.x.chunk(2))
        model.train()
        target = min(first, second) + 0.25 * abs(first - second)
        model.schedule = Capacity(target, target, 1e3, end_step=0)
    if isinstance(model, WAE):
        model.mmd_weight = 1e5
    if isinstance(model, EBGAN):
        model.pulling_away_weight = 1e4
    if isinstance(model, Deforming):
        model.decoder.deformation.bias = 1e5
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():  # its first deformation is none, whose mean has no gradient
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def alone(name, rank):
    """Give the gradients without what the processes tell each other of the batch."""
    with replaced(_whole_batch, "_shares", lambda _: False):
        return gradients(name, rank, 2)


@contextlib.contextmanager
def replaced(thing, name, value):
    """Give a thing another attribute within the block."""
    before = getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        setattr(thing, name, before)


def collectives(rank):
    """Use the collectives without any model: the gradient of a term that is no mean over data."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, dtype=torch.float64, generator=generator)
    theta = torch.randn(3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    c = x[3 * rank : 3 * rank + 3] @ theta
    rows, mean = all_rows(c), mean_over_processes(c.mean(0))
    ((rows @ rows.T).sin().sum() + mean.norm() ** 3).backward()
    taken = torch.full((2,), float(rank))
    take_from_first([taken])
    try:
        refused = f"nothing of {len(all_rows(c[: 2 + rank]))} rows"
    except DataError as error:
        refused = str(error)
    return {"x": x, "theta": theta.detach(), "gradient": theta.grad, "refused": refused, "taken": taken}


# ── fit, validate, test, predict ──────────────────────────────────────────────────────────────────────────────────────


def training(name, folder):
    """Fit an epoch with validation and a checkpoint, and test; give the ends of it all."""
    torch.manual_seed(0)
    model = test_zoo.SMALL[name]()
    data, _ = data_of(model)
    runner = test_zoo.trainer(folder / name, devices=2, strategy="ddp", num_sanity_val_steps=0)
    runner.fit(model, data)
    found = {
        "weights": {key: value.clone() for key, value in model.state_dict().items()},
        "logged": {key: value.clone() for key, value in runner.callback_metrics.items()},
        "checkpoint": runner.checkpoint_callback.best_model_path,
        "steps": runner.global_step,
        "ddp": dict(runner.strategy._ddp_kwargs),
    }
    validated = {key: value.item() for key, value in found["logged"].items() if key.startswith("val/")}
    (tested,) = runner.test(model, data, verbose=False)
    return found | {"scores": validated | tested}


def unvalidated(folder):
    """Fit without a validation; give the weights."""
    torch.manual_seed(0)
    model = test_zoo.SMALL["VAE"]()
    options = {"devices": 2, "strategy": "ddp", "limit_val_batches": 0, "enable_checkpointing": False}
    test_zoo.trainer(folder, **options).fit(model, data_of(model)[0])
    return model.state_dict()


def predictions(name, folder):
    """Predict and write; give where the file is."""
    torch.manual_seed(0)
    model = test_zoo.SMALL[name]().eval()
    data, _ = data_of(model)
    runner = test_zoo.trainer(folder, devices=2, strategy="ddp", enable_checkpointing=False)
    runner.predict(model, data)
    place = folder / f"predictions of {name}"
    place.mkdir(exist_ok=True)
    return str(write_predictions(runner, data, place))


def everything(rank, folder, names):
    """Do it all, one after the other, as the other process does."""
    for name in names:
        yield f"gradients-{name}", gradients(name, rank, 2)
        yield f"training-{name}", training(name, folder)
    for name in NO_MEANS:
        yield f"alone-{name}", alone(name, rank)
    for name in PREDICTED:
        yield f"predictions-{name}", predictions(name, folder)
    yield "unvalidated-", unvalidated(folder)
    yield "collectives-", collectives(rank)


if __name__ == "__main__":
    rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
    for title, found in everything(rank, folder, sys.argv[2:] or test_zoo.SMALL):
        torch.save(found, folder / f"{title}-{rank}.pt")
    torch.distributed.barrier()  # who leaves first closes the other's connections
