"""Two optimizers that take turns, with all that Lightning does for one.

Lightning leaves the optimisation to a model with more than one optimizer. So that its users still get what they know,
this file does by hand what Lightning does for one:

- `Trainer(gradient_clip_val=…, gradient_clip_algorithm=…)` clips each player's gradients, after unscaling.
- `Trainer(accumulate_grad_batches=k)`: the discriminator steps every k batches, and at an epoch's last; the generator
  then takes the mean gradient of k draws.
- Precision plugins and loggers, checkpoints with both optimizers and schedules, one schedule step an epoch.
- `global_step` counts the discriminator's steps, one a batch: the axis of the loggers, `max_steps` and
  `every_n_train_steps`, and the same number that any other model of the zoo has after as many batches. How often the
  generator stepped is `generator_steps`.
- On several processes gradients are averaged here, before a step, because DistributedDataParallel expects every
  parameter in every backward pass; so the plain strategy `ddp` works.
"""

import contextlib
import warnings
from abc import abstractmethod
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import DDPStrategy, ParallelStrategy, SingleDeviceStrategy
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pcgen.base import Batch, GenerativeModel, OptimizerFactory, SchedulerFactory
from pcgen.errors import ConfigurationError
from pcgen.models._freezing import frozen
from pcgen.nets import ExponentialMovingAverage


