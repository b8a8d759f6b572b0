"""evaluate, compare and cache: other people's clouds, kept distances, result files side by side, pictures."""

import json
import os

import h5py
import numpy as np
import pytest
import torch

from pcgen.metrics import Scores, evaluate_sets, pairs
from pcgen.metrics.store import Store
from pcgen.ops import pairwise_chamfer_distance


def balls(n, seed, points=32):
    x = np.random.default_rng(seed).normal(size=(n, points, 3))
    return (x / np.linalg.norm(x, axis=-1).max(1)[:, None, None]).astype(np.float32)


@pytest.fixture
def sets(tmp_path):
    """Generated clouds, and references with a training split."""
    np.save(tmp_path / "gen.npy", balls(8, 0))
    with h5py.File(tmp_path / "ref.h5", "w") as file:
        file["points"] = balls(20, 1)
        file["split"] = np.repeat([b"train", b"test"], [12, 8])
    return tmp_path


@pytest.fixture
def computed(monkeypatch):
    """Counts the matrices that are really computed."""
    calls = []

    def counting(a, b, progress=None):
        calls.append((len(a), len(b)))
        return pairwise_chamfer_distance(a, b, progress=progress)

    monkeypatch.setitem(pairs.DISTANCES, "cd", pairs.DISTANCES["cd"]._replace(pairwise=counting))
    return calls


EVALUATE = ("evaluate", "gen.npy", "--reference", "ref.h5", "--extractor", "none")


