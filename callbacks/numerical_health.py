"""What happens when numbers of a training are not finite any more."""

import math
import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from pcgen.base import GenerativeModel
from pcgen.callbacks._diagnosis import Step, find_origin, progress_of
from pcgen.callbacks._faults import Fault, batch_report, gathered, look_for_bad_data, told, write_report
from pcgen.callbacks._logging import run_folder
from pcgen.chains import DivergenceGuard
from pcgen.errors import ConfigurationError, DataError, DivergenceError
from pcgen.ops.finite import all_finite, not_finite
from pcgen.training.together import log_equal

_OF_NUMBERS = re.compile(r"\b(not finite|non-?finite|infinite|nan|inf)\b", re.IGNORECASE)
SCALER_SKIPS = 20  # steps in a row that a loss scaler may leave out to find its scale


class NumericalHealth(Callback):
    """Stops, or leaves a step out, when a loss, a gradient or a weight is NaN or infinite.

    Loss and gradients are looked at before each optimizer step, after they are averaged over the processes, so that
    all decide alike; a loss that is not finite makes its gradients so. With `stop` the training ends with an error
    before the weights are changed. With `skip` that optimizer step is left out, as if it had no gradients: weights and
    the optimizer's moments stay, running statistics go back to what they were before the step, the epoch's means forget
    it, schedules and `global_step` go on, a warning tells of it, and `train/skipped_steps` counts. Of a model with two
    optimizers the step of that one is left out. Accumulated batches are one step.

    Weights are looked at every `every_n_steps`, at each epoch's end, and whenever a step is not healthy: an optimizer
    can make infinity of finite gradients, and then there is nothing to go back to but the last checkpoint, so either
    policy stops. A checkpoint of weights that are not finite is never written, with this callback or without.

    Message and warning say the step, the first module where it appeared, which is found by running the step again, and
    the batch's data; `faults/step_000123.json` in the run's folder names all of them, of every process.

    A loss scaler (`precision: 16-mixed`) leaves out steps by itself to find its scale; only 20 in a row, a loss that is
    NaN, or data that are, count here. A model with a guard of its own (GenerativePointNet) goes by that one, which runs
    chains again and brings back weights.

    A healthy step costs one pass over gradients and one copy of the running statistics; on a GPU also one wait for the
    gradients, without which no step can be stopped before it changes the weights.

    Args:
        policy: "stop" or "skip".
        max_skips: The training stops when it would leave out more steps in a row than this.
        every_n_steps: How often the weights are looked at; 0 for the end of each epoch alone.

    Raises:
        ConfigurationError: If an argument is out of its range.
    """

    def __init__(self, policy: Literal["stop", "skip"] = "stop", max_skips: int = 10, every_n_steps: int = 100) -> None:
        if policy not in ("stop", "skip"):
            raise ConfigurationError(f"policy is {policy!r}; give 'stop' or 'skip'")
        if max_skips < 0:
            raise ConfigurationError(f"max_skips is {max_skips}; give 0 or more")
        if every_n_steps < 0:
            raise ConfigurationError(f"every_n_steps is {every_n_steps}; give 0 or more")
        self.policy, self.max_skips, self.every_n_steps = policy, max_skips, every_n_steps
        self.skipped = 0  # in the whole training
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._batches: list[tuple[Any, int]] = []  # of the step that is being made
        self._losses: list[Tensor] = []
        self._refused = ""  # what a function said that does not compute with such numbers
        self._turns = 0  # optimizer steps taken in this batch
        self._in_a_row: dict[int, int] = {}  # of each optimizer, by its place
        self._progress: tuple[int, ...] = ()
        self._buffers: list[Tensor] = []  # before the step
        self._logged: dict[str, dict[str, Any]] = {}
        self._told_of_evaluation = False

    # ── a step ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Begin anew."""
        self._begin_anew()
        self._guarded = isinstance(getattr(pl_module, "guard", None), DivergenceGuard)
        if not self._guarded and isinstance(pl_module, GenerativeModel):
            for name in pl_module.objectives:
                vars(pl_module)[name] = partial(self._computed, pl_module, getattr(pl_module, name))

    def _computed(self, model: GenerativeModel, objective: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Compute an objective: NaN where a function refuses numbers that are not finite, so that all is as with any.

        The other processes wait for this one's gradients, and a step can be left out only where it is made.
        """
        try:
            return objective(*args, **kwargs)
        except (ValueError, RuntimeError) as error:
            if isinstance(error, DivergenceError) or not _OF_NUMBERS.search(str(error)):
                raise
            self._refused = str(error)
            weights = [p.sum() for p in model.parameters() if p.requires_grad]
            loss = math.nan * torch.stack(weights).sum()
            return loss if model.automatic_optimization else {"loss": loss}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 -- Lightning's
        """Leave the model as it was."""
        for name in getattr(pl_module, "objectives", ()):
            vars(pl_module).pop(name, None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the model as it was, and say when an evaluation met such numbers."""
        self.teardown(trainer, pl_module, "fit")
        if isinstance(exception, DataError) and _OF_NUMBERS.search(str(exception)):
            place = f"after step {trainer.global_step} of {type(pl_module).__name__}, epoch {trainer.current_epoch}"
            exception.args = (f"{place}: {exception}",)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember what there is before a step."""
        if self._guarded:
            return
        self._turns = 0
        if not self._batches:
            self._remember(trainer, pl_module)
        self._batches.append((batch, batch_idx))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:  # noqa: ARG002
        """See to it that a loss that is not finite shows in the gradients, whichever process it is of."""
        if self._guarded:
            return
        value = loss.detach()
        self._losses.append(value)
        if loss.requires_grad:
            loss.register_hook(_spread_scaled(value) if _scaler(trainer) else lambda gradient: gradient + 0 * value)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Look at the gradients, and stop or leave the step out if they are not finite.

        Raises:
            DivergenceError: By the policy.
        """
        if self._guarded:
            return
        losses, self._losses = self._losses, []
        refused, self._refused = self._refused, ""
        turns, self._turns = self._turns, self._turns + 1
        place = _place(trainer, optimizer)
        if all_finite(p.grad for p in _parameters(optimizer) if p.grad is not None):
            self._in_a_row[place] = 0
            return
        self._in_a_row[place] = self._in_a_row.get(place, 0) + 1
        if _scaler(trainer) and self._is_left_to_the_scaler(trainer, losses, self._in_a_row[place]):
            self._go_back(trainer, pl_module)
            return
        self._meet(trainer, pl_module, optimizer, losses, turns, refused)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Look at the weights now and then.

        Raises:
            DivergenceError: If they are not finite.
        """
        if not self._batches or not _stepped(trainer, self._batches[-1][1]):
            return
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if (due or trainer.is_last_batch) and (lost := _lost(pl_module)):
            fault = self._fault(trainer, pl_module, f"the weights are not finite after this step: {_some(lost)}")
            fault.step, fault.parameters, fault.module = trainer.global_step - 1, lost, lost[0].rpartition(".")[0]
            self._stop(trainer, fault)
        self._batches.clear()

    # ── a fault ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_left_to_the_scaler(self, trainer: Trainer, losses: list[Tensor], in_a_row: int) -> bool:
        serious = any(bool(loss.isnan().any()) for loss in losses) or any(
            look_for_bad_data(batch) is not None for batch, _ in self._batches
        )
        return in_a_row <= SCALER_SKIPS and not any(gathered(trainer, serious))

    def _meet(
        self,
        trainer: Trainer,
        model: LightningModule,
        optimizer: Optimizer,
        losses: list[Tensor],
        turns: int,
        refused: str,
    ) -> None:
        lost = _lost(model)
        bad = not_finite((n, p.grad) for n, p in _named_parameters(model, optimizer) if p.grad is not None)
        self._go_back(trainer, model)
        fault = self._fault(trainer, model, "")
        fault.losses = [[float(x) for x in of] for of in gathered(trainer, [x.float().cpu() for x in losses])]
        fault.gradients, fault.parameters = bad, lost
        fault.refused = next((words for words in gathered(trainer, refused) if words), "")
        self._name_origin(trainer, model, fault, Step(self._batches, turns, self._progress))
        self._drop(trainer, optimizer)
        place = _place(trainer, optimizer)
        if self.policy == "stop" or lost or self._in_a_row[place] > self.max_skips:
            fault.in_a_row = self._in_a_row[place]
            if not turns:  # nobody has stepped in this batch, and nobody will
                self._put_back(model)
            self._stop(trainer, fault)
        self.skipped += 1
        fault.action = "skipped"
        path = write_report(run_folder(trainer), fault, write=trainer.is_global_zero)
        if trainer.is_global_zero:
            warnings.warn(f"{told(fault)}; this step is left out ({path})", stacklevel=2)

    def _name_origin(self, trainer: Trainer, model: LightningModule, fault: Fault, step: Step) -> None:
        """Say where it began: in the weights, in the data of any process, or in the first module on any."""
        bad_loss = any(not math.isfinite(loss) for of in fault.losses for loss in of)
        fault.what = "the loss is not finite" if bad_loss else f"the gradient is not finite: {_some(fault.gradients)}"
        if fault.parameters:
            fault.module = fault.parameters[0].rpartition(".")[0]
            fault.where = f"as the weights were not before this step: {_some(fault.parameters)}"
        elif not fault.bad_data:
            found = gathered(trainer, find_origin(trainer, model, step))
            first = next((origin for origin in found if origin is not None), None)
            fault.module = "" if first is None else first.module
            fault.where = "in no module when the step was run again" if first is None else f"first {first.words}"

    def _fault(self, trainer: Trainer, model: LightningModule, what: str) -> Fault:
        mine = [batch_report(trainer, batch, batch_idx) for batch, batch_idx in self._batches]
        return Fault(
            step=trainer.global_step,
            epoch=trainer.current_epoch,
            model=type(model).__name__,
            what=what,
            batches=[batch for of in gathered(trainer, mine) for batch in of],
        )

    def _stop(self, trainer: Trainer, fault: Fault) -> None:
        fault.action = "stopped"
        path = write_report(run_folder(trainer), fault, write=trainer.is_global_zero)
        self._batches.clear()
        raise DivergenceError(f"{told(fault)}; {_remedy(fault, self.policy, self.max_skips)} ({path})")

    # ── bringing back ─────────────────────────────────────────────────────────────────────────────────────────────

    def _remember(self, trainer: Trainer, model: LightningModule) -> None:
        buffers = [b.detach() for b in model.buffers()]
        if [(b.shape, b.dtype, b.device) for b in self._buffers] != [(b.shape, b.dtype, b.device) for b in buffers]:
            self._buffers = [b.clone() for b in buffers]
        elif buffers:
            torch._foreach_copy_(self._buffers, buffers)
        self._progress = progress_of(trainer)
        self._logged = _logged(trainer)

    def _go_back(self, trainer: Trainer, model: LightningModule) -> None:
        """Bring back running statistics and the epoch's means, which a forward pass has spoiled.

        Of a model that optimises by hand, another player's step may be part of what was done since: there only what is
        not finite goes back.
        """
        self._put_back(model, all_of_them=model.automatic_optimization)
        _forget(trainer, self._logged)
        if isinstance(model, GenerativeModel):
            model.step_left_out()

    @torch.no_grad()
    def _put_back(self, model: LightningModule, *, all_of_them: bool = True) -> None:
        for buffer, before in zip(model.buffers(), self._buffers, strict=True):
            if all_of_them or not bool(buffer.isfinite().all()):
                buffer.copy_(before)

    def _drop(self, trainer: Trainer, optimizer: Optimizer) -> None:
        """Take the gradients away, so that the optimizer does nothing: no decay of weights, no moment either."""
        if _scaler(trainer):  # which leaves out the step of such gradients, and has to see them
            return
        for parameter in _parameters(optimizer):
            parameter.grad = None

    # ── what is told ──────────────────────────────────────────────────────────────────────────────────────────────

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Log how many steps were left out so far."""
        if self.policy == "skip" and not self._guarded:
            log_equal(pl_module, {"train/skipped_steps": float(self.skipped)})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Say once if a loss of the validation is not finite, and which data are to blame."""
        bad = [name for name, value in trainer.callback_metrics.items() if _is_loss(name) and not value.isfinite()]
        if not bad or self._told_of_evaluation or trainer.sanity_checking:
            return
        self._told_of_evaluation = True
        blamed = gathered(trainer, _bad_validation_data(trainer))
        found = [words for words in blamed if words]
        if trainer.is_global_zero:
            warnings.warn(
                f"epoch {trainer.current_epoch}: {_some(bad)} is not finite, "
                + (f"nor are the data: {'; '.join(found)}" if found else "of data that are")
                + "; the training goes on",
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        """Keep the count."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = state_dict["skipped"]


def _scaler(trainer: Trainer) -> Any:
    return getattr(trainer.precision_plugin, "scaler", None)


def _spread_scaled(value: Tensor) -> Any:
    # A loss times its scale may be infinite, and its gradients right all the same.
    return lambda gradient: gradient + torch.where(value.isnan(), value, torch.zeros_like(value)).to(gradient.dtype)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _named_parameters(model: LightningModule, optimizer: Optimizer) -> list[tuple[str, Tensor]]:
    own = {id(parameter) for parameter in _parameters(optimizer)}
    return [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in own]


def _place(trainer: Trainer, optimizer: Optimizer) -> int:
    return next((k for k, each in enumerate(trainer.optimizers) if each is optimizer), 0)


def _lost(model: LightningModule) -> list[str]:
    return not_finite(model.named_parameters())


def _stepped(trainer: Trainer, batch_idx: int) -> bool:
    return trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def _some(names: list[str]) -> str:
    more = len(names) - 1
    return names[0] + (f" and {more} more" if more else "") if names else "none by itself"


def _is_loss(name: str) -> bool:
    return name.startswith("val/") and any(word in name for word in ("loss", "elbo", "energy"))


def _remedy(fault: Fault, policy: str, max_skips: int) -> str:
    if fault.parameters:
        return "go on from the last checkpoint, with a smaller learning rate or trainer.gradient_clip_val"
    if policy == "skip":
        return f"more than {max_skips} steps in a row: the weights are those before them, look at what is said here"
    mend = "mend those data" if fault.bad_data else "take a smaller learning rate or trainer.gradient_clip_val"
    return (
        f"no weight was changed by it: {mend} and go on from the last checkpoint, or leave such steps out by "
        "NumericalHealth's policy: skip"
    )


def _bad_validation_data(trainer: Trainer) -> str | None:
    loaders = trainer.val_dataloaders
    for loader in loaders if isinstance(loaders, list) else [loaders]:
        for k, batch in enumerate(loader or []):
            if (rows := look_for_bad_data(batch)) is not None:
                return f"batch {k} on process {trainer.global_rank}, in place {', '.join(map(str, rows))}"
    return None


# ── Lightning's means over an epoch ───────────────────────────────────────────────────────────────────────────────────

_MEANS = ("value", "cumulated_batch_size", "has_reset")


def _logged(trainer: Trainer) -> dict[str, dict[str, Any]]:
    """Give what is accumulated. No number is changed in its place, so nothing has to be copied."""
    results = trainer.fit_loop.epoch_loop._results  # noqa: SLF001 -- Lightning's own hooks have no way to it
    return {
        key: {name: vars(metric)[name] for name in _MEANS if name in vars(metric)}
        for key, metric in results.items()
        if metric.is_tensor
    }


def _forget(trainer: Trainer, before: dict[str, dict[str, Any]]) -> None:
    """Put it back, and begin anew what was not there."""
    for key, metric in trainer.fit_loop.epoch_loop._results.items():  # noqa: SLF001 -- as above
        if not metric.is_tensor:
            continue
        if key not in before:
            metric.reset()
        else:
            vars(metric).update(before[key], _computed=None)
