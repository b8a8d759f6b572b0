"""A classifier through the whole command line: trained, tested, asked, refused, exported."""

import csv
import json

import numpy as np
import pytest
import torch

import pcgen
from pcgen.datamodules import Shapes
from pcgen.metrics.extractors import extractor

CONFIG = """\
name: judge
model:
  class_path: PointNetClassifier
  init_args:
    encoder: {class_path: PointNetEncoder, init_args: {widths: [8, 16], head_widths: [12]}}
    num_classes: 2
data:
  class_path: Shapes
  init_args: {num_points: 32, train_size: 24, val_size: 8, test_size: 9, batch_size: 8, classes: [chair, table],
    scope: shape}
trainer:
  accelerator: cpu
  max_epochs: 1
  log_every_n_steps: 1
  enable_model_summary: false
  enable_progress_bar: false
  callbacks:
    - class_path: Confusion
"""


@pytest.fixture
def judge(cli, tmp_path):
    """What training said, and the run's folder."""
    (tmp_path / "judge.yaml").write_text(CONFIG)
    result = cli("fit", "--config", "judge.yaml")
    assert result.status == 0, result.err
    (folder,) = (tmp_path / "runs" / "judge").iterdir()
    return result, folder


def test_a_classifier_is_trained_tested_asked_and_exported(cli, judge, tmp_path):
    result, folder = judge
    assert "next        pcgen export runs/judge/" in result.out
    assert (folder / "figures" / "confusion.png").is_file()
    model, data = pcgen.load(folder), Shapes(**pcgen.load(folder).data_info["recipe"]["init_args"])
    batch = data.take("test")
    for verb in ("validate", "test", "predict"):
        checkpoint = folder / "checkpoints" / "last.ckpt"
        assert cli(verb, "--config", folder / "config.yaml", "--ckpt_path", checkpoint).status == 0
    (predicted,) = tmp_path.rglob("predictions.csv")
    head, *rows = list(csv.reader(predicted.open()))
    assert head == ["chair", "table"]
    np.testing.assert_allclose(np.array(rows, np.float32), model.classify(batch.x).numpy(), rtol=1e-4, atol=1e-6)

    refused = cli("sample", folder, "--out", "a.npy")
    told, _, able = refused.error.partition(": ")
    assert told == "PointNetClassifier cannot sample; models that can"
    assert {"VAE", "BetaVAE", "WAE"} <= set(able.split(", "))

    written = cli("export", folder, "judge.pt", "--card", "judge.json")
    assert written.status == 0
    net = extractor(tmp_path / "judge.pt")
    assert net.name == "judge"
    assert f"identity {net.identity}" in written.err
    right = (net.classify(batch.x).argmax(1) == batch.label).double().mean().item()
    assert f"test  accuracy {right:.2%}" in written.err
    assert net.card["training"]["epochs"] == 1
    assert json.loads((tmp_path / "judge.json").read_text()) == net.describe()
    torch.testing.assert_close(net(batch.x), model.features(batch.x), rtol=1e-2, atol=1e-2)


def test_what_cannot_be_exported_is_refused(cli, trained, tmp_path):
    assert cli("export", trained, "x.pt").error == (
        "VAE cannot classify; models that can: CNNClassifier, ClassAwareDeformingAutoencoder, PointNetClassifier"
    )
    assert "something.pt" in cli("export", trained, "x.h5").error
    assert "there is no checkpoint" in cli("export", "nothing.ckpt", "x.pt").error
    assert not list(tmp_path.iterdir())
