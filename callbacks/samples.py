"""What the model draws from nothing."""

from pytorch_lightning import LightningModule, Trainer

from pcgen.base import GenerativeModel
from pcgen.callbacks._picture import Drawing, Picture, at_least, for_viewing, plain, up_axis
from pcgen.metrics import draw
from pcgen.viz import draw_samples


class Samples(Picture):
    """Draws samples of the model, from the same seed each time, so that one sees them change over the epochs.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        num_samples: How many.
        seed: Of the model's random numbers.
        num_objects: How many of the clouds the loggers also get as objects that can be turned.
    """

    name = "samples"
    verbs = ("sample",)

    def __init__(self, every_n_epochs: int = 10, num_samples: int = 16, seed: int = 0, num_objects: int = 4) -> None:
        super().__init__(every_n_epochs)
        at_least(1, num_samples=num_samples)
        at_least(0, num_objects=num_objects)
        self.num_samples, self.seed, self.num_objects = num_samples, seed, num_objects

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw the samples."""
        assert isinstance(model, GenerativeModel)
        x = plain(draw(model, self.num_samples, self.seed))  # the first of the clouds that `SetScores` scores
        image = draw_samples(x, up_axis=up_axis(trainer), heading=f"Samples after epoch {epoch}")
        return Drawing(image, for_viewing(x, self.num_objects))
