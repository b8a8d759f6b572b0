"""Small files of every flavour, made when they are needed. Those named `bad…` are to be refused as they are."""

import functools
import gzip
import json
import math
import struct
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

X = np.random.default_rng(0).normal(size=(3, 8, 3)).astype("f4")
VERTICES = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 0 1\n"
FACES = "3 0 1 2\n4 0 1 2 3\n3 0 1 4\n"
PLY_WORDS = (
    b"\nelement vertex 9\n", b"\nproperty list uchar int vertex_indices\n", b"\nend_header\n", b" double ", b" list ",
    b"\ncomment end_header\n", b"binary_big_endian", b"\nelement face 0\n", b"\nelement tristrips 1\n",
)  # fmt: skip
PCD_WORDS = (
    b"binary_compressed",
    b"ascii",
    b"\nPOINTS 9\n",
    b"\nDATA ascii\n",
    b" rgb",
    b" -1",
    b"U",
    b"\nCOUNT 2 2 2\n",
)
CONFIG_WORDS = (
    b"&a ", b"*a", b"<<: ", b"class_path: ", b"os.system", b"!!python/object/apply:os.system [x]", b"- ", b"[", b"{",
    b"? ",
    b"2001-13-41", b"0x", b"1:1:1", b"model: ", b"trust: true", b"\t", b"---\n", b"| ", b"'", b'"',
)  # fmt: skip


def _ply_header(form: str, elements: str) -> bytes:
    return f"ply\nformat {form} 1.0\ncomment made by hand\n{elements}end_header\n".encode()


def _xyz(kind: str = "float") -> str:
    return "".join(f"property {kind} {axis}\n" for axis in "xyz")


def ply(folder: Path) -> None:
    from pcgen.io.ply import ply_bytes

    (folder / "ours.ply").write_bytes(ply_bytes(X[0]))
    rows = "\n".join(" ".join(f"{v:.4g}" for v in p) for p in X[0])
    (folder / "ascii.ply").write_bytes(_ply_header("ascii", "element vertex 8\n" + _xyz()) + rows.encode() + b"\n")
    big = _ply_header("binary_big_endian", "element vertex 8\n" + _xyz("double"))
    (folder / "big.ply").write_bytes(big + X[0].astype(">f8").tobytes())
    extra = _ply_header("binary_little_endian", "element vertex 8\n" + _xyz() + "property uchar red\n")
    body = b"".join(p.astype("<f4").tobytes() + b"\x07" for p in X[0])
    (folder / "colour.ply").write_bytes(extra + body)
    (folder / "bad_count.ply").write_bytes(ply_bytes(X[0]).replace(b"vertex 8", b"vertex 1000000000000"))


def ply_mesh(folder: Path) -> None:
    faces = "element face 3\nproperty list uchar int vertex_indices\n"
    head = f"element vertex 5\n{_xyz()}{faces}"
    (folder / "ascii.ply").write_bytes(_ply_header("ascii", head) + (VERTICES + FACES).encode())
    vertices = np.array(VERTICES.split(), float).reshape(-1, 3)
    for form, order in (("binary_little_endian", "<"), ("binary_big_endian", ">")):
        body = vertices.astype(f"{order}f4").tobytes()
        for line in FACES.splitlines():
            count, *index = map(int, line.split())
            body += struct.pack(f"{order}B{count}i", count, *index)
        (folder / f"{form}.ply").write_bytes(_ply_header(form, head) + body)
    strips = f"element vertex 5\n{_xyz()}element tristrips 1\nproperty list int int vertex_indices\n"
    body = vertices.astype("<f4").tobytes() + struct.pack("<6i", 5, 0, 1, 2, -1, 3)
    (folder / "bad_strips.ply").write_bytes(_ply_header("binary_little_endian", strips) + body[:-3])
    body = vertices.astype("<f4").tobytes() + struct.pack("<8i", 7, 0, 1, 2, 3, -1, 1, 4)
    (folder / "strips.ply").write_bytes(_ply_header("binary_little_endian", strips) + body)


def _lzf(data: bytes) -> bytes:
    """Pack as PCD's binary_compressed does, in runs of literals alone."""
    return b"".join(bytes([len(data[i : i + 32]) - 1]) + data[i : i + 32] for i in range(0, len(data), 32))


