"""What each of two processes does to go on with a training; `test_resuming.py` starts them and looks at it.

python _resuming_in_two.py FOLDER
"""

import functools
import sys
from pathlib import Path

import torch
from pytorch_lightning import Callback

sys.path.insert(0, str(Path(__file__).parent))
import test_zoo

from pcgen.errors import ConfigurationError, DivergenceError
from pcgen.training import resuming, together

NAMES = ("VAE", "EBGAN", "GenerativePointNet-persistent")  # batch norm, players and a margin, chains
POINT = 1  # batches: in the midst of the first epoch of two


class Saver(Callback):
    """Saves on the way, and what this process has in the end."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, *_):
        if trainer.fit_loop.epoch_loop.batch_progress.total.ready == POINT:
            trainer.save_checkpoint(self.path.with_suffix(".ckpt"))

    def on_train_end(self, trainer, model):
        optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
        own = {"weights": model.state_dict(), "optimizers": optimizers, "own": model.rank_state()}
        torch.save(own, f"{self.path}-{trainer.global_rank}.pt")


def fit(name, path, seed, ckpt_path=None, **options):
    torch.manual_seed(seed)
    trainer = test_zoo.trainer(path.parent, devices=2, strategy="ddp", max_epochs=2, callbacks=[Saver(path)], **options)
    trainer.fit(test_zoo.SMALL[name](), test_zoo.data(name), ckpt_path=ckpt_path)
    return trainer


def main(folder):
    for name in NAMES:
        quiet = {"enable_checkpointing": False, "num_sanity_val_steps": 0}
        rank = fit(name, folder / f"{name}-whole", 0, **quiet).global_rank
        fit(name, folder / f"{name}-resumed", 7 + rank, folder / f"{name}-whole.ckpt", **quiet)
    torch.save({"apart": apart(folder, rank)} | agreed(folder, rank), folder / f"found-{rank}.pt")
    alone(folder, rank)


def apart(folder, rank):
    """Have the first process alone go on; give what either says, and whether it computed anything before."""
    validated = []

    class Witness(Callback):
        def on_validation_start(self, *_):
            validated.append(True)

    runner = test_zoo.trainer(folder, devices=2, strategy="ddp", enable_checkpointing=False, callbacks=[Witness()])
    path = folder / "VAE-whole.ckpt" if rank == 0 else None
    try:
        runner.fit(test_zoo.SMALL["VAE"](), test_zoo.data("VAE"), ckpt_path=path)
    except ConfigurationError as error:
        return str(error), validated
    return "nothing", validated


def agreed(folder, rank):
    """Save while a buffer of the second process is not finite, and look at all buffers at the epoch's end."""
    said, seen = [], {}

    class Spoiler(Callback):
        def on_train_batch_end(self, trainer, model, *_):
            if said:
                return
            buffer = next(b for name, b in model.named_buffers() if name.endswith("running_mean"))
            before = buffer.clone()
            buffer.fill_(float("nan") if rank == 1 else 0.0)
            for weights_only in (False, True):
                try:
                    trainer.save_checkpoint(folder / "spoiled.ckpt", weights_only=weights_only)
                    said.append("saved")
                except DivergenceError as error:
                    said.append(str(error))
            buffer.copy_(before)

    class Painter(Callback):
        def on_train_epoch_end(self, _, model):
            seen.update((name, buffer.clone()) for name, buffer in model.named_buffers())

    class Own(type(test_zoo.SMALL["VAE"]())):
        """One of a user's own, that knows nothing of the hook it replaces."""

        def on_train_epoch_end(self):
            pass

    torch.manual_seed(0)
    quiet = {"enable_checkpointing": False, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    model = test_zoo.SMALL["VAE"]()
    model.__class__ = Own
    runner = test_zoo.trainer(folder, devices=2, strategy="ddp", callbacks=[Spoiler(), Painter()], **quiet)
    runner.fit(model, test_zoo.data("VAE"))
    return {"spoiled": said, "seen": seen}


def alone(folder, rank):
    """Have the first process make a checkpoint that the other knows nothing of."""
    together.PATIENCE = 1.0
    made = {}

    class Alone(Callback):
        def on_train_batch_end(self, trainer, *_):
            if rank == 0:  # after either step: it says so each time
                made.update(trainer._checkpoint_connector.dump_checkpoint())

    runner = functools.partial(test_zoo.trainer, folder, devices=2, strategy="ddp", enable_checkpointing=False)
    runner(callbacks=[Alone()]).fit(test_zoo.SMALL["VAE"](), test_zoo.data("VAE"))
    if rank == 0:
        torch.save(made, folder / "alone.ckpt")
        print("STATES", [state is not None for state in made[resuming.RANKS_KEY]], flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
