"""What a model of energies thinks odd: energies of data, samples, noise and foreign classes."""

from collections.abc import Iterator

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
    several,
    up_axis,
)
from pcgen.errors import ConfigurationError
from pcgen.metrics.chains import samples_and_noise
from pcgen.metrics.energies import (
    OWN_SETS,
    auroc_notes,
    energies_of,
    margin_of,
    summarize_energies,
    summary_rows,
)
from pcgen.metrics.foreign import foreign_data
from pcgen.viz import draw_energies

ALL = "all"


class Energies(Picture):
    """Draws histograms of the energies of data, of samples, of foreign classes and of noise, with the oddest of each.

    The sets are: data of a split, training data, samples of a model that can sample, one for each foreign class, from
    the same source and normalised as the training data are, and, of a model that makes data step by step, the noise
    that its samples began with. A model of the data gives its own low energies and foreign ones high ones:
    `energy/auroc_<set>` is the chance that one of the set has a higher energy than one of the split's data. Near 1 is
    good for a foreign class and for noise, near 0.5 for samples; for the training data less than 0.5 says that the
    model knows them by heart. All numbers are in `energies.csv` in the run's folder.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        num_data: Data, samples and data of each foreign class; as many as there are if there are fewer.
        split: Of the datamodule, for the data and the foreign classes.
        foreign: Names of classes that the model is not trained on, or `["all"]` for every other class of the source;
            None for none. They are read once, before the training.
        seed: Chooses the data, and is that of the samples.
        num_shown: Data that are drawn at each end of a set.
    """

    name = "energies"
    verbs = ("energy",)

    def __init__(
        self,
        every_n_epochs: int = 10,
        num_data: int = 200,
        split: str = "val",
        foreign: list[str] | None = None,
        seed: int = 0,
        num_shown: int = 4,
    ) -> None:
        super().__init__(every_n_epochs)
        at_least(1, num_data=num_data, num_shown=num_shown)
        at_least(0, seed=seed)
        self.num_data, self.split, self.seed, self.num_shown = num_data, split, seed, num_shown
        self.foreign = None if foreign is None else list(several("foreign", foreign))
        self._foreign: dict[str, Tensor] = {}

    def check(self, trainer: Trainer) -> None:
        """See that the splits are there, and read the foreign classes."""
        check_split(trainer, self, self.split)
        self._foreign = {}
        if self.foreign is None:
            return
        classes = None if self.foreign == [ALL] else self.foreign
        info = datamodule_of(trainer, self).info()
        try:  # the datamodule's class runs here already, so it is trusted
            found = foreign_data(info, classes, self.split, self.num_data, seed=self.seed, trust=True)
        except ConfigurationError as error:
            raise ConfigurationError(f"Energies: {error}") from error
        self._foreign = {name: data.x for name, data in found.items()}

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw a row for each set."""
        assert isinstance(model, GenerativeModel)
        sets = dict(self._sets(trainer, model))
        energies = {name: energies_of(model, x).numpy() for name, x in sets.items()}
        found = summarize_energies(energies)
        image = draw_energies(
            energies,
            {name: plain(x) for name, x in sets.items()},
            notes=auroc_notes(found),
            margin=margin_of(model),
            num_shown=self.num_shown,
            up_axis=up_axis(trainer),
            title=f"Energies after epoch {epoch}",
        )
        numbers = {f"energy/auroc_{name}": s.auroc for name, s in found.items() if s.auroc is not None}
        return Drawing(image, table=Table("energies", *summary_rows(found)), numbers=numbers)

    def _sets(self, trainer: Trainer, model: GenerativeModel) -> Iterator[tuple[str, Tensor]]:
        datamodule = datamodule_of(trainer, self)
        for split in dict.fromkeys((self.split, "train")):
            yield split, datamodule.take(split, self.num_data, seed=self.seed).x
        drawn = samples_and_noise(model, self.num_data, self.seed)
        if "samples" in drawn:
            yield "samples", drawn["samples"]
        for name, x in self._foreign.items():
            yield (f"class {name}" if name in (self.split, *OWN_SETS) else name), x
        if "noise" in drawn:
            yield "noise", drawn["noise"]
