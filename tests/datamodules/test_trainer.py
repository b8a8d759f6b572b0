"""With a real Trainer: loaders are left as they are, epochs are told, resuming repeats."""

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from pcgen.datamodules import Jitter, Shapes


class Probe(LightningModule):
    """Remembers every training batch; its weight depends on their order."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.seen, self.labels = [], []

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, index, batch.x.sum().item(), len(batch.x)))
        return ((batch.x.mean((0, 1)) - self.weight) ** 2).sum()

    def validation_step(self, batch, index):
        self.labels.append(batch.label)

    test_step = validation_step

    def predict_step(self, batch, index):
        return batch.label

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


def data(**arguments):
    return Shapes(
        num_points=32, train_size=45, val_size=13, test_size=11, batch_size=8, augment=[Jitter()], **arguments
    )


def trainer(tmp_path, **arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(default_root_dir=tmp_path, **{"enable_checkpointing": False} | quiet | arguments)


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*does not have many workers")


def test_one_epoch_and_every_verb(tmp_path):
    model, shapes = Probe(), data()
    run = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    run.fit(model, datamodule=shapes)
    assert [n for *_, n in model.seen] == [8, 8, 8, 8, 8, 5]
    assert torch.equal(torch.cat(model.labels), shapes.take("val").label)
    model.labels.clear()
    run.test(model, datamodule=shapes, verbose=False)
    assert torch.equal(torch.cat(model.labels), shapes.take("test").label)
    predicted = torch.cat(run.predict(model, datamodule=shapes))
    assert torch.equal(predicted, shapes.take("test").label)


def test_epochs_are_told_to_the_sampler(tmp_path):
    model = Probe()
    trainer(tmp_path, max_epochs=3).fit(model, datamodule=data())
    epochs = [[x for e, _, x, _ in model.seen if e == epoch] for epoch in range(3)]
    assert len({tuple(e) for e in epochs}) == 3


@pytest.mark.parametrize("when", [{"every_n_epochs": 1}, {"every_n_train_steps": 8}, {"every_n_train_steps": 9}])
def test_resuming_is_as_if_never_stopped(tmp_path, when):
    whole = Probe()
    trainer(tmp_path, max_epochs=3).fit(whole, datamodule=data())

    save = ModelCheckpoint(tmp_path, filename="half", save_top_k=-1, **when)
    first = Probe()
    limit = {"max_epochs": 1} if "every_n_epochs" in when else {"max_steps": when["every_n_train_steps"]}
    trainer(tmp_path, **limit, enable_checkpointing=True, callbacks=[save]).fit(first, datamodule=data())

    second = Probe()
    trainer(tmp_path, max_epochs=3).fit(second, datamodule=data(), ckpt_path=tmp_path / "half.ckpt")
    assert first.seen + second.seen == whole.seen
    assert torch.equal(second.weight, whole.weight)


def test_overfitting_sees_the_same_batches_every_epoch(tmp_path):
    model = Probe()
    shapes = Shapes(num_points=32, train_size=45, val_size=0, test_size=8, batch_size=8)
    trainer(tmp_path, max_epochs=2, overfit_batches=2, num_sanity_val_steps=0).fit(model, datamodule=shapes)
    assert [s[2] for s in model.seen[:2]] == [s[2] for s in model.seen[2:]]
    assert len(model.seen) == 4
