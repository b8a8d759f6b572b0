from pathlib import Path

import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.io import read_mesh


def write(folder, text):
    path = folder / "mesh.off"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def same(a, b):
    return np.array_equal(a.vertices, b.vertices) and np.array_equal(a.faces, b.faces)


@pytest.fixture
def plain(tmp_path, cube):
    return read_mesh(write(tmp_path, cube))


def test_cube_has_its_area_and_volume(plain):
    assert plain.faces.shape == (12, 3)
    assert plain.areas().sum() == pytest.approx(6)
    a, b, c = (plain.vertices[plain.faces[:, i]] for i in range(3))
    # the divergence theorem: right only if every polygon was cut and turned consistently
    assert np.einsum("fi,fi->", a, np.cross(b, c)) / 6 == pytest.approx(1)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("OFF\n8", "OFF8"),
        lambda t: t.replace("OFF\n8", "OFF 8"),
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace("\n", "\r"),
        lambda t: "# a comment\n" + t.replace("0 1 1\n", "0 1 1 # the last\n\n# faces\n"),
        lambda t: t.replace("\n", "\n\n"),
        lambda t: t.replace("\n4 ", "\n  4\t"),
        lambda t: t.replace("8 6 12", "8 6"),
        lambda t: t.rstrip(),
        lambda t: t + "\n\n0 1\n",
        lambda t: "\n".join(x + " 0.5 0.5 0.5" if x.startswith("4 ") else x for x in t.split("\n")),
        lambda t: t.replace("4 0 3 2 1", "4 0 3 2 1 255 0 0"),  # one face with a colour makes them differ
        lambda t: t.replace("OFF", "COFF").replace("0 0 0", "0 0 0 9 9 9 9").replace("1 0 0", "1 0 0 9 9 9 9")
        .replace("1 1 0", "1 1 0 9 9 9 9").replace("0 1 0", "0 1 0 9 9 9 9").replace("0 0 1", "0 0 1 9 9 9 9")
        .replace("1 0 1", "1 0 1 9 9 9 9").replace("1 1 1", "1 1 1 9 9 9 9").replace("0 1 1", "0 1 1 9 9 9 9"),
    ],
)  # fmt: skip
def test_what_is_in_the_wild_reads_like_the_plain_file(tmp_path, cube, plain, change):
    changed = change(cube)
    assert changed != cube
    assert same(read_mesh(write(tmp_path, changed)), plain)


def test_polygons_of_several_sizes(tmp_path):
    # a house front: a square under a triangle, a pentagon over both, and a segment that has no area
    text = "OFF\n5 4 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n.5 2 0\n4 0 1 2 3\n3 3 2 4\n5 0 1 2 4 3\n2 0 1\n"
    mesh = read_mesh(write(tmp_path, text))
    assert mesh.faces.shape == (2 + 1 + 3, 3)
    assert mesh.areas().sum() == pytest.approx(2 * (1 + 0.5))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: "", "not an OFF mesh"),
        (lambda t: "<html>", "not an OFF mesh"),
        (lambda t: "OFF", "numbers of vertices"),
        (lambda t: t.replace("8 6 12", "eight 6 12"), "numbers of vertices"),
        (lambda t: t.replace("8 6 12", "-8 6 12"), "numbers of vertices"),
        (lambda t: "OFF\n0 0 0\n", "empty mesh"),
        (lambda t: t[: t.index("4 0 3")].replace("8 6", "8 0"), "empty mesh"),
        (lambda t: t[:50], "cut short"),
        (lambda t: t[:-3], "cut short"),
        (lambda t: t[:-12] + "      \n      \n", "ends after 5 of 6 faces"),
        (lambda t: t.replace("8 6 12", "999999999999 6 12"), "announced"),
        (lambda t: t.replace("8 6 12", "9" * 5000 + " 6 12"), "numbers of vertices"),
        (lambda t: t.replace("4 0 3 2 1", "9" * 5000 + " 0 3 2 1"), "face 0 of 6"),
        (lambda t: t.replace("4 0 3 2 1", "4 0 3 2 8"), "outside"),
        (lambda t: t.replace("4 0 3 2 1", "4 0 3 2 -1"), "outside"),
        (lambda t: t.replace("4 0 3 2 1", "4 0 3 2 .5"), "whole number"),
        (lambda t: t.replace("4 0 3 2 1", "4 0 3 2 nan"), "whole number"),
        (lambda t: t.replace("1 1 1", "1 nan 1"), "NaN or infinite"),
        (lambda t: t.replace("1 1 1", "1 1e999 1"), "NaN or infinite"),
        (lambda t: t.replace("1 1 1", "1 one 1"), "one"),
        (lambda t: "OFF\n3 2 0\n0 0 0\n1 1 1\n2 2 2\n3 0 1 2\n3 0 0 1\n", "no face of 2 has an area"),
        (lambda t: "OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n2 0 1\n2 1 2\n", "three corners"),
        (lambda t: "OFF BINARY\n8 6 12\n", "binary"),
    ],
)
def test_bad_files_give_one_clear_error(tmp_path, cube, change, word):
    path = write(tmp_path, change(cube))
    with pytest.raises(DataError, match=word) as caught:
        read_mesh(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_some_faces_without_area_are_fine(tmp_path, cube, plain):
    with_flat = cube.replace("8 6 12", "8 7 12") + "4 0 0 1 1\n"
    assert read_mesh(write(tmp_path, with_flat)).areas().sum() == pytest.approx(plain.areas().sum())


def test_glued_headers_of_modelnet40_equal_their_twins(shared_data):
    for path in sorted((shared_data / "off/ModelNet40/bathtub/train").glob("*.off")):
        data = path.read_bytes()
        assert data[:3] == b"OFF"
        assert data[3:4].isdigit()
        counts = data[3 : data.index(b"\n")].split()
        mesh = read_mesh(path)
        assert [len(mesh.vertices), len(mesh.faces)] == [int(counts[0]), int(counts[1])]


def test_real_files_against_a_plain_loop(shared_data):
    files = [
        *sorted((shared_data / "off/crlf").glob("*.off")),
        *sorted((shared_data / "off/ModelNet10/chair").rglob("*")),
    ]
    for path in (p for p in files if p.suffix == ".off"):
        words = iter(Path(path).read_text().replace("OFF", "").split())
        V, F, _ = (int(next(words)) for _ in range(3))
        vertices = [[float(next(words)) for _ in range(3)] for _ in range(V)]
        faces = [[int(next(words)) for _ in range(int(next(words)))] for _ in range(F)]
        mesh = read_mesh(path)
        assert np.array_equal(mesh.vertices, vertices)
        assert np.array_equal(mesh.faces, faces)
