"""A training that goes on from a checkpoint as if it had never been stopped, whichever step the checkpoint is of.

Lightning brings back weights, optimizers, schedules and the place in the data. What it leaves out is here:

- Chance. Networks may draw from torch's, NumPy's and Python's global generators (`nn.Dropout` does). They are seeded
  before every step by what `GenerativeModel.step_generator` is seeded by; and their states, for whatever draws between
  two steps, are in the checkpoint, as are the metrics by which schedules and callbacks decide.
- What each process has for itself (`GenerativeModel.rank_state`): the checkpoint holds that of all of them.
- The end of a step. Of a checkpoint that was saved right after a step (`every_n_train_steps`, a job that is told to
  stop) Lightning forgets the validation that was due, and the end of the epoch after an epoch's last step; and
  ReduceLROnPlateau does not step in the epoch of resuming.

Not exact can be: another number of processes (the data are shared out otherwise), operations on GPUs that add in any
order (`Trainer(deterministic=True)` avoids those that torch knows), and other hardware or versions of torch.
"""
# ruff: noqa: SLF001 -- the loops have no public way to say where they are

import warnings
from typing import Any, Protocol

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loops.evaluation_loop import RestartStage as EvaluationStage
from pytorch_lightning.loops.training_epoch_loop import RestartStage
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from pcgen.ops.processes import take_from_first
from pcgen.training.chance import RandomState, seed_global_generators
from pcgen.training.epoch_means import EpochMeans
from pcgen.training.refusing import refuse_not_finite
from pcgen.training.stopping import STOPPED_KEY, stays_stopped, stop_of
from pcgen.training.together import Together, check_together

RANKS_KEY = "pcgen_ranks"
METRICS_KEY = "pcgen_metrics"


