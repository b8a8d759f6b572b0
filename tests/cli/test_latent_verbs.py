"""traverse, arithmetic, restore and latents, for clouds and for images."""

import json

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import pcgen
from pcgen.cli.images import read_images
from pcgen.io import read_clouds
from pcgen.metrics import functional


def data(run, split="test"):
    recipe = pcgen.load(run).data_info["recipe"]
    kind = getattr(pcgen.datamodules, recipe["class_path"].rpartition(".")[2])
    return kind(**recipe["init_args"]).take(split)


def kl(model, x):
    mu, log_var = (t.double() for t in model.posterior(x))
    return (0.5 * (mu**2 + log_var.exp() - log_var - 1)).mean(0)


# ── traverse ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_are_ordered_by_their_kl_and_move_one_coordinate(cli, dots, tmp_path):
    words = ["--row", 7, "--steps", 3, "--extent", 2, "--out", "t.h5", "--png", "t.png"]
    result = cli("traverse", dots, *words)
    assert result.status == 0, result.err
    model, x = pcgen.load(dots).eval(), data(dots).x
    with torch.no_grad():
        relevance, z = kl(model, x), model.encode(x[7:8])
    order = relevance.argsort(descending=True).tolist()
    expected = []
    for k in order:
        for value in (-2.0, 0.0, 2.0):
            moved = z.clone()
            moved[0, k] = value
            expected.append(model.decode(moved)[0])
    found = read_images(tmp_path / "t.h5")
    np.testing.assert_allclose(found.images, torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert found.name == tuple(f"z{k}={value}" for k in order for value in (-2, 0, 2))
    shown = ", ".join(f"z{k} {relevance[k]:.3g}" for k in order)
    assert f"latent dimensions by their KL in nats over 60 of Dots (test): {shown}\n" in result.err
    assert Image.open(tmp_path / "t.png").width > 4 * 96  # the unchanged reconstruction is beside the three


def test_chosen_dimensions_of_clouds_and_a_moving_picture(cli, trained, clouds, tmp_path):
    words = ["--dims", "2,0", "--steps", 3, "--out", "t.npy", "--png", "a.png", "--gif", "t.gif"]
    assert cli("traverse", trained, clouds, *words).status == 0
    assert np.load(tmp_path / "t.npy").shape == (2 * 3, 32, 3)
    with Image.open(tmp_path / "t.gif") as picture:
        assert picture.is_animated
        assert 2 <= picture.n_frames <= 2 * 5 - 2  # two stations for each column; equal neighbours are one frame
    assert cli("traverse", trained, clouds, *words[:6], "--png", "b.png").status == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()  # with the GIF and without
    assert cli("traverse", trained, clouds, "--num-dims", 1, "--out", "one.npy").status == 0
    assert len(np.load(tmp_path / "one.npy")) == 7


def test_without_a_posterior_rows_are_ordered_by_the_variance_of_the_codes(cli, completer, tmp_path):
    result = cli("traverse", completer, "--out", "t.h5")
    model = pcgen.load(completer)
    z = model.encode(data(completer).x).double()
    order = z.var(0).argsort(descending=True).tolist()
    assert "by the variance of the codes over 8 of Shapes (test): " + f"z{order[0]} " in result.err
    assert read_clouds(tmp_path / "t.h5").name[0] == f"z{order[0]}=-3σ"
    code = z[:1].clone()
    code[0, order[0]] = z.mean(0)[order[0]] - 3 * z.std(0, correction=0)[order[0]]
    expected = model.decode(code.float())[0]
    np.testing.assert_allclose(read_clouds(tmp_path / "t.h5").points[0], expected, rtol=1e-4, atol=1e-5)


# ── arithmetic ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_differences_of_means_over_the_training_split_are_added(cli, trained, tmp_path):
    words = ["--from", 1, "--from", "test_00003", "--plus", "chair", "--minus", "table", "--scales=-1,0,2"]
    result = cli("arithmetic", trained, *words, "--out", "a.h5", "--png", "a.png")
    assert result.status == 0, result.err
    assert "means over 12 (chair) and 12 (table) of 24 data of Shapes (train)\n" in result.err
    model, train, test = pcgen.load(trained), data(trained, "train"), data(trained)
    z, label = model.encode(train.x).double(), train.label
    difference = z[label == 0].mean(0) - z[label == 1].mean(0)
    starts = model.encode(test.x[[1, 3]]).double()
    codes = torch.stack([start + s * difference for start in starts for s in (-1, 0, 2)])
    found = read_clouds(tmp_path / "a.h5")
    np.testing.assert_allclose(found.points, model.decode(codes.float()), rtol=1e-4, atol=1e-5)
    assert found.name == tuple(f"test_0000{row} {s}" for row in (1, 3) for s in ("-1", "+0", "+2"))
    assert (tmp_path / "a.png").is_file()


def test_means_of_factors_of_another_split(cli, dots, tmp_path):
    words = ["--plus", "x>0.5", "--minus", "x<=0 & y>0", "--means-split", "val", "--out", "a.npy"]
    result = cli("arithmetic", dots, *words)
    batch = data(dots, "val")
    x, y = batch.factors.T
    plus, minus = x > 0.5, (x <= 0) & (y > 0)
    assert f"means over {plus.sum()} (x>0.5) and {minus.sum()} (x<=0 & y>0) of 20 data of Dots (val)" in result.err
    model = pcgen.load(dots)
    z = model.encode(batch.x).double()
    codes = model.encode(data(dots).x[:1]) + (z[plus].mean(0) - z[minus].mean(0)).float()
    np.testing.assert_allclose(np.load(tmp_path / "a.npy")[2], model.decode(codes)[0], rtol=1e-4, atol=1e-5)


def test_means_of_a_files_own_classes_and_factors(cli, trained, clouds):
    with h5py.File(clouds.with_name("x.h5"), "w") as file:
        file["points"] = np.load(clouds)
        file["label"] = [0, 1] * 5
        file["class_names"] = [b"cat", b"dog"]
        file["factors"] = np.arange(10.0)[:, None]
        file["factor_names"] = [b"age"]
    result = cli("arithmetic", trained, "x.h5", "--plus", "dog", "--minus", "age<3", "--out", "a.npy")
    assert result.status == 0, result.err
    assert "means over 5 (dog) and 3 (age<3) of 10 data of x.h5\n" in result.err


def test_a_file_that_tells_no_data_apart_takes_the_means_of_the_models_own(cli, trained, clouds, tmp_path):
    result = cli("arithmetic", trained, clouds, "--plus", "chair", "--minus", "table", "--scales", 1, "--out", "a.npy")
    assert result.status == 0, result.err
    assert "means over 12 (chair) and 12 (table) of 24 data of Shapes (train)\n" in result.err
    model, train = pcgen.load(trained), data(trained, "train")
    z = model.encode(train.x).double()
    start = model.encode(torch.from_numpy(np.load(clouds)[:1]))
    code = start + (z[train.label == 0].mean(0) - z[train.label == 1].mean(0)).float()
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), model.decode(code), rtol=1e-4, atol=1e-5)


