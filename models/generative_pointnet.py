"""Generative PointNet: an energy-based model of point clouds.

Reference: J. Xie, Y. Xu, Z. Zheng, S.-C. Zhu, Y. N. Wu, "Generative PointNet: Deep Energy-Based Learning on Unordered
Point Sets for 3D Generation, Reconstruction and Classification", CVPR 2021, https://arxiv.org/abs/2004.01301.

    p(X) ∝ exp f(X) · N(X; 0, s² I),  energy 𝓔(X) = −f(X) + ‖X‖²/(2s²)
    chain: X ← X − δ²/2 ∇𝓔(X) + δ ε,  T steps from X₀ ~ N(0, s² I), clamped to [−1, 1]
    learning: minimise mean f(X̃) − mean f(X), X̃ the chain's ends

Where it differs, and why:

- Each cloud is in the unit ball in the shipped configurations; theirs were scaled together to [−1, 1].
- The score network is invariant to the order of the points; the authors' is `norm: paper`, see `pcgen.nets`.
- The score may be multiplied by a constant, which only changes how fast the energy can grow: the mean over N points
  gives each point 1/N of a gradient, and a short training never gets the chain to move.
- Rolling back brings back the optimizer too and repeats the step; the authors' code goes on with the momentum of the
  diverged weights. At most 10 resamples and 10 rollbacks are theirs.
- Codes are found by Adam; the authors' code takes signs of the gradient. Both take the straight-through gradient, the
  exact one is an option. All codes begin at the same noise, matched with the points of each cloud.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pcgen.base import Batch, OptimizerFactory, SchedulerFactory, in_chunks, verb
from pcgen.chains import ChainStart, CodeInference, DivergenceGuard, NoiseStart, PersistentStart
from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics import Diversity, MeanOverData
from pcgen.models._evaluation import Evaluated
from pcgen.models._freezing import frozen
from pcgen.models._guarded import Guarded
from pcgen.models._prior import check_codes, generator_on, standard_normal
from pcgen.nets import PointNetScore
from pcgen.nets.base import check_positive
from pcgen.ops import langevin, langevin_map, langevin_states
from pcgen.ops.langevin_map import ChainGradient
from pcgen.training.together import log_equal

TERMS = ("energy_real", "energy_fake", "energy_gap", "loss")
CPU_CHUNK, GPU_CHUNK = 16, 128  # clouds of a chain's step that are handled at once


class GenerativePointNet(Guarded, Evaluated):
    """Energy-based model of clouds: a network scores whole clouds, and Langevin dynamics draws what it scores high.

    Args:
        score: f, clouds (B, N, 3) to numbers (B,); the published network by default.
        num_points: N of the clouds that are drawn; the network takes any number.
        reference_std: s, the standard deviation of the reference distribution, in the data's units.
        steps: T, Langevin steps of a chain.
        step_size: δ.
        clamp: Coordinates stay in [−clamp, clamp]; null leaves them.
        score_scale: What the network's output is multiplied by to give f.
        start: Where the chains of the training begin: in noise, where earlier ones ended, or at data.
        noise_decay: The chain's noise falls to 0 along the chain, and is 0 for the last T // 12 + 1 steps.
        noise_end: Optimizer step at which the chain's noise has fallen to 0, along a straight line from the training's
            beginning; null keeps it. Samples are drawn with the noise that the training has come to.
        jitter: Standard deviation of the noise that is added to data in training.
        energy_weight: Of the mean of f² over data and samples in the loss, which keeps scores from drifting.
        inference: How codes of data are found.
        guard: What happens when chains diverge.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer, stepped once an optimizer step.
    """

    schedule_interval = "step"
    chunk_size = 16  # finding codes takes seconds a cloud, and whoever waits wants to see it go on
    noise_share: Tensor

    def __init__(
        self,
        score: PointNetScore | None = None,
        num_points: int = 2048,
        reference_std: float = 0.3,
        steps: int = 64,
        step_size: float = 0.01,
        clamp: float | None = 1.0,
        score_scale: float = 1.0,
        start: ChainStart | None = None,
        noise_decay: bool = False,
        noise_end: int | None = None,
        jitter: float = 0.01,
        energy_weight: float = 0.0,
        inference: CodeInference | None = None,
        guard: DivergenceGuard | None = None,
        optimizer: OptimizerFactory = torch.optim.Adam,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        super().__init__(guard or DivergenceGuard())
        check_positive(num_points=num_points, steps=steps, noise_end=1 if noise_end is None else noise_end)
        _check_above_zero(
            reference_std=reference_std,
            step_size=step_size,
            clamp=1.0 if clamp is None else clamp,
            score_scale=score_scale,
        )
        _check_not_negative(jitter=jitter, energy_weight=energy_weight)
        self.score, self.start = score or PointNetScore(), start or NoiseStart()
        if self.score.num_points not in (None, num_points):
            raise ConfigurationError(
                f"num_points is {num_points} and the score network is for {self.score.num_points}: give both the same"
            )
        self.num_points, self.sample_shape, self.latent_dim = num_points, (num_points, 3), 3 * num_points
        self.reference_std, self.steps, self.step_size, self.clamp = reference_std, steps, step_size, clamp
        self.score_scale, self.noise_decay, self.noise_end = score_scale, noise_decay, noise_end
        self.jitter, self.energy_weight = jitter, energy_weight
        self.start.prepare(self.sample_shape)
        own = [f"start.{name}" for name, _ in self.start.named_buffers()]  # of each process, where there are several
        ddp = nn.parallel.DistributedDataParallel
        ddp._set_params_and_buffers_to_ignore_for_model(self, own)  # noqa: SLF001 -- torch has no public way to say so
        self.inference = inference or CodeInference()
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.register_buffer("noise_share", torch.ones(()))  # of the chain's noise, as far as the training has come
        self.mean_terms, self.diversity = MeanOverData(len(TERMS)), Diversity()

    # ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────

    def f(self, x: Tensor) -> Tensor:
        """Score clouds (B, N, 3): f (B,)."""
        scores: Tensor = self.score_scale * self.score(x)
        return scores

    def reference(self, x: Tensor) -> Tensor:
        """Give ‖X‖²/(2s²) (B,), −log N(X; 0, s² I) up to a constant."""
        return x.square().sum((1, 2)) / (2 * self.reference_std**2)

    def terms(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Compute the objective for data (B, N, 3) and the ends of chains.

        Returns:
            Scalars: `loss` = mean f(X̃) − mean f(X), with the weight on f² where there is one, `energy_real` and
            `energy_fake`, the mean energies, and `energy_gap`, the latter minus the former.
        """
        real, made = self.f(x), self.f(fake)
        energies = (self.reference(x) - real).mean(), (self.reference(fake) - made).mean()
        loss = made.mean() - real.mean()
        if self.energy_weight:
            loss = loss + self.energy_weight * (real.square().mean() + made.square().mean())
        return {
            "loss": loss,
            "energy_real": energies[0],
            "energy_fake": energies[1],
            "energy_gap": energies[1] - energies[0],
        }

    # ── sampling ──────────────────────────────────────────────────────────────────────────────────────────────────

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw the chains' beginnings (n, N, 3) from the reference distribution N(0, s² I)."""
        z = standard_normal(n, 3 * self.num_points, generator=generator, like=self.like)
        noise: Tensor = (self.reference_std * z).unflatten(1, self.sample_shape)
        return noise

    def temperatures(self, share: float) -> list[float]:
        """Give the temperature of each step of the chain, `share` being that of the noise that is left."""
        noisy = max(1, self.steps - max(1, self.steps // 12))
        along = [max(0.0, 1 - (k + 1) / noisy) if self.noise_decay else 1.0 for k in range(self.steps)]
        return [(share * scale) ** 2 for scale in along]

    def chain(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Run the Langevin chain from x (B, N, 3) to its end, without gradient."""
        with frozen(self.score):
            return langevin(self._energy, x, generator=generator, **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "step_size": self.step_size,
            "clamp": self.clamp,
            "temperature": self.temperatures(float(self.noise_share)),
            "chunk_size": CPU_CHUNK if self.device.type == "cpu" else GPU_CHUNK,
        }

    def _energy(self, x: Tensor) -> Tensor:
        return self.reference(x) - self.f(x)

    @verb
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n clouds by chains with noise: from the reference distribution, or from where kept chains ended.

        Args:
            n: How many, 0 or more.
            generator: Makes the draw repeatable; it may live on the CPU while the model is elsewhere.

        Returns:
            (n, N, 3) on the model's device.
        """
        begin = self._beginning(n, generator)
        return self.chain(begin, generator=generator)

    @verb
    def trajectory(self, n: int, frames: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Give states (frames, n, N, 3) of the chains that `sample` runs, evenly spaced, first and last among them.

        Raises:
            ConfigurationError: If frames is below 2.
        """
        if frames < 2:
            raise ConfigurationError(f"frames is {frames}; give 2 or more, both ends are among them")
        begin = self._beginning(n, generator)
        wanted = [round(k * self.steps / (frames - 1)) for k in range(frames)]
        with frozen(self.score):
            states = langevin_states(self._energy, begin, generator=generator, **self._options())
            kept = {k: state for k, state in enumerate(states) if k in wanted}
        return torch.stack([kept[k] for k in wanted])

    def _beginning(self, n: int, generator: torch.Generator | None) -> Tensor:
        begin = self.noise(n, generator=generator)
        if not isinstance(self.start, PersistentStart):
            return begin
        kept = self.start.draw(n, generator=generator)
        return kept.to(begin) if len(kept) else begin

    # ── codes: the chain without noise as a generator ─────────────────────────────────────────────────────────────

    @verb
    def prior(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n codes (n, 3N) from N(0, s² I): the beginnings of chains, flattened."""
        return self.noise(n, generator=generator).flatten(1)

    @verb
    def decode(self, z: Tensor) -> Tensor:
        """Give M(Z) (B, N, 3), where the chain without noise comes to from codes (B, 3N), with its exact gradient.

        Raises:
            DataError: If the codes are not of the model's 3N.
        """
        check_codes(z, 3 * self.num_points)
        return in_chunks(self._map, z.unflatten(1, self.sample_shape), self.chunk_size)

    @verb
    def encode(self, x: Tensor) -> Tensor:
        """Find codes (B, 3N) from which the chain without noise comes to clouds (B, N, 3), by `inference`.

        Point i of each code began at the same noise. The order of a cloud's points changes nothing. Codes are the end
        of a descent and carry no gradient of x.

        Raises:
            DataError: If the clouds have another number of points than the model draws.
        """
        if tuple(x.shape[1:]) != self.sample_shape:
            raise DataError(
                f"codes are beginnings of chains of {self.num_points} points, and the data are {tuple(x.shape)}: give "
                f"clouds (B, {self.num_points}, 3)"
            )
        noise = self.noise(1, generator=torch.Generator().manual_seed(0))[0]  # the same for all, always
        chain = partial(self._map, gradient=self.inference.gradient)
        with frozen(self.score):  # in the way back too
            return in_chunks(lambda part: self.inference(chain, part, noise).flatten(1), x, self.chunk_size)

    def _map(self, z: Tensor, gradient: ChainGradient = "exact") -> Tensor:
        options = {k: v for k, v in self._options().items() if k != "temperature"}
        with frozen(self.score):
            return langevin_map(self._energy, z, gradient=gradient, **options)

    # ── energy ────────────────────────────────────────────────────────────────────────────────────────────────────

    @verb
    def energy(self, x: Tensor) -> Tensor:
        """Give 𝓔(X) (B,), −log p(X) up to a constant, in nats; comparable for clouds of the same N alone."""
        return in_chunks(self._energy, x, self.chunk_size)

    @verb
    def features(self, x: Tensor) -> Tensor:
        """Give the largest value of each channel of all per-point layers (B, F) for clouds (B, N, 3)."""
        return in_chunks(self.score.features, x, self.chunk_size)

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Give mean f(X̃) − mean f(X) of a batch."""
        rng = self.step_generator(batch_idx)
        self._follow_noise()
        x = self._real(batch, rng)
        fake = self.guarded(lambda: self._chains(x, rng))
        self.start.keep(fake)
        terms = self.terms(x, fake)
        self._log(terms, fake)
        return terms["loss"]

    def _real(self, batch: Batch, rng: torch.Generator) -> Tensor:
        x = batch.x
        if tuple(x.shape[1:]) != self.sample_shape:
            raise DataError(
                f"the model draws {self.sample_shape} and the data are {tuple(x.shape[1:])}: set num_points"
            )
        if self.jitter:
            x = x + self.jitter * torch.randn(x.shape, generator=rng).to(x)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)

    def _chains(self, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Give the ends of chains (B, N, 3) beside data, and their scores (B,)."""
        begin = self.start.begin(x, self.noise(len(x), generator=rng), generator=rng)
        fast = generator_on(self.device, rng)
        ends = self.chain(begin, generator=fast)
        with torch.no_grad():
            return ends, in_chunks(self.f, ends, self.chunk_size)

    def _follow_noise(self) -> None:
        if self.noise_end is not None:
            self.noise_share.fill_(max(0.0, 1 - self._step() / self.noise_end))

    def _log(self, terms: dict[str, Tensor], fake: Tensor) -> None:
        named = {name: value.detach() for name, value in terms.items()}
        named["chain_variance"] = fake.var()
        if self.clamp is not None:
            named["clamped_share"] = (fake.abs() >= self.clamp).float().mean()
        logged = {f"train/{name}": value for name, value in named.items()}
        self.log_dict(logged, batch_size=len(fake), on_step=False, on_epoch=True, sync_dist=True)
        self.log("gap", named["energy_gap"], prog_bar=True, logger=False, batch_size=len(fake))

    def rank_state(self) -> dict[str, Any]:
        """Give the kept chains of this process, if they are not the first process's, which the state dict has."""
        return dict(self.start.named_buffers()) if self.trainer.global_rank else {}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Go on with them, where this process had some."""
        for name, buffer in self.start.named_buffers():
            if name in state:
                buffer.copy_(state[name])

    # ── evaluation ────────────────────────────────────────────────────────────────────────────────────────────────

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Gather the energies of held-out data beside as many samples, and both for the gauge of collapse."""
        fake = self.sample(len(batch.x), generator=self.step_generator(batch_idx))
        terms = self.terms(batch.x, fake)
        self.mean_terms.update(torch.stack([terms[name] for name in TERMS]), len(batch.x))
        self.diversity.update(fake, batch.x)

    def log_evaluation(self, stage: str) -> None:
        """Log the mean energies, their gap, and `diversity` and `coverage` of the samples."""
        values = dict(zip(TERMS, self.mean_terms.compute(), strict=True)) | self.diversity.compute()
        with torch.inference_mode(mode=False):  # after trainer.validate their states could not be used in a fit
            self.mean_terms.reset()
            self.diversity.reset()
        log_equal(self, {f"{stage}/{name}": value for name, value in values.items()})

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002 -- Lightning's signature
        """Give the energies (B,) of a batch."""
        return self.energy(batch.x)


def _check_above_zero(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise ConfigurationError(f"{name} is {value}; give a number above 0")


def _check_not_negative(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 <= value < math.inf:
            raise ConfigurationError(f"{name} is {value}; give a number of 0 or more")
