"""Walks from one datum to another, or between draws of the prior."""

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from pcgen.base import GenerativeModel
from pcgen.callbacks._picture import (
    Drawing,
    Picture,
    Table,
    at_least,
    check_split,
    datamodule_of,
    plain,
    up_axis,
)
from pcgen.errors import ConfigurationError
from pcgen.latents import prior_walk, walks_from_prior
from pcgen.metrics.smoothness import smoothness_rows
from pcgen.ops.paths import Path
from pcgen.viz import Image, draw_interpolations


class Interpolations(Picture):
    """Draws walks between pairs of data that the model was not trained on, the same pairs each time.

    A row begins and ends with the data themselves; between them stand the stations of the model's walk. Of a model that
    cannot encode but has a prior, such as a GAN, the walks go between draws of the prior, the same draws each time, and
    no data stand beside them.

    How smooth each walk is stands in `interpolations.csv` in the run's folder: its longest step relative to the mean of
    its steps. `interpolation/longest_to_mean_step` is this ratio of the least even walk, 1 at best.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        num_pairs: Walks.
        steps: Stations of each, both ends among them.
        split: Of the datamodule; not asked for walks between draws of the prior.
        seed: Which pairs, or which draws.
        path: Between the codes: "linear" for the straight line, "spherical" for the great circle, on which codes keep
            the length that N(0, I) gives them.
    """

    name = "interpolations"
    verbs = ("interpolate",)

    def __init__(
        self,
        every_n_epochs: int = 10,
        num_pairs: int = 4,
        steps: int = 7,
        split: str = "val",
        seed: int = 0,
        path: Path = "linear",
    ) -> None:
        super().__init__(every_n_epochs)
        at_least(1, num_pairs=num_pairs)
        at_least(2, steps=steps)
        if path not in ("linear", "spherical"):
            raise ConfigurationError(f'path is {path!r}; choose "linear" or "spherical"')
        self.num_pairs, self.steps, self.split, self.seed, self.path = num_pairs, steps, split, seed, path

    def unable(self, model: GenerativeModel) -> str | None:
        """Refuse a great circle in one dimension."""
        one = self.path == "spherical" and model.latent_dim == 1
        return "has codes of one dimension, which no great circle joins: give path linear" if one else None

    def check(self, trainer: Trainer) -> None:
        """See that the split is there and has a pair, where data are walked between."""
        model = trainer.lightning_module
        if isinstance(model, GenerativeModel) and not _between_draws(model):
            check_split(trainer, self, self.split, least=2)

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw the walks, one in each row."""
        assert isinstance(model, GenerativeModel)
        if _between_draws(model):
            return self._draw_prior(trainer, model, epoch)
        x = datamodule_of(trainer, self).take(self.split, 2 * self.num_pairs, seed=self.seed).x
        ends = x[: len(x) // 2 * 2].reshape(-1, 2, *x.shape[1:])  # (B, 2, …)
        walks = model.interpolate(ends[:, 0], ends[:, 1], self.steps, path=self.path).transpose(0, 1)  # (B, S, …)
        how = self.split if self.path == "linear" else f"{self.split}, {self.path}"
        heading = f"Interpolations ({how}) after epoch {epoch}"
        image = draw_interpolations(plain(walks), plain(ends), up_axis=up_axis(trainer), heading=heading)
        return _with_smoothness(image, walks)

    def _draw_prior(self, trainer: Trainer, model: GenerativeModel, epoch: int) -> Drawing:
        generator = torch.Generator().manual_seed(self.seed)
        walks = prior_walk(model, self.num_pairs, self.steps, path=self.path, generator=generator).transpose(0, 1)
        how = "" if self.path == "linear" else f" ({self.path})"
        heading = f"Walks between draws of the prior{how} after epoch {epoch}"
        return _with_smoothness(draw_interpolations(plain(walks), up_axis=up_axis(trainer), heading=heading), walks)

    def _lack(self, model: LightningModule) -> str | None:
        if isinstance(model, GenerativeModel) and _between_draws(model):
            return self.unable(model)
        return super()._lack(model)


def _between_draws(model: GenerativeModel) -> bool:
    return not model.can("interpolate") and walks_from_prior(model)


def _with_smoothness(image: Image, walks: Tensor) -> Drawing:
    heads, rows = smoothness_rows(walks)
    ratios = [ratio for row in rows if (ratio := row[heads.index("ratio")]) is not None]  # None: it stands still
    numbers = {"interpolation/longest_to_mean_step": max(ratios)} if ratios else {}
    return Drawing(image, table=Table("interpolations", heads, rows), numbers=numbers)