class TwoPlayers(GenerativeModel):
    """A generator and a discriminator, each with an optimizer of its own.

    A subclass computes their objectives in `discriminator_terms` and `generator_terms`.

    Attributes:
        generator: Noise to what the discriminator judges.
        average: The averaged generator; None without one.
        discriminator: What judges.
        generator_steps: Optimizer steps that the generator has taken.
    """

    objectives = ("discriminator_terms", "generator_terms")
    generator_steps: Tensor

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        discriminator_steps: int,
        ema_decay: float | None,
        optimizer: OptimizerFactory,
        discriminator_optimizer: OptimizerFactory | None,
        lr_scheduler: SchedulerFactory | None,
    ) -> None:
        super().__init__()
        if discriminator_steps < 1:
            raise ConfigurationError(f"discriminator_steps is {discriminator_steps}; give 1 or more")
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise ConfigurationError(
                f"ema_decay is {ema_decay}; give a number from 0 up to but not 1, or null for none"
            )
        self.generator, self.discriminator = generator, discriminator
        self.average = None if ema_decay is None else ExponentialMovingAverage(generator, ema_decay)
        self.discriminator_steps = discriminator_steps
        self.optimizer, self.discriminator_optimizer = optimizer, discriminator_optimizer or optimizer
        self.lr_scheduler = lr_scheduler
        self.register_buffer("generator_steps", torch.zeros((), dtype=torch.int64))
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._sums_before: dict[str, tuple[Tensor, int]] = {}  # this batch

    # ── what a subclass says ──────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def discriminator_terms(self, x: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the discriminator's objective, `loss`, and what else is worth a look, for data: scalars."""

    @abstractmethod
    def generator_terms(self, n: int, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the generator's objective `loss`, and what else is worth a look, for n draws: scalars."""

    def real(self, batch: Batch, *, generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002 -- a hook
        """Give what the discriminator judges, of a batch of data."""
        return batch.x

    def generator_waits(self) -> bool:
        """Say whether the generator stays as it is after this step of the discriminator."""
        return self.trainer.global_step % self.discriminator_steps != 0

    def epoch_trained(self, means: dict[str, float]) -> None:
        """Hear the means of an epoch's terms over its batches."""

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Take the discriminator's turn, and the generator's when that is due; an epoch's last steps the schedules."""
        self._take_turns(batch, batch_idx)
        if self.trainer.is_last_batch:  # before any callback saves the epoch as done
            self._step_schedules()
        if self._ends_epoch():
            self._log_means()

    def _take_turns(self, batch: Batch, batch_idx: int) -> None:
        self._sums_before = dict(self._sums)
        rng = self.step_generator(batch_idx)
        x = self.real(batch, generator=rng)
        k = self.trainer.accumulate_grad_batches
        terms = self.discriminator_terms(x, generator=rng)
        self.log("loss", terms["loss"].detach(), prog_bar=True, logger=False, batch_size=1)
        self._backward(terms.pop("loss") / k)
        self._note(terms)
        if (batch_idx + 1) % k and not self.trainer.is_last_batch:
            return
        self._step_discriminator()
        if not self.generator_waits():
            for _ in range(k):
                with frozen(self.discriminator):
                    terms = self.generator_terms(len(x), generator=rng)
                    self._backward(terms.pop("loss") / k)
                self._note(terms)
            self._step_generator()

    def _backward(self, loss: Tensor) -> None:
        strategy = self.trainer.strategy
        alone = strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else contextlib.nullcontext()
        with alone:
            self.manual_backward(loss)

    def _step_discriminator(self) -> None:
        self._average_over_processes(self.discriminator)
        optimizer = self._players()[1]
        optimizer.step()
        optimizer.zero_grad()

    def _step_generator(self) -> None:
        self._average_over_processes(self.generator)
        optimizer = self._players()[0]
        # Past Lightning's wrapper, which would count the step: `global_step` is one a batch.
        self.trainer.strategy.optimizer_step(optimizer.optimizer, closure=lambda: None)
        optimizer.zero_grad()
        self.generator_steps += 1
        if self.average is not None:
            self.average.update(self.generator)

    def _players(self) -> tuple[LightningOptimizer, LightningOptimizer]:
        both = self.optimizers()
        assert isinstance(both, list)
        return both[0], both[1]

    def _average_over_processes(self, player: nn.Module) -> None:
        """Average a player's gradients over the processes, and the running statistics, which either's turn changes."""
        if self.trainer.world_size == 1:
            return
        shared = [p.grad for p in player.parameters() if p.grad is not None]
        for network in (self.generator, self.discriminator):
            shared += [b for b in network.buffers() if b.is_floating_point()]
        flat = torch.cat([t.flatten().to(torch.promote_types(t.dtype, torch.float32)) for t in shared])
        flat = self.trainer.strategy.reduce(flat, reduce_op="mean")
        for tensor, mean in zip(shared, flat.split([t.numel() for t in shared]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the norm of a player's gradient and clip it, as the trainer was told to."""
        player = "generator" if optimizer is self._players()[0].optimizer else "discriminator"
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        # A fused optimizer takes the loss scale out itself: until then the gradients are too large by it. And where
        # they are too large for half precision, the step is left out and the scale made smaller.
        if not scaled or (norm.isfinite() and not getattr(optimizer, "_step_supports_amp_scaling", False)):
            self._note({f"{player}_gradient_norm": norm})
        clip_val, algorithm = self.trainer.gradient_clip_val, self.trainer.gradient_clip_algorithm
        self.configure_gradient_clipping(optimizer, clip_val, algorithm)

    # ── what is logged ────────────────────────────────────────────────────────────────────────────────────────────

    def _note(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value.detach().float(), count + 1)  # in half precision a long sum stands still

    def step_left_out(self) -> None:
        """Take what is not finite out of the epoch's means."""
        self._sums = {
            name: (total, count) if total.isfinite() else self._sums_before[name]
            for name, (total, count) in self._sums.items()
            if total.isfinite() or name in self._sums_before
        }

    def _log_means(self) -> None:
        means = {f"train/{name}": total / count for name, (total, count) in self._sums.items()}
        means["train/generator_steps"] = self.generator_steps.float()
        # Once an epoch: Lightning's means over batches take as long as a small network's step.
        self.log_dict(means, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)

    def _ends_epoch(self) -> bool:
        """Say whether this batch is known to be the epoch's last, so that all callbacks find its means logged."""
        return self.trainer.is_last_batch or self.trainer.global_step == self.trainer.max_steps

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's means."""
        self._sums = {}

    def on_train_epoch_end(self) -> None:
        """Step schedules that wait for progress, and hand the epoch's means on."""
        if not self._ends_epoch():  # a callback has stopped the training: those that monitor are yet to come
            self._log_means()
        if self.trainer.is_last_batch:
            self.step_plateaus()
        self.epoch_trained({name: float(total / count) for name, (total, count) in self._sums.items()})

    def rank_state(self) -> dict[str, Any]:
        """Give the sums of the epoch's terms so far."""
        return {"sums": {name: [total, count] for name, (total, count) in self._sums.items()}}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self._sums = {name: (total.to(self.device), count) for name, (total, count) in state["sums"].items()}

    def _step_schedules(self) -> None:
        with warnings.catch_warnings():  # of an optimizer that has not stepped yet: a generator may wait for epochs
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for config in self.trainer.lr_scheduler_configs:
                if not isinstance(config.scheduler, ReduceLROnPlateau):
                    config.scheduler.step()

    def step_plateaus(self) -> None:
        """Step the schedules that wait for an epoch's metrics, unless they had this epoch."""
        epochs = self.trainer.current_epoch + 1
        for config in self.trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            # A checkpoint within this hook's epoch had it already.
            if not isinstance(scheduler, ReduceLROnPlateau) or scheduler.last_epoch >= epochs:
                continue
            if (value := self._monitored(scheduler)) is not None:
                scheduler.step(value)

    def _monitored(self, scheduler: ReduceLROnPlateau) -> float | None:
        """Give the value that a schedule waits for; None for an epoch resumed after its last step, as Lightning does.

        Raises:
            ConfigurationError: If nothing of that name is logged.
        """
        name, logged = getattr(scheduler, "monitor", "val/loss"), self.trainer.callback_metrics
        if name in logged:
            return float(logged[name])
        if self.trainer.fit_loop.restarting:  # the checkpoint holds no metrics, and there is no step left to log any
            return None
        raise ConfigurationError(
            f"the learning-rate schedule's monitor is {name}, which is not logged: name one of "
            f"{', '.join(sorted(key for key in logged if '/' in key))}"
        )

    # ── what Lightning asks ───────────────────────────────────────────────────────────────────────────────────────

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Give Lightning the generator's optimizer and the discriminator's, in this order, each with its schedule."""
        generators = self.optimizer(self.generator.parameters())
        discriminators = self.discriminator_optimizer(self.discriminator.parameters())
        entries = self.scheduled(generators), self.scheduled(discriminators)
        for entry in entries:
            entry.get("lr_scheduler", {}).pop("monitor", None)  # Lightning would warn that it leaves that to the model
        return entries  # type: ignore[return-value]  # plain dicts

    def configure_callbacks(self) -> list[Any]:
        """Give no callbacks: this is where Lightning asks for the last time before it looks at the trainer's options.

        It refuses clipping and accumulation to a manual optimisation, and cannot know that both are done here. So the
        model says that it is manual from `setup` on.
        """
        self.automatic_optimization = True
        return []

    def setup(self, stage: str) -> None:
        """Take the optimisation over.

        Raises:
            ConfigurationError: If the strategy shards the model, the precision is too coarse for an average, or a
                callback would never save it.
        """
        super().setup(stage)
        self.automatic_optimization = False
        strategy = self.trainer.strategy
        if not isinstance(strategy, DDPStrategy | SingleDeviceStrategy):
            raise ConfigurationError(
                f"{type(strategy).__name__} shards models, and {type(self).__name__} averages whole gradients: set "
                "trainer.strategy to ddp"
            )
        if stage == "fit" and self.average is not None and self.trainer.precision in ("16-true", "bf16-true"):
            raise ConfigurationError(
                f"trainer.precision is {self.trainer.precision}, in which an average of decay {self.average.decay:g} "
                "soon stands still: set it to 16-mixed or bf16-mixed, or the model's ema_decay to null"
            )
        by_time = [c for c in self.trainer.checkpoint_callbacks if getattr(c, "_train_time_interval", None)]
        if by_time and stage == "fit":
            raise ConfigurationError(
                f"{type(by_time[0]).__name__} has a train_time_interval, by which Lightning never saves a model of two "
                f"optimizers, such as {type(self).__name__}: give every_n_train_steps instead"
            )
        # A remedy for a model of Lightning's own tests, told to everybody who saves every so many steps.
        warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optimization")
