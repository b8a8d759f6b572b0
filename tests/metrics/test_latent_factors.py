"""Scores of a latent code: hand-made codes with known answers, scikit-learn, loops, and what is dead or single."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import LatentFactorScores
from pcgen.metrics import functional as F

SCORES = {
    "modularity": F.modularity,
    "mutual_information_gap": F.mutual_information_gap,
    "compactness": lambda *a, **k: F.compactness(*a, estimator="lasso", **k),
    "informativeness": lambda *a, **k: F.informativeness(*a, estimator="lasso", **k),
    "dci_disentanglement": lambda *a, **k: F.dci(*a, estimator="lasso", **k).disentanglement,
    "sap": F.separated_attribute_predictability,
}


def uniform(n, k, seed=0):
    return torch.rand(n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def turned(factors, degrees=45.0):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return factors @ torch.tensor([[c, s], [-s, c]], dtype=factors.dtype)


def scores(codes, factors, **options):
    found = F.dci(codes, factors, estimator="lasso", **options)
    regressed = {
        "compactness": found.completeness,
        "informativeness": found.informativeness,
        "dci_disentanglement": found.disentanglement,
    }
    others = ("modularity", "mutual_information_gap", "sap")
    values = regressed | {name: SCORES[name](codes, factors, **options) for name in others}
    return {name: value.item() for name, value in values.items()}


# Golden codes


def test_a_perfect_code_permuted_stretched_and_with_dead_latents():
    factors = uniform(1500, 3)
    codes = torch.cat([factors[:, [2, 0, 1]] * torch.tensor([5.0, -1.0, 0.01]), torch.ones(1500, 2)], 1)
    for name, value in scores(codes, factors).items():
        assert value > 0.9, name
    assert F.linear_informativeness(codes, factors).item() == pytest.approx(1, abs=1e-12)


def test_a_perfect_code_of_a_full_grid_scores_one_by_hand():
    factors = torch.cartesian_prod(*[torch.arange(8.0)] * 3)
    codes = factors[:, [1, 2, 0]] ** 3
    for discrete in (False, True):
        assert F.modularity(codes, factors, bins=512, discrete=discrete).item() == pytest.approx(1, abs=1e-12)
        assert F.mutual_information_gap(codes, factors, bins=512, discrete=discrete).item() == pytest.approx(1)


def test_a_rotated_code_is_informative_but_neither_modular_nor_compact():
    factors = uniform(3000, 2) - 0.5
    found = scores(turned(factors), factors)
    assert found["informativeness"] > 0.99
    assert F.linear_informativeness(turned(factors), factors).item() == pytest.approx(1, abs=1e-12)
    for name in ("modularity", "compactness", "dci_disentanglement", "sap", "mutual_information_gap"):
        assert found[name] < 0.1, name


def test_a_duplicated_code_is_modular_but_not_compact():
    factors = uniform(1500, 2)
    codes = factors.repeat(1, 2)
    found = scores(codes, factors)
    assert found["modularity"] > 0.9
    assert found["mutual_information_gap"] == 0.0
    assert found["sap"] == pytest.approx(0, abs=1e-12)
    boosted = F.dci(codes, factors)
    assert boosted.disentanglement > 0.95
    assert boosted.completeness == pytest.approx(0.5, abs=0.1)  # 1 − log 2 / log 4: two of four latents, evenly
    assert boosted.informativeness > 0.98


def test_a_code_of_all_factors_in_one_latent_is_compact_but_not_modular():
    """Both factors forced into one latent, as too large a β does: a base-8 number of the two."""
    factors = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).repeat(20, 1)
    codes = torch.cat([8 * factors[:, :1] + factors[:, 1:], uniform(len(factors), 1).float()], 1)
    assert F.modularity(codes, factors, bins=64, discrete=True).item() == pytest.approx(0, abs=1e-9)
    found = F.dci(codes, factors, discrete=True)
    assert found.completeness > 0.9
    assert found.disentanglement < 0.1
    assert found.informativeness > 0.9


def test_a_noise_code_scores_zero():
    factors = uniform(2000, 2)
    found = scores(uniform(2000, 3, 7), factors)
    for name in ("modularity", "informativeness", "sap"):
        assert found[name] < 0.01, name
    assert found["mutual_information_gap"] < 0.02
    assert F.linear_informativeness(uniform(2000, 3, 7), factors).item() < 0.01
    assert F.informativeness(uniform(500, 3, 7), factors[:500]).item() < 0.05


def test_noise_latents_beside_good_ones_do_not_spoil_modularity():
    factors = uniform(2000, 2)
    good = F.modularity(factors, factors).item()
    assert F.modularity(torch.cat([factors, uniform(2000, 6, 5)], 1), factors).item() == pytest.approx(good, rel=1e-12)


# Against others


def test_information_is_sklearns():
    from sklearn.metrics import mutual_info_score

    from pcgen.metrics.mutual_information import _binned, _information

    rng = np.random.default_rng(0)
    for r, c in ((4, 7), (20, 20), (1, 5)):
        a, b = rng.integers(0, r, 400), rng.integers(0, c, 400)
        assert _information(a, b) == pytest.approx(mutual_info_score(a, b), abs=1e-12)
    x = rng.normal(size=300)
    edges = np.histogram_bin_edges(x, 20)
    expected = np.clip(np.digitize(x, edges[:-1]) - 1, 0, 19)
    assert (_binned(x, 20) == expected).mean() > 0.99  # on an edge rounding may decide
    assert np.bincount(_binned(x, 20)).sum() == 300


def correlated(n=900):
    factors = uniform(n, 3, 1)
    codes = torch.stack(
        [factors[:, 0], factors[:, 0] + 0.3 * factors[:, 1], factors[:, 2] ** 2 + 0.1 * uniform(n, 1, 2)[:, 0]], 1
    )
    return codes, factors


def test_modularity_and_mig_against_loops_over_sklearn():
    from sklearn.metrics import mutual_info_score

    codes, factors = correlated()

    def cut(x):
        return np.clip(np.digitize(x, np.histogram_bin_edges(x, 20)[:-1]) - 1, 0, 19)

    z, y = [cut(c) for c in codes.T.numpy()], [cut(f) for f in factors.T.numpy()]
    info = [[mutual_info_score(a, b) for b in y] for a in z]
    modular = []
    for row in info:
        best = max(range(3), key=row.__getitem__)
        modular.append(1 - sum(row[i] ** 2 for i in range(3) if i != best) / (row[best] ** 2 * 2))
    assert F.modularity(codes, factors).item() == pytest.approx(sum(modular) / 3, rel=0.01)
    gaps = []
    for i in range(3):
        second, first = sorted(row[i] for row in info)[-2:]
        gaps.append((first - second) / mutual_info_score(y[i], y[i]))
    assert F.mutual_information_gap(codes, factors).item() == pytest.approx(sum(gaps) / 3, rel=0.01)


def test_dci_scores_are_those_of_its_importances():
    codes, factors = correlated(400)
    found = F.dci(codes, factors)
    R = found.importance.numpy()
    np.testing.assert_allclose(R.sum(0), 1, rtol=1e-12)

    def certainty(p):
        p = p / p.sum()
        return 1 + sum(v * math.log(v, len(p)) for v in p if v > 0)

    assert found.completeness.item() == pytest.approx(np.mean([certainty(R[:, i]) for i in range(3)]), rel=1e-12)
    weights = R.sum(1) / R.sum()
    assert found.disentanglement.item() == pytest.approx(sum(w * certainty(R[j]) for j, w in enumerate(weights)))
    assert found.informativeness.item() == pytest.approx(found.scores.mean().item())
    assert F.compactness(codes, factors) == found.completeness
    assert F.informativeness(codes, factors) == found.informativeness


@pytest.mark.parametrize("estimator", ["boosting", "lasso"])
def test_informativeness_is_sklearns_held_out_score(estimator):
    """The same split and estimator by hand; any other split lies within the spread of some."""
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.linear_model import LassoCV
    from sklearn.metrics import r2_score
    from sklearn.model_selection import ShuffleSplit

    codes, factors = correlated(400)
    codes += 0.2 * uniform(400, 3, 9)
    found = F.dci(codes, factors, estimator=estimator).scores
    x, y = codes.numpy(), factors.numpy()
    for i in range(3):
        others = []
        for fit, held in ShuffleSplit(4, test_size=0.25, random_state=0).split(x):
            model = GradientBoostingRegressor() if estimator == "boosting" else LassoCV(cv=3)
            others.append(r2_score(y[held, i], model.fit(x[fit], y[fit, i]).predict(x[held])))
        spread = max(others) - min(others) + 0.02
        assert min(others) - spread < found[i] < max(others) + spread


def test_linear_informativeness_is_sklearns_r2():
    from sklearn.linear_model import LinearRegression

    codes, factors = correlated()
    x, y = codes.numpy(), factors.numpy()
    assert F.linear_informativeness(codes, factors).item() == pytest.approx(
        LinearRegression().fit(x, y).score(x, y), rel=1e-10
    )
    doubled = torch.cat([codes, codes[:, :1], torch.ones(len(codes), 1)], 1)  # singular
    assert F.linear_informativeness(doubled, factors).item() == pytest.approx(
        F.linear_informativeness(codes, factors).item(), rel=1e-9
    )


def test_sap_of_continuous_factors_is_the_gap_of_squared_correlations():
    codes, factors = correlated()
    r2 = np.corrcoef(codes.T.numpy(), factors.T.numpy())[:3, 3:] ** 2
    ranked = np.sort(r2, axis=0)
    found = F.separated_attribute_predictability(codes, factors)
    assert found.item() == pytest.approx((ranked[-1] - ranked[-2]).mean(), rel=1e-9)


def test_discrete_factors_are_classes_and_not_numbers():
    """A factor whose classes lie on the latent in an order that no number has."""
    label = torch.randint(3, (600, 1), generator=torch.Generator().manual_seed(0)).float()
    codes = torch.cat([(label == 1) + 0.1 * uniform(600, 1), (label == 2) + 0.1 * uniform(600, 1, 3)], 1)
    for estimator in ("boosting", "lasso"):
        assert F.informativeness(codes, label, discrete=True, estimator=estimator).item() > 0.99
    mixed = torch.cat([label, uniform(600, 1, 4)], 1)
    both = F.dci(torch.cat([codes, mixed[:, 1:]], 1), mixed, discrete=[True, False], estimator="lasso")
    assert both.scores.min() > 0.99
    assert F.separated_attribute_predictability(label, label, discrete=True).item() > 0.99  # against nothing


# Dead, single, constant


@pytest.mark.parametrize("discrete", [False, True])
def test_everything_degenerate_gives_numbers(discrete):
    n = 60
    varying = torch.randint(4, (n, 2), generator=torch.Generator().manual_seed(0)).float()
    mixed = torch.cat([varying, torch.ones(n, 1)], 1)
    codes = (mixed, varying[:, :1], torch.zeros(n, 1), torch.zeros(n, 3))
    for z, factors in itertools.product(codes, (mixed, varying[:, :1])):
        for name, value in scores(z, factors, discrete=discrete).items():
            assert 0 <= value <= 1, (name, z.shape, factors.shape)
        assert 0 <= F.linear_informativeness(z, factors).item() <= 1


def test_what_the_degenerate_numbers_are():
    factors, dead = uniform(800, 2), torch.zeros(800, 3)
    assert all(value == 0 for value in scores(dead, factors).values())
    single = scores(factors[:, :1], factors[:, :1])
    assert all(value > 0.99 for value in single.values()), single


def test_factors_that_are_all_constant_are_refused_by_name():
    codes, factors = uniform(60, 3), torch.tensor([[3.0, -1.0]]).repeat(60, 1)
    for score in (*SCORES.values(), F.linear_informativeness):
        with pytest.raises(DataError, match=r"constant over the 60 data \(factor 0, factor 1\).*at least one varies"):
            score(codes, factors)
    metric = LatentFactorScores(factor_names=["leg_height", "has_arm"])
    metric.update(codes, factors)
    with pytest.raises(DataError, match=r"\(leg_height, has_arm\)"):
        metric.compute()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_the_metric_says_once_which_factors_were_left_out():
    codes, factors = (t.float() for t in correlated(60))
    factors[:, 1] = 7
    for names, said in ((["a", "b", "c"], ("b",)), ((), ("factor 1",))):
        metric = LatentFactorScores(factor_names=names, estimator="lasso")
        metric.update(codes, factors)
        with pytest.warns(UserWarning, match=f"leave out what is constant over the 60 data: {said[0]}"):
            first = metric.compute()
        assert metric.left_out == said
        assert first["sap"] == F.separated_attribute_predictability(codes, factors[:, [0, 2]])
        metric.reset()
        metric.update(codes, factors)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            metric.compute()
    whole = LatentFactorScores(estimator="lasso")
    whole.update(*(t.float() for t in correlated(60)))
    whole.compute()
    assert whole.left_out == ()


def test_constant_factors_and_dead_latents_change_nothing():
    codes, factors = correlated(400)
    more = torch.cat([factors[:, :1], torch.full((400, 1), 3.0), factors[:, 1:]], 1)
    assert scores(codes, more) == scores(codes, factors)
    wider = torch.cat([codes, torch.zeros(400, 2)], 1)
    same = ("modularity", "mutual_information_gap", "sap", "informativeness", "dci_disentanglement")
    a, b = scores(wider, factors), scores(codes, factors)
    for name in same:
        assert a[name] == pytest.approx(b[name], rel=1e-9), name


def test_the_order_of_the_data_does_not_show_and_seeds_repeat():
    codes, factors = correlated(300)
    p = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    assert scores(codes[p], factors[p]) == scores(codes, factors)
    assert F.informativeness(codes[p], factors[p]) == F.informativeness(codes, factors)
    assert F.informativeness(codes, factors, seed=1) != F.informativeness(codes, factors)


def test_the_number_of_threads_does_not_show():
    codes, factors = correlated(200)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = F.dci(codes, factors)
        torch.set_num_threads(3)
        together = F.dci(codes, factors)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_metric_is_the_functions():
    codes, factors = (t.float() for t in correlated(300))
    metric = LatentFactorScores(estimator="lasso")
    for part in torch.arange(300).split(77):
        metric.update(codes[part], factors[part])
    found = {name: value.item() for name, value in metric.compute().items()}
    expected = scores(codes, factors) | {"linear_informativeness": F.linear_informativeness(codes, factors).item()}
    assert found == expected
    assert list(found) == LatentFactorScores.names
    assert not metric.state_dict()


def test_refusals():
    codes, factors = uniform(30, 4), uniform(30, 2, 1)
    for score in SCORES.values():
        with pytest.raises(DataError, match=r"codes have shape \(30, 4\) and factors \(29, 2\)"):
            score(codes, factors[:29])
        with pytest.raises(ConfigurationError, match="discrete speaks of 3 factors, but there are 2"):
            score(codes, factors, discrete=[True, False, True])
        bad = factors.clone()
        bad[4, 1] = torch.nan
        with pytest.raises(DataError, match=r"factors\[4\] is not finite"):
            score(codes, bad)
        with pytest.raises(DataError, match="1 data are too few"):
            score(codes[:1], factors[:1])
    with pytest.raises(DataError, match="5 data are fitted exactly by any code of 4 latents"):
        F.linear_informativeness(codes[:5], factors[:5])
    with pytest.raises(DataError, match=r"19 data are too few.*at least 20"):
        F.dci(codes[:19], factors[:19])
    with pytest.raises(ConfigurationError, match="bins is 1"):
        F.modularity(codes, factors, bins=1)
    with pytest.raises(ConfigurationError, match="estimator is 'forest'"):
        F.dci(codes, factors, estimator="forest")
    metric = LatentFactorScores()
    with pytest.raises(DataError, match=r"codes have shape \(30, 4\) and factors \(3, 2\)"):
        metric.update(codes, factors[:3])
    for score in (*SCORES.values(), F.linear_informativeness, metric.update):
        with pytest.raises(DataError, match=r"shape \(30,\).*codes\[:, None\] for a single one"):
            score(codes[:, 0], factors)
        with pytest.raises(DataError, match=r"factors\[:, None\] for a single one"):
            score(codes, factors[:, 0])
    with pytest.raises(DataError, match="2 factors came, but factor_names has 1"):
        LatentFactorScores(factor_names=["a"]).update(codes, factors)
    metric.update(codes, factors)
    with pytest.raises(DataError, match=r"\[3, 2\] wide after \[4, 2\]"):
        metric.update(codes[:, :3], factors)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_the_metric_of_nothing():
    with pytest.raises(DataError, match="scores of no codes"):
        LatentFactorScores().compute()
