"""β-VAE: a variational autoencoder whose KL has a weight, which may change during the training.

References: I. Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", ICLR
2017, https://openreview.net/forum?id=Sy2fzU9gl; C. P. Burgess et al., "Understanding disentangling in β-VAE", 2018,
https://arxiv.org/abs/1804.03599.

    L = E_q[−log p(x | z)] + β(t) KL(q(z | x) ‖ p(z))

Where it differs, and why:

- β is a schedule of the optimizer step t (`pcgen.losses`). Going from high to low, it first finds a disentangled code
  and then gets the reconstruction of a small β.
- Both terms are sums over the dimensions of one datum. Papers that divide the reconstruction by the number of pixels
  state a β that is as many times smaller.
- An evaluation's loss has the β of the training at that step. `elbo` has none, so that checkpoints can be chosen by it.
"""

from typing import Any

import torch
from torch import Tensor

from pcgen.base import OptimizerFactory, SchedulerFactory
from pcgen.losses import ConstantBeta, Reconstruction, Schedule
from pcgen.models._whole_batch import batch_mean
from pcgen.models.vae import VAE
from pcgen.nets import Decoder, Encoder
from pcgen.training.together import log_equal


class BetaVAE(VAE):
    """Variational autoencoder with a weight on the KL that follows a schedule.

    Args:
        encoder: Data (B, …) to features; PointNetEncoder by default.
        decoder: Codes (B, Z) to data; an MLPDecoder by default. Its `latent_dim` is the model's.
        reconstruction: −log p(x | z) of the decoder's output; the Chamfer sum with a constant scale by default.
        schedule: What the KL costs at each optimizer step; β = 4 at every step by default.
        monte_carlo_samples: Codes drawn for each datum and step.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer, stepped once an epoch.
    """

    steps_taken: Tensor

    def __init__(
        self,
        encoder: Encoder | None = None,
        decoder: Decoder | None = None,
        reconstruction: Reconstruction | None = None,
        schedule: Schedule | None = None,
        monte_carlo_samples: int = 1,
        optimizer: OptimizerFactory = torch.optim.Adam,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        super().__init__(encoder, decoder, reconstruction, monte_carlo_samples, optimizer, lr_scheduler)
        self.schedule = schedule or ConstantBeta(4.0)
        self.register_buffer("steps_taken", torch.zeros((), dtype=torch.int64))

    @property
    def step(self) -> int:
        """Optimizer steps taken: the trainer's in a training, otherwise those that the checkpoint remembers."""
        if self._trainer is not None and self.trainer.state.fn == "fit":
            return self.trainer.global_step
        return int(self.steps_taken)

    def penalty(self, kl: Tensor) -> Tensor:
        """Give β(t) KL, or what else the schedule makes of a KL."""
        return self.schedule.penalty(batch_mean(self, kl), self.step)

    def means(self) -> dict[str, Tensor]:
        """Give the terms' means, the loss with the penalty of all data's KL, which a `Capacity` has no mean of."""
        means = super().means()
        return means | {"loss": means["reconstruction"] + self.schedule.penalty(means["kl"], self.step)}

    def on_train_batch_end(self, *_: object) -> None:
        """Remember the steps for evaluations after the training."""
        self.steps_taken.fill_(self.trainer.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the steps as they are: a callback may save before the model heard of the last one."""
        super().on_save_checkpoint(checkpoint)
        if "steps_taken" in checkpoint.get("state_dict", {}):
            checkpoint["state_dict"]["steps_taken"] = torch.full_like(self.steps_taken, self.step)

    def on_train_epoch_end(self) -> None:
        """Log where the schedule is."""
        super().on_train_epoch_end()
        log_equal(self, {f"train/{self.schedule.quantity}": self.schedule.value(self.step)})