def pcd(folder: Path) -> None:
    head = (
        "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 8\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
    )
    head += "POINTS 8\nDATA {}\n"
    rows = "\n".join(" ".join(f"{v:.4g}" for v in p) for p in X[0])
    (folder / "ascii.pcd").write_bytes(head.format("ascii").encode() + rows.encode() + b"\n")
    (folder / "binary.pcd").write_bytes(head.format("binary").encode() + X[0].tobytes())
    columns = X[0].T.astype("<f4").tobytes()
    packed = _lzf(columns)
    whole = head.format("binary_compressed").encode() + struct.pack("<II", len(packed), len(columns)) + packed
    (folder / "compressed.pcd").write_bytes(whole)
    colour = head.replace("x y z", "x y z rgb").replace("4 4 4", "4 4 4 4").replace("F F F", "F F F U")
    colour = colour.replace("1 1 1\n", "1 1 1 1\n", 1)
    body = b"".join(p.tobytes() + b"\1\2\3\0" for p in X[0])
    (folder / "colour.pcd").write_bytes(colour.format("binary").encode() + body)
    lying = head.format("binary_compressed").encode() + struct.pack("<II", len(packed), 2**32 - 1) + packed
    (folder / "bad_size.pcd").write_bytes(lying)


def text(folder: Path) -> None:
    np.savetxt(folder / "plain.xyz", X[0], fmt="%.5g")
    np.savetxt(folder / "normals.txt", np.hstack([X[0], X[1]]), fmt="%.5g", delimiter=",")
    (folder / "counted.pts").write_text("8\n" + "\n".join(" ".join(map(str, p)) for p in X[0]))
    (folder / "bad_words.txt").write_text("read me\nfirst of all\n")


def off(folder: Path) -> None:
    (folder / "plain.off").write_text("OFF\n5 3 0\n" + VERTICES + FACES)
    (folder / "glued.off").write_text("OFF5 3 0\n" + VERTICES + FACES)
    coloured = "\n".join(f"{line} 10 20 30 255" for line in VERTICES.splitlines())
    (folder / "colour.off").write_text(f"COFF # colours\n5 3 0\n{coloured}\n{FACES}")
    alike = "3 0 1 2\n3 0 1 3\n3 0 1 4\n"
    (folder / "alike.off").write_text("OFF\n5 3 0\n" + VERTICES + alike)
    (folder / "bad_index.off").write_text("OFF\n5 3 0\n" + VERTICES + FACES.replace("4\n", "99999999999\n"))


def obj(folder: Path) -> None:
    vertices = "".join(f"v {line}\n" for line in VERTICES.splitlines())
    (folder / "plain.obj").write_text(
        f"# comment\nmtllib none.mtl\n{vertices}vn 0 0 1\nf 1 2 3\nf 1//1 2//1 3//1 4//1\n"
    )
    (folder / "negative.obj").write_text(f"{vertices}f -5 -4 -3\nf -5/1 -4/1 -3/1\n")
    (folder / "continued.obj").write_text(f"{vertices}f 1 2 \\\n3 4\n")
    (folder / "bad_zero.obj").write_text(f"{vertices}f 0 1 2\n")


def npy(folder: Path) -> None:
    np.save(folder / "three.npy", X)
    np.save(folder / "one.npy", X[0].astype("f8"))
    np.save(folder / "fortran.npy", np.asfortranarray(X))
    np.save(folder / "integers.npy", np.arange(24, dtype="i4").reshape(8, 3))
    np.save(folder / "big.npy", X.astype(">f4"))
    np.save(folder / "bad_objects.npy", np.array([[1, 2, None]], dtype=object), allow_pickle=True)
    told = (folder / "three.npy").read_bytes().replace(b"(3, 8, 3), }          ", b"(3, 800000000000, 3)}")
    (folder / "bad_shape.npy").write_bytes(told)


def npz(folder: Path) -> None:
    table = {
        "points": X,
        "label": np.array([0, 1, 0]),
        "class_names": np.array([b"a", b"b"]),
        "split": np.zeros(3, "u1"),
    }
    np.savez(folder / "stored.npz", **table)
    np.savez_compressed(folder / "deflated.npz", **table, factors=X[:, 0], up_axis=1)
    np.savez(folder / "one.npz", X[0])
    np.savez_compressed(folder / "bad_bomb.npz", points=np.zeros((200, 10_000, 3), "f4"))
    np.savez(folder / "bad_objects.npz", points=X, name=np.array([None, 1, "x"], dtype=object))


def hdf5_points(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "ours.h5", "w") as f:
        f["points"], f["label"], f["split"] = X, np.array([0, 1, 0]), np.array([0, 1, 2], "u1")
        f["name"], f["class_names"] = np.array([b"a", b"b", b"c"]), np.array([b"x", b"y"])
        f["factors"], f["factor_names"] = X[:, 0], np.array([b"p", b"q", b"r"])
        f.attrs["up_axis"] = 1
    with h5py.File(folder / "gzip.h5", "w") as f:
        f.create_dataset("points", data=X, chunks=(1, 8, 3), compression="gzip", shuffle=True, maxshape=(None, 8, 3))
    with h5py.File(folder / "latest.h5", "w", libver="latest") as f:
        f.create_dataset("points", data=X.astype("f8"), chunks=(2, 8, 3), fletcher32=True)
        f["label"] = np.array([[1], [0], [1]], "u1")
    with h5py.File(folder / "ply_data_train0.h5", "w") as f:
        f["data"], f["label"] = X, np.array([[3], [1], [39]], "u1")


