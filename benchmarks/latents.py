"""Scores of latent codes at the sizes they are used at: kernel MMD² of many codes, and DCI.

    cd benchmarks && python latents.py                       # one table for each
    cd benchmarks && python latents.py --codes 2000 --factors 2

The peer of the kernel MMD² is the loop of the WAE's published implementations: distances from x² + y² − 2xy, the whole
matrix held, in float32. Errors are relative to differences in float64, near the origin and 100 away from it. Memory is
the growth of the peak. DCI with one thread is scikit-learn's boosting, a factor after the other.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from _timing import peak_growth_mib, table
from torch import Tensor

from pcgen.metrics import functional as F
from pcgen.ops import kernel_mmd2

PEER = """
def whole_matrices(x, y):
    def kernel(a, b):
        return 1 / (1 + a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T)
    return kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean()
"""
SETUP = """
import torch
from pcgen.ops import kernel_mmd2
{peer}
torch.manual_seed(0)
x, y = torch.randn({n}, {d}) + {shift}, torch.randn({n}, {d}) + {shift}
x.requires_grad_({gradient})
{name}(x[:700], y[:700])
"""


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def distances(n: int, width: int) -> None:
    """Print time, memory and error of the kernel MMD² of n codes with n draws."""
    space: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
    exec(PEER, {}, space)  # the text above, which the memory's process runs too
    methods = {"pcgen": kernel_mmd2, "whole_matrices": space["whole_matrices"]}
    rows = [("kernel MMD²", "d", "forward, s", "with gradient, s", "MiB", "with gradient, MiB", "error", "far away")]
    for d in (8, width):
        for label, method in methods.items():
            name = "kernel_mmd2" if method is kernel_mmd2 else label
            times = [seconds(partial(_run, method, n, d, gradient=g)) for g in (False, True)]
            peaks = [
                peak_growth_mib(
                    SETUP.format(peer=PEER, n=n, d=d, shift=0, gradient=g, name=name),
                    f"v = {name}(x, y)" + ("; v.backward()" if g else ""),
                )
                for g in (False, True)
            ]
            errors = [_error(method, d, shift) for shift in (0.0, 100.0)]
            cells = [*(f"{v:.2f}" for v in times), *(f"{v:.0f}" for v in peaks), *(f"{v:.0e}" for v in errors)]
            rows.append((label, str(d), *cells))
    print(table(rows), "\n")


def _run(method: Callable[[Tensor, Tensor], Tensor], n: int, d: int, *, gradient: bool) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(n, d).requires_grad_(gradient), torch.randn(n, d)
    value = method(x, y)
    if gradient:
        value.backward()  # type: ignore[no-untyped-call]  # torch has no annotations there


def _error(method: Callable[[Tensor, Tensor], Tensor], d: int, shift: float) -> float:
    """Give the relative error for 1000 + 1000 codes against differences in float64."""
    torch.manual_seed(0)
    x, y = torch.randn(1000, d) + shift, torch.randn(1000, d) * 1.1 + shift

    def mean(a: Tensor, b: Tensor) -> Tensor:
        squared = torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
        return (1 / (1 + squared)).mean()

    truth = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    return abs(method(x, y).item() / truth.item() - 1)


def importances(n: int, numbers: list[int]) -> None:
    """Print the time of DCI on n codes of 32 dimensions, some of which carry the factors."""
    rows = [("DCI", "factors", "one thread, s", "s")]
    for k in numbers:
        g = torch.Generator().manual_seed(0)
        factors = torch.rand(n, k, generator=g)
        codes = torch.randn(n, 32, generator=g)
        codes[:, :k] = factors + 0.1 * torch.randn(n, k, generator=g)
        codes[:, k : 2 * k] = factors @ torch.rand(k, k, generator=g)
        score, threads = partial(F.dci, codes, factors), torch.get_num_threads()
        F.dci(codes[:100], factors[:100])  # loads scikit-learn
        torch.set_num_threads(1)
        alone = seconds(score)
        torch.set_num_threads(threads)
        rows.append((f"{n} codes of 32", str(k), f"{alone:.1f}", f"{seconds(score):.1f}"))
    print(table(rows))


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=64, help="latents, beside 8")
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 7])
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    distances(arguments.codes, arguments.width)
    importances(arguments.codes, arguments.factors)


if __name__ == "__main__":
    main()
