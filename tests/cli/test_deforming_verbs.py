"""decompose, align and swap, and interpolate with parts, of deforming autoencoders of images and of clouds."""

import json

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import pcgen
from pcgen.cli.images import read_images
from pcgen.io import read_clouds
from pcgen.latents import align
from pcgen.ops import chamfer_distance


def data(run, split="test"):
    recipe = pcgen.load(run).data_info["recipe"]
    kind = getattr(pcgen.datamodules, recipe["class_path"].rpartition(".")[2])
    datamodule = kind(**recipe["init_args"])
    return datamodule.take(split)


@pytest.fixture
def labelled(tmp_path):
    """Images in a file, of two classes, of which the second is rarer."""
    images = np.random.default_rng(0).random((12, 3, 16, 16), dtype=np.float32)
    with h5py.File(tmp_path / "labelled.h5", "w") as file:
        file["images"] = images
        file["label"] = label = np.array([0, 0, 1, 0] * 3)
        file["class_names"] = [b"cat", b"dog"]
    return images, label


def said(text):
    """Words of a table that the terminal's width may have broken."""
    return " ".join(text.split())


def test_training_drew_the_decompositions(emblems, bent):
    for run in (emblems, bent):
        assert np.ptp(np.asarray(Image.open(run / "figures" / "decompositions.png")).astype(int)) > 100


# ── decompose ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_of_images_is_written(cli, emblems, tmp_path):
    result = cli("decompose", emblems, "--rows", "3,test_00007", "--out", "d.npz", "--png", "d.png")
    assert result.status == 0, result.err
    x, model = data(emblems).x[[3, 7]], pcgen.load(emblems)
    found = np.load(tmp_path / "d.npz")
    assert sorted(found) == sorted(["input", "reconstruction", "template", "deformation", "albedo", "shading", "name"])
    expected = model.decompose(model.encode(x))
    np.testing.assert_array_equal(found["input"], x)
    np.testing.assert_allclose(found["reconstruction"], expected.x, atol=1e-6)
    np.testing.assert_allclose(found["deformation"], expected.deformation, atol=1e-6)
    np.testing.assert_allclose(found["template"], found["albedo"] * found["shading"], atol=1e-5)
    assert found["shading"].shape == (2, 1, 16, 16)
    assert found["name"].tolist() == ["test_00003", "test_00007"]
    assert Image.open(tmp_path / "d.png").height > 6 * 140  # six rows


def test_clouds_are_drawn_in_the_colours_of_the_template(cli, bent, tmp_path):
    words = ["--class", "table", "-n", 3, "--out", "d.npz", "--png", "d.png", "--correspondence", "c.png"]
    result = cli("decompose", bent, *words)
    assert result.status == 0, result.err
    found, batch = np.load(tmp_path / "d.npz"), data(bent)
    np.testing.assert_array_equal(found["input"], batch.x[batch.label == 1][:3])
    np.testing.assert_allclose(found["reconstruction"], found["template"] + found["deformation"], atol=1e-5)
    assert Image.open(tmp_path / "d.png").height > 4 * 140
    assert Image.open(tmp_path / "c.png").width > 4 * 180  # the template and three
    first = (tmp_path / "d.npz").read_bytes(), (tmp_path / "c.png").read_bytes()
    assert cli("decompose", bent, *words).status == 0
    assert first == ((tmp_path / "d.npz").read_bytes(), (tmp_path / "c.png").read_bytes())


