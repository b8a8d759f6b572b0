"""W&B's sweep configurations, as far as they mean something without its server."""

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pcgen.cli import trust
from pcgen.errors import ConfigurationError

KEYS = {
    "name", "description", "project", "entity", "program", "method", "metric", "parameters", "command", "run_cap",
    "early_terminate",
}  # fmt: skip
# What a distribution needs; `wandb sweep` knows more.
DISTRIBUTIONS = {
    "constant": ("value",),
    "categorical": ("values",),
    "uniform": ("min", "max"),
    "int_uniform": ("min", "max"),
    "q_uniform": ("min", "max"),
    "log_uniform_values": ("min", "max"),
    "normal": (),
}
ARGS = "${args}"
_MOST = 10_000  # trials of a grid
_LARGEST = {"int_uniform": 2**53, "q_uniform": 2**53}  # whole numbers, and multiples of q, that a float tells apart


class Trial(NamedTuple):
    """One choice of all parameters, and the name of its folder."""

    name: str
    values: dict[str, Any]


class Sweep(NamedTuple):
    """A sweep's configuration.

    Attributes:
        name: Of the sweep, and so of its folder and its group in W&B.
        method: "grid" or "random".
        metric: What the trials are sorted by.
        maximize: More is better.
        parameters: Specification by name, as in the file.
        command: Words after `fit`, with `${args}` among them.
        run_cap: Trials at most, or None.
    """

    name: str
    method: str
    metric: str
    maximize: bool
    parameters: dict[str, dict[str, Any]]
    command: tuple[str, ...]
    run_cap: int | None

    @property
    def varied(self) -> list[str]:
        """Names of the parameters that are not constant."""
        return [key for key, spec in self.parameters.items() if "value" not in spec]

    @property
    def short(self) -> dict[str, str]:
        """As much of the end of each varied parameter's name as tells it from the others."""
        parts = {key: key.split(".") for key in self.varied}
        return {
            key: next(
                end
                for n in range(1, len(words) + 1)
                if sum(".".join(other[-n:]) == (end := ".".join(words[-n:])) for other in parts.values()) == 1
            )
            for key, words in parts.items()
        }

    def words(self, trial: Trial) -> list[str]:
        """Give the words after `pcgen fit` of a trial."""
        return self._filled([f"--{key}={_word(value)}" for key, value in trial.values.items()])

    def check_trust(self, file: Path) -> None:
        """Refuse what a command line may say, for its words are the user's own, and these are a file's.

        Args:
            file: Theirs, for the error message.

        Raises:
            ConfigurationError: If a trial could name a class from outside the trusted packages, or says `--trust`.
        """
        possible = [
            f"--{key}={_word(value)}"
            for key, spec in self.parameters.items()
            for value in spec.get("values", [spec.get("value")])
        ]
        words = self._filled(possible)
        if any(word.partition("=")[0] == trust.TRUST for word in words):
            raise ConfigurationError(f"{file}: {trust.TRUST} is not for a file to say: give it to pcgen sweep")
        if named := trust.own_words(words):
            raise ConfigurationError(
                f"{file}: a class of {named[0]!r} lies outside pcgen, and importing it would run code that a sweep "
                f"names; pass {trust.TRUST} if you know where the file comes from"
            )

    def _filled(self, arguments: Sequence[str]) -> list[str]:
        words: list[str] = []
        for word in self.command:
            words += arguments if word == ARGS else [word]
        return words

    def trials(self, count: int | None = None, seed: int = 0) -> list[Trial]:
        """Give the trials: all of a grid, or so many draws, the same for the same seed.

        Raises:
            ConfigurationError: If a random sweep has no number of trials, or a grid a parameter without values.
        """
        if count is None and self.run_cap is not None and self.run_cap > _MOST:
            raise ConfigurationError(f"run_cap is {self.run_cap}, more than {_MOST}: give --count")
        count = self.run_cap if count is None else count
        if count is not None and count < 1:
            raise ConfigurationError(f"--count is {count}; give at least 1")
        if self.method == "grid":
            drawn = list(itertools.islice(self._grid(), count))
        elif count is None:
            raise ConfigurationError("a random sweep does not end by itself: give --count, or run_cap in the file")
        else:
            # A generator for each, so that a larger count adds trials and changes none.
            rngs = (np.random.default_rng([seed, i]) for i in range(count))
            drawn = [{key: _draw(spec, rng) for key, spec in self.parameters.items()} for rng in rngs]
        names = [_folder_name({short: values[key] for key, short in self.short.items()}) for values in drawn]
        if self.method == "random" or len(set(names)) < len(names):  # the same may be drawn twice
            names = [f"{i:03d}-{name}" for i, name in enumerate(names)]
        return [Trial(name, values) for name, values in zip(names, drawn, strict=True)]

    def _grid(self) -> Iterator[dict[str, Any]]:
        choices = {key: _choices(key, spec) for key, spec in self.parameters.items()}
        if (total := math.prod(map(len, choices.values()))) > _MOST:
            raise ConfigurationError(
                f"the grid has {total} trials, more than {_MOST}: take fewer values, or method random"
            )
        for values in itertools.product(*choices.values()):
            yield dict(zip(choices, values, strict=True))