# ── restore ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_images_are_damaged_restored_and_measured(cli, denoiser, tmp_path):
    result = cli("restore", denoiser, "-n", 40, "--seed", 3, "--json", "r.json", "--png", "r.png")
    assert result.status == 0, result.err
    model, x = pcgen.load(denoiser), data(denoiser).x[:40]
    damaged = model.corruption(x, generator=torch.Generator().manual_seed(3))
    restored = model.reconstruct(damaged)
    before, after = (float(((y - x).double() ** 2).mean()) for y in (damaged, restored))
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["distance"], found["num_data"], found["data"], found["split"]) == ("mse", 40, "Dots", "test")
    assert found["before"] == pytest.approx(before, rel=1e-5)
    assert found["after"] == pytest.approx(after, rel=1e-5)
    assert found["ratio"] == pytest.approx(after / before, rel=1e-5)
    assert found["corruption"]["class_path"] == "pcgen.corruptions.Compose"
    for part in (f"{before:.6g}", f"{after:.6g}", "SaltAndPepper (share 0.2), then GaussianNoise (std 0.1"):
        assert part in " ".join(result.out.split())
    assert Image.open(tmp_path / "r.png").height > 3 * 96
    assert cli("restore", denoiser, "-n", 40, "--json", "-").out != (tmp_path / "r.json").read_text()  # another seed
    assert cli("restore", denoiser, "-n", 40, "--seed", 3, "--json", "-").out == (tmp_path / "r.json").read_text()


def test_clouds_are_completed(cli, completer, clouds):
    found = json.loads(cli("restore", completer, clouds, "--json", "-").out)
    model, x = pcgen.load(completer), torch.from_numpy(np.load(clouds))
    damaged = model.corruption(x, generator=torch.Generator().manual_seed(0))
    for name, y in (("before", damaged), ("after", model.reconstruct(damaged))):
        d = torch.cdist(y.double(), x.double()) ** 2
        chamfer = (d.amin(1).mean(1) + d.amin(2).mean(1)).mean()
        assert found[name] == pytest.approx(float(chamfer), rel=1e-4)
    assert (found["distance"], found["split"]) == ("chamfer", None)


