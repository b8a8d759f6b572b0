"""Which latent dimensions a variational model uses."""

from pytorch_lightning import LightningModule, Trainer

from pcgen.base import GenerativeModel
from pcgen.callbacks._picture import Drawing, Picture, Table, plain
from pcgen.metrics import KLPerDimension
from pcgen.viz import draw_bars


class LatentUsage(Picture):
    """Draws the KL of every latent dimension at the last validation, the largest first.

    Dimensions below the line carry less than 0.01 nats: the decoder ignores them. The numbers, in the order of the
    dimensions, are in `kl_per_dimension.csv` in the run's folder and in a table of that name for the loggers.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
    """

    name = "latent_usage"
    verbs = ("encode",)

    def __init__(self, every_n_epochs: int = 10) -> None:
        super().__init__(every_n_epochs)

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing | None:  # noqa: ARG002 -- all pictures'
        """Draw the bars; nothing before the first validation, or for a model without a KL."""
        assert isinstance(model, GenerativeModel)
        if model.kl_per_dimension is None:
            return None
        kl = plain(model.kl_per_dimension)
        active = int((kl > KLPerDimension.ACTIVE).sum())
        title = f"{active} of {len(kl)} latent dimensions are active, {kl.sum():.1f} nats in all (epoch {epoch})"
        names = ("latent dimensions, by their KL", "KL (nats)")
        image = draw_bars(kl, threshold=KLPerDimension.ACTIVE, title=title, axis_names=names)
        return Drawing(image, table=Table("kl_per_dimension", ("dimension", "kl"), list(enumerate(kl.tolist()))))
