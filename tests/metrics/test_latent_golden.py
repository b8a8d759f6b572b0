"""Hand-made codes with known answers, held against every score of a latent code there is."""

import math

import pytest
import torch
from scipy.integrate import quad

from pcgen.metrics import ActiveUnits, LatentFactorScores, LatentMMD
from pcgen.metrics import functional as F


def normal(n, d, seed):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def factors_of_the_data():
    """Two independent normal factors, in all 8 images under signs and exchange: uncorrelated to the last bit."""
    a, b = normal(250, 2, 0).T
    images = [torch.stack(pair, 1) for p in (a, -a) for q in (b, -b) for pair in ((p, q), (q, p))]
    x = torch.cat(images)
    return x / x.std(0, correction=0)


FACTORS = factors_of_the_data()  # (2000, 2)
TURN = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64) / math.sqrt(2)
CODES = {
    "perfect": FACTORS.flip(1) * torch.tensor([1.0, -1.0]),
    "perfect and dead": torch.cat([FACTORS, torch.zeros(2000, 2)], 1),
    "rotated": FACTORS @ TURN,
    "duplicated": FACTORS.repeat(1, 2),
    "noise": normal(2000, 2, 1),
    "collapsed": torch.zeros(2000, 2),
}

# What each score should say. Duplicated: of four latents two, evenly, so compactness is 1 − log 2 / log 4.
GOLDEN = {
    #                           perfect  and dead  rotated  duplicated  noise  collapsed   tolerance
    "modularity":              (1,       1,        0,       1,          0,     0,          0.03),
    "mutual_information_gap":  (1,       1,        0,       0,          0,     0,          0.05),
    "compactness":             (1,       1,        0,       0.5,        0,     0,          0.06),
    "informativeness":         (1,       1,        1,       1,          0,     0,          0.06),
    "dci_disentanglement":     (1,       1,        0,       1,          0,     0,          0.03),
    "sap":                     (1,       1,        0,       0,          0,     0,          0.01),
    "linear_informativeness":  (1,       1,        1,       1,          0,     0,          0.01),
    "active_units":            (2,       2,        2,       4,          2,     0,          0),
}  # fmt: skip
COVARIANCE = {  # of the codes, from which their kernel distance to the prior follows
    "perfect": torch.eye(2),
    "perfect and dead": torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0])),
    "rotated": torch.eye(2),
    "duplicated": torch.eye(2).repeat(2, 2),
    "noise": torch.eye(2),
    "collapsed": torch.zeros(2, 2),
}


@pytest.fixture(scope="module")
def found():
    """Every score of every code."""
    return {name: _scores(codes.float()) for name, codes in CODES.items()}


def _scores(codes):
    units, scores = ActiveUnits(), LatentFactorScores()
    units.update(codes)
    scores.update(codes, FACTORS.float())
    values = scores.compute() | {"active_units": units.compute()}
    return {name: value.item() for name, value in values.items()}


@pytest.mark.parametrize("score", GOLDEN)
def test_golden(found, score):
    *expected, tolerance = GOLDEN[score]
    for (name, values), known in zip(found.items(), expected, strict=True):
        assert values[score] == pytest.approx(known, abs=tolerance), name


def test_the_table_is_complete(found):
    assert set(GOLDEN) == set(found["perfect"])


@pytest.mark.parametrize("name", CODES)
def test_golden_kernel_distance_to_the_prior(name):
    """1 / (1 + s) is the mean of exp(−t s) over t ~ Exp(1), and a normal law's mean of that is a determinant."""
    metric = LatentMMD()
    metric.update(CODES[name].float())
    cov, eye = COVARIANCE[name].double(), torch.eye(len(COVARIANCE[name])).double()
    spread = F.latent_mmd2_of_prior(2000, len(cov)).std

    def mean(of_difference):
        def weighted(t):
            return math.exp(-t) / math.sqrt(torch.linalg.det(eye + 2 * t * of_difference).item())

        return quad(weighted, 0, 60)[0]

    expected = mean(2 * cov) + mean(2 * eye) - 2 * mean(cov + eye)
    assert metric.compute().item() == pytest.approx(expected, abs=4 * spread + 0.08 * expected)
    assert (expected < 1e-9) == (name in ("perfect", "rotated", "noise"))
