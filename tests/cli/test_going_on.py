"""A run in a folder of its own: killed, signalled, requeued, and given again with the same command."""

import csv
import fcntl
import math
import os
import re
import signal
import stat
import subprocess
import sys
import warnings

import pytest
import torch
import yaml
from pytorch_lightning import Callback

from pcgen.cli import folders
from pcgen.errors import ConfigurationError


class At(Callback):
    """Sends this process a signal after a training step, or ends it there as an error would."""

    def __init__(self, step: int, number: int | None = None) -> None:
        self.step, self.number = step, number

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step + 1 == self.step:
            if self.number is None:
                raise RuntimeError("the power is gone")
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "at", sys.modules[At.__module__])


@pytest.fixture
def stepping(tiny):
    """The tiny config, with a checkpoint after every second of six steps, and a learning-rate schedule."""
    config = yaml.safe_load(tiny.read_text())
    keeper = {"every_n_train_steps": 2, "save_last": True}
    config["trainer"]["callbacks"] = [{"class_path": "ModelCheckpoint", "init_args": keeper}]
    config["model"]["init_args"]["lr_scheduler"] = {
        "class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1, "gamma": 0.5},
    }  # fmt: skip
    tiny.write_text(yaml.safe_dump(config))
    return tiny


@pytest.fixture
def stop_at(stepping):
    """Writes the same config with a signal, or an error, at a step."""

    def write(step, number=None):
        config = yaml.safe_load(stepping.read_text())
        config["trainer"]["callbacks"].append({"class_path": "at.At", "init_args": {"step": step, "number": number}})
        file = stepping.with_name("stopping.yaml")
        file.write_text(yaml.safe_dump(config))
        return file

    return write


def checkpoint(folder, name="last.ckpt"):
    return torch.load(folder / "checkpoints" / name, weights_only=True)


def assert_same_training(a, b):
    one, other = checkpoint(a), checkpoint(b)
    assert one["global_step"] == other["global_step"] == 6
    for key, value in one["state_dict"].items():
        assert torch.equal(other["state_dict"][key], value), key
    for key in ("optimizer_states", "lr_schedulers"):
        assert str(other[key]) == str(one[key])


@pytest.fixture
def whole(cli, stepping, tmp_path):
    """A run that nothing has stopped."""
    assert cli("fit", "--config", stepping, "--folder", "whole").status == 0
    return tmp_path / "whole"


