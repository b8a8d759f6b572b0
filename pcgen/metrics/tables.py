"""Tables of scores: for the terminal, and as Markdown, LaTeX and CSV for papers and spreadsheets."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcgen.metrics.bootstrap import Interval

if TYPE_CHECKING:
    from rich.console import Group

MOST_UPRIGHT = 4  # rows that fit side by side, with their intervals
Row = tuple[Mapping[str, float], Mapping[str, Interval]]  # scores and intervals by name


@dataclass(frozen=True)
class Quantity:
    """How a score is shown: its head, where it should go, what it is multiplied by, and how that is written."""

    label: str
    aim: str
    scale: int = 1
    digits: int = 3
    unit: str = ""

    @property
    def head(self) -> str:
        """Column head, such as `MMD-CD ×10³ ↓`."""
        return " ".join(part for part in (self.label, self.unit, self.aim) if part)


def quantity(name: str, extractor: str | None = None) -> Quantity:
    """Say how the score of a name is shown; a name that is not known is shown as it is.

    Args:
        name: As in `Scores.values`.
        extractor: Identity of the network behind the scores of features, which stands in their names.
    """
    swapped = " (swapped)" if name.endswith("_swapped") else ""
    stem, _, distance = name.removesuffix("_swapped").partition("_")
    squared = distance == "cd" or distance.endswith("_squared")
    # in the units that published tables have
    mmd = (1000, 3, "×10³") if squared else (100, 3, "×10²")
    distance = distance.removesuffix("_squared").upper() + ("²" if distance.endswith("_squared") else "")
    of_features = f"({extractor.partition(':')[0]})" if extractor else ""  # without the hash, which the protocol has
    known = {
        "mmd": Quantity(f"MMD-{distance}{swapped}", "↓", *mmd),
        "cov": Quantity(f"COV-{distance}{swapped}", "↑", 100, 1, "%"),
        "1nna": Quantity(f"1-NNA-{distance}", "→ 50", 100, 1, "%"),
        "jsd": Quantity("JSD", "↓", digits=4),
        "fpd": Quantity(f"FPD{of_features}", "↓"),
        "fid": Quantity(f"FID{of_features}", "↓"),
        "kid": Quantity(f"KID{of_features}", "↓", 1000, 3, "×10³"),
        "share": Quantity("outside ball", "", 100, 2, "%"),
        "reference": Quantity("reference outside ball", "", 100, 2, "%"),
        "chamfer": Quantity("Chamfer", "↓", 1000, 3, "×10³"),
        "emd": Quantity("EMD²", "↓", 1000, 3, "×10³") if distance else Quantity("EMD", "↓", 100, 3, "×10²"),
        "reconstruction": Quantity("covered by reconstructions", "↑", 100, 1, "%"),
        "own": Quantity("by their own", "↑", 100, 1, "%"),
    }
    return known.get(stem, Quantity(name, ""))


@dataclass(frozen=True)
class ScoreTable:
    """Rows of scores that were measured alike.

    Attributes:
        rows: By name.
        notes: The protocol, and what else a reader has to know.
        extractor: Identity of the network behind the scores of features.
    """

    rows: Mapping[str, Row]
    notes: tuple[str, ...] = ()
    extractor: str | None = None

    @property
    def names(self) -> list[str]:
        """Names of the scores, in order."""
        return list(dict.fromkeys(name for values, _ in self.rows.values() for name in values))

    def rich(self, title: str) -> "Group":
        """Give it for the terminal: few rows of many scores stand upright, so that nothing has to be cut.

        The notes stand below, as wide as the terminal however narrow the table.
        """
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        heads = ["", *(self._quantity(name).head for name in self.names)]
        upright = len(self.rows) <= MOST_UPRIGHT
        lines = [[row, *cells] for row, cells in self._cells(" " if upright else "\n").items()]
        grid = list(zip(heads, *lines, strict=True)) if upright else [tuple(heads), *map(tuple, lines)]
        table = Table(title=escape(title), title_justify="left")
        for k, head in enumerate(grid[0]):
            table.add_column(escape(head), justify="right" if k else "left", overflow="fold")
        for line in grid[1:]:
            table.add_row(*map(escape, line))
        return Group(table, *(Text(note, style="dim italic") for note in self.notes))

    def markdown(self) -> str:
        """Give it as a Markdown table with the notes below."""
        lines = [["", *(self._quantity(name).head for name in self.names)], ["---", *["---:"] * len(self.names)]]
        lines += [[row, *cells] for row, cells in self._cells(" ").items()]
        table = "\n".join("| " + " | ".join(each.replace("|", "\\|") for each in line) + " |" for line in lines)
        return "\n\n".join([table, *self.notes]) + "\n"

    def latex(self) -> str:
        """Give it as a LaTeX tabular (package booktabs), the notes as comments above."""
        lines = [["", *(self._quantity(name).head for name in self.names)]]
        lines += [[row, *cells] for row, cells in self._cells(" ").items()]
        head, *body = (" & ".join(map(_in_latex, line)) + r" \\" for line in lines)
        comments = [f"% {line}" for note in self.notes for line in note.splitlines()]
        begin = rf"\begin{{tabular}}{{l{'r' * len(self.names)}}}"
        rules = [r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join([*comments, begin, *rules, r"\end{tabular}"]) + "\n"

    def csv(self) -> str:
        """Give it as CSV: raw scores (no percent), each with the ends of its interval, the notes in the last column."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["", *(f"{name}{end}" for name in self.names for end in ("", "_low", "_high")), "notes"])
        for row, (values, intervals) in self.rows.items():
            numbers: list[float | str] = []
            for name in self.names:
                numbers += [values.get(name, ""), *intervals.get(name, ("", ""))]
            writer.writerow([row, *numbers, "; ".join(self.notes)])
        return out.getvalue()

    def _quantity(self, name: str) -> Quantity:
        return quantity(name, self.extractor)

    def _cells(self, separator: str) -> dict[str, list[str]]:
        return {
            row: [_cell(self._quantity(n), values.get(n), intervals.get(n), separator) for n in self.names]
            for row, (values, intervals) in self.rows.items()
        }


def _cell(shown: Quantity, value: float | None, interval: Interval | None, separator: str) -> str:
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    text = f"{value * shown.scale:.{shown.digits}f}"
    if interval is None:
        return text
    low, high = (end * shown.scale for end in interval)
    return f"{text}{separator}[{low:.{shown.digits}f}, {high:.{shown.digits}f}]"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
    "×": r"$\times$", "→": r"$\to$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "²": "$^2$", "³": "$^3$",
}  # fmt: skip


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
