"""What a run was made with: versions, the code's commit, the command line, the seed. For the loggers."""

import os
import platform
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from pcgen import __version__

GIT_TIMEOUT = 5.0  # seconds that the commit and the state of the tree may each take
# `num_tokens` and `token_dim` count something; `token`, `hf_token` and `auth_tokens` are secrets.
_NAME = (
    r"(?:passw(?:or)?d|passphrase|secret|credential|authorization|(?:api|access|private|auth)[-_]?(?:key|token)s?|"
    r"token(?![A-Za-z0-9_-]))"
)
_SECRET = re.compile(_NAME, re.IGNORECASE)
_SAID = re.compile(rf"{_NAME}[\w-]*[\"']?\s*[:=]", re.IGNORECASE)  # in a text: `api_key: …`, `token=…`
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")  # of a URL
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[^\s,}\"']+", re.IGNORECASE)
_HIDDEN = "…"


def provenance(trainer: pl.Trainer) -> dict[str, Any]:
    """Say how a run was made, as plain values.

    Nothing is read from the environment but the seed that `seed_everything` leaves there. Secrets are hidden as by
    `without_secrets`.

    Args:
        trainer: That trains.

    Returns:
        `"trainer"`: its arguments, as the config has them where there is one. `"run"`: `"command"`, `"seed"`,
        `"processes"`, `"versions"` of pcgen, torch, pytorch_lightning and python, and `"git"`: `"commit"` and
        `"dirty"` (tracked files differ from it), both None outside a repository.
    """
    return {"trainer": without_secrets(_trainer_arguments(trainer)), "run": _run(trainer.world_size)}


def _run(processes: int) -> dict[str, Any]:
    return {
        "command": _command(sys.argv),
        "seed": int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed())),
        "processes": processes,
        "versions": {
            "pcgen": __version__,
            "torch": str(torch.__version__),  # a subclass of str, which YAML would write as an object
            "pytorch_lightning": version("pytorch_lightning"),
            "python": platform.python_version(),
        },
        "git": git_state(Path.cwd()),
    }


def git_state(folder: Path) -> dict[str, Any]:
    """Give the commit of a folder's repository and whether tracked files differ from it; None where nobody knows.

    Args:
        folder: In the repository, or in none.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    changed = None if commit is None else _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(folder: Path, *words: str) -> str | None:
    # A repository's own settings may name a program to run: that one is switched off, and no lock is taken.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *words]
    try:
        done = subprocess.run(  # noqa: S603 -- fixed words
            command, cwd=folder, capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def hides_something(words: list[str]) -> bool:
    """Say whether a command line holds what looks like a secret."""
    return _command(words) != shlex.join([Path(word).name if i == 0 else word for i, word in enumerate(words)])


def _command(words: list[str]) -> str:
    kept, hide = [Path(words[0]).name] if words else [], False
    for word in words[1:]:
        flag, equals, value = word.partition("=")
        if word.startswith("-"):
            hide = _SECRET.search(flag) is not None and not equals
            secret = value and (_SECRET.search(flag) or _SAID.search(value))
            kept.append(f"{flag}={_HIDDEN}" if secret else _redacted(word))
        else:
            kept.append(_HIDDEN if hide else _redacted(word))
    return shlex.join(kept)


def _redacted(text: str) -> str:
    """Hide a text that names a secret, and what logs in to a server."""
    if _SAID.search(text):
        return _HIDDEN
    return _BEARER.sub(rf"\1 {_HIDDEN}", _LOGIN.sub(f"{_HIDDEN}@", text))


def _trainer_arguments(trainer: pl.Trainer) -> Any:
    """Give them as the config has them, or else read the most telling ones off the trainer."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
    cli = sys.modules.get("pytorch_lightning.cli")  # imported by a command line alone: it takes a while
    for callback in callbacks if cli else []:
        if isinstance(callback, cli.SaveConfigCallback):  # type: ignore[union-attr]  # not None in this loop
            return callback.config["trainer"]
    algorithm = trainer.gradient_clip_algorithm
    return {
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "precision": str(trainer.precision),
        "accelerator": type(trainer.accelerator).__name__,
        "strategy": type(trainer.strategy).__name__,
        "devices": trainer.num_devices,
        "num_nodes": trainer.num_nodes,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "gradient_clip_val": trainer.gradient_clip_val,
        "gradient_clip_algorithm": None if algorithm is None else str(algorithm),
        "callbacks": [type(callback).__name__ for callback in callbacks],
    }


def without_secrets(value: Any, name: str = "") -> Any:
    """Make plain values of a config's, without its secrets.

    An ellipsis takes the place of everything below a name such as `api_key`, `password` or `token`, of texts that say
    one (`token=…`), of user and password in a URL, and of what follows `Bearer`. `num_tokens` is none.

    Args:
        value: A Namespace, containers, plain values; of anything else its text is taken.
        name: Of the value.
    """
    if hasattr(value, "as_dict"):  # a Namespace of jsonargparse
        value = value.as_dict()
    if value not in (None, "", [], {}) and not isinstance(value, bool) and _SECRET.search(name):
        return _HIDDEN
    if isinstance(value, dict):
        return {str(key): without_secrets(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(inner, name) for inner in value]
    return value if isinstance(value, (bool, int, float, type(None))) else _redacted(str(value))