def test_the_same_command_finishes_what_was_killed(cli, stepping, stop_at, whole, tmp_path):
    with pytest.raises(RuntimeError, match="power"):
        cli("fit", "--config", stop_at(4), "--trust", "--folder", "run")
    (tmp_path / "run" / "checkpoints" / ".last.ckpt.77.part.ckpt").write_bytes(b"half")
    result = cli("fit", "--config", stepping, "--folder", "run")
    assert result.status == 0
    assert "going on from run/checkpoints/" in result.err
    assert_same_training(whole, tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    assert "is not empty" not in result.err


def test_a_torn_checkpoint_is_passed_over(cli, stepping, stop_at, whole, tmp_path):
    with pytest.raises(RuntimeError, match="power"):
        cli("fit", "--config", stop_at(6), "--trust", "--folder", "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    other = next(p for p in last.parent.glob("*.ckpt") if p != last)
    assert checkpoint(last.parents[1])["global_step"] == 4
    last.write_bytes(last.read_bytes()[:-1000])
    result = cli("fit", "--config", stepping, "--folder", "run")
    assert "last.ckpt" in next(line for line in result.err.splitlines() if "warning" in line)
    assert f"going on from {other.relative_to(tmp_path)}" in result.err
    assert_same_training(whole, tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_after_the_step_with_a_checkpoint(cli, stepping, stop_at, whole, tmp_path, number):
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    words = ("fit", "--config", stop_at(3, int(number)), "--trust", "--folder", "run")
    if number == signal.SIGINT:
        result = cli(*words)
        assert result.status == 130
        assert "next        pcgen fit --config run/config.yaml --folder run" in result.out
    else:
        with pytest.raises(SystemExit) as stop:
            cli(*words)
        assert stop.value.code == 128 + number
    assert checkpoint(tmp_path / "run")["global_step"] == 3
    assert {n: signal.getsignal(n) for n in handlers} == handlers
    assert cli("fit", "--config", stepping, "--folder", "run").status == 0
    assert_same_training(whole, tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == sorted(
        p.name for p in (whole / "checkpoints").iterdir()
    )


def test_no_checkpoints_means_none_after_a_signal_either(cli, stop_at, tmp_path):
    config = yaml.safe_load(stop_at(2, int(signal.SIGTERM)).read_text())
    config["trainer"]["callbacks"] = config["trainer"]["callbacks"][1:]
    config["trainer"]["enable_checkpointing"] = False
    (tmp_path / "none.yaml").write_text(yaml.safe_dump(config))
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            cli("fit", "--config", tmp_path / "none.yaml", "--trust", "--folder", "run")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_finished_run_is_left_as_it_is(cli, stepping, tmp_path):
    config = yaml.safe_load(stepping.read_text())
    del config["trainer"]["callbacks"]  # so that the last checkpoint is of the end of an epoch
    stepping.write_text(yaml.safe_dump(config))
    assert cli("fit", "--config", stepping, "--folder", "run").status == 0
    kept = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.suffix in (".ckpt", ".csv", ".yaml")}
    result = cli("fit", "--config", stepping, "--folder", "run")
    assert result.status == 0
    assert "next        pcgen sample run" in result.out
    assert kept == {p: p.read_bytes() for p in kept}


def test_a_longer_training_goes_on(cli, stepping, whole):
    assert cli("fit", "--config", stepping, "--folder", "whole", "--trainer.max_epochs", 4).status == 0
    assert checkpoint(whole)["global_step"] == 12
    rows = list(csv.DictReader((whole / "metrics.csv").open()))
    assert [row["epoch"] for row in rows if row["val/loss"]] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--model.decoder.widths", "[32]"],
            r"model\.init_args\.decoder\.init_args\.widths \[16\], and .* says \[32\]",
        ),
        (["--seed_everything", 5], "seed_everything 0, and this command says 5"),
        (["--trainer.precision", "bf16-mixed", "--data.batch_size", 4], r"data\.init_args\.batch_size 8.*1 more"),
    ],
    ids=["model", "seed", "several"],
)
def test_another_experiment_is_refused_in_its_folder(cli, stepping, whole, words, expected):
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    assert cli("fit", "--config", stepping, "--folder", "whole", *words).status == 2
    said = cli("fit", "--config", stepping, "--folder", "whole", *words).err.splitlines()[-1]
    assert re.search(expected, said)
    assert "--config whole/config.yaml, or name another --folder" in said
    assert before == {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}


def test_what_only_changes_where_and_how_it_runs_is_allowed(cli, stepping, whole):
    words = ["--trainer.log_every_n_steps", 3, "--data.num_workers", 0, "--trainer.devices", 1]
    assert cli("fit", "--config", stepping, "--folder", "whole", *words).status == 0


def test_two_trainings_do_not_share_a_folder(cli, stepping, whole):
    with (whole / ".lock").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        result = cli("fit", "--config", stepping, "--folder", "whole")
    assert result.status == 2
    assert "another training is running in whole" in result.err.splitlines()[-1]
    assert (whole / "checkpoints" / "last.ckpt").is_file()


