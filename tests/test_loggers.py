"""Loggers that go on with a run; compared with Lightning's CSVLogger and with plain loops over the rows."""

import csv
import json
import os
import signal

import numpy as np
import pytest
from pytorch_lightning.loggers import CSVLogger

from pcgen.errors import DataError
from pcgen.loggers import ResumableCSVLogger, goal, wandb_run_id

RNG = np.random.default_rng(0)


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def some_rows(n=30):
    """Rows as a training logs them: of a validation, of a training, and later of scores that were not there before."""
    for step in range(n):
        yield step, {"train/loss": float(RNG.normal()), "epoch": step // 10}
        if step % 10 == 9:
            yield step, {"val/loss": float(RNG.normal()), "val/elbo": float(RNG.normal()), "epoch": step // 10}
        if step % 10 == 9 and step > 15:
            yield step, {"val/1nna_cd": 0.5, 'a,b"c': 1.0, "epoch": step // 10}


def logged(folder, rows):
    logger = ResumableCSVLogger(folder)
    for step, row in rows:
        logger.log_metrics(row, step)
    return logger


def test_the_file_is_lightnings(tmp_path):
    rows = list(some_rows())
    logged(tmp_path / "ours", rows)
    theirs = CSVLogger(tmp_path / "theirs", name="", version="")
    for step, row in rows:
        theirs.log_metrics(row, step)
        theirs.save()
    assert (tmp_path / "ours" / "metrics.csv").read_bytes() == (tmp_path / "theirs" / "metrics.csv").read_bytes()


def test_it_takes_lightnings_arguments_and_tensors(tmp_path):
    import torch

    logger = ResumableCSVLogger(tmp_path, "a", 3, "p", 50)
    logger.log_metrics({"x": torch.tensor(0.5)})
    logger.log_metrics({"x": np.float32(0.25)})
    assert rows_of(tmp_path / "a" / "version_3") == [{"p-x": "0.5", "step": "0"}, {"p-x": "0.25", "step": "1"}]


@pytest.mark.parametrize("killed_at", [0, 7, 19, 29])
def test_a_run_that_goes_on_has_the_rows_of_one_that_never_stopped(tmp_path, killed_at):
    """The first process gets beyond the checkpoint of step 7 and is killed; the second goes on from there."""
    rows = list(some_rows())
    logged(tmp_path / "whole", rows)
    logged(tmp_path / "parts", [row for row in rows if row[0] <= killed_at])
    second = ResumableCSVLogger(tmp_path / "parts")
    second.go_on_from(7)
    for step, row in rows:
        if step >= min(7, killed_at + 1):
            second.log_metrics(row, step)
    for name in ("metrics.csv", "best.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {p.name for p in (tmp_path / "parts").iterdir()} == {"metrics.csv", "best.json"}


def test_a_new_run_in_an_old_folder_begins_anew(tmp_path):
    logged(tmp_path, some_rows()).go_on_from(0)
    assert rows_of(tmp_path) == []
    assert json.loads((tmp_path / "best.json").read_text()) == {}


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_cut_last_line_is_removed(tmp_path, cut):
    logged(tmp_path, some_rows())
    before = rows_of(tmp_path)
    content = (tmp_path / "metrics.csv").read_bytes()
    (tmp_path / "metrics.csv").write_bytes(content[:-cut])
    logged(tmp_path, [(30, {"train/loss": 2.0})])
    after = rows_of(tmp_path)
    assert after[:-1] == before[:-1]
    assert (after[-1]["train/loss"], after[-1]["step"]) == ("2.0", "30")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"1,0.5,", b"1,half,", r"metrics\.csv, line 3: train/loss is 'half', which is no number; correct it"),
        (b"2,0.25,", b",0.25,", r"line 4: step is ''"),
        (b"2,0.25,", b"nan,0.25,", r"line 4: step is 'nan'"),
        (b"0,1,0.5,", b"x,1,0.5,", r"line 3: epoch is 'x'"),
        (b"0,1,0.5,", b"0,1,0.5,7,", r"line 3: 5 cells instead of 4"),
        (b"0,1,0.5,", b"0,1", r"line 3: 2 cells instead of 4"),
        (b"1,0.5,", b"1,\xff,", r"metrics\.csv is no table of numbers"),
        (b"epoch,step", b"epoch,stop", r"its first line does not name each column once, step among them"),
        (b"epoch,step", b"step,step", r"its first line"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, old, new, said):
    """Only a last line without its end is mended silently: nobody but a killed process leaves that."""
    rows = [{"train/loss": 1.0, "epoch": 0}, {"train/loss": 0.5, "epoch": 0}, {"train/loss": 0.25, "epoch": 0}]
    logged(tmp_path, [*enumerate(rows), (3, {"val/loss": 2.0, "epoch": 0})])
    file = tmp_path / "metrics.csv"
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new))
    with pytest.raises(DataError, match=said):
        ResumableCSVLogger(tmp_path).go_on_from(2)
    assert file.read_bytes() == content.replace(old, new)


def test_what_is_logged_can_be_gone_on_with(tmp_path):
    logged(tmp_path, [(0, {"x": True, "y": float("inf")}), (1, {"x": np.bool_(0), "y": float("nan"), "z": 1e-300})])
    ResumableCSVLogger(tmp_path).go_on_from(1)
    assert rows_of(tmp_path) == [{"step": "0", "x": "1", "y": "inf", "z": ""}]


def test_a_cut_header_is_no_file(tmp_path):
    (tmp_path / "metrics.csv").write_bytes(b"epoch,st" * 20_000)  # longer than what is read at once
    logged(tmp_path, [(0, {"a": 1.0})])
    assert rows_of(tmp_path) == [{"a": "1.0", "step": "0"}]


def test_a_process_that_is_killed_leaves_every_row_it_has_logged(tmp_path):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover -- its end is a signal
        try:
            logger = ResumableCSVLogger(tmp_path)
            for step in range(10**9):
                logger.log_metrics({"a": step, f"b{step // 200}": 1.0}, step)  # a column more every 200 rows
                os.write(writing, b"%d\n" % step)
        finally:
            os._exit(1)
    seen = b""
    while seen.count(b"\n") < 500:
        seen += os.read(reading, 4096)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    os.close(writing)
    while more := os.read(reading, 4096):
        seen += more
    os.close(reading)
    said = [int(line) for line in seen.split()]
    logger = ResumableCSVLogger(tmp_path)
    logger.log_metrics({"a": -1}, 10**9)
    assert [int(row["step"]) for row in rows_of(tmp_path)][: len(said)] == said
    assert len(rows_of(tmp_path)) in (len(said) + 1, len(said) + 2)  # one may have been written and not yet said


def test_nothing_is_kept_in_memory(tmp_path):
    """The time and the memory of a row do not depend on how many there are."""
    import tracemalloc

    logger = logged(tmp_path, [(0, {"a": 1.0})])
    tracemalloc.start()
    for step in range(3000):
        logger.log_metrics({"a": float(step)}, step)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 20_000  # the rows would take some hundred bytes each


def test_the_best_so_far(tmp_path):
    rows = [(i, {"val/loss": v, "val/elbo": -v, "val/1nna_cd": v, "train/loss": v, "epoch": i})
            for i, v in enumerate([3.0, float("nan"), 1.0, 2.0, float("-inf"), 1.0])]  # fmt: skip
    logged(tmp_path, rows)
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "val/elbo": {"value": -1.0, "goal": "max", "epoch": 2, "step": 2},
        "val/loss": {"value": 1.0, "goal": "min", "epoch": 2, "step": 2},
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val/loss", "min"),
        ("test/cov_emd", "max"),
        ("val/sinkhorn_0.05", "min"),
        ("latent/mutual_information_gap", "max"),
        ("probe/accuracy", "max"),
        ("val/1nna_cd", None),
        ("oracle/mmd_cd", None),
        ("train/loss", None),
        ("val/generator_loss", None),
        ("val/chamfer_before", None),
        ("epoch", None),
    ],
)
def test_which_way_is_better(name, expected):
    assert goal(name) == expected


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    logger = logged(tmp_path, [(0, {"a": 1.0})])
    path = type(tmp_path)

    def full(self, *arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(path, "open", full)
    with pytest.raises(DataError, match=r"metrics\.csv cannot be written: No space left on device"):
        logger.log_metrics({"a": 2.0}, 1)


def test_the_id_of_a_run_is_kept_or_made(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    assert wandb_run_id(tmp_path) != wandb_run_id(tmp_path)
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    assert wandb_run_id(tmp_path) == "agents"
    (tmp_path / "wandb-run-id").write_text("abc-1\n")
    assert wandb_run_id(tmp_path) == "abc-1"
    (tmp_path / "wandb-run-id").write_bytes(b"\0\0\0")
    with pytest.raises(DataError, match="holds no run id"):
        wandb_run_id(tmp_path)
