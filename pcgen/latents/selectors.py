"""Data chosen in words: by their class, or by a known factor."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcgen.base import Batch
from pcgen.errors import ConfigurationError, DataError

_COMPARE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    ">": torch.gt,
    ">=": torch.ge,
    "<": torch.lt,
    "<=": torch.le,
    "=": torch.eq,
    "==": torch.eq,
}
_COMPARISON = re.compile(r"(?P<name>.+?)\s*(?P<operator>>=|<=|==?|>|<)\s*(?P<number>[^<>=]*)")
_QUARTER = re.compile(r"(?P<name>.+?)\s*:\s*(?P<quarter>[^:]*)")


@dataclass(frozen=True)
class Condition:
    """One condition on data: a class, a comparison of a factor, or a quarter of its values.

    Attributes:
        index: Of the class, or of the factor.
        operator: "is" for a class, a comparison, or "high" or "low".
        number: What a factor is compared with.
        name: Of the class or factor.
        names: All classes, or all factors.
    """

    index: int
    operator: str
    number: float
    name: str
    names: tuple[str, ...]

    def holds(self, batch: Batch) -> Tensor:
        """Say for each datum (B,) whether the condition holds; never for a factor that is NaN.

        Raises:
            DataError: If the batch has no labels or factors.
        """
        if self.operator == "is":
            if batch.label is None:
                raise DataError(f"class {self.name!r} was asked for, and these data have no labels")
            return batch.label == self.index
        values = self._values(batch)
        if self.operator in _COMPARE:
            return _COMPARE[self.operator](values, torch.tensor(self.number, dtype=values.dtype, device=values.device))
        return _quarter(values, high=self.operator == "high")

    def there(self, batch: Batch) -> str:
        """Say what the data have instead."""
        if self.operator == "is":
            assert batch.label is not None
            found = [self.names[k] for k in batch.label.unique().tolist() if k < len(self.names)]
            return f"the classes there are {', '.join(found) or 'none'}"
        values = self._values(batch)
        values = values[~values.isnan()]
        if not len(values):
            return f"none there has a known {self.name}"
        return f"{self.name} there goes from {values.min():.4g} to {values.max():.4g}"

    def _values(self, batch: Batch) -> Tensor:
        if batch.factors is None:
            raise DataError(f"factor {self.name!r} was asked for, and these data have no factors")
        return batch.factors[:, self.index]


@dataclass(frozen=True)
class Selector:
    """Chooses data; made by `parse_selector`.

    Attributes:
        text: As it was written.
        conditions: All of them hold for a datum that is chosen.
        what: What messages call it, such as the option that it was given to.
    """

    text: str
    conditions: tuple[Condition, ...]
    what: str = "selector"

    def rows(self, batch: Batch, *, source: str = "these data") -> Tensor:
        """Give the indices (K,) int64, ascending, of the data that are chosen.

        Conditions are applied one after the other, so that `chair & leg_height:high` is the quarter of the chairs with
        the highest legs.

        Args:
            batch: With the labels and factors of the names that the selector was parsed with.
            source: Name of the data, for the message, such as "split 'val'".

        Raises:
            DataError: If nothing is chosen, with what there is; or if labels or factors are missing.
        """
        rows = torch.arange(len(batch.x))
        for condition in self.conditions:
            label, factors = (None if known is None else known.cpu()[rows] for known in batch[1:])
            part = Batch(batch.x[:0], label, factors)  # no condition looks at the data themselves
            kept = rows[condition.holds(part)]
            if not len(kept):
                what = condition.there(part) if len(rows) else "there are none at all"
                raise DataError(f"{self.what} {self.text!r} matches none of the {len(batch.x)} of {source}: {what}")
            rows = kept
        return rows


def parse_selector(
    text: str, class_names: Sequence[str], factor_names: Sequence[str], *, what: str = "selector"
) -> Selector:
    """Read which data are meant.

    Args:
        text: A class (`chair`); a factor compared with a number (`leg_height>0.5`, `has_arm=1`, also >=, <, <=); a
            quarter by a factor (`leg_height:high`, the upper, or `:low`); or several of them joined by `&`.
        class_names: What classes there are, in the order of the labels.
        factor_names: What factors there are, in the order of the columns.
        what: What messages call it, such as the option that it was given to.

    Returns:
        The selector.

    Raises:
        ConfigurationError: If a class or factor is unknown, with those that there are, or the text is none of these.

    >>> select = parse_selector("chair & height>0.5", ["chair", "table"], ["height"])
    >>> label, factors = torch.tensor([0, 0, 1]), torch.tensor([[0.2], [0.9], [0.9]])
    >>> select.rows(Batch(torch.zeros(3, 4, 3), label, factors))
    tensor([1])
    """
    names = (tuple(class_names), tuple(factor_names))
    parts = [text.strip()] if text.strip() in names[0] else [part.strip() for part in text.split("&")]
    return Selector(text, tuple(_condition(part, f"{what} {part!r}", *names) for part in parts), what)


def _condition(text: str, said: str, class_names: tuple[str, ...], factor_names: tuple[str, ...]) -> Condition:
    if text in class_names:
        return Condition(class_names.index(text), "is", 0.0, text, class_names)
    if not class_names and not factor_names:
        raise ConfigurationError(f"{said}: these data have neither classes nor factors to choose by; name others")
    if text in factor_names:
        raise ConfigurationError(f"{said} is a factor: compare it ({text}>0.5) or take {text}:high")
    if found := _QUARTER.fullmatch(text):
        name, quarter = found["name"], found["quarter"]
        if quarter in {"high", "low"}:
            return _of_factor(said, name, quarter, 0.0, factor_names)
        if name in factor_names:
            raise ConfigurationError(f"{said}: a factor has the quarters {name}:high and {name}:low, not {quarter!r}")
    if found := _COMPARISON.fullmatch(text):
        number = _number(said, found["number"])
        return _of_factor(said, found["name"], found["operator"], number, factor_names)
    raise ConfigurationError(
        f"{said}: there is no such class; classes are {_list(class_names)}, factors {_list(factor_names)}"
    )


def _of_factor(said: str, name: str, operator: str, number: float, names: tuple[str, ...]) -> Condition:
    if name not in names:
        raise ConfigurationError(f"{said}: there is no factor {name!r}; factors are {_list(names)}")
    return Condition(names.index(name), operator, number, name, names)


def _number(said: str, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ConfigurationError(f"{said}: {word!r} is no number to compare a factor with") from None


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def _quarter(values: Tensor, *, high: bool) -> Tensor:
    """Say which values (B,) lie in the upper or lower quartile.

    Where a quartile is also the other end of the values, as for a factor that is 0 for most data and 1 for a few, the
    data beyond it are taken, so that high and low never share a datum.
    """
    known = values[~values.isnan()]
    if not len(known):
        return torch.zeros_like(values, dtype=torch.bool)
    if high:
        edge = known.quantile(0.75)
        return values > edge if edge <= known.min() else values >= edge
    edge = known.quantile(0.25)
    return values < edge if edge >= known.max() else values <= edge
