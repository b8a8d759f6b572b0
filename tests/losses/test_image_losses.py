import math

import pytest
import torch

from pcgen.errors import ConfigurationError, DataError
from pcgen.losses import BernoulliReconstruction, GaussianReconstruction, SquaredErrorReconstruction


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_gaussian_of_variance_one_half_is_the_squared_error(sigmoid):
    prediction, target = torch.randn(3, 1, 4, 5), torch.rand(3, 1, 4, 5)
    mean = 1 / (1 + (-prediction.double()).exp()) if sigmoid else prediction.double()
    expected = [sum((m - t) ** 2 for m, t in zip(mean[i].flatten(), target[i].double().flatten(), strict=True)).item()
                for i in range(3)]  # fmt: skip
    assert SquaredErrorReconstruction(1.0, sigmoid)(prediction, target).tolist() == pytest.approx(expected, rel=1e-5)
    half = GaussianReconstruction(math.sqrt(0.5), sigmoid)(prediction, target)
    assert half.tolist() == pytest.approx(expected, rel=1e-5)
    assert (20 * SquaredErrorReconstruction(0.05, sigmoid)(prediction, target)).tolist() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize(
    "loss", [SquaredErrorReconstruction(), GaussianReconstruction(0.1, sigmoid=True), BernoulliReconstruction()]
)
def test_data_of_images_lie_between_zero_and_one(loss):
    images = loss.data(5 * torch.randn(2, 1, 6, 6))
    assert images.min() >= 0
    assert images.max() <= 1


def test_data_of_clouds_are_left_as_they_are():
    points = 5 * torch.randn(2, 7, 3)
    assert torch.equal(SquaredErrorReconstruction().data(points), points)


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan")])
def test_a_weight_is_a_number_above_nothing(weight):
    with pytest.raises(ConfigurationError, match=f"weight is {weight}"):
        SquaredErrorReconstruction(weight)


def test_the_loss_of_a_likelihood_of_pixels_is_not_for_clouds():
    with pytest.raises(DataError, match=r"images .*\(2, 7, 3\).*ChamferReconstruction"):
        BernoulliReconstruction()(torch.randn(2, 7, 3), torch.randn(2, 7, 3))


@pytest.mark.parametrize(
    "loss", [SquaredErrorReconstruction(), SquaredErrorReconstruction(sigmoid=True), BernoulliReconstruction()]
)
def test_half_precision_is_summed_in_single(loss):
    prediction, target = torch.randn(3, 1, 28, 28).bfloat16(), torch.rand(3, 1, 28, 28).bfloat16()
    found = loss(prediction, target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), loss(prediction.double(), target.double()), rtol=1e-5, atol=0)


@pytest.mark.parametrize("loss", [SquaredErrorReconstruction(), GaussianReconstruction(), BernoulliReconstruction()])
def test_images_of_another_size_than_the_decoders_are_refused_not_stretched(loss):
    with pytest.raises(DataError, match=r"makes data \(1, 6, 6\) and was given \(1, 6, 1\)"):
        loss(torch.rand(2, 1, 6, 6), torch.rand(2, 1, 6, 1))
