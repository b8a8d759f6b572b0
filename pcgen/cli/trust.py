"""Configs from strangers: what they may name, and how large they may be, before anything of them is parsed or imported.

A config says which classes are built and with what arguments. Importing a module runs its code, so that a class path
is as good as a program. Those of pcgen, of PyTorch's optimizers and networks and of Lightning are built as they come;
any other is built if the person at the keyboard has named it on the command line, or has said `--trust`.

It is made sure of twice: the config is searched for class paths, which gives the clearer error, and jsonargparse is
told which import paths a value may have, which it checks before it imports.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from pcgen.errors import ConfigurationError

TRUSTED = ("pcgen", "torch.optim", "torch.nn", "pytorch_lightning")
TRUST = "--trust"
_LARGEST = 1 << 18  # bytes; the longest config of this house has 2500
_DEEPEST = 50
_MOST_NODES = 50_000  # when every alias is followed
_DENIED = re.compile(r"[Ii]mporting '(?P<name>[\w.]+)' is not allowed(?P<call>: it is no class)?")
_CLASS = re.compile(r"(?:[A-Za-z_]\w*\.)+_?[A-Z]\w*")  # in a module: `my.Net`, as classes are written
_WORDS = re.compile(r"(?:path|root|folder|dir|file|filename|cache|name|url|version|project|monitor|key|token)$")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_SECTIONS = ("model", "data", "logger", "callbacks", "strategy", "plugins", "profiler", "accelerator")  # name classes
OF_A_COMMAND = ("ckpt_path", "weights_only", "trust")  # which file is read, and how much of it is believed
_FILE = re.compile(r"\.(?:ya?ml|json)$|/")


def read_config(path: Path, *, sections: str = "model:, data: and trainer:") -> dict[str, Any]:
    """Read a config as plain data; no tag makes it anything else.

    Args:
        path: A YAML file.
        sections: What one has, for the error message.

    Returns:
        Its sections.

    Raises:
        ConfigurationError: If it is no YAML of sections, larger than 256 KiB, nested deeper than 50, or grows beyond
            50 000 values when its aliases are followed.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigurationError(f"{path} has {path.stat().st_size} bytes; a config has at most {_LARGEST}")
        text = path.read_text(encoding="utf-8")
        _check_growth(path, text)
        content = yaml.load(text, Loader=_loader())  # noqa: S506 -- a safe loader, in C where that is there
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigurationError(f"{path}, line {line}: not YAML: {error.problem}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not a text file, so not a config") from error
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:  # such as the 41st of a month
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{path}: a value in it cannot be read ({' '.join(str(error).split())})") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds no sections; it needs {sections}")
    return content


def _loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_growth(path: Path | str, text: str) -> None:
    """Count the values without making any: aliases of aliases grow without bound, and nesting eats the stack."""
    sizes: dict[str, int] = {}  # of what an anchor names
    unfinished: list[tuple[str | None, int]] = []  # anchor, and the count when it began
    count = 0
    for event in yaml.parse(text, Loader=_loader()):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, start = unfinished.pop()
            sizes[anchor or ""] = count - start
            continue
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == a for a, _ in unfinished):
                raise ConfigurationError(f"{path}: the value &{anchor} holds itself; write it out")
            count += sizes.get(str(anchor), 1)
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            sizes[anchor or ""] = 1
            count += 1
        if isinstance(event, yaml.CollectionStartEvent):
            unfinished.append((anchor, count - 1))
        if len(unfinished) > _DEEPEST:
            raise ConfigurationError(f"{path}: nested deeper than {_DEEPEST} levels; a config is not")
        if count > _MOST_NODES:
            raise ConfigurationError(f"{path}: more than {_MOST_NODES} values when its aliases are followed; no config")


def check_config(path: Path, *, named: Sequence[str] = (), trust: bool = False) -> dict[str, Any]:
    """Read a config and refuse class paths from outside the trusted packages.

    Args:
        path: A YAML file.
        named: Packages that are trusted, too: those of `own_words`.
        trust: Accept all class paths.

    Returns:
        Its sections.

    Raises:
        ConfigurationError: As `read_config`, if it names a class that is not trusted, with its place and the remedy, or
            if it says which checkpoint to read.
    """
    content = read_config(path)
    for key in OF_A_COMMAND:
        if content.get(key) is not None:  # --print_config writes a null
            raise ConfigurationError(f"{path}: {key} is not for a config: give --{key} on the command line")
    if not trust:
        allowed = (*TRUSTED, *named)
        for where, name in class_paths(content):
            if not _is_under(name, allowed):
                raise ConfigurationError(f"{path}: {where}: {_outside(name)}")
    return content


