"""Double precision on devices that lack it."""

from torch import Tensor


def in_double(x: Tensor) -> Tensor:
    """Give a tensor in float64: on its own device, or on the CPU if that is an Apple GPU, which has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()
