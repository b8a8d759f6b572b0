"""Scores of samples against real clouds, while training, at its end, and in tests."""

import math
import warnings

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from pcgen.base import DataModule, GenerativeModel
from pcgen.callbacks._logging import last_step, log_final, log_table, run_folder
from pcgen.callbacks._sharing import gather_in_order, on_rank_zero, progress_bar, scorable, sharing_ranks
from pcgen.errors import ConfigurationError, DataError
from pcgen.io.progress import Report
from pcgen.metrics import Scores, SetEvaluator, ball_radius, data_name, draw_chunks
from pcgen.metrics.evaluator import Row
from pcgen.training.together import log_equal


class SetScores(Callback):
    """Draws samples and logs how they compare with real clouds: MMD, COV, 1-NNA under each distance, JSD, FPD.

    Logs `val/mmd_cd`, `val/cov_cd`, `val/1nna_cd`, `val/jsd`, `val/share_outside_ball` (of the samples' points) and
    `val/reference_share_outside_ball` as fractions (a checkpoint may be chosen by them: give `ModelCheckpoint` the same
    `every_n_epochs`), and under `oracle/…` the same scores of a random training subset of the same size. At the end of
    fit and test it prints the table and writes `scores.json` (`scores_test.json`) into the run's folder. The samples
    depend on the weights and the seed alone, not on the number of processes, and training goes on as if none had been
    drawn. Several processes divide the samples and the pairs of clouds among them and give what one gives. A strategy
    that shards the model (FSDP, DeepSpeed stage 3) is not for this: a process with fewer samples to draw would leave
    the others waiting for its share of the weights.

    Args:
        num_clouds: Samples and references; as many as there are if the split has fewer. The cost grows with its
            square: 100 clouds of 2048 points take some seconds on two CPU cores.
        every_n_epochs: Score at the end of every n-th epoch's validation, and at the end of fit in any case; 0 for the
            end alone.
        distances: Short names of the distances between clouds, such as `cd`; see `pcgen.metrics.DISTANCES`.
        radius: Of the ball that the data are normalised to, which JSD wants to know; None reads it off the data's
            normalisation, and leaves JSD out if that does not say.
        both_orientations: Add MMD and COV with samples and references swapped, as some published tables have them.
        extractor: Name or file of the network whose features give `fpd` and `kid`, such as `pointnet-modelnet10-v1`;
            None leaves them out. It wants the radius.
        seed: Of the samples, the oracle's subset and the intervals.
        chunk: Samples drawn at once; part of the seed.
    """

    def __init__(
        self,
        *,
        num_clouds: int = 100,
        every_n_epochs: int = 10,
        distances: list[str] | None = None,
        radius: float | None = None,
        both_orientations: bool = False,
        extractor: str | None = None,
        seed: int = 0,
        chunk: int = 64,
    ) -> None:
        if num_clouds < 1 or every_n_epochs < 0:
            raise ConfigurationError(
                f"num_clouds {num_clouds}, every_n_epochs {every_n_epochs}: at least one cloud, every 0 or more epochs"
            )
        self.num_clouds, self.every_n_epochs = num_clouds, every_n_epochs
        self.distances = ["cd"] if distances is None else list(distances)
        self.radius, self.both_orientations = radius, both_orientations
        self.extractor, self.seed, self.chunk = extractor, seed, chunk
        self._references: dict[str, _Reference] = {}
        self._latest: tuple[int, Scores] | None = None
        self._warned = False

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score at the chosen epochs, and whenever validation is asked for by itself."""
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if trainer.sanity_checking or (trainer.state.fn == TrainerFn.FITTING and not due):
            return
        scores = self._score(trainer, pl_module, "val")
        if scores is not None:
            self._latest = (trainer.global_step, scores)
            log_equal(pl_module, _named(scores, "val"))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the final weights, unless the last validation has, and write the file."""
        if self._latest is None or self._latest[0] != trainer.global_step:
            scores = self._score(trainer, pl_module, "val")
            self._latest = None if scores is None else (trainer.global_step, scores)
            if scores is not None:
                log_final(trainer, _named(scores, "val"))
        self._write(trainer, "scores.json", "val")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's signature
        """Print the table, now that the progress bar is gone."""
        self._print(trainer, "validation")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score against the test split."""
        scores = self._score(trainer, pl_module, "test")
        if scores is not None:
            self._latest = (trainer.global_step, scores)
            log_equal(pl_module, _named(scores, "test"))
            self._write(trainer, "scores_test.json", "test")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's signature
        """Print the table."""
        self._print(trainer, "test")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 -- Lightning's signature
        """Let go of the references, which may lie on the device."""
        self._references.clear()
        self._latest = None

    def _score(self, trainer: Trainer, pl_module: LightningModule, split: str) -> Scores | None:
        found = scorable(trainer, pl_module, "sample")
        if isinstance(found, str):
            self._warn_once(trainer, f"no scores of samples: {found}")
            return None
        model, datamodule = found
        with isolate_rng():  # drawing must not change what training draws next
            reference = self._reference(datamodule, split, model.device)
            generated = self._draw(trainer, model, len(reference.evaluator.reference))
            with progress_bar(trainer, "scoring samples") as report:
                row = reference.score(trainer, generated, report)
                oracle = reference.oracle_row(trainer, report)
        protocol = reference.evaluator.protocol(
            generated,
            data=data_name(type(datamodule).__name__, datamodule.info()),
            split=split,
            normalization=datamodule.info()["normalization"],
            chunk=self.chunk,
        )
        return Scores(row.values, protocol, row.intervals, oracle.values, oracle.intervals, row.pairs, row.remarks)

    def _reference(self, datamodule: DataModule, split: str, device: torch.device) -> "_Reference":
        """Take the reference and the oracle's clouds once; they are the same in every epoch."""
        if split not in self._references:
            clouds = datamodule.take(split, self.num_clouds).x.to(device)
            evaluator = SetEvaluator(
                clouds,
                distances=self.distances,
                radius=self.radius or ball_radius(datamodule.info()["normalization"]),
                both_orientations=self.both_orientations,
                extractor=self.extractor,
                up_axis=datamodule.up_axis,
                seed=self.seed,
            )
            oracle = datamodule.take("train", len(clouds), seed=self.seed).x
            self._references[split] = _Reference(evaluator, oracle)
        return self._references[split]

    def _draw(self, trainer: Trainer, model: GenerativeModel, n: int) -> Tensor:
        rank, world_size = trainer.global_rank, trainer.world_size
        mine = [torch.empty(0, *model.sample_shape, device=model.device)]
        with progress_bar(trainer, "drawing samples") as report:
            for part in draw_chunks(model, n, self.seed, chunk=self.chunk, rank=rank, world_size=world_size):
                mine.append(part.to(mine[0]))
                report(sum(map(len, mine)) * world_size, n)
        return gather_in_order(trainer, torch.cat(mine))

    def _write(self, trainer: Trainer, file: str, split: str) -> None:
        folder = run_folder(trainer)
        if self._latest is None or not trainer.is_global_zero:
            return
        scores = self._latest[1]
        if not getattr(trainer, "fast_dev_run", False):
            scores.save(folder / file)
        log_table(trainer, f"scores/{split}", *scores.plain_table(), last_step(trainer))

    def _print(self, trainer: Trainer, title: str) -> None:
        if self._latest is not None and trainer.is_global_zero:
            from rich.console import Console

            Console().print(self._latest[1].table(f"samples against {title} data"))

    def _warn_once(self, trainer: Trainer, message: str) -> None:
        if not self._warned and trainer.is_global_zero:
            self._warned = True
            warnings.warn(message, stacklevel=3)


