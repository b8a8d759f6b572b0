"""Checkpoints that are made to harm: one clear error each, in bounded time and memory, and no code of theirs is run."""

import importlib
import inspect
import itertools
import pickle
import pkgutil
import resource
import struct
import time
import zipfile

import pytest
import torch
from torch import nn

import pcgen
from pcgen.base import CHECKPOINT_FORMAT, DataModule
from pcgen.errors import CheckpointError, DataError
from pcgen.io.torch_archive import Claim, survey
from pcgen.models import GAN, VAE, LatentGAN
from pcgen.nets import MLPDecoder, PointNetEncoder
from pcgen.rebuilding import rebuild
from pcgen.recipe import Recorded, build, build_data, describe

HUGE = [10**12, [10**9] * 3, [4] * 5000, -1, float("nan"), "/etc/passwd", {}, [[]]]

ONE = nn.Linear(1, 1)


@pytest.fixture(scope="module")
def model():
    return VAE(PointNetEncoder((8, 16)), MLPDecoder(4, 24, (16,)))


def content(model, **others):
    card = {"format": CHECKPOINT_FORMAT, "version": "0", "model": describe(model), "data": None}
    return {"state_dict": model.state_dict(), "global_step": 1, "pcgen": card} | others


def written(tmp_path, what):
    torch.save(what, tmp_path / "hostile.ckpt")
    return tmp_path / "hostile.ckpt"


@pytest.fixture
def bounded():
    """The test may take 5 s and no more than 512 MiB above what the process had."""
    before, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.perf_counter() - before < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 512 << 10


# ── what the archive says ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_survey_says_what_torch_reads(model, tmp_path):
    what = content(model, tensors=[torch.zeros(3, 0), torch.ones(4).bool(), torch.zeros(2, 3).t(), torch.zeros(())])
    what |= {"plain": [None, True, 2**70, -1.5, "ü", b"\x00\xff", (1, (2,)), {1, 2}, {3: "x"}], "size": torch.Size([3])}
    path = written(tmp_path, what)

    def same(claimed, read):
        if isinstance(read, torch.Tensor):
            assert claimed == Claim(tuple(read.shape), claimed.kind)
            assert claimed.size == read.numel() * read.element_size()
        elif isinstance(read, dict):
            assert list(claimed) == list(read)
            for key in read:
                same(claimed[key], read[key])
        elif isinstance(read, list | tuple):
            assert len(claimed) == len(read)
            for one, other in zip(claimed, read, strict=True):
                same(one, other)
        else:
            assert claimed == read

    same(survey(path), torch.load(path, weights_only=True))


def repacked(path, edit, compression=zipfile.ZIP_STORED):
    """Write an archive anew, checksums right, with what `edit` makes of its parts."""
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    parts = edit(parts) or parts
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def pickle_of(parts):
    return next(name for name in parts if name.endswith("/data.pkl"))


def test_compressed_parts_are_refused(model, tmp_path, bounded):
    path = repacked(written(tmp_path, content(model)), lambda parts: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"hostile\.ckpt is refused: .* compressed"):
        pcgen.load(path)


def test_parts_that_share_their_bytes_are_refused(model, tmp_path, bounded):
    path = written(tmp_path, content(model))
    with zipfile.ZipFile(path, "a") as archive:
        large = max(archive.infolist(), key=lambda info: info.file_size)
        for k in range(1000):
            twin = zipfile.ZipInfo(f"archive/data/x{k}")
            twin.CRC, twin.file_size, twin.compress_size = large.CRC, large.file_size, large.compress_size
            twin.header_offset = large.header_offset
            archive.filelist.append(twin)
        archive._didModify = True
    with pytest.raises(CheckpointError, match="claim more than"):
        pcgen.load(path)


def test_two_parts_of_one_name_are_refused(model, tmp_path):
    path = written(tmp_path, content(model))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.infolist()[0].filename, b"")
    with pytest.raises(CheckpointError, match="two parts of one name"):
        pcgen.load(path)


def test_a_huge_table_of_contents_is_refused(model, tmp_path, bounded):
    path = written(tmp_path, content(model))
    whole = bytearray(path.read_bytes())
    whole[-10:-6] = struct.pack("<L", 1 << 30)
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="table of contents"):
        pcgen.load(path)


TRICKS = {
    "a name": b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.",
    "a name of torch": b"\x80\x02ctorch.hub\nload\nX\x02\x00\x00\x00id\x85R.",
    "a large bytearray": b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "a large tensor by its class": b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "a subclass": b"\x80\x02ctorch._utils\n_rebuild_wrapper_subclass\n)R.",
    "a sparse tensor": b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n)R.",
    "far memory": b"\x80\x02}r\xff\xff\xff\x7f.",
    "state of a class": b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.",
    "items of its own": b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb.",
    "a long string": b"\x80\x02X\xff\xff\xff\xffabc.",
    "a tuple that takes for ever to hash": b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"K\x01s.",
    "nothing": b"",
    "no end": b"\x80\x02]" * 1000,
    "deep": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "many steps": b"\x80\x02" + b"K\x01q\x00" * 500_000 + b".",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_pickles_that_are_made_to_harm(model, tmp_path, trick, bounded):
    path = repacked(written(tmp_path, content(model)), lambda parts: parts | {pickle_of(parts): TRICKS[trick]})
    with pytest.raises(CheckpointError, match=r"hostile\.ckpt"):
        pcgen.load(path)


