"""Tables of scores: what stands in them, in every form."""

import csv
import io
import math

import pytest
from rich.console import Console

from pcgen.metrics.tables import ScoreTable, quantity

ROWS = {
    "my_model": ({"mmd_cd": 0.0012345, "cov_cd": 0.41, "fpd": 3.25}, {"mmd_cd": (0.001, 0.002)}),
    "50% [b]": ({"mmd_cd": math.nan, "1nna_emd_squared": 0.5}, {}),
}


def table(**rows):
    return ScoreTable(rows or ROWS, ("data chairs & more", "two\nlines"), "pointnet-v1:0123456789ab, up z")


def rendered(content, width=80):
    console = Console(width=width, file=io.StringIO())
    console.print(content)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("emd", "EMD ×10² ↓"),
        ("emd_squared", "EMD² ×10³ ↓"),
        ("mmd_cd", "MMD-CD ×10³ ↓"),
        ("mmd_emd", "MMD-EMD ×10² ↓"),
        ("mmd_emd_squared", "MMD-EMD² ×10³ ↓"),
        ("cov_emd_squared_swapped", "COV-EMD² (swapped) % ↑"),
        ("1nna_emd", "1-NNA-EMD % → 50"),
        ("kid", "KID(pointnet-v1) ×10³ ↓"),
        ("fpd", "FPD(pointnet-v1) ↓"),
        ("jsd", "JSD ↓"),
        ("something_new", "something_new"),
    ],
)
def test_heads_say_the_quantity_its_unit_and_its_aim(name, head):
    assert quantity(name, "pointnet-v1:0123456789ab, up z").head == head


def test_shown_number_is_the_score_in_the_heads_unit():
    for name, power in (("mmd_cd", 1e3), ("mmd_emd", 1e2), ("cov_cd", 1e2), ("jsd", 1)):
        text = ScoreTable({"m": ({name: 0.0625}, {})}).markdown()
        assert float(text.splitlines()[2].split("|")[2]) == pytest.approx(0.0625 * power, abs=0.1)


@pytest.mark.parametrize("rows", [1, 2, 4, 9])
def test_nothing_is_cut_on_a_terminal(rows):
    values = {f"{kind}_{d}": 0.123456 for d in ("cd", "emd", "emd_squared") for kind in ("mmd", "cov", "1nna")}
    content = ScoreTable({f"model{i}": (values, {}) for i in range(rows)})
    text = rendered(content.rich("scores"))
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "12.346" in rendered(ScoreTable({"m": (values, {})}).rich("scores"))


def test_markup_in_names_is_text():
    text = rendered(table().rich("[bold]"), 120)
    assert "50% [b]" in text
    assert "[bold]" in text
    assert "[1.000, 2.000]" in text
    assert "NaN" in text


def test_markdown():
    lines = table().markdown().splitlines()
    assert lines[0] == "|  | MMD-CD ×10³ ↓ | COV-CD % ↑ | FPD(pointnet-v1) ↓ | 1-NNA-EMD² % → 50 |"
    assert lines[2] == "| my_model | 1.234 [1.000, 2.000] | 41.0 | 3.250 | – |"
    assert lines[3] == "| 50% [b] | NaN | – | – | 50.0 |"
    assert "data chairs & more" in lines


def test_markdown_of_a_name_with_a_bar():
    line = table(**{"a|b": ({"jsd": 0.5}, {})}).markdown().splitlines()[2]
    assert line == "| a\\|b | 0.5000 |"


def test_latex():
    lines = table().latex().splitlines()
    assert lines[:3] == ["% data chairs & more", "% two", "% lines"]
    assert lines[3] == r"\begin{tabular}{lrrrr}"
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert body == [
        r"my\_model & 1.234 [1.000, 2.000] & 41.0 & 3.250 & -- \\",
        r"50\% [b] & NaN & -- & -- & 50.0 \\",
    ]
    assert r"MMD-CD $\times$10$^3$ $\downarrow$" in lines[5]
    assert all(letter.isascii() for line in lines[3:] for letter in line)


def test_csv_has_raw_numbers_and_ends():
    rows = list(csv.DictReader(io.StringIO(table().csv())))
    assert [row[""] for row in rows] == list(ROWS)
    assert float(rows[0]["mmd_cd"]) == 0.0012345
    assert (float(rows[0]["mmd_cd_low"]), float(rows[0]["mmd_cd_high"])) == (0.001, 0.002)
    assert rows[1]["cov_cd"] == rows[0]["cov_cd_low"] == ""
    assert math.isnan(float(rows[1]["mmd_cd"]))
    assert "chairs & more" in rows[1]["notes"]


def test_notes_are_as_wide_as_the_terminal_below_a_narrow_table():
    note = "the covariance is singular and the distance biased upwards; compare it with FPD of as many clouds alone"
    lines = rendered(ScoreTable({"m": ({"jsd": 0.5}, {})}, (note,)).rich("scores"), 140).splitlines()
    assert lines[-1].rstrip() == note
    assert len(lines[-2]) < 40
