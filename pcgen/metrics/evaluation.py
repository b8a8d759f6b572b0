"""A whole evaluation of a set of clouds against a reference, without a trainer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pcgen.metrics.evaluator import Progress, SetEvaluator
from pcgen.metrics.scores import Scores
from pcgen.metrics.store import Store

if TYPE_CHECKING:
    from pcgen.metrics.extractors import Extractor

__all__ = ["SetEvaluator", "evaluate_sets"]


def evaluate_sets(
    generated: Tensor,
    reference: Tensor,
    *,
    oracle: Tensor | None = None,
    data: str = "",
    split: str = "",
    normalization: Mapping[str, Any] | None = None,
    chunk: int | None = None,
    distances: Sequence[str] = ("cd",),
    radius: float | None = 1.0,
    resolution: int = 28,
    allow_unequal: bool = False,
    both_orientations: bool = False,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
    extractor: "str | Extractor | None" = None,
    up_axis: int | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score generated clouds against a reference: MMD, COV, 1-NNA under each distance, and JSD.

    The work is done on the device of the reference; the clouds are taken as they are, so both sets and the oracle
    must be normalised alike.

    Args:
        generated: (S, N, 3).
        reference: (R, M, 3).
        oracle: Random training clouds, as many as generated; their scores stand beside the model's.
        data: Name of the reference, for the protocol.
        split: Its split, for the protocol.
        normalization: What was applied to the data, for the protocol.
        chunk: Samples drawn at once, for the protocol; None if they came from a file.
        distances: Short names; see `DISTANCES`.
        radius: Of the ball that the data are normalised to (`ball_radius` reads it off a normalisation); None leaves
            the Jensen-Shannon divergence out.
        resolution: Its grid's centres on an axis.
        allow_unequal: Take S ≠ R, where equal distributions give another 1-NNA than 50 %; a remark says which.
        both_orientations: Add MMD and COV with the two sets swapped.
        level: Of the confidence intervals.
        draws: Of the bootstrap; 0 for no intervals.
        seed: Of the bootstrap, and for the protocol that of the samples.
        extractor: Name, file or object of the network whose features give `fpd` and `kid`; None leaves them out.
        up_axis: Of the clouds, for the extractor; None says that of its training.
        store: Keeps matrices of distances and features between runs; None for no such.
        progress: Called with the work done and to do, about proportional to the time.

    Returns:
        The scores with their protocol.

    Raises:
        DataError: If a set is empty, of another shape, or holds NaN or infinity.
        ConfigurationError: If the numbers of clouds differ (unless allowed), or an argument is out of range.

    >>> reference = torch.rand(6, 50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    >>> scores = evaluate_sets(reference.flip(0), reference, draws=0)
    >>> scores.values["mmd_cd"], scores.values["cov_cd"], scores.values["1nna_cd"]
    (0.0, 1.0, 0.0)
    >>> scores.remarks
    ('6 of the 6 generated clouds are references (distance 0 under cd)',)
    """
    evaluator = SetEvaluator(
        reference, distances=distances, radius=radius, resolution=resolution, allow_unequal=allow_unequal,
        both_orientations=both_orientations, level=level, draws=draws, seed=seed,
        extractor=extractor, up_axis=up_axis, store=store,
    )  # fmt: skip
    plain = dict(normalization or {})
    return evaluator.result(
        generated, oracle=oracle, progress=progress, data=data, split=split, normalization=plain, chunk=chunk
    )
