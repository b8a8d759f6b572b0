"""From a split to batches: which clouds make a batch, and one gather for each.

A sampler yields whole batches (`Draw`s), so that a loader takes nothing apart and puts nothing together. What a batch
is depends on the seed, the epoch, the process and the batch's number alone: resuming is exact, in worker processes
too.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from pcgen.base import Batch
from pcgen.datamodules.augmentations import Augmentation
from pcgen.errors import ConfigurationError, DataError
from pcgen.training.chance import seeded_global_generators

Ints = NDArray[np.int64]


class Draw(NamedTuple):
    """One batch to be made.

    Attributes:
        rows: Which clouds of the split (B,).
        key: What its chance depends on: seed, epoch, rank, number of the batch. None: no chance.
    """

    rows: Ints
    key: tuple[int, ...] | None = None


class Points(Protocol):
    """Normalised clouds of one split, in memory or in a file."""

    shape: tuple[int, int, int]

    def gather(self, rows: Ints) -> Tensor:
        """Give clouds (B, M, 3)."""
        ...


class Subsets(Protocol):
    """Point indices of the clouds of one split: a tensor, or what draws them."""

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Give indices (B, N)."""
        ...


class InMemory:
    """Clouds (K, M, 3) in one tensor."""

    def __init__(self, points: Tensor) -> None:
        self.points, self._array = points, points.numpy()
        self.shape: tuple[int, int, int] = (points.shape[0], points.shape[1], 3)

    def gather(self, rows: Ints) -> Tensor:
        """Give clouds (B, M, 3)."""
        # NumPy copies whole clouds on one thread: as fast as torch's parallel gather on an idle machine (0.04 ms for
        # 32 clouds of 2048 points), and hundreds of times faster where other processes want the cores too
        return torch.from_numpy(self._array.take(rows, axis=0))


# ── which clouds make a batch ─────────────────────────────────────────────────────────────────────────────────────────


class TrainSampler(DistributedSampler[Draw]):
    """Shuffled batches: every process has as many, and no cloud comes twice in an epoch.

    What does not divide by the number of processes is left out of the epoch (another part in each). The last batch
    may be smaller; one of a single cloud is left out, because batch normalisation cannot train on it.

    It is a DistributedSampler so that Lightning leaves it alone and tells it the epoch.

    Args:
        size: Clouds in the split, K.
        batch_size: Clouds a batch.
        num_replicas: Processes.
        rank: This process.
        seed: Of the shuffling.
        drop_last: Leave a smaller last batch out.

    Raises:
        ConfigurationError: If the split is too small to give every process a batch.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(_Sized(size), num_replicas, rank, shuffle=True, seed=seed, drop_last=True)
        self.size, self.batch_size, self.start = size, batch_size, 0
        share = size // num_replicas
        full, rest = divmod(share, batch_size)
        self.batches = full + (rest > 1 and not drop_last)
        if not self.batches:
            raise ConfigurationError(
                f"the training split has {size} cloud(s) or image(s), which is not enough for batches of {batch_size} "
                f"in {num_replicas} process(es): lower batch_size{' or set drop_last: false' if drop_last else ''}"
            )

    def __iter__(self) -> Iterator[Draw]:
        own = self._own(self.epoch)
        start, self.start = self.start, 0
        for i in range(start, self.batches):
            yield Draw(self._cut(own, i), (self.seed, self.epoch, self.rank, i))

    def rows(self, epoch: int, batch: int) -> Ints:
        """Tell which clouds of the split (B,) a batch of this process has in an epoch, without drawing anything.

        Args:
            epoch: Its number, from 0.
            batch: Its number in the epoch, from 0, as a training step is told it.

        Raises:
            IndexError: If the epoch has no such batch.
        """
        if not 0 <= batch < self.batches:
            raise IndexError(f"an epoch has batches 0 to {self.batches - 1}, not {batch}")
        return self._cut(self._own(epoch), batch)

    def _own(self, epoch: int) -> Ints:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
        share = self.size // self.num_replicas
        return order[self.rank * share : (self.rank + 1) * share]

    def _cut(self, own: Ints, batch: int) -> Ints:
        return own[batch * self.batch_size : (batch + 1) * self.batch_size]

    def __len__(self) -> int:
        return self.batches


class EvalSampler(DistributedSampler[Draw]):
    """Every cloud once and in order, without padding, in as many batches on every process.

    Each process has a contiguous share of the split, so the processes' results one after the other are the split.
    Shares that differ by a cloud are cut into the same number of nearly equal batches; where one cloud more must
    find a place, a batch is larger than `batch_size` by one.

    Args:
        size: Clouds in the split, K.
        batch_size: Clouds a batch.
        num_replicas: Processes.
        rank: This process.
        name: Of the split, for the message.

    Raises:
        ConfigurationError: If there are fewer clouds than processes.
    """

    def __init__(
        self, size: int, batch_size: int, *, num_replicas: int = 1, rank: int = 0, name: str = "evaluation"
    ) -> None:
        super().__init__(_Sized(size), num_replicas, rank, shuffle=False)
        if size < num_replicas:
            raise ConfigurationError(
                f"the {name} split has {size} cloud(s) or image(s) for {num_replicas} processes; take at most {size} "
                "processes"
            )
        smallest, largest = size // num_replicas, -(-size // num_replicas)
        self.batches = min(-(-largest // batch_size), smallest)
        self.own = np.array_split(np.arange(size), num_replicas)[rank]

    def __iter__(self) -> Iterator[Draw]:
        return (Draw(rows) for rows in np.array_split(self.own, self.batches))

    def __len__(self) -> int:
        return self.batches


class _Sized(Dataset[Draw]):
    """All that torch's sampler wants to know of a dataset."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size


