import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

import pcgen
from pcgen.base import CHECKPOINT_FORMAT
from pcgen.chains import PersistentStart
from pcgen.errors import CheckpointError
from pcgen.losses import ChamferReconstruction, SquaredErrorReconstruction
from pcgen.models import EBGAN, GAN, VAE, GenerativePointNet, LatentGAN
from pcgen.nets import CNNDecoder, CNNEncoder, MLPDecoder, PointNetEncoder, PointNetScore
from pcgen.recipe import describe
from pcgen.safetensors import read_safetensors, write_safetensors


def vae():
    return VAE(PointNetEncoder((8, 16)), MLPDecoder(4, 24, (16,)))


MODELS = {
    "averaged weights": lambda: GAN(MLPDecoder(4, 24, (16,)), PointNetEncoder((8, 16)), spectral_norm=True),
    "images, channels last": lambda: VAE(
        CNNEncoder((1, 8, 8), (4,), (8,)), CNNDecoder(2, (1, 8, 8), (4,), (8,)), SquaredErrorReconstruction()
    ),
    "an autoencoder inside": lambda: LatentGAN(vae(), (8,), (8,), 4),
    "persistent chains": lambda: GenerativePointNet(PointNetScore((8, 8), (8,)), 16, steps=3, start=PersistentStart(5)),
    "two autoencoders": lambda: EBGAN(
        MLPDecoder(4, 16, (8,)), PointNetEncoder((8, 16)), MLPDecoder(16, 16, (8,)), ChamferReconstruction()
    ),
}


def written(model, path, **others):
    card = {"format": CHECKPOINT_FORMAT, "version": "0", "model": describe(model), "data": None}
    write_safetensors(path, model.state_dict(), {"pcgen": card, **others})
    return path


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_comes_back(name, tmp_path):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    loaded = pcgen.load(written(model, tmp_path / "m.safetensors"))
    assert describe(loaded) == describe(model)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    draws = [m.sample(3, generator=torch.Generator().manual_seed(1)) for m in (model, loaded)]
    assert torch.equal(*draws)


def test_tensors_of_every_kind(tmp_path):
    shared = torch.randn(4, 3)
    weights = {
        "scalar": torch.tensor(3, dtype=torch.int64),
        "none": torch.zeros(0, 3),
        "half": torch.randn(3).bfloat16(),
        "truth": torch.tensor([True, False]),
        "one": shared,
        "other": shared,  # the format takes no memory twice
        "turned": shared.t(),
        "part": shared[1:, :2],
        "repeated": torch.randn(1).expand(5),
        "once": torch.randn(()).expand(1),
    }
    write_safetensors(tmp_path / "t.safetensors", weights, {"pcgen": {"a": 1}, "epoch": 3})
    read, record = read_safetensors(tmp_path / "t.safetensors")
    assert record == {"pcgen": {"a": 1}, "epoch": 3}
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[k], v) and read[k].dtype == v.dtype for k, v in weights.items())


def header(path):
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def put(path, said, data):
    said = said if isinstance(said, bytes) else json.dumps(said).encode()
    path.write_bytes(struct.pack("<Q", len(said)) + said + data)


def broken():
    """Changes of (header, data), by what they do."""

    def entry(**others):
        def change(said, data):
            name = next(key for key in said if key != "__metadata__")
            said[name] |= others
            return said, data

        return change

    def overlap(said, data):
        one, other = [key for key in said if key != "__metadata__"][:2]
        said[one]["data_offsets"] = said[other]["data_offsets"]
        return said, data

    def card(value):
        def change(said, data):
            said["__metadata__"]["pcgen"] = value
            return said, data

        return change

    return {
        "a flipped bit": lambda said, data: (said, data[:-3] + bytes([data[-3] ^ 4]) + data[-2:]),
        "cut off": lambda said, data: (said, data[:-10]),
        "more than claimed": lambda said, data: (said, data + b"x"),
        "a huge shape": entry(shape=[10**12, 10**12]),
        "a negative shape": entry(shape=[-1]),
        "offsets beyond the file": entry(data_offsets=[0, 10**15]),
        "offsets the wrong way": entry(data_offsets=[100, 0]),
        "an unknown type": entry(dtype="F1"),
        "overlapping": overlap,
        "no record": lambda said, data: (said.pop("__metadata__") and said, data),
        "no JSON": card("{"),
        "deep JSON": card("[" * 100_000),
        "another JSON": card("[1]"),
        "a long number": card('{"pcgen": {"format": ' + "9" * 6000 + "}}"),
        "no header": lambda said, data: (b"hello", data),
    }


@pytest.mark.parametrize("name", broken())
def test_damaged_files_are_one_error_that_names_the_file(name, tmp_path):
    path = written(vae(), tmp_path / "broken.safetensors")
    put(path, *broken()[name](*header(path)))
    with pytest.raises(CheckpointError, match=r"broken\.safetensors") as error:
        pcgen.load(path)
    assert len(str(error.value)) < 800
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [2**60, 2**64 - 1, 1 << 30])
def test_a_header_that_claims_to_be_huge(length, tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(CheckpointError, match=rf"announces a header of {length}"):
        pcgen.load(path)


def test_a_header_that_is_huge(tmp_path):
    path = tmp_path / "broken.safetensors"
    put(path, b"{}" + b" " * (20 << 20), b"")
    with pytest.raises(CheckpointError, match="are read"):
        pcgen.load(path)


def test_files_of_others_and_strangers_classes(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="without a record of pcgen's"):
        pcgen.load(path)
    model = vae()
    card = {"format": CHECKPOINT_FORMAT, "version": "0", "model": {"class_path": "os.system", "init_args": {}}}
    write_safetensors(path, model.state_dict(), {"pcgen": card})
    with pytest.raises(CheckpointError, match="outside pcgen"):
        pcgen.load(path)
    assert load_file(path).keys() == model.state_dict().keys()
    for bad in ({**card, "format": 99}, {"format": CHECKPOINT_FORMAT}):
        write_safetensors(path, model.state_dict(), {"pcgen": bad})
        with pytest.raises(CheckpointError, match=r"other\.safetensors"):
            pcgen.load(path)
