"""What the latent dimensions of a model carry."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from pcgen.errors import DataError
from pcgen.metrics.disentanglement import (
    Estimator,
    dci,
    linear_informativeness,
    separated_attribute_predictability,
)
from pcgen.metrics.factors import Discrete
from pcgen.metrics.means import MeanOverData
from pcgen.metrics.mutual_information import modularity, mutual_information_gap
from pcgen.metrics.rows import RowSets


class KLPerDimension(MeanOverData):
    """Mean over the data of KL(q(z_k | x) ‖ p(z_k)) for each latent dimension k, in nats.

    A dimension is *active* if its mean KL is above `ACTIVE`; the others are ignored by the decoder.

    Args:
        size: Z.
    """

    ACTIVE: ClassVar[float] = 0.01

    def update(self, kl: Tensor) -> None:  # type: ignore[override]  # the data themselves, not their means
        """Add the KL of each datum and dimension, (B, Z)."""
        super().update(kl.mean(0), len(kl))


class LatentFactorScores(RowSets):
    """Modularity, compactness, informativeness and their kin of a latent code, with known factors.

    `compute` gives a dictionary: `modularity`, `mutual_information_gap` (both by mutual information), `compactness`,
    `informativeness`, `dci_disentanglement` (by a regressor), `sap` and `linear_informativeness`; see
    `pcgen.metrics.functional` for what they are. Codes and factors are kept in float32; neither the order of the data
    nor the number of processes shows, to the last bit.

    Args:
        discrete: Whether the factors' values are classes; one for all, or one for each.
        bins: For the mutual information.
        estimator: Of DCI: "boosting" or "lasso".
        seed: Of the held-out data.
        kwargs: Of every `torchmetrics.Metric`.
    """

    names: ClassVar[list[str]] = [
        "modularity",
        "compactness",
        "informativeness",
        "mutual_information_gap",
        "dci_disentanglement",
        "sap",
        "linear_informativeness",
    ]
    widths: Tensor

    def __init__(
        self,
        *,
        discrete: Discrete = False,
        bins: int = 20,
        estimator: Estimator = "boosting",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.discrete, self.bins, self.estimator, self.seed = discrete, bins, estimator, seed
        self.add_rows("pairs")  # codes and factors side by side
        self.add_state("widths", default=torch.zeros(2, dtype=torch.int64), dist_reduce_fx="max")

    def update(self, codes: Tensor, factors: Tensor) -> None:
        """Add codes (B, d) and their data's factors (B, k)."""
        if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
            raise DataError(f"codes {tuple(codes.shape)} and factors {tuple(factors.shape)} are not (B, d) and (B, k)")
        widths = torch.tensor([codes.shape[1], factors.shape[1]], device=self.device)
        if self.widths.any() and not torch.equal(widths, self.widths):
            raise DataError(f"codes and factors are {widths.tolist()} wide after {self.widths.tolist()}")
        self.widths = widths
        self.append_rows("pairs", torch.cat([codes.float(), factors.to(codes.device).float()], 1))

    def compute(self) -> dict[str, Tensor]:
        """Give the scores by name, scalars in float64.

        Raises:
            DataError: If there are fewer than 20 data, not more than latents + 1, or a value is not finite.
        """
        d, k = self.widths.tolist()
        if not d:
            raise DataError("scores of no codes were asked for; update with codes and factors first")
        pairs = self.rows("pairs", d + k)
        codes, factors = pairs[:, :d], pairs[:, d:]
        found = dci(codes, factors, discrete=self.discrete, estimator=self.estimator, seed=self.seed)
        values = (
            modularity(codes, factors, discrete=self.discrete, bins=self.bins),
            found.completeness,
            found.informativeness,
            mutual_information_gap(codes, factors, discrete=self.discrete, bins=self.bins),
            found.disentanglement,
            separated_attribute_predictability(codes, factors, discrete=self.discrete, seed=self.seed),
            linear_informativeness(codes, factors),
        )
        return dict(zip(self.names, values, strict=True))
