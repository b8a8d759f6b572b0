"""What a reader of scores has to know beside the numbers: consequences of the sets that were compared."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pcgen.metrics.set_distances import SetDistances

FAR = 3.0  # sets of one kind of data differ less than this in size, once they are normalised alike


def remarks(
    generated: Tensor, reference: Tensor, distances: Mapping[str, SetDistances], values: Mapping[str, float]
) -> tuple[str, ...]:
    """List the consequences, each a sentence without a full stop.

    Args:
        generated: (S, N, 3).
        reference: (R, M, 3).
        distances: By short name.
        values: The scores, of which the shares outside JSD's ball are looked at.
    """
    found = [*_of_sizes(len(generated), len(reference)), *_of_scales(generated, reference)]
    for name, d in list(distances.items())[:1]:  # twins under one are twins under the others, as a rule
        found += _of_twins(name, d)
    for key, whose in (("share_outside_ball", "generated"), ("reference_share_outside_ball", "reference")):
        if values.get(key, 0) > 0:
            found.append(
                f"{values[key]:.2%} of the {whose} points lie outside the ball and are counted at its surface in JSD"
            )
    return tuple(found)


def _of_sizes(S: int, R: int) -> list[str]:
    found = []
    if S != R:
        ideal = (S * (S - 1) + R * (R - 1)) / ((S + R) * (S + R - 1))
        found.append(f"{S} generated and {R} reference clouds: equal distributions have a 1-NNA of {ideal:.1%}")
    if S < R:
        found.append(f"COV is at most {S / R:.1%}, since each of {S} generated clouds covers one of {R} references")
    if S == R == 1:
        found.append("one cloud on either side: 1-NNA is 0 and COV 1 whatever they are")
    return found


def _of_scales(generated: Tensor, reference: Tensor) -> list[str]:
    sizes = [x.double().square().sum(-1).mean().sqrt().item() for x in (generated.cpu(), reference.cpu())]
    if min(sizes) * FAR >= max(sizes):
        return []
    seen = f"{sizes[0]:.4g} from the origin (root mean square) and the reference's {sizes[1]:.4g}"
    return [f"the generated points are {seen}: the two sets do not seem to be normalised alike"]


def _of_twins(name: str, d: SetDistances) -> list[str]:
    found = []
    copies = int((d.sr.amin(dim=1) == 0).sum())
    if copies:
        found.append(f"{copies} of the {len(d.sr)} generated clouds are references (distance 0 under {name})")
    ties = "COV counts the first of equally near references, 1-NNA the chance of a fair draw among them"
    for matrix, whose in ((d.ss, "generated"), (d.rr, "reference")):
        others = matrix.masked_fill(torch.eye(len(matrix), dtype=torch.bool, device=matrix.device), torch.inf)
        twins = int((others == 0).any(dim=1).sum())
        if twins:
            found.append(f"{twins} of the {len(matrix)} {whose} clouds have a twin in their own set ({ties})")
    return found