def read_sweep(file: Path) -> Sweep:
    """Read and check a sweep's configuration.

    Raises:
        ConfigurationError: Naming the file, the key and what would be right.
    """
    content = trust.read_config(file, sections="method, metric, parameters and command")
    try:
        return _checked(content, file)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error.__cause__


def _checked(content: dict[str, Any], file: Path) -> Sweep:
    if not content.get("parameters"):
        raise ConfigurationError("is no sweep: it needs method, metric, parameters and command")
    if unknown := set(content) - KEYS:
        raise ConfigurationError(f"there is no key {min(map(str, unknown))!r}; known: {', '.join(sorted(KEYS))}")
    method = content.get("method")
    if method not in ("grid", "random"):
        server = " needs W&B's server (wandb sweep FILE)" if method == "bayes" else " is unknown"
        raise ConfigurationError(f"method {method!r}{server}; give grid or random")
    metric = content.get("metric")
    if not isinstance(metric, Mapping) or not isinstance(metric.get("name"), str):
        raise ConfigurationError("metric is missing; give metric: {name: val/loss, goal: minimize}")
    if (goal := metric.get("goal", "minimize")) not in ("minimize", "maximize"):
        raise ConfigurationError(f"metric.goal is {goal!r}; give minimize or maximize")
    cap = content.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise ConfigurationError(f"run_cap is {cap!r}; give at least 1")
    name = str(content.get("name") or file.stem)
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise ConfigurationError(f"name is {name!r}; it becomes a folder's: use letters, digits, -, _ and .")
    if not isinstance(content["parameters"], Mapping):
        raise ConfigurationError(f"parameters is {content['parameters']!r}; give each a name, and values below it")
    parameters = {str(key): _specification(str(key), spec) for key, spec in content["parameters"].items()}
    command = _command(content.get("command"))
    return Sweep(name, method, metric["name"], goal == "maximize", parameters, command, cap)


def _command(words: Any) -> tuple[str, ...]:
    """Give what follows `fit`; what comes before starts the program, which is this one."""
    if not isinstance(words, list) or "fit" not in words or ARGS not in words:
        raise ConfigurationError(f"command must be a list such as [pcgen, fit, --config, quickstart, {ARGS!r}]")
    kept = tuple(str(word) for word in words[words.index("fit") + 1 :])
    if strange := [word for word in kept if re.fullmatch(r"\$\{\w+\}", word) and word != ARGS]:
        raise ConfigurationError(f"command holds {strange[0]}, which W&B's agent alone knows; use {ARGS}")
    return kept


def _specification(key: str, spec: Any) -> dict[str, Any]:
    """Check a parameter, and name its distribution."""
    if not isinstance(spec, Mapping):
        raise ConfigurationError(f"parameters.{key} is {spec!r}; give value, values, or min and max")
    if "parameters" in spec:
        raise ConfigurationError(
            f"parameters.{key} holds parameters; write one dotted name for each, as on a command line"
        )
    checked: dict[str, Any] = dict(spec)
    spec = checked
    kind = spec["distribution"] = spec.get("distribution") or _distribution(key, spec)
    if not isinstance(kind, str) or kind not in DISTRIBUTIONS:
        raise ConfigurationError(
            f"parameters.{key}.distribution is {kind!r}; known without W&B's server: {', '.join(DISTRIBUTIONS)}"
        )
    if missing := [need for need in DISTRIBUTIONS[kind] if need not in spec]:
        raise ConfigurationError(f"parameters.{key} needs {missing[0]} for {kind}")
    if "values" in DISTRIBUTIONS[kind]:
        _check_values(key, spec)
    _check_numbers(key, kind, spec)
    if "min" in DISTRIBUTIONS[kind] and not spec["min"] <= spec["max"]:
        raise ConfigurationError(f"parameters.{key}: min {spec['min']} is above max {spec['max']}")
    if kind == "log_uniform_values" and spec["min"] <= 0:
        raise ConfigurationError(f"parameters.{key}.min is {spec['min']}; {kind} takes numbers above 0")
    return checked


