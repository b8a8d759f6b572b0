"""One useful line out of the config parser's message.

jsonargparse answers a misspelt option with every branch of every union it tried. What the user needs is in there: the
innermost key, what was wrong with it and the value; what would be right is looked up in the classes themselves.
"""

import difflib
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pcgen.cli.common import is_abstract

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
_CALLABLE = re.compile(
    r"^(?P<indent>\s*)(?:- )?Type (?P<type>\S*Callable\[.*\]) expects a function or a callable class: "
)
_MADE_BY = re.compile(r"Callable\[\[[^\]]*\](?:\])?, (?P<made>[\w.]+)\]")
_HELP = re.compile(r"^--(?P<key>[\w.]+)\.help: Expected a dot import path string: (?P<name>\S+)")
_NOT_IMPORTED = re.compile(r"^(?:module '[\w.]+' has no attribute|No module named|cannot import name)")
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
        parent: Name of the class that the innermost key is an argument of.
        unknown: A word that was taken for the name of a class and is none.
    """

    keys: list[str] = field(default_factory=list)
    reason: str = ""
    types: str = ""
    given: str = ""
    owner: str = ""
    parent: str = ""
    unknown: str = ""

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
    whole = _about_words(message, parser)
    if whole is not None:
        return whole
    fault = _innermost(_flattened(message.splitlines()))
    return _say(fault) if fault.keys else " ".join(message.split())


def _about_words(message: str, parser: Any) -> str | None:
    """Say what is wrong with the words themselves: missing, unknown, no YAML; None where a value is at fault."""
    if (found := _REQUIRED.search(message)) and "Subtypes" not in message:
        return _missing(found["keys"] or found["key"])
    if found := _HELP.match(message):
        return _no_class(found["key"], found["name"], _subclasses(_SECTIONS.get(found["key"], "Recorded")))
    if found := _UNRECOGNIZED.search(message):
        word = found["words"].split()[0]
        return f"there is no option {word}{_near(word.split('=')[0].lstrip('-'), _options(parser))}"
    if found := _UNKNOWN_KEY.search(message):
        return f"there is no option {found['key']!r}{_near(found['key'], _options(parser))}"
    return None


def _flattened(lines: list[str]) -> list[str]:
    """Put what was said of a callable's class (an optimizer) on lines of its own, as it is for any other class."""
    flat: list[str] = []
    for line in lines:
        if found := _CALLABLE.match(line):
            flat += [f"{found['indent']}Subtypes: [{found['type']}]", found["indent"] + line[found.end() :]]
        else:
            flat.append(line)
    return flat


def _innermost(lines: list[str]) -> _Fault:
    fault, indents = _Fault(), [-1]
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if found := _KEY.match(line):
            if fault.reason and indent <= indents[-1]:
                break  # another branch of the outer union: the first one has spoken
            if [_bare(found["key"])] != fault.keys[-1:]:
                fault.keys.append(_bare(found["key"]))
                fault.parent, fault.types, fault.owner, fault.unknown = fault.owner, "", "", ""
            indents.append(indent)
        elif found := _PROBLEM.search(line):
            fault.owner = fault.owner if fault.reason else found["path"]
        elif found := _TYPES.match(line):
            fault.types = fault.types if fault.reason else found["types"]
        elif (found := _GIVEN.match(line)) and fault.reason:
            fault.given = found["value"].partition(". Got value: ")[0]
            break
        else:
            if (found := _NO_CLASS.search(line)) and not fault.unknown:
                fault.unknown = found["name"]
            if not fault.reason and _is_reason(line):
                fault.reason = line.strip().removeprefix("- ")
    return fault


def _is_reason(line: str) -> bool:
    text = line.strip().removeprefix("- ")
    return bool(text) and text != "Errors:" and not text.startswith(_NOISE)


def _say(fault: _Fault) -> str:
    names = _subclasses(fault.types or _annotation(fault)) if fault.unknown else []
    if fault.unknown and (names or _NO_CLASS.search(fault.reason)):
        return _no_class(fault.key, fault.unknown, names)
    if _NOT_IMPORTED.search(fault.reason):
        return _no_class(fault.key, fault.owner, _subclasses(fault.types))
    if found := _OPTION.search(fault.reason):
        return _no_option(fault, found["name"])
    if found := _MISSING_OPTION.search(fault.reason) or _REQUIRED.search(fault.reason):
        name = next(v for v in found.groupdict().values() if v).split(",")[0]
        owner = (fault.owner or _class_beside(fault)).rpartition(".")[2]
        needed = f": {owner} needs it" if owner else ""
        return f"{fault.key}.{name} is missing and has no default{needed}{_HINTS.get(name, '')}"
    nested = _NESTED.search(fault.given)
    given = nested["value"] if nested else fault.given
    reason = _plain(fault)
    if "got" in reason.lower() or not given:
        return f"{fault.key}: {reason}"
    return f"{fault.key} is {given}: {reason[0].lower() + reason[1:]}"


def _no_class(key: str, name: str, names: list[str]) -> str:
    return f"{key}: there is no class {name!r} for it{_near(name.rpartition('.')[2], names)}"


