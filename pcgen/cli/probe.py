"""How well a linear classifier tells classes apart by a model's features, which were learnt without labels.

The features of each checkpoint (for autoencoders the codes) of the data's training split are standardised and a linear
support vector machine is fitted to them, its C chosen by cross-validation within that split. The test split is then
classified once. A classifier's own predictions stand above its probe, as what labels would have given. For clouds,
accuracies are also measured on damaged test clouds: points lost, outliers added, every point moved.

Each model is shown the clouds as it knows them: its own normalisation and number of points. All classes of the data
take part, whatever the model was trained on, unless --classes says otherwise. Beside data of ModelNet10's classes the
published accuracies are shown.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from pcgen.base import GenerativeModel
    from pcgen.cli.probe_rows import Row, Splits

IN_A_ROW = 3  # confusion matrices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "checkpoints", nargs="+", metavar="[NAME=]CKPT", help="checkpoints, or runs' folders; NAME is that of the row"
    )
    parser.add_argument("--data", metavar="DATA", help=common.DATA_HELP.replace("the checkpoint was", "they were"))
    parser.add_argument("--split", help="split to test on, of data that have one for training (default: test)")
    parser.add_argument("--classes", help="names, separated by commas (default: all that the data have)")
    common.add_normalize_argument(parser)
    parser.add_argument("-n", type=int, help="data of each split at most, at random (default: all)")
    parser.add_argument("--costs", help="values of C to choose from, separated by commas (default 1e-5 to 1)")
    parser.add_argument("--folds", type=int, default=5, help="of the cross-validation (default 5)")
    parser.add_argument("--kept", help="shares of the points that are left, by commas (default 1,.75,.5,.25,.12,.06)")
    parser.add_argument(
        "--outliers", help="outliers as shares of the number of points, by commas (default 0,.05,.1,.15,.2,.25)"
    )
    parser.add_argument(
        "--outlier-std", type=float, default=0.3, help="deviation of outliers on each axis, model's units (default 0.3)"
    )
    parser.add_argument(
        "--jitter", help="deviations of noise on each axis, model's units (default 0,.002,.004,.006,.008,.01)"
    )
    parser.add_argument("--no-robustness", action="store_true", help="whole clouds alone, a small part of the work")
    parser.add_argument(
        "--json", type=Path, help="write all numbers; - writes them to standard output, without a table"
    )
    parser.add_argument("--png", type=Path, help="draw the accuracies on damaged clouds")
    parser.add_argument("--confusion", type=Path, help="draw which class is taken for which")
    common.add_device_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Probe each checkpoint, print the table, write and draw."""
    _check(arguments)
    from pcgen.cli.names import named_paths
    from pcgen.cli.probe_rows import rows_of, splits_of

    models = {name: _loaded(path, arguments) for name, path in named_paths(arguments.checkpoints).items()}
    rows: list[Row] = []
    first: Splits | None = None
    for name, model in models.items():
        data = splits_of(model, arguments)
        first = data if first is None else first
        _check_same(first, data, name)
        rows += rows_of(name, model, data, arguments)
    assert first is not None  # there is a checkpoint
    _show(rows, first, arguments)
    _draw(rows, first, arguments)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work, and read the lists of numbers, before any work is done."""
    from pcgen.metrics import robustness
    from pcgen.metrics.probe import DEFAULT_COSTS

    if arguments.n is not None and arguments.n < 2:
        raise ConfigurationError(f"-n {arguments.n}: a probe tells at least two data apart")
    if arguments.folds < 2:
        raise ConfigurationError(f"--folds {arguments.folds}: cross-validation wants at least 2")
    if arguments.seed < 0:
        raise ConfigurationError(f"--seed {arguments.seed}: give 0 or more")
    if arguments.no_robustness and arguments.png is not None:
        raise ConfigurationError("--png draws the accuracies on damaged clouds, which --no-robustness leaves out")
    if not 0 < arguments.outlier_std < float("inf"):
        raise ConfigurationError(f"--outlier-std {arguments.outlier_std}: outliers spread by more than 0")
    common.check_writable("--json", arguments.json)
    common.check_picture("--png", arguments.png)
    common.check_picture("--confusion", arguments.confusion)
    given = {"costs": DEFAULT_COSTS}
    given |= {"kept": robustness.KEPT, "outliers": robustness.OUTLIERS, "jitter": robustness.JITTER}
    for name, default in given.items():
        text = getattr(arguments, name)
        setattr(arguments, name, list(default) if text is None else common.number_list(f"--{name}", text, float))
    if not all(0 < cost < float("inf") for cost in arguments.costs):
        raise ConfigurationError("--costs: each C is above 0, such as 0.001,0.01,0.1")
    levels = robustness.check_levels(arguments.kept, arguments.outliers, arguments.jitter)
    for name, values in levels.items():
        setattr(arguments, name, values)


def _loaded(path: Path, arguments: argparse.Namespace) -> "GenerativeModel":
    from pcgen.metrics.model_features import feature_verb

    arguments.checkpoint = path
    model = common.load_model(arguments)
    feature_verb(model)
    return model


def _check_same(one: "Splits", other: "Splits", name: str) -> None:
    """Refuse models whose data are others than those of the first."""
    import torch

    differ = [
        what for what in ("train", "test") if not torch.equal(getattr(one, what).label, getattr(other, what).label)
    ]
    if differ or one.class_names != other.class_names:
        raise ConfigurationError(
            f"{name} was trained on other data than the first checkpoint: name those to probe them on, --data"
        )


# ── what is said ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _show(rows: "list[Row]", data: "Splits", arguments: argparse.Namespace) -> None:
    results.write_json(arguments.json, _content(rows, data, arguments), "numbers")
    if arguments.json == Path("-"):
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    K = len(rows[0].test.confusion)
    sizes = f"{len(data.train.x)} for fitting, {len(data.test.x)} for testing, {K} classes"
    table = Table(title=escape(f"linear probe on {data.test.place}: {sizes}; accuracies in %"), title_justify="left")
    cells = [_cells(row) for row in rows]
    heads = list(dict.fromkeys(head for each in cells for head in each))
    for head in ("", *heads):
        table.add_column(head, justify="right" if head else "left", overflow="fold", no_wrap=head == "test")
    for row, each in zip(rows, cells, strict=True):
        table.add_row(escape(row.name), *(each.get(head, "–") for head in heads))
    published = _published(data)
    if published:
        table.add_section()
        for one in published:
            known = {"test": f"{100 * one.accuracy:.1f}"}
            label = f"{one.method} ({one.year}{', ' + one.note if one.note else ''})"
            table.add_row(label, *(known.get(head, "") for head in heads), style="dim")
    console = Console()
    console.print(table)
    notes = [f"{row.name}: {remark}" for row in rows for remark in row.remarks]
    if published:
        notes.append("below the line: published, by other protocols, see --json")
    for note in notes:
        console.print(note, style="dim italic", markup=False)


def _cells(row: "Row") -> dict[str, str]:
    """Give what the table shows of a row, by its head."""
    low, high = row.test.interval
    shown = {}
    if row.result is not None:
        shown["features"] = f"{row.result.num_features} ({row.features})"
        shown["C"] = f"{row.result.cost:g}"
        shown["folds"] = f"{100 * max(row.result.cross_validation.values()):.1f}"
        shown["train"] = f"{100 * row.result.train_accuracy:.1f}"
    shown["test"] = f"{100 * row.test.accuracy:.1f} ({100 * low:.1f}–{100 * high:.1f})"
    shown["mean of classes"] = f"{100 * row.test.mean_class_accuracy:.1f}"
    found = row.robustness
    if found is not None:
        shown[f"{100 * found.kept.levels[-1]:g} % kept"] = f"{100 * found.kept.last():.1f}"
        shown[f"{100 * found.outliers.levels[-1]:g} % outliers"] = f"{100 * found.outliers.last():.1f}"
        shown[f"{found.jitter.levels[-1]:g} jitter"] = f"{100 * found.jitter.last():.1f}"
    return shown


def _published(data: "Splits") -> Any:
    from pcgen.metrics.published import published_for

    return published_for(data.class_names)


def _content(rows: "list[Row]", data: "Splits", arguments: argparse.Namespace) -> dict[str, Any]:
    from pcgen import __version__
    from pcgen.metrics import probe, robustness

    deviations = [*probe.DEVIATIONS, *([] if arguments.no_robustness else robustness.DEVIATIONS)]
    return {
        "protocol": {
            "data": data.test.source,
            "train_split": data.train.split,
            "split": data.test.split,
            "num_train": len(data.train.x),
            "num_test": len(data.test.x),
            "class_names": list(data.class_names),
            "seed": arguments.seed,
            "folds": arguments.folds,
            "costs": sorted(arguments.costs),
            "classifier": "linear SVM, one against the rest, squared hinge loss, on standardised features",
            "interval": "95 % of a bootstrap over the test data",
            "outlier_std": None if arguments.no_robustness else arguments.outlier_std,
            "normalize": arguments.normalize,
            "version": __version__,
        },
        "rows": {row.name: row.to_plain() for row in rows},
        "published": [one._asdict() for one in _published(data)],
        "deviations_from_published": deviations,
    }


# ── what is drawn ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _draw(rows: "list[Row]", data: "Splits", arguments: argparse.Namespace) -> None:
    from pcgen.viz import save_png

    curves = {row.name: row.robustness for row in rows if row.robustness is not None}
    if arguments.png is not None and not curves:
        common.say("no picture of damage: it is for clouds")
    elif arguments.png is not None:
        results.write_picture(arguments, _damage_picture(curves, rows, data))
    if arguments.confusion is not None:
        save_png(arguments.confusion, _confusion_picture(rows, data))
        common.say(f"confusion: {common.shown(arguments.confusion)}")


def _damage_picture(curves: dict[str, Any], rows: "list[Row]", data: "Splits") -> Any:
    from pcgen.viz import draw_robustness

    there = rows[0].test.confusion.sum(axis=1)
    found = {
        name: {kind: tuple(getattr(each, kind)) for kind in ("kept", "outliers", "jitter")}
        for name, each in curves.items()
    }
    title = f"Accuracy on damaged clouds of {data.test.place}; dashed: the commonest class for all"
    return draw_robustness(found, chance=there.max() / there.sum(), title=title)


def _confusion_picture(rows: "list[Row]", data: "Splits") -> Any:
    from pcgen.viz import beside, draw_confusion

    images = [
        draw_confusion(row.test.confusion, data.class_names, title=f"{row.name}: {100 * row.test.accuracy:.1f} %")
        for row in rows
    ]
    return results.stacked([beside(images[k : k + IN_A_ROW]) for k in range(0, len(images), IN_A_ROW)])
