"""No checkpoint is written of what is not finite, so nothing good is overwritten by it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pcgen.errors import DivergenceError
from pcgen.ops.finite import not_finite


def refuse_not_finite(checkpoint: dict[str, Any], rank: int = 0, highest: Callable[[int], int] = int) -> None:
    """Refuse weights, averages and statistics that are not finite, and what would make them so at the next step.

    Args:
        checkpoint: What Lightning collected in this process.
        rank: Of this process.
        highest: Gives the highest of all processes' numbers, so that all refuse what one of them does.

    Raises:
        DivergenceError: On all processes.
    """
    bad = _faults(checkpoint)
    culprit = highest(rank + 1 if bad else 0) - 1
    if culprit < 0:
        return
    what = f"{bad[0]} holds NaN or infinity" if bad else f"process {culprit} holds NaN or infinity"
    raise DivergenceError(
        f"no checkpoint is written after step {checkpoint.get('global_step', 0)}: {what}"
        + (f", and {len(bad) - 1} more do" if len(bad) > 1 else "")
        + "; those written before are untouched: go on from the last of them, with a smaller learning rate or "
        "trainer.gradient_clip_val"
    )


def _faults(checkpoint: dict[str, Any]) -> list[str]:
    bad = not_finite(checkpoint.get("state_dict", {}).items())
    moments = {
        f"{key} of parameter {i} in optimizer {k}": moment
        for k, optimizer in enumerate(checkpoint.get("optimizer_states", []))
        for i, state in optimizer.get("state", {}).items()
        if isinstance(state, dict)
        for key, moment in state.items()
        if isinstance(moment, Tensor)
    }
    # An infinite second moment does no harm but to its own weight, which stands still.
    return bad + [name for name in not_finite(moments.items()) if bool(moments[name].isnan().any())]
