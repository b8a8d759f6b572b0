import functools
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer

import pcgen
from pcgen.checkpoint import export, find_checkpoint, newest_whole, read_checkpoint
from pcgen.datamodules import Shapes
from pcgen.errors import CheckpointError
from pcgen.losses import ChamferReconstruction
from pcgen.models import VAE
from pcgen.nets import MLPDecoder, PointNetEncoder
from pcgen.recipe import describe


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model, and its checkpoint as Lightning wrote it after an epoch."""
    folder = tmp_path_factory.mktemp("run")
    model = VAE(
        PointNetEncoder((8, 16)),
        MLPDecoder(4, 24, (16,)),
        optimizer=functools.partial(torch.optim.Adam, lr=1e-3),
        lr_scheduler=functools.partial(torch.optim.lr_scheduler.StepLR, step_size=1),
    )
    data = Shapes(num_points=32, train_size=16, val_size=8, test_size=8, batch_size=8, classes=["chair", "lamp"])
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, default_root_dir=folder, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    return model.eval(), trainer.checkpoint_callback.best_model_path


def seeded():
    return torch.Generator().manual_seed(11)


def test_load_gives_the_same_model_in_eval_mode(trained):
    model, path = trained
    loaded = pcgen.load(path)
    assert not loaded.training
    assert describe(loaded) == describe(model)
    assert torch.equal(loaded.sample(5, generator=seeded()), model.sample(5, generator=seeded()))


def test_the_checkpoint_says_what_its_data_were(trained):
    info = pcgen.load(trained[1]).data_info
    assert info["class_names"] == ["chair", "lamp"]
    assert info["sample_shape"] == [32, 3]
    assert info["up_axis"] == 2
    assert info["recipe"]["class_path"] == "pcgen.datamodules.Shapes"


def test_a_checkpoint_is_plain_data(trained):
    """Nothing in it but tensors and plain values: torch's strictest reader takes it, and so does a walk through it."""

    def walk(value, where):
        if isinstance(value, dict):
            for k, v in value.items():
                assert isinstance(k, str | int), where
                walk(v, f"{where}.{k}")
        elif isinstance(value, list | tuple):
            for v in value:
                walk(v, where)
        else:
            assert value is None or isinstance(value, bool | int | float | str | torch.Tensor), (where, type(value))

    walk(torch.load(trained[1], weights_only=True), "checkpoint")