def strided(*size, stride, offset=0):
    return torch.zeros(8).as_strided(size, stride, offset)


@pytest.mark.parametrize("shape", [(10**6, 10**6), (1 << 40,)])
def test_tensors_that_are_stored_once_and_claimed_often(model, tmp_path, shape, bounded):
    path = written(tmp_path, content(model, extra=strided(*shape, stride=(0,) * len(shape))))
    with pytest.raises(CheckpointError, match="claims"):
        pcgen.load(path)


@pytest.mark.parametrize("number", [10**9, -1])
@pytest.mark.parametrize("where", ["offset", "size", "stride", "storage"])
def test_tensors_beyond_their_storage(model, tmp_path, number, where, bounded):
    """Each number of a tensor's record is changed in the pickle itself."""
    path = written(tmp_path, content(model, extra=torch.zeros(77, 3)))
    new = pickle.dumps(number, 2)[2:-1]
    old = {
        "offset": (b"QK\x00", b"Q" + new),
        "size": (b"KMK\x03\x86", new + b"K\x03\x86"),
        "stride": (b"K\x03K\x01\x86", new + b"K\x01\x86"),
        "storage": (b"K\xe7t", new + b"t"),
    }[where]

    def edit(parts):
        name = pickle_of(parts)
        head, middle, tail = parts[name].rpartition(old[0])
        if where == "offset":  # that of the tensor in question
            place = parts[name].rindex(b"KMK\x03\x86")
            head, middle, tail = parts[name][:place].rpartition(old[0])
            tail += parts[name][place:]
        assert middle
        return parts | {name: head + old[1] + tail}

    with pytest.raises(CheckpointError, match=r"hostile\.ckpt"):
        pcgen.load(repacked(path, edit))


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(4, 16).to_sparse(),
        torch.zeros(4, 16, dtype=torch.complex64),
        torch.zeros(4, 16).long(),
        [1.0],
        "x",
        None,
    ],
    ids=["sparse", "complex", "integers", "list", "text", "none"],
)
def test_weights_of_another_kind(model, tmp_path, value):
    what = content(model)
    what["state_dict"]["mean.weight"] = value
    with pytest.raises(CheckpointError, match=r"hostile\.ckpt"):
        pcgen.load(written(tmp_path, what))


def test_weights_that_are_not_finite_are_named(model, tmp_path):
    what = content(model)
    what["state_dict"] = {k: v.clone() for k, v in what["state_dict"].items()}
    what["state_dict"]["mean.weight"][2, 3] = torch.nan
    with pytest.warns(UserWarning, match=r"mean\.weight holds NaN"):
        pcgen.load(written(tmp_path, what))


# ── what the record says ──────────────────────────────────────────────────────────────────────────────────────────────


