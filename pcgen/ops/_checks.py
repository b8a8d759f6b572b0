"""What every operation on pairs of clouds demands of its tensors."""

import torch
from torch import Tensor

from pcgen.errors import DataError

FLOATS = (torch.float32, torch.float64)
_NARROW = (torch.float16, torch.bfloat16)


def checked_pair(x: Tensor, y: Tensor, names: tuple[str, str] = ("x", "y"), *, batched: bool = True) -> list[Tensor]:
    """Check two batches of clouds and bring half precision to float32.

    Args:
        x: (B, N, 3).
        y: (B, M, 3).
        names: What the caller calls them.
        batched: Demand the same B of both.

    Returns:
        The two, float32 or float64.

    Raises:
        DataError: If a shape, dtype or device does not fit.
    """
    pair = [_checked(x, names[0]), _checked(y, names[1])]
    said = " and ".join(f"{name} {tuple(t.shape)} {t.dtype} on {t.device}" for name, t in zip(names, pair, strict=True))
    if pair[0].device != pair[1].device:
        raise DataError(f"{said} are on different devices; move one with .to(device)")
    if pair[0].dtype != pair[1].dtype:
        raise DataError(f"{said} have different dtypes; convert one with .to(dtype)")
    if batched and len(x) != len(y):
        raise DataError(
            f"{said} have different numbers of clouds; cloud i of one is compared with cloud i of the other"
        )
    return pair


def _checked(x: Tensor, name: str) -> Tensor:
    """Check one batch of clouds."""
    if x.ndim != 3 or x.shape[2] != 3:
        raise DataError(f"{name} has shape {tuple(x.shape)}; clouds are (batch, points, 3)")
    if x.shape[1] == 0:
        raise DataError(f"{name} has shape {tuple(x.shape)}: a cloud without points has no nearest neighbour")
    if x.dtype in _NARROW:
        return x.float()
    if x.dtype not in FLOATS:
        raise DataError(f"{name} is {x.dtype}; give floating-point coordinates, e.g. {name}.float()")
    return x


def check_same_size(x: Tensor, y: Tensor, names: tuple[str, str]) -> None:
    """Refuse clouds (…, N, 3) and (…, M, 3) that cannot be assigned one to one.

    Raises:
        DataError: If N ≠ M.
    """
    if x.shape[-2] != y.shape[-2]:
        raise DataError(
            f"{names[0]} has {x.shape[-2]} points a cloud and {names[1]} {y.shape[-2]}: the earth mover's distance "
            "assigns one to one; draw as many points of each, or take the Chamfer distance"
        )


def largest_coordinate(dtype: torch.dtype) -> float:
    """Give the coordinate up to which a squared distance does not overflow."""
    return float((torch.finfo(dtype).max / 16) ** 0.5)


def check_finite(x: Tensor, name: str) -> None:
    """Raise the error of `refuse` if a coordinate is not finite or too large."""
    good = (x.detach().abs() <= largest_coordinate(x.dtype)).flatten(1).all(1)  # (B,)
    if not good.all():
        refuse(x, name, int((~good).nonzero()[0]))


def refuse(x: Tensor, name: str, cloud: int) -> None:
    """Say what is wrong with a cloud that is known to be bad.

    Raises:
        DataError: Always.
    """
    bad = x[cloud].detach()
    if bad.isfinite().all():
        value = float(bad.abs().max())
        raise DataError(f"{name}[{cloud}] holds {value:g}, whose square overflows {x.dtype}; rescale the clouds")
    point = int((~bad.isfinite()).any(1).nonzero()[0])
    raise DataError(
        f"{name}[{cloud}] is not finite (first at point {point}: {bad[point].tolist()}); drop or repair such clouds"
    )
