import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import cKDTree

from pcgen.errors import ConfigurationError, DataError
from pcgen.io import Mesh, read_mesh, sample_mesh
from pcgen.io.ply_body import unroll_strips


@pytest.fixture
def two_triangles():
    """Areas 1/2 and 3/2, in the planes z = 0 and z = 1, and a stray vertex that no face uses."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 0, 1], [0, 1, 1], [np.nan, 1e300, 0]])
    return Mesh(vertices, np.array([[0, 1, 2], [3, 4, 5], [0, 0, 1]]))


def test_uniform_sampling_is_uniform_by_area(two_triangles):
    points = sample_mesh(two_triangles, 20_000, seed=3)
    assert points.shape == (20_000, 3)
    assert points.dtype == np.float32
    upper = points[:, 2] == 1
    # 3/4 of the points, five standard deviations of a binomial
    assert abs(upper.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 20_000)
    # in a right triangle with legs 1, x has the distribution function 1 − (1 − x)²
    assert stats.kstest(points[~upper, 0], lambda x: 1 - (1 - x) ** 2).pvalue > 1e-4
    assert (points[upper, 0] / 3 + points[upper, 1] <= 1 + 1e-6).all()


def test_poisson_points_are_evenly_spread(two_triangles):
    nearest = {}
    for method in ("uniform", "poisson"):
        points = sample_mesh(two_triangles, 400, method=method, seed=1)
        assert points.shape == (400, 3)
        assert np.isin(points[:, 2], [0, 1]).all()
        nearest[method] = cKDTree(points).query(points, 2)[0][:, 1]
    assert nearest["poisson"].min() > 5 * nearest["uniform"].min()
    assert nearest["poisson"].std() < 0.5 * nearest["uniform"].std()


@pytest.mark.parametrize("method", ["uniform", "poisson"])
def test_a_seed_repeats_the_draw_here_and_in_another_process(two_triangles, method):
    first = sample_mesh(two_triangles, 64, method=method, seed=5)
    sample_mesh(two_triangles, 10, seed=9)
    assert np.array_equal(first, sample_mesh(two_triangles, 64, method=method, seed=5))
    assert not np.array_equal(first, sample_mesh(two_triangles, 64, method=method, seed=6))
    code = f"""
import numpy as np
from pcgen.io import Mesh, sample_mesh
mesh = Mesh(np.array({two_triangles.vertices[:6].tolist()}), np.array({two_triangles.faces.tolist()}))
print(sample_mesh(mesh, 64, method={method!r}, seed=5).tobytes().hex())
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == first.tobytes().hex()


def test_one_point_and_wrong_arguments(two_triangles):
    assert sample_mesh(two_triangles, 1).shape == (1, 3)
    with pytest.raises(ConfigurationError, match="num_points is 0"):
        sample_mesh(two_triangles, 0)
    with pytest.raises(ConfigurationError, match="'blue'"):
        sample_mesh(two_triangles, 5, method="blue")


def test_beyond_float32_is_an_error():
    with pytest.raises(DataError, match="could not be sampled"):
        sample_mesh(Mesh(np.eye(3) * 1e60, np.array([[0, 1, 2]])), 5)


def test_a_mesh_is_checked():
    with pytest.raises(DataError, match="needed"):
        Mesh(np.zeros((3, 2)), np.array([[0, 1, 2]]))
    with pytest.raises(DataError, match="empty"):
        Mesh(np.zeros((3, 3)), np.zeros((0, 3), dtype=int))
    with pytest.raises(DataError, match=r"1 of 2 faces .* face 1 with corners \[0, 1, 3\]"):
        Mesh(np.eye(3), np.array([[0, 1, 2], [0, 1, 3]]))


def test_wrong_files(tmp_path):
    with pytest.raises(DataError, match=r"does not exist"):
        read_mesh(tmp_path / "no.off")
    with pytest.raises(DataError, match="not a mesh file"):
        read_mesh(tmp_path)
    (tmp_path / "a.stl").write_text("solid")
    with pytest.raises(DataError, match="not a mesh file"):
        read_mesh(tmp_path / "a.stl")


