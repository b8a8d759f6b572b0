"""What is said beside the numbers, and that nothing is said without a reason."""

import pytest
import torch

from pcgen.metrics import evaluate_sets
from pcgen.metrics import functional as F
from pcgen.ops import pairwise_chamfer_distance


def clouds(n, seed, points=24):
    x = torch.randn(n, points, 3, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=-1, keepdim=True)


def said(s, r, **how):
    return evaluate_sets(s, r, draws=0, allow_unequal=True, **how).remarks


def test_nothing_is_said_of_sound_sets():
    assert said(clouds(6, 0), clouds(6, 1)) == ()


@pytest.mark.parametrize(("S", "R"), [(3, 6), (6, 3), (1, 9)])
def test_unequal_sets_are_told_what_is_ideal(S, R):
    first, *rest = said(clouds(S, 0), clouds(R, 1))
    # the chance that the nearest of S + R − 1 exchangeable others is of one's own set, by counting them
    ideal = sum([(S - 1) / (S + R - 1)] * S + [(R - 1) / (S + R - 1)] * R) / (S + R)
    assert first == f"{S} generated and {R} reference clouds: equal distributions have a 1-NNA of {ideal:.1%}"
    assert rest == (
        [f"COV is at most {S / R:.1%}, since each of {S} generated clouds covers one of {R} references"] * (S < R)
    )
    assert F.coverage(torch.rand(S, R)).item() <= S / R


def test_one_cloud_on_either_side():
    assert said(clouds(1, 0), clouds(1, 1)) == ("one cloud on either side: 1-NNA is 0 and COV 1 whatever they are",)
    assert evaluate_sets(clouds(1, 0), clouds(1, 1), draws=0).values["1nna_cd"] == 0


def test_twins_are_counted_whatever_the_order_of_their_points():
    s, r = clouds(6, 0), clouds(6, 1)
    s[1] = s[0].flip(0)
    s[5] = r[2].roll(3, 0)
    r[3] = r[2]
    lines = said(s, r)
    assert lines[0] == "1 of the 6 generated clouds are references (distance 0 under cd)"
    assert lines[1].startswith("2 of the 6 generated clouds have a twin in their own set (COV counts the first of")
    assert lines[2].startswith("2 of the 6 reference clouds have a twin")
    assert len(lines) == 3


def test_ties_are_decided_as_the_remark_says():
    r = clouds(4, 0)
    r[2] = r[1]
    s = torch.stack([r[1], r[1], r[0], r[3]])
    values = evaluate_sets(s, r, draws=0).values
    assert values["cov_cd"] == 3 / 4  # references 0, 3, and the first of 1 and 2
    # clouds 0 and 1 of s and 1 and 2 of r coincide: each has one twin of its own set and two of the other; the other
    # four have one twin, of the other set
    assert values["1nna_cd"] == pytest.approx(4 * (1 / 3) / 8)


def test_sizes_that_cannot_be_of_one_normalisation():
    r = clouds(4, 1)
    (line,) = said(10 * clouds(4, 0), r, radius=None)
    assert "generated points are 10 from the origin" in line
    assert "reference's 1:" in line
    assert said(2 * clouds(4, 0), r, radius=None) == ()


def test_points_outside_the_ball():
    s, r = 0.9 * clouds(4, 0), 0.9 * clouds(4, 1)
    s[0, :12] *= 2
    assert said(s, r) == ("12.50% of the generated points lie outside the ball and are counted at its surface in JSD",)
    assert said(r, s) == ("12.50% of the reference points lie outside the ball and are counted at its surface in JSD",)


def test_remarks_travel_with_the_scores():
    from pcgen.metrics import Scores

    scores = evaluate_sets(clouds(1, 0), clouds(2, 1), draws=0, allow_unequal=True)
    assert Scores.from_json(scores.to_json()).remarks == scores.remarks
    assert len(scores.remarks) == 2
    assert pairwise_chamfer_distance(clouds(1, 0), clouds(2, 1)).shape == (1, 2)