# ── align ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_classes_are_aligned_one_by_one(cli, emblems, labelled, tmp_path):
    result = cli("align", emblems, "labelled.h5", "--png", "a.png", "--json", "a.json")
    assert result.status == 0, result.err
    images, label = labelled
    found = json.loads((tmp_path / "a.json").read_text())
    model = pcgen.load(emblems)
    assert list(found["sets"]) == ["cat", "dog"]
    for k, numbers in enumerate(found["sets"].values()):
        mine = images[label == k].astype(np.float64)
        assert numbers["count"] == len(mine)
        assert numbers["variance"]["inputs"] == pytest.approx(mine.var(0).mean(), rel=1e-5)
        alone = align(model, torch.from_numpy(images[label == k]))
        aligned = alone.aligned.double().numpy().var(0).mean()
        assert numbers["variance"]["aligned"] == pytest.approx(aligned, rel=1e-4)
        assert numbers["ratio"]["aligned"] == pytest.approx(aligned / mine.var(0).mean(), rel=1e-4)
        assert f"{numbers['ratio']['textures']:.3f}" in result.out
    assert Image.open(tmp_path / "a.png").height > 2 * 128


def test_one_class_shows_examples_and_data_without_classes_are_one_set(cli, emblems, labelled, tmp_path):
    result = cli("align", emblems, "labelled.h5", "--class", "dog", "--png", "dog.png", "--json", "-")
    assert list(json.loads(result.out)["sets"]) == ["dog"]
    assert Image.open(tmp_path / "dog.png").height > 3 * 128  # inputs, aligned, means
    result = cli("align", emblems, "-n", 5, "--json", "a.json")
    assert result.status == 0, result.err
    found = json.loads((tmp_path / "a.json").read_text())
    assert {name: numbers["count"] for name, numbers in found["sets"].items()} == {"all": 5}
    expected = data(emblems).x[:5].double().var(0, correction=0).mean().item()
    assert found["sets"]["all"]["variance"]["inputs"] == pytest.approx(expected, rel=1e-5)


def test_one_image_has_no_ratio(cli, emblems):
    result = cli("align", emblems, "-n", 1, "--json", "-")
    assert json.loads(result.out)["sets"]["all"]["ratio"] == {"aligned": None, "misaligned": None, "textures": None}
    assert "–" in cli("align", emblems, "-n", 1).out


# ── swap ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_images_are_swapped_in_a_matrix(cli, emblems, tmp_path):
    words = ["--shapes", "0,4", "--appearances", "1,2,8", "--out", "s.npz", "--png", "s.png"]
    result = cli("swap", emblems, *words)
    assert result.status == 0, result.err
    model, x = pcgen.load(emblems), data(emblems).x
    z = model.encode(x)
    codes = torch.stack([torch.cat([z[a, :4], z[b, 4:]]) for a in (0, 4) for b in (1, 2, 8)])
    assert model.latent_parts["shape"] == slice(0, 4)
    found = read_images(tmp_path / "s.npz")
    np.testing.assert_allclose(found.images, model.decode(codes).clamp(0, 1), atol=1e-6)
    assert found.name[1] == "test_00000 x test_00002"
    assert Image.open(tmp_path / "s.png").width > 4 * 96


def test_other_parts_can_be_given_away(cli, emblems, tmp_path):
    assert cli("swap", emblems, "--parts", "shading", "--out", "s.npz").status == 0
    model, x = pcgen.load(emblems), data(emblems).x
    z = model.encode(x)
    column = model.latent_parts["shading"]
    code = z[3].clone()
    code[column] = z[0][column]
    np.testing.assert_allclose(
        read_images(tmp_path / "s.npz").images[0], model.decode(code[None])[0].clamp(0, 1), atol=1e-6
    )


