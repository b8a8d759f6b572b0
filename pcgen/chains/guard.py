"""What watches over the chains of a training, and brings the model back when they diverge."""

import copy
from collections import deque
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pcgen.errors import ConfigurationError
from pcgen.recipe import Recorded


class Fault(NamedTuple):
    """One time that something went wrong in a training.

    Attributes:
        step: Optimizer steps that were done.
        reason: In words.
        resamples: How often the chains were run again.
        restored: Optimizer step of the state that was brought back, or −1 if running the chains again was enough.
    """

    step: int
    reason: str
    resamples: int
    restored: int


class DivergenceGuard(Recorded):
    """Runs diverged chains again, and if that does not help brings back the last good weights.

    Chains diverge when the energy has grown cliffs that the step size cannot follow: their variance explodes, or they
    sit at the clamp. The paper's rule is here: chains whose variance over all coordinates is above s² + 0.1 are run
    again with fresh noise, and if they diverge each time, the last good state of weights and optimizer comes back. A
    state is good if its chains are healthy at once, and is kept if the last that was kept or brought back is
    `keep_every` steps ago; so should it diverge again before that, the one before is taken. Numbers that are not finite
    count as divergence, in chains, scores and gradients.

    Args:
        max_variance: Of the chains' coordinates; null takes s² + 0.1, s the reference's standard deviation.
        resamples: How often chains are run again before weights are brought back, 0 or more.
        keep_every: Steps between two states that are kept; the last two are, in memory and in the checkpoint.
        max_rollbacks: The training stops with an error when weights have to be brought back more often than this.
    """

    def __init__(
        self, max_variance: float | None = None, resamples: int = 10, keep_every: int = 50, max_rollbacks: int = 10
    ) -> None:
        if max_variance is not None and not max_variance > 0:
            raise ConfigurationError(f"max_variance is {max_variance}; give a number above 0, or null for s² + 0.1")
        if resamples < 0:
            raise ConfigurationError(f"resamples is {resamples}; give 0 or more")
        if keep_every < 1:
            raise ConfigurationError(f"keep_every is {keep_every}; give 1 or more")
        if max_rollbacks < 0:
            raise ConfigurationError(f"max_rollbacks is {max_rollbacks}; give 0 or more")
        self.max_variance, self.resamples = max_variance, resamples
        self.keep_every, self.max_rollbacks = keep_every, max_rollbacks
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what was, for a new training."""
        self.history: list[Fault] = []
        self.pending: str | None = None  # a fault that was found after its step's chains, for the next step's
        self._kept: deque[dict[str, Any]] = deque(maxlen=2)  # the last good states, the newest at the end
        self._since = 0  # step at which one was kept or brought back

    # ── what is wrong ─────────────────────────────────────────────────────────────────────────────────────────────

    def complaint(self, x: Tensor, scores: Tensor, reference_std: float) -> str | None:
        """Say what is wrong with the ends of chains (B, N, 3) and their scores (B,), or None if they are healthy."""
        limit = self.max_variance if self.max_variance is not None else reference_std**2 + 0.1
        variance = float(x.var()) if x.numel() > 1 else 0.0
        if not torch.isfinite(x).all() or not torch.isfinite(scores).all():
            return "chains or their scores are not finite"
        if variance > limit:
            return f"the chains' variance is {variance:.4g}, above {limit:.4g}"
        return None

    @property
    def rollbacks(self) -> int:
        """How often weights were brought back."""
        return sum(fault.restored >= 0 for fault in self.history)

    @property
    def can_restore(self) -> bool:
        """Whether there is a good state to bring back."""
        return len(self._kept) > 0

    # ── good states ───────────────────────────────────────────────────────────────────────────────────────────────

    def watch(self, module: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Keep the state after so many steps, if it is time to."""
        if not self._kept or step - self._since >= self.keep_every:
            self._since = step
            self._kept.append(
                {
                    "step": step,
                    "weights": _copied(dict(module.named_parameters())),
                    "optimizer": _copied(optimizer.state_dict()["state"]),
                }
            )

    def restore(self, module: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> int:
        """Bring back the last good state after so many steps, and give the step that it is of.

        Learning rates stay as they are. A state is brought back once: should it diverge again, the one before is next,
        down to the oldest, which stays. Gradients of the bad weights that were being accumulated are dropped.
        """
        state, self._since = self._kept.pop() if len(self._kept) > 1 else self._kept[-1], step
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(state["weights"][name])
                parameter.grad = None
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": _copied(state["optimizer"]), "param_groups": groups})
        restored: int = state["step"]
        return restored

    def note(self, fault: Fault) -> None:
        """Write a fault into the history."""
        self.history.append(fault)

    # ── the checkpoint ────────────────────────────────────────────────────────────────────────────────────────────

    def state_dict(self) -> dict[str, Any]:
        """Give history and good states as tensors and plain values."""
        faults = [list(fault) for fault in self.history]
        return {"history": faults, "pending": self.pending, "kept": list(self._kept), "since": self._since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.history = [Fault(*fault) for fault in state["history"]]
        self.pending, self._since = state["pending"], state["since"]
        self._kept = deque(state["kept"], maxlen=self._kept.maxlen)


def _copied(value: Any) -> Any:
    """Copy tensors in nested dictionaries, without their graph."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