SHARDS = ("shard-00000-of-00002.h5", "shard-00001-of-00002.h5")


@functools.cache
def _set() -> dict[str, bytes]:
    from pcgen.io import prepare, write_clouds

    with tempfile.TemporaryDirectory() as place:
        source, made = Path(place) / "raw.npy", Path(place) / "set"
        write_clouds(source, np.concatenate([X, X[:2]]))
        prepare(source, made, num_points=8, jobs=1, progress=False, shard_size=3)
        return {path.name: path.read_bytes() for path in made.iterdir()}


def shards_in(folder: Path) -> None:
    """Write a set in two shards."""
    for name, content in _set().items():
        (folder / name).write_bytes(content)


def shard_index(folder: Path) -> None:
    content = _set()["shards.json"]
    (folder / "good.json").write_bytes(content)
    many = {"finished": False, "shard_size": 1}
    nothing = [{"file": name, "clouds": 0} for name in SHARDS]
    for name, changes in {
        "many": many | {"clouds": 200_000}, "unfinished": many | {"clouds": 100_000}, "seed": {"seed": 1},
        "nothing": {"shards": nothing},
    }.items():  # fmt: skip
        (folder / f"bad_{name}.json").write_text(json.dumps(json.loads(content) | changes))


def shard(folder: Path) -> None:
    (folder / "good.h5").write_bytes(_set()[SHARDS[0]])
    (folder / "bad_other.h5").write_bytes(_set()[SHARDS[1]])


def hdf5(folder: Path) -> None:
    import h5py

    hdf5_points(folder)
    with h5py.File(folder / "shapenet.h5", "w") as f:
        for synset in ("02691156", "03001627"):
            for split in ("train", "test", "val"):
                f[f"{synset}/{split}"] = X[:2]
    with h5py.File(folder / "texts.h5", "w") as f:
        f["points"] = X
        f.create_dataset("name", data=["a", "bé", "c"], dtype=h5py.string_dtype())
        f.attrs["class_names"] = ["x", "y"]
        f["labels"] = np.array([0, 1, 0])
    with h5py.File(folder / "filled.h5", "w") as f:
        f["points"] = X
        f.create_dataset("name", (len(X),), h5py.string_dtype(), fillvalue="abc")
    for name, make in HOSTILE_HDF5.items():
        with h5py.File(folder / f"bad_{name}.h5", "w", libver="latest") as f:
            make(f)


def _bomb(f: object) -> None:
    shape, chunk = (20_000, 1000, 3), (1000, 1000, 3)
    points = f.create_dataset("points", shape, "f4", chunks=chunk, compression="gzip")
    block = zlib.compress(bytes(4 * math.prod(chunk)))
    for start in range(0, shape[0], chunk[0]):
        points.id.write_direct_chunk((start, 0, 0), block)


def _external_storage(f: object) -> None:
    f.create_dataset("points", X.shape, "f4", external=[("/etc/passwd", 0, X.nbytes)])


def _external_link(f: object) -> None:
    import h5py

    f["points"] = h5py.ExternalLink("ours.h5", "/points")


def _virtual(f: object) -> None:
    import h5py

    layout = h5py.VirtualLayout((3, 8, 3), "f4")
    layout[:] = h5py.VirtualSource("ours.h5", "points", shape=(3, 8, 3))
    f.create_virtual_dataset("points", layout)


def _loop(f: object) -> None:
    import h5py

    f["points"] = h5py.SoftLink("/points")


def _references(f: object) -> None:
    import h5py

    f["points"] = X
    f.create_dataset("label", data=[f["points"].ref] * 3, dtype=h5py.ref_dtype)


def _compound(f: object) -> None:
    f["points"] = np.zeros((3, 8, 3), [("a", "f4"), ("b", "f4")])


HOSTILE_HDF5 = {
    "bomb": _bomb, "external_storage": _external_storage, "external_link": _external_link, "virtual": _virtual,
    "loop": _loop, "references": _references, "compound": _compound,
}  # fmt: skip


