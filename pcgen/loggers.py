"""Loggers that go on with a run, and what all of them know of a quantity: which way is better, and its axis.

A run that is killed and started again in the same folder has one `metrics.csv`, one TensorBoard curve and one W&B run.
W&B and TensorBoard are Lightning's own; what they lack is added here by functions of a logger.
"""

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from pcgen.errors import DataError
from pcgen.io.files import atomic
from pcgen.io.logged import logged_columns, logged_rows, logged_texts

AXIS = "trainer/global_step"  # batches trained on: what Lightning logs everything against, in W&B by this name
RUN_ID_FILE = "wandb-run-id"

Goal = Literal["min", "max"]

# What is better, by the last part of a name; a name that is not here has no better: 1-NNA and the AUROC of samples are
# best in the middle, an energy means nothing by itself, and of `generator_loss` and `discriminator_loss` one rises as
# the other falls.
GOALS: dict[str, Goal] = {
    "loss": "min",
    "reconstruction": "min",
    "elbo": "max",
    "mmd2": "min",
    "cross_entropy": "min",
    "accuracy": "max",
    "mean_class_accuracy": "max",
    "diversity": "max",
    "coverage": "max",
    "chamfer": "min",
    "emd": "min",
    "emd_squared": "min",
    "chamfer_after": "min",
    "mse_after": "min",
    "reconstruction_coverage": "max",
    "own_reconstruction_coverage": "max",
    "jsd": "min",
    "fpd": "min",
    "kid": "min",
    "share_outside_ball": "min",
    "modularity": "max",
    "compactness": "max",
    "informativeness": "max",
    "mutual_information_gap": "max",
    "dci_disentanglement": "max",
    "sap": "max",
    "linear_informativeness": "max",
    "longest_to_mean_step": "min",
}
# The same for names that end in a distance's or an estimator's.
GOAL_PREFIXES: dict[str, Goal] = {"mmd_": "min", "cov_": "max", "sinkhorn_": "min"}
# Parts of names before the last that say what was evaluated; what is under `train/` is no result, and the oracle's
# scores are data's own.
EVALUATED = ("val", "test", "latent", "latent_test", "probe", "interpolation")


def goal(name: str) -> Goal | None:
    """Say whether less or more of a logged quantity is better, None where neither is or it is no evaluation.

    >>> goal("val/loss"), goal("val/elbo"), goal("val/1nna_cd"), goal("train/loss")
    ('min', 'max', None, None)
    """
    room, _, last = name.rpartition("/")
    if room not in EVALUATED:
        return None
    return GOALS.get(last) or next((g for prefix, g in GOAL_PREFIXES.items() if last.startswith(prefix)), None)


# ── CSV ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


class ResumableCSVLogger(CSVLogger):
    """Lightning's CSVLogger for runs that go on: a file that is there is added to, not deleted.

    A row is in `metrics.csv` as soon as it is logged, so killing the process loses none, and nothing is kept in memory.
    A last line that was cut is removed by the next run. `best.json` beside it has the best value so far of each
    quantity that has a better (see `goal`), with its epoch and step. `hparams.yaml` is Lightning's.

    Args:
        save_dir: Where the files go, with the next two.
        name: Of a folder in it; "" for none.
        version: Of a folder in that; "" for none.
        prefix: Of every name.
        flush_logs_every_n_steps: As of Lightning's; every row is flushed in any case.
    """

    def __init__(
        self,
        save_dir: str | Path,
        name: str | None = "",
        version: int | str | None = "",
        prefix: str = "",
        flush_logs_every_n_steps: int = 1,
    ) -> None:
        super().__init__(save_dir, name, version, prefix, flush_logs_every_n_steps)
        self._file: _Rows | None = None

    @property
    def experiment(self) -> Any:
        """What writes the files on rank zero; on other ranks it takes everything and writes nothing."""
        if self._file is None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # set by Lightning
            self._file = _Rows(Path(self.log_dir))
        return self._file or _Nothing()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append a row.

        Raises:
            DataError: If it cannot be written.
        """
        row = {f"{self._prefix}-{key}" if self._prefix else key: _number(value) for key, value in metrics.items()}
        self.experiment.log_metrics(row, step)

    @rank_zero_only
    def go_on_from(self, step: int) -> None:
        """Drop the rows of steps that are trained again: those of this step and later ones."""
        self.experiment.drop_from(step)

    @rank_zero_only
    def save(self) -> None:
        """Do nothing: every row is written already."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Do nothing: every row is written already."""


