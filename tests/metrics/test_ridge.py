"""Ridge regression against scikit-learn, and the choice of its penalty against trying them all."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from pcgen.errors import DataError
from pcgen.metrics.ridge import fit_ridge


def data(n=80, Z=6, D=4, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(2, [0.01, 0.1, 1, 1, 10, 100][:Z], (n, Z))
    y = (z - z.mean(0)) / z.std(0) @ rng.normal(size=(Z, D)) + 5 + noise * rng.normal(size=(n, D))
    return torch.from_numpy(z), torch.from_numpy(y)


def sklearn_ridge(z, y, penalty):
    """The same problem as scikit-learn has it: sums instead of means, codes scaled by hand."""
    mean, scale = z.mean(0), z.std(0)
    fitted = Ridge(alpha=penalty * len(z)).fit((z - mean) / scale, y)
    return lambda x: fitted.predict((x - mean) / scale)


@pytest.mark.parametrize("penalty", [1e-6, 0.1, 10.0])
def test_it_is_scikit_learns(penalty):
    z, y = data()
    found = fit_ridge(z, y, [penalty])
    assert found.penalty == penalty
    other = torch.from_numpy(np.random.default_rng(1).normal(size=(7, 6)))
    assert (
        np.abs(found.predict(other).numpy() - sklearn_ridge(z.numpy(), y.numpy(), penalty)(other.numpy())).max() < 1e-7
    )


@pytest.mark.parametrize(("n", "noise"), [(12, 3.0), (200, 0.01)])
def test_the_penalty_is_that_of_the_least_error_on_the_second_half(n, noise):
    z, y = data(n, noise=noise)
    penalties = [1e-8, 1e-4, 1e-2, 1.0, 100.0]
    half = n // 2
    errors = [
        np.square(sklearn_ridge(z[:half].numpy(), y[:half].numpy(), p)(z[half:].numpy()) - y[half:].numpy()).mean()
        for p in penalties
    ]
    found = fit_ridge(z, y, penalties)
    assert found.penalty == penalties[int(np.argmin(errors))]
    assert np.allclose(found.weight, fit_ridge(z, y, [found.penalty]).weight)


def test_the_penalty_grows_with_the_noise():
    assert fit_ridge(*data(16, noise=5.0)).penalty > fit_ridge(*data(200, noise=0.001)).penalty


def test_scale_and_place_of_codes_do_not_matter_and_constants_say_nothing():
    z, y = data()
    found = fit_ridge(z, y).predict(z)
    assert torch.allclose(fit_ridge(1000 * z - 7, y).predict(1000 * z - 7), found, atol=1e-8)
    more = torch.cat([z, torch.full((80, 2), 3.3, dtype=torch.float64)], 1)
    assert torch.allclose(fit_ridge(more, y).predict(more), found, atol=1e-8)
    nothing = fit_ridge(torch.ones(80, 3), y).predict(torch.ones(5, 3))
    assert torch.allclose(nothing, y.mean(0).expand(5, -1))


def test_more_codes_than_data():
    z = torch.from_numpy(np.random.default_rng(2).normal(size=(10, 40)))
    assert fit_ridge(z, z[:, :3]).predict(z).isfinite().all()


def test_errors():
    z, y = data()
    with pytest.raises(DataError, match="n at least 4"):
        fit_ridge(z[:3], y[:3])
    with pytest.raises(DataError, match=r"\(80, 6\)"):
        fit_ridge(z, y[:7])
    z[3, 2] = float("nan")
    with pytest.raises(DataError, match="diverged"):
        fit_ridge(z, y)