def images(folder: Path) -> None:
    import h5py
    from PIL import Image

    pixels = np.random.default_rng(1).integers(0, 256, (2, 1, 6, 5), dtype=np.uint8)
    np.save(folder / "bytes.npy", pixels)
    np.save(folder / "fractions.npy", (pixels / 255).astype("f4"))
    np.savez_compressed(folder / "deflated.npz", images=pixels, label=np.array([0, 1]), name=np.array([b"a", b"b"]))
    with h5py.File(folder / "ours.h5", "w") as f:
        f["images"], f["label"] = pixels, np.array([0, 1])
    Image.fromarray(pixels[0, 0]).save(folder / "grey.png")
    Image.fromarray(np.repeat(pixels[0, 0][..., None], 3, -1)).save(folder / "colour.png")


def idx(folder: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, 2 * 6 * 5, dtype=np.uint8).tobytes()
    plain = struct.pack(">HBB3I", 0, 8, 3, 2, 6, 5) + pixels
    (folder / "plain-idx3-ubyte").write_bytes(plain)
    (folder / "packed-idx3-ubyte.gz").write_bytes(gzip.compress(plain, mtime=0))
    huge = struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 28)
    (folder / "bad_size-idx3-ubyte.gz").write_bytes(gzip.compress(huge, mtime=0))
    bomb = struct.pack(">HBB3I", 0, 8, 3, 4000, 100, 100) + bytes(4000 * 10000)
    (folder / "bad_bomb-idx3-ubyte.gz").write_bytes(gzip.compress(bomb, mtime=0))


def scores(folder: Path) -> None:
    from pcgen.metrics import Protocol, Scores

    protocol = Protocol(
        data="chairs.h5 (chair)", split="test", num_reference=50, num_generated=50, num_points=2048,
        num_generated_points=2048, normalization={"scope": "shape", "region": "ball", "radius": 0.5},
        distances={"cd": "squared"}, jsd_radius=0.5, jsd_resolution=28, version="1",
    )  # fmt: skip
    values = {"mmd_cd": 0.01, "cov_cd": 0.4, "1nna_cd": 0.6, "jsd": 0.05}
    whole = Scores(values, protocol, {"mmd_cd": (0.009, 0.011)}, values, {}, {"cd": (20, 2500)}, ("a remark",))
    whole.save(folder / "whole.json")
    Scores(values, protocol).save(folder / "bare.json")
    (folder / "bad_deep.json").write_text("[" * 100_000)
    (folder / "bad_digits.json").write_text('{"format": ' + "9" * 10_000 + "}")


CONFIG = """
model:
  class_path: VAE
  init_args:
    latent_dim: 8
    encoder: {class_path: PointNetEncoder, init_args: {num_features: 32}}
    optimizer:
      class_path: torch.optim.Adam
      init_args: {lr: 1.0e-3}
data:
  class_path: Shapes
  init_args: {path: chairs.h5, train_size: 64}
trainer:
  max_epochs: 2
  callbacks:
  - class_path: ModelCheckpoint
    init_args: {monitor: val/loss}
  - class_path: pytorch_lightning.callbacks.LearningRateMonitor
"""


def config(folder: Path) -> None:
    (folder / "whole.yaml").write_text(CONFIG)
    (folder / "anchors.yaml").write_text("a: &sizes [1, 2, 3]\nb: *sizes\nc: &d {x: 1}\ne: {<<: *d, y: 2}\n")
    laughs = ["a0: &a0 [lol, lol]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (folder / "bad_laughs.yaml").write_text("\n".join(laughs))
    (folder / "bad_deep.yaml").write_text("model: " + "[" * 20_000)
    (folder / "bad_class.yaml").write_text(CONFIG.replace("ModelCheckpoint", "os.system"))
    (folder / "bad_tag.yaml").write_text("model: !!python/object/apply:os.system ['true']\n")
    (folder / "bad_itself.yaml").write_text("model: &m\n  init_args: *m\n")
    (folder / "bad_date.yaml").write_text("model: 2001-99-99\n")


def archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / "plain.zip", "w") as out:
        out.writestr("ModelNet10/chair/train/chair_0001.off", "OFF\n5 3 0\n" + VERTICES + FACES)
        out.writestr("ModelNet10/README.txt", "read me\n" * 20, zipfile.ZIP_DEFLATED)
    for name, member in (("parent", "../outside.off"), ("root", "/outside.off"), ("drive", "C:\\outside.off")):
        with zipfile.ZipFile(folder / f"bad_{name}.zip", "w") as out:
            out.writestr(member, "x")
    with zipfile.ZipFile(folder / "bad_link.zip", "w") as out:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        out.writestr(link, "/etc/passwd")
    with zipfile.ZipFile(folder / "bad_bomb.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("zeros.off", bytes(20 << 20))
    with zipfile.ZipFile(folder / "bad_twice.zip", "w") as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out.writestr("a/b.off", "x")
        out.writestr("a", "x")


def names(folder: Path) -> None:
    (folder / "shape_names.txt").write_text("chair\nnight_stand\ntable\n")
