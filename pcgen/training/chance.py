"""The state and the seeds of the generators that a whole process shares: those of torch, NumPy and Python."""

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch

from pcgen.recipe import plain_numbers


class RandomState:
    """State of the global generators of torch (on the CPU and one device), NumPy and Python."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.torch = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self.numpy: Any = np.random.get_state()  # noqa: NPY002 -- this is about the global one
        self.python = random.getstate()

    def restore(self) -> None:
        """Bring it back."""
        torch.set_rng_state(self.torch)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)
        np.random.set_state(self.numpy)  # noqa: NPY002
        random.setstate(self.python)

    def state_dict(self) -> dict[str, Any]:
        """Give it as tensors and plain values."""
        _, keys, *rest = self.numpy
        version, words, gauss = self.python
        numpy = [torch.from_numpy(np.asarray(keys, np.int64)), *plain_numbers(rest)]
        return {"torch": self.torch, "cuda": self.cuda, "numpy": numpy, "python": [version, list(words), gauss]}

    @classmethod
    def of(cls, state: dict[str, Any], device: torch.device) -> Self:
        """Make it from what `state_dict` gave."""
        self = cls(device)
        self.torch = state["torch"].cpu()
        if device.type == "cuda" and state["cuda"] is not None:
            self.cuda = state["cuda"].cpu()
        keys, *rest = state["numpy"]
        version, words, gauss = state["python"]
        self.numpy = ("MT19937", keys.cpu().numpy().astype(np.uint32), *rest)
        self.python = (version, tuple(words), gauss)
        return self


def seed_global_generators(place: tuple[Any, ...], device: torch.device | None = None) -> None:
    """Seed the global generators of torch (on the CPU and a device), NumPy and Python by plain values.

    It takes some 40 µs and waits for no device. `torch.manual_seed` would look at every kind of device each time.
    """
    digest = hashlib.blake2b(repr(("global", *place)).encode(), digest_size=16).digest()
    seed = int.from_bytes(digest[:8], "little") >> 1
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    np.random.seed(int.from_bytes(digest[8:12], "little"))  # noqa: NPY002 -- takes 32 bits
    random.seed(int.from_bytes(digest[12:], "little"))


@contextlib.contextmanager
def seeded_global_generators(place: tuple[Any, ...]) -> Iterator[None]:
    """Seed the global generators on the CPU by plain values, and bring them back afterwards."""
    before = RandomState(torch.device("cpu"))
    seed_global_generators(place)
    try:
        yield
    finally:
        before.restore()
