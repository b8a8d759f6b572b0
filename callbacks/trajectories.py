"""How noise becomes data."""

from pytorch_lightning import LightningModule, Trainer

from pcgen.base import GenerativeModel
from pcgen.callbacks._picture import Drawing, Picture, at_least, plain, up_axis
from pcgen.errors import ConfigurationError
from pcgen.metrics import draw_trajectories
from pcgen.viz import chain_frames, draw_chains


class Trajectories(Picture):
    """Draws samples on their way from noise to data, from the same seed each time, as a grid and as a film.

    A row of `figures/trajectories.png` is a sample, a column the state after a share of the chain, from the noise to
    the sample. `figures/trajectories.gif` shows the chains side by side, with more states. The samples are those that
    `Samples` draws with the same seed and as many `num_samples`.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        num_samples: Chains.
        frames: Columns of the grid, the noise and the sample among them.
        film_frames: States that the film shows, at least as many as `frames`; 0 for no film.
        seed: Of the model's random numbers.
    """

    name = "trajectories"
    verbs = ("trajectory",)

    def __init__(
        self,
        every_n_epochs: int = 10,
        num_samples: int = 4,
        frames: int = 8,
        film_frames: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(every_n_epochs)
        at_least(1, num_samples=num_samples)
        at_least(2, frames=frames)
        at_least(0, seed=seed, film_frames=film_frames)
        if 0 < film_frames < frames:
            raise ConfigurationError(
                f"film_frames is {film_frames} and frames {frames}; give at least as many, or 0 for no film"
            )
        self.num_samples, self.frames, self.film_frames, self.seed = num_samples, frames, film_frames, seed

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw the chains."""
        assert isinstance(model, GenerativeModel)
        states = plain(draw_trajectories(model, self.num_samples, self.film_frames or self.frames, self.seed))
        axis, heading = up_axis(trainer), f"From noise to data after epoch {epoch}"
        image = draw_chains(states, columns=self.frames, up_axis=axis, heading=heading)
        film = chain_frames(states, up_axis=axis, heading=heading) if self.film_frames else []
        return Drawing(image, frames=film)