class Resumable(Protocol):
    """What a model has to say for itself."""

    def step_place(self, batch_idx: int) -> tuple[Any, ...]:
        """Give what the chance of a step depends on."""

    def step_plateaus(self) -> None:
        """Step the schedules that wait for an epoch's metrics, unless they had this epoch."""

    def rank_state(self) -> dict[str, Any]:
        """Give what this process alone has, as tensors and plain values."""

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Take what `rank_state` gave."""


# ── the callback that every training has ──────────────────────────────────────────────────────────────────────────────


class ExactResuming(Callback):
    """What a training needs beyond Lightning's checkpoints; `GenerativeModel.setup` puts it before all callbacks.

    It is a callback so that no subclass can lose it by overriding a hook.
    """

    def __init__(self) -> None:
        self._together = Together()
        self._before: RandomState | None = None  # of the process that trains: it gets it back in the end
        self._around: RandomState | None = None  # of the training, during a validation
        self._resumed: dict[str, Any] | None = None
        self._step: int | None = None  # that of the checkpoint
        self._patience: dict[EarlyStopping, int] = {}  # as it is configured now
        self._means = EpochMeans()

    @classmethod
    def attach(cls, trainer: Trainer) -> None:
        """Put one before the trainer's callbacks, unless there is one; all processes call this together."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
        self = next((c for c in callbacks if isinstance(c, cls)), None)
        if self is None:
            self = cls()
            callbacks.insert(0, self)
        self._resumed, self._step, self._patience = None, None, {}  # of a former training
        self._together.connect(trainer)

    @classmethod
    def refuse_not_finite(cls, trainer: Trainer | None, checkpoint: dict[str, Any]) -> None:
        """Refuse to save what is not finite in any process.

        Raises:
            DivergenceError: On all of them.
        """
        callbacks = [] if trainer is None else trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
        self = next((c for c in callbacks if isinstance(c, cls)), None)
        if trainer is None or self is None:
            refuse_not_finite(checkpoint)
        else:
            refuse_not_finite(checkpoint, trainer.global_rank, self._together.highest)

    # ── chance ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_train_batch_start(self, trainer: Trainer, model: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Seed the global generators for the step."""
        seed_global_generators(model.step_place(batch_idx), model.device)

    def on_validation_start(self, trainer: Trainer, model: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Note the training's chance, which validating does not change."""
        self._around = RandomState(model.device)

    def on_validation_batch_start(
        self,
        trainer: Trainer,  # noqa: ARG002 -- Lightning's
        model: Any,
        batch: Any,  # noqa: ARG002
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Seed the global generators for a step that is the same in every validation."""
        seed_global_generators((*model.step_place(batch_idx), dataloader_idx), model.device)

    def on_validation_epoch_end(self, trainer: Trainer, model: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Bring the training's chance back, before other callbacks draw."""
        if self._around is not None:
            self._around.restore()
            self._around = None

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:  # noqa: ARG002 -- Lightning's
        """Complete the epoch's means by what was logged before."""
        if self._means.waiting:
            self._means.add(trainer)

    def on_train_epoch_start(self, trainer: Trainer, model: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Begin new means."""
        self._means.begin(trainer)

    def on_train_epoch_end(self, trainer: Trainer, model: LightningModule) -> None:
        """Resume no more; and give every process the first one's running statistics, before others see the model.

        DistributedDataParallel does so before each step. So what the processes do after an epoch without a validation,
        such as drawing samples together, they do with one model: the one that the checkpoint holds.
        """
        self._means.finish(trainer)
        if trainer.world_size > 1:
            own = getattr(model, "_ddp_params_and_buffers_to_ignore", ())  # of each process, such as its chains
            take_from_first(buffer for name, buffer in model.named_buffers() if name not in own)
        trainer.fit_loop.epoch_loop.restarting = False

    def on_train_end(self, trainer: Trainer, model: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Leave the process with the chance that it had."""
        if self._before is not None:
            self._before.restore()
            self._before = None

    def on_exception(self, trainer: Trainer, model: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Do as at the end."""
        self.on_train_end(trainer, model)

    # ── the checkpoint ────────────────────────────────────────────────────────────────────────────────────────────

    def on_save_checkpoint(self, trainer: Trainer, model: Any, checkpoint: dict[str, Any]) -> None:
        """Add every process's chance and own state, and the metrics by which schedules and callbacks decide."""
        own = {"random": RandomState(model.device).state_dict(), "model": _on_cpu(model.rank_state())}
        own["means"] = _on_cpu(EpochMeans.state_dict(trainer))
        if trainer.training and trainer.fit_loop.epoch_loop._should_accumulate():  # this process's, not yet averaged
            own["gradients"] = {k: p.grad.cpu() for k, p in model.named_parameters() if p.grad is not None}
        checkpoint[RANKS_KEY] = self._together.gather(trainer, own)
        checkpoint[METRICS_KEY] = _on_cpu(dict(trainer.callback_metrics))
        checkpoint[STOPPED_KEY] = stop_of(trainer)

    def on_load_checkpoint(self, trainer: Trainer, model: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Take them, for when the training begins."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._step = checkpoint["global_step"]
        # Before Lightning replaces it by what it was: what the user says now counts.
        self._patience = {c: c.patience for c in trainer.early_stopping_callbacks}
        states = checkpoint.get(RANKS_KEY)
        self._resumed = {"metrics": checkpoint.get(METRICS_KEY, {}), "stop": checkpoint.get(STOPPED_KEY)}
        if states is None:  # of an older version
            return
        if len(states) != trainer.world_size and trainer.is_global_zero:
            warnings.warn(
                f"the checkpoint is of a training in {len(states)} process(es) and goes on in {trainer.world_size}: "
                "the data are shared out otherwise, so it will not end exactly as it would have",
                stacklevel=2,
            )
        state = states[trainer.global_rank % len(states)]
        if state is None:
            warnings.warn(
                f"the checkpoint does not hold the state of process {trainer.global_rank}, which did not save it too: "
                "the training will not end exactly as it would have",
                stacklevel=2,
            )
        else:
            self._resumed |= state

    def on_fit_start(self, trainer: Trainer, model: LightningModule) -> None:  # noqa: ARG002 -- Lightning's
        """Check that all processes go on from the same step, before any of them computes anything.

        Raises:
            ConfigurationError: If they do not.
        """
        if not trainer.strategy.restore_checkpoint_after_setup:  # a sharded model is loaded by all together, or not
            check_together(trainer, trainer.global_step if self._step is None else self._step)

    def on_train_start(self, trainer: Trainer, model: Any) -> None:
        """Go on with what was saved, at the place where it was saved."""
        self._before = RandomState(model.device)
        state, self._resumed = self._resumed, None
        if state is None:
            finish_step(trainer, model)
            return
        trainer.callback_metrics.update(state["metrics"])
        if "random" in state:
            self._take(trainer, model, state)
        finish_step(trainer, model)
        for callback, patience in self._patience.items():
            callback.patience = patience
        if stays_stopped(trainer, state["stop"]):
            trainer.should_stop = True

    def _take(self, trainer: Trainer, model: Any, state: dict[str, Any]) -> None:
        """Take what this process alone had."""
        model.load_rank_state(state["model"])
        for name, gradient in state.get("gradients", {}).items():
            model.get_parameter(name).grad = gradient.to(model.device)
        if trainer.fit_loop.restarted_mid_epoch:
            self._means.waiting = dict(state.get("means", {}))
        RandomState.of(state["random"], model.device).restore()


def _on_cpu(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_on_cpu(value) for value in state]
    return state.detach().cpu() if isinstance(state, Tensor) else state


# ── the end of a step ─────────────────────────────────────────────────────────────────────────────────────────────────


def finish_step(trainer: Trainer, model: Resumable) -> None:
    """Have Lightning finish the step after which a checkpoint was saved: validation, and the end of the epoch.

    Called when the loops have been reset and no batch was taken yet.
    """
    fit, steps = trainer.fit_loop, trainer.fit_loop.epoch_loop
    validation = steps.val_loop
    if steps.restarted_on_train_batch_end:
        last = steps.batch_progress.is_last_batch
        if last and fit.restarted_mid_epoch:  # counted as done by `reset`, which it is not
            progress: Any
            for progress in (fit.epoch_progress.total, fit.epoch_progress.current):
                progress.processed -= 1
                progress.completed -= 1
        fetcher: Any = fit._data_fetcher  # there is one by now
        due = steps._should_check_val_fx(fetcher)
        if due or last:
            steps.batch_progress.increment_completed()
            steps._restart_stage = RestartStage.RESTARTED_ON_LAST
        if due:  # as if stopped in the midst of it, and from its beginning
            validation._restarting = False
            validation._restart_stage = EvaluationStage.RESTARTED_MID_EVALUATION
        elif last:
            validation._has_run = True
            steps._batches_that_stepped += 1
    elif fit.resumed_on_epoch_end or fit.restarted_on_epoch_end:  # saved before such schedules step, and after the rest
        if fit.restarted_on_epoch_end:  # with max_steps: Lightning would end the epoch again, and count it twice
            fit.epoch_progress.increment_completed()
            fit.reset_restart_stage()
            steps.reset_restart_stage()
            steps.restarting = False
        fit.epoch_progress.current.completed -= 1  # they count epochs
        model.step_plateaus()
        fit.epoch_progress.current.completed += 1
    fit._restarting = False  # else ReduceLROnPlateau would be passed over, for want of metrics, which are there
