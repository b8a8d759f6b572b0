"""What the latent dimensions of a model carry."""

import warnings
from collections.abc import Sequence
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
from pcgen.metrics.factors import Discrete, check_shapes, constant_factors, require_varying
from pcgen.metrics.latent_prior import ACTIVE_KL, ACTIVE_VARIANCE, WAE_KERNEL, active_units, check_codes, latent_mmd2
from pcgen.metrics.means import MeanOverData
from pcgen.metrics.mutual_information import modularity, mutual_information_gap
from pcgen.metrics.rows import RowSets
from pcgen.ops.kernels import Kernel


class KLPerDimension(MeanOverData):
    """Mean over the data of KL(q(z_k | x) ‖ p(z_k)) for each latent dimension k, in nats.

    A dimension is *active by its KL* if the mean is above `ACTIVE` (`active_units_by_kl` counts them); the others are
    ignored by the decoder. `ActiveUnits` counts by the variance of the code, as the literature does.

    Args:
        size: Z.
    """

    ACTIVE: ClassVar[float] = ACTIVE_KL

    def update(self, kl: Tensor) -> None:  # type: ignore[override]  # the data themselves, not their means
        """Add the KL of each datum and dimension, (B, Z)."""
        super().update(kl.mean(0), len(kl))


class _Codes(RowSets):
    """Keeps codes (n, d) in float32; every rank may have seen another number of them, or none."""

    width: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_rows("codes")
        self.add_state("width", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="max")

    def update(self, codes: Tensor) -> None:
        """Add codes (B, d)."""
        check_codes(codes)
        if self.width and codes.shape[1] != self.width:
            raise DataError(
                f"codes of {codes.shape[1]} latents after codes of {int(self.width)}: give those of one model"
            )
        self.width = torch.tensor(codes.shape[1], device=self.device)
        self.append_rows("codes", codes)

    def all_codes(self) -> Tensor:
        """Give what was added (n, d)."""
        return self.rows("codes", max(1, int(self.width)))


class LatentMMD(_Codes):
    """Kernel MMD² of the codes to a sample of the prior N(0, I) of the same size; see `functional.latent_mmd2`.

    `compute` gives a scalar in float64. The codes are kept in float32; neither their order nor the number of processes
    shows, to the last bit. `functional.latent_mmd2_of_prior(n, d)` says what n codes that follow the prior would give.

    Args:
        kernel: See `pcgen.ops.kernel_mmd2`; the default is 1 / (1 + ‖x − y‖²).
        unbiased: Take the U-statistic, whose mean is 0 for codes that follow the prior; the V-statistic otherwise.
        seed: Of the prior's sample.
        kwargs: Of every `torchmetrics.Metric`.
    """

    def __init__(self, *, kernel: Kernel = WAE_KERNEL, unbiased: bool = True, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel, self.unbiased, self.seed = kernel, unbiased, seed

    def compute(self) -> Tensor:
        """Give the statistic.

        Raises:
            DataError: If there are fewer than two codes.
        """
        return latent_mmd2(self.all_codes(), kernel=self.kernel, unbiased=self.unbiased, seed=self.seed)


class ActiveUnits(_Codes):
    """Number of latents whose code varies over the data, Var_x(E[z_k | x]) > threshold; see `functional.active_units`.

    Burda, Grosse, Salakhutdinov 2016. Not the count by the KL, of which `KLPerDimension` gives the terms. `compute`
    gives a scalar int64; neither the order of the codes nor the number of processes shows.

    Args:
        threshold: Of the variance, in units of a prior of variance 1.
        kwargs: Of every `torchmetrics.Metric`.
    """

    def __init__(self, *, threshold: float = ACTIVE_VARIANCE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold

    def compute(self) -> Tensor:
        """Give the number.

        Raises:
            DataError: If there are fewer than two codes.
        """
        return active_units(self.all_codes(), threshold=self.threshold)


class LatentFactorScores(RowSets):
    """Modularity, compactness, informativeness and their kin of a latent code, with known factors.

    `compute` gives a dictionary: `modularity`, `mutual_information_gap` (both by mutual information), `compactness`,
    `informativeness`, `dci_disentanglement` (by a regressor), `sap` and `linear_informativeness`; see
    `pcgen.metrics.functional` for what they are. Codes and factors are kept in float32; neither the order of the data
    nor the number of processes shows, to the last bit. Dead latents, a single latent and a single factor give numbers
    (of a single latent the second best is 0).

    Attributes:
        left_out: Names of the factors that were constant over the data at the last `compute` and so were left out.

    Args:
        factor_names: Of the k factors, for messages; without, "factor 0" and so on.
        discrete: Whether the factors' values are classes; one for all, or one for each.
        bins: For the mutual information.
        estimator: Of DCI: "boosting" or "lasso".
        seed: Of the held-out data.
        kwargs: Of every `torchmetrics.Metric`.

    Warns:
        UserWarning: Once, with the names, if factors were left out.
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
    left_out: tuple[str, ...]

    def __init__(
        self,
        *,
        factor_names: Sequence[str] = (),
        discrete: Discrete = False,
        bins: int = 20,
        estimator: Estimator = "boosting",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.factor_names, self.left_out, self._warned = tuple(factor_names), (), False
        self.discrete, self.bins, self.estimator, self.seed = discrete, bins, estimator, seed
        self.add_rows("pairs")  # codes and factors side by side
        self.add_state("widths", default=torch.zeros(2, dtype=torch.int64), dist_reduce_fx="max")

    def update(self, codes: Tensor, factors: Tensor) -> None:
        """Add codes (B, d) and their data's factors (B, k)."""
        check_shapes(codes, factors)
        if self.factor_names and len(self.factor_names) != factors.shape[1]:
            raise DataError(f"{factors.shape[1]} factors came, but factor_names has {len(self.factor_names)}")
        widths = torch.tensor([codes.shape[1], factors.shape[1]], device=self.device)
        if self.widths.any() and not torch.equal(widths, self.widths):
            raise DataError(f"codes and factors are {widths.tolist()} wide after {self.widths.tolist()}")
        self.widths = widths
        self.append_rows("pairs", torch.cat([codes.float(), factors.to(codes.device).float()], 1))

    def compute(self) -> dict[str, Tensor]:
        """Give the scores by name, scalars in float64.

        Raises:
            DataError: If there are fewer than 20 data, not more than latents + 1, a value is not finite, or every
                factor is constant.
        """
        d, k = self.widths.tolist()
        if not d:
            raise DataError("scores of no codes were asked for; update with codes and factors first")
        pairs = self.rows("pairs", d + k)
        codes, factors = pairs[:, :d], pairs[:, d:]
        self._tell_left_out(factors)
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

    def _tell_left_out(self, factors: Tensor) -> None:
        require_varying(factors, self.factor_names)
        self.left_out = tuple(constant_factors(factors, self.factor_names))
        if self.left_out and not self._warned:
            self._warned = True
            said = (
                f"scores of a code leave out what is constant over the {len(factors)} data: {', '.join(self.left_out)}"
            )
            warnings.warn(said, stacklevel=3)
