"""What a model of energies thinks odd: the energy as a score of anomaly.

The sets that are compared: data of a split, the training data, samples where the model can sample, with --foreign
classes that it was not trained on, out of the same source and normalised alike, and of a model that makes data step by
step the noise that its samples began with. For each set the table has the energies' quartiles (--json their mean and
standard deviation too), and how well a high energy tells it from the data:

- AUROC: the chance that one of the set has a higher energy than one of the data. 1: all have; 0.5: no telling. For
  samples 0.5 is ideal, for noise 1; for the training data less than 0.5 says that the model knows them by heart.
- AP: average precision of taking the highest energies for the set's; by chance it is the set's share.
- FPR: share of the data above the threshold that finds 95 % of the set, the false alarms.

--csv writes the energy of each datum. Its row is the place in its set: in the split, or among those of a class in the
split; of samples and of their noise, among those that `pcgen sample` draws with the same -n and --seed.
"""

import argparse
import copy
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData
    from pcgen.metrics.energies import EnergySummary

ALL = "all"
SHOWN = 4
HEADS = ("n", "median", "25 % to 75 %", "AUROC", "AP", "FPR")


class EnergySet(NamedTuple):
    """Data to be compared, with their places in the split and their names; energies (n,) once they are known."""

    x: "Tensor"
    row: tuple[int, ...]
    name: tuple[str, ...]
    energy: Any = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    common.add_model_arguments(parser)
    parser.add_argument("--data", metavar="DATA", help=common.DATA_HELP)
    common.add_selection_arguments(parser)
    parser.add_argument(
        "--foreign", help=f"classes that the data do not have, separated by commas; {ALL} for every other class"
    )
    parser.add_argument("-n", type=int, default=200, help="data of each set at most, at random (default 200)")
    parser.add_argument("--csv", type=Path, help="write the energy of each datum")
    parser.add_argument(
        "--json", type=Path, help="write the numbers; - writes them to standard output, without a table"
    )
    parser.add_argument("--png", type=Path, help="draw histograms, and the lowest and highest of each set")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, write and draw."""
    if arguments.n < 1:
        raise ConfigurationError(f"-n {arguments.n}: at least one of each set is needed")
    if arguments.foreign is not None and not common.split_list(arguments.foreign):
        raise ConfigurationError(f"--foreign {arguments.foreign!r}: name a class, or {ALL}")
    for option, path in (("--csv", arguments.csv), ("--json", arguments.json)):
        common.check_writable(option, path)
    common.check_picture("--png", arguments.png)
    model = common.load_model(arguments, "energy")
    from pcgen.cli.modeldata import model_data
    from pcgen.metrics.functional import summarize_energies

    data = model_data(model, arguments)
    sets = _with_energies(model, dict(_sets(model, data, arguments)))
    found = summarize_energies({name: each.energy for name, each in sets.items()})
    _write_csv(arguments, sets)
    _show(found, model, data, arguments)
    if arguments.png is not None:
        results.write_picture(arguments, _picture(found, sets, model, data))
    return 0


# ── what is compared ──────────────────────────────────────────────────────────────────────────────────────────────────


def _sets(
    model: "GenerativeModel", data: "ModelData", arguments: argparse.Namespace
) -> Iterator[tuple[str, EnergySet]]:
    from pcgen.cli.modeldata import train_split
    from pcgen.metrics.energies import OWN_SETS

    own = data.split or "data"
    yield own, _chosen(data, _names(model, data, arguments), arguments)
    train = train_split(model, arguments, data.split)
    if train is not None:
        yield "train", _chosen(train, _names(model, train, arguments), arguments)
    drawn = _drawn(model, arguments)
    if "samples" in drawn:
        yield "samples", drawn["samples"]
    if arguments.foreign is not None:
        for name, found in _foreign(model, data, arguments):
            yield (f"class {name}" if name in (own, *OWN_SETS) else name), found
    if "noise" in drawn:
        yield "noise", drawn["noise"]


def _names(model: "GenerativeModel", data: "ModelData", arguments: argparse.Namespace) -> tuple[str, ...]:
    """Give the names that the source has for its data, those by which a user finds them again."""
    from pcgen.cli.modeldata import datamodule_of
    from pcgen.metrics.foreign import names_of

    if arguments.data is not None or data.split is None:
        return data.name
    return names_of(datamodule_of(model, trust=arguments.trust), data.split) or data.name


def _chosen(data: "ModelData", names: tuple[str, ...], arguments: argparse.Namespace) -> EnergySet:
    rows = common.random_rows(data.x, arguments.n, arguments.seed)
    return EnergySet(data.x[rows], tuple(rows.tolist()), tuple(names[i] for i in rows.tolist()))


def _drawn(model: "GenerativeModel", arguments: argparse.Namespace) -> dict[str, EnergySet]:
    """Draw samples, and the noise that they began with, as far as the model can."""
    from pcgen.metrics.chains import samples_and_noise

    with common.progress("sampling") as report:
        drawn = samples_and_noise(model, arguments.n, arguments.seed, progress=report)
    places = tuple(range(arguments.n))
    words = {"samples": "sample", "noise": "noise"}
    return {name: EnergySet(x, places, tuple(f"{words[name]}_{i:05d}" for i in places)) for name, x in drawn.items()}


def _foreign(
    model: "GenerativeModel", data: "ModelData", arguments: argparse.Namespace
) -> Iterator[tuple[str, EnergySet]]:
    """Give the foreign classes, out of the file that was named or made again as the training data were."""
    classes = common.split_list(arguments.foreign)
    if arguments.data is not None:
        yield from _of_file(model, data, classes, arguments)
        return
    from pcgen.metrics import foreign_data

    assert model.data_info is not None  # the data themselves came from there
    assert data.split is not None
    asked = None if classes == [ALL] else classes
    how = {"seed": arguments.seed, "trust": arguments.trust}
    for name, found in foreign_data(model.data_info, asked, data.split, arguments.n, **how).items():
        yield name, EnergySet(found.x, found.row, found.name)


def _of_file(
    model: "GenerativeModel", data: "ModelData", classes: list[str], arguments: argparse.Namespace
) -> Iterator[tuple[str, EnergySet]]:
    from pcgen.cli.modeldata import model_data

    if classes == [ALL]:
        classes = [name for name in _classes_of(model, arguments) if name not in data.class_names]
    own = [name for name in classes if name in data.class_names]
    if own or not classes:
        what = f"{own[0]} is one" if own else "there are no others"
        raise ConfigurationError(
            f"--foreign {arguments.foreign}: the data are of the classes {', '.join(data.class_names) or 'none'}, "
            f"{what}; --classes chooses the data's own"
        )
    asked = copy.copy(arguments)
    asked.classes = ",".join(classes)
    yield from _by_class(model_data(model, asked, data.split), arguments)


def _by_class(data: "ModelData", arguments: argparse.Namespace) -> Iterator[tuple[str, EnergySet]]:
    assert data.label is not None  # there are classes
    for k, name in enumerate(data.class_names):
        members = (data.label == k).nonzero()[:, 0]
        if not len(members):
            raise ConfigurationError(f"--foreign {arguments.foreign}: there is no {name} in {data.place}")
        rows = common.random_rows(members, arguments.n, arguments.seed)
        chosen = members[rows]
        yield name, EnergySet(data.x[chosen], tuple(rows.tolist()), tuple(data.name[i] for i in chosen.tolist()))


def _classes_of(model: "GenerativeModel", arguments: argparse.Namespace) -> tuple[str, ...]:
    """Give all the classes that a file has."""
    from pcgen.cli.images import read_images
    from pcgen.cli.modeldata import is_images
    from pcgen.io import catalog

    if is_images(model):
        return tuple(read_images(Path(arguments.data), tuple(model.sample_shape)).class_names)
    return tuple(catalog(arguments.data).class_names)


def _with_energies(model: "GenerativeModel", sets: dict[str, EnergySet]) -> dict[str, EnergySet]:
    from pcgen.metrics import energies_of

    total, done, measured = sum(len(each.x) for each in sets.values()), 0, {}
    with common.progress("energies", total) as report:
        for name, each in sets.items():

            def advance(part: float, _: float | None, before: int = done) -> None:
                report(before + part, total)

            energy = energies_of(model, each.x, progress=advance)
            measured[name], done = each._replace(energy=energy.numpy()), done + len(each.x)
    return measured


# ── what is said of them ──────────────────────────────────────────────────────────────────────────────────────────────


def _write_csv(arguments: argparse.Namespace, sets: dict[str, EnergySet]) -> None:
    """Write a line for each datum, set after set."""
    from pcgen.io.files import atomic

    if arguments.csv is None:
        return
    with atomic(arguments.csv) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["set", "row", "name", "energy"])
        for name, each in sets.items():
            known = zip(each.row, each.name, each.energy.tolist(), strict=True)
            writer.writerows([name, row, word, f"{energy:.9g}"] for row, word, energy in known)
    common.say(f"energies: {common.shown(arguments.csv)}")


def _show(
    found: "dict[str, EnergySummary]", model: "GenerativeModel", data: "ModelData", arguments: argparse.Namespace
) -> None:
    from pcgen import __version__
    from pcgen.metrics.energies import margin_of

    content = {
        "model": type(model).__name__,
        "data": data.source,
        "split": data.split,
        "seed": arguments.seed,
        "margin": margin_of(model),
        "sets": {name: summary._asdict() for name, summary in found.items()},
        "version": __version__,
    }
    results.write_json(arguments.json, content, "numbers")
    if arguments.json == Path("-"):
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from pcgen.viz.energies import short_number

    margin = "" if content["margin"] is None else f", margin {short_number(content['margin'])}"
    title = f"energies of {content['model']} on {data.place}{margin}"
    table = Table(title=escape(title), title_justify="left")
    for head in ("", *HEADS):
        table.add_column(head, justify="right" if head else "left", no_wrap=not head)
    for name, summary in found.items():
        told = ["–" if value is None else f"{value:.3f}" for value in summary[-3:]]
        low, median, high = (short_number(value) for value in summary[3:6])
        table.add_row(escape(name), str(summary.n), median, f"{low} to {high}", *told)
    Console().print(table)


def _picture(
    found: "dict[str, EnergySummary]", sets: dict[str, EnergySet], model: "GenerativeModel", data: "ModelData"
) -> Any:
    from pcgen.metrics.energies import auroc_notes, margin_of
    from pcgen.viz import draw_energies

    return draw_energies(
        {name: each.energy for name, each in sets.items()},
        {name: each.x.detach().float().cpu().numpy() for name, each in sets.items()},
        notes=auroc_notes(found),
        margin=margin_of(model),
        num_shown=SHOWN,
        up_axis=results.up_axis(model),
        title=f"Energies of {type(model).__name__} on {data.place}",
    )
