"""Classifiers: they learn, count what they get right, and become extractors."""

import csv
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix

from pcgen.base import Batch
from pcgen.callbacks import Confusion, Samples
from pcgen.datamodules import Shapes
from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.extractors import extractor
from pcgen.models import VAE, CNNClassifier, PointNetClassifier
from pcgen.models._classifier import accuracies
from pcgen.nets import CNNEncoder, PointNetEncoder

CLASSES = ["chair", "lamp", "bed"]


def small(**others) -> PointNetClassifier:
    return PointNetClassifier(
        PointNetEncoder((16, 32, 64), (32,)),
        **{"num_classes": 3, "optimizer": functools.partial(torch.optim.Adam, lr=3e-3)} | others,
    )


def shapes(**others) -> Shapes:
    sizes = {"num_points": 96, "scope": "shape", "train_size": 120, "val_size": 30, "test_size": 61}
    return Shapes(**sizes | {"classes": CLASSES, "batch_size": 20} | others)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A classifier after ten epochs of three kinds of furniture, its data, and its trainer."""
    torch.manual_seed(0)
    model, data = small(), shapes()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=10,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path_factory.mktemp("trained"),
        callbacks=[Confusion(), Samples()],
    )
    with pytest.warns(UserWarning, match="Samples draws nothing: PointNetClassifier cannot sample"):
        trainer.fit(model, data)
    return model, data, trainer


def test_ten_epochs_tell_furniture_apart(trained):
    _, _, trainer = trained
    assert trainer.callback_metrics["val/accuracy"] > 0.85  # chance is 0.33
    assert trainer.callback_metrics["train/loss"] < np.log(3) / 2


def test_the_confusion_matrix_is_drawn_and_written(trained):
    model, data, trainer = trained
    folder = Path(trainer.default_root_dir)
    assert (folder / "figures" / "confusion.png").stat().st_size > 1000
    assert not (folder / "figures" / "samples.png").exists()
    head, *rows = list(csv.reader((folder / "confusion.csv").open()))
    assert head == ["is", *CLASSES]
    batch = data.take("val")
    expected = confusion_matrix(batch.label, model.classify(batch.x).argmax(1), labels=range(3))
    assert [[int(n) for n in row[1:]] for row in rows] == expected.tolist()


def test_scores_of_a_test_are_those_of_scikit_learn(trained):
    model, data, trainer = trained
    (scores,) = trainer.test(model, data, verbose=False)
    batch = data.take("test")
    chosen = model.classify(batch.x).argmax(1)
    assert scores["test/accuracy"] == pytest.approx(accuracy_score(batch.label, chosen))
    assert scores["test/mean_class_accuracy"] == pytest.approx(balanced_accuracy_score(batch.label, chosen))
    assert model.confusion.tolist() == confusion_matrix(batch.label, chosen, labels=range(3)).tolist()


def test_classes_without_data_do_not_count():
    confusion = torch.tensor([[3, 1, 0], [0, 0, 0], [2, 1, 1]])
    overall, mean_class = accuracies(confusion)
    assert overall.item() == pytest.approx(4 / 8)
    assert mean_class.item() == pytest.approx((3 / 4 + 1 / 4) / 2)


def test_verbs_are_total(trained):
    model, data, _ = trained
    x = data.take("test").x
    model.train()
    p, h = model.classify(x), model.features(x)
    assert model.training
    assert (p.shape, h.shape) == ((61, 3), (61, 32))
    torch.testing.assert_close(p.sum(1), torch.ones(61))
    assert not p.requires_grad
    assert not h.requires_grad
    torch.testing.assert_close((h @ model.head.weight.T + model.head.bias).softmax(1), p)
    model.chunk_size = 7
    torch.testing.assert_close(model.features(x), h, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.features(x[:, torch.randperm(96)]), h, rtol=1e-4, atol=1e-5)
    assert model.features(x[:0]).shape == (0, 32)
    asked = x[:2].clone().requires_grad_()
    model.features(asked).sum().backward()
    assert asked.grad.abs().sum() > 0
    assert not any(model.can(verb) for verb in ("sample", "encode", "reconstruct"))
    assert not VAE.can("classify")


def test_dropout_leaves_out_its_share_and_keeps_the_mean():
    model = small(dropout=0.4).train()
    with torch.no_grad():
        model.head.weight.fill_(1)
        model.head.bias.zero_()
    x = torch.rand(6, 40, 3)
    model.encoder.eval()
    whole = model.encoder(x).sum(1)
    some = torch.stack([model.logits(x, generator=torch.Generator().manual_seed(i))[:, 0] for i in range(200)])
    torch.testing.assert_close(some.mean(0), whole, rtol=0.06, atol=0.02)
    assert (some.std(0) > 0.05 * whole).all()
    first = model.logits(x, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first, model.logits(x, generator=torch.Generator().manual_seed(0)))
    model.eval()
    torch.testing.assert_close(model.logits(x)[:, 0], whole)


def test_with_the_input_transform_the_order_of_the_points_is_still_nothing():
    torch.manual_seed(0)
    model = PointNetClassifier(PointNetEncoder((8, 16), (12,), input_transform=True))
    torch.nn.init.normal_(model.encoder.input_transform.head[-1].weight)
    x = torch.rand(4, 50, 3)
    torch.testing.assert_close(model.classify(x), model.classify(x.flip(1)))
    plain = PointNetClassifier(PointNetEncoder((8, 16), (12,)))
    plain.load_state_dict(model.state_dict(), strict=False)
    assert not torch.allclose(plain.classify(x), model.classify(x))


def test_data_of_other_classes_are_refused(trained):
    _, data, trainer = trained
    with pytest.raises(ConfigurationError, match=r"num_classes is 4 .* 3 classes \(chair, lamp, bed\)"):
        trainer.test(small(num_classes=4), data, verbose=False)
    with pytest.raises(DataError, match="these data have none"):
        small().validation_step(Batch(torch.rand(2, 8, 3)), 0)
    with pytest.raises(DataError, match="a label 3, and the model's num_classes is 3"):
        small().validation_step(Batch(torch.rand(2, 8, 3), torch.tensor([0, 3])), 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_classes": 1}, "num_classes is 1"), ({"dropout": 1.0}, "dropout is 1.0"), ({"dropout": -0.1}, "dropout is")],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        small(**arguments)
    with pytest.raises(ConfigurationError, match=message):
        CNNClassifier(CNNEncoder(), **arguments)


# ── export ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_exported_classifier_is_an_extractor_that_says_where_it_comes_from(trained, tmp_path):
    model, data, _ = trained
    written = model.export_extractor(tmp_path / "mine.pt", name="furniture-v1", datamodule=data, epochs=10)
    read = extractor(tmp_path / "mine.pt")
    assert read.identity == written.identity
    assert read.card == written.card
    batch = data.take("test")
    torch.testing.assert_close(read.features(batch.x), model.features(batch.x), rtol=2e-2, atol=2e-2)
    right = (read.classify(batch.x).argmax(1) == batch.label).double().mean().item()
    assert read.card["accuracy"]["test"]["accuracy"] == pytest.approx(right, abs=1e-6)
    assert read.card["accuracy"]["val"]["data"] == 30
    assert read.card["input"] == {"kind": "clouds", "num_points": 96, "radius": 1.0, "up_axis": 2}
    assert read.card["data"]["class_names"] == CLASSES
    assert read.card["training"]["epochs"] == 10
    assert read.card["training"]["model"] == model.card()["model"]


def test_a_card_names_no_folder_of_the_machine(trained, tmp_path):
    model, _, _ = trained
    before = model.data_info
    recipe = {"class_path": "pcgen.datamodules.PointClouds", "init_args": {"path": "/home/me/sets/cups.h5"}}
    model.data_info = {**before, "recipe": recipe}
    try:
        card = model.export_extractor(tmp_path / "a.pt", name="a").card
        assert card["data"]["recipe"]["init_args"]["path"] == card["data"]["name"] == "cups.h5"
        assert "accuracy" not in card
        model.data_info = {**before, "normalization": {"scope": "none", "radius": 1.0}}
        with pytest.raises(ConfigurationError, match="normalised clouds"):
            model.export_extractor(tmp_path / "b.pt", name="b")
    finally:
        model.data_info = before
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    with pytest.raises(ConfigurationError, match="does not know what data"):
        small().export_extractor(tmp_path / "c.pt", name="c")
