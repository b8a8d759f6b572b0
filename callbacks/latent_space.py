"""Where the data lie among the codes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer

from pcgen.base import Batch, DataModule, GenerativeModel, in_chunks
from pcgen.callbacks._picture import Drawing, Picture, at_least, check_split, datamodule_of, plain
from pcgen.errors import ConfigurationError
from pcgen.viz import beside, draw_embedding, principal_components, tsne


class LatentSpace(Picture):
    """Draws the codes of data under PCA and t-SNE, coloured by class, or by a known factor where there are no classes.

    Args:
        every_n_epochs: Draw after every n-th epoch; 0 for the end of the training alone.
        num_points: Data to encode, at least 5; t-SNE takes about 2 seconds for 500.
        split: Of the datamodule.
        factor: Name of the factor to colour by, even if there are classes; None for the classes, else the first factor.
        perplexity: About how many neighbours count for t-SNE.
        seed: Of t-SNE's layout.
    """

    name = "latent_space"
    verbs = ("encode",)

    def __init__(
        self,
        every_n_epochs: int = 10,
        num_points: int = 500,
        split: str = "val",
        *,
        factor: str | None = None,
        perplexity: float = 30.0,
        seed: int = 0,
    ) -> None:
        super().__init__(every_n_epochs)
        at_least(5, num_points=num_points)
        if perplexity < 1:
            raise ConfigurationError(f"perplexity is {perplexity}; give at least 1")
        self.num_points, self.split, self.factor = num_points, split, factor
        self.perplexity, self.seed = perplexity, seed

    def unable(self, model: GenerativeModel) -> str | None:
        """Refuse codes that make no plane."""
        return (
            "has codes of one dimension, which make no plane (see LatentHistogram)" if model.latent_dim == 1 else None
        )

    def check(self, trainer: Trainer) -> None:
        """See that the split and the factor are there."""
        check_split(trainer, self, self.split, least=5)
        names = datamodule_of(trainer, self).factor_names
        if self.factor is not None and self.factor not in names:
            raise ConfigurationError(
                f"LatentSpace: the data have no factor {self.factor!r}; they have {', '.join(names) or 'none'}"
            )

    def draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> Drawing:
        """Draw the two planes side by side."""
        assert isinstance(model, GenerativeModel)
        datamodule = datamodule_of(trainer, self)
        batch = datamodule.take(self.split, self.num_points)
        codes = plain(in_chunks(model.encode, batch.x, model.chunk_size)).reshape(len(batch.x), -1)  # (K, Z)
        colors = self._colors(batch, datamodule)
        plane, share = principal_components(codes)
        axis_names = (f"first component ({share[0]:.0%})", f"second component ({share[1]:.0%})")
        pca = draw_embedding(plane, title=f"PCA ({self.split}, epoch {epoch})", axis_names=axis_names, **colors)
        layout = tsne(codes, perplexity=self.perplexity, seed=self.seed)
        return Drawing(beside([pca, draw_embedding(layout, title=f"t-SNE ({self.split}, epoch {epoch})", **colors)]))

    def _colors(self, batch: Batch, datamodule: DataModule) -> dict[str, Any]:
        if self.factor is None and batch.label is not None:
            labels: NDArray[np.int64] = batch.label.cpu().numpy()
            return {"labels": labels, "class_names": datamodule.class_names}
        if batch.factors is None:
            return {}
        names = datamodule.factor_names or tuple(f"factor {k}" for k in range(batch.factors.shape[1]))
        which = names.index(self.factor) if self.factor else 0
        return {"values": plain(batch.factors[:, which]), "value_name": names[which]}
