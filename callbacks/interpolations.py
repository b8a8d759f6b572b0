"""Walks from one datum to another."""

from pytorch_lightning import LightningModule, Trainer

from pcgen.base import GenerativeModel
from pcgen.callbacks._picture import Drawing, Picture, at_least, check_split, datamodule_of, plain, up_axis
from pcgen.viz import draw_interpolations


class Interpolations(Picture):
    """Draws walks between pairs of data that the model was not trained on, the same pairs each time.

    A row begins and ends with the data themselves; between them stand the stations of the model's walk.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        num_pairs: Walks.
        steps: Stations of each, both ends among them.
        split: Of the datamodule.
        seed: Which pairs.
    """

    name = "interpolations"
    verb = "interpolate"

    def __init__(
        self, every_n_epochs: int = 10, num_pairs: int = 4, steps: int = 7, split: str = "val", seed: int = 0
    ) -> None:
        super().__init__(every_n_epochs)
        at_least(1, num_pairs=num_pairs)
        at_least(2, steps=steps)
        self.num_pairs, self.steps, self.split, self.seed = num_pairs, steps, split, seed

    def check(self, trainer: Trainer) -> None:
        """See that the split is there and has a pair."""
        check_split(trainer, self, self.split, least=2)

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw the walks, one in each row."""
        assert isinstance(model, GenerativeModel)
        x = datamodule_of(trainer, self).take(self.split, 2 * self.num_pairs, seed=self.seed).x
        ends = x[: len(x) // 2 * 2].reshape(-1, 2, *x.shape[1:])  # (B, 2, …)
        walks = model.interpolate(ends[:, 0], ends[:, 1], self.steps).transpose(0, 1)  # (B, S, …)
        heading = f"Interpolations ({self.split}) after epoch {epoch}"
        return Drawing(draw_interpolations(plain(walks), plain(ends), up_axis=up_axis(trainer), heading=heading))
