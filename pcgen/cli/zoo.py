"""List what there is to use in a config, by the short names that a config may use, and what each model can do."""

import argparse
import importlib
import inspect
import re
from importlib import resources
from itertools import takewhile

from pcgen.cli.common import is_abstract

# room -> package and the bases of what is listed
ROOMS = {
    "models": ("pcgen.models", ("GenerativeModel",)),
    "datamodules": ("pcgen.datamodules", ("DataModule",)),
    "augmentations": ("pcgen.datamodules", ("Augmentation",)),
    "callbacks": ("pcgen.callbacks", ("Callback",)),
    "networks": ("pcgen.nets", ("Recorded",)),
    "losses": ("pcgen.losses", ("Reconstruction", "AdversarialLoss")),
    "schedules": ("pcgen.losses", ("Schedule",)),
    "kernels": ("pcgen.ops", ("RecordedKernel",)),
    "corruptions": ("pcgen.corruptions", ("Corruption",)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("room", nargs="?", choices=[*ROOMS, "configs"], help="only these")


def run(arguments: argparse.Namespace) -> int:
    """Print the tables."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for room in [arguments.room] if arguments.room else [*ROOMS, "configs"]:
        table = Table(title=room, title_justify="left", box=None, show_header=False, pad_edge=False)
        for name, text, verbs in sorted(_configs() if room == "configs" else _classes(*ROOMS[room])):
            table.add_row(f"  [bold]{name}[/bold]", escape(text) + (f"\n[dim]{verbs}[/dim]" if verbs else ""))
        console.print(table, "")
    return 0


def _classes(package: str, bases: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Public concrete classes of a package that derive from one of the bases: name, first line of docstring, verbs."""
    module = importlib.import_module(package)
    found = [(name, getattr(module, name)) for name in module.__all__]
    concrete = [(n, c) for n, c in found if inspect.isclass(c) and not is_abstract(c)]
    concrete = [(n, c) for n, c in concrete if {each.__name__ for each in c.__mro__}.intersection(bases)]
    return [(n, (inspect.getdoc(c) or "").split("\n")[0], _verbs(c)) for n, c in concrete]


def _verbs(cls: type) -> str:
    """Name what a model can do; nothing for any other class."""
    from pcgen.base import VERBS, GenerativeModel

    return ", ".join(verb for verb in VERBS if cls.can(verb)) if issubclass(cls, GenerativeModel) else ""


def _configs() -> list[tuple[str, str, str]]:
    """Shipped configs with the first sentence of the comment that each begins with."""
    files = [f for f in resources.files("pcgen.configs").iterdir() if f.name.endswith(".yaml")]
    return [(f.name, _first_sentence(f.read_text(encoding="utf-8")), "") for f in files]


def _first_sentence(text: str) -> str:
    lines = takewhile(lambda line: line.startswith("#"), text.splitlines())
    comment = " ".join(line.lstrip("# ") for line in lines)
    return re.split(r"(?<=\.) (?=[A-Z])", comment, maxsplit=1)[0]