# ── latents ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_codes_of_two_models_side_by_side(cli, dots, denoiser, tmp_path):
    result = cli("latents", f"vae={dots}", f"ae={denoiser}", "--json", "l.json", "--png", "l.png", "--seed", 1)
    assert result.status == 0, result.err
    content = json.loads((tmp_path / "l.json").read_text())
    assert content["data"] == "Dots (test)"
    batch = data(dots)
    for name, run in (("vae", dots), ("ae", denoiser)):
        model, found = pcgen.load(run), content["models"][name]
        z = model.encode(batch.x)
        live = (kl(model, batch.x) if model.can("posterior") else z.var(0, correction=0)) > 0.01
        assert (found["model"], found["latent_dim"], found["num_data"]) == (type(model).__name__, 3, 60)
        assert found["active_units"] == int((z.double().var(0, correction=0) > 0.01).sum())
        error = float(((model.reconstruct(batch.x) - batch.x).double() ** 2).mean())
        assert (found["distance"], found["error"]) == ("mse", pytest.approx(error, rel=1e-5))
        for score, how in {"modularity": {}, "mutual_information_gap": {}, "compactness": {"seed": 1}}.items():
            expected = getattr(functional, score)(z * live, batch.factors, **how)
            assert found["factors"][score] == pytest.approx(float(expected), abs=1e-6)
        assert found["notes"] == ["factors: x, y"]
    vae, ae = content["models"]["vae"], content["models"]["ae"]
    assert vae["kl"] == pytest.approx(float(kl(pcgen.load(dots), batch.x).sum()), rel=1e-4)
    assert ae["kl"] is None
    # An untrained posterior is its prior; an untrained autoencoder's codes are anything but.
    assert abs(vae["mmd2"]) < 5 * vae["mmd2_of_prior"] < ae["mmd2"]
    assert ae["mmd2"] == pytest.approx(float(functional.latent_mmd2(pcgen.load(denoiser).encode(batch.x), seed=1)))
    z = pcgen.load(denoiser).encode(batch.x).double()
    assert (ae["mean"], ae["std"]) == pytest.approx((float(z.mean()), float(z.std(correction=0))), rel=1e-5)
    for part in ("vae", "ae", "MMD² to N(0, I)", "of two samples of N(0, I)", "linear R²", "factors: x, y"):
        assert part in result.out
    assert Image.open(tmp_path / "l.png").width > 1000


def test_a_table_of_many_models_breaks_no_word_of_its_heads(cli, dots, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = cli("latents", *(f"model_{k}={dots}" for k in range(5)), "-n", 40).out
    assert max(map(len, out.splitlines())) <= 80
    for head in ("latent dimensions", "mean, std of codes", "informativeness (DCI) ↑", "DCI disentanglement ↑"):
        assert f"│ {head} " in out


def test_named_data_for_models_of_different_training(cli, trained, completer, clouds, tmp_path):
    words = [trained, completer, "--data", clouds, "-n", 6, "--json", "-"]
    first, again = (cli("latents", *words).out for _ in range(2))
    assert first == again
    content = json.loads(first)
    assert content["data"] == str(clouds)
    assert [name.partition("/")[0] for name in content["models"]] == ["tiny", "completer"]
    for found in content["models"].values():
        assert (found["num_data"], found["distance"], found["factors"]) == (6, "chamfer", {})


def test_factors_that_are_not_known_of_all_or_do_not_vary_are_left_out(cli, trained, tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 32, 3)).astype(np.float32) / 4
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["points"] = points
        factors = np.stack([points[:, :, 0].mean(1), np.arange(40) % 2, np.full(40, 3.0), np.ones(40)], 1)
        factors[5, 3] = np.nan
        file["factors"] = factors
        file["factor_names"] = [b"side", b"kind", b"same", b"missing"]
    (found,) = json.loads(cli("latents", trained, "--data", "x.h5", "--json", "-").out)["models"].values()
    (note,) = found["notes"]
    assert note == "factors: side, kind (classes); left out, not known of every datum or constant: same, missing"
    z = pcgen.load(trained).encode(torch.from_numpy(points))
    expected = functional.modularity(z, torch.from_numpy(factors[:, :2]).float(), discrete=[False, True])
    assert found["factors"]["modularity"] == pytest.approx(float(expected), abs=1e-6)


def test_a_code_of_a_single_number(cli, narrow, tmp_path):
    assert cli("traverse", narrow, "--out", "t.npy").status == 0
    assert len(np.load(tmp_path / "t.npy")) == 7
    result = cli("latents", narrow, "--json", "-", "--png", "l.png")
    assert result.status == 0, result.err
    (found,) = json.loads(result.out)["models"].values()
    assert found["latent_dim"] == 1
    assert all(0 <= value <= 1 for value in found["factors"].values())
    error = cli("interpolate", narrow, "--path", "spherical", "--out", "a.npy").error
    assert "one dimension" in error


