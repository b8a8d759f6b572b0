"""pcgen recover on checkpoints of models as small as can be, against the same measures taken by hand."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

import pcgen
from pcgen.datamodules import Patterns
from pcgen.metrics.recovery import warp_correlation
from pcgen.metrics.ridge import PENALTIES
from pcgen.ops import identity_grid

from .conftest import fit

SIDE = 16
DATA = {"image_size": SIDE, "train_size": 120, "val_size": 20, "test_size": 40, "pattern_seed": 2}
NETS = f"""\
    encoder: {{class_path: CNNEncoder, init_args: {{image_shape: [3, {SIDE}, {SIDE}], channels: [4, 8], \
head_widths: [16]}}}}
"""
PLAIN = f"""\
model:
  class_path: Autoencoder
  init_args:
{NETS}\
    decoder: {{class_path: CNNDecoder, init_args: {{image_shape: [3, {SIDE}, {SIDE}], latent_dim: 6, \
channels: [8, 4]}}}}
    reconstruction: {{class_path: BernoulliReconstruction}}
"""
DEFORMING = f"""\
model:
  class_path: DeformingAutoencoder
  init_args:
{NETS}\
    template:
      class_path: IntrinsicTemplate
      init_args:
        albedo: {{class_path: CNNDecoder, init_args: {{image_shape: [3, {SIDE}, {SIDE}], latent_dim: 3, \
channels: [8, 4]}}}}
        shading: {{class_path: CNNDecoder, init_args: {{image_shape: [1, {SIDE}, {SIDE}], latent_dim: 2, \
channels: [8, 4]}}}}
    deformation:
      class_path: GridDeformation
      init_args:
        decoder: {{class_path: CNNDecoder, init_args: {{image_shape: [2, {SIDE}, {SIDE}], latent_dim: 3, \
channels: [8, 4]}}}}
"""
SCORES = {"mse", "warp", "warp_without_gauge", "albedo", "shading", "landmark_error"}


def config(name, model, seed, data=DATA):
    arguments = ", ".join(f"{key}: {value}" for key, value in data.items())
    return f"""\
name: {name}
seed_everything: {seed}
{model}data:
  class_path: Patterns
  init_args: {{{arguments}, batch_size: {20 + seed}}}
trainer: {{accelerator: cpu, max_epochs: 2, log_every_n_steps: 1, enable_model_summary: false}}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of an autoencoder's run and of two deforming ones that differ by their seed."""
    models = {"ae": (PLAIN, 0), "dae-0": (DEFORMING, 0), "dae-1": (DEFORMING, 1)}
    return {name: fit(tmp_path_factory.mktemp(name), config(name, *each)) for name, each in models.items()}


@pytest.fixture(scope="module")
def words(runs):
    return [f"{name}={folder}" for name, folder in runs.items()]


def test_the_rows_are_what_they_say(cli, words, runs):
    content = json.loads(cli("recover", *words, "--json", "-", "-n", 100).out)
    assert (content["num_train"], content["num_test"]) == (100, 40)
    rows = {(row["name"], row["reading"]): row for row in content["rows"]}
    assert [*rows] == [
        ("ae", "taught"),
        ("dae-0", "decomposed"),
        ("dae-0", "taught"),
        ("dae-1", "decomposed"),
        ("dae-1", "taught"),
        ("identity warp, mean layers", "trivial"),
        ("the image itself", "trivial"),
    ]
    data = Patterns(**DATA)
    x, truth = data.take("test").x, data.truth("test")
    for name, folder in runs.items():
        model = pcgen.load(folder)
        taught = rows[name, "taught"]
        assert set(taught["scores"]) == SCORES
        assert taught["parameters"] == sum(p.numel() for p in model.parameters())
        error = (model.reconstruct(x) - x).square().mean().item()
        assert taught["scores"]["mse"] == pytest.approx(error, rel=1e-4)
    grid = model.decompose(model.encode(x)).deformation
    own = rows["dae-1", "decomposed"]["scores"]
    assert set(own) == SCORES
    assert own["warp"] == pytest.approx(warp_correlation(grid, truth["grid"], truth["support"]), abs=1e-5)
    assert own["mse"] == rows["dae-1", "taught"]["scores"]["mse"]
    still = rows["identity warp, mean layers", "trivial"]["scores"]
    assert still["warp"] is None
    mean = data.truth("train", 100)["landmarks"].mean(0)
    places = ((truth["landmarks"] - mean) * (SIDE - 1) / 2).norm(dim=2).mean().item()
    assert still["landmark_error"] == pytest.approx(places, rel=1e-5)


