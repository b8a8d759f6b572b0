"""Features of models that have them, that have codes alone, and that have neither."""

import numpy as np
import pytest
import torch

from pcgen.errors import UnsupportedOperationError
from pcgen.metrics import features_of
from pcgen.metrics.model_features import classes_of, feature_verb, takes_any_number
from pcgen.models import VAE, PointNetClassifier
from pcgen.nets import MLPDecoder, MLPEncoder, PointNetEncoder


@pytest.fixture
def x():
    return torch.randn(7, 24, 3, generator=torch.Generator().manual_seed(0))


def judge():
    torch.manual_seed(0)
    return PointNetClassifier(num_classes=3, encoder=PointNetEncoder(widths=[8, 16], head_widths=[5]))


def coder(encoder):
    torch.manual_seed(0)
    return VAE(encoder=encoder, decoder=MLPDecoder(latent_dim=4, num_points=24, widths=[8]))


def test_features_come_first_then_codes_and_chunks_do_not_show(x):
    model = judge()
    assert feature_verb(model) == "features"
    model.chunk_size = 3
    told = []
    found = features_of(model, x, progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 7), (6, 7), (7, 7)]
    np.testing.assert_allclose(found, model.features(x).numpy(), rtol=1e-5, atol=1e-6)
    assert found.shape == (7, 5)
    assert np.array_equal(classes_of(model, x), model.classify(x).argmax(1).numpy())
    model = coder(PointNetEncoder(widths=[8, 16]))
    assert feature_verb(model) == "encode"
    np.testing.assert_allclose(features_of(model, x), model.encode(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_model_with_neither_is_refused(x, monkeypatch):
    monkeypatch.setattr(VAE, "can", classmethod(lambda cls, name: False))
    with pytest.raises(UnsupportedOperationError, match="VAE has no features; models that can: "):
        features_of(coder(PointNetEncoder(widths=[8, 16])), x)


def test_who_takes_other_numbers_of_points(x):
    assert takes_any_number(judge(), x)
    assert takes_any_number(coder(PointNetEncoder(widths=[8, 16])), x)
    assert not takes_any_number(coder(MLPEncoder(num_points=24, widths=[8])), x)
