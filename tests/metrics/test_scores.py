"""Protocol and result: the round trip, the refusal, the table, the file."""

import dataclasses
import json
import math
import os
from pathlib import Path

import pytest

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import Protocol, Scores, ball_radius, compare, data_name
from pcgen.metrics.scores import compared


def protocol(**others):
    fields = {
        "data": "modelnet10.h5 (chair)",
        "split": "test",
        "num_reference": 100,
        "num_generated": 100,
        "num_points": 2048,
        "num_generated_points": 1024,
        "normalization": {"scope": "set", "region": "ball", "radius": 1.0, "center": (0.0, 1.0, 2.0)},
        "distances": {"cd": "Chamfer"},
    }
    return Protocol(**{**fields, **others})


def scores(**others):
    values = {
        "mmd_cd": 0.0012345,
        "cov_cd": 0.41,
        "1nna_cd": 0.73,
        "jsd": 0.02,
        "share_outside_ball": 0.0,
        "reference_share_outside_ball": 0.0123,
    }
    fields = {
        "values": values,
        "protocol": protocol(),
        "intervals": {"mmd_cd": (0.001, 0.002)},
        "oracle": {"mmd_cd": 0.001, "cov_cd": 0.5, "1nna_cd": 0.5, "jsd": 0.01},
        "oracle_intervals": {"cov_cd": (0.4, 0.6)},
    }
    return Scores(**{**fields, **others})


def rendered(table):
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 -- a sink
    console.print(table)
    return console.export_text()


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "scores.json"
    scores().save(path)
    assert Scores.load(path).to_json() == scores().to_json()
    again = Scores.load(path)
    assert again.values == scores().values
    assert again.intervals == scores().intervals
    assert not again.protocol.differences(protocol())
    assert [p.name for p in path.parent.iterdir()] == ["scores.json"]


def test_nan_is_null_in_the_file():
    text = scores(values={"mmd_cd": math.nan}).to_json()
    assert json.loads(text, parse_constant=pytest.fail)["values"] == {"mmd_cd": None}
    assert math.isnan(Scores.from_json(text).values["mmd_cd"])


def test_a_failed_write_leaves_nothing_and_keeps_the_old(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    scores().save(path)
    before = path.read_text()
    write = Path.write_text

    def full(self, text, **named):
        write(self, text[:10], **named)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DataError, match=r"scores\.json cannot be written: No space"):
        scores(values={}).save(path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_file_has_the_users_mode_and_the_mask_is_never_touched(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda mask: pytest.fail("the mask belongs to the whole process"))
            scores().save(tmp_path / "scores.json")
    finally:
        os.umask(before)
    assert (tmp_path / "scores.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "values": {}}', "\x00"])
def test_files_that_are_none(tmp_path, text):
    path = tmp_path / "scores.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"scores\.json"):
        Scores.load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.json"):
        Scores.load(tmp_path / "nothing.json")


def test_differences_and_refusal():
    other = protocol(seed=3, normalization={"scope": "shape"})
    differences = protocol().differences(other)
    assert set(differences) == {"seed", "normalization"}
    assert differences["seed"] == (0, 3)
    with pytest.raises(ConfigurationError, match="seed 0 against 3"):
        protocol().require_same(other)
    protocol().require_same(other, ignore=("seed", "normalization"))
    with pytest.raises(ConfigurationError, match="no colour"):
        protocol().require_same(other, ignore=("colour",))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Protocol)])
def test_every_field_counts(field):
    changed = dataclasses.replace(protocol(), **{field: {"a": 1} if field in {"normalization", "distances"} else 12345})
    with pytest.raises(ConfigurationError, match=field):
        protocol().require_same(changed)


def test_compare_refuses_and_names_both():
    table = compare({"vae": scores(), "flow": scores(values={"mmd_cd": 0.5})})
    text = rendered(table)
    assert "vae" in text
    assert "500.000" in text
    assert text.count("oracle") == 1
    with pytest.raises(ConfigurationError, match=r"vae and flow: .*num_points 2048 against 1024"):
        compare({"vae": scores(), "flow": scores(protocol=protocol(num_points=1024))})
    assert compare({"a": scores(), "b": scores(protocol=protocol(num_points=1024))}, ignore=("num_points",))