def test_swaps_of_clouds_are_measured_over_random_pairs(cli, bent, tmp_path):
    words = ["-n", 30, "--references", 20, "--seed", 2, "--json", "s.json", "--out", "s.h5", "--png", "s.png"]
    result = cli("swap", bent, *words)
    assert result.status == 0, result.err
    found = json.loads((tmp_path / "s.json").read_text())
    model, batch, train = pcgen.load(bent), data(bent), data(bent, "train")
    generator = torch.Generator().manual_seed(2)
    first = torch.randint(24, (30,), generator=generator)
    second = (first + torch.randint(1, 24, (30,), generator=generator)) % 24
    z = model.encode(batch.x)
    made = model.decode(torch.cat([z[first, :3], z[second, 3:]], 1))
    extent = lambda x: (x.amax(1) - x.amin(1)).numpy()  # noqa: E731
    for donor, rows in (("shape", first), ("appearance", second)):
        other = extent(model.decode(z[rows]))
        for k, name in enumerate(("width", "depth", "height")):
            expected = np.corrcoef(extent(made)[:, k], other[:, k])[0, 1]
            assert found["extents"][name][donor] == pytest.approx(expected, abs=1e-4)
    rows = torch.randperm(48, generator=torch.Generator().manual_seed(2))[:20]
    distance = torch.stack([chamfer_distance(made, train.x[row].expand_as(made)) for row in rows], 1)
    label = train.label[rows][distance.argmin(1)]
    apart = batch.label[first] != batch.label[second]
    assert found["nearest"]["class"]["num_pairs"] == apart.sum() > 0
    for donor, its in (("shape", first), ("appearance", second)):
        share = (label == batch.label[its])[apart].double().mean().item()
        assert found["nearest"]["class"][donor] == pytest.approx(share)
    assert f"{found['extents']['height']['shape']:.3f}" in result.out
    assert f"nearest of 20 training clouds, for {apart.sum()} pairs that differ" in said(result.out)
    assert read_clouds(tmp_path / "s.h5").points.shape == (9, 32, 3)


def test_donors_are_named_by_what_they_give(cli, bent, tmp_path):
    """The shape of one with the appearance of another, whichever of them is asked for."""
    words = ["--parts", "appearance", "-n", 30, "--references", 20, "--json", "s.json"]
    result = cli("swap", bent, *words)
    assert result.status == 0, result.err
    found = json.loads((tmp_path / "s.json").read_text())
    model, batch = pcgen.load(bent), data(bent)
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(24, (30,), generator=generator)
    second = (first + torch.randint(1, 24, (30,), generator=generator)) % 24
    z = model.encode(batch.x)
    made = model.decode(torch.cat([z[second, :3], z[first, 3:]], 1))
    extent = lambda x: (x.amax(1) - x.amin(1)).numpy()  # noqa: E731
    assert found["donors"] == ["appearance", "shape"]
    for donor, rows in (("appearance", first), ("shape", second)):
        expected = np.corrcoef(extent(made)[:, 2], extent(model.decode(z[rows]))[:, 2])[0, 1]
        assert found["extents"]["height"][donor] == pytest.approx(expected, abs=1e-4)
    assert set(found["nearest"]["class"]) >= {"appearance", "shape"}
    head = said(result.out.split("height")[0])
    assert 0 < head.index("appearance donor") < head.index("shape donor")


def test_clouds_without_classes_have_no_nearest(cli, bent, clouds, tmp_path):
    result = cli("swap", bent, clouds, "-n", 5, "--json", "s.json")
    assert result.status == 0, result.err
    assert json.loads((tmp_path / "s.json").read_text())["nearest"] == {}
    assert "nearest" not in result.out


def test_measuring_can_be_left_out(cli, bent):
    result = cli("swap", bent, "-n", 0, "--out", "s.npy")
    assert result.status == 0
    assert result.out == ""


# ── interpolate ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_the_named_parts_move(cli, emblems, tmp_path):
    words = ["--from", 2, "--to", 5, "--steps", 3, "--out", "w.npz", "--png", "w.png"]
    assert cli("interpolate", emblems, "--parts", "shading,shape", *words).status == 0
    model, x = pcgen.load(emblems), data(emblems).x
    a, b = model.encode(x[[2]])[0], model.encode(x[[5]])[0]
    codes = torch.stack([a.lerp(b, t) for t in (0.0, 0.5, 1.0)])
    codes[:, model.latent_parts["albedo"]] = a[model.latent_parts["albedo"]]
    found = read_images(tmp_path / "w.npz").images
    np.testing.assert_allclose(found, model.decode(codes).clamp(0, 1), atol=1e-5)
    named = (tmp_path / "w.png").read_bytes()
    assert cli("interpolate", emblems, *words).status == 0
    assert (tmp_path / "w.png").read_bytes() != named


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


