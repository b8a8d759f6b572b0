"""How well a model reconstructs data it was trained on and data it was not."""

import math
import warnings

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from pcgen.base import DataModule, GenerativeModel
from pcgen.callbacks._logging import log_final
from pcgen.callbacks._sharing import gather_in_order, my_part, scorable, sharing_ranks
from pcgen.errors import ConfigurationError
from pcgen.metrics import ReconstructionScores
from pcgen.training.together import log_equal

_CHUNK = 32  # dealt to the ranks whole: a product's last bit depends on how many rows it has


class ReconstructionQuality(Callback):
    """Logs the distances of clouds to their reconstructions and the coverage by reconstructions.

    At the end of the chosen epochs' validation, and at the end of fit for the final weights, it logs `chamfer` (squared
    distances, mean over points, both directions added), `reconstruction_coverage` (the share of the data whose nearest
    other cloud, among data and reconstructions, is a reconstruction) and `own_reconstruction_coverage` under `train/`
    and `val/`; in a test under `train/` and `test/`. The same clouds each time, without augmentation, so the gap
    between the two splits is that between what was seen and what was not, measured at one and the same state of the
    weights. Several processes divide the clouds and the pairs among them and give what one gives; a strategy that
    shards the model (FSDP, DeepSpeed stage 3) is not for this, see `SetScores`.

    Args:
        num_clouds: Clouds of each split; as many as there are if it has fewer.
        every_n_epochs: Score at the end of every n-th epoch's validation, and at the end of fit in any case; 0 for the
            end alone.
        coverage: Give the coverages, whose cost grows with the square of `num_clouds`.
        distances: Short names: `cd` logs `chamfer`, `emd` and `emd_squared` log themselves (mean distance, and mean
            squared distance, under the optimal one-to-one assignment; as many points in both).
        sinkhorn_blur: Of the Sinkhorn divergence, logged as `sinkhorn_0.05`; None leaves it out.
    """

    def __init__(
        self,
        *,
        num_clouds: int = 100,
        every_n_epochs: int = 5,
        coverage: bool = True,
        distances: list[str] | None = None,
        sinkhorn_blur: float | None = None,
    ) -> None:
        if num_clouds < 1 or every_n_epochs < 0:
            raise ConfigurationError(
                f"num_clouds {num_clouds}, every_n_epochs {every_n_epochs}: at least one cloud, every 0 or more epochs"
            )
        self.num_clouds, self.every_n_epochs, self.coverage = num_clouds, every_n_epochs, coverage
        self.distances, self.sinkhorn_blur = ["cd"] if distances is None else list(distances), sinkhorn_blur
        self._metric(sync=False)  # refuses now what it would refuse after the first epochs
        self._clouds: dict[str, Tensor] = {}
        self._scored_at = -1  # `global_step` of the weights that were scored last
        self._warned = False

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score at the chosen epochs, and whenever validation is asked for by itself."""
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not trainer.sanity_checking and (due or trainer.state.fn != TrainerFn.FITTING):
            self._scored_at = trainer.global_step
            log_equal(pl_module, self._scores(trainer, pl_module, ("train", "val")))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the final weights, unless the last validation has."""
        if self._scored_at != trainer.global_step:
            splits = ("train", "val") if sum(trainer.num_val_batches) else ("train",)
            if scores := self._scores(trainer, pl_module, splits):
                log_final(trainer, scores)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score on the test split, and on the training split beside it."""
        log_equal(pl_module, self._scores(trainer, pl_module, ("train", "test")))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 -- Lightning's signature
        """Let go of the clouds."""
        self._clouds.clear()
        self._scored_at = -1

    def _scores(self, trainer: Trainer, pl_module: LightningModule, splits: tuple[str, ...]) -> dict[str, float]:
        """Give the splits' scores by the names they are logged under; none where there is nothing to score."""
        found = scorable(trainer, pl_module, "reconstruct")
        if isinstance(found, str):
            if not self._warned and trainer.is_global_zero:
                self._warned = True
                warnings.warn(f"no scores of reconstructions: {found}", stacklevel=3)
            return {}
        return {
            f"{split}/{name}": value for split in splits for name, value in self._score(trainer, *found, split).items()
        }

    def _score(self, trainer: Trainer, model: GenerativeModel, datamodule: DataModule, split: str) -> dict[str, float]:
        if split not in self._clouds:
            self._clouds[split] = datamodule.take(split, self.num_clouds).x
        data = self._clouds[split].to(model.device)
        with isolate_rng():  # a model that draws while reconstructing must not change what training draws next
            chunks = torch.split(data, _CHUNK)
            mine = [model.reconstruct(chunk) for chunk in chunks[my_part(trainer, len(chunks))]]
        reconstructions = gather_in_order(trainer, torch.cat([data[:0], *mine]))
        return self._compare(trainer, data, reconstructions)

    def _compare(self, trainer: Trainer, data: Tensor, reconstructions: Tensor) -> dict[str, float]:
        """Compare what every rank has whole; each updates the metric with its part, so that they share the pairs."""
        ranks = sharing_ranks(trainer)
        metric = self._metric(sync=ranks.size > 1).to(data.device)
        if not reconstructions.isfinite().all():
            if trainer.is_global_zero:
                warnings.warn("the scores of reconstructions are NaN: some hold NaN or infinity", stacklevel=2)
            return dict.fromkeys(metric.names, math.nan)
        mine = ranks.rows(len(data))
        if mine.stop > mine.start:
            metric.update(data[mine], reconstructions[mine])
        return {name: score.item() for name, score in metric.compute().items()}

    def _metric(self, *, sync: bool) -> ReconstructionScores:
        return ReconstructionScores(
            distances=self.distances, sinkhorn_blur=self.sinkhorn_blur, coverage=self.coverage, sync_on_compute=sync
        )
