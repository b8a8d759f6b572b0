"""How well a linear classifier tells classes apart by a model's features, which were learnt without labels.

The features of each checkpoint (for autoencoders the codes) of the data's training split are standardised and a linear
support vector machine is fitted to them, its C chosen by cross-validation within that split. The test split is then
classified once. A classifier's own predictions stand above its probe, as what labels would have given. For clouds,
accuracies are also measured on damaged test clouds: points lost, outliers added, every point moved.

Each model is shown the clouds as it knows them: its own normalisation and number of points. All classes of --data
take part, whatever the model was trained on, unless --classes says otherwise; without --data those of its own training
data. Beside data of ModelNet10's classes the
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
    from pcgen.metrics.published import Published

IN_A_ROW = 3  # confusion matrices
NAME = 19  # letters of the longest published method


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "checkpoints", nargs="+", metavar="[NAME=]CKPT", help="checkpoints, or runs' folders; NAME is that of the row"
    )
    parser.add_argument("--data", metavar="DATA", help=common.DATA_HELP.replace("the checkpoint was", "they were"))
    parser.add_argument("--split", help="split to test on, of data that have one for training (default: test)")
    parser.add_argument("--classes", help="names, separated by commas, of --data (default: all that they have)")
    common.add_normalize_argument(parser)
    parser.add_argument("-n", type=int, help="data of each split at most, at random (default: all)")
    parser.add_argument(
        "--costs", help="values of C to choose from, separated by commas (default: ten from 1e-5 to 10)"
    )
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
    given: dict[str, tuple[float, ...]] = {"costs": DEFAULT_COSTS}
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

    published = _published(data)
    console = Console()
    console.print(_accuracies(rows, published, data))
    if any(row.robustness is not None for row in rows):
        console.print(_damages(rows))
    notes = [f"{row.name}: {remark}" for row in rows for remark in row.remarks]
    if published:
        notes.append("below the line: published, by other protocols, which --json names")
    for note in notes:
        console.print(note, style="dim italic", markup=False)


def _accuracies(rows: "list[Row]", published: "tuple[Published, ...]", data: "Splits") -> Any:
    """Make the table of whole data, published accuracies below ours."""
    from rich.markup import escape
    from rich.table import Table

    sizes = f"{len(data.train.x)} to fit, {len(data.test.x)} to test, {len(rows[0].test.confusion)} classes"
    table = Table(title=escape(f"linear probe on {data.test.place}: {sizes}"), title_justify="left")
    table.add_column("accuracy in %", overflow="fold", min_width=NAME)
    for head in ("features", "C", "folds", "test", "95 %", "by class"):
        table.add_column(head, justify="left" if head == "features" else "right", no_wrap=head != "features")
    for row in rows:
        table.add_row(escape(row.name), *_cells(row))
    if published:
        table.add_section()
    for one in published:
        table.add_row(one.method, one.note, "", "", f"{100 * one.accuracy:.1f}", "", "")
    return table


def _cells(row: "Row") -> list[str]:
    """Give what the table shows of a row."""
    (low, high), found = row.test.interval, row.result
    tested = [
        f"{100 * row.test.accuracy:.1f}",
        f"{100 * low:.1f}–{100 * high:.1f}",
        f"{100 * row.test.mean_class_accuracy:.1f}",
    ]
    if found is None:
        return [row.features, "–", "–", *tested]
    folds = f"{100 * max(found.cross_validation.values()):.1f}"
    return [f"{found.num_features} ({row.features})", f"{found.cost:g}", folds, *tested]


def _damages(rows: "list[Row]") -> Any:
    """Make the table of damaged clouds, the worst level of each damage."""
    from rich.markup import escape
    from rich.table import Table

    found = {row.name: row.robustness for row in rows if row.robustness is not None}
    some = next(iter(found.values()))
    table = Table(title="test accuracy in % on damaged clouds", title_justify="left")
    heads = (
        "whole",
        f"{100 * some.kept.levels[-1]:g} % of points",
        f"{100 * some.outliers.levels[-1]:g} % outliers",
        f"{some.jitter.levels[-1]:g} jitter",
    )
    for head in ("", *heads):
        table.add_column(head, justify="right" if head else "left", overflow="fold")
    for row in rows:
        if (each := found.get(row.name)) is not None:
            values = (row.test.accuracy, each.kept.last(), each.outliers.last(), each.jitter.last())
            table.add_row(escape(row.name), *(f"{100 * value:.1f}" for value in values))
    return table


def _published(data: "Splits") -> "tuple[Published, ...]":
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
    title = f"Accuracy on damaged clouds of {Path(data.test.source).name}; dashed: the commonest class for all"
    return draw_robustness(found, chance=there.max() / there.sum(), title=title)


def _confusion_picture(rows: "list[Row]", data: "Splits") -> Any:
    from pcgen.viz import below, beside, draw_confusion

    images = [
        draw_confusion(row.test.confusion, data.class_names, title=f"{row.name}: {100 * row.test.accuracy:.1f} %")
        for row in rows
    ]
    return below([beside(images[k : k + IN_A_ROW]) for k in range(0, len(images), IN_A_ROW)])