class _Nothing:
    """Takes whatever other ranks log."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class _Rows:
    """`metrics.csv`, `best.json` and `hparams.yaml` of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.best_path = folder, folder / "metrics.csv", folder / "best.json"
        self.columns: list[str] = []
        self.best: dict[str, dict[str, Any]] = {}
        self.hparams: dict[str, Any] = {}
        self.rows = 0
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            _cut_last_line(self.path)
            self._look_through()

    def log_metrics(self, row: dict[str, Any], step: int | None = None) -> None:
        row = row | {"step": self.rows if step is None else step}
        try:
            if new := set(row) - set(self.columns):
                self.columns = sorted({*self.columns, *new})
                self._rewrite(self._stored())
            with self.path.open("a", newline="", encoding="utf-8") as file:
                file.write(_line([row.get(name, "") for name in self.columns]))  # one write: whole, or cut
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror or error}") from error
        self.rows += 1
        if self._note(row):
            self._write_best()

    def log_hparams(self, params: dict[str, Any]) -> None:
        from pytorch_lightning.core.saving import save_hparams_to_yaml

        self.hparams.update(params)
        with atomic(self.folder / "hparams.yaml") as unfinished:
            save_hparams_to_yaml(unfinished, self.hparams)

    def save(self) -> None:
        """Do nothing: for those who know Lightning's writer."""

    def drop_from(self, step: int) -> None:
        """Keep the rows before a step."""
        if not any(row["step"] >= step for row in logged_rows(self.path)):
            return
        kept = zip(logged_rows(self.path), self._stored(), strict=True)
        self._rewrite(texts for row, texts in kept if row["step"] < step)
        self._look_through()
        self._write_best()

    def _look_through(self) -> None:
        """Learn columns, number of rows and best values from the file."""
        self.best, self.rows = {}, 0
        self.columns = logged_columns(self.path)
        for row in logged_rows(self.path):
            self.rows += 1
            self._note(row)

    def _stored(self) -> Iterator[dict[str, str]]:
        return (row for _, row in logged_texts(self.path))

    def _rewrite(self, rows: Iterator[dict[str, str]]) -> None:
        """Write the file anew, row by row, and put it in the place of the former one."""
        with atomic(self.path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            file.write(_line(self.columns))
            for row in rows:
                file.write(_line([row.get(name, "") for name in self.columns]))

    def _note(self, row: Mapping[str, Any]) -> bool:
        """Take better values of a row up; say whether there were any."""
        better = False
        for name, value in row.items():
            if (towards := goal(name)) is None or not math.isfinite(value):
                continue
            before = self.best.get(name)
            if before is None or (value < before["value"] if towards == "min" else value > before["value"]):
                place = {key: int(row[key]) for key in ("epoch", "step") if key in row}
                self.best[name], better = {"value": value, "goal": towards, **place}, True
        return better

    def _write_best(self) -> None:
        with atomic(self.best_path) as unfinished:
            unfinished.write_text(json.dumps(dict(sorted(self.best.items())), indent=2) + "\n", encoding="utf-8")


def _number(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, bool) else value  # "True" would be no number when a run goes on


def _line(cells: list[Any]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _cut_last_line(path: Path, block: int = 1 << 16) -> None:
    """Remove what follows the last line break: a line that was not written to its end."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        keep = 0
        for start in range(max(end - block, 0), -block, -block):
            file.seek(max(start, 0))
            if (found := file.read(block).rfind(b"\n")) >= 0:
                keep = max(start, 0) + found + 1
                break
        if keep < end:
            file.truncate(keep)


# ── TensorBoard and W&B ───────────────────────────────────────────────────────────────────────────────────────────────


def go_on_from(logger: Logger, step: int) -> None:
    """Tell a logger on rank zero that a run goes on at this step, so that no point is shown twice.

    CSV drops the rows, TensorBoard hides the points from its readers; W&B keeps what it has: exact resuming logs the
    same values again at the same places.

    Args:
        logger: Any.
        step: Batches trained on so far; 0 for a new run.
    """
    if isinstance(logger, ResumableCSVLogger):
        logger.go_on_from(step)
    elif isinstance(logger, TensorBoardLogger):  # a new run too: of several sessions the first hides nothing
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]  # generated by protoc

        start = Event(step=step, session_log=SessionLog(status=SessionLog.START))
        logger.experiment._get_file_writer().add_event(start)  # noqa: SLF001 -- as Lightning's own logger does


def wandb_step(logger: Logger) -> int | None:
    """Give the number of rows that a W&B run has; None for another logger."""
    return int(logger.experiment.step) if isinstance(logger, WandbLogger) else None


def go_on_with_wandb(logger: Logger, rows: int) -> None:
    """Let a W&B run count its rows on from a number, if it does not know of them.

    A run that goes on offline begins at 0 again; put together by `wandb sync`, its parts would overwrite each other.
    """
    if isinstance(logger, WandbLogger) and logger.experiment.step < rows:
        logger.experiment.log({}, step=rows)


def define_summaries(logger: Logger) -> None:
    """Let W&B keep the best value of each quantity that has a better, beside the last, on the axis of all.

    The run's summary then has `val/loss.min` and `val/loss.last`, which tables and sweeps can sort by.

    Args:
        logger: Any; others than W&B are left as they are.
    """
    if not isinstance(logger, WandbLogger):
        return
    named = list(GOALS.items())
    named += [(f"{prefix}*", towards) for prefix, towards in GOAL_PREFIXES.items()]
    for room in EVALUATED:
        for last, towards in named:
            logger.experiment.define_metric(
                f"{room}/{last}", summary=f"{towards},last", step_metric=AXIS, step_sync=True
            )


def log_hyperparameters_tab(logger: Logger) -> None:
    """Fill TensorBoard's HPARAMS tab with what the logger was told, without the scalar that Lightning's would add."""
    if not isinstance(logger, TensorBoardLogger) or logger._default_hp_metric:  # noqa: SLF001 -- no other way to ask
        return
    from lightning_fabric.utilities.logger import _flatten_dict
    from torch.utils.tensorboard.summary import hparams

    plain = logger.hparams if isinstance(logger.hparams, dict) else vars(logger.hparams)
    values = logger._sanitize_params(_flatten_dict(plain))  # noqa: SLF001 -- as Lightning's own does it
    writer = logger.experiment._get_file_writer()  # noqa: SLF001 -- as above
    for summary in hparams(values, dict.fromkeys(("val/loss",), 0.0)):
        writer.add_summary(summary)


# ── the id of a W&B run ───────────────────────────────────────────────────────────────────────────────────────────────


def wandb_run_id(folder: Path) -> str:
    """Give the id of the W&B run that is kept in a run's folder; for a new one, WANDB_RUN_ID's or one that is made up.

    Raises:
        DataError: If the file holds none.
    """
    file = folder / RUN_ID_FILE
    if not file.exists():
        return os.environ.get("WANDB_RUN_ID") or os.urandom(6).hex()  # `wandb agent` sets it
    found = file.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(r"[\w-]{1,128}", found):
        raise DataError(f"{file} holds no run id: {found[:40]!r}; remove it for a new W&B run")
    return found


def keep_wandb_run_id(folder: Path, logger: Logger) -> None:
    """Write the id of a W&B logger's run into the run's folder, before anything is logged, unless one is there."""
    file = folder / RUN_ID_FILE
    if isinstance(logger, WandbLogger) and logger.version and not file.exists():
        with atomic(file, durable=True) as unfinished:
            unfinished.write_text(f"{logger.version}\n", encoding="utf-8")