def _check_numbers(key: str, kind: str, spec: Mapping[str, Any]) -> None:
    unit = spec["q"] if kind == "q_uniform" and _is_number(spec.get("q")) and spec["q"] > 0 else 1
    bound = _LARGEST.get(kind, 1e300) * unit
    for name in ("min", "max", "mu", "sigma", "q"):
        if name not in spec:
            continue
        value, where = spec[name], f"parameters.{key}.{name} is {spec[name]!r}"
        if not _is_number(value):
            raise ConfigurationError(f"{where}; give a number")
        if kind == "int_uniform" and name in ("min", "max") and value != int(value):
            raise ConfigurationError(f"{where}; {kind} takes whole numbers")
        if abs(value) > bound:
            raise ConfigurationError(f"{where}; {kind} takes numbers up to {bound:g}")
        if (name == "q" and value <= 0) or (name == "sigma" and value < 0):
            raise ConfigurationError(f"{where}; give {'more than 0' if name == 'q' else 'at least 0'}")


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _check_values(key: str, spec: Mapping[str, Any]) -> None:
    values, shares = spec["values"], spec.get("probabilities")
    if not isinstance(values, list) or not values:
        raise ConfigurationError(f"parameters.{key}.values is {values!r}; give a list of at least one")
    if shares is not None and not (
        isinstance(shares, list)
        and len(shares) == len(values)
        and all(_is_number(share) and 0 <= share <= 1 for share in shares)
        and math.isclose(sum(shares), 1, abs_tol=1e-6)
    ):
        raise ConfigurationError(f"parameters.{key}.probabilities is {shares}; give one for each value, 1 in all")


def _distribution(key: str, spec: Mapping[str, Any]) -> str:
    """Guess the distribution as W&B does."""
    if "value" in spec or "values" in spec:
        return "constant" if "value" in spec else "categorical"
    if "min" in spec and "max" in spec:
        return "int_uniform" if isinstance(spec["min"], int) and isinstance(spec["max"], int) else "uniform"
    raise ConfigurationError(f"parameters.{key} is {dict(spec)}; give value, values, or min and max")


def _choices(key: str, spec: Mapping[str, Any]) -> Sequence[Any]:
    kind = spec["distribution"]
    if kind == "constant":
        return [spec["value"]]
    if kind == "categorical":
        return list(spec["values"])
    if kind == "int_uniform":
        return range(int(spec["min"]), int(spec["max"]) + 1)
    raise ConfigurationError(
        f"parameters.{key} has no list of values, which a grid needs: give values, or method random"
    )


def _draw(spec: Mapping[str, Any], rng: np.random.Generator) -> Any:
    kind = spec["distribution"]
    if kind == "constant":
        return spec["value"]
    if kind == "categorical":
        return spec["values"][int(rng.choice(len(spec["values"]), p=spec.get("probabilities")))]
    if kind == "int_uniform":
        return int(rng.integers(spec["min"], spec["max"], endpoint=True))
    if kind == "normal":
        return float(rng.normal(spec.get("mu", 0.0), spec.get("sigma", 1.0)))
    if kind == "log_uniform_values":
        return float(
            np.clip(math.exp(rng.uniform(math.log(spec["min"]), math.log(spec["max"]))), spec["min"], spec["max"])
        )
    drawn = float(rng.uniform(spec["min"], spec["max"]))
    q = spec.get("q", 1.0)
    return round(drawn / q) * q if kind == "q_uniform" else drawn


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)  # YAML knows dates


def _folder_name(values: Mapping[str, Any]) -> str:
    said = ",".join(f"{key}={value}" for key, value in values.items())
    return re.sub(r"[^\w.,=+-]+", "_", said)[:150] or "trial"
