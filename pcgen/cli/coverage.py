"""What MMD and COV are made of, as a picture: clouds beside their nearest ones, and what nobody covers."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from pcgen.viz import Image

MOST = 8  # clouds in a row


def coverage_picture(generated: "Tensor", reference: "Tensor", d: "Tensor", up_axis: int, *, name: str) -> "Image":
    """Draw generated clouds above their nearest references, and references that COV misses above what comes nearest.

    Args:
        generated: (S, N, 3).
        reference: (R, M, 3).
        d: Distances (S, R) of generated to reference.
        up_axis: Which coordinate points up.
        name: Of the distance.

    Returns:
        (H, W, 3). The generated clouds are spread evenly from the nearest to the farthest; the references are those
        that the generated set comes least near to.
    """
    from pcgen.metrics.functional import covered_references
    from pcgen.viz import below

    d_s, nearest_r = d.min(dim=1)
    order = d_s.argsort()
    shown = order[np.linspace(0, len(order) - 1, min(MOST, len(order))).round().astype(int)]
    heading = f"from the nearest generated cloud to the farthest ({name})"
    labels = ("generated", "nearest reference")
    images = [_pairs(generated[shown], reference[nearest_r[shown]], d_s[shown], labels, heading, up_axis)]
    missed = (~covered_references(d)).nonzero()[:, 0]
    if len(missed):
        d_r, nearest_s = d.min(dim=0)
        shown = missed[d_r[missed].argsort(descending=True)][:MOST]
        heading = f"{len(missed)} of {len(reference)} references are covered by no generated cloud, such as"
        labels = ("not covered", "nearest generated")
        images.append(_pairs(reference[shown], generated[nearest_s[shown]], d_r[shown], labels, heading, up_axis))
    return below(images)


def _pairs(
    above: "Tensor", below: "Tensor", distances: "Tensor", labels: tuple[str, str], heading: str, up_axis: int
) -> "Image":
    """Draw pairs of clouds (K, N, 3) and (K, M, 3), both of a pair in the frame of both together."""
    from pcgen.viz import draw_rows

    rows = (above.numpy(), below.numpy())
    both = np.concatenate(rows, axis=1)
    titles = [f"{distance:.3g}" for distance in distances.tolist()]
    return draw_rows(rows, labels=labels, titles=titles, likes=(both, both), up_axis=up_axis, heading=heading)
