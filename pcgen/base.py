"""The contract between the three wings: the batch, the datamodule and the generative model.

Callbacks and commands know models and data only through this file. See `pcgen.recipe` for why everything here is
`Recorded`.
"""

import functools
import hashlib
import importlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn

from pcgen import __version__
from pcgen.errors import ConfigurationError, UnsupportedOperationError
from pcgen.ops.paths import Path, interpolate_codes
from pcgen.recipe import Recorded, describe, plain_numbers
from pcgen.training.provenance import provenance, without_secrets
from pcgen.training.resuming import ExactResuming
from pcgen.training.saving import write_durably

CHECKPOINT_KEY = "pcgen"
CHECKPOINT_FORMAT = 1
NOISE_KEY = "pcgen_noise_seed"

OptimizerFactory = Callable[[Iterable[Any]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


class Batch(NamedTuple):
    """What every datamodule yields and every model takes.

    Attributes:
        x: Clouds (B, N, 3) float32, or images (B, C, H, W) in [0, 1].
        label: Class indices (B,) int64, or None.
        factors: Known generating factors (B, K) float32, or None.
    """

    x: Tensor
    label: Tensor | None = None
    factors: Tensor | None = None


class Decomposition(NamedTuple):
    """What a deforming model's decoder makes of a code: an appearance, and where each of its places goes.

    Attributes:
        x: What `decode` gives, images (B, C, H, W), cut to [0, 1], or clouds (B, N, 3).
        template: As x: the appearance in the canonical frame, before the deformation; albedo ⊙ shading may exceed 1.
        deformation: For images the sampling grid (B, H, W, 2), x(p) = template(W(p)): for each pixel the place (x, y)
            in the template, −1 and 1 at the centres of the outermost pixels, x to the right, y downwards. For clouds
            the displacements (B, N, 3) of the template's points.
        layers: What the template is the product of: `"albedo"` (B, C, H, W) and `"shading"` (B, 1, H, W), if it is one.
    """

    x: Tensor
    template: Tensor
    deformation: Tensor
    layers: dict[str, Tensor]


class DataModule(Recorded, LightningDataModule):
    """A LightningDataModule that says what it gives.

    Splits are `"train"`, `"val"` and `"test"`, fixed and disjoint; statistics come from the training split. Loaders
    yield `Batch`es.
    """

    sample_shape: tuple[int, ...]  # (N, 3) or (C, H, W)
    class_names: tuple[str, ...] = ()
    factor_names: tuple[str, ...] = ()
    truth_names: tuple[str, ...] = ()  # of the parts that `truth` numbers in "part"
    up_axis: int | None = None  # 0, 1 or 2 for clouds
    normalization: dict[str, Any]  # plain data: what was applied and how to undo it; {} for none

    @abstractmethod
    def take(self, split: str, n: int | None = None, *, seed: int | None = None) -> Batch:
        """Give fixed data of one split, without augmentation, the same on every rank and in every call.

        Args:
            split: `"train"`, `"val"` or `"test"`.
            n: How many; None for all. More than there are gives all.
            seed: None takes the first n (spread over the classes where there are labels), a number draws a random
                subset without repeats.

        Returns:
            A batch on the CPU, normalised as the loaders' batches are.
        """

    def truth(self, split: str, n: int | None = None) -> dict[str, Tensor]:
        """Give what else is known of the data that `take(split, n)` gives, for measuring what a model recovers.

        Args:
            split: As in `take`.
            n: As in `take`.

        Returns:
            By name, nothing by default. Of images: `"grid"` (n, H, W, 2), where each pixel lies in the canonical frame,
            −1 and 1 at the centres of the outermost pixels; `"albedo"` (n, C, H, W) and `"shading"` (n, 1, H, W) in
            that frame; `"landmarks"` (n, L, 2), where landmarks lie in the image, and `"template_landmarks"` (L, 2) in
            the canonical frame; `"support"` (n, H, W), which pixels show the object. Of clouds: `"part"` (n, N), which
            of `truth_names` each point belongs to.
        """
        return {}

    def info(self) -> dict[str, Any]:
        """Return what a checkpoint remembers of its data, as plain values."""
        return {
            "recipe": describe(self, where=type(self).__name__),
            "sample_shape": list(self.sample_shape),
            "class_names": list(self.class_names),
            "factor_names": list(self.factor_names),
            "up_axis": self.up_axis,
            "normalization": describe(self.normalization, where="normalization"),
        }


VERBS = (
    "sample", "encode", "decode", "reconstruct", "interpolate", "prior", "posterior", "decompose", "trajectory",
    "features", "energy", "classify",
)  # fmt: skip
_NEEDS = {"sample": ("prior", "decode"), "reconstruct": ("encode", "decode"), "interpolate": ("encode", "decode")}
_THINGS = ("prior", "posterior", "trajectory", "features", "energy")  # verbs that are nouns

F = TypeVar("F", bound=Callable[..., Any])


def verb(method: F) -> F:
    """Make a public verb total: evaluation mode, the model's device and dtype, no gradient unless asked.

    A gradient is asked for by giving a tensor that requires one. The model's mode is put back afterwards, so a
    callback may call a verb in the middle of an epoch.
    """

    @functools.wraps(method)
    def wrapper(self: "GenerativeModel", *args: Any, **kwargs: Any) -> Any:
        args = tuple(a.to(self.like) if isinstance(a, Tensor) else a for a in args)
        kwargs = {k: a.to(self.like) if isinstance(a, Tensor) else a for k, a in kwargs.items()}
        given = (*args, *kwargs.values())
        asked = torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in given)
        modes = [(m, m.training) for m in self.modules()]
        self.eval()
        try:
            with torch.set_grad_enabled(asked):
                return method(self, *args, **kwargs)
        finally:
            for module, mode in modes:
                module.training = mode

    return wrapper  # type: ignore[return-value]  # functools.wraps keeps the signature, which mypy cannot see


class GenerativeModel(Recorded, LightningModule):
    """A LightningModule of the zoo, which says what it can do: most sample, a classifier classifies.

    A latent-variable model implements `encode`, `decode` and `prior`; `sample`, `reconstruct` and `interpolate` then
    follow. Any other model overrides the verbs that it has. Verbs are decorated with `verb`.

    Attributes:
        sample_shape: (N, 3) or (C, H, W) of what `sample` gives.
        latent_dim: Length of a code, or None for a model without one.
        latent_parts: Columns of a code by what they say, such as `"shape"` and `"appearance"`; {} where nobody knows.
        corruption: What data go through before they are encoded in training, where the model learns to undo it; None
            for any other model.
        kl_per_dimension: Mean KL (Z,) of each latent dimension at the last evaluation, in nats; None for a model that
            has none, or was not evaluated yet.
        confusion: Of a classifier's last evaluation (K, K) int64: row i, column j counts data of class i that were
            taken for class j; None for any other model, or before.
        data_info: `DataModule.info()` of the training data, once it is known; kept in the checkpoint.
        noise_seed: Of `step_generator`; taken from torch's global seed as a training begins, kept in the checkpoint.
        objectives: Names of the methods that compute a loss in a training step: one that gives it, or for a manual
            optimisation those that give a dictionary with `loss`.
        optimizer: Makes the optimizer from parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer, stepped once a `schedule_interval`, or None.
        schedule_interval: "epoch", or "step" for an optimizer step.
    """

    sample_shape: tuple[int, ...]
    latent_dim: int | None = None
    latent_parts: dict[str, slice]
    corruption: nn.Module | None
    kl_per_dimension: Tensor | None = None
    confusion: Tensor | None = None
    data_info: dict[str, Any] | None = None
    chunk_size: int = 64  # data a verb handles at once: bounds memory, changes nothing else
    objectives: ClassVar[tuple[str, ...]] = ("training_step",)
    optimizer: OptimizerFactory
    lr_scheduler: SchedulerFactory | None = None
    schedule_interval: str = "epoch"
    noise_seed: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.corruption = None  # not a default of the class, which would hide a module of that name
        self.latent_parts = {}

    @property
    def like(self) -> Tensor:
        """An empty tensor on the model's device and of its weights' dtype, for `x.to(model.like)`."""
        weight = next((p for p in self.parameters() if p.is_floating_point()), None)
        return torch.empty(0, device=self.device) if weight is None else weight.detach().new_empty(0)

    # ── what it can do ────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def can(cls, name: str) -> bool:
        """Say whether the model has a verb, without calling it."""
        if getattr(cls, name) is not getattr(GenerativeModel, name):
            return True
        return name in _NEEDS and all(cls.can(need) for need in _NEEDS[name])

    def unsupported(self, name: str) -> UnsupportedOperationError:
        """Make the error for a verb that the model lacks, naming the models that have it."""
        zoo = importlib.import_module("pcgen.models")  # by name: the contract stands below the wings
        able = [n for n in zoo.__all__ if getattr(zoo, n).can(name)]
        wanted = f"has no {name}" if name in _THINGS else f"cannot {name}"
        return UnsupportedOperationError(
            f"{type(self).__name__} {wanted}; models that can: {', '.join(able) or 'none'}"
        )

    # ── verbs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def prior(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes (n, Z) from the prior."""
        raise self.unsupported("prior")

    def encode(self, x: Tensor) -> Tensor:
        """Give the codes (B, Z) of data (B, …)."""
        raise self.unsupported("encode")

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and log-variance (B, Z) each of the normal distribution q(z | x) of codes of data (B, …)."""
        raise self.unsupported("posterior")

    def decode(self, z: Tensor) -> Tensor:
        """Give the data (B, …) of codes (B, Z)."""
        raise self.unsupported("decode")

    def decompose(self, z: Tensor) -> Decomposition:
        """Give the appearance, the deformation and the data that codes (B, Z) stand for."""
        raise self.unsupported("decompose")

    def trajectory(self, n: int, frames: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Give the states (frames, n, …) that n samples pass through, from noise to data, both ends among them.

        The last frame is what `sample(n, generator=generator)` gives. The first is noise, unless the model goes on with
        chains that it kept.
        """
        raise self.unsupported("trajectory")

    def features(self, x: Tensor) -> Tensor:
        """Give what the model recognises data (B, …) by: features (B, F)."""
        raise self.unsupported("features")

    def energy(self, x: Tensor) -> Tensor:
        """Give the energy (B,) of data (B, …): low where the model believes that data are, so a score of anomaly."""
        raise self.unsupported("energy")

    def classify(self, x: Tensor) -> Tensor:
        """Give the probabilities (B, K) of the K classes for data (B, …)."""
        raise self.unsupported("classify")

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n new data.

        Args:
            n: How many, 0 or more.
            generator: Makes the draw repeatable; it may live on the CPU while the model is elsewhere.

        Returns:
            (n, N, 3) or (n, C, H, W) on the model's device.

        Raises:
            UnsupportedOperationError: If the model cannot, naming those that can.
        """
        if not self.can("sample"):
            raise self.unsupported("sample")
        return self.decode(self.prior(n, generator=generator))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Encode and decode data (B, …), each to its most likely image."""
        if not self.can("reconstruct"):
            raise self.unsupported("reconstruct")
        return self.decode(self.encode(x))

    def interpolate(
        self, a: Tensor, b: Tensor, steps: int, *, path: Path = "linear", parts: Sequence[str] | None = None
    ) -> Tensor:
        """Walk from a to b between their codes.

        Args:
            a: Data (B, …).
            b: Data (B, …).
            steps: Number of stations, both ends among them; at least 2.
            path: "linear" or "spherical", see `pcgen.ops.interpolate_codes`.
            parts: Names of `latent_parts` that move, in a list, while the rest of the code stays that of a; None moves
                all.

        Returns:
            (steps, B, …); for single data without a batch dimension, (steps, …).

        Raises:
            UnsupportedOperationError: If the model cannot, naming those that can.
            ConfigurationError: If its codes have no part of such a name.
        """
        if not self.can("interpolate"):
            raise self.unsupported("interpolate")
        if a.ndim == len(self.sample_shape):
            return self.interpolate(a[None], b[None], steps, path=path, parts=parts)[:, 0]
        start, end = self.encode(a), self.encode(b)
        if parts is None:
            z = interpolate_codes(start, end, steps, path=path)  # (steps, B, Z)
        else:
            z = start.expand(steps, *start.shape).clone()
            for part in self.columns(parts):
                z[..., part] = interpolate_codes(start[:, part], end[:, part], steps, path=path)
        walk: Tensor = self.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return walk

    def columns(self, parts: Sequence[str]) -> list[slice]:
        """Give the columns of the named parts of a code.

        Raises:
            ConfigurationError: If its codes have no part of such a name.
        """
        if isinstance(parts, str):
            raise ConfigurationError(f"parts is {parts!r}; give a list of names, [{parts!r}]")
        for name in parts:
            if name not in self.latent_parts:
                known = ", ".join(self.latent_parts)
                raise ConfigurationError(
                    f"the codes of this {type(self).__name__} have no part {name!r}; "
                    + (f"theirs are {known}" if known else "they are not divided, as those of deforming models are")
                )
        return [self.latent_parts[name] for name in parts]

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────

    def configure_optimizers(self) -> Any:
        """Give Lightning the one optimizer over all parameters and its schedule."""
        return self.scheduled(self.optimizer(self.parameters()))

    def scheduled(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Give Lightning's entry of an optimizer, with its schedule where there is one."""
        if self.lr_scheduler is None:
            return {"optimizer": optimizer}
        scheduler = self.lr_scheduler(optimizer)
        entry = {"scheduler": scheduler, "interval": self.schedule_interval}
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            entry |= {"monitor": getattr(scheduler, "monitor", "val/loss"), "interval": "epoch"}
        return {"optimizer": optimizer, "lr_scheduler": entry}

    def step_generator(self, batch_idx: int = 0) -> torch.Generator:
        """Give the generator of this step's noise.

        It depends on the seed, the process, the step and the stage alone. So a resumed run repeats what an
        uninterrupted one would have drawn, the processes of a distributed run draw different noise, and validating
        more often does not change the training.

        Args:
            batch_idx: Of the batch, as the step is told.

        Returns:
            A generator on the CPU; draw there and move the noise.
        """
        if self._trainer is None:  # a bare loop, in which nobody counts the steps: torch's global state does
            return torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        state = hashlib.blake2b(repr(self.step_place(batch_idx)).encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(state, "little") >> 1)

    def step_place(self, batch_idx: int) -> tuple[int | bool, ...]:
        """Give what a step's chance depends on, that of torch's, NumPy's and Python's global generators too."""
        if self.noise_seed is None:
            self.noise_seed = torch.initial_seed() % 2**63
        step = (self.trainer.current_epoch, self.trainer.global_step) if self.training else (0, 0)
        return (self.noise_seed, self.training, self.trainer.global_rank, *step, batch_idx)

    def step_plateaus(self) -> None:
        """Step the schedules that wait for an epoch's metrics, for an epoch that was saved before it had ended."""
        self.trainer.fit_loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)

    def rank_state(self) -> dict[str, Any]:
        """Give what this process alone has of a training, as tensors and plain values, besides the state dict.

        A checkpoint holds that of all processes. The state dict in it is the first process's.
        """
        return {}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Take what `rank_state` gave, when a training goes on."""

    def step_left_out(self) -> None:
        """Hear that the optimizer step of this batch is left out, because some of its numbers are not finite."""

    # ── what a checkpoint says ────────────────────────────────────────────────────────────────────────────────────

    def setup(self, stage: str) -> None:
        """Learn what the data are, for the checkpoint and the pictures, and tell the loggers how all was made."""
        datamodule = getattr(self.trainer, "datamodule", None)
        write_durably(self.trainer.strategy)
        if stage != "fit":
            return
        ExactResuming.attach(self.trainer)
        if self.noise_seed is None:
            self.noise_seed = torch.initial_seed() % 2**63
        self.noise_seed = self.trainer.strategy.broadcast(self.noise_seed)  # a checkpoint holds one of them
        if isinstance(datamodule, DataModule):
            self.data_info = datamodule.info()
        if self.trainer.loggers and self.trainer.is_global_zero:
            card = {key: value for key, value in self.card().items() if key not in ("format", "version")}
            made = without_secrets(card) | provenance(self.trainer)
            for logger in self.trainer.loggers:
                logger.log_hyperparams(made)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add how the model was made, as plain data, and the seed of its noise, so that resuming is exact.

        Raises:
            DivergenceError: If a weight is not finite: nothing is written, and the checkpoints that there are stay.
        """
        ExactResuming.refuse_not_finite(self._trainer, checkpoint)
        checkpoint[CHECKPOINT_KEY] = self.card()
        checkpoint[NOISE_KEY] = self.noise_seed
        for key in ("optimizer_states", "lr_schedulers", "callbacks"):  # a learning rate may be a NumPy number
            if key in checkpoint:
                checkpoint[key] = plain_numbers(checkpoint[key])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the noise that the training began with."""
        self.noise_seed = checkpoint.get(NOISE_KEY, self.noise_seed)

    def card(self) -> dict[str, Any]:
        """Return everything needed to make this model again, besides its weights."""
        return {
            "format": CHECKPOINT_FORMAT,
            "version": __version__,
            "model": describe(self, where=type(self).__name__),
            "data": self.data_info,
        }


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """Apply a function of a batch chunk by chunk, so that memory stays bounded for any batch size.

    Args:
        function: (b, …) -> (b, …), each row independent of the others.
        x: (B, …), B may be 0.
        size: Largest b.

    Returns:
        The rows of the results, (B, …).
    """
    if len(x) <= size:
        return function(x)
    return torch.cat([function(part) for part in x.split(size)])
