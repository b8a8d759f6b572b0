"""What is said and written of a step whose numbers are not finite."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from pytorch_lightning import Trainer

from pcgen.callbacks._diagnosis import tensors_in
from pcgen.io.files import atomic

T = TypeVar("T")
SHOWN = 3  # rows and names in a message


@dataclass
class Fault:
    """One step.

    Attributes:
        step: Optimizer steps that were done before it.
        epoch: Its number, from 0.
        model: The class's name.
        what: What is not finite.
        where: Where that began, in words.
        module: Name of the module where it began; "" for the model's own computation or the data.
        refused: What a function said that does not compute with such numbers.
        losses: Of each process, of all passes of the step.
        gradients: Names of weights whose gradient is not finite.
        parameters: Names of weights that are not finite.
        batches: Of each process, what `batch_report` gives.
        in_a_row: Which one this is of steps in a row.
        action: `"stopped"` or `"skipped"`.
    """

    step: int
    epoch: int
    model: str
    what: str
    where: str = ""
    module: str = ""
    refused: str = ""
    losses: list[list[float]] = field(default_factory=list)
    gradients: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    batches: list[dict[str, Any]] = field(default_factory=list)
    in_a_row: int = 1
    action: str = "stopped"

    @property
    def bad_data(self) -> list[dict[str, Any]]:
        """Those batches that have data which are not finite."""
        return [batch for batch in self.batches if batch["bad_places"] is not None]


def gathered(trainer: Trainer, mine: T) -> list[T]:
    """Give what every process has, in the order of ranks, on each of them."""
    if trainer.world_size == 1:
        return [mine]
    everyones: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyones, mine)
    return everyones


def look_for_bad_data(batch: Any) -> list[int] | None:
    """Give the places in a batch of data that are not finite, or None if all are."""
    bad: set[int] = set()
    for t in tensors_in(batch):
        if t.ndim:
            bad.update((~t.isfinite().flatten(1).all(1)).nonzero()[:, 0].tolist() if t.ndim > 1 else _places(t))
    return sorted(bad) or None


def _places(t: torch.Tensor) -> list[int]:
    places: list[int] = (~t.isfinite()).nonzero()[:, 0].tolist()
    return places


def batch_report(trainer: Trainer, batch: Any, batch_idx: int) -> dict[str, Any]:
    """Tell which data a batch of this process has: rows of the training split, and names where there are some."""
    rows, places, names = _rows(trainer, batch_idx), look_for_bad_data(batch), _names(trainer)
    bad_rows = places if places is None or rows is None else [rows[place] for place in places]

    def named(which: list[int] | None) -> list[str] | None:
        return None if rows is None or names is None or which is None else [names[row] for row in which]

    return {
        "process": trainer.global_rank,
        "batch": batch_idx,
        "rows": rows,
        "names": named(rows),
        "bad_places": places,
        "bad_rows": bad_rows,
        "bad_names": named(bad_rows),
    }


def _rows(trainer: Trainer, batch_idx: int) -> list[int] | None:
    tell = getattr(getattr(trainer.train_dataloader, "sampler", None), "rows", None)
    return None if tell is None else [int(row) for row in tell(trainer.current_epoch, batch_idx)]


def _names(trainer: Trainer) -> Any:
    split = getattr(getattr(trainer, "datamodule", None), "split", None)
    return getattr(split("train"), "name", None) if callable(split) else None


def told(fault: Fault) -> str:
    """Give the fault in one sentence."""
    where = f", {fault.where}" if fault.where else ""
    if fault.bad_data and not fault.parameters:
        where = ", nor are the data of " + "; ".join(_blame(batch) for batch in fault.bad_data)
    several = len({batch["process"] for batch in fault.batches}) > 1
    batches = "; ".join(_batch(batch, several=several) for batch in fault.batches)
    return f"step {fault.step} of {fault.model}, epoch {fault.epoch}: {fault.what}{where}; {batches}"


def _batch(batch: dict[str, Any], *, several: bool) -> str:
    place = f" on process {batch['process']}" if several else ""
    if batch["rows"] is None:
        return f"batch {batch['batch']}{place}"
    names = "" if batch["names"] is None else f" ({_few(batch['names'])})"
    return f"batch {batch['batch']}{place} has rows {_few(batch['rows'])} of the training split{names}"


def _blame(batch: dict[str, Any]) -> str:
    what = "row" if batch["rows"] is not None else "place"
    names = "" if batch["bad_names"] is None else f" ({_few(batch['bad_names'])})"
    return f"{what} {_few(batch['bad_rows'])}{names} in batch {batch['batch']}"


def _few(values: list[Any]) -> str:
    more = len(values) - SHOWN
    return ", ".join(map(str, values[:SHOWN])) + (f" and {more} more" if more > 0 else "")


def write_report(folder: Path, fault: Fault, *, write: bool) -> Path:
    """Write `faults/step_000123.json` into the run's folder, on one process, and give its path."""
    path = folder / "faults" / f"step_{fault.step:06d}.json"
    if write:
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(_plain(asdict(fault)), indent=1) + "\n", encoding="utf-8")
    return path


def _plain(value: Any) -> Any:
    """Write NaN and infinity as words, for JSON has none."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
