"""Damaged data beside what the model makes of them."""

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer

from pcgen.base import GenerativeModel, in_chunks
from pcgen.callbacks._picture import Drawing, Picture, at_least, check_split, datamodule_of, plain, up_axis
from pcgen.metrics import RestorationScores
from pcgen.viz import draw_rows

_WORDS = {"chamfer": "Chamfer distance", "mse": "mean squared error"}


class Restorations(Picture):
    """Draws clean, corrupted and restored data, and logs the mean error before and after.

    For a model with a `corruption`, which learns to undo it. The same data are damaged in the same way each time. The
    numbers are `val/chamfer_before` and `val/chamfer_after` for clouds (squared distances, mean over points, both
    directions added), `val/mse_before` and `val/mse_after` for images, of whichever split.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        num_shown: Data that are drawn.
        num_scored: Data over which the errors are averaged; as many as there are if the split has fewer.
        split: Of the datamodule.
        seed: Of the damage.
    """

    name = "restorations"
    verbs = ("reconstruct",)

    def __init__(
        self, every_n_epochs: int = 10, num_shown: int = 8, num_scored: int = 256, split: str = "val", seed: int = 0
    ) -> None:
        super().__init__(every_n_epochs)
        at_least(1, num_shown=num_shown, num_scored=num_scored)
        self.num_shown, self.num_scored, self.split, self.seed = num_shown, num_scored, split, seed

    def unable(self, model: GenerativeModel) -> str | None:
        """Refuse a model that learns to undo nothing."""
        return "has no corruption" if model.corruption is None else None

    def check(self, trainer: Trainer) -> None:
        """See that the split is there."""
        check_split(trainer, self, self.split)

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw three rows and measure."""
        assert isinstance(model, GenerativeModel)
        assert model.corruption is not None
        clean = datamodule_of(trainer, self).take(self.split, max(self.num_shown, self.num_scored)).x
        with torch.no_grad():  # on the CPU, where the data are: the same damage for every device
            corrupted = model.corruption(clean, generator=torch.Generator().manual_seed(self.seed))
        restored = in_chunks(model.reconstruct, corrupted, model.chunk_size).to(clean)
        metric = RestorationScores(sync_on_compute=False)  # rank zero alone is here
        metric.update(*(x[: self.num_scored] for x in (clean, corrupted, restored)))
        errors = {name: score.item() for name, score in metric.compute().items()}
        rows = [plain(x[: self.num_shown]) for x in (clean, corrupted, restored)]
        # A cloud's frame holds its damage too: outliers would be cut off otherwise.
        likes = [np.concatenate(rows[:2], axis=1)] * 3 if clean.ndim == 3 else None
        labels = ["clean", "corrupted", "restored"]
        heading = f"Restorations ({self.split}) after epoch {epoch}: {_said(errors)}"
        image = draw_rows(rows, labels=labels, likes=likes, up_axis=up_axis(trainer), heading=heading)
        return Drawing(image, numbers={f"{self.split}/{name}": error for name, error in errors.items()})


def _said(errors: dict[str, float]) -> str:
    (before, value), (_, after) = errors.items()
    return f"{_WORDS[before.removesuffix('_before')]} {value:.3g} before, {after:.3g} after"
