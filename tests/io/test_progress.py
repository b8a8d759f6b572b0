"""The one progress bar: where it shows, what it says, and that it leaves nothing on standard output."""

import re

import pytest

from pcgen.io.progress import progress


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def test_it_counts_and_tells_the_time_that_remains(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any stream for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    with progress("comparing") as report:
        report(1, 7)
        report(3, None)
    out, err = capsys.readouterr()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", err)
    assert out == ""
    assert "comparing" in plain
    assert "3/7" in plain
    assert re.search(r"-:--:--|\d:\d\d:\d\d", plain)


@pytest.mark.parametrize("shown", [None, False])
def test_nothing_is_shown_where_nobody_watches_or_wants_it(monkeypatch, capsys, shown):
    if shown is False:
        monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("comparing", 7, shown=shown) as report:
        report(3, None)
        report(7, 7)
    assert capsys.readouterr() == ("", "")


def test_it_can_be_asked_for_and_counts_bytes(capsys):
    with progress("f.bin", 4_000_000, shown=True, in_bytes=True) as report:
        report(3_000_000, None)
    out, err = capsys.readouterr()
    assert out == ""
    assert "f.bin" in err
    assert "3.0/4.0 MB" in err