def test_table_shows_directions_units_intervals_oracle_and_protocol():
    text = rendered(scores().table("samples"))
    for piece in (
        "MMD-CD ×10³ ↓",
        "COV-CD % ↑",
        "1-NNA-CD % → 50",
        "1.234",
        "[1.000, 2.000]",
        "73.0",
        "oracle",
        "–",
        "reference outside ball %",
        "1.23",
    ):
        assert piece in text, piece
    for piece in ("modelnet10.h5 (chair)", "split test", "num points 2048", "scope: set", "Chamfer"):
        assert piece in " ".join(text.split()), piece


def test_plain_table():
    heads, rows = scores().plain_table()
    assert heads[:3] == ["", "mmd_cd", "cov_cd"]
    assert [row[0] for row in rows] == ["model", "oracle"]
    assert all(len(row) == len(heads) for row in rows)


@pytest.mark.parametrize(
    ("normalization", "radius"),
    [
        ({"scope": "shape", "region": "ball", "radius": 1.0}, 1.0),
        ({"scope": "set", "region": "box", "radius": 0.5}, math.sqrt(3) / 2),
        ({"scope": "none", "region": "ball", "radius": 1.0}, None),
        ({}, None),
    ],
)
def test_ball_radius(normalization, radius):
    assert ball_radius(normalization) == radius


def test_data_name_says_nothing_of_the_machine():
    info = {"recipe": {"class_path": "x", "init_args": {"path": "/home/me/chairs.h5"}}, "class_names": ["chair"]}
    assert data_name("PointClouds", info) == "chairs.h5 (chair)"
    assert data_name("Shapes", {}) == "Shapes"


@pytest.mark.parametrize("variant", [10, 40])
def test_data_of_different_variants_have_different_names(variant):
    from pcgen.datamodules import ModelNet

    data = ModelNet("/home/me/data", variant=variant, classes=["chair"])
    assert data_name(type(data).__name__, data.info()) == f"ModelNet{variant} (chair)"


def test_pairs_that_bounds_decided_are_told():
    searched = scores(pairs={"cd": (10, 10), "emd": (3, 10)}).score_table().notes[-1]
    assert searched == "pairs of clouds computed to the end: cd 10 of 10, emd 3 of 10; bounds decided the others"
    assert scores(pairs={"cd": (10, 10)}).score_table().notes[-1].endswith("cd 10 of 10")


def test_no_region_is_shown_of_data_that_were_not_normalised():
    text = protocol(normalization={"scope": "none", "region": "ball", "radius": 1.0}).describe()
    assert "normalization none," in text
    assert "radius" not in text


def test_what_may_differ_is_told_and_features_of_two_networks_never_share_a_column():
    one = scores(values={"mmd_cd": 0.1, "fpd": 1.0, "kid": 0.5}, protocol=protocol(extractor="a:1, up z"))
    two = scores(values={"mmd_cd": 0.2, "fpd": 9.0, "kid": 0.6}, protocol=protocol(extractor="b:2, up z"))
    content = compared({"one": one, "two": two}, ignore=("extractor",))
    assert content.notes[1] == "two differs from one: extractor 'b:2, up z' instead of 'a:1, up z'"
    assert "mmd_cd" in content.names
    assert not {"fpd", "kid"} & set(content.names)
    assert [name for name in content.rows if "oracle" in name] == [
        "one: oracle (training data)",
        "two: oracle (training data)",
    ]
    assert "fpd" in compared({"one": one, "again": one}).names


def test_a_missing_file_is_named_once(tmp_path):
    with pytest.raises(DataError, match=r"nothing.json does not exist") as caught:
        Scores.load(tmp_path / "nothing.json")
    assert "Errno" not in str(caught.value)
