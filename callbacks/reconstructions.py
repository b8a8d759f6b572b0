"""Originals beside what the model makes of them."""

from pytorch_lightning import LightningModule, Trainer

from pcgen.base import GenerativeModel, in_chunks
from pcgen.callbacks._picture import (
    Drawing,
    Picture,
    at_least,
    check_split,
    datamodule_of,
    for_viewing,
    plain,
    several,
    up_axis,
)
from pcgen.viz import draw_rows


class Reconstructions(Picture):
    """Draws data of several splits above their reconstructions, the same data each time.

    A model that memorises shows it here: good reconstructions of what it was trained on, poor ones of the rest.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        num_clouds: Data of each split.
        splits: Of the datamodule, each a pair of rows.
        num_objects: How many reconstructions of the last split the loggers also get as objects that can be turned.
    """

    name = "reconstructions"
    verbs = ("reconstruct",)

    def __init__(
        self,
        every_n_epochs: int = 10,
        num_clouds: int = 8,
        splits: tuple[str, ...] = ("train", "val"),
        num_objects: int = 4,
    ) -> None:
        super().__init__(every_n_epochs)
        at_least(1, num_clouds=num_clouds)
        at_least(0, num_objects=num_objects)
        self.num_clouds, self.splits, self.num_objects = num_clouds, several("splits", splits), num_objects

    def check(self, trainer: Trainer) -> None:
        """See that the splits are there."""
        for split in self.splits:
            check_split(trainer, self, split)

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw two rows for each split."""
        assert isinstance(model, GenerativeModel)
        rows, likes, labels = [], [], []
        for split in self.splits:
            x = datamodule_of(trainer, self).take(split, self.num_clouds).x
            originals, made = plain(x), plain(in_chunks(model.reconstruct, x, model.chunk_size))
            rows += [originals, made]
            likes += [originals, originals]
            labels += [split, "reconstructed"]
        heading = f"Reconstructions after epoch {epoch}"
        image = draw_rows(rows, labels=labels, likes=likes, up_axis=up_axis(trainer), heading=heading)
        return Drawing(image, for_viewing(rows[-1], self.num_objects))
