"""One useful line out of the config parser's message.

jsonargparse answers a misspelt option with every branch of every union it tried. What the user needs is in there: the
innermost key, what was wrong with it and the value; what would be right is looked up in the classes themselves.
"""

import difflib
import inspect
import re
from dataclasses import dataclass, field
from typing import Any

_KEY = re.compile(r'^\s*(?:- )?Parser key "(?P<key>[^"]*)":')
_PROBLEM = re.compile(r"Problem with given class_path '(?P<path>[^']*)'")
_OPTION = re.compile(r"Option '(?P<name>[^']*)' is not accepted")
_NO_CLASS = re.compile(r"Expected a dot import path string: (?P<name>\S+)")
_TYPES = re.compile(r"^\s*Subtypes: \[(?P<types>.*)\]")
_GIVEN = re.compile(r"^\s*Given value: (?P<value>.*)")
_NESTED = re.compile(r"NestedArg\(key='(?P<key>[^']*)', val=(?P<value>.*)\)$")
_UNKNOWN_KEY = re.compile(r"^Subcommand '\w+' does not accept option '(?P<key>[^']+)'")
_REQUIRED = re.compile(r"arguments? (?:are|is) required: (?P<keys>.*)|Key \"(?P<key>[^\"]+)\" is required")
_MISSING_OPTION = re.compile(r"(?:Option|Key) ['\"](?P<name>[^'\"]+)['\"] is required")
_UNRECOGNIZED = re.compile(r"[Uu]nrecognized arguments: (?P<words>.*)")
_VERBS = ("fit.", "validate.", "test.", "predict.")
_NOISE = ("Expected a <class 'NoneType'>", "Does not validate", "Expected a path but", "Expected a List", "Given value")


@dataclass
class _Fault:
    """What the message says of its innermost error.

    Attributes:
        keys: Path of the key, outermost first.
        reason: The parser's own words on it.
        types: What the innermost union would have taken, in the parser's words.
        given: The value it got, in the parser's words.
        owner: Name of the innermost class whose arguments were being read.
    """

    keys: list[str] = field(default_factory=list)
    reason: str = ""
    types: str = ""
    given: str = ""
    owner: str = ""

    @property
    def key(self) -> str:
        return ".".join(k.removeprefix("init_args.") for k in self.keys)


def explain(message: str, parser: Any = None) -> str:
    """Say in one line what is wrong with a config or a command line.

    Args:
        message: jsonargparse's message.
        parser: The parser, whose options are suggested for a misspelt one.

    Returns:
        One line with the key, the value and, where there are any, the names that come nearest.
    """
    if (found := _REQUIRED.search(message)) and "Subtypes" not in message:
        return _missing(found["keys"] or found["key"])
    if found := _UNRECOGNIZED.search(message):
        word = found["words"].split()[0]
        return f"there is no option {word}{_near(word.split('=')[0].lstrip('-'), _options(parser))}"
    if found := _UNKNOWN_KEY.search(message):
        return f"there is no option {found['key']!r}{_near(found['key'], _options(parser))}"
    if message.startswith("Problems parsing config:"):
        return f"the config is not YAML: {' '.join(message.split()[3:])}"
    fault = _innermost(message.splitlines())
    if not fault.keys:
        return " ".join(message.split())
    return _say(fault)


def _innermost(lines: list[str]) -> _Fault:
    fault, indents = _Fault(), [-1]
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if found := _KEY.match(line):
            if fault.reason and indent <= indents[-1]:
                break  # another branch of the outer union: the first one has spoken
            fault.keys.append(_bare(found["key"]))
            fault.types = fault.owner = ""
            indents.append(indent)
        elif found := _PROBLEM.search(line):
            fault.owner = fault.owner if fault.reason else found["path"]
        elif found := _TYPES.match(line):
            fault.types = found["types"]
        elif (found := _GIVEN.match(line)) and fault.reason:
            fault.given = found["value"]
            break
        elif not fault.reason and _is_reason(line):
            fault.reason = line.strip().removeprefix("- ")
            if not line.strip().startswith("- ") and number + 1 == len(lines):
                break
    return fault


def _is_reason(line: str) -> bool:
    text = line.strip().removeprefix("- ")
    return bool(text) and text != "Errors:" and not text.startswith(_NOISE)


