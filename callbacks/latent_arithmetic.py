"""Sums and differences of codes."""

import math

from pytorch_lightning import LightningModule, Trainer

from pcgen.base import Batch, GenerativeModel
from pcgen.callbacks._picture import Drawing, Picture, at_least, check_split, datamodule_of, plain, up_axis
from pcgen.errors import ConfigurationError
from pcgen.latents import latent_arithmetic, parse_selector
from pcgen.viz import draw_arithmetic


class LatentArithmetic(Picture):
    """Draws data after the difference between two mean codes was added to theirs.

    A row for each datum, a column for each scale s of z(datum) + s (mean z(plus) − mean z(minus)). Data are chosen by
    class (`chair`), by a factor (`leg_height>0.5`, `has_arm=1`), by its upper or lower quartile (`leg_height:high`,
    `leg_height:low`), or by several of these joined with `&`; see `pcgen.latents.parse_selector`.

    Args:
        start: Which data to start from.
        plus: Which data have what is added.
        minus: Which data lack it.
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        scales: Of the difference; 0 is the reconstruction.
        num_rows: Data to start from, at most.
        split: Of the datamodule.
        num_reference: Fixed data of the split among which all three are chosen.
    """

    name = "latent_arithmetic"
    verbs = ("encode", "decode")

    def __init__(
        self,
        start: str,
        plus: str,
        minus: str,
        every_n_epochs: int = 10,
        scales: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5),
        num_rows: int = 4,
        split: str = "val",
        num_reference: int = 1000,
    ) -> None:
        super().__init__(every_n_epochs)
        at_least(1, num_rows=num_rows, num_reference=num_reference)
        if not len(scales) or not all(math.isfinite(s) for s in scales):
            raise ConfigurationError(f"scales are {list(scales)}; give at least one finite number")
        self.start, self.plus, self.minus, self.scales = start, plus, minus, tuple(scales)
        self.num_rows, self.split, self.num_reference = num_rows, split, num_reference

    def check(self, trainer: Trainer) -> None:
        """See that there are such classes and factors, and such data."""
        check_split(trainer, self, self.split)
        self._choose(trainer)

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw the sums."""
        assert isinstance(model, GenerativeModel)
        start, plus, minus = (batch.x for batch in self._choose(trainer))
        start = start[: self.num_rows]
        made = latent_arithmetic(model, start, plus, minus, scales=self.scales)  # (S, B, …)
        heading = f"{self.start} + ({self.plus}) − ({self.minus}), {self.split}, after epoch {epoch}"
        return Drawing(
            draw_arithmetic(plain(made), plain(start), self.scales, up_axis=up_axis(trainer), heading=heading)
        )

    def _choose(self, trainer: Trainer) -> list[Batch]:
        datamodule = datamodule_of(trainer, self)
        batch = datamodule.take(self.split, self.num_reference)
        chosen = []
        for text in (self.start, self.plus, self.minus):
            selector = parse_selector(text, datamodule.class_names, datamodule.factor_names)
            rows = selector.rows(batch, source=f"split {self.split!r}")
            chosen.append(Batch(batch.x[rows]))
        return chosen
