"""Which class a classifier takes for which."""

from pytorch_lightning import LightningModule, Trainer

from pcgen.base import GenerativeModel
from pcgen.callbacks._picture import Drawing, Picture, Table, datamodule_of
from pcgen.viz import draw_confusion


class Confusion(Picture):
    """Draws the confusion matrix of the last validation; its numbers are in `confusion.csv` in the run's folder.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
    """

    name = "confusion"
    verbs = ("classify",)

    def __init__(self, every_n_epochs: int = 10) -> None:
        super().__init__(every_n_epochs)

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing | None:
        """Draw the matrix; nothing before the first validation."""
        assert isinstance(model, GenerativeModel)
        if model.confusion is None:
            return None
        counts = model.confusion.cpu().numpy()  # (K, K)
        given = datamodule_of(trainer, self).class_names
        names = [given[k] if k < len(given) else str(k) for k in range(len(counts))]
        right, there = counts.trace(), counts.sum()
        title = f"{right} of {there} in the validation split are right (epoch {epoch})"
        rows = [[name, *row] for name, row in zip(names, counts.tolist(), strict=True)]
        return Drawing(draw_confusion(counts, names, title=title), table=Table("confusion", ("is", *names), rows))