# ── one gather a batch ────────────────────────────────────────────────────────────────────────────────────────────────


class Batches(Dataset[Batch]):
    """A split whose items are batches.

    Args:
        points: The stored clouds (K, M, 3).
        label: (K,) or None.
        factors: (K, F) or None.
        num_points: N points of each cloud. If there are more (M > N), a draw with a key takes a new subset, a draw
            without one the subset that `fixed` tells.
        fixed: Point indices (K, N), kept or drawn when taken by rows; None where M = N.
        augment: Applied in this order to draws with a key.
        up_axis: For augmentations that turn about it.
        batch_size: Of the batches by number, which is what Lightning's `overfit_batches` asks for.
    """

    def __init__(
        self,
        points: Points,
        label: Tensor | None,
        factors: Tensor | None,
        *,
        num_points: int,
        fixed: Subsets | None = None,
        augment: Sequence[Augmentation] = (),
        up_axis: int | None = None,
        batch_size: int = 32,
    ) -> None:
        self.points, self.label, self.factors = points, label, factors
        self.num_points, self.fixed = num_points, fixed
        self.augment, self.up_axis, self.batch_size = augment, up_axis, batch_size

    def __len__(self) -> int:
        return math.ceil(self.points.shape[0] / self.batch_size)

    def __getitem__(self, draw: Draw | int) -> Batch:
        if isinstance(draw, int):
            draw = Draw(np.arange(self.points.shape[0])[draw * self.batch_size : (draw + 1) * self.batch_size])
        x = self.points.gather(draw.rows)  # (B, M, 3)
        rows = torch.from_numpy(draw.rows)
        generator = None if draw.key is None else seeded(draw.key)
        if x.shape[1] > self.num_points:
            x = self._thin(x, rows, generator)
        if generator is not None:
            x = self._augmented(x, generator, draw.key)
        return Batch(
            x,
            None if self.label is None else self.label[rows],
            None if self.factors is None else self.factors[rows],
        )

    def _augmented(self, x: Tensor, generator: torch.Generator, key: tuple[int, ...] | None) -> Tensor:
        # Ours draw from the generator that they are given; whatever else there is may draw from everybody's.
        foreign = any(not type(augmentation).__module__.startswith("pcgen.") for augmentation in self.augment)
        with seeded_global_generators(("data", key)) if foreign else contextlib.nullcontext():
            for augmentation in self.augment:
                x = augmentation(x, generator=generator, up_axis=self.up_axis)
        return x

    def _thin(self, x: Tensor, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            if self.fixed is None:
                raise DataError(f"clouds of {x.shape[1]} points where {self.num_points} were announced")
            index = self.fixed[rows]  # (B, N)
        else:
            index = fresh_subsets(len(x), x.shape[1], self.num_points, generator)
        B, M, _ = x.shape
        flat = index.numpy() + M * np.arange(B)[:, None]
        return torch.from_numpy(x.numpy().reshape(-1, 3).take(flat, axis=0))  # on one thread, as above


def place(trainer: Any) -> tuple[int, int]:
    """Give the number of processes and this one's rank, of a trainer or, where that is None, of torch's own group."""
    if trainer is not None:
        return trainer.world_size, trainer.global_rank
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0


def seeded(key: tuple[int, ...]) -> torch.Generator:
    """Make a generator from numbers, well mixed."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


def fresh_subsets(B: int, M: int, N: int, generator: torch.Generator) -> Tensor:
    """Draw N of M point numbers (B, N) for each of B clouds, without repeats.

    One permutation serves the batch, read from a place of its own for each cloud: each cloud's subset is uniform
    among all subsets, and only the subsets of one batch's clouds depend on each other. That costs M + B N steps;
    sorting random keys for each cloud takes more than 30 times as long.
    """
    order = torch.randperm(M, generator=generator).repeat(2).numpy()
    start = torch.randint(M, (B,), generator=generator).numpy()
    return torch.from_numpy(np.lib.stride_tricks.sliding_window_view(order, N)[start])


class Loader(DataLoader[Batch]):
    """A DataLoader that can go on in the middle of an epoch, where Lightning saved a checkpoint there."""

    _given = 0
    _resumed: dict[str, int] | None = None

    def __iter__(self) -> Any:
        """Yield batches, and count them."""
        # Lightning tells the sampler its epoch only after it has given back the state, so it is looked at here.
        state, self._resumed = self._resumed, None
        sampler, self._given = self.sampler, 0
        if state is not None and isinstance(sampler, TrainSampler) and sampler.epoch == state["epoch"]:
            sampler.start = self._given = state["batch"]
        # What workers' own generators begin with: not drawn from the process's, so that the training's chance stays.
        place = (sampler.seed, sampler.epoch, sampler.rank) if isinstance(sampler, TrainSampler) else (0,)
        self.generator = seeded(place)
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Say how far this epoch has come."""
        return {"epoch": getattr(self.sampler, "epoch", 0), "batch": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches given, if the next epoch is still the same one."""
        self._resumed = state