def test_numbers_that_are_none_are_null(cli, denoiser, monkeypatch, tmp_path):
    from pcgen.models import Autoencoder

    monkeypatch.setattr(Autoencoder, "reconstruct", lambda self, x: x * torch.nan)
    assert cli("restore", denoiser, "--json", "r.json").status == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["after"], found["ratio"]) == (None, None)


BAD = {
    "nothing to write": ("traverse DOTS", ["--out", "--png", "--gif"]),
    "a GIF of another name": ("traverse DOTS --gif a.png", ["--gif a.png", ".gif"]),
    "a dimension that is not there": ("traverse DOTS --dims 0,3 --png a.png", ["--dims 0,3", "0 to 2"]),
    "a dimension twice": ("traverse DOTS --dims 1,1 --png a.png", ["--dims 1,1"]),
    "a word for a dimension": ("traverse DOTS --dims a --png a.png", ["--dims a", "whole numbers"]),
    "dimensions in two ways": ("traverse DOTS --dims 1 --num-dims 3 --png a.png", ["--num-dims", "--dims"]),
    "no dimension": ("traverse DOTS --num-dims 0 --png a.png", ["--num-dims 0"]),
    "one step": ("traverse DOTS --steps 1 --png a.png", ["--steps 1"]),
    "no extent": ("traverse DOTS --extent 0 --png a.png", ["--extent 0"]),
    "a row that is not there": ("traverse DOTS --row 60 --png a.png", ["--row 60", "0 to 59"]),
    "images as points": ("traverse DOTS --out a.ply", ["a.ply", ".npy"]),
    "an unknown class": ("arithmetic CLOUDS --plus chair --minus sofa --out a.npy", ["'sofa'", "chair, table"]),
    "an unknown factor": ("arithmetic DOTS --plus z:high --minus x:low --out a.npy", ["'z'", "x, y"]),
    "a selector of nothing": (
        "arithmetic DOTS --plus x>9 --minus x:low --out a.npy",
        ["--plus 'x>9'", "none of the 200"],
    ),
    "a split of a file without": (
        "arithmetic CLOUDS clouds.npy --means-split dev --plus chair --minus table --out a.npy",
        ["'dev'", "train"],
    ),
    "a class of nobody": ("arithmetic CLOUDS clouds.npy --plus sofa --minus table --out a.npy", ["--plus 'sofa'"]),
    "a quarter that is none": (
        "arithmetic DOTS --plus x:high --minus y:down --out a.npy",
        ["--minus 'y:down'", "y:low"],
    ),
    "no minus": ("arithmetic CLOUDS --plus chair --out a.npy", ["--minus"]),
    "scales that are none": ("arithmetic CLOUDS --plus chair --minus table --scales a --out a.npy", ["--scales a"]),
    "an infinite scale": ("arithmetic CLOUDS --plus chair --minus table --scales inf --out a.npy", ["--scales inf"]),
    "a split that is not there": (
        "arithmetic CLOUDS --plus chair --minus table --means-split dev --out a.npy",
        ["'dev'", "train"],
    ),
    "a start that is not there": ("arithmetic CLOUDS --from x --plus chair --minus table --out a.npy", ["--from x"]),
    "nothing to undo": ("restore DOTS", ["VAE", "without a corruption", "pcgen reconstruct"]),
    "none to restore": ("restore DENOISER -n 0", ["-n 0"]),
    "a picture that is no PNG": ("restore DENOISER --png a.jpg", ["a.jpg", ".png"]),
    "images of another size": ("restore DENOISER small.npy", ["small.npy", "(2, 1, 8, 8)", "16, 16"]),
    "one code": ("latents DOTS -n 1", ["-n 1"]),
    "one datum": ("latents CLOUDS --data one.npy", ["one.npy", "one datum"]),
    "models of different data": ("latents DOTS CLOUDS", ["different data", "--data"]),
    "one checkpoint twice": ("latents a/b=DOTS a/b=DOTS", ["two checkpoints are called a/b:", "such as a-2="]),
    "no such checkpoint": ("latents no.ckpt", ["no.ckpt"]),
    "numbers below a file": ("latents DOTS --json clouds.npy/a.json", ["clouds.npy is a file"]),
}


@pytest.mark.parametrize(("line", "parts"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_nothing(cli, trained, dots, denoiser, clouds, tmp_path, line, parts):
    np.save(tmp_path / "small.npy", np.full((2, 1, 8, 8), 0.5, np.float32))
    np.save(tmp_path / "one.npy", np.load(clouds)[:1])
    before = sorted(tmp_path.rglob("*"))
    for word, place in {"CLOUDS": trained, "DOTS": dots, "DENOISER": denoiser}.items():
        line = line.replace(word, str(place))
    error = cli(*line.split()).error
    assert [part for part in parts if part not in error] == []
    assert sorted(tmp_path.rglob("*")) == before