OBJ = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n"
PLY = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
element face 1
property list uchar int vertex_indices
end_header
0 0 0
1 0 0
0 1 0
3 0 1 2
"""


def test_obj_and_ply(tmp_path, capfd):
    (tmp_path / "a.obj").write_text("mtllib none.mtl\n" + OBJ)
    assert read_mesh(tmp_path / "a.obj").areas().sum() == pytest.approx(1)
    (tmp_path / "b.obj").write_text(OBJ.replace("f 1 2 3 4", "vt 0 0\nvn 0 0 1\nf -4/1/1 -3//1 3/1 \\\n -1 # all"))
    assert np.array_equal(read_mesh(tmp_path / "b.obj").faces, [[0, 1, 2], [0, 2, 3]])
    (tmp_path / "a.ply").write_text(PLY)
    assert read_mesh(tmp_path / "a.ply").areas().sum() == pytest.approx(0.5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.obj", "", "empty"),
        ("a.obj", "v 0 0 0\nv 1 0 0\n", "without faces"),
        ("a.obj", OBJ.replace("f 1 2 3 4", "f 1 2 9"), "outside"),
        ("a.obj", OBJ.replace("f 1 2 3 4", "f 0 1 2"), "outside"),
        ("a.obj", OBJ.replace("f 1 2 3 4", "f 1 x 3"), "cannot be read"),
        ("a.obj", OBJ.replace("f 1 2 3 4", "f 1 2 99999999999999999999999999"), "cannot be read"),
        ("a.obj", OBJ.replace("f 1 2 3 4", "f 1 2 " + "9" * 5000), "cannot be read"),
        ("a.obj", OBJ.replace("f 1 2 3 4", "f 1 2"), "without faces"),
        ("a.obj", OBJ.replace("1 1 0", "1 1"), "three numbers"),
        ("a.obj", OBJ.replace("1 1 0", "1 nan 0"), "NaN"),
        ("a.ply", "", "not a PLY"),
        ("a.ply", "ply\nformat ascii 1.0\n", "never ends"),
        ("a.ply", PLY.replace("ascii", "strange"), "cannot be understood"),
        ("a.ply", PLY.replace("vertex 3", "vertex three"), "cannot be understood"),
        ("a.ply", PLY.replace("vertex 3", "vertex 4000000000"), "4000000000 vertex"),
        (
            "a.ply",
            PLY.replace("element vertex 3", "comment end_header\nelement vertex 4000000000"),
            "4000000000 vertex",
        ),
        ("a.ply", PLY.replace("element vertex 3", "element cloud 1 element vertex 4000000000"), "cannot be understood"),
        ("a.ply", PLY.replace("ply\n", "ply element vertex 4000000000\n"), "not a PLY"),
        ("a.ply", PLY.replace("end_header", "element edge 4000000000\nend_header"), "without properties"),
        ("a.ply", PLY[: PLY.index("1 0 0")], "cut short"),
        ("a.ply", PLY.replace("3 0 1 2", "3 0 1 7"), "outside"),
        ("a.ply", PLY.replace("1 0 0", "1 nan 0"), "NaN"),
        ("a.ply", PLY.replace("face 1", "face 0").replace("3 0 1 2\n", ""), "without faces"),
    ],
)
def test_bad_obj_and_ply(tmp_path, capfd, name, text, word):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=word) as caught:
        read_mesh(tmp_path / name)
    assert name in str(caught.value)
    assert capfd.readouterr().out == ""


def test_strips_keep_their_winding():
    # two strips, the first over five vertices: every second triangle is turned back
    faces = unroll_strips(np.array([0, 1, 2, 3, 4, -1, 5, 6, 7, -1]))
    assert faces.tolist() == [[0, 1, 2], [2, 1, 3], [2, 3, 4], [5, 6, 7]]
    assert unroll_strips(np.array([1, 2])).shape == (0, 3)


def test_igea_is_a_closed_surface(shared_data):
    mesh = read_mesh(shared_data / "scans/igea.ply")
    directed = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    assert len(np.unique(directed, axis=0)) == len(directed)  # consistently turned
    edges = np.unique(np.sort(directed, axis=1), axis=0)
    assert len(mesh.vertices) - len(edges) + len(mesh.faces) == 2  # Euler: a sphere


def test_bunny_and_truncated_igea(shared_data, tmp_path):
    assert len(read_mesh(shared_data / "scans/stanford-bunny.obj").faces) == 69451
    data = (shared_data / "scans/igea.ply").read_bytes()
    (tmp_path / "cut.ply").write_bytes(data[:-1000])
    with pytest.raises(DataError, match="cut short"):
        read_mesh(tmp_path / "cut.ply")


def test_a_missing_library_names_its_cure(monkeypatch):
    from pcgen.io import open3d as door

    missing = ImportError("libusb-1.0.so.0: cannot open shared object file: No such file or directory")

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "open3d":
                raise missing

    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with pytest.raises(DataError, match=r"libusb-1\.0\.so\.0.*pip install libusb-package"):
        door.load_open3d.__wrapped__()
