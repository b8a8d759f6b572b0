"""Golden sets under every distance: which side is which, worked by hand, from the clouds to the scores."""

import pytest
import torch

from pcgen.metrics import DISTANCES, GenerationScores, evaluate_sets
from pcgen.metrics import functional as F

# Every cloud is the same pair of points, moved along an axis. All distances are then functions of the shift |a − b|:
#             r0 .04  r1 .32  r2 .35  r3 .60
#   g0 .00     .04     .32     .35     .60      nearest reference r0
#   g1 .10     .06     .22     .25     .50      nearest reference r0
#   g2 .50     .46     .18     .15     .10      nearest reference r3
GENERATED, REFERENCE = (0.0, 0.1, 0.5), (0.04, 0.32, 0.35, 0.6)
NEAREST_TO_REFERENCES = (0.04, 0.18, 0.15, 0.1)  # MMD is the mean of these
NEAREST_TO_GENERATED = (0.04, 0.06, 0.1)  # … of these with the sides swapped
COVERED, COVERED_SWAPPED = 2 / 4, 2 / 3  # r0 and r3; with the sides swapped g0 and g2
# On the line g .00, r .04, g .10, r .32, r .35, g .50, r .60 only r1 and r2 stand nearest to one of their own.
AGREEMENT = 2 / 7

OF_SHIFT = {
    "cd": lambda shift: 2 * shift**2,  # squared, both directions added
    "emd": lambda shift: shift,
    "emd_squared": lambda shift: shift**2,
}


def clouds(places):
    pair = torch.tensor([[0.0, 0.4, 0.0], [0.0, -0.4, 0.0]])
    return torch.stack([pair + torch.tensor([place - 0.3, 0.0, 0.0]) for place in places])


@pytest.fixture(params=list(DISTANCES))
def name(request):
    assert request.param in OF_SHIFT, "work out what this distance of two shifted clouds is, above"
    return request.param


def mean(shifts, name):
    return sum(map(OF_SHIFT[name], shifts)) / len(shifts)


def test_the_matrix_has_generated_rows(name):
    d = DISTANCES[name].pairwise(clouds(GENERATED), clouds(REFERENCE))
    expected = [[OF_SHIFT[name](abs(g - r)) for r in REFERENCE] for g in GENERATED]
    torch.testing.assert_close(d.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-6)
    assert F.minimum_matching_distance(d).item() == pytest.approx(mean(NEAREST_TO_REFERENCES, name), rel=1e-5)
    assert F.minimum_matching_distance(d.T).item() == pytest.approx(mean(NEAREST_TO_GENERATED, name), rel=1e-5)
    assert F.coverage(d).item() == COVERED
    assert F.coverage(d.T).item() == COVERED_SWAPPED


def test_evaluation_and_metric(name):
    g, r = clouds(GENERATED), clouds(REFERENCE)
    how = {"distances": (name,), "allow_unequal": True}
    both = evaluate_sets(g, r, both_orientations=True, draws=0, **how).values
    metric = GenerationScores(**how)
    metric.update(reference=r)
    metric.update(generated=g)
    for values in (both, {key: value.item() for key, value in metric.compute().items()}):
        assert values[f"mmd_{name}"] == pytest.approx(mean(NEAREST_TO_REFERENCES, name), rel=1e-5)
        assert values[f"cov_{name}"] == COVERED
        assert values[f"1nna_{name}"] == pytest.approx(AGREEMENT, rel=1e-12)
    assert both[f"mmd_{name}_swapped"] == pytest.approx(mean(NEAREST_TO_GENERATED, name), rel=1e-5)
    assert both[f"cov_{name}_swapped"] == pytest.approx(COVERED_SWAPPED, rel=1e-12)


def test_the_two_orientations_are_told_apart(name):
    assert mean(NEAREST_TO_REFERENCES, name) > 1.2 * mean(NEAREST_TO_GENERATED, name)
    assert COVERED != COVERED_SWAPPED
