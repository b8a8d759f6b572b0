"""What datamodules of clouds and of images share: splits, and loaders of whole batches from them."""

from abc import abstractmethod
from collections.abc import Sized
from typing import Any, Generic, TypeVar

from torch.utils.data import Dataset

from pcgen.base import Batch, DataModule
from pcgen.datamodules._loading import EvalSampler, Loader, TrainSampler, place
from pcgen.errors import ConfigurationError, DataError

S = TypeVar("S", bound=Sized)


class SplitDataModule(DataModule, Generic[S]):
    """Base of datamodules that hold their splits; a subclass fills `_splits` in `setup`, once.

    Args:
        batch_size: Data of a batch, on each process.
        drop_last: Leave out a training batch smaller than the others.
        num_workers: Processes that gather; 0 is fastest for data in memory, by measurement.
        seed: Decides shuffling.

    Raises:
        ConfigurationError: If `batch_size` is below 1, or `num_workers` or `seed` below 0.
    """

    def __init__(self, batch_size: int, *, drop_last: bool, num_workers: int, seed: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigurationError(f"batch_size is {batch_size}; it must be at least 1")
        check_not_negative(num_workers=num_workers, seed=seed)
        self.batch_size, self.drop_last = batch_size, drop_last
        self.num_workers, self.seed = num_workers, seed
        self._splits: dict[str, S] = {}

    @abstractmethod
    def setup(self, stage: str | None = None) -> None:
        """Fill `_splits`, once; all are made at once, whatever the stage."""

    @abstractmethod
    def _batches(self, name: str) -> Dataset[Batch]:
        """Give a split whose items are batches."""

    # ── looking at the data ───────────────────────────────────────────────────────────────────────────────────────────

    def _ready(self) -> dict[str, S]:
        if not self._splits:
            self.prepare_data()
            self.setup()
        return self._splits

    def split(self, name: str) -> S:
        """Give one split, reading the data if that has not happened.

        Args:
            name: `"train"`, `"val"` or `"test"`.

        Raises:
            DataError: If there is no such split, with those that there are.
        """
        splits = self._ready()
        if name not in splits:
            raise DataError(f"there is no split {name!r} in these data; there is {', '.join(splits)}")
        return splits[name]

    # ── loaders ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def train_dataloader(self) -> Loader:
        """Yield shuffled batches, augmented where that was asked for."""
        replicas, rank = self._place()
        sampler = TrainSampler(
            len(self.split("train")),
            self.batch_size,
            num_replicas=replicas,
            rank=rank,
            seed=self.seed,
            drop_last=self.drop_last,
        )
        return self._loader("train", sampler)

    def val_dataloader(self) -> Loader | list[Loader]:
        """Yield the validation split in order; nothing if there is none."""
        return self._eval_loader("val") if "val" in self._ready() else []

    def test_dataloader(self) -> Loader:
        """Yield the test split in order."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> Loader:
        """Yield the test split in order."""
        return self._eval_loader("test")

    def _eval_loader(self, split: str) -> Loader:
        replicas, rank = self._place()
        sampler = EvalSampler(len(self.split(split)), self.batch_size, num_replicas=replicas, rank=rank, name=split)
        return self._loader(split, sampler)

    def _place(self) -> tuple[int, int]:
        """Give the number of processes and this one's rank."""
        return place(self.trainer)

    def _loader(self, split: str, sampler: TrainSampler | EvalSampler) -> Loader:
        on_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return Loader(
            self._batches(split),
            sampler=sampler,
            batch_size=None,  # the sampler's items are batches
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=on_cuda,
        )


def check_not_negative(**arguments: int) -> None:
    """Refuse seeds and numbers below 0, naming the argument.

    Raises:
        ConfigurationError: At the first that is.
    """
    for name, value in arguments.items():
        if value < 0:
            raise ConfigurationError(f"{name} is {value}; give 0 or more")


def _as_it_is(batch: Any) -> Any:
    """Leave a batch alone, which torch's own conversion would take apart and put together again."""
    return batch
