"""Scores on a device without float64, played on the CPU: an Apple GPU is rare where tests run."""

import pytest
import torch

from pcgen.metrics import functional as F
from pcgen.metrics.occupancy import occupancy_divergence
from pcgen.metrics.precision import in_double


class Apple(torch.Tensor):
    """A tensor that says it lies on an Apple GPU and refuses float64 as one does; `cpu()` leads out."""

    @property
    def device(self):
        return torch.device("mps")

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs or {})
        if func is torch.Tensor.cpu:
            return result.as_subclass(torch.Tensor)
        if isinstance(result, cls) and result.dtype == torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        return result


def clouds(seed):
    return 0.3 * torch.randn(4, 50, 3, generator=torch.Generator().manual_seed(seed))


def test_the_player_plays_its_part():
    with pytest.raises(TypeError, match="float64"):
        clouds(0).as_subclass(Apple).double()
    assert type(clouds(0).as_subclass(Apple) + 1) is Apple


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_other_devices_keep_their_tensors(device):
    x = torch.ones(3, device=device)
    assert in_double(x).dtype == torch.float64
    assert in_double(x).device.type == device


def test_scores_come_out_as_on_the_cpu():
    x, y = clouds(0), clouds(1)
    terms = torch.rand(9, generator=torch.Generator().manual_seed(2))
    p, q = F.cloud_occupancy(x), F.cloud_occupancy(y)
    for function, tensors in (
        (F.exact_mean, (terms,)),
        (F.share_outside_ball, (x,)),
        (F.cloud_occupancy, (x,)),
        (F.jensen_shannon_divergence, (x, y)),
        (occupancy_divergence, (p.sum(0), q.sum(0))),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)  # some points lie outside the ball
            here, there = function(*tensors), function(*(t.as_subclass(Apple) for t in tensors))
        assert torch.equal(there.as_subclass(torch.Tensor), here), function.__name__
    assert F.bootstrap_interval(terms.as_subclass(Apple)) == F.bootstrap_interval(terms)
    assert F.divergence_interval(p.as_subclass(Apple), q) == F.divergence_interval(p, q)