def test_scores_are_those_of_the_library(cli, sets):
    assert cli(*EVALUATE, "--radius", 1, "--json", "a.json", "--both-orientations").status == 0
    scores = Scores.load(sets / "a.json")
    s, r = torch.from_numpy(balls(8, 0)), torch.from_numpy(balls(20, 1))
    order = np.random.default_rng(0).permutation(12)[:8]
    again = evaluate_sets(
        s, r[12:], oracle=r[order], data="ref.h5", split="test", radius=1.0, both_orientations=True,
        normalization={"scope": "none", "region": "ball", "radius": 1.0},
    )  # fmt: skip
    assert scores.values == again.values
    assert scores.oracle == again.oracle
    assert scores.intervals == again.intervals
    assert scores.pairs == {"cd": (8 * 7 // 2 + 64 + 8 * 7 // 2,) * 2}
    assert scores.protocol.reference == again.protocol.reference


def test_second_question_is_answered_from_the_cache(cli, sets, computed):
    first = cli(*EVALUATE, "--json", "a.json")
    assert len(computed) == 5
    computed.clear()
    for more in ([], ["--level", 0.5], ["--both-orientations"], ["--no-oracle"], ["--draws", 0]):
        assert cli(*EVALUATE, "--json", "b.json", *more).status == 0
        assert not computed, more
        a, b = Scores.load(sets / "a.json"), Scores.load(sets / "b.json")
        assert a.values.items() <= b.values.items()
        assert bool(b.oracle) == ("--no-oracle" not in more)
        assert bool(b.intervals) == ("--draws" not in more)
    assert cli(*EVALUATE, "--json", "b.json").out == first.out
    assert (sets / "a.json").read_bytes() == (sets / "b.json").read_bytes()
    np.save(sets / "gen.npy", balls(8, 5))  # other clouds under the same name
    assert cli(*EVALUATE, "--no-oracle").status == 0
    assert len(computed) == 2


def test_without_and_with_another_cache(cli, sets, computed):
    for _ in range(2):
        assert cli(*EVALUATE, "--no-cache", "--no-oracle").status == 0
    assert len(computed) == 6
    assert Store().contents().files == 0
    assert cli(*EVALUATE, "--cache", "here", "--no-oracle").status == 0
    assert Store("here").contents().files == 3
    assert Store().contents().files == 0
    assert "contradict" in cli(*EVALUATE, "--cache", "here", "--no-cache").error


def test_the_cache_is_seen_and_cleared(cli, sets):
    assert cli("cache").out.startswith("0 files of 0.0 MB, of at most 1074 MB in ")
    cli(*EVALUATE)
    assert cli("cache").out.startswith("5 files")
    assert os.environ["PCGEN_CACHE"] in cli("cache").out
    assert cli("cache", "--clear").out.startswith("removed 5 files")
    assert cli("cache").out.startswith("0 files")
    assert "gen.npy is a file" in cli("cache", "--cache", "gen.npy").error


@pytest.mark.parametrize("kind", ["gen.npz", "gen.h5", "gen.pt", "gen.pth", "folder"])
def test_clouds_of_any_origin(cli, sets, kind):
    points = balls(8, 0)
    if kind == "folder":
        (sets / "folder").mkdir()
        for i, cloud in enumerate(points):
            np.save(sets / "folder" / f"{i}.npy", cloud)
    elif kind == "gen.npz":
        np.savez(sets / kind, points=points)
    elif kind == "gen.h5":
        with h5py.File(sets / kind, "w") as file:
            file["data"] = points
    else:
        torch.save(torch.from_numpy(points).double(), sets / kind)
    assert cli(*EVALUATE, "--json", "a.json").status == 0
    assert cli("evaluate", kind, *EVALUATE[2:], "--json", "b.json").status == 0
    assert (sets / "a.json").read_bytes() == (sets / "b.json").read_bytes()


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def test_a_saved_object_is_refused_and_never_run(cli, sets):
    torch.save(Trap(), sets / "trap.pt")
    torch.save({"a": torch.zeros(1)}, sets / "dict.pt")
    torch.save(torch.zeros(4, 5), sets / "flat.pt")
    torch.save(torch.zeros(1).expand(1000, 10**6, 3), sets / "huge.pt")  # one number, stored once
    (sets / "no.pt").write_text("no")
    said = {
        "trap.pt": "would run code",
        "dict.pt": "dict",
        "flat.pt": "(4, 5)",
        "no.pt": "no.pt",
        "huge.pt": "and stores",
    }
    for file, part in said.items():
        assert part in cli("evaluate", file, "--reference", "ref.h5").error
    assert not (sets / "sprung").exists()


def test_points_are_taken_of_both_sides(cli, sets):
    np.save(sets / "dense.npy", balls(8, 0, points=50))
    result = cli("evaluate", "dense.npy", *EVALUATE[2:], "--points", 20, "--json", "a.json")
    assert result.status == 0
    protocol = Scores.load(sets / "a.json").protocol
    assert (protocol.num_points, protocol.num_generated_points) == (20, 20)
    assert "--points 40" in cli("evaluate", "dense.npy", *EVALUATE[2:], "--points", 40).error


def test_a_file_of_one_cloud_is_a_set_of_one(cli, sets, recwarn):
    np.save(sets / "cloud.npy", balls(1, 0)[0])  # (N, 3), mapped and not writable
    assert cli("evaluate", "cloud.npy", *EVALUATE[2:]).status == 0
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_unequal_sets_on_demand(cli, sets):
    np.save(sets / "few.npy", balls(5, 0))
    result = cli("evaluate", "few.npy", *EVALUATE[2:], "--unequal", "--json", "a.json")
    scores = Scores.load(sets / "a.json")
    assert (scores.protocol.num_generated, scores.protocol.num_reference) == (5, 8)
    assert "COV is at most 62.5%" in " ".join(result.out.split())
    cli("evaluate", "few.npy", *EVALUATE[2:], "--json", "b.json")
    assert Scores.load(sets / "b.json").protocol.num_reference == 5
    assert "contradict" in cli("evaluate", "few.npy", *EVALUATE[2:], "--unequal", "-n", 3).error


def test_json_on_standard_output_is_all_there_is(cli, sets):
    assert json.loads(cli(*EVALUATE, "--json", "-").out)["values"].keys() == {"mmd_cd", "cov_cd", "1nna_cd"}


def test_sets_of_other_sizes_are_remarked_upon(cli, sets):
    np.save(sets / "large.npy", 85 * balls(8, 0))
    out = cli("evaluate", "large.npy", *EVALUATE[2:]).out
    assert "do not seem to be normalised alike" in " ".join(out.split())


def test_a_picture_of_what_is_covered(cli, sets):
    assert cli(*EVALUATE, "--png", "a.png").status == 0
    assert cli(*EVALUATE, "--png", "b.png").status == 0
    assert (sets / "a.png").read_bytes() == (sets / "b.png").read_bytes()
    assert ".png" in cli(*EVALUATE, "--png", "a.jpg").error


def test_the_picture_shows_pairs_in_one_frame_and_the_missed(monkeypatch):
    from pcgen import viz
    from pcgen.cli.coverage import coverage_picture
    from pcgen.viz.layout import GAP

    drawn = []

    def rows(given, **how):
        drawn.append((given, how))
        return np.zeros((4, 4 + len(drawn), 3), dtype=np.uint8)

    monkeypatch.setattr(viz, "draw_rows", rows)
    s, r = torch.from_numpy(balls(3, 0)), torch.from_numpy(balls(4, 1))
    d = torch.tensor([[0.3, 0.1, 0.9, 0.8], [0.5, 0.2, 0.9, 0.4], [0.05, 0.9, 0.9, 0.9]])
    image = coverage_picture(s, r, d, 1, name="cd")
    assert image.shape == (8 + GAP, 6, 3)
    (pairs_drawn, how), (missed, how_missed) = drawn
    np.testing.assert_array_equal(pairs_drawn[0], s[[2, 0, 1]])
    np.testing.assert_array_equal(pairs_drawn[1], r[[0, 1, 1]])
    assert how["titles"] == ["0.05", "0.1", "0.2"]
    assert how["likes"][0].shape == (3, 64, 3)
    np.testing.assert_array_equal(missed[0], r[[2, 3]])
    np.testing.assert_array_equal(missed[1], s[[0, 1]])
    assert how_missed["heading"].startswith("2 of 4 references are covered by no")
    assert how["up_axis"] == how_missed["up_axis"] == 1
    drawn.clear()
    assert coverage_picture(s[:1], r[:1], d[:1, :1], 2, name="cd").shape == (4, 5, 3)  # everything is covered


def test_an_extractor_from_a_file(cli, sets):
    from pcgen.metrics.extractors import save_extractor
    from pcgen.nets import PointNetEncoder

    torch.manual_seed(0)
    card = {"name": "mine-v1", "input": {"kind": "clouds", "radius": 1.0, "up_axis": 2}}
    net = save_extractor(sets / "net.pt", PointNetEncoder(widths=[8, 16]), torch.nn.Linear(16, 2), card)
    words = [*EVALUATE[:-2], "--extractor", "net.pt"]
    result = cli(*words, "--radius", 1, "--json", "a.json")
    assert "nobody said which axis of the clouds is up" in result.err
    assert "FPD(mine-v1)" in result.out
    scores = Scores.load(sets / "a.json")
    assert scores.protocol.extractor == f"mine-v1:{net.identity[:12]}, up z"
    assert scores.values["fpd"] > 0
    assert "fewer clouds than the 16 features" in " ".join(result.out.split())
    cli(*words, "--radius", 1, "--up-axis", "y", "--json", "b.json")
    assert Scores.load(sets / "b.json").values["fpd"] != scores.values["fpd"]
    assert "extractor" in cli("compare", "a.json", "b.json").error


def test_real_chairs_pass_for_chairs_and_real_tables_do_not(cli, tmp_path, real_data):
    with h5py.File(real_data / "modelnet10.h5") as file:
        labels, split = file["labels"][:], file["split"][:]
        for name, label in (("chairs", 2), ("tables", 8)):
            points = file["points"][np.flatnonzero((labels == label) & (split == 0))[:40]][:, ::16].astype(np.float64)
            points -= points.mean(1, keepdims=True)
            points /= np.linalg.norm(points, axis=-1).max(1)[:, None, None]
            np.save(tmp_path / f"{name}.npy", points.astype(np.float32))
    how = ["--reference", real_data / "modelnet10.h5", "--classes", "chair", "--normalize", "ball", "--points", 128]
    values = {}
    for name in ("chairs", "tables"):
        result = cli("evaluate", f"{name}.npy", *how, "--no-oracle", "--extractor", "none", "--json", f"{name}.json")
        assert result.status == 0
        scores = Scores.load(tmp_path / f"{name}.json")
        assert (scores.protocol.split, scores.protocol.num_reference, scores.protocol.jsd_radius) == ("test", 40, 1.0)
        values[name] = scores.values
    assert 0.35 < values["chairs"]["1nna_cd"] < 0.7
    assert values["tables"]["1nna_cd"] > 0.9
    for key in ("mmd_cd", "jsd"):
        assert values["tables"][key] > 1.5 * values["chairs"][key]
    assert values["tables"]["cov_cd"] < values["chairs"]["cov_cd"] / 1.5
    assert cli("compare", "chairs.json", "tables.json").status == 0


@pytest.fixture
def results(cli, sets):
    """Result files: two of one protocol, and one of another level."""
    np.save(sets / "other.npy", balls(8, 7))
    cli(*EVALUATE, "--json", "a.json")
    cli("evaluate", "other.npy", *EVALUATE[2:], "--json", "b.json")
    cli(*EVALUATE, "--level", 0.9, "--json", "deep/a.json")
    return sets


def test_results_side_by_side(cli, results):
    out = cli("compare", "a.json", "second=b.json").out
    assert "second" in out
    assert out.count("oracle") == 1
    assert f"{1000 * Scores.load(results / 'b.json').values['mmd_cd']:.3f}" in out


def test_results_of_other_protocols_are_refused(cli, results):
    error = cli("compare", "a.json", "deep/a.json").error
    assert "level 0.95 against 0.9" in error
    assert "ignore level" in error
    out = cli("compare", "a.json", "deep/a.json", "--ignore", "level").out
    assert "deep/a" in out
    assert "deep/a differs from a: level 0.9 instead of 0.95" in " ".join(out.split())
    assert "no colour" in cli("compare", "a.json", "b.json", "--ignore", "colour").error


def test_references_of_one_name_and_other_clouds_are_refused(cli, results):
    with h5py.File(results / "ref.h5", "r+") as file:
        file["points"][15, 0, 0] += 1e-3
    cli(*EVALUATE, "--json", "c.json")
    assert "reference" in cli("compare", "a.json", "c.json").error


def test_tables_for_papers(cli, results):
    assert cli("compare", "a.json", "b.json", "--markdown").out.startswith("|  | MMD-CD ×10³ ↓ |")
    assert r"\begin{tabular}{lrrr}" in cli("compare", "a.json", "b.json", "--latex").out
    assert cli("compare", "a.json", "b.json", "--csv").out.startswith(",mmd_cd,mmd_cd_low,mmd_cd_high,")
    assert "--latex" in cli("compare", "a.json", "--latex", "--csv").error


def test_a_run_is_compared_by_its_folder(cli, trained):
    out = cli("compare", trained, f"same={trained}", "--csv").out
    assert [line.split(",")[0] for line in out.splitlines()[1:3]] == [f"tiny/{trained.name}", "same"]


def test_files_that_are_no_results(cli, results):
    plain = json.loads((results / "a.json").read_text())
    for name, change in {
        "newer": {"format": 99},
        "odd": {"format": "x"},
        "part": {"values": None},
        "field": {"protocol": {**plain["protocol"], "colour": 1}},
    }.items():
        (results / f"{name}.json").write_text(json.dumps({**plain, **change}))
    (results / "empty.json").write_text("")
    for name, part in {
        "newer": "newer pcgen",
        "odd": "formats 1, 2",
        "part": "not a file of scores",
        "field": "colour",
        "empty": "not a file of scores",
        "nothing": "nothing.json",
    }.items():
        error = cli("compare", "a.json", f"{name}.json").error
        assert part in error
        assert f"{name}.json" in error


def test_results_of_the_first_format_are_read(cli, results):
    plain = json.loads((results / "a.json").read_text())
    del plain["pairs"], plain["remarks"]
    for field in ("level", "draws", "reference"):
        del plain["protocol"][field]
    (results / "old.json").write_text(json.dumps({**plain, "format": 1}))
    assert Scores.load(results / "old.json").values == Scores.load(results / "a.json").values
    assert "reference '' against" in cli("compare", "old.json", "a.json").error
    assert cli("compare", "old.json", "a.json", "--ignore", "reference").status == 0


def test_two_results_of_one_name(cli, results):
    assert "two results are called x" in cli("compare", "x=a.json", "x=b.json").error


def test_one_cloud_and_twins_have_their_consequences_stated(cli, sets):
    np.save(sets / "one.npy", balls(1, 0))
    out = " ".join(cli("evaluate", "one.npy", *EVALUATE[2:], "--radius", 1, "--json", "a.json").out.split())
    assert "one cloud on either side: 1-NNA is 0 and COV 1" in out
    np.save(sets / "twins.npy", np.repeat(balls(4, 0), 2, axis=0))
    cli("evaluate", "twins.npy", *EVALUATE[2:], "--json", "b.json")
    (remark,) = Scores.load(sets / "b.json").remarks
    assert remark.startswith("8 of the 8 generated clouds have a twin")


def test_clouds_that_are_none(cli, sets):
    bad = balls(8, 0)
    bad[3, 2, 1] = np.nan
    np.save(sets / "nan.npy", bad)
    torch.save(torch.from_numpy(bad), sets / "nan.pt")
    np.save(sets / "empty.npy", bad[:0])
    np.save(sets / "flat.npy", bad[..., :2])
    for file in ("nan.npy", "nan.pt", "empty.npy", "flat.npy", "nothing.npy", "nothing.pt"):
        assert file in cli("evaluate", file, *EVALUATE[2:]).error
        assert file in cli("evaluate", "gen.npy", "--reference", file).error


BAD = {
    "a level of 1": (["--level", 1], "level is 1.0"),
    "negative draws": (["--draws", -1], "draws is -1"),
    "no points": (["--points", 0], "--points 0"),
    "a folder for the scores": (["--json", "."], "--json . is a folder"),
    "scores below a file": (["--json", "gen.npy/a.json"], "gen.npy is a file, not a folder"),
    "a picture below a file": (["--png", "gen.npy/a.png"], "gen.npy is a file, not a folder"),
    "an extractor without a radius": (["--extractor", "x"], "--radius"),
    "an unknown extractor": (["--extractor", "vgg", "--radius", 1], "vgg"),
    "a negative seed": (["--seed", -1], "--seed -1"),
    "an axis": (["--up-axis", "w"], "'w'"),
    "a folder that is a file": (["--cache", "gen.npy"], "gen.npy is a file"),
}


@pytest.mark.parametrize(("words", "part"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(cli, sets, words, part):
    assert part in cli("evaluate", "gen.npy", "--reference", "ref.h5", *words).error
