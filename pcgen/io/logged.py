"""What a training has logged: `metrics.csv`, which people edit and killed processes cut."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pcgen.errors import DataError


def logged_rows(path: Path) -> Iterator[dict[str, float]]:
    """Give the rows of a `metrics.csv`, without empty cells and without a last line that was cut.

    Raises:
        DataError: If a cell is no number, or the file no such table.
    """
    for line, row in logged_texts(path):
        yield {k: _value(path, line, k, text) for k, text in row.items() if text or k == "step"}


def _value(path: Path, line: int, name: str, text: str) -> float:
    whole = name in ("epoch", "step")
    try:
        value = float(text)
        if not whole or value.is_integer():
            return int(value) if whole else value
    except ValueError:
        pass
    raise DataError(f"{path}, line {line}: {name} is {text!r}, which is no number; correct it, or remove the line")


def logged_texts(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the rows as they stand there, with the numbers of their lines.

    Raises:
        DataError: If a row has more or fewer cells than the first.
    """
    if not path.exists():
        return
    with _lines(path) as reader:
        columns: list[str] = next(reader, [])
        for cells in filter(None, reader):
            if len(cells) != len(columns):
                where = f"{path}, line {reader.line_num}"
                raise DataError(f"{where}: {len(cells)} cells instead of {len(columns)}; correct or remove it")
            yield reader.line_num, dict(zip(columns, cells, strict=True))


def logged_columns(path: Path) -> list[str]:
    """Give the names in the first line.

    Raises:
        DataError: If one is there twice, or no "step".
    """
    with _lines(path) as reader:
        columns: list[str] = next(reader, [])
    if columns and ("step" not in columns or len(set(columns)) < len(columns)):
        raise DataError(f"{path}: its first line does not name each column once, step among them; correct it")
    return columns


@contextmanager
def _lines(path: Path) -> Iterator[Any]:
    """Read the lines that were written to their end."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            yield csv.reader(line for line in file if line.endswith("\n"))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no table of numbers ({error}); correct it, or move it away") from error
