"""Two processes train, validate and test every model of the zoo: with one result, and as one process would."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import torch

import pcgen
from pcgen.cli.predictions import write_predictions

HERE = Path(__file__).parent
import _two_processes as two  # noqa: E402 -- below the path that it is found by
import test_zoo  # noqa: E402

every_model = pytest.mark.parametrize("name", test_zoo.SMALL)


@pytest.fixture(scope="module")
def both(tmp_path_factory, together):
    """Gives what either process saved of a kind and a name: one pair does everything, since its start takes longest."""
    folder = tmp_path_factory.mktemp("two")
    said = together(HERE / "_two_processes.py", [folder], folder)

    def saved(kind, name=""):
        return [torch.load(folder / f"{kind}-{name}-{rank}.pt") for rank in (0, 1)]

    saved.folder, saved.said = folder, said
    return saved


def apart(ones, others):
    """Give the largest relative distance of gradients of the same steps."""
    assert [one.keys() for one in ones] == [other.keys() for other in others]
    flat = [[torch.cat([g.flatten().double() for g in step.values()]) for step in steps] for steps in (ones, others)]
    return max(float((a - b).norm() / a.norm()) for a, b in zip(*flat, strict=True))


# ── gradients ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def one():
    """Gives the gradients that one process makes of the whole batch."""
    found = {}

    def gradients(name):
        if name not in found:
            found[name] = two.gradients(name)
        return found[name]

    return gradients


@every_model
def test_two_halves_of_a_batch_give_the_gradients_of_the_whole(name, both, one):
    first, second = both("gradients", name)
    assert len(first) == len(one(name)) >= 1
    assert apart(first, second) == 0  # averaged: the same numbers
    assert apart(one(name), first) < 2e-5  # of single precision


@pytest.mark.parametrize("name", two.NO_MEANS)
def test_terms_that_are_no_means_over_data_would_be_wrong_of_the_halves_alone(name, both, one):
    """So the test above can fail."""
    assert apart(one(name), both("alone", name)[0]) > 1e-4


def test_rows_and_means_of_the_processes_are_exact_with_their_gradients(both):
    """ℓ(c₁, c₂) = Σ_ij sin(c_i · c_j) + ‖mean c‖³ of c = x θ: the mean of both gradients against autograd's of all."""
    first, second = both("collectives")
    theta = first["theta"].clone().requires_grad_()
    c = first["x"] @ theta
    ((c @ c.T).sin().sum() + c.mean(0).norm() ** 3).backward()
    torch.testing.assert_close((first["gradient"] + second["gradient"]) / 2, theta.grad, rtol=1e-12, atol=0)
    assert not torch.allclose(first["gradient"], second["gradient"])
    for found in first, second:
        assert "the processes have [2, 3] data" in found["refused"]
        assert torch.equal(found["taken"], torch.zeros(2))


# ── fit, validate, test ───────────────────────────────────────────────────────────────────────────────────────────────

# What an evaluation logs without drawing anything.
EXACT = {
    "VAE": ["kl", "active_units"],
    "BetaVAE": ["kl", "active_units"],
    "Autoencoder": ["loss"],
    "WAE": ["loss", "mmd2"],
    "GAN": ["accuracy_real"],
    "LatentGAN": ["accuracy_real"],
    "EBGAN": ["energy_real"],
    "GenerativePointNet": ["energy_real"],
    "PointNetClassifier": ["loss", "accuracy", "mean_class_accuracy"],
    "CNNClassifier": ["loss", "accuracy", "mean_class_accuracy"],
    "DeformingAutoencoder": ["loss", "bias"],
    "ClassAwareDeformingAutoencoder": ["loss", "bias", "accuracy"],
}
# These draw what they are given to restore, or the samples whose mean score is half of their threshold.
DRAWS = {"Autoencoder-corruption", "Autoencoder-images", "GAN-wasserstein", "LatentGAN-images"}


@every_model
def test_both_processes_train_one_model_that_everyone_can_open(name, both):
    first, second = both("training", name)
    assert "find_unused_parameters" not in first["ddp"]
    assert first["steps"] == second["steps"] == 2
    own = {key for key in first["weights"] if key.startswith("start.")}  # each has chains of its own
    differ = {key for key in first["weights"] if not torch.equal(first["weights"][key], second["weights"][key])}
    assert differ <= own
    torch.manual_seed(0)
    fresh = test_zoo.SMALL[name]().state_dict()
    assert any(not torch.equal(fresh[key], first["weights"][key]) for key in fresh)
    logged = {key: value for key, value in first["logged"].items() if key.startswith("train/")}
    assert logged
    assert all(torch.isfinite(value) for value in logged.values())
    assert first["scores"] == second["scores"]
    loaded = pcgen.load(first["checkpoint"]).state_dict()
    assert all(torch.equal(loaded[key], first["weights"][key]) for key in loaded)


