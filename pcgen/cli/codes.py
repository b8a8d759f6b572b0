"""The numbers of `pcgen latents`: what the codes of one model say."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pcgen.cli import common
from pcgen.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.base import GenerativeModel
    from pcgen.cli.modeldata import ModelData

MOST_CLASSES = 12  # different whole numbers of a factor that is taken for classes
HEADS = {
    "modularity": "modularity",
    "compactness": "compactness (DCI)",
    "informativeness": "informativeness (DCI)",
    "dci_disentanglement": "DCI disentanglement",
    "mutual_information_gap": "MIG",
    "sap": "SAP",
    "linear_informativeness": "linear R²",
}


@dataclass
class CodeScores:
    """What the codes of one model say.

    Attributes:
        model: Its class.
        num_data: K.
        latent_dim: Z.
        codes: (K, Z), drawn from the posterior where there is one.
        mean: Of all their coordinates.
        std: Of all their coordinates.
        mmd2: Kernel MMD² to N(0, I).
        mmd2_of_prior: Its standard deviation if the codes were draws of N(0, I); its mean is 0 then.
        active_units: Dimensions whose code varies.
        kl: Mean KL to the prior in nats, or None without a posterior.
        distance: "chamfer" or "mse".
        error: Mean of it over the data.
        factors: Scores with known factors by name.
        notes: What a reader has to know.
    """

    model: str
    num_data: int
    latent_dim: int
    codes: NDArray[np.float64]
    mean: float
    std: float
    mmd2: float
    mmd2_of_prior: float
    active_units: int
    kl: float | None
    distance: str
    error: float
    factors: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Give it as plain values, without the codes."""
        plain = {name: value for name, value in vars(self).items() if name != "codes"}
        return {**plain, "notes": list(self.notes)}

    def cells(self) -> dict[str, str]:
        """Give what a table shows, by its head."""
        found = {
            "model": self.model,
            "latent dimensions": str(self.latent_dim),
            "active units": str(self.active_units),
            "mean, std of codes": f"{self.mean:.3f}, {self.std:.3f}",
            "MMD² to N(0, I) ×10³ ↓": f"{1000 * self.mmd2:.3f}",
            "  of two samples of N(0, I)": f"0 ± {1000 * self.mmd2_of_prior:.3f}",
            **({} if self.kl is None else {"KL (nats)": f"{self.kl:.3f}"}),
            {"chamfer": "Chamfer ×10³ ↓", "mse": "mean squared error ×10³ ↓"}[
                self.distance
            ]: f"{1000 * self.error:.4g}",
        }
        return found | {f"{HEADS[name]} ↑": f"{value:.3f}" for name, value in self.factors.items()}


def score_codes(model: "GenerativeModel", data: "ModelData", n: int, seed: int, *, name: str) -> CodeScores:
    """Encode and decode at most n of the data, chosen at random, and measure.

    Raises:
        DataError: If there are fewer than two data, or a code is not finite.
    """
    from pcgen.latents import draw_codes, live_codes, relevance
    from pcgen.metrics import ActiveUnits, LatentMMD
    from pcgen.metrics.latent_prior import latent_mmd2_of_prior

    rows = common.random_rows(data.x, n, seed)
    x = data.x[rows]
    if len(x) < 2:
        raise DataError(f"{data.place} holds one datum; at least two codes are compared with the prior")
    drawn, means = draw_codes(model, x, seed=seed).cpu(), model.encode(x).cpu()
    mmd, active = LatentMMD(seed=seed), ActiveUnits()
    mmd.update(drawn)
    active.update(means)
    K, Z = drawn.shape
    distance, error = _error(model, x, name)
    factors, notes = _factor_scores(
        live_codes(model, x).cpu(), None if data.factors is None else data.factors[rows], data, seed
    )
    return CodeScores(
        type(model).__name__, K, Z, drawn.double().numpy(), drawn.double().mean().item(),
        drawn.double().std(correction=0).item(), mmd.compute().item(), latent_mmd2_of_prior(K, Z).std,
        int(active.compute()), relevance(model, x)[0].sum().item() if model.can("posterior") else None,
        distance, error, factors, notes,
    )  # fmt: skip


def decoded_prior(model: "GenerativeModel", n: int, seed: int) -> NDArray[np.float32]:
    """Decode draws of N(0, I), whether or not the model says that this is its prior."""
    import torch

    from pcgen.cli.modeldata import as_images, is_images

    assert model.latent_dim is not None
    z = torch.randn(n, model.latent_dim, generator=torch.Generator().manual_seed(seed))
    made = model.decode(z)
    return as_images(made) if is_images(model) else made.float().cpu().numpy()


def _error(model: "GenerativeModel", x: "Tensor", name: str) -> tuple[str, float]:
    from pcgen.cli.reconstruct import reconstructions
    from pcgen.ops import chamfer_distance

    y = reconstructions(model, x, what=f"reconstructing ({name})")
    if x.ndim == 4:
        return "mse", (x - y).double().square().mean().item()
    return "chamfer", chamfer_distance(x, y).double().mean().item()


def _factor_scores(
    codes: "Tensor", factors: "Tensor | None", data: "ModelData", seed: int
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Score the codes against the factors that are known of every datum and vary."""
    from pcgen.metrics import LatentFactorScores

    if factors is None or not factors.shape[1]:
        return {}, ()
    names = data.factor_names or tuple(f"factor {k}" for k in range(factors.shape[1]))
    usable = [k for k in range(len(names)) if factors[:, k].isfinite().all() and factors[:, k].unique().numel() > 1]
    if not usable:
        return {}, ("no scores of factors: none is known of every datum and varies",)
    kept = factors[:, usable]
    classes = [_is_class(kept[:, k]) for k in range(len(usable))]
    metric = LatentFactorScores(discrete=classes, seed=seed)
    metric.update(codes, kept)
    try:
        values = {name: value.item() for name, value in metric.compute().items()}
    except DataError as error:
        return {}, (f"no scores of factors: {error}",)
    named = [f"{names[k]}{' (classes)' if flag else ''}" for k, flag in zip(usable, classes, strict=True)]
    left = [name for k, name in enumerate(names) if k not in usable]
    without = f"; left out, not known of every datum or constant: {', '.join(left)}" if left else ""
    return {name: values[name] for name in HEADS}, (f"factors: {', '.join(named)}{without}",)


def _is_class(values: "Tensor") -> bool:
    """Say whether a factor's values are a few whole numbers."""
    different = values.unique()
    return len(different) <= MOST_CLASSES and bool((different == different.round()).all())