def _say(fault: _Fault) -> str:
    nested = _NESTED.search(fault.given)
    if found := _OPTION.search(fault.reason):
        if found["name"] == "class_path":
            return f"{fault.key}: beside class_path there is only init_args, and the arguments stand below that"
        cls = _find_class(fault.owner or _class_beside(fault))
        owner = f"{cls.__name__} ({fault.key})" if cls is not None else fault.key
        return f"{owner} has no option {found['name']!r}{_near(found['name'], _arguments(cls))}"
    if found := _NO_CLASS.search(fault.reason):
        names = _subclasses(fault.types)
        return f"{fault.key}: there is no class {found['name']!r} for it{_near(found['name'], names)}"
    if found := _MISSING_OPTION.search(fault.reason):
        return f"{fault.key}: {found['name']!r} is missing and has no default"
    given = nested["value"] if nested else fault.given
    reason = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", fault.reason.replace("typing.", ""))
    reason = re.sub(r"^Expected an? (.*?)\. Got value: (.*)$", r"expected \1, got \2", reason)
    if "got" in reason.lower() or not given:
        return f"{fault.key}: {reason}"
    return f"{fault.key} is {given}: {re.sub('a int', 'an int', reason[0].lower() + reason[1:])}"


def _missing(keys: str) -> str:
    key = _bare(keys.split(",", maxsplit=1)[0].strip())
    kind = {"model": "GenerativeModel", "data": "DataModule"}.get(key)
    there = f" with one of {', '.join(_subclasses(kind))}" if kind else ""
    return f"{key} is missing: give it in a config, or as --{key}{there}"


def _bare(key: str) -> str:
    for verb in _VERBS:
        key = key.removeprefix(verb)
    return key


def _near(name: str, candidates: list[str]) -> str:
    """`: did you mean …?`, or the list of all candidates if it is short."""
    if "." in name:  # a dotted option: its section is judged first
        section = {c for c in candidates if c.split(".")[0] == name.split(".", maxsplit=1)[0]}
        candidates = sorted(section) or [c for c in candidates if "." not in c]
        name = name if section else name.split(".", maxsplit=1)[0]
    found = difflib.get_close_matches(name.lower(), {c.lower(): c for c in candidates}, n=1, cutoff=0.6)
    if found:
        return f": did you mean {next(c for c in candidates if c.lower() == found[0])!r}?"
    return f"; there are {', '.join(candidates)}" if 0 < len(candidates) <= MOST_LISTED else ""


MOST_LISTED = 30


def _class_beside(fault: _Fault) -> str:
    """The class_path that the innermost key was given, out of the parser's print of the whole value."""
    key = re.escape(fault.keys[-1])
    found = re.search(rf"'{key}': \{{'class_path': '([\w.]+)'", fault.given)
    return found[1] if found else ""


def _find_class(name: str) -> type | None:
    short = name.rpartition(".")[2]
    return next((c for c in _known_classes() if c.__name__ == short), None)


def _known_classes() -> list[type]:
    from pytorch_lightning import Callback
    from pytorch_lightning.loggers import Logger
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from pcgen.recipe import Recorded

    found: list[type] = []
    queue: list[type] = [Recorded, Callback, Logger, Optimizer, LRScheduler]
    while queue:
        cls = queue.pop()
        found.append(cls)
        queue += cls.__subclasses__()
    return found


def _arguments(cls: type | None) -> list[str]:
    return [] if cls is None else list(inspect.signature(cls).parameters)


def _subclasses(types: str) -> list[str]:
    wanted = {m.rpartition(".")[2] for m in re.findall(r"[\w.]+", types)}
    bases = tuple(c for c in _known_classes() if c.__name__ in wanted)
    found = [c for c in _known_classes() if bases and issubclass(c, bases) and not inspect.isabstract(c)]
    return sorted({c.__name__ for c in found if not c.__name__.startswith("_") and c not in bases})


def _options(parser: Any) -> list[str]:
    if parser is None:
        return []
    subcommands = getattr(parser, "_subcommands_action", None)
    parsers = [parser, *getattr(subcommands, "_name_parser_map", {}).values()]
    return sorted({action.dest for p in parsers for action in p._actions if action.dest})  # noqa: SLF001 -- no public list
