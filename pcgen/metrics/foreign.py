"""Data of other classes than a model was trained on, out of the same source."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcgen.base import DataModule
from pcgen.errors import ConfigurationError, DataError
from pcgen.io import Normalization
from pcgen.recipe import build_data


class ForeignData(NamedTuple):
    """Data of one class.

    Attributes:
        x: Clouds (n, N, 3), normalised as the model's own data are, or images (n, C, H, W).
        row: Place of each (n,) among those of its class in the split.
        name: Of each.
    """

    x: Tensor
    row: tuple[int, ...]
    name: tuple[str, ...]


def foreign_data(
    info: Mapping[str, Any],
    classes: Sequence[str] | None,
    split: str,
    n: int | None = None,
    *,
    seed: int = 0,
    trust: bool = False,
) -> dict[str, ForeignData]:
    """Give data of classes that a model was not trained on, as its own datamodule would.

    The datamodule is made again from its recipe, with other `classes`; its statistics do not count.

    Args:
        info: What the model knows of its data, `DataModule.info()`.
        classes: Names, or None for every class that the source has besides.
        split: `"train"`, `"val"` or `"test"`.
        n: Data of each class at most; None for all.
        seed: Chooses them.
        trust: Allow a datamodule from outside `pcgen.`.

    Returns:
        The data of each class, in the order asked for.

    Raises:
        ConfigurationError: If the source knows no classes or not these, one was trained on, or has no data there.
    """
    try:
        names = _others(info, trust=trust) if classes is None else _not_trained_on(info, classes)
        sibling = _sibling(info, names, trust=trust)
        return _by_class(sibling, dict(info["normalization"]), split, n, seed)
    except (DataError, ConfigurationError) as error:
        asked = "" if classes is None else " " + ", ".join(classes)
        raise ConfigurationError(f"foreign classes{asked}: {error}") from error


def _sibling(info: Mapping[str, Any], classes: Sequence[str] | None, *, trust: bool) -> DataModule:
    """Make the datamodule again with other classes; None for all that there are."""
    recipe = info["recipe"]
    if "classes" not in recipe["init_args"]:
        source = recipe["class_path"].rpartition(".")[2]
        raise ConfigurationError(f"{source} cannot be told which classes to take; data with classes are needed")
    arguments = recipe["init_args"] | {"classes": None if classes is None else list(classes)}
    made: DataModule = build_data({**recipe, "init_args": arguments}, trust=trust)
    return made


def _others(info: Mapping[str, Any], *, trust: bool) -> tuple[str, ...]:
    everything = _sibling(info, None, trust=trust)
    if not everything.class_names:  # some know them before they have read anything
        _set_up(everything)
    names = tuple(name for name in everything.class_names if name not in info["class_names"])
    if not names:
        raise ConfigurationError(
            f"the model was trained on all that the source has ({', '.join(everything.class_names) or 'none'})"
        )
    return names


def _not_trained_on(info: Mapping[str, Any], classes: Sequence[str]) -> tuple[str, ...]:
    for name in classes:
        if name in info["class_names"]:
            raise ConfigurationError(f"{name} is not foreign: trained on are {', '.join(info['class_names'])}")
    return tuple(dict.fromkeys(classes))


def _set_up(datamodule: DataModule) -> None:
    datamodule.prepare_data()
    datamodule.setup("test")


def _by_class(
    sibling: DataModule, normalization: dict[str, Any], split: str, n: int | None, seed: int
) -> dict[str, ForeignData]:
    _set_up(sibling)
    batch = sibling.take(split)
    if batch.label is None:
        raise ConfigurationError("the source has no labels")
    names, found = names_of(sibling, split), {}
    for k, word in enumerate(sibling.class_names):
        members = (batch.label == k).nonzero()[:, 0]
        if not len(members):
            raise ConfigurationError(f"there is no {word} in the split {split!r}")
        order = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed))[:n].sort().values
        x = _as_trained(batch.x[members[order]], sibling.normalization, normalization)
        rows = tuple(order.tolist())
        own = tuple(f"{split}_{i:05d}" for i in rows) if names is None else tuple(names[i] for i in members[order])
        found[word] = ForeignData(x, rows, own)
    return found


def names_of(datamodule: DataModule, split: str) -> tuple[str, ...] | None:
    """Give the names that a datamodule's source has for the data of a split, in order; None if it has none."""
    part = datamodule.split(split) if hasattr(datamodule, "split") else None
    return getattr(part, "name", None)


def _as_trained(x: Tensor, theirs: dict[str, Any], trained: dict[str, Any]) -> Tensor:
    """Take back what the sibling's own statistics did, and do what those of the training data say."""
    if theirs == trained:  # each datum by itself, or not at all
        return x
    own = Normalization.from_plain(theirs)
    _, *offsets = own.apply(x.numpy())  # of a set: the same for all, whatever is given
    return torch.from_numpy(Normalization.from_plain(trained).apply(own.undo(x.numpy(), *offsets))[0])
