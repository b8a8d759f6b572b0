"""What a deforming model puts data together from."""

from pytorch_lightning import LightningModule, Trainer

from pcgen.base import GenerativeModel
from pcgen.callbacks._picture import Drawing, Picture, at_least, check_split, datamodule_of, plain, up_axis
from pcgen.latents import decompose
from pcgen.viz import draw_decompositions


class Decompositions(Picture):
    """Draws data above their reconstruction, appearance, layers and deformation, the same data each time.

    An appearance that looks like the reconstruction, under a lattice of straight lines, says that the deformation is
    not used yet; appearances that are all alike say that it does everything.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        num_shown: Data that are drawn.
        split: Of the datamodule.
    """

    name = "decompositions"
    verbs = ("encode", "decompose")

    def __init__(self, every_n_epochs: int = 10, num_shown: int = 10, split: str = "val") -> None:
        super().__init__(every_n_epochs)
        at_least(1, num_shown=num_shown)
        self.num_shown, self.split = num_shown, split

    def check(self, trainer: Trainer) -> None:
        """See that the split is there."""
        check_split(trainer, self, self.split)

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw a column for each datum."""
        assert isinstance(model, GenerativeModel)
        x = datamodule_of(trainer, self).take(self.split, self.num_shown).x
        made, template, deformation, layers = decompose(model, x)
        image = draw_decompositions(
            plain(x), plain(made), plain(template), plain(deformation),
            {name: plain(layer) for name, layer in layers.items()},
            up_axis=up_axis(trainer), heading=f"Decompositions ({self.split}) after epoch {epoch}",
        )  # fmt: skip
        return Drawing(image)
