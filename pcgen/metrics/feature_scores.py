"""Fréchet and kernel distance of any number of sets of clouds to one reference, by a named extractor's features."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from pcgen.errors import ConfigurationError
from pcgen.metrics.kernel_distance import kernel_distance
from pcgen.metrics.moments import FeatureMoments
from pcgen.metrics.store import Store, Tensors, fingerprint

if TYPE_CHECKING:
    from pcgen.metrics.extractors import Extractor

NAMES = ("fpd", "kid")
LEAST = 2  # clouds that have a covariance


class ReferenceFeatures:
    """Scores of features against one reference, whose own features are computed once.

    Args:
        reference: Clouds (R, M, 3).
        extractor: The network; a name or file is looked up by `pcgen.metrics.extractors.extractor`.
        radius: Of the ball that the clouds are normalised to.
        up_axis: Of the clouds: 0, 1 or 2; None says that of the network's training.
        store: Where features are kept between runs; None for nowhere.

    Raises:
        ConfigurationError: If there is no such extractor, or it is of other data than clouds.
    """

    def __init__(
        self,
        reference: Tensor,
        extractor: "str | Path | Extractor",
        *,
        radius: float,
        up_axis: int | None = None,
        store: Store | None = None,
    ) -> None:
        from pcgen.metrics import extractors

        found = extractors.extractor(extractor) if isinstance(extractor, str | Path) else extractor
        if (kind := found.card["input"]["kind"]) != "clouds":
            raise ConfigurationError(f"extractor {found.name} takes {kind}; name one of clouds")
        self.extractor, self.radius, self.store = found, radius, store
        self.up_axis: int = found.card["input"]["up_axis"] if up_axis is None else up_axis
        self.features = self._features(reference)
        self._reach = self._reach_remark("reference", reference)

    @property
    def identity(self) -> str:
        """What a protocol says of the extractor: its name, the beginning of its hash, and the axis taken for up."""
        return f"{self.extractor.name}:{self.extractor.identity[:12]}, up {'xyz'[self.up_axis]}"

    def score(self, generated: Tensor) -> tuple[dict[str, float], tuple[str, ...]]:
        """Give `fpd` and `kid`, and what a reader has to know of them.

        `kid` is the unbiased estimate from all clouds and may be negative. Both are left out, with a remark, where a
        set has one cloud.

        Args:
            generated: Clouds (S, N, 3).
        """
        features = self._features(generated)
        name, fewest = self.extractor.name, min(len(features), len(self.features))
        if fewest < LEAST:
            return {}, (f"no FPD and KID by {name}: they want at least {LEAST} clouds on either side",)
        sides = [FeatureMoments.of(x, extractor=self.extractor.identity) for x in (features, self.features)]
        values = {
            "fpd": sides[0].frechet_distance(sides[1]).item(),
            "kid": kernel_distance(features, self.features, subsets=0).value.item(),
        }
        said = tuple(filter(None, (self._reach_remark("generated", generated), self._reach)))
        if fewest > self.extractor.num_features:
            return values, said
        ranks = " and ".join(f"rank {side.rank} of {side.count} clouds" for side in sides)
        remark = (
            f"FPD from fewer clouds than the {self.extractor.num_features} features ({ranks}): the covariance is "
            "singular and the distance biased upwards; compare it with FPD of as many clouds alone"
        )
        return values, (*said, remark)

    def _reach_remark(self, whose: str, clouds: Tensor) -> str:
        from pcgen.metrics.extractors import reach_remark

        said = reach_remark(clouds, self.radius, self.extractor.name)
        return f"FPD and KID of the {whose} clouds: {said}" if said else ""

    def _features(self, clouds: Tensor) -> Tensor:
        how = {"radius": self.radius, "up_axis": self.up_axis, "device": clouds.device.type}
        key = {"features": self.extractor.identity, **how, "clouds": fingerprint(clouds)}
        shape = (len(clouds), self.extractor.num_features)

        def right(tensors: Tensors) -> bool:
            return "x" in tensors and tensors["x"].shape == shape

        kept = self.store.get(key, right) if self.store is not None else None
        if kept is not None:
            return kept["x"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the clouds reach")  # a remark says so, of kept features too
            x = self.extractor.features(clouds, radius=self.radius, up_axis=self.up_axis).cpu()
        if self.store is not None:
            self.store.put(key, {"x": x})
        return x