def class_paths(content: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Give the place and name of every class path in plain data: after `class_path`, or where a class alone belongs."""
    if isinstance(content, dict):
        for key, value in content.items():
            inside = f"{where}.{key}" if where else str(key)
            if isinstance(value, str) and (key == "class_path" or (key in _SECTIONS and not _FILE.search(value))):
                if "." in value:
                    yield inside, value
            else:
                yield from class_paths(value, inside)
    elif isinstance(content, list):
        for i, value in enumerate(content):
            inside = f"{where}[{i}]"
            if isinstance(value, str) and where.rpartition(".")[2] in _SECTIONS and _DOTTED.fullmatch(value):
                yield inside, value
            else:
                yield from class_paths(value, inside)


def own_words(words: Sequence[str]) -> list[str]:
    """Give the packages of the classes that a command line names: they are the user's own words.

    Args:
        words: Of the command line. Those of options that take a class count: `--model my.Net`, and class paths inside
            `--trainer.callbacks+={class_path: my.Callback}`. Names, folders and files are none of it.
    """
    found: set[str] = set()
    for before, word in pairwise(["", *words]):
        flag, _, value = word.partition("=") if word.startswith("-") else (before, "", word)
        names = [name for name in _classes_of(flag, value) if not _is_under(name, TRUSTED)]
        found |= {name.partition(".")[0] for name in names}
    return sorted(found - {"jsonargparse"})


def _classes_of(flag: str, value: str) -> list[str]:
    """Give the dotted names of classes that an option's value holds."""
    parts = flag.removeprefix("--").rstrip("+").split(".")
    section = parts[1] if parts[0] == "trainer" and len(parts) > 1 else parts[0]
    if not flag.startswith("--") or section not in _SECTIONS or _WORDS.search(parts[-1]):
        return []
    if _CLASS.fullmatch(value) and not Path(value).exists():
        return [value]
    try:
        content = yaml.load(value[:_LARGEST], Loader=_loader()) if value[:1] in "{[" else None  # noqa: S506 -- a safe one
    except (yaml.YAMLError, ValueError):
        return []
    return [name for _, name in class_paths({section: content}) if _CLASS.fullmatch(name)]


def _no_class(name: str) -> str:
    return (
        f"{name!r} is no class, and calling it would run code that a config chooses; name a class, or pass {TRUST} if "
        "you know where the config comes from"
    )


def _outside(name: str) -> str:
    return (
        f"{name!r} lies outside pcgen, and importing it would run code that a config names; pass {TRUST} if you know "
        "where the config comes from, or name the class on the command line yourself"
    )


def _is_under(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@contextmanager
def guarded(named: Sequence[str], *, trust: bool) -> Iterator[None]:
    """Let jsonargparse import nothing else meanwhile, wherever a value of that kind stands, and take classes alone.

    It takes a function for a class if what it returns fits, and calls it with the config's arguments. What it reads has
    the bounds of `read_config`, also where a config's value is the name of a file.

    Args:
        named: Packages that are trusted, too: those of `own_words`.
        trust: Accept all class paths.
    """
    from jsonargparse import _common, _loaders_dumpers, _util, set_parsing_settings  # global, and no public way back

    settings, paths_of = _common.parsing_settings, _util.canonical_import_paths
    loaders = _loaders_dumpers.loaders
    load = loaders["yaml"]
    before = dict(settings)

    def of_classes(obj: Any) -> set[Any]:
        paths: set[Any] = paths_of(obj)
        ours = [path for path in paths if _is_under(path, TRUSTED)]  # what is neither ours nor named is refused below
        if ours and not isinstance(obj, type | ModuleType):
            raise _common.ImportDenied(f"Importing '{min(ours)}' is not allowed: it is no class")
        return paths

    def load_bounded(text: str) -> Any:
        if len(text) > _LARGEST:
            raise ConfigurationError(f"a part of the config has {len(text)} characters; it has at most {_LARGEST}")
        _check_growth("a part of the config", text)
        return load(text)

    loaders["yaml"] = load_bounded  # of files that a config names as the values of its sections, too
    try:
        if not trust:
            set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*TRUSTED, *named])
            _util.canonical_import_paths = of_classes
        yield
    except ConfigurationError as error:
        if (denied := _DENIED.search(str(error))) is None:
            raise
        where = re.split(r" is |: ", str(error), maxsplit=1)[0]
        why = _no_class if denied["call"] else _outside
        raise ConfigurationError(f"{where}: {why(denied['name'])}") from error
    finally:
        loaders["yaml"] = load
        _util.canonical_import_paths = paths_of
        settings.clear()
        settings.update(before)