def test_a_folder_that_was_there_is_not_removed_when_the_input_is_at_fault(cli, tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    config = yaml.safe_load(tiny.read_text())
    config["data"] = {"class_path": "PointClouds", "init_args": {"path": "nowhere.h5"}}
    tiny.write_text(yaml.safe_dump(config))
    assert cli("fit", "--config", tiny, "--folder", "run").status == 2
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert cli("fit", "--config", tiny, "--folder", "other").status == 2
    assert not (tmp_path / "other").exists()


def test_a_file_is_no_folder(cli, stepping):
    assert "stepping" not in cli("fit", "--config", stepping, "--folder", stepping).error
    assert "is a file; name a folder" in cli("fit", "--config", stepping, "--folder", stepping).error


def test_a_folder_with_nothing_but_torn_checkpoints_is_not_begun_anew(cli, stepping, whole):
    for file in (whole / "checkpoints").iterdir():
        file.write_bytes(file.read_bytes()[:-1000])
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    said = cli("fit", "--config", stepping, "--folder", "whole").err.splitlines()[-1]
    assert "no whole checkpoint (" in said
    assert said.endswith("move them away to begin anew in this folder")
    assert before == {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}


def test_checkpoints_outside_the_folder_would_not_be_found_again(cli, stepping, tmp_path):
    config = yaml.safe_load(stepping.read_text())
    config["trainer"]["callbacks"][0]["init_args"]["dirpath"] = "elsewhere"
    stepping.write_text(yaml.safe_dump(config))
    error = cli("fit", "--config", stepping, "--folder", "run").error
    assert error.startswith("ModelCheckpoint's dirpath elsewhere lies outside the run's folder run")
    assert error.endswith("leave dirpath out")
    assert not (tmp_path / "run").exists()


def test_a_callback_that_changes_weights_makes_another_experiment(cli, stepping, whole):
    config = yaml.safe_load(stepping.read_text())
    config["trainer"]["callbacks"].append({"class_path": "Samples"})  # watches, and may come and go
    config["trainer"]["callbacks"].append({"class_path": "StochasticWeightAveraging", "init_args": {"swa_lrs": 0.1}})
    stepping.write_text(yaml.safe_dump(config))
    said = cli("fit", "--config", stepping, "--folder", "whole").err.splitlines()[-1]
    assert "trainer.callbacks that act []" in said
    assert "StochasticWeightAveraging" in said
    assert "Samples" not in said


def test_another_checkpoint_to_begin_with_counts_only_for_the_beginning(cli, stepping, whole, tmp_path):
    words = ["--folder", "other", "--ckpt_path", whole / "checkpoints" / "last.ckpt", "--trainer.max_epochs"]
    assert cli("fit", "--config", stepping, *words, 3).status == 0
    result = cli("fit", "--config", stepping, *words, 4)
    assert "going on from other/checkpoints/" in result.err
    assert "not from whole/checkpoints/last.ckpt" in result.err
    assert checkpoint(tmp_path / "other")["global_step"] == 12


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_the_other_verbs_have_no_folder_to_go_on_in(cli, stepping, whole, verb):
    assert "--folder" in cli(verb, "--config", stepping, "--folder", "whole").error


def test_what_a_training_of_nan_has_reported_stays(cli, stepping, tmp_path, monkeypatch):
    from pcgen.models import VAE

    monkeypatch.setattr(VAE, "training_step", lambda self, batch, _: sum(p.sum() for p in self.parameters()) * math.nan)
    said = cli("fit", "--config", stepping, "--folder", "run").err.splitlines()[-1]
    assert said.startswith("pcgen: error: ")
    assert "step 0" in said
    assert (tmp_path / "run" / "faults" / "step_000000.json").is_file()


FAILING = """
import errno, os, sys, resource, signal
sys.path.insert(0, {here!r})
import test_going_on
sys.modules["at"] = test_going_on
from pcgen.errors import DataError
from pcgen.cli.main import main
first = os.environ.get("LOCAL_RANK", "0") == "0"
how = sys.argv[1]
if how == "full" and first:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
if how == "rank one" and not first:
    from pcgen.models import VAE
    def step(self, batch, batch_idx):
        raise DataError("the file on node 1 is damaged")
    VAE.training_step = step
sys.exit(main(["fit", "--config", "tiny.yaml", "--folder", "run", "--trainer.devices", "2", "--trainer.strategy",
               "ddp", "--trainer.enable_progress_bar", "false"]))
"""


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("full", r"pcgen: error: the checkpoint .* cannot be written: file too large"),
        ("rank one", r"pcgen: error: the file on node 1 is damaged"),
    ],
)
def test_an_error_of_one_process_is_told_and_ends_all(stepping, tmp_path, how, expected):
    script = tmp_path / "failing.py"
    script.write_text(FAILING.format(here=os.path.dirname(__file__)))  # noqa: PTH120 -- a word of a program
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "PCGEN_RUN"))}
    done = subprocess.run(
        [sys.executable, str(script), how], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    assert re.search(expected, done.stderr)
    assert "Traceback" not in done.stderr


# ── clusters ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """A SLURM job of one task, with a scontrol that writes down what it was told."""
    for key, value in {
        "SLURM_NTASKS": "1", "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "here",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    control = tmp_path / "bin" / "scontrol"
    control.parent.mkdir()
    control.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    control.chmod(control.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{control.parent}:{os.environ['PATH']}")
    return tmp_path / "told"


def test_a_slurm_job_is_requeued_and_goes_on_in_its_own_folder(cli, stepping, stop_at, whole, slurm, tmp_path):
    with pytest.raises(SystemExit):
        cli("fit", "--config", stop_at(3, int(signal.SIGUSR1)), "--trust")
    assert slurm.read_text() == "requeue 4711\n"
    (run,) = (tmp_path / "runs" / "tiny").iterdir()
    assert run.name == "job_4711"
    assert checkpoint(run)["global_step"] == 3
    assert cli("fit", "--config", stepping).status == 0
    assert [p.name for p in (tmp_path / "runs" / "tiny").iterdir()] == ["job_4711"]
    assert_same_training(whole, run)
    assert not list(run.glob("hpc_ckpt*"))


def test_a_slurm_job_that_is_cancelled_is_not_requeued(cli, stop_at, slurm):
    with pytest.raises(SystemExit):
        cli("fit", "--config", stop_at(3, int(signal.SIGTERM)), "--trust")
    assert not slurm.exists()


def test_the_tasks_of_an_array_have_folders_of_their_own(slurm, monkeypatch):
    from jsonargparse import Namespace

    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4700")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "11")
    monkeypatch.setenv("SLURM_STEP_ID", "2")
    config = Namespace(name="a", runs="runs", folder=None, trainer=Namespace(num_nodes=1))
    monkeypatch.delenv("PCGEN_RUN_FOLDER", raising=False)
    assert str(folders.find_folder(config, "fit").path) == "runs/a/job_4700_11.2"
    assert str(folders.find_folder(config, "test").path) == "runs/a/job_4700_11.2_test"
    monkeypatch.delenv("PCGEN_RUN_FOLDER", raising=False)


def test_nodes_that_cannot_agree_ask_for_a_folder(monkeypatch):
    from jsonargparse import Namespace

    config = Namespace(name="a", runs="runs", folder=None, trainer=Namespace(num_nodes=2))
    with pytest.raises(ConfigurationError, match=r"cannot agree on a folder: .* --folder"):
        folders.find_folder(config, "fit")


def test_torchrun_gives_both_processes_one_folder_and_a_restart_goes_on(stepping, stop_at, tmp_path):
    """The first attempt dies at step 4; torchrun starts both again, and they finish what the whole run finishes."""
    script = tmp_path / "once.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {os.path.dirname(__file__)!r})\n"  # noqa: PTH120 -- a word of a program
        "import test_going_on\n"
        "sys.modules['at'] = test_going_on\n"
        "from pcgen.cli.main import main\n"
        "config = ['stopping.yaml', 'tiny.yaml'][os.environ['TORCHELASTIC_RESTART_COUNT'] != '0']\n"
        "words = ['fit', '--config', config, '--trust', '--trainer.devices', '2', '--trainer.strategy', 'ddp']\n"
        "sys.exit(main([*words, '--trainer.enable_progress_bar', 'false', '--data.train_size', '48']))\n"
    )
    stop_at(4)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--max_restarts", "1",
        str(script),
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "PCGEN_RUN"))}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # see docs/launch/torchrun.sh
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = (tmp_path / "runs" / "tiny").iterdir()
    assert run.name.startswith("torchrun_")
    assert checkpoint(run)["global_step"] == 6
    assert "going on from" in done.stderr
    assert len(list((run / "checkpoints").iterdir())) == 2


def test_a_callbacks_arguments_are_checked():
    from pcgen.callbacks import Preemption

    with pytest.raises(ConfigurationError, match="no signal 'SIGFOO'"):
        Preemption(signals=["SIGFOO"])
    with pytest.raises(ConfigurationError, match="every_n_steps is 0"):
        Preemption(every_n_steps=0)
    with pytest.raises(ConfigurationError, match="SIGUSR2 is not among"):
        Preemption(requeue_signal="SIGUSR2")


def test_without_scontrol_there_is_a_warning(monkeypatch):
    from pcgen.callbacks.preemption import requeue

    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("PATH", "")
    with pytest.warns(UserWarning, match="job 12 is not requeued: there is no scontrol"):
        requeue()
    monkeypatch.delenv("SLURM_JOB_ID")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        requeue()
