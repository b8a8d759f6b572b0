import math

import pytest
import torch

from pcgen.errors import ConfigurationError, DataError
from pcgen.losses import (
    AbsoluteErrorReconstruction,
    BernoulliReconstruction,
    GaussianReconstruction,
    SquaredErrorReconstruction,
)
from pcgen.recipe import build, describe


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


@pytest.mark.parametrize("shape", [(3, 1, 4, 5), (3, 7, 3)])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_the_absolute_error_is_a_sum_of_distances(shape, sigmoid):
    prediction, target = torch.randn(shape), torch.rand(shape)
    loss = AbsoluteErrorReconstruction(0.3, sigmoid)
    made = [[1 / (1 + math.exp(-p)) if sigmoid else p for p in row] for row in prediction.flatten(1).tolist()]
    expected = [0.3 * sum(abs(p - t) for p, t in zip(*rows, strict=True))
                for rows in zip(made, target.flatten(1).tolist(), strict=True)]  # fmt: skip
    assert loss(prediction, target).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_absolute_errors_gradient_is_a_sign_everywhere():
    prediction = torch.tensor([[[[0.2, 0.9, 5.0]]]], requires_grad=True)
    AbsoluteErrorReconstruction(2.0)(prediction, torch.tensor([[[[0.3, 0.1, 1.0]]]])).backward()
    assert prediction.grad.flatten().tolist() == [-2, 2, 2]


def test_the_absolute_error_is_made_again_from_its_recipe():
    again = build(describe(AbsoluteErrorReconstruction(0.3, sigmoid=True), where="loss"))
    assert type(again) is AbsoluteErrorReconstruction
    assert (again.weight, again.sigmoid) == (0.3, True)


@pytest.mark.parametrize(
    "loss",
    [
        SquaredErrorReconstruction(),
        AbsoluteErrorReconstruction(),
        GaussianReconstruction(0.1, sigmoid=True),
        BernoulliReconstruction(),
    ],
)
def test_data_of_images_lie_between_zero_and_one(loss):
    images = loss.data(5 * torch.randn(2, 1, 6, 6))
    assert images.min() >= 0
    assert images.max() <= 1


def test_data_of_clouds_are_left_as_they_are():
    points = 5 * torch.randn(2, 7, 3)
    assert torch.equal(SquaredErrorReconstruction().data(points), points)
    assert torch.equal(AbsoluteErrorReconstruction().data(points), points)


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan")])
def test_a_weight_is_a_number_above_nothing(weight):
    for loss in (SquaredErrorReconstruction, AbsoluteErrorReconstruction):
        with pytest.raises(ConfigurationError, match=f"weight is {weight}"):
            loss(weight)


def test_the_loss_of_a_likelihood_of_pixels_is_not_for_clouds():
    with pytest.raises(DataError, match=r"images .*\(2, 7, 3\).*ChamferReconstruction"):
        BernoulliReconstruction()(torch.randn(2, 7, 3), torch.randn(2, 7, 3))


@pytest.mark.parametrize(
    "loss",
    [
        SquaredErrorReconstruction(),
        SquaredErrorReconstruction(sigmoid=True),
        AbsoluteErrorReconstruction(),
        BernoulliReconstruction(),
    ],
)
def test_half_precision_is_summed_in_single(loss):
    prediction, target = torch.randn(3, 1, 28, 28).bfloat16(), torch.rand(3, 1, 28, 28).bfloat16()
    found = loss(prediction, target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), loss(prediction.double(), target.double()), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "loss",
    [SquaredErrorReconstruction(), AbsoluteErrorReconstruction(), GaussianReconstruction(), BernoulliReconstruction()],
)
def test_images_of_another_size_than_the_decoders_are_refused_not_stretched(loss):
    with pytest.raises(DataError, match=r"makes data \(1, 6, 6\) and was given \(1, 6, 1\)"):
        loss(torch.rand(2, 1, 6, 6), torch.rand(2, 1, 6, 1))
