"""What a run says of how it was made."""

import subprocess
import time

import pytest
import pytorch_lightning as pl
import yaml

from pcgen.training import provenance
from pcgen.training.provenance import git_state


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_and_whether_files_differ_from_it(tmp_path):
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) == {"commit": None, "dirty": None}  # none yet
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "a")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "new").write_text("nobody tracks it")
    assert git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path) == {"commit": commit, "dirty": True}


def test_without_git_or_with_one_that_hangs_nobody_knows(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
    (tmp_path / "git").write_text("#!/bin/sh\nexec /bin/sleep 20\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setattr(provenance, "GIT_TIMEOUT", 0.2)
    began = time.monotonic()
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
    assert time.monotonic() - began < 5


def test_no_program_of_a_strangers_repository_runs(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "a")
    (tmp_path / "spy").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "spy").chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(tmp_path / "spy"))
    assert git_state(tmp_path)["dirty"] is False
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/a/b/pcgen", "fit", "--config", "my file.yaml"], "pcgen fit --config 'my file.yaml'"),
        (["pcgen", "--api_key=12", "--x", "1"], "pcgen '--api_key=…' --x 1"),
        (["pcgen", "--my.token", "12", "--secret", "--x", "1"], "pcgen --my.token '…' --secret --x 1"),
        ([], ""),
        (["pcgen", "--trainer.logger", "{class_path: A, init_args: {api_key: SEKRET}}"], "pcgen --trainer.logger '…'"),
        (["pcgen", "--a.b={'api_key': 'SEKRET'}", "--c", "1"], "pcgen '--a.b=…' --c 1"),
        (["pcgen", "--a+={password : SEKRET}", '--d={"hf_token":"S"}'], "pcgen '--a+=…' '--d=…'"),
        (["pcgen", "--url", "https://u:SEKRET@host/x"], "pcgen --url 'https://…@host/x'"),
        (["pcgen", "--url=https://SEKRET@host/x?token=1"], "pcgen '--url=…'"),
        (["pcgen", "--h={a: Bearer SEKRET}"], "pcgen '--h={a: Bearer …}'"),
        (["pcgen", "--keys.api_keys", "SEKRET1", "SEKRET2", "--x"], "pcgen --keys.api_keys '…' '…' --x"),
        (
            ["pcgen", "--num_tokens=5", "--token_dim", "8", "--name", "token"],
            "pcgen --num_tokens=5 --token_dim 8 --name token",
        ),
        (["pcgen", "--a={num_tokens: 5, token_dim: 3}"], "pcgen '--a={num_tokens: 5, token_dim: 3}'"),
    ],
)
def test_the_command_line_without_its_secrets(words, expected):
    assert provenance._command(words) == expected


def test_a_config_without_its_secrets():
    config = {
        "api_key": ["SEKRET"],
        "token": {"a": {"b": "SEKRET"}},
        "password": 1234,
        "headers": {"Authorization": "Bearer SEKRET", "other": "bearer SEKRET"},
        "urls": ["s3://user:SEKRET@host/bucket"],
        "query": "x?access_token=SEKRET",
        "num_tokens": 5,
        "tokens": "abc",
        "class_token": True,
        "api_token": None,
    }
    assert provenance.without_secrets(config) == {
        "api_key": "…",
        "token": "…",
        "password": "…",
        "headers": {"Authorization": "…", "other": "bearer …"},
        "urls": ["s3://…@host/bucket"],
        "query": "…",
        "num_tokens": 5,
        "tokens": "abc",
        "class_token": True,
        "api_token": None,
    }
    assert provenance.hides_something(["/bin/pcgen", "--url=https://a:b@c"])
    assert not provenance.hides_something(["/bin/pcgen", "fit", "--num_tokens", "3"])


def test_everything_is_plain_and_nothing_of_the_environment_is_in_it(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a-very-secret-key")
    monkeypatch.setenv("SOME_SETTING", "a-very-private-value")
    monkeypatch.setenv("PL_GLOBAL_SEED", "17")
    trainer = pl.Trainer(accelerator="cpu", logger=False, max_epochs=3, gradient_clip_val=0.5)
    text = yaml.safe_dump(provenance.provenance(trainer))
    assert "very" not in text
    made = yaml.safe_load(text)
    assert made["run"]["seed"] == 17
    assert made["run"]["processes"] == 1
    assert made["trainer"]["max_epochs"] == 3
    assert made["trainer"]["gradient_clip_val"] == 0.5
    assert set(made["run"]["versions"]) == {"pcgen", "torch", "pytorch_lightning", "python"}
