"""How the codes compare with the prior."""

from pytorch_lightning import LightningModule, Trainer

from pcgen.base import GenerativeModel
from pcgen.callbacks._picture import Drawing, Picture, Table, at_least, check_split, datamodule_of, plain
from pcgen.latents import draw_codes
from pcgen.viz import draw_latent_histogram


class LatentHistogram(Picture):
    """Draws the coordinates of the data's codes against the density of N(0, 1).

    A variational model's codes are drawn from the posterior, one for each datum and the same chance each time: it is
    their distribution over the data that should be the prior. Mean and standard deviation of each dimension are in
    `latent_moments.csv` in the run's folder and in a table of that name for the loggers.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        num_data: Data to encode, at least 2.
        split: Of the datamodule.
        seed: Of the codes drawn from the posterior.
    """

    name = "latent_histogram"
    verbs = ("encode",)

    def __init__(self, every_n_epochs: int = 10, num_data: int = 1000, split: str = "val", seed: int = 0) -> None:
        super().__init__(every_n_epochs)
        at_least(2, num_data=num_data)
        self.num_data, self.split, self.seed = num_data, split, seed

    def check(self, trainer: Trainer) -> None:
        """See that the split has two data."""
        check_split(trainer, self, self.split, least=2)

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw the histogram."""
        assert isinstance(model, GenerativeModel)
        x = datamodule_of(trainer, self).take(self.split, self.num_data).x
        codes = plain(draw_codes(model, x, seed=self.seed)).astype(float)  # (K, Z)
        how = "Codes drawn from the posterior" if model.can("posterior") else "Codes"
        title = f"{how} ({len(codes)} data of {self.split}) after epoch {epoch}"
        moments = zip(codes.mean(axis=0).tolist(), codes.std(axis=0).tolist(), strict=True)
        rows = [(k, mean, std) for k, (mean, std) in enumerate(moments)]
        table = Table("latent_moments", ("dimension", "mean", "standard_deviation"), rows)
        return Drawing(draw_latent_histogram(codes, title=title), table=table)
