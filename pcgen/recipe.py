"""How an object was made, as plain data, and how to make it again.

A checkpoint holds tensors and plain values alone. What a model was built from (networks, losses, optimizers) is
therefore recorded as `{"class_path": …, "init_args": {…}}`, the very form that a YAML config gives to the command
line, and it makes no difference whether the object was built there or in Python.

>>> from pcgen.nets import MLPDecoder
>>> recipe = describe(MLPDecoder(latent_dim=8, num_points=64))
>>> recipe["class_path"]
'pcgen.nets.MLPDecoder'
>>> build(recipe).num_points
64
"""

import functools
import importlib
import inspect
import math
import os
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Self

from pcgen.errors import CheckpointError, ConfigurationError

TRUSTED_PREFIXES = ("pcgen.", "torch.optim.")
MOST_PARTS, DEEPEST = 20_000, 100  # of a record: values, and how deep they lie
MOST_DATA, MOST_BYTES, LARGEST_DATUM = 10**6, 4 << 30, 64 << 20  # that are made because a record says so
Plain = None | bool | int | float | str | list[Any] | dict[str, Any]


class Recorded:
    """Mix-in that remembers the arguments of its constructor.

    Every network, loss, model and datamodule of the zoo is one, so that `describe` can write it down. List it first
    among the bases.
    """

    _init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record before the constructor runs, so that no subclass can forget to."""
        self = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind_partial(self, *args, **kwargs)
        bound.apply_defaults()
        recorded: dict[str, Any] = {}
        for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
            value = bound.arguments.get(name)
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                recorded.update(value or {})
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and value:
                raise ConfigurationError(f"{cls.__name__} takes *{name}, which a config cannot write down; name it")
            elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
                recorded[name] = value
        object.__setattr__(self, "_init_args", recorded)  # nn.Module's own __setattr__ works only after its __init__
        return self


def describe(value: Any, *, where: str = "value") -> Any:
    """Write an object down as plain data.

    Args:
        value: A plain value, a container of them, a `Recorded` object, or a `functools.partial` of an optimizer or
            learning-rate scheduler class (what the command line makes of `torch.optim.Adam` with arguments).
        where: Name of the argument, for the error message.

    Returns:
        None, bool, int, float, str, lists and dicts with string keys of these.

    Raises:
        ConfigurationError: If something cannot be written down, with its place and the remedy.
    """
    if isinstance(value, PurePath):
        value = str(value)
    if value is None or isinstance(value, bool | int | float | str) or _is_numpy_number(value):
        return _scalar(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [describe(v, where=f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(k): describe(v, where=f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, Recorded):
        cls, arguments = type(value), value._init_args  # noqa: SLF001 -- the record's only reader
    elif isinstance(value, type):
        cls, arguments = value, {}
    elif isinstance(value, functools.partial):
        cls, arguments = _partial_class(value, where), value.keywords
    else:
        raise ConfigurationError(
            f"{where} is a {type(value).__name__}, which a checkpoint cannot hold as plain data: derive the class "
            "from pcgen.recipe.Recorded (a mix-in without methods of its own), or pass a plain value"
        )
    init_args = {k: describe(v, where=f"{where}.{k}") for k, v in arguments.items()}
    return {"class_path": class_path(cls), "init_args": init_args}


def plain_numbers(value: Any) -> Any:
    """Copy containers of tensors and plain values with every NumPy number made plain; all else stays as it is."""
    if isinstance(value, dict):
        return {plain_numbers(k): plain_numbers(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain_numbers(v) for v in value)
    return _scalar(value) if _is_numpy_number(value) else value


def _scalar(value: Any) -> Any:
    """Give the plain value: np.float64 is a float too, but one that only a pickle can hold."""
    if _is_numpy_number(value):
        value = value.item()
    plain = next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), None)
    return value if plain is None else plain(value)


def _is_numpy_number(value: Any) -> bool:
    return type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0


def _partial_class(value: "functools.partial[Any]", where: str) -> type:
    # jsonargparse wraps a class as partial(call, instantiator, cls, **kwargs): the class is the last positional.
    target = value.args[-1] if value.args else value.func
    if not isinstance(target, type):
        raise ConfigurationError(f"{where} is a partial of {target!r}, not of a class: pass partial(Class, lr=…)")
    return target


def class_path(cls: type) -> str:
    """Return the shortest public path of a class, so that a file may be split without losing old checkpoints."""
    parts = cls.__module__.split(".")
    for end in range(2, len(parts)):
        package = sys.modules.get(".".join(parts[:end]))
        if getattr(package, cls.__qualname__, None) is cls:
            return ".".join([*parts[:end], cls.__qualname__])
    return f"{cls.__module__}.{cls.__qualname__}"


def build(recipe: Any, *, trust: bool = False, where: str = "model") -> Any:
    """Make the object that `describe` wrote down.

    Args:
        recipe: Plain data.
        trust: Allow classes from outside `pcgen.` and `torch.optim.`. Importing a module runs its code, so the path
            is checked before the import.
        where: Name of the part, for the error message.

    Returns:
        The object; for an optimizer or scheduler class, a `functools.partial` that waits for its parameters.

    Raises:
        CheckpointError: If a class is untrusted, missing, or of a kind that is not built from a record.
    """
    check_size(recipe, where)
    return _build(recipe, trust=trust, where=where)


def build_data(recipe: Any, *, trust: bool = False) -> Any:
    """Make the datamodule that a checkpoint names; unless it is trusted it downloads, converts and writes nothing.

    Raises:
        CheckpointError: As `build`, or if more data are to be made than `MOST_DATA`, or of more bytes than `MOST_BYTES`
            in all or `LARGEST_DATUM` each.
    """
    made = build(recipe, trust=trust, where="data")
    if not trust:
        _check_announced(made)
        for name in ("download", "convert"):  # where from, and where to, are a stranger's words
            if getattr(made, name, False):
                setattr(made, name, False)
        if getattr(made, "num_workers", 0):
            made.num_workers = min(made.num_workers, os.cpu_count() or 1)
    return made


def _check_announced(made: Any) -> None:
    """Refuse data that would take the machine to make: generated ones, and clouds brought to a number of points."""
    shape = getattr(made, "sample_shape", None) or ()
    numbers = max(math.prod(shape), 3 * (getattr(made, "stored_points", None) or 0))  # of a datum
    count = sum(getattr(made, "sizes", {"all": 1}).values())
    if not (count <= MOST_DATA and 4 * numbers <= LARGEST_DATUM and 4 * numbers * count <= MOST_BYTES):
        raise CheckpointError(
            f"data: the {type(made).__name__} of its record is {count:g} data of {numbers:g} numbers, more than "
            f"{MOST_DATA:g} data, {MOST_BYTES >> 30} GiB, or {LARGEST_DATUM >> 20} MiB for one: name the data to take, "
            "or pass trust=True (--trust)"
        )


def check_size(recipe: Any, where: str) -> None:
    """Refuse a record that is deep, or has so many parts that no network has; one part may stand in many places.

    Raises:
        CheckpointError: Naming it.
    """
    parts, left = [(recipe, 0)], MOST_PARTS
    while parts:
        part, depth = parts.pop()
        inner = list(part.values()) if isinstance(part, dict) else part if isinstance(part, list) else []
        left -= 1 + len(inner)
        if left < 0 or depth > DEEPEST:
            raise CheckpointError(f"{where}: its record has more than {MOST_PARTS} parts, or more than {DEEPEST} deep")
        parts += [(value, depth + 1) for value in inner]


def _build(recipe: Any, *, trust: bool, where: str) -> Any:
    if isinstance(recipe, list):
        return [_build(v, trust=trust, where=f"{where}[{i}]") for i, v in enumerate(recipe)]
    if not isinstance(recipe, dict):
        return recipe
    if "class_path" not in recipe:
        return {k: _build(v, trust=trust, where=f"{where}.{k}") for k, v in recipe.items()}
    cls = _resolve(recipe["class_path"], trust=trust, where=where)
    init_args = recipe.get("init_args") or {}
    if not isinstance(init_args, dict) or not all(isinstance(k, str) for k in init_args):
        raise CheckpointError(f"{where}: init_args of {recipe['class_path']} are no arguments by name")
    arguments = {k: _build(v, trust=trust, where=f"{where}.{k}") for k, v in init_args.items()}
    try:
        return cls(**arguments) if issubclass(cls, Recorded) else functools.partial(cls, **arguments)
    except TypeError as error:
        raise CheckpointError(f"{where}: {recipe['class_path']} cannot be built from its record: {error}") from error


def _resolve(path: Any, *, trust: bool, where: str) -> type:
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")) or "." not in path:
        raise CheckpointError(f"{where}: {str(path)[:200]!r} is not the path of a class")
    if not trust and not path.startswith(TRUSTED_PREFIXES):
        raise CheckpointError(
            f"{where} is of class {path!r}, outside pcgen: loading it would run code that this checkpoint names. "
            "Pass trust=True (or --trust) if you know where the file comes from"
        )
    if not trust and (path.startswith("pcgen.cli.") or ".__" in path):  # nothing there is built from a record
        raise CheckpointError(f"{where}: {path!r} is not a class that is built from a record")
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"{where}: this version of pcgen has no {path!r} ({error})") from error
    if not isinstance(cls, type) or not (issubclass(cls, Recorded) or _is_optimizer_class(cls)):
        raise CheckpointError(f"{where}: {path!r} is not a class that is built from a record")
    if not trust and not cls.__module__.startswith(TRUSTED_PREFIXES):  # a stranger that a module of ours has imported
        raise CheckpointError(f"{where}: {path!r} is {cls.__module__}.{cls.__qualname__}, outside pcgen")
    return cls


def _is_optimizer_class(cls: type) -> bool:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    return issubclass(cls, Optimizer | LRScheduler)