MISTAKES = {
    "nothing to write": ("decompose EMBLEMS", ["nothing to write", "--correspondence"]),
    "none": ("decompose EMBLEMS -n 0 --png a.png", ["-n 0"]),
    "no rows": ("decompose EMBLEMS --rows , --png a.png", ["--rows", "at least one"]),
    "an absent row": ("decompose EMBLEMS --rows 99 --png a.png", ["--rows 99", "0 to 19"]),
    "two choices": ("decompose EMBLEMS --rows 1 --class cat --png a.png", ["--rows and --class"]),
    "another file": ("decompose EMBLEMS --out a.h5", ["--out a.h5", ".npz"]),
    "a picture's name": ("decompose BENT --correspondence a.gif", ["--correspondence a.gif", ".png"]),
    "correspondence of images": ("decompose EMBLEMS --correspondence a.png", ["--correspondence", "clouds"]),
    "no classes": ("decompose EMBLEMS --class cat --png a.png", ["--class cat", "none"]),
    "an unknown class": ("decompose BENT --class cat --png a.png", ["--class cat", "chair, table"]),
    "no deformation": ("decompose DOTS --png a.png", ["VAE cannot decompose", "DeformingAutoencoder"]),
    "aligned clouds": ("align BENT --png a.png", ["clouds", "pcgen decompose"]),
    "aligned nothing": ("align EMBLEMS -n 0", ["-n 0"]),
    "aligned codes of one piece": ("align DOTS", ["VAE cannot decompose"]),
    "all parts": ("swap EMBLEMS --parts shape,albedo,shading --png a.png", ["nothing is swapped"]),
    "no parts": ("swap EMBLEMS --parts , --png a.png", ["shape, albedo, shading"]),
    "an unknown part": ("swap EMBLEMS --parts color --png a.png", ["'color'", "shape, albedo, shading"]),
    "codes of one piece": ("swap DOTS --png a.png", ["VAE", "no part 'shape'"]),
    "one part alone": ("swap LEARNED --png a.png", ["one part alone, shape", "nothing to swap"]),
    "numbers of images": ("swap EMBLEMS --json a.json", ["--json", "images"]),
    "pairs of images": ("swap EMBLEMS -n 5 --png a.png", ["-n 5", "images"]),
    "references of images": ("swap EMBLEMS --references 5 --png a.png", ["--references 5", "images"]),
    "numbers of nothing": ("swap BENT -n 0 --png a.png --json a.json", ["--json a.json", "-n 0"]),
    "references of nothing": ("swap BENT -n 0 --png a.png --references 5", ["--references 5", "-n 0"]),
    "a picture of one pair": ("swap BENT -n 1 --png a.png", ["at least two pairs"]),
    "rows of no matrix": ("swap BENT --shapes 99 --json a.json", ["--shapes 99", "--png FILE"]),
    "images to nowhere": ("swap EMBLEMS", ["nothing to write"]),
    "clouds to nowhere": ("swap BENT -n 0", ["nothing to do"]),
    "one pair": ("swap BENT -n 1", ["at least two pairs"]),
    "fewer than no pairs": ("swap BENT -n -1", ["-n -1"]),
    "no references": ("swap BENT --references 0", ["--references 0"]),
    "a shape from nowhere": ("swap BENT --shapes 99 --png a.png", ["--shapes 99", "0 to 23"]),
    "an appearance from nowhere": ("swap BENT --appearances x --png a.png", ["--appearances x"]),
    "a part that does not move": ("interpolate BENT --parts albedo --out a.npy", ["'albedo'", "shape, appearance"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_line_and_leave_nothing_behind(cli, emblems, bent, learned, dots, tmp_path, mistake):
    words, parts = MISTAKES[mistake]
    runs = {"EMBLEMS": emblems, "BENT": bent, "LEARNED": learned, "DOTS": dots}
    error = cli(*[runs.get(word, word) for word in words.split()]).error
    for part in parts:
        assert part in error
    assert not list(tmp_path.iterdir())
