"""Traversals against the closed form of a linear model: V (z + (v − z_k) e_k)."""

import numpy as np
import pytest
import torch

from pcgen.errors import ConfigurationError, DataError, UnsupportedOperationError
from pcgen.latents import relevance, traverse


def expected_cell(model, x, k, position):
    z = model.W.detach().double().numpy() @ x.double().numpy().ravel()
    z[k] = position
    return (model.V.detach().double().numpy() @ z).reshape(model.sample_shape)


@pytest.mark.parametrize("kind", ["WithPrior", "Variational"])
def test_one_coordinate_moves_and_the_others_stay(toys, data, shape, kind):
    model = toys[kind](sample_shape=shape)
    found = traverse(model, data[4], reference=data, steps=5, extent=2.0)
    assert found.data.shape == (4, 5, *shape)
    assert found.values.tolist() == [-2, -1, 0, 1, 2]
    for row, k in enumerate(found.dims.tolist()):
        for s, value in enumerate((-2, -1, 0, 1, 2)):
            assert np.allclose(found.data[row, s], expected_cell(model, data[4], k, value), atol=1e-5)
    assert torch.allclose(found.base, model.reconstruct(data[4:5])[0])
    assert torch.allclose(found.current, model.encode(data[4:5])[0, found.dims])
    assert found.unit == ""
    assert not found.data.requires_grad
    assert model.largest == 3  # of 20 codes


def test_without_a_prior_values_count_standard_deviations_of_the_data(toys, data, shape):
    model = toys["Linear"](sample_shape=shape)
    found = traverse(model, data[0], reference=data, steps=3, extent=1.5)
    z = np.stack([model.W.detach().double().numpy() @ x.double().numpy().ravel() for x in data])
    for row, k in enumerate(found.dims.tolist()):
        for s, value in enumerate((-1.5, 0, 1.5)):
            position = z[:, k].mean() + value * z[:, k].std()
            assert np.allclose(found.data[row, s], expected_cell(model, data[0], k, position), atol=1e-4)
        assert found.current[row] == pytest.approx((z[0, k] - z[:, k].mean()) / z[:, k].std(), rel=1e-4)
    assert found.unit == "σ"


@pytest.mark.parametrize("kind", ["Linear", "WithPrior", "Variational"])
def test_rows_are_ordered_by_relevance(toys, data, shape, kind):
    model = toys[kind](sample_shape=shape)
    found = traverse(model, data[:1], reference=data)
    weight, name = relevance(model, data)
    assert found.dims.tolist() == sorted(range(4), key=lambda k: -weight[k])
    assert found.dims.tolist() != list(range(4))
    assert torch.equal(found.relevance, weight)
    assert found.relevance_name == name
    chosen = traverse(model, data[:1], reference=data, dims=[1, 3])
    assert chosen.dims.tolist() == [k for k in found.dims.tolist() if k in (1, 3)]
    row = found.dims.tolist().index(chosen.dims[0])
    assert torch.allclose(chosen.data[0], found.data[row], atol=1e-6)
    words = {"KL": "KL {:.2f} nats", "variance": "var {:.2f}"}[name]
    assert chosen.labels == [f"z{k}  {words.format(weight[k])}" for k in chosen.dims.tolist()]


def test_it_is_the_same_each_time_and_leaves_the_mode_alone(toys, data, shape):
    model = toys["Variational"](sample_shape=shape).train()
    first, second = (traverse(model, data[0], reference=data) for _ in range(2))
    assert torch.equal(first.data, second.data)
    assert model.training


def test_a_dead_dimension_stands_still_and_gives_no_nan(toys, data, shape):
    model = toys["Linear"](sample_shape=shape)
    model.W.data[2] = 0
    found = traverse(model, data[0], reference=data)
    assert found.dims[-1] == 2
    assert torch.allclose(found.data[-1], found.base.expand_as(found.data[-1]), atol=1e-6)
    assert found.current.isfinite().all()


def test_relevance_of_the_datum_alone_needs_a_posterior(toys, data, shape):
    assert traverse(toys["Variational"](sample_shape=shape), data[0]).data.isfinite().all()
    with pytest.raises(DataError, match="at least two data as reference"):
        traverse(toys["Linear"](sample_shape=shape), data[0])


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"steps": 1}, "steps is 1"),
        ({"extent": 0.0}, "extent is 0.0"),
        ({"extent": float("inf")}, "extent is inf"),
        ({"extent": float("nan")}, "extent is nan"),
        ({"dims": [4]}, r"dims is \[4\]; give different latent dimensions out of 0 to 3"),
        ({"dims": [-1, 0]}, "dims is"),
        ({"dims": [0, 0]}, "dims is"),
        ({"dims": []}, "dims is empty"),
    ],
)
def test_what_is_out_of_range_is_refused(toys, data, shape, how, says):
    with pytest.raises(ConfigurationError, match=says):
        traverse(toys["Variational"](sample_shape=shape), data[0], **how)


def test_it_wants_one_datum(toys, data, shape):
    model = toys["Variational"](sample_shape=shape)
    for x in (data, data[:0], data[0, 0], data[None]):
        with pytest.raises(DataError, match="not one datum of Variational"):
            traverse(model, x)


def test_a_model_that_cannot_says_so(toys, data, shape):
    for kind, verb in (("OnlyDecodes", "encode"), ("OnlyEncodes", "decode")):
        with pytest.raises(UnsupportedOperationError, match=f"{kind} cannot {verb}"):
            traverse(toys[kind](sample_shape=shape), data[0])


def test_half_precision_and_another_model_of_the_same_code(toys, data, shape):
    model = toys["Variational"](sample_shape=shape)
    exact = traverse(model, data[0], reference=data)
    coarse = traverse(model.bfloat16(), data[0], reference=data)
    assert coarse.data.dtype == torch.bfloat16
    assert torch.allclose(coarse.data.float(), exact.data, atol=0.15)