def _no_option(fault: _Fault, name: str) -> str:
    if name == "class_path":
        return f"{fault.key}: beside class_path there is only init_args, and the arguments stand below that"
    first = name.split(".", maxsplit=1)[0]
    if "class_path" in fault.given and difflib.get_close_matches(first, ["init_args"], cutoff=0.7):
        return f"{fault.key}: there is no {first!r} beside class_path: did you mean 'init_args'?"
    cls = _find_class(fault.owner or _class_beside(fault))
    owner = f"{cls.__name__} ({fault.key})" if cls is not None else fault.key
    return f"{owner} has no option {name!r}{_near(name, _arguments(cls))}"


def _plain(fault: _Fault) -> str:
    """Put the parser's reason into words: what was expected, of all that would have been right."""
    reason = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", fault.reason.replace("typing.", ""))
    reason = re.sub(r"\bSequence\b", "list", reason)
    simple = re.fullmatch(r"Expected a (bool|int|float|str|Literal\[.*\])", reason)
    if simple is not None:
        reason = f"expected {' or '.join(_simple_types(fault.types) or [simple[1]])}"
    reason = re.sub(r"\b(a )?(int)\b", r"an \2", reason)
    reason = re.sub(r"\b(?<!a )(bool|float|str|list)\b", r"a \1", reason)
    return re.sub(r"^Expected (.*?)\. Got value: (.*)$", r"expected \1, got \2", reason)


def _simple_types(types: str) -> list[str]:
    """The plain types of a union and the values of its literals, each once; nothing if there are other types."""
    literals = [value.strip(" '\"") for part in re.findall(r"Literal\[([^\]]*)\]", types) for value in part.split(",")]
    if literals:
        return [f"one of {', '.join(dict.fromkeys(literals))}"]
    names = re.findall(r"<class '(\w+)'>", types)
    return [name for name in dict.fromkeys(names) if name in {"bool", "int", "float", "str"}]


def _annotation(fault: _Fault) -> str:
    """The type of the innermost key, from the class that it is an argument of."""
    cls = _find_class(fault.parent)
    if cls is None:
        return ""
    parameter = inspect.signature(cls, eval_str=True).parameters.get(fault.keys[-1])
    return "" if parameter is None else str(parameter.annotation)


_HINTS = {"save_dir": "; give . for the run's folder"}
_SECTIONS = {"model": "GenerativeModel", "data": "DataModule"}


def _missing(keys: str) -> str:
    key = _bare(keys.split(",", maxsplit=1)[0].strip())
    there = f" with one of {', '.join(_subclasses(_SECTIONS[key]))}" if key in _SECTIONS else ""
    return f"{key} is missing: give it in a config, or as --{key}{there}"


def _bare(key: str) -> str:
    for verb in _VERBS:
        key = key.removeprefix(verb)
    return key


def _near(name: str, candidates: list[str]) -> str:
    """`: did you mean …?`, or the list of all candidates if it is short."""
    if (whole := _closest(name, candidates, cutoff=0.8)) is not None:
        return f": did you mean {whole!r}?"
    if "." in name:  # a dotted option: its section is judged first
        section = {c for c in candidates if c.split(".")[0] == name.split(".", maxsplit=1)[0]}
        candidates = sorted(section) or [c for c in candidates if "." not in c]
        name = name if section else name.split(".", maxsplit=1)[0]
    if (found := _closest(name, candidates, cutoff=0.6)) is not None:
        return f": did you mean {found!r}?"
    return f"; known: {', '.join(candidates)}" if 0 < len(candidates) <= MOST_LISTED else ""


def _closest(name: str, candidates: Iterable[str], cutoff: float) -> str | None:
    lower = {c.lower(): c for c in candidates}
    found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=cutoff)
    return lower[found[0]] if found else None


MOST_LISTED = 30


def _class_beside(fault: _Fault) -> str:
    """The class_path that the innermost key was given, out of the parser's print of the value."""
    key = re.escape(fault.keys[-1])
    found = re.search(r"Namespace\(class_path='([\w.]+)'", fault.reason) or re.search(
        rf"'{key}': \{{'class_path': '([\w.]+)'|^(?:Namespace\(|\{{)'?class_path'?(?:=|: )'([\w.]+)'", fault.given
    )
    return next((group for group in found.groups() if group), "") if found else ""


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
    """Names of a class's arguments, without those that the program itself gives to it."""
    given = {"params", "optimizer"}
    return [] if cls is None else [name for name in inspect.signature(cls).parameters if name not in given]


def _subclasses(types: str) -> list[str]:
    """Names of the concrete classes that the types in the parser's print would take."""
    types = _MADE_BY.sub(lambda found: found["made"], types)
    wanted = {m.rpartition(".")[2] for m in re.findall(r"[\w.]+", types)}
    bases = tuple(c for c in _known_classes() if c.__name__ in wanted)
    found = {c for c in _known_classes() if bases and issubclass(c, bases) and not is_abstract(c)}
    return sorted({c.__name__ for c in found - set(bases) if not _is_private(c)})


def _is_private(cls: type) -> bool:
    """Say whether a class, or the file it stands in, is a package's own business."""
    return cls.__name__.startswith("_") or cls.__module__.rpartition(".")[2].startswith("_")


def _options(parser: Any) -> list[str]:
    if parser is None:
        return []
    subcommands = getattr(parser, "_subcommands_action", None)
    parsers = [parser, *getattr(subcommands, "_name_parser_map", {}).values()]
    return sorted({action.dest for p in parsers for action in p._actions if action.dest})  # noqa: SLF001 -- no public list