def test_the_taught_reading_is_ridge_regression(cli, words, runs):
    content = json.loads(cli("recover", *words, "--json", "-").out)
    (row,) = (row for row in content["rows"] if row["name"] == "ae")
    model, data = pcgen.load(runs["ae"]), Patterns(**DATA)
    z = {s: model.encode(data.take(s).x).double().numpy() for s in ("train", "test")}
    mean, scale = z["train"].mean(0), z["train"].std(0)
    z = {s: (each - mean) / scale for s, each in z.items()}
    train, test = (data.truth(s) for s in ("train", "test"))
    rest = identity_grid(SIDE, SIDE).double()
    target = train["grid"].double() - rest
    support = test["support"]
    found = []
    for penalty in PENALTIES:
        fitted = Ridge(alpha=penalty * 120).fit(z["train"], target.flatten(1).numpy())
        grid = torch.from_numpy(fitted.predict(z["test"])).unflatten(1, (SIDE, SIDE, 2)) + rest
        a, b = ((g - rest)[support].flatten().numpy() for g in (grid, test["grid"].double()))
        found.append(np.corrcoef(a, b)[0, 1])
    assert min(abs(each - row["scores"]["warp"]) for each in found) < 1e-5  # of one of the penalties
    assert row["scores"]["warp"] > 0.1  # shifts show in the codes of any autoencoder


def test_models_built_alike_are_averaged(cli, words):
    content = json.loads(cli("recover", *words, "--json", "-").out)
    assert [(each["name"], each["reading"]) for each in content["means"]] == [
        ("mean of dae-0, dae-1", "decomposed"),
        ("mean of dae-0, dae-1", "taught"),
    ]
    for each in content["means"]:
        rows = [
            row["scores"] for row in content["rows"] if row["name"][:3] == "dae" and row["reading"] == each["reading"]
        ]
        for name in SCORES:
            values = [row[name] for row in rows]
            assert each["scores"][name] == pytest.approx(np.mean(values))
            assert each["deviations"][name] == pytest.approx(np.std(values, ddof=1))


def test_the_table(cli, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = cli("recover", *words, "--split", "val", "--json", "all.json")
    assert found.status == 0, found.err
    assert "recovered of 20 images of Patterns (val), taught by 120" in found.out
    assert found.out.count("decomposed") == 3
    assert "±" in found.out
    assert "numbers: all.json" in found.err
    assert max(map(len, found.out.splitlines())) <= 80
    row = next(line for line in found.out.splitlines() if "identity" in line)
    assert " – " in row
    assert "…" not in found.out
    score = json.loads(open("all.json").read())["rows"][0]["scores"]  # noqa: PTH123, SIM115
    assert f"{score['landmark_error']:.2f}" in found.out
    assert not any(math.isnan(value) for value in score.values())


def test_a_single_checkpoint_has_no_mean(cli, runs):
    assert json.loads(cli("recover", runs["ae"], "--json", "-").out)["means"] == []


def test_data_without_truth_are_refused(cli, dots):
    error = cli("recover", dots).error
    assert "Dots does not know the true warp" in error
    assert "Patterns" in error


def test_models_of_different_data_are_refused(cli, runs, tmp_path_factory):
    other = fit(tmp_path_factory.mktemp("other"), config("other", PLAIN, 0, DATA | {"pattern_seed": 9}))
    assert "different data" in cli("recover", f"ae={runs['ae']}", f"other={other}").error


def test_errors(cli, runs, trained):
    assert "-n 3" in cli("recover", runs["ae"], "-n", 3).error
    assert "train" in cli("recover", runs["ae"], "--split", "train").error
    assert "Shapes does not know the true warp" in cli("recover", trained).error
