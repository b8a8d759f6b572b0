"""An exponential moving average of a network's weights."""

import copy

import torch
from torch import Tensor, nn


class ExponentialMovingAverage(nn.Module):
    """A copy of a network that follows it slowly, and gives what the network would with its averaged weights.

    θ' ← d θ' + (1 − d) θ with d = min(decay, (1 + t) / (10 + t)) at update t, so that the random weights of the
    beginning are soon forgotten. Running statistics of normalisation layers are averaged likewise; whatever else a
    network holds (counters) is copied. The copy belongs to the state dict and never to an optimizer.

    References: B. Polyak, A. Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992,
    https://doi.org/10.1137/0330046; for GANs Y. Yazıcı et al., ICLR 2019, https://arxiv.org/abs/1806.04498.

    Args:
        network: What is followed.
        decay: d in the long run, in [0, 1).
    """

    updates: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step towards the network's present weights."""
        t = self.updates.float()  # stays on its device: to look at it there would wait for it
        share = 1 - ((1 + t) / (10 + t)).clamp(max=self.decay)
        for mine, its in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(its, share.to(mine.dtype))
            else:
                mine.copy_(its)
        self.updates += 1

    def forward(self, *arguments: Tensor) -> Tensor:
        """Do what the network does."""
        result: Tensor = self.network(*arguments)
        return result
