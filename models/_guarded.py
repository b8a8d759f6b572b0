"""A model that watches over its chains in training, and goes back to its last good state when they diverge."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pcgen.base import GenerativeModel
from pcgen.chains import DivergenceGuard, Fault
from pcgen.errors import DivergenceError

GUARD_KEY = "pcgen_guard"
SKIPS = 20  # steps in a row that a loss scaler may skip to find its scale


class Guarded(GenerativeModel):
    """Runs a training step's chains under a guard.

    Attributes:
        guard: Decides, and holds the last good states and the history of faults; both are in the checkpoint.
        reference_std: s, for the guard.
    """

    reference_std: float

    def __init__(self, guard: DivergenceGuard) -> None:
        super().__init__()
        self.guard = guard
        self._skipped = 0  # steps in a row whose gradient was not finite

    def guarded(self, run: Callable[[], tuple[Tensor, Tensor]]) -> Tensor:
        """Give the ends of healthy chains, after resampling and rolling back as often as needed.

        Args:
            run: Runs the chains with fresh noise and gives their ends (B, N, 3) and scores (B,).

        Raises:
            DivergenceError: If that was needed too often.
        """
        complaint, self.guard.pending = self.guard.pending, None
        if complaint is not None:  # bad gradients: the weights are as they were, and the state is doubtful
            self._roll_back(complaint, 0)
        resampled = 0
        while True:
            for attempt in range(self.guard.resamples + 1):
                ends, scores = run()
                found = self._anywhere(self.guard.complaint(ends, scores, self.reference_std))
                if found is None:
                    self._healthy(complaint, attempt, resampled + attempt)
                    return ends
                complaint = found
            resampled += self.guard.resamples
            self._roll_back(complaint or "", self.guard.resamples)
            complaint = None

    def _healthy(self, complaint: str | None, resamples: int, in_all: int) -> None:
        step = self._step()
        if resamples and complaint is not None:
            self.guard.note(Fault(step, complaint, resamples, -1))
        optimizer = self._optimizer()
        if optimizer is not None and not resamples:
            self.guard.watch(self, optimizer, step)
        if self._trainer is not None:
            often = float(in_all) if self.global_rank == 0 else 0.0  # all resample alike: counted once
            log = partial(self.log, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
            log("train/resamples", often, reduce_fx="sum")
            log("train/rollbacks", float(self.guard.rollbacks), reduce_fx="max")

    def _roll_back(self, complaint: str, resamples: int) -> None:
        step, optimizer = self._step(), self._optimizer()
        if optimizer is None or not self.guard.can_restore or self.guard.rollbacks >= self.guard.max_rollbacks:
            raise DivergenceError(
                f"the chains diverge at step {step}: {complaint}, after {resamples} resamples and "
                f"{self.guard.rollbacks} rollbacks; take a smaller learning rate or step_size, or a larger jitter"
            )
        restored = self.guard.restore(self, optimizer, step)
        self.guard.note(Fault(step, complaint, resamples, restored))
        warnings.warn(
            f"step {step}: {complaint}, and {resamples} resamples did not help; back to the weights of step {restored}",
            stacklevel=2,
        )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002 -- Lightning's
        """Log the gradient's norm; a gradient that is not finite is dropped, and the weights go back next time."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if torch.isfinite(norm):
            self._skipped = 0
            self.log("train/gradient_norm", norm, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
            return
        self._skipped += 1
        if self.trainer.precision == "16-mixed" and self._skipped <= SKIPS:  # its scaler skips the step and goes lower
            return
        self.guard.pending = "the gradient is not finite"
        for parameter in self.parameters():
            parameter.grad = None

    def on_fit_start(self) -> None:
        """Begin a new history, unless a training is resumed."""
        super().on_fit_start()
        if self.trainer.ckpt_path is None:
            self.guard.begin_anew()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the guard's history and good states."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[GUARD_KEY] = self.guard.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with them."""
        super().on_load_checkpoint(checkpoint)
        if GUARD_KEY in checkpoint:
            self.guard.load_state_dict(checkpoint[GUARD_KEY])

    def _anywhere(self, complaint: str | None) -> str | None:
        """Give the complaint of any process, so that all do the same."""
        if self._trainer is None or self.trainer.world_size == 1:
            return complaint
        bad = torch.tensor(float(complaint is not None), device=self.device)
        worst = self.trainer.strategy.reduce(bad, reduce_op="max")
        return (complaint or "chains of another process diverge") if float(worst) else None

    def _step(self) -> int:
        return 0 if self._trainer is None else self.trainer.global_step

    def _optimizer(self) -> torch.optim.Optimizer | None:
        return None if self._trainer is None else self.trainer.optimizers[0]
