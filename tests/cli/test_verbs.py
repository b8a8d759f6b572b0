"""sample, reconstruct, interpolate, evaluate, data, list and the entry itself."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import pcgen
from pcgen.base import VERBS
from pcgen.io import read_clouds
from pcgen.ops import chamfer_distance

SQUARE = "OFF\n4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n"


@pytest.mark.parametrize("suffix", [".h5", ".npy", ".npz", ".ply", ".xyz", ".png"])
def test_one_seed_gives_one_file_byte_for_byte(cli, trained, tmp_path, suffix):
    flag = "--png" if suffix == ".png" else "--out"
    contents = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        result = cli("sample", trained, "-n", 3, flag, f"{name}{suffix}", "--seed", seed)
        assert result.status == 0
        written = tmp_path / result.err.split(": ")[1].strip()
        files = sorted(written.iterdir()) if written.is_dir() else [written]
        contents.append([file.read_bytes() for file in files])
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_what_is_sampled_is_what_the_model_samples(cli, trained, tmp_path):
    cli("sample", trained / "checkpoints" / "last.ckpt", "-n", 5, "--out", "a.h5", "--seed", 2)
    expected = pcgen.load(trained).sample(5, generator=torch.Generator().manual_seed(2))
    assert read_clouds(tmp_path / "a.h5").points.shape == expected.shape
    assert read_clouds(tmp_path / "a.h5").up_axis == 2


def test_paths_are_told_as_typed(cli, trained, tmp_path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.npy"
    assert cli("sample", trained, "-n", 1, "--out", tmp_path / "in" / "a.npy").err == "1 cloud of 32 points: in/a.npy\n"
    assert cli("sample", trained, "-n", 2, "--out", elsewhere).err == f"2 clouds of 32 points: {elsewhere}\n"


def test_reconstructions_are_the_models_in_the_files_units(cli, trained, clouds, tmp_path):
    np.save(clouds, np.load(clouds) * 50 + 7)
    result = cli("reconstruct", trained, clouds, "--out", "r.npy", "--png", "r.png", "--normalize", "ball")
    assert result.status == 0
    points = np.load(clouds).astype(np.float64)
    center = points.mean(1, keepdims=True)
    scale = np.linalg.norm(points - center, axis=-1).max(1)[:, None, None]
    x = torch.from_numpy((points - center) / scale).float()
    y = pcgen.load(trained).reconstruct(x)
    np.testing.assert_allclose(np.load(tmp_path / "r.npy"), y.numpy() * scale + center, rtol=1e-4, atol=1e-3)
    told = float(re.search(r"units: ([\d.e+-]+)", result.err)[1])
    assert told == pytest.approx(float(chamfer_distance(x, y).mean()), rel=1e-4)


def test_clouds_in_other_units_are_warned_of(cli, trained, clouds):
    assert "warning" not in cli("reconstruct", trained, clouds, "--out", "r.npy").err
    np.save(clouds, np.load(clouds) * 50)
    result = cli("reconstruct", trained, clouds, "--out", "r.npy")
    assert result.err.startswith("pcgen: warning: the clouds reach 50 ")
    assert "--normalize ball" in result.err


def test_reconstructing_without_data_takes_the_test_split_of_the_training_data(cli, trained, tmp_path):
    assert cli("reconstruct", trained, "--out", "r.npy").status == 0
    model = pcgen.load(trained)
    x = pcgen.datamodules.Shapes(**model.data_info["recipe"]["init_args"]).take("test").x
    np.testing.assert_allclose(np.load(tmp_path / "r.npy"), model.reconstruct(x).numpy(), rtol=1e-5, atol=1e-6)


def test_reconstructing_a_mesh_and_a_folder(cli, trained, clouds, tmp_path):
    (tmp_path / "square.off").write_text(SQUARE)
    assert cli("reconstruct", trained, "square.off", "--out", "m.npy").status == 0
    assert np.load(tmp_path / "m.npy").shape == (1, 32, 3)
    (tmp_path / "folder").mkdir()
    for i, cloud in enumerate(np.load(clouds)):
        np.save(tmp_path / "folder" / f"{i}.npy", cloud)
    assert cli("reconstruct", trained, "folder", "--out", "f.npy", "-n", 4).status == 0
    assert np.load(tmp_path / "f.npy").shape == (4, 32, 3)


def test_reconstructing_real_chairs(cli, trained, real_data, tmp_path):
    words = ["--classes", "chair", "--normalize", "ball", "-n", 3, "--out", "r.h5"]
    assert cli("reconstruct", trained, real_data / "modelnet10.h5", *words).status == 0
    assert read_clouds(tmp_path / "r.h5").name == ("chair_0890", "chair_0891", "chair_0892")


def test_a_walk_by_name_and_by_row_has_both_ends_in(cli, trained, clouds, tmp_path):
    points = np.load(clouds)
    with h5py.File(tmp_path / "named.h5", "w") as file:
        file["points"] = points
        file["name"] = [f"thing_{i}".encode() for i in range(len(points))]
    ends = pcgen.load(trained).reconstruct(torch.from_numpy(points[[2, 7]]))
    for start, end in (("thing_2", "thing_7"), ("2", "7")):
        words = ["--from", start, "--to", end, "--steps", 5, "--out", "w.npy", "--png", "w.png"]
        assert cli("interpolate", trained, "named.h5", *words).status == 0
        walk = np.load(tmp_path / "w.npy")
        assert walk.shape == (5, 32, 3)
        np.testing.assert_allclose(walk[[0, -1]], ends.numpy(), rtol=1e-5, atol=1e-6)


def test_how_smooth_walks_are_is_told(cli, trained, digits, tmp_path):
    result = cli("interpolate", trained, "--from-prior", "--pairs", 2, "--steps", 6, "--seed", 3, "--out", "w.npy")
    walks = np.load(tmp_path / "w.npy").reshape(2, 6, 32, 3).astype(np.float64)
    lengths = np.sqrt(np.square(np.diff(walks, axis=1)).sum(-1).mean(-1))  # (2, 5)
    for k, steps in enumerate(lengths):
        [line] = [line for line in result.out.splitlines() if line.strip("│ ").startswith(f"{k} ")]
        numbers = [float(word) for word in line.strip("│ ").split("│")]
        assert numbers[:4] == pytest.approx([k, steps.mean(), steps.max(), steps.max() / steps.mean()], rel=1e-3)
        assert 1 <= numbers[4] < 5
    result = cli("interpolate", digits, "--out", "i.npy")
    assert "longest / mean" in result.out
    assert "Chamfer" not in result.out


@pytest.fixture
def blind(monkeypatch, trained):
    """The shared run, whose model has forgotten how to encode: it samples alone, as a GAN does."""
    from pcgen.base import GenerativeModel
    from pcgen.models import VAE

    for verb in ("encode", "posterior", "features"):
        monkeypatch.setattr(VAE, verb, getattr(GenerativeModel, verb))
    return trained


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_a_model_that_cannot_encode_walks_between_draws_of_its_prior(cli, blind, tmp_path, path):
    words = ["--path", path, "--steps", 5, "--pairs", 3, "--seed", 4, "--out", "w.npy", "--png", "w.png"]
    assert cli("interpolate", blind, *words).status == 0
    walk, model = np.load(tmp_path / "w.npy").reshape(3, 5, 32, 3), pcgen.load(blind)  # one walk after the other
    ends = model.prior(6, generator=torch.Generator().manual_seed(4))
    made = model.decode(ends).view(3, 2, 32, 3).numpy()
    np.testing.assert_allclose(walk[:, [0, -1]], made, rtol=1e-5, atol=1e-6)
    middle = model.decode(ends.view(3, 2, -1).mean(1)).numpy()
    assert np.allclose(walk[:, 2], middle, atol=1e-6) == (path == "linear")
    first = (tmp_path / "w.npy").read_bytes()
    assert cli("interpolate", blind, *words).status == 0
    assert (tmp_path / "w.npy").read_bytes() == first
    assert cli("interpolate", blind, "--out", "four.npy").status == 0
    assert len(np.load(tmp_path / "four.npy")) == 4 * 8


def test_a_model_that_encodes_walks_between_draws_when_told_so(cli, trained, digits, tmp_path):
    assert cli("interpolate", trained, "--from-prior", "--pairs", 1, "--steps", 3, "--out", "w.npy").status == 0
    model = pcgen.load(trained)
    ends = model.decode(model.prior(2, generator=torch.Generator().manual_seed(0)))
    np.testing.assert_allclose(np.load(tmp_path / "w.npy")[[0, -1]], ends.numpy(), rtol=1e-5, atol=1e-6)
    assert cli("interpolate", digits, "--from-prior", "--png", "w.png", "--out", "i.npy").status == 0
    images = np.load(tmp_path / "i.npy")
    assert images.shape == (32, 1, 28, 28)
    assert images.min() >= 0
    assert images.max() <= 1


BLIND = {
    "data": ("clouds.npy", ["DATA", "VAE cannot encode"]),
    "a first datum": ("--from 0", ["--from", "between draws of the prior"]),
    "a last datum": ("--to 1", ["--to", "VAE cannot encode"]),
    "a split": ("--split test", ["--split"]),
    "no walk": ("--pairs 0", ["--pairs 0"]),
}


@pytest.mark.parametrize(("words", "parts"), BLIND.values(), ids=BLIND)
def test_a_walk_between_draws_has_no_use_for_data(cli, blind, clouds, words, parts):
    error = cli("interpolate", blind, *words.split(), "--out", "a.npy").error
    assert [part for part in parts if part not in error] == []


def test_who_cannot_walk_at_all_says_who_can(cli, blind, monkeypatch):
    from pcgen.base import GenerativeModel
    from pcgen.models import VAE

    monkeypatch.setattr(VAE, "prior", GenerativeModel.prior)
    error = cli("interpolate", blind, "--out", "a.npy").error
    assert "VAE cannot interpolate; models that can: " in error
    assert "Autoencoder" in error
    assert "VAE has no prior" in cli("interpolate", blind, "--from-prior", "--out", "a.npy").error


def test_evaluating_a_checkpoint_gives_scores_oracle_and_protocol(cli, trained, tmp_path):
    words = ["-n", 8, "--radius", 1, "--both-orientations", "--json", "e.json"]
    result = cli("evaluate", trained, *words)
    assert result.status == 0
    assert "oracle" in result.out
    scores = json.loads((tmp_path / "e.json").read_text())
    assert {"mmd_cd", "cov_cd", "1nna_cd", "jsd", "mmd_cd_swapped"} <= scores["values"].keys()
    assert scores["values"].keys() == scores["oracle"].keys()
    protocol = scores["protocol"]
    assert (protocol["data"], protocol["split"]) == ("Shapes (chair, table)", "test")
    assert (protocol["num_reference"], protocol["num_generated"], protocol["num_points"]) == (8, 8, 32)
    assert (protocol["seed"], protocol["chunk"], protocol["jsd_radius"]) == (0, 64, 1.0)
    assert cli("evaluate", trained, *words[:-1], "again.json").status == 0
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "e.json").read_bytes()


def test_evaluating_a_file_against_one_with_splits(cli, clouds, tmp_path):
    reference = np.random.default_rng(1).normal(size=(20, 48, 3)).astype(np.float32)
    with h5py.File(tmp_path / "ref.h5", "w") as file:
        file["points"] = reference
        file["split"] = np.repeat([b"train", b"test"], [12, 8])
    result = cli("evaluate", "clouds.npy", "--reference", "ref.h5", "--json", "e.json", "--normalize", "ball")
    assert result.status == 0
    assert "8 of the 10 generated clouds" in result.err
    scores = json.loads((tmp_path / "e.json").read_text())
    assert scores["protocol"]["split"] == "test"
    assert scores["protocol"]["normalization"]["region"] == "ball"
    assert scores["protocol"]["num_reference"] == 8
    assert scores["oracle"]


def test_a_set_against_itself_is_perfect(cli, clouds, tmp_path):
    assert cli("evaluate", clouds, "--reference", clouds, "--json", "e.json").status == 0
    values = json.loads((tmp_path / "e.json").read_text())["values"]
    assert values == {"mmd_cd": pytest.approx(0, abs=1e-9), "cov_cd": 1.0, "1nna_cd": 0.0}


@pytest.fixture
def meshes(tmp_path):
    """A ModelNet tree of four good meshes and a bad one."""
    for kind in ("chair", "table"):
        for split in ("train", "test"):
            (tmp_path / "tree" / kind / split).mkdir(parents=True)
            (tmp_path / "tree" / kind / split / f"{kind}_{split}.off").write_text(SQUARE)
    (tmp_path / "tree" / "chair" / "train" / "chair_bad.off").write_text(SQUARE.replace("3 0 1 2", "3 0 1 9"))
    return tmp_path / "tree"


def test_preparing_reports_a_bad_mesh_and_goes_on(cli, meshes, tmp_path):
    result = cli("data", "prepare", "tree", "out.h5", "--points", 64)
    assert result.status == 1
    assert "chair_bad.off" in result.err
    assert result.err.endswith("4 clouds of 64 points: out.h5\n")
    other = cli("data", "prepare", "tree", "out.h5", "--points", 32)
    assert "already there" in other.error
    written = (tmp_path / "out.h5").stat()
    again = cli("data", "prepare", "tree", "out.h5", "--points", 64)
    assert again.status == 1
    assert "chair_bad.off" in again.err
    assert "5 clouds had been done by an earlier run" in again.err
    assert (tmp_path / "out.h5").stat() == written
    allowed = cli("data", "prepare", "tree", "out.h5", "--points", 64, "--overwrite", "--allow-failures")
    assert allowed.status == 0
    assert read_clouds(tmp_path / "out.h5").points.shape == (4, 64, 3)


def test_without_bad_meshes_the_status_is_zero(cli, meshes):
    (meshes / "chair" / "train" / "chair_bad.off").unlink()
    assert cli("data", "prepare", "tree", "out.h5", "--points", 64).status == 0


def test_repeated_points_are_warned_of_in_one_line(cli, clouds):
    result = cli("data", "prepare", "clouds.npy", "out.h5", "--points", 64)
    (warning,) = [line for line in result.err.splitlines() if "warning" in line]
    assert warning.startswith("pcgen: warning: ")
    assert "64 points asked for" in warning


def test_info_is_a_table_for_people(cli, meshes, clouds):
    cli("data", "prepare", "tree", "out.h5", "--points", 64, "--allow-failures")
    out = cli("data", "info", "out.h5").out
    assert re.search(r"^splits +train 2, test 2 *$", out, re.MULTILINE)
    assert re.search(r"^class +train +test *$", out, re.MULTILINE)
    assert re.search(r"^chair +1 +1 *$", out, re.MULTILINE)
    assert re.search(r"^longest side +0\.\d+ to ", out, re.MULTILINE)
    assert "{" not in out
    assert "None" not in out
    plain = cli("data", "info", "clouds.npy").out
    assert "class" not in plain
    assert "splits" not in plain
    assert "chair_bad.off" in cli("data", "info", "tree").out


def test_info_for_machines(cli, clouds):
    facts = json.loads(cli("data", "info", "clouds.npy", "--json").out)
    assert (facts["clouds"], facts["points"]) == (10, 32)


def test_list_names_what_a_config_may_use_and_no_base_class(cli):
    out = cli("list").out
    for name in ("VAE", "Shapes", "PointNetEncoder", "ChamferReconstruction", "SetScores", "quickstart.yaml"):
        assert re.search(rf"^  {re.escape(name)} ", out, re.MULTILINE), name
    for base in ("Encoder", "Decoder", "Reconstruction", "CloudDataModule", "Augmentation"):
        assert not re.search(rf"^  {base} ", out, re.MULTILINE), base
    assert "Jitter" in cli("list", "augmentations").out
    assert "Jitter" not in cli("list", "datamodules").out
    for room, name in (("corruptions", "CutBall"), ("schedules", "LinearBeta"), ("kernels", "InverseMultiquadratic")):
        assert name in cli("list", room).out
    for loss in ("NonSaturatingLoss", "HingeLoss", "WassersteinLoss"):
        assert loss in cli("list", "losses").out
    assert "ExponentialMovingAverage" not in cli("list", "networks").out  # a config has no place for it
    assert "log(1−p)" in re.sub(r"\s+", " ", cli("list", "losses").out)  # brackets are no markup


def test_list_says_of_a_config_its_first_sentence_whole(cli):
    entries = re.split(r"\n  (?=\S)", cli("list", "configs").out)
    texts = {words[0]: " ".join(words[1:]) for words in map(str.split, entries) if len(words) > 1}
    assert len(texts) > 30
    for name, text in texts.items():
        assert text.endswith("."), (name, text)
    assert "first pcgen fit --config vae-modelnet10-chairs." in texts["latent-gan-modelnet10-chairs.yaml"]


def test_list_says_of_each_model_what_it_can_do(cli, blind, monkeypatch):
    from pcgen.models import VAE

    def verbs(name):
        entries = re.split(r"\n  (?=\S)", cli("list", "models").out)  # each begins with its name
        (words,) = (words for first, *words in map(str.split, entries) if first == name)
        return {word.strip(",") for word in words} & set(VERBS)

    assert verbs("VAE") == {"sample", "decode", "prior"}
    monkeypatch.setattr(VAE, "energy", lambda self, x: x.sum((1, 2)))
    assert verbs("VAE") == {"sample", "decode", "prior", "energy"}
    assert verbs("Autoencoder") >= {"encode", "decode", "reconstruct", "interpolate"}
    assert not verbs("Autoencoder") & {"sample", "prior", "energy"}


def test_a_model_that_cannot_encode_is_sampled_and_evaluated(cli, blind, tmp_path):
    assert cli("sample", blind, "-n", 5, "--out", "s.npy", "--png", "s.png").status == 0
    assert np.load(tmp_path / "s.npy").shape == (5, 32, 3)
    result = cli("evaluate", blind, "-n", 8, "--radius", 1, "--json", "e.json")
    assert result.status == 0, result.err
    values = json.loads((tmp_path / "e.json").read_text())["values"]
    assert all(np.isfinite(values[name]) for name in ("mmd_cd", "cov_cd", "1nna_cd", "jsd"))
    error = cli("reconstruct", blind, "--out", "a.npy").error
    assert "VAE cannot reconstruct; models that can: " in error


def truncated(path, folder):
    file = folder / "truncated.ckpt"
    file.write_bytes(path.read_bytes()[:1000])
    return file


BAD = {
    "no such checkpoint": ("sample no.ckpt --out a.npy", ["no.ckpt"]),
    "a checkpoint that is truncated": ("sample TRUNCATED --out a.npy", ["truncated.ckpt", "truncated"]),
    "a checkpoint that is a cloud": ("sample clouds.npy --out a.npy", ["clouds.npy"]),
    "a folder without checkpoint": ("sample empty --out a.npy", ["no checkpoint"]),
    "nothing to write": ("sample RUN", ["--out", "--png"]),
    "an unknown suffix": ("sample RUN --out a.txt", ["a.txt", ".npy"]),
    "a picture that is no PNG": ("sample RUN --png a.jpg", ["a.jpg", ".png"]),
    "no clouds": ("sample RUN -n 0 --out a.npy", ["-n 0"]),
    "a word for a number": ("sample RUN -n many --out a.npy", ["-n", "'many'"]),
    "an unknown device": ("sample RUN --out a.npy --device foo", ["--device foo", "cpu"]),
    "a device that is not there": ("sample RUN --out a.npy --device cuda:99", ["--device cuda:99", "cpu"]),
    "a misspelt option": ("sample RUN --sed 3 --out a.npy", ["--sed", "--seed"]),
    "a missing argument": ("sample --out a.npy", ["checkpoint"]),
    "a misspelt verb": ("sampel RUN", ["'sampel'", "'sample'"]),
    "no such file": ("reconstruct RUN no.npy --out a.npy", ["no.npy"]),
    "a folder that is empty": ("reconstruct RUN empty --out a.npy", ["empty"]),
    "NaN": ("reconstruct RUN nan.npy --out a.npy", ["nan.npy", "NaN"]),
    "flat clouds": ("reconstruct RUN flat.npy --out a.npy", ["flat.npy", "(3, 8, 2)"]),
    "an HDF5 that is none": ("reconstruct RUN no_hdf5.h5 --out a.npy", ["no_hdf5.h5"]),
    "a split that is not there": ("reconstruct RUN clouds.npy --split val --out a.npy", ["clouds.npy", "split"]),
    "a split of the training data that is not there": ("reconstruct RUN --split vla --out a.npy", ["'vla'", "val"]),
    "classes without labels": ("reconstruct RUN clouds.npy --classes chair --out a.npy", ["chair", "labels"]),
    "classes without a file": ("reconstruct RUN --classes chair --out a.npy", ["--classes"]),
    "a normalisation without a file": ("reconstruct RUN --normalize ball --out a.npy", ["--normalize"]),
    "an unknown normalisation": ("reconstruct RUN clouds.npy --normalize bal --out a.npy", ["'bal'", "'ball'"]),
    "a walk of one step": ("interpolate RUN clouds.npy --steps 1 --out a.npy", ["--steps 1"]),
    "a walk from nowhere": ("interpolate RUN clouds.npy --from 99 --out a.npy", ["--from 99", "0 to 9"]),
    "data and the prior": ("interpolate RUN clouds.npy --from-prior --out a.npy", ["DATA", "draws of the prior"]),
    "a part of a code of one piece": ("interpolate RUN --parts shape --out a.npy", ["VAE", "no part 'shape'"]),
    "no part": ("interpolate RUN --parts , --out a.npy", ["--parts ','", "at least one"]),
    "parts of draws": ("interpolate RUN --from-prior --parts shape --out a.npy", ["--parts", "draws of the prior"]),
    "walks of data": ("interpolate RUN clouds.npy --pairs 3 --out a.npy", ["--pairs 3", "--from-prior"]),
    "no reference": ("evaluate clouds.npy", ["clouds.npy", "--reference"]),
    "more than there are": ("evaluate clouds.npy --reference clouds.npy -n 11", ["-n 11", "10 clouds"]),
    "an unknown distance": ("evaluate RUN --distances foo", ["foo", "cd"]),
    "a radius below 0": ("evaluate RUN --radius -1", ["--radius -1"]),
    "no source": ("data prepare no out.h5", ["no "]),
    "a target of another kind": ("data prepare clouds.npy out.npy", ["out.npy", "out.h5"]),
    "no points": ("data prepare clouds.npy out.h5 --points 0", ["--points 0"]),
    "no processes": ("data prepare clouds.npy out.h5 --jobs 0", ["--jobs 0"]),
    "an unknown verb of data": ("data infos clouds.npy", ["'infos'", "'info'"]),
    "no such file to describe": ("data info no.h5", ["no.h5"]),
    "an unknown room": ("list model", ["'model'", "'models'"]),
}


@pytest.mark.parametrize(("line", "parts"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_nothing(cli, trained, clouds, tmp_path, line, parts):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no_hdf5.h5").write_text("not HDF5")
    np.save(tmp_path / "nan.npy", np.full((2, 8, 3), np.nan))
    np.save(tmp_path / "flat.npy", np.zeros((3, 8, 2)))
    places = {"RUN": trained, "TRUNCATED": truncated(trained / "checkpoints" / "last.ckpt", tmp_path)}
    before = sorted(tmp_path.rglob("*"))
    error = cli(*[places.get(word, word) for word in line.split()]).error
    assert [part for part in parts if part not in error] == []
    assert sorted(tmp_path.rglob("*")) == before


def test_the_entry_without_words_shows_the_verbs(cli):
    result = cli()
    assert result.status == 2
    assert all(verb in result.out for verb in ("fit", "sample", "evaluate", "data", "list"))


def test_version(cli, capsys):
    with pytest.raises(SystemExit) as stop:
        cli("--version")
    assert not stop.value.code
    assert capsys.readouterr().out == f"pcgen {pcgen.__version__}\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys, contextlib, io\nfrom pcgen.cli.main import main\n"
        "for words in (['--help'], ['sample', '--help'], ['data', 'prepare', '--help'], ['evaluate', '--help'],\n"
        "              ['compare', '--help'], ['cache', '--help'], ['traverse', '--help'], ['arithmetic', '--help'],\n"
        "              ['restore', '--help'], ['latents', '--help'], ['reconstruct', '--help']):\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n        main(words)\n"
        "print(sorted({'torch', 'pytorch_lightning', 'h5py', 'matplotlib', 'open3d', 'numba'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_fit_help_leaves_the_heavy_libraries_alone():
    code = (
        "import sys, contextlib, io\nfrom pcgen.cli.main import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['fit', '--help'])\n"
        "print(sorted({'h5py', 'open3d', 'sklearn', 'wandb', 'numba'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_the_installed_script_ends_with_the_status(tmp_path):
    script = shutil.which("pcgen", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("pcgen is not installed beside this Python")
    done = subprocess.run([script, "sampel"], capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
