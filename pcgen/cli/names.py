"""Names for files on a command line: given, or as much of each path as tells it from the others."""

from collections.abc import Callable
from pathlib import Path

from pcgen.errors import ConfigurationError

KEEPERS = ("checkpoints",)  # folders within a run that say nothing of it


def split_name(word: str) -> tuple[str, str]:
    """Divide `NAME=PATH`; the name is empty where there is none, or where a file is called like the whole word."""
    name, sign, place = word.partition("=")
    return (name, place) if sign and not Path(word).exists() else ("", word)


def shortest(
    paths: list[Path], parts: Callable[[Path], tuple[str, ...]], least: Callable[[Path], int]
) -> dict[Path, str]:
    """Name paths by as many of their last parts as they need to differ.

    Args:
        paths: To be named.
        parts: Of a path, those that a name may be made of.
        least: How many of them a name has at least.
    """
    known = {path: parts(path) for path in paths}
    for length in range(1, 1 + max(map(len, known.values()), default=0)):
        names = {path: "/".join(p[-max(length, least(path)) :]) for path, p in known.items()}
        if len(set(names.values())) == len(names):
            return names
    return {path: str(path) for path in paths}


def check_different(names: list[str], last: object, what: str) -> None:
    """Refuse two of one name.

    Raises:
        ConfigurationError: With the remedy.
    """
    if twice := next((name for name in names if names.count(name) > 1), None):
        short = twice.strip("/").partition("/")[0]
        raise ConfigurationError(f"two {what} are called {twice}: name them, such as {short}-2={last}")


def named_paths(words: list[str]) -> dict[str, Path]:
    """Name checkpoints and runs' folders, those of `NAME=PATH` as they say."""
    given = [(name, Path(place)) for name, place in map(split_name, words)]
    short = shortest([path for name, path in given if not name], _run_parts, _least)
    names = [name or short[path] for name, path in given]
    check_different(names, given[-1][1], "checkpoints")
    return {name: path for name, (_, path) in zip(names, given, strict=True)}


def _least(path: Path) -> int:
    """A run is told by its name and its time at least."""
    return 2 if path.is_dir() or path.parent.name in KEEPERS else 1


def _run_parts(path: Path) -> tuple[str, ...]:
    """Parts of a path without `checkpoints`, `last.ckpt` and the suffix, which tell nothing."""
    parts = path.absolute().with_suffix("").parts if path.suffix == ".ckpt" else path.absolute().parts
    if parts[-1] == "last" and len(parts) > 2:
        parts = parts[:-1]
    return tuple(part for part in parts if part not in KEEPERS)