@every_model
def test_two_processes_score_as_one(name, both, tmp_path):
    """Both must see every datum once: 17, which no padding would leave alone."""
    found, _ = both("training", name)
    model = pcgen.load(found["checkpoint"])
    data, _ = two.data_of(model)
    runner = test_zoo.trainer(tmp_path, enable_checkpointing=False)
    (validated,) = runner.validate(model, data, verbose=False)
    (tested,) = runner.test(model, data, verbose=False)
    assert (validated | tested).keys() == found["scores"].keys()
    for score in [] if name in DRAWS else EXACT[name.split("-")[0]]:
        for key, value in (validated | tested).items():
            if key.endswith(f"/{score}"):
                assert found["scores"][key] == pytest.approx(value, rel=1e-4, abs=1e-6), key


def test_nobody_is_told_to_average_what_all_have_alike(both):
    assert "Trainer" in both.said[0]  # Lightning has spoken
    assert not [line for line in both.said[0].splitlines() if "sync_dist" in line]


def test_without_a_validation_both_end_with_the_same_running_statistics(both):
    first, second = both("unvalidated")
    assert any("running_mean" in key for key in first)
    assert all(torch.equal(first[key], second[key]) for key in first)


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", two.PREDICTED)
def test_predictions_of_two_processes_are_those_of_one(name, both, tmp_path):
    first, second = both("predictions", name)
    assert first == second  # where the file is
    torch.manual_seed(0)
    model = test_zoo.SMALL[name]().eval()
    data, _ = two.data_of(model)
    runner = test_zoo.trainer(tmp_path, enable_checkpointing=False)
    runner.predict(model, data)
    expected = write_predictions(runner, data, tmp_path)
    assert [file.name for file in Path(first).parent.iterdir()] == [expected.name]
    ones, others = _rows(expected), _rows(Path(first))
    assert len(ones) == len(data.take("test").x) == 17
    torch.testing.assert_close(others, ones, rtol=1e-4, atol=1e-5)


def _rows(file):
    if file.suffix == ".csv":
        return torch.tensor([[float(cell) for cell in line.split(",")] for line in file.read_text().splitlines()[1:]])
    with h5py.File(file) as opened:
        (array,) = (opened[key][:] for key in opened if key in {"images", "points"})
    return torch.from_numpy(array)


OPTIONS = ["--data.train_size=24", "--data.val_size=9", "--data.test_size=9", "--data.batch_size=4",
           "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]  # fmt: skip


# Notes what is opened for writing, renamed or made in the run's folder, and by whom.
FIT = """
import json, os, sys

def note(event, arguments):
    if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        return
    place = {{"open": 0, "os.rename": 1, "os.mkdir": 0}}.get(event)
    path = "" if place is None else str(arguments[place])
    if {runs!r} in path:
        log = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, (json.dumps([int(os.environ.get("LOCAL_RANK", 0)), path]) + "\\n").encode())
        os.close(log)

sys.addaudithook(note)
sys.path.append({here!r})
from _quick_cells import quick_cells
from pcgen.cli.main import main
with quick_cells():
    sys.exit(main(sys.argv[1:]))
"""


def _fit(folder, world_size):
    folder.mkdir()
    script, runs = folder / "run.py", str(folder / "runs")
    script.write_text(FIT.format(here=str(HERE), log=str(folder / "written.txt"), runs=runs))
    words = ["fit", "--config", "quickstart", *OPTIONS, f"--trainer.devices={world_size}", "--name=run"]
    with (folder / "said.txt").open("w") as said:
        words = [sys.executable, str(script), *words, "--runs", runs]
        return subprocess.Popen(words, stdout=said, stderr=said, cwd=folder, start_new_session=True)


def test_two_processes_leave_the_files_of_one_and_rank_zero_alone_writes(tmp_path):
    """The quickstart with all its pictures and scores, on tiny data, from the command line."""
    folders = {world_size: tmp_path / f"on {world_size}" for world_size in (1, 2)}
    running = {world_size: _fit(folder, world_size) for world_size, folder in folders.items()}
    try:
        for world_size, run in running.items():
            assert run.wait(timeout=200) == 0, (folders[world_size] / "said.txt").read_text()[-3000:]
    finally:
        for run in running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
    files = {}
    for world_size, folder in folders.items():
        (run,) = (folder / "runs" / "run").iterdir()
        files[world_size] = sorted(str(file.relative_to(run)) for file in run.rglob("*") if file.is_file())
    assert files[2] == files[1]
    written = [json.loads(line) for line in (folders[2] / "written.txt").read_text().splitlines()]
    assert written
    assert {rank for rank, _ in written} == {0}
