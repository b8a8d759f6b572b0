"""Sweeps: what a file becomes, and that a sweep that was interrupted goes on."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import yaml

from pcgen.cli import sweep as sweeping
from pcgen.cli.sweep_file import read_sweep
from pcgen.errors import ConfigurationError

GRID = {
    "name": "small",
    "method": "grid",
    "metric": {"name": "val/elbo", "goal": "maximize"},
    "parameters": {
        "model.decoder.latent_dim": {"values": [2, 8]},
        "model.schedule.beta": {"values": [0.1, 1.0]},
        "seed_everything": {"value": 3},
    },
    "command": ["${env}", "pcgen", "fit", "--config", "base.yaml", "${args}", "--trainer.max_epochs", 2],
}
RANDOM = GRID | {
    "method": "random",
    "parameters": {
        "a": {"min": 1, "max": 3},
        "b": {"min": 0.5, "max": 2.0},
        "c": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        "d": {"values": ["x", "y"], "probabilities": [0.9, 0.1]},
        "e": {"distribution": "q_uniform", "min": 0.0, "max": 10.0, "q": 5.0},
        "f": {"distribution": "normal", "mu": 3.0, "sigma": 0.5},
    },
}


def written(folder, content):
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    return folder / "sweep.yaml"


def test_a_grid_is_every_choice_once(tmp_path):
    sweep = read_sweep(written(tmp_path, GRID))
    trials = sweep.trials()
    assert [trial.name for trial in trials] == [
        f"latent_dim={size},beta={beta}" for size in (2, 8) for beta in (0.1, 1.0)
    ]
    assert sweep.words(trials[1]) == [
        "--config", "base.yaml", "--model.decoder.latent_dim=2", "--model.schedule.beta=1.0", "--seed_everything=3",
        "--trainer.max_epochs", "2",
    ]  # fmt: skip


def test_random_trials_follow_their_distributions_and_a_larger_count_changes_none(tmp_path):
    sweep = read_sweep(written(tmp_path, RANDOM))
    trials = sweep.trials(400)
    assert sweep.trials(7) == trials[:7]
    assert sweep.trials(7, seed=1) != trials[:7]
    assert len({trial.name for trial in trials}) == 400
    values = {key: [trial.values[key] for trial in trials] for key in sweep.parameters}
    assert set(values["a"]) == {1, 2, 3}
    assert 0.5 <= min(values["b"]) < 0.6
    assert 1.9 < max(values["b"]) <= 2.0
    assert abs(np.log10(values["c"]).mean() + 2.5) < 0.2  # uniform in the logarithm
    assert 0.85 < np.mean([value == "x" for value in values["d"]]) < 0.95
    assert set(values["e"]) == {0.0, 5.0, 10.0}
    assert abs(np.mean(values["f"]) - 3.0) < 0.1
    assert abs(np.std(values["f"]) - 0.5) < 0.1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "bayes"}, "needs W&B's server"),
        ({"metod": "grid"}, "there is no key 'metod'"),
        ({"metric": None}, "metric is missing"),
        ({"metric": {"name": "x", "goal": "up"}}, "goal is 'up'"),
        ({"command": ["pcgen", "fit"]}, "command must be a list"),
        ({"command": ["fit", "${args}", "${args_json_file}"]}, "args_json_file"),
        ({"parameters": {"a": 3}}, "parameters.a is 3"),
        ({"parameters": {"a": {"values": []}}}, "at least one"),
        ({"parameters": {"a": {"values": [1, 2], "probabilities": [1, 1]}}}, "probabilities"),
        ({"parameters": {"a": {"min": 2, "max": 1}}}, "above max"),
        ({"parameters": {"a": {"min": "x", "max": 1}}}, "give a number"),
        ({"parameters": {"a": {"distribution": "beta"}}}, "known without W&B's server"),
        ({"parameters": {"a": {"distribution": "log_uniform_values", "min": 0, "max": 1}}}, "above 0"),
        ({"parameters": {"a": {"parameters": {"b": {"value": 1}}}}}, "dotted"),
        ({"parameters": {}}, "is no sweep"),
        ({"name": "../up"}, "becomes a folder's"),
        ({"run_cap": 0}, "run_cap is 0"),
        ({"parameters": [1, 2]}, "parameters is [1, 2]; give each a name"),
        ({"parameters": {"a": {"values": [1, 2], "probabilities": 3}}}, "probabilities is 3"),
        ({"parameters": {"a": {"values": [1, 2], "probabilities": ["x", 1]}}}, "probabilities is ['x', 1]"),
        ({"parameters": {"a": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}}}, "give more than 0"),
        ({"parameters": {"a": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 1e-300}}}, "numbers up to 9"),
        ({"parameters": {"a": {"distribution": "normal", "sigma": -1}}}, "sigma is -1; give at least 0"),
        ({"parameters": {"a": {"distribution": "int_uniform", "min": 0, "max": 1.5}}}, "1.5; int_uniform takes whole"),
        ({"parameters": {"a": {"min": 0, "max": 10**30}}}, "takes numbers up to"),
        ({"parameters": {"a": {"min": -1.7e308, "max": 1.7e308}}}, "takes numbers up to 1e+300"),
        ({"parameters": {"a": {"min": True, "max": 3}}}, "a.min is True; give a number"),
        ({"parameters": {"a": {"distribution": ["normal"]}}}, "known without W&B's server"),
        ({"parameters": {"trainer.callbacks": {"value": "evil.Evil"}}}, "a class of 'evil' lies outside pcgen"),
        (
            {"parameters": {"model.encoder": {"values": ["pcgen.nets.A", {"class_path": "evil.Net"}]}}},
            "class of 'evil'",
        ),
        ({"command": ["fit", "--model", "evil.Net", "${args}"]}, "a class of 'evil' lies outside pcgen"),
        ({"command": ["fit", "${args}", "--trust"]}, "--trust is not for a file to say: give it to pcgen sweep"),
        ({"parameters": {"trust": {"value": 1}}}, "--trust is not for a file to say"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(cli, tmp_path, change, says):
    file = written(tmp_path, GRID | change)
    error = cli("sweep", file).error
    assert error.startswith(str(file))
    assert says in error


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GRID | {"parameters": {"a": {"min": 0.0, "max": 1.0}}}, "a grid needs"),
        (GRID | {"parameters": {k: {"values": list(range(99))} for k in "abc"}}, "970299 trials"),
        (RANDOM, "give --count"),
        (RANDOM | {"run_cap": 10**9}, "give --count"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(cli, tmp_path, content, says):
    assert says in cli("sweep", written(tmp_path, content)).error


def test_the_sweep_of_the_repository_is_understood(root, cli):
    for file in (root / "sweeps").glob("*.yaml"):
        result = cli("sweep", file, "--dry-run", *(["--count", 1] if "random" in file.name else []))
        command = result.out.splitlines()[0].split()
        with pytest.raises(SystemExit) as stop:  # what `wandb agent` would start is parsed
            cli(*command[1:], "--print_config")
        assert not stop.value.code
    assert file


class Trainings:
    """Stands for the processes of the trials: logs what they would, and counts them."""

    def __init__(self, fails=()):
        self.fails, self.ran = set(fails), []

    def __call__(self, command, **options):
        from pathlib import Path

        folder = Path(command[command.index("--folder") + 1])
        self.ran.append(folder.name)
        if folder.name in self.fails:
            return subprocess.CompletedProcess(command, 3)
        size, beta = (float(part.rpartition("=")[2]) for part in folder.name.split(","))
        folder.mkdir(parents=True, exist_ok=True)
        rows = [f"{epoch},{epoch},{-size - beta - abs(epoch - 1)}" for epoch in range(3)]
        (folder / "metrics.csv").write_text("\n".join(["epoch,step,val/elbo", *rows, "3,3,nan", ""]))
        return subprocess.CompletedProcess(command, 0)


def test_finished_trials_are_passed_over_and_failed_ones_tried_again(cli, tmp_path, monkeypatch):
    file = written(tmp_path, GRID)
    monkeypatch.setattr(sweeping.subprocess, "run", first := Trainings(fails={"latent_dim=8,beta=0.1"}))
    result = cli("sweep", file)
    assert result.status == 1
    assert len(first.ran) == 4
    assert "failed (3)" in result.out
    monkeypatch.setattr(sweeping.subprocess, "run", second := Trainings())
    result = cli("sweep", file)
    assert result.status == 0
    assert second.ran == ["latent_dim=8,beta=0.1"]
    with (tmp_path / "runs" / "small" / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    best = [(float(row["best val/elbo"]), row["epoch"], float(row["last"])) for row in rows]
    sums = sorted(size + beta for size in (2, 8) for beta in (0.1, 1.0))
    assert best == [(-total, "1", -total - 1) for total in sums]
    assert (tmp_path / "runs" / "small" / "sweep.png").stat().st_size > 1000


def test_a_trusted_sweep_trusts_its_trials(cli, tmp_path):
    file = written(tmp_path, GRID | {"parameters": {"trainer.callbacks": {"values": ["their.Callback"]}}})
    assert cli("sweep", file, "--dry-run").status == 2
    result = cli("sweep", file, "--dry-run", "--trust")
    assert result.status == 0
    assert result.out.rstrip().endswith("--trust")
    assert "--trust" not in cli("sweep", written(tmp_path, GRID), "--dry-run").out


def test_a_damaged_table_of_a_trial_is_named(cli, tmp_path, monkeypatch):
    file = written(tmp_path, GRID)
    monkeypatch.setattr(sweeping.subprocess, "run", Trainings())
    assert cli("sweep", file).status == 0
    table = tmp_path / "runs" / "small" / "latent_dim=8,beta=0.1" / "metrics.csv"
    rows = table.read_text()
    table.write_text(f"{rows}4,4,-0.0")  # a line that was cut
    assert cli("sweep", file).status == 0
    table.write_text(f"{rows}4,4,better\n")
    assert "metrics.csv, line 6: val/elbo is 'better', which is no number" in cli("sweep", file).error


def test_another_sweep_in_the_folder_is_refused(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping.subprocess, "run", Trainings())
    assert cli("sweep", written(tmp_path, GRID)).status == 0
    other = GRID | {"command": ["pcgen", "fit", "--config", "other.yaml", "${args}"]}
    assert "give another --folder" in cli("sweep", written(tmp_path, other)).error
    (tmp_path / "runs" / "small" / "sweep.json").write_text("{")
    assert "damaged" in cli("sweep", written(tmp_path, GRID)).error


def test_a_trial_is_a_training_with_a_folder_and_the_sweeps_name(cli, tiny, tmp_path):
    """One real process, started as a sweep starts it."""
    content = GRID | {
        "parameters": {"model.decoder.latent_dim": {"values": [2]}},
        "command": ["pcgen", "fit", "--config", "tiny.yaml", "${args}", "--trainer.max_epochs", "1",
                    "--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false"],
    }  # fmt: skip
    command = [sys.executable, "-m", "pcgen", "sweep", str(written(tmp_path, content))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "small" / "latent_dim=2"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["name"] == "small"
    assert config["model"]["init_args"]["decoder"]["init_args"]["latent_dim"] == 2
    assert json.loads((tmp_path / "runs" / "small" / "sweep.json").read_text())["trials"]["latent_dim=2"]["status"] == 0


def test_an_unreadable_file_is_one_sentence(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_sweep(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not a text file"):
        read_sweep(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("a: " + "[" * 100_000)
    with pytest.raises(ConfigurationError, match="nested deeper than 50"):
        read_sweep(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("- 1")
    with pytest.raises(ConfigurationError, match="needs method, metric, parameters and command"):
        read_sweep(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigurationError, match="not YAML"):
        read_sweep(tmp_path / "bad.yaml")