def test_a_run_folder_means_its_last_checkpoint(trained, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for name in ("epoch=3.ckpt", "last.ckpt"):
        (tmp_path / "checkpoints" / name).write_bytes(Path(trained[1]).read_bytes())
    assert pcgen.load(tmp_path).latent_dim == 4
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        pcgen.load(empty)


def test_load_and_sample_in_another_process_without_data_or_network(trained, tmp_path):
    code = f"""
import socket, sys
class NoSocket(socket.socket):
    def __init__(self, *a, **k): raise RuntimeError("no network in this test")
socket.socket = NoSocket
import torch, pcgen
clouds = pcgen.load({trained[1]!r}).sample(16, generator=torch.Generator().manual_seed(11))
assert not {{"open3d", "h5py", "wandb", "sklearn", "numba"}} & set(sys.modules)
torch.save(clouds, {str(tmp_path / "clouds.pt")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=120)
    assert torch.equal(torch.load(tmp_path / "clouds.pt"), trained[0].sample(16, generator=seeded()))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated(trained, tmp_path, share):
    content = Path(trained[1]).read_bytes()
    path = tmp_path / "torn.ckpt"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"torn\.ckpt cannot be read.*truncated"):
        pcgen.load(path)


def test_files_of_another_kind(tmp_path):
    text = tmp_path / "notes.ckpt"
    text.write_text("hello")
    archive = tmp_path / "archive.ckpt"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "a")
    weights = tmp_path / "weights.ckpt"
    torch.save({"state_dict": {}, "epoch": 3}, weights)
    tensor = tmp_path / "tensor.ckpt"
    torch.save(torch.zeros(3), tensor)
    expected = {
        text: "another kind",
        archive: "another kind",
        weights: "state_dict, epoch",
        tensor: "not a checkpoint of pcgen",
        tmp_path / "none.ckpt": "there is no checkpoint",
    }
    for path, words in expected.items():
        with pytest.raises(CheckpointError, match=words) as error:
            pcgen.load(path)
        assert path.name in str(error.value)


class Bomb:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('exploded').touch()",))


@pytest.mark.parametrize("how", ["torch", "pickle", "inside"])
def test_pickled_objects_are_refused_and_never_run(trained, tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bomb.ckpt"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    else:
        content = torch.load(trained[1], weights_only=True) if how == "inside" else {}
        torch.save(content | {"extra": Bomb()}, path)
    with pytest.raises(CheckpointError, match=r"bomb\.ckpt"):
        pcgen.load(path, trust=True)
    assert not (tmp_path / "exploded").exists()


def change(trained, tmp_path, edit):
    content = torch.load(trained[1], weights_only=True)
    edit(content)
    torch.save(content, tmp_path / "changed.ckpt")
    return tmp_path / "changed.ckpt"


def test_a_strangers_class_is_refused(trained, tmp_path):
    def edit(content):
        content["pcgen"]["model"]["init_args"]["encoder"] = {"class_path": "os.system", "init_args": {"command": "x"}}

    with pytest.raises(CheckpointError, match=r"model\.encoder is of class 'os\.system', outside pcgen"):
        pcgen.load(change(trained, tmp_path, edit))


def test_weights_that_do_not_fit(trained, tmp_path):
    def edit(content):
        content["state_dict"].pop("mean.weight")

    with pytest.raises(CheckpointError, match=r"do not fit.*mean\.weight is missing and should be \(4, 16\)"):
        pcgen.load(change(trained, tmp_path, edit))


def test_a_record_of_a_huge_network_is_refused_before_it_takes_memory(trained, tmp_path):
    def edit(content):
        content["pcgen"]["model"]["init_args"]["decoder"]["init_args"]["num_points"] = 10**11

    with pytest.raises(CheckpointError, match=r"decoder\.layers.*300000000000"):
        pcgen.load(change(trained, tmp_path, edit))


def broken_cards():
    deep = {"class_path": "pcgen.nets.MLPDecoder", "init_args": {}}
    for _ in range(150):
        deep = {"deeper": deep}
    return {
        "no model": lambda card: card.pop("model"),
        "a number for a part": lambda card: card["model"]["init_args"].update(decoder=3),
        "deep nesting": lambda card: card["model"]["init_args"].update(encoder=deep),
        "a value out of range": lambda card: card["model"]["init_args"].update(monte_carlo_samples=-1),
        "a list for a record": lambda card: card.update(model=[1, 2]),
    }


@pytest.mark.parametrize("name", broken_cards())
def test_malformed_records_are_one_error_that_names_the_file(trained, tmp_path, name):
    with pytest.raises(CheckpointError, match=r"changed\.ckpt"):
        pcgen.load(change(trained, tmp_path, lambda content: broken_cards()[name](content["pcgen"])))


@pytest.mark.parametrize("place", ["cpu", torch.device("cpu"), None])
def test_map_location(trained, place):
    assert pcgen.load(trained[1], map_location=place).device.type == "cpu"
    if torch.cuda.is_available():
        assert pcgen.load(trained[1], map_location=torch.device("cuda")).device.type == "cuda"


def test_numpy_hyperparameters_end_in_a_checkpoint_that_loads(tmp_path):
    model = VAE(
        PointNetEncoder((8,)), MLPDecoder(np.int64(4), 24, (16,)), ChamferReconstruction(np.sqrt(0.01)),
        optimizer=functools.partial(torch.optim.SGD, lr=np.float64(1e-4)),
    )  # fmt: skip
    data = Shapes(num_points=32, train_size=8, val_size=8, test_size=8, batch_size=8)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    loaded = pcgen.load(trainer.checkpoint_callback.best_model_path)
    assert type(loaded.reconstruction.scale) is float


def test_a_later_format(trained, tmp_path):
    def edit(content):
        content["pcgen"]["format"] = 99

    with pytest.raises(CheckpointError, match="format 99"):
        pcgen.load(change(trained, tmp_path, edit))


def test_a_record_of_something_else(trained, tmp_path):
    def edit(content):
        content["pcgen"]["model"] = describe(MLPDecoder(2, 3, (4,)))

    with pytest.raises(CheckpointError, match="MLPDecoder, not of a generative model"):
        pcgen.load(change(trained, tmp_path, edit))


def saved(trained, path, step, age=0.0):
    """Write a whole checkpoint of another step, `age` seconds old."""
    content = torch.load(trained[1], weights_only=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content | {"global_step": step}, path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def tear(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = content[:0]
    else:  # a bit of a weight: the archive and its pickle are as they were
        with zipfile.ZipFile(path) as archive:
            part = max(archive.infolist(), key=lambda info: (info.filename.count("/data/"), info.file_size))
        content[part.header_offset + 30 + len(part.filename) + 100 + part.file_size // 2] ^= 0x10
    path.write_bytes(content)


def test_a_folder_means_the_checkpoint_that_is_furthest(trained, tmp_path):
    last = saved(trained, tmp_path / "last.ckpt", 20, age=50)
    best = saved(trained, tmp_path / "best.ckpt", 30, age=90)
    assert find_checkpoint(tmp_path) == best  # killed between saving it and `last`
    saved(trained, last, 30, age=95)
    assert find_checkpoint(tmp_path) == newest_whole(tmp_path) == last
    last.unlink()
    assert find_checkpoint(tmp_path) == best
    other = saved(trained, tmp_path / "other.ckpt", 30, age=10)
    assert find_checkpoint(tmp_path) == other


@pytest.mark.parametrize("how", ["cut", "empty", "bit"])
def test_a_torn_checkpoint_is_passed_over_with_one_warning(trained, tmp_path, how):
    folder = tmp_path / "checkpoints"
    last, best = saved(trained, folder / "last.ckpt", 30), saved(trained, folder / "best.ckpt", 20)
    tear(last, how)
    with pytest.warns(UserWarning, match=r"passed over: last\.ckpt in .*; best\.ckpt is taken") as said:
        assert find_checkpoint(tmp_path) == best
    assert len([w for w in said if "passed over" in str(w.message)]) == 1
    with pytest.raises(CheckpointError, match=r"last\.ckpt cannot be read"):
        pcgen.load(last)
    tear(best, how)
    with pytest.raises(CheckpointError, match=r"no whole checkpoint.*best\.ckpt.*last\.ckpt|last\.ckpt.*best\.ckpt"):
        find_checkpoint(tmp_path)
    assert newest_whole(tmp_path) is None


def test_what_an_interrupted_save_left_is_no_checkpoint(trained, tmp_path):
    saved(trained, tmp_path / ".last.ckpt.12345.part.ckpt", 40)
    assert newest_whole(tmp_path) is None
    assert newest_whole(tmp_path / "nowhere") is None
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)
    whole = saved(trained, tmp_path / "last.ckpt", 3)
    assert find_checkpoint(tmp_path) == whole


def test_of_several_runs_the_newest_counts(trained, tmp_path):
    saved(trained, tmp_path / "monday" / "checkpoints" / "last.ckpt", 900, age=500)
    tuesday = saved(trained, tmp_path / "tuesday" / "checkpoints" / "last.ckpt", 10)
    assert find_checkpoint(tmp_path) == tuesday


def test_safetensors_hold_the_same_model(trained, tmp_path):
    model, path = trained
    export(path, tmp_path / "model.safetensors")
    loaded = pcgen.load(tmp_path / "model.safetensors")
    assert not loaded.training
    assert describe(loaded) == describe(model)
    assert loaded.data_info == pcgen.load(path).data_info
    assert torch.equal(loaded.sample(5, generator=seeded()), model.sample(5, generator=seeded()))
    assert list(tmp_path.iterdir()) == [tmp_path / "model.safetensors"]
    with pytest.raises(CheckpointError, match=r"give the \.ckpt that it came from"):
        read_checkpoint(tmp_path / "model.safetensors", resumable=True)
    from safetensors.torch import load_file

    plain = load_file(tmp_path / "model.safetensors")  # as any other program would read it
    assert plain.keys() == model.state_dict().keys()
    assert all(torch.equal(plain[name], value) for name, value in model.state_dict().items())
