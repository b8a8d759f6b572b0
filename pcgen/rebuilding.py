"""From a record and weights to the module, without memory or time that the weights do not make plausible.

A record is a few bytes and can ask for a network of any size. It is therefore built first on torch's meta device, where
a tensor has a shape and no memory, and compared with the weights, which a file cannot claim without storing them.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pcgen.errors import CheckpointError, PcgenError

Module = TypeVar("Module", bound=nn.Module)
SPARE_BYTES, SPARE_CALLS = 64 << 20, 5_000  # for any module, however few weights it has
RATIO, CALLS_EACH = 8, 200  # bytes made for each of the weights', calls of torch for each tensor of them
_BUILDING = ContextVar("building", default=False)


def is_rebuilding() -> bool:
    """Say whether a record is being built just now, so that what it names is a stranger's wish."""
    return _BUILDING.get()


def rebuild(make: Callable[[], Module], weights: Any) -> Module:
    """Build a module and load its weights.

    Time and memory are those of the module, and bounded by the weights: at most 64 MiB and 8 times their bytes.

    Args:
        make: Builds it from its record; called twice.
        weights: Its state dict, as it was read.

    Returns:
        The module with the weights.

    Raises:
        CheckpointError: If the module cannot be built, asks for more than the weights make plausible, or the weights
            do not fit it.
    """
    weights = _checked(weights)
    with _frugally(weights) as bound:
        with torch.device("meta"):
            skeleton = make()
        _compare(skeleton.state_dict(), weights)
        bound.begin_anew()
        module = make()
        module.load_state_dict(weights)
    wild = next((k for k, v in weights.items() if v.is_floating_point() and not v.isfinite().all()), None)
    if wild is not None:
        warnings.warn(
            f"{wild} holds NaN or infinity: the training had diverged, and what the model says means nothing",
            stacklevel=3,
        )
    return module


def _checked(weights: Any) -> dict[str, Tensor]:
    if not isinstance(weights, dict):
        raise CheckpointError("it holds no weights (state_dict)")
    for name, value in weights.items():
        if not isinstance(name, str) or type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided:
            raise CheckpointError(f"the weight {first_line(name)} is a {type(value).__name__}, not a plain tensor")
    return dict(weights)


@contextmanager
def _frugally(weights: dict[str, Tensor]) -> Iterator["_Bounded"]:
    """Bound what is built, and make one error of whatever goes wrong, for the reasons of a stranger's record."""
    token = _BUILDING.set(True)
    try:
        with _Bounded(weights) as bound:
            yield bound
    except PcgenError as error:
        raise error if isinstance(error, CheckpointError) else CheckpointError(str(error)) from error
    except Exception as error:
        raise CheckpointError(first_line(error)) from error
    finally:
        _BUILDING.reset(token)


class _Bounded(TorchFunctionMode):
    """Counts the calls of torch, and the bytes of tensors that are made; those of the skeleton are only claimed."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        given = sum(w.numel() * w.element_size() for w in weights.values())
        self.most_bytes, self.most_calls = SPARE_BYTES + RATIO * given, SPARE_CALLS + CALLS_EACH * len(weights)
        self.claimed = self.bytes = self.calls = 0

    def begin_anew(self) -> None:
        """Refuse the skeleton's claims if they are too large, and count the calls of the module."""
        if self.claimed > self.most_bytes:
            self._refuse()
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not any(result is given for given in args):
            size = result.numel() * result.element_size()
            self.claimed, self.bytes = self.claimed + size, self.bytes + (0 if result.is_meta else size)
        if self.bytes > self.most_bytes or self.calls > self.most_calls:
            self._refuse()
        return result

    def _refuse(self) -> None:
        raise CheckpointError("the record asks for far more than the file's weights make plausible: made to harm?")


def _compare(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Compare names, shapes and kinds of numbers."""
    shapes = {name: tuple(value.shape) for name, value in wanted.items()}
    found = {name: tuple(value.shape) for name, value in given.items()}
    wrong = sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"the weights do not fit the network that it names: {name} is {found.get(name, 'missing')} and should be "
            f"{shapes.get(name, 'absent')} ({len(wrong)} of {len(shapes)} differ)"
        )
    for name, value in given.items():
        if _kind(value) != _kind(wanted[name]):
            raise CheckpointError(f"the weight {name} is of {value.dtype} and should be of {wanted[name].dtype}")


def _kind(value: Tensor) -> str:
    if value.dtype == torch.bool:
        return "truth"
    return "float" if value.is_floating_point() else "complex" if value.is_complex() else "integer"


def first_line(said: object) -> str:
    """Give the beginning of an error's text, or of what a file says, fit to be shown: a file may say anything."""
    lines = str(said).strip().splitlines() or [type(said).__name__]
    return "".join(c if c.isprintable() else "?" for c in lines[0][:300])
