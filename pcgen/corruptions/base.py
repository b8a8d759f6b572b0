"""What all corruptions share: the check of the data, where the chance comes from, and the two that suit any data."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import Recorded


class Chance:
    """Random numbers for some data: of their dtype and on their device, wherever the generator lives.

    Args:
        x: The data.
        generator: Source of chance; None takes torch's global state on the data's device.
    """

    def __init__(self, x: Tensor, generator: Generator | None) -> None:
        self.generator, self.device = generator, x.device
        self._where = x.device if generator is None else generator.device
        self._dtype = x.dtype if x.dtype == torch.float64 else torch.float32  # half precision has too few numbers

    def normal(self, *shape: int) -> Tensor:
        """Draw from N(0, 1)."""
        return torch.randn(shape, generator=self.generator, device=self._where, dtype=self._dtype).to(self.device)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw uniformly from [low, high)."""
        u = torch.rand(shape, generator=self.generator, device=self._where, dtype=self._dtype).to(self.device)
        return u if (low, high) == (0.0, 1.0) else low + (high - low) * u

    def below(self, n: Tensor, *shape: int) -> Tensor:
        """Draw whole numbers from 0 to n − 1, int64, for n that broadcasts to the shape; 0 where n is 0."""
        u = self.uniform(*shape)
        return (u * n).long().minimum(n - 1).clamp_min_(0)  # rounding may bring u n up to n


class Corruption(Recorded, nn.Module, ABC):
    """Damages data at random, each datum of a batch in its own way.

    What happens to a datum depends on the state of the generator, on the shape of the batch and on the datum's place
    in it, never on the other data. It makes no difference whether the module is in training or in evaluation mode: who
    calls it wants damage. A subclass implements `corrupt`, and says what it is for in `clouds` and `images`.
    """

    clouds = True
    images = True

    def forward(self, x: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Give damaged data.

        Args:
            x: Clouds (B, N, 3) or images (B, C, H, W) in [0, 1]; they are not written to.
            generator: Makes the damage repeatable; it may live on the CPU while the data are elsewhere. None takes
                torch's global state.

        Returns:
            Data of x's shape, dtype and device.

        Raises:
            DataError: If the data are of a kind that this corruption is not for, or none of a datum would be left.
        """
        self._check(x)
        return self.corrupt(x, Chance(x, generator)).to(x.dtype)

    @abstractmethod
    def corrupt(self, x: Tensor, chance: Chance) -> Tensor:
        """Give damaged data of x's shape, drawing from `chance` alone."""

    def _check(self, x: Tensor) -> None:
        is_cloud, is_image = x.ndim == 3 and x.shape[-1] == 3, x.ndim == 4
        if x.is_floating_point() and ((is_cloud and self.clouds) or (is_image and self.images)):
            return
        kinds = ["clouds (B, N, 3)"] * self.clouds + ["images (B, C, H, W)"] * self.images
        raise DataError(
            f"{type(self).__name__} takes {' or '.join(kinds)} of floating point, and got {tuple(x.shape)} {x.dtype}"
        )


class Compose(Corruption):
    """Several corruptions, one after the other.

    Args:
        corruptions: In the order in which data go through them; at least one.
    """

    def __init__(self, corruptions: list[Corruption]) -> None:
        super().__init__()
        if not corruptions or not all(isinstance(c, Corruption) for c in corruptions):
            given = [type(c).__name__ for c in corruptions]
            raise ConfigurationError(f"Compose(corruptions={given}): name at least one, and corruptions only")
        self.corruptions = nn.ModuleList(corruptions)

    def corrupt(self, x: Tensor, chance: Chance) -> Tensor:
        """Apply all in turn."""
        for corruption in self.corruptions:
            x = corruption(x, generator=chance.generator)
        return x


class GaussianNoise(Corruption):
    """Adds independent Gaussian noise to every coordinate or pixel (Vincent et al. 2008).

    Args:
        std: Standard deviation, in the unit of the data.
        max_std: If given, each datum has a standard deviation of its own, uniform between `std` and this.
        clamp: Keep images in [0, 1], as all images of the zoo are; clouds have no bounds and are never clamped.
    """

    def __init__(self, std: float, max_std: float | None = None, clamp: bool = True) -> None:
        super().__init__()
        high = std if max_std is None else max_std
        if not 0 <= std <= high < math.inf:
            raise ConfigurationError(f"GaussianNoise(std={std}, max_std={max_std}): 0 <= std <= max_std is needed")
        self.std, self.high, self.clamp = std, high, clamp

    def corrupt(self, x: Tensor, chance: Chance) -> Tensor:
        """Give x + σ ε, ε ~ N(0, I)."""
        std = chance.uniform(len(x), *[1] * (x.ndim - 1), low=self.std, high=self.high)  # (B, 1, …)
        y = add_noise(x, std, chance)
        return y.clamp_(0, 1) if self.clamp and x.ndim == 4 else y


def add_noise(x: Tensor, std: Tensor | float, chance: Chance, *, clip: float = math.inf) -> Tensor:
    """Give x (B, …) plus Gaussian noise of a standard deviation, each component of it at most `clip`."""
    noise = std * chance.normal(*x.shape)
    return x + (noise if clip == math.inf else noise.clamp_(-clip, clip))


def check_share(owner: str, share: float, max_share: float | None) -> float:
    """Check a share, or the range from which shares are drawn, and give its upper end.

    Raises:
        ConfigurationError: If it is not in [0, 1): of a datum of which all is replaced nothing can be learned.
    """
    high = share if max_share is None else max_share
    if not 0 <= share <= high < 1:
        raise ConfigurationError(
            f"{owner}(share={share}, max_share={max_share}): 0 <= share <= max_share < 1 is needed, 1 would leave none "
            "of the N points or pixels"
        )
    return high