def kinds():
    """Give all classes that a record can name."""
    for room in ("models", "datamodules", "nets", "losses", "corruptions", "chains", "ops", "io"):
        package = importlib.import_module(f"pcgen.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"pcgen.{room}."):
            for cls in vars(importlib.import_module(module.name)).values():
                if isinstance(cls, type) and issubclass(cls, Recorded) and cls.__module__ == module.name:
                    yield cls


CLASSES = sorted(set(kinds()), key=lambda cls: f"{cls.__module__}.{cls.__qualname__}")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_arguments_that_are_made_to_harm(cls):
    """Whatever stands in one argument of a record ends at once: in the object, or in one of our errors."""
    path = f"{cls.__module__}.{cls.__qualname__}"

    def fails(**arguments):
        with pytest.raises(CheckpointError):  # of whatever is built, there are no weights
            rebuild(lambda: nn.ModuleList([build({"class_path": path, "init_args": arguments}), ONE]), {})

    fails()  # what torch imports when it is first asked for is not the record's doing
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, value in itertools.product(list(inspect.signature(cls.__init__).parameters)[1:], HUGE):
        start = time.perf_counter()
        fails(**{name: value})
        assert time.perf_counter() - start < 5, (name, value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 256 << 10


def test_every_class_was_tried():
    assert {VAE, GAN, LatentGAN, MLPDecoder, PointNetEncoder} <= set(CLASSES)
    assert sum(issubclass(cls, DataModule) for cls in CLASSES) >= 7


@pytest.mark.parametrize(
    "path",
    [
        "pcgen.io.files.os.system", "pcgen.io.files.os", "pcgen.cli.main.main", "pcgen.recipe.sys.modules",
        "pcgen.__main__.x", "pcgen.nets.MLPDecoder.__init__", "pcgen.nets.base.nn.Linear", "pcgen.base.torch.load",
        "torch.optim.lr_scheduler.types.FunctionType", "pcgen..x", "pcgen.\0.x", "pcgen.base.DataModule\n",
    ],
)  # fmt: skip
def test_paths_that_lead_out_of_pcgen(path):
    with pytest.raises(CheckpointError, match=r"not a class|has no|not the path"):
        build({"class_path": path, "init_args": {}})


def test_a_class_that_a_module_of_ours_holds_for_a_stranger_is_refused(monkeypatch):
    class Stranger(Recorded):
        pass

    monkeypatch.setattr("pcgen.nets.base.Stranger", Stranger, raising=False)
    with pytest.raises(CheckpointError, match="outside pcgen"):
        build({"class_path": "pcgen.nets.base.Stranger"})
    assert isinstance(build({"class_path": "pcgen.nets.base.Stranger"}, trust=True), Stranger)


def test_a_record_that_is_itself_a_bomb(model, tmp_path, bounded):
    """Every list stands twice in the next: 2^40 parts, of a few hundred bytes."""
    bomb = [1]
    for _ in range(40):
        bomb = [bomb, bomb]
    what = content(model)
    what["pcgen"]["model"] = {"class_path": "pcgen.nets.MLPEncoder", "init_args": {"widths": bomb}}
    with pytest.raises(CheckpointError, match="parts"):
        pcgen.load(written(tmp_path, what))


def test_a_large_module_of_few_weights_is_refused_before_it_takes_memory(bounded):
    """Weights that fit, and a buffer beside them that no file has."""

    class Idle(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.register_buffer("grid", torch.zeros(n), persistent=False)

    with pytest.raises(CheckpointError, match="far more than the file's weights"):
        rebuild(lambda: Idle(10**12), {})
    assert len(rebuild(lambda: Idle(10**6), {}).grid) == 10**6


def test_a_record_names_no_other_file(model, tmp_path):
    inner = written(tmp_path, content(model)).rename(tmp_path / "inner.ckpt")
    gan = LatentGAN(str(inner), (8,), (8,), 4)  # the user's own word
    what = content(gan)
    assert isinstance(pcgen.load(written(tmp_path, what)), LatentGAN)
    what["pcgen"]["model"]["init_args"]["autoencoder"] = str(inner)
    with pytest.raises(CheckpointError, match=r"the record names the file .*inner\.ckpt"):
        pcgen.load(written(tmp_path, what))


def test_a_strangers_data_are_not_downloaded():
    recipe = {"class_path": "pcgen.datamodules.MNIST", "init_args": {"root": "nowhere", "download": True}}
    assert build_data(recipe).download is False
    assert build_data(recipe, trust=True).download is True


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Shapes", {"train_size": 2 * 10**7}),
        ("Shapes", {"test_size": 10**5, "num_points": 2048, "stored_points": 10**5}),
        ("Dots", {"image_size": 10**6}),
        ("Dots", {"val_size": 10**7}),
        ("Patterns", {"train_size": 10**6, "image_size": 64}),
        ("PointClouds", {"path": "clouds.h5", "num_points": 10**9}),
    ],
)
def test_a_stranger_has_no_mountain_of_data_made(bounded, name, arguments):
    recipe = {"class_path": f"pcgen.datamodules.{name}", "init_args": arguments}
    with pytest.raises(CheckpointError, match=r"name the data to take, or pass trust=True \(--trust\)"):
        build_data(recipe)
    assert build_data(recipe, trust=True)


def test_data_in_measure_are_made_and_few_processes_gather():
    for name in ("Shapes", "Dots", "Patterns", "MNIST"):
        made = build_data({"class_path": f"pcgen.datamodules.{name}", "init_args": {"num_workers": 10**6}})
        assert made.num_workers <= 1024
    recipe = {"class_path": "pcgen.datamodules.Shapes", "init_args": {"train_size": 50_000, "num_points": 2048}}
    assert build_data(recipe).sizes["train"] == 50_000
    assert build_data({"class_path": "pcgen.datamodules.PointClouds", "init_args": {"path": "any.h5"}})


def test_a_strangers_record_has_no_meshes_converted(tmp_path):
    folder = tmp_path / "ModelNet10" / "chair" / "train"
    folder.mkdir(parents=True)
    (folder / "chair_0001.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    recipe = {"class_path": "pcgen.datamodules.ModelNet", "init_args": {"root": str(tmp_path), "num_points": 8}}
    with pytest.raises(DataError, match=r"name the data to take, or pass --trust"):
        build_data(recipe).prepare_data()
    assert [path.name for path in tmp_path.iterdir()] == ["ModelNet10"]
    build_data(recipe, trust=True).prepare_data()
    assert len(list(tmp_path.glob("*.h5"))) == 1
    (folder / "chair_0002.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")  # so the file is out of date
    before = next(tmp_path.glob("*.h5")).stat().st_mtime_ns
    build_data(recipe).prepare_data()  # what is there is read
    assert next(tmp_path.glob("*.h5")).stat().st_mtime_ns == before