class _Reference:
    """The reference's evaluator, and the oracle's row once it is known."""

    def __init__(self, evaluator: SetEvaluator, oracle: Tensor) -> None:
        self.evaluator, self.oracle = evaluator, oracle
        self._row: Row | None = None

    def score(self, trainer: Trainer, clouds: Tensor, report: Report) -> Row:
        """Score, or give NaN for samples that are none: a diverged model is the trainer's to stop, not the score's."""
        try:
            return self._measure(trainer, clouds, report)
        except DataError as error:  # of clouds that every rank has alike, so every rank comes here
            if trainer.is_global_zero:
                warnings.warn(f"the scores of this epoch's samples are NaN: {error}", stacklevel=2)
            return Row(dict.fromkeys(self.evaluator.names, math.nan), {}, {}, ())

    def oracle_row(self, trainer: Trainer, report: Report) -> Row:
        """Score the oracle's clouds, the first time."""
        if self._row is None:
            wanted, found = len(self.evaluator.reference), len(self.oracle)
            if found == wanted:
                self._row = self._measure(trainer, self.oracle, report)
            else:
                if trainer.is_global_zero:
                    warnings.warn(f"{found} training clouds for {wanted} references: no oracle's row", stacklevel=2)
                self._row = Row({}, {}, {}, ())
        return self._row

    def _measure(self, trainer: Trainer, clouds: Tensor, report: Report) -> Row:
        """Compare on all ranks, each with its share of the pairs; what is made of the distances is rank zero's word."""
        distances = self.evaluator.compare(clouds, ranks=sharing_ranks(trainer), progress=report)
        return on_rank_zero(trainer, lambda: self.evaluator.measure(clouds, distances=distances))


def _named(scores: Scores, split: str) -> dict[str, float]:
    named = {f"{split}/{name}": value for name, value in scores.values.items()}
    return named | {f"oracle/{name}": value for name, value in scores.oracle.items()}
