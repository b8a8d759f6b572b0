"""Codes, their relevance, and sums and differences of them, against loops in NumPy."""

import math

import numpy as np
import pytest
import torch

from pcgen.errors import ConfigurationError, DataError, UnsupportedOperationError
from pcgen.latents import draw_codes, latent_arithmetic, live_codes, mean_code, relevance


def by_hand(model, x):
    """Codes in float64, one datum at a time."""
    W = model.W.detach().double().numpy()
    return np.stack([W @ datum.double().numpy().ravel() for datum in x])


def image(model, z):
    return (model.V.detach().double().numpy() @ z).reshape(model.sample_shape)


def test_with_a_posterior_relevance_is_the_mean_kl(toys, data, shape):
    model = toys["Variational"](sample_shape=shape)
    found, name = relevance(model, data)
    log_var = np.linspace(0, -4, 4)
    expected = [
        np.mean([0.5 * (m[k] ** 2 + math.exp(log_var[k]) - log_var[k] - 1) for m in by_hand(model, data)])
        for k in range(4)
    ]
    assert name == "KL"
    assert np.allclose(found, expected, rtol=1e-5)
    assert model.largest == 3


def test_without_one_it_is_the_variance_of_the_codes(toys, data, shape):
    model = toys["WithPrior"](sample_shape=shape)
    found, name = relevance(model, data)
    assert name == "variance"
    assert np.allclose(found, by_hand(model, data).var(axis=0), rtol=1e-5)
    assert model.largest == 3


def test_the_mean_code_is_the_mean_over_all_chunks(toys, data, shape):
    model = toys["Linear"](sample_shape=shape)
    assert np.allclose(mean_code(model, data[:10]), by_hand(model, data[:10]).mean(axis=0), atol=1e-6)


def test_codes_are_drawn_from_the_posterior_where_there_is_one(toys, shape):
    model = toys["Variational"](sample_shape=shape)
    one = torch.rand(1, *shape)
    z = draw_codes(model, one.expand(4000, *shape), seed=3)
    mean, log_var = model.posterior(one)
    assert torch.allclose(z.mean(0), mean[0], atol=0.08)
    assert torch.allclose(z.std(0), (0.5 * log_var[0]).exp(), rtol=0.05)
    assert torch.equal(z, draw_codes(model, one.expand(4000, *shape), seed=3))
    assert not torch.equal(z, draw_codes(model, one.expand(4000, *shape), seed=4))
    bare = toys["Linear"](sample_shape=shape)
    assert torch.equal(draw_codes(bare, one), bare.encode(one))


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_drawn_codes_share_nothing_with_a_sample_of_the_prior_of_the_same_seed(toys, monkeypatch, seed):
    """A posterior that is the prior would otherwise be the very sample that an MMD compares it with."""
    model = toys["Variational"]()
    monkeypatch.setattr(model, "posterior", lambda x: (torch.zeros(len(x), 4), torch.zeros(len(x), 4)))
    z = draw_codes(model, torch.zeros(500, 5, 3), seed=seed).double().flatten()
    prior = torch.randn(500, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).flatten()
    assert abs(torch.corrcoef(torch.stack([z, prior]))[0, 1]) < 0.1


def test_arithmetic_of_a_linear_model_is_known_in_closed_form(toys, data, shape):
    model = toys["Linear"](sample_shape=shape)
    a, plus, minus = data[:2], data[2:9], data[9:]
    scales = (0.0, 0.5, -2.0)
    found = latent_arithmetic(model, a, plus, minus, scales=scales)
    difference = by_hand(model, plus).mean(axis=0) - by_hand(model, minus).mean(axis=0)
    for s, scale in enumerate(scales):
        for b in range(2):
            expected = image(model, by_hand(model, a)[b] + scale * difference)
            assert np.allclose(found[s, b].detach(), expected, atol=1e-5)
    assert not found.requires_grad
    assert torch.allclose(found[0], model.reconstruct(a), atol=1e-6)
    assert torch.allclose(latent_arithmetic(model, a[1], plus, minus, scales=scales), found[:, 1], atol=1e-6)
    assert model.largest == 3


@pytest.mark.parametrize(("plus", "minus", "who"), [(0, 3, "plus"), (3, 0, "minus")])
def test_there_is_no_mean_of_nothing(toys, data, shape, plus, minus, who):
    model = toys["Linear"](sample_shape=shape)
    with pytest.raises(DataError, match=f"{who} holds no data"):
        latent_arithmetic(model, data, data[:plus], data[:minus])
    with pytest.raises(DataError, match="mean code of no data"):
        mean_code(model, data[:0])
    with pytest.raises(DataError, match="no data to measure"):
        relevance(model, data[:0])


@pytest.mark.parametrize("scales", [(), (1.0, math.nan)])
def test_scales_are_finite_numbers(toys, data, shape, scales):
    with pytest.raises(ConfigurationError, match="scales are"):
        latent_arithmetic(toys["Linear"](sample_shape=shape), data, data, data, scales=scales)


def test_a_single_code_has_no_variance(toys, data, shape):
    with pytest.raises(DataError, match="at least two data"):
        relevance(toys["WithPrior"](sample_shape=shape), data[:1])


def test_a_model_that_cannot_says_so(toys, data, shape):
    blind, mute = (toys[name](sample_shape=shape) for name in ("OnlyDecodes", "OnlyEncodes"))
    for function in (relevance, mean_code, draw_codes):
        with pytest.raises(UnsupportedOperationError, match="OnlyDecodes cannot encode; models that can"):
            function(blind, data)
    with pytest.raises(UnsupportedOperationError, match="OnlyEncodes cannot decode"):
        latent_arithmetic(mute, data, data, data)


def test_dimensions_that_carry_nothing_are_silent_in_live_codes(toys, data, shape):
    """The first dimension's mean follows the data faintly, and its posterior is the prior."""
    model = toys["Variational"](4, shape)
    with torch.no_grad():
        model.W[0] *= 1e-3
    live = live_codes(model, data)
    assert not live[:, 0].any()
    assert model.encode(data)[:, 0].std() > 0
    torch.testing.assert_close(live[:, 1:], model.encode(data)[:, 1:])


def test_without_a_posterior_the_variance_says_what_is_live(toys, data, shape):
    model = toys["Linear"](4, shape)
    with torch.no_grad():
        model.W[2] *= 1e-3
    live = live_codes(model, data)
    assert live.any(0).tolist() == [True, True, False, True]
