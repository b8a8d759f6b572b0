"""What is fuzzed: every reader of files that may come from a stranger."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzzing import checkpoints, seeds

MiB = 1 << 20
PICKLES = checkpoints.PICKLE_WORDS


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        seeds: Writes the files to start from into a folder. All are accepted as they are, but those named `bad…`,
            which are refused.
        load: Reads a file. It returns, or raises a `pcgen.errors.PcgenError` of one line that names the file.
        words: Words that the format knows.
        base: Bytes of memory that reading any file may take.
        ratio: Bytes of memory that may be taken beyond, for each byte of the file.
        companions: Writes what must lie beside the file into its folder, once.
    """

    seeds: Callable[[Path], None]
    load: Callable[[Path], object]
    words: tuple[bytes, ...] = ()
    base: int = 64 * MiB
    ratio: int = 200
    companions: Callable[[Path], None] | None = None


def clouds(path: Path) -> None:
    """Read clouds as a training, and as `pcgen data info` does."""
    from pcgen.io import describe_file, read_clouds

    describe_file(path)
    read_clouds(path, seed=0)


def lazy(path: Path) -> None:
    """Read clouds one after the other, as a training on data beyond memory does."""
    from pcgen.io import LazyClouds, read_clouds

    read_clouds(path)
    lazily = LazyClouds(path)
    try:
        for start in range(0, len(lazily), 64):
            lazily.gather(range(start, min(start + 64, len(lazily))))
    finally:
        lazily.close()


def mesh(path: Path) -> None:
    """Read a mesh and draw points from it."""
    from pcgen.io import read_mesh, sample_mesh

    sample_mesh(read_mesh(path), 64)


def images(path: Path) -> None:
    """Read images."""
    from pcgen.cli.images import holds_images, read_images

    holds_images(path)
    read_images(path)


def idx(path: Path) -> None:
    """Read MNIST's images."""
    from pcgen.datamodules._idx import read_idx

    read_idx(path, 3)


def scores(path: Path) -> None:
    """Read the result of an evaluation and make its tables."""
    from pcgen.metrics import Scores
    from pcgen.metrics.scores import compared

    table = compared({"one": Scores.load(path)})
    table.rich("scores")
    table.markdown()
    table.csv()


def config(path: Path) -> None:
    """Check a config before the command line parses it."""
    from pcgen.cli.trust import check_config

    check_config(path)


def archive(path: Path) -> None:
    """Unpack an archive."""
    import shutil

    from pcgen.io import extract_zip

    folder = path.parent / "unpacked"
    try:
        extract_zip(path, folder, max_bytes=8 * MiB, progress=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def listing(path: Path) -> None:
    """Read the list of classes that lies beside HDF5 files."""
    from pcgen.io import read_clouds

    try:
        read_clouds(path.parent)
    finally:
        path.unlink()


def shard_index(path: Path) -> None:
    """Read a set whose index is damaged."""
    _shards(path, "shards.json")


def shard(path: Path) -> None:
    """Read a set of which one shard is damaged."""
    _shards(path, seeds.SHARDS[0])


def _shards(path: Path, name: str) -> None:
    from pcgen.io import is_stale

    path.replace(path.with_name(name))
    try:
        is_stale(path.parent, path.parent / seeds.SHARDS[1], num_points=8)
        lazy(path.parent)
    finally:
        path.with_name(name).unlink()


TARGETS: dict[str, Target] = {
    "ply": Target(seeds.ply, clouds, seeds.PLY_WORDS),
    "ply-mesh": Target(seeds.ply_mesh, mesh, seeds.PLY_WORDS),
    "pcd": Target(seeds.pcd, clouds, seeds.PCD_WORDS),
    "text": Target(seeds.text, clouds, (b",", b"#", b"0 0 0\n")),
    "off": Target(seeds.off, mesh, (b"OFF", b"COFF", b"STOFF", b" BINARY", b"#", b"3 0 1 2\n")),
    "obj": Target(seeds.obj, mesh, (b"v ", b"f ", b"\nvn ", b"/", b"//", b"mtllib x\n", b"\\\n")),
    "npy": Target(seeds.npy, clouds, (b"'|O'", b"'<f8'", b"'|V4'", b"True", b"(3,)", b"[('a','<i4')]")),
    "npz": Target(seeds.npz, clouds, (b"'|O'", b"'<f8'", b"points.npy", b"label.npy")),
    "hdf5": Target(seeds.hdf5, clouds, (b"points", b"TREE", b"HEAP", b"SNOD", b"GCOL")),
    "hdf5-lazy": Target(seeds.hdf5_points, lazy, (b"points", b"TREE", b"HEAP", b"SNOD", b"GCOL")),
    "shard-index": Target(seeds.shard_index, shard_index, (b"100000", b"-1", b"true"), companions=seeds.shards_in),
    "shard": Target(seeds.shard, shard, (b"points", b"seed", b"fingerprint"), companions=seeds.shards_in),
    "images": Target(seeds.images, images, (b"images.npy", b"'|u1'", b"IDAT", b"IHDR")),
    "idx": Target(seeds.idx, idx),
    "scores": Target(seeds.scores, scores, (b"null", b"[]", b"{}", b"NaN", b'"format": 1', b"1e999", b'"\\u001b[31m"')),
    "config": Target(seeds.config, config, seeds.CONFIG_WORDS),
    "archive": Target(seeds.archive, archive, (b"../", b"/etc/x", b"C:\\")),
    "checkpoint": Target(checkpoints.checkpoint, checkpoints.load, PICKLES, checkpoints.BASE),
    "checkpoint-pickle": Target(checkpoints.pickles, checkpoints.load_pickle, PICKLES, checkpoints.BASE),
    "checkpoint-words": Target(checkpoints.words, checkpoints.load_changed, base=checkpoints.BASE),
    "safetensors": Target(checkpoints.safetensors, checkpoints.load, checkpoints.JSON_WORDS, checkpoints.BASE),
    "tensor": Target(checkpoints.tensors, checkpoints.load_tensor, PICKLES, checkpoints.BASE),
    "extractor": Target(checkpoints.extractors, checkpoints.load_extractor, PICKLES, checkpoints.BASE),
}  # fmt: skip
