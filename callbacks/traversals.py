"""What each latent dimension does."""

from pytorch_lightning import LightningModule, Trainer

from pcgen.base import GenerativeModel
from pcgen.callbacks._picture import Drawing, Picture, at_least, check_split, datamodule_of, plain, up_axis
from pcgen.errors import ConfigurationError
from pcgen.latents import relevance, traverse
from pcgen.viz import Image, draw_traversal, traversal_frames

_BETWEEN = 2  # stations of the animation for each of the picture


class Traversals(Picture):
    """Draws one datum with one coordinate of its code moved, a row for each of the most relevant latent dimensions.

    Rows are ordered by the mean KL of the dimension, or for a model without a posterior by the variance of the codes.
    The unchanged reconstruction is framed, and a triangle marks its own value. `figures/traversals.gif` moves all
    dimensions together, there and back.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        num_dims: Latent dimensions, the most relevant.
        extent: The coordinate goes from −extent to +extent; for a model without a prior these are standard deviations
            of the codes about their mean.
        steps: Columns.
        split: Of the datamodule.
        index: Of the datum among the reference.
        num_reference: Fixed data of the split over which the relevance of the dimensions is taken.
        animate: Write the animation too.
    """

    name = "traversals"
    verbs = ("encode", "decode")

    def __init__(
        self,
        every_n_epochs: int = 10,
        num_dims: int = 8,
        extent: float = 3.0,
        steps: int = 7,
        split: str = "val",
        index: int = 0,
        num_reference: int = 256,
        animate: bool = True,
    ) -> None:
        super().__init__(every_n_epochs)
        at_least(1, num_dims=num_dims, num_reference=num_reference)
        at_least(2, steps=steps)
        at_least(0, index=index)
        if not 0 < extent < float("inf"):
            raise ConfigurationError(f"extent is {extent}; give a finite number above 0, such as 3")
        if index >= num_reference:
            raise ConfigurationError(f"index is {index}, and the reference has {num_reference}; give a smaller one")
        self.num_dims, self.extent, self.steps, self.split = num_dims, extent, steps, split
        self.index, self.num_reference, self.animate = index, num_reference, animate

    def check(self, trainer: Trainer) -> None:
        """See that the split has the datum."""
        check_split(trainer, self, self.split, least=self.index + 1)

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw the rows, and the animation."""
        assert isinstance(model, GenerativeModel)
        x = datamodule_of(trainer, self).take(self.split, self.num_reference).x
        dims = relevance(model, x)[0].argsort(descending=True, stable=True)[: self.num_dims].tolist()
        steps = _BETWEEN * (self.steps - 1) + 1 if self.animate else self.steps
        found = traverse(model, x[self.index], reference=x, dims=dims, steps=steps, extent=self.extent)
        data, values, labels = plain(found.data), plain(found.values), found.labels
        axis, heading = up_axis(trainer), f"Traversals ({self.split}) after epoch {epoch}"
        shown = slice(None, None, _BETWEEN if self.animate else 1)
        image = draw_traversal(
            data[:, shown],
            base=plain(found.base),
            values=values[shown],
            labels=labels,
            current=plain(found.current),
            unit=found.unit,
            up_axis=axis,
            heading=heading,
        )
        frames: list[Image] = []
        if self.animate:
            frames = traversal_frames(
                data, values=values, labels=labels, unit=found.unit, up_axis=axis, heading=heading
            )
        return Drawing(image, frames=frames)
