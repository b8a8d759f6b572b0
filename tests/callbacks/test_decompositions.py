"""The callback Decompositions in real trainings, of clouds and of images, as small as can be."""

import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from pcgen.callbacks import Decompositions, decompositions
from pcgen.datamodules import Patterns, Shapes
from pcgen.errors import ConfigurationError
from pcgen.models import VAE, DeformingAutoencoder
from pcgen.nets import (
    CNNDecoder,
    CNNEncoder,
    DecodedTemplate,
    FoldingDecoder,
    GridDeformation,
    IntrinsicTemplate,
    MLPDecoder,
    PointDeformation,
    PointNetEncoder,
)


def of_images():
    def decoder(latent_dim, channels):
        return CNNDecoder(latent_dim, (channels, 8, 8), [4], [8])

    template = IntrinsicTemplate(decoder(2, 3), decoder(1, 1))
    model = DeformingAutoencoder(CNNEncoder((3, 8, 8), [4], [8]), template, GridDeformation(decoder(2, 2)))
    return model, Patterns(image_size=8, train_size=20, val_size=6, test_size=2, batch_size=10)


def of_clouds():
    template = DecodedTemplate(MLPDecoder(latent_dim=2, num_points=24, widths=[8]))
    field = FoldingDecoder(latent_dim=2, num_points=24, width=8, depth=2, code_widths=[8])
    model = DeformingAutoencoder(PointNetEncoder(widths=[8]), template, PointDeformation(field, neighbors=4))
    return model, Shapes(num_points=24, train_size=16, val_size=6, test_size=2, batch_size=8)


def train(folder, callback, model, datamodule, epochs=1):
    trainer = pl.Trainer(
        max_epochs=epochs, default_root_dir=folder, callbacks=[callback], accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no picture")
        trainer.fit(model, datamodule=datamodule)


@pytest.mark.parametrize("make", [of_images, of_clouds])
def test_fixed_data_are_taken_apart(tmp_path, monkeypatch, make):
    calls, draw = [], decompositions.draw_decompositions
    monkeypatch.setattr(decompositions, "draw_decompositions", lambda *a, **k: calls.append((a, k)) or draw(*a, **k))
    model, datamodule = make()
    train(tmp_path, Decompositions(2, num_shown=4), model, datamodule, epochs=3)
    files = sorted(str(p.relative_to(tmp_path / "figures")) for p in (tmp_path / "figures").rglob("*.png"))
    assert files == ["decompositions.png", "decompositions/epoch_0002.png", "decompositions/epoch_0003.png"]
    assert np.ptp(np.asarray(Image.open(tmp_path / "figures" / "decompositions.png")).astype(int)) > 100
    x = datamodule.take("val", 4).x
    assert len(calls) == 2
    assert all(np.array_equal(given[0], x) for given, _ in calls)
    found = model.decompose(model.encode(x))
    *parts, layers = calls[-1][0][1:]
    for part, expected in zip(parts, found[:3], strict=True):
        np.testing.assert_allclose(part, expected.numpy(), atol=1e-5)
    assert list(layers) == (["albedo", "shading"] if make is of_images else [])
    assert calls[-1][1]["heading"] == "Decompositions (val) after epoch 3"


def test_drawing_leaves_the_training_as_it_was(tmp_path):
    weights = []
    for every in (0, 1):
        pl.seed_everything(3)
        model, datamodule = of_clouds()
        train(tmp_path / str(every), Decompositions(every), model, datamodule, epochs=2)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_other_models_draw_nothing_and_say_so(tmp_path):
    model = VAE(PointNetEncoder(widths=[8]), MLPDecoder(latent_dim=2, num_points=24, widths=[8]))
    with pytest.warns(UserWarning, match="Decompositions draws nothing: VAE cannot decompose; .*DeformingAutoencoder"):
        train(tmp_path, Decompositions(), model, of_clouds()[1])
    assert not (tmp_path / "figures").exists()


def test_what_cannot_work_is_refused_before_the_training(tmp_path):
    with pytest.raises(ConfigurationError, match="num_shown is 0"):
        Decompositions(num_shown=0)
    with pytest.raises(ConfigurationError, match="no split 'all'"):
        train(tmp_path, Decompositions(split="all"), *of_clouds())
