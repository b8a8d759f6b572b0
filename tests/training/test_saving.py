"""Checkpoints on the disk: whole or not at all."""

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from pcgen.errors import CheckpointError
from pcgen.io.files import atomic, remove_leftovers
from pcgen.training.saving import DurableCheckpointIO


def content(value: float, numbers: int = 1000):
    return {"state_dict": {"weight": torch.full((numbers,), value)}, "global_step": int(value)}


def test_what_was_written_is_read(tmp_path):
    keeper = DurableCheckpointIO()
    for value in (1.0, 2.0):
        keeper.save_checkpoint(content(value), tmp_path / "new" / "last.ckpt")
        assert keeper.load_checkpoint(tmp_path / "new" / "last.ckpt")["state_dict"]["weight"][0] == value
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["last.ckpt"]


def test_the_disk_has_the_file_before_it_gets_its_name_and_the_name_before_anything_else(tmp_path, monkeypatch):
    events = []
    flush, rename = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (events.append(str(Path(f"/proc/self/fd/{fd}").readlink())), flush(fd))[1]
    )
    monkeypatch.setattr(
        type(tmp_path), "replace", lambda old, new: (events.append(f"{old} -> {new}"), rename(old, new))[1]
    )
    DurableCheckpointIO().save_checkpoint(content(1.0), tmp_path / "last.ckpt")
    part = str(tmp_path / f".last.ckpt.{os.getpid()}.part.ckpt")
    assert events == [part, f"{part} -> {tmp_path / 'last.ckpt'}", str(tmp_path)]


FULL = """
import resource, signal, sys, torch
from pcgen.errors import CheckpointError
from pcgen.training.saving import DurableCheckpointIO
path, limit = sys.argv[1:]
keeper = DurableCheckpointIO()
keeper.save_checkpoint({"weight": torch.zeros(1000)}, path)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    keeper.save_checkpoint({"weight": torch.ones(10**6)}, path)
except CheckpointError as error:
    print(error)
assert torch.load(path)["weight"].sum() == 0
"""


def test_a_quota_leaves_the_former_checkpoint_and_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "last.ckpt"), "100000"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'last.ckpt'} cannot be written: file too large" in done.stdout
    assert "; last.ckpt as before" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_former_checkpoint_and_says_so(small_disk):
    keeper = DurableCheckpointIO()
    keeper.save_checkpoint(content(1.0), small_disk / "last.ckpt")
    with pytest.raises(
        CheckpointError, match=r"no space left on device \(1\.0 MB free\): make room there; .*last\.ckpt"
    ):
        keeper.save_checkpoint(content(2.0, 10**6), small_disk / "last.ckpt")
    assert keeper.load_checkpoint(small_disk / "last.ckpt")["global_step"] == 1
    assert [p.name for p in small_disk.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_an_error_of_the_disk_at_the_end_leaves_the_former_checkpoint(tmp_path, monkeypatch, at):
    keeper = DurableCheckpointIO()
    keeper.save_checkpoint(content(1.0), tmp_path / "last.ckpt")

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os if at == "fsync" else type(tmp_path), at, fail)
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt cannot be written: .*Input/output error; last\.ckpt as before"
    ):
        keeper.save_checkpoint(content(2.0), tmp_path / "last.ckpt")
    monkeypatch.undo()
    assert keeper.load_checkpoint(tmp_path / "last.ckpt")["global_step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_leftovers_of_a_killed_writer_go_and_nothing_else(tmp_path):
    for name in (".last.ckpt.77.part.ckpt", ".x.h5.5.part.h5", ".hidden", "last.ckpt", ".last.ckpt.notes", ".a.part"):
        (tmp_path / name).write_text("x")
    assert [p.name for p in remove_leftovers(tmp_path, "last.ckpt")] == [".last.ckpt.77.part.ckpt"]
    (tmp_path / ".folder.9.part").mkdir()
    assert {p.name for p in remove_leftovers(tmp_path)} == {".x.h5.5.part.h5", ".folder.9.part"}
    assert {p.name for p in tmp_path.iterdir()} == {".hidden", "last.ckpt", ".last.ckpt.notes", ".a.part"}


def test_a_leftover_has_the_name_that_is_looked_for(tmp_path):
    with atomic(tmp_path / "a.h5") as unfinished:
        unfinished.write_text("x")
        assert remove_leftovers(tmp_path, "a.h5") == [unfinished]
        unfinished.write_text("x")


@pytest.mark.parametrize("plugin", [None, AsyncCheckpointIO, TorchCheckpointIO])
def test_a_training_writes_durably_unless_told_otherwise(plugin, tmp_path):
    from pcgen.datamodules import Shapes
    from pcgen.models import Autoencoder
    from pcgen.nets import MLPDecoder, PointNetEncoder

    class Own(TorchCheckpointIO):
        pass

    chosen = Own() if plugin is TorchCheckpointIO else plugin and plugin()
    trainer = Trainer(
        max_steps=1, accelerator="cpu", default_root_dir=tmp_path, logger=False, plugins=chosen and [chosen],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = Shapes(num_points=16, train_size=8, val_size=4, test_size=4, batch_size=4, stored_points=32)
    trainer.fit(Autoencoder(PointNetEncoder((8,)), MLPDecoder(4, 16, (8,))), data)
    used = trainer.strategy.checkpoint_io
    assert isinstance(used, DurableCheckpointIO) if plugin is None else used is chosen
    assert list(tmp_path.rglob("*.ckpt"))
