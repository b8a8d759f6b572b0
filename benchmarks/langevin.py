"""A step of a Langevin chain: the gradient of a frozen score network by its clouds, beside autograd and bare products.

    cd benchmarks && python langevin.py [--turns 7] [--threads 1] [--clouds 64 32 2] [--compile] [--no-memory]

Chains of four steps with three sizes of the network, whose normalisation has a scale for each channel. "Autograd" is
the same network by torch's operations. "Published" has LayerNorm over the points, parameters that ask for
gradients, and a graph that is kept, as the authors' code runs it. FLOPs: two for each multiplication of the products,
forwards and once more back to the clouds. Products: the same matrix products alone, by torch, for each cloud, into
memory that is there. Limit: a product of two 2048² matrices. All take turns; the least time counts (with one thread
that of the processor, so that other work on the machine counts less); ratios are of these, and of pcgen's FLOPs a
second to the two products'. Memory: growth of the peak by a chain, in a process of its own. Learning: one gradient of
the loss by the parameters for as many data and ends of chains, in steps of a chain.
"""

import argparse
import time
from collections.abc import Callable

import torch
from _timing import peak_growth_mib, table
from torch import Tensor, nn

from pcgen.nets import PointNetScore
from pcgen.ops import langevin
from pcgen.ops.langevin import energy_gradient

CONFIGURATIONS = (
    ((32, 64, 128), (128, 64), 256),
    ((64, 128, 256), (256, 64), 512),
    ((64, 128, 256, 512, 1024), (512, 256, 64), 2048),
)
CLOUDS = (64, 32, 2)
LIMIT = 2048  # rows and columns of the large product
STEP_SIZE, STD = 0.01, 0.3
STEPS = 4  # of the chains that are timed: the first finds cold caches

Step = Callable[[], object]


class Published(nn.Module):
    """The score with a normalisation whose scale and shift belong to a point's place."""

    def __init__(self, widths: tuple[int, ...], head_widths: tuple[int, ...], points: int) -> None:
        super().__init__()
        pairs = zip((3, *widths), widths, strict=False)
        layers = [[nn.Conv1d(a, b, 1), nn.LayerNorm(points), nn.ReLU()] for a, b in pairs]
        sizes = zip((widths[-1], *head_widths), head_widths, strict=False)
        head = [[nn.Linear(a, b), nn.ReLU()] for a, b in sizes]
        self.points = nn.Sequential(*[part for layer in layers for part in layer])
        self.head = nn.Sequential(*[part for layer in head for part in layer], nn.Linear(head_widths[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Give the scores (B, 1) of clouds (B, N, 3)."""
        scores: Tensor = self.head(self.points(x.transpose(1, 2)).mean(2))
        return scores


def plain_score(widths: tuple[int, ...], head_widths: tuple[int, ...], *, frozen: bool) -> PointNetScore:
    """Give a network with random weights."""
    torch.manual_seed(0)
    return PointNetScore(widths, head_widths).requires_grad_(requires_grad=not frozen)


def moved(x: Tensor, gradient: Tensor) -> Tensor:
    """Take the step: downhill, with noise."""
    return (x - STEP_SIZE**2 / 2 * gradient + STEP_SIZE * torch.randn_like(x)).clamp_(-1, 1)


def energy_of(score: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Give −f(x) + ‖x‖²/(2s²)."""
    return lambda x: x.square().sum((1, 2)) / (2 * STD**2) - score(x).flatten()


def published_chain(score: nn.Module, x: Tensor) -> Tensor:
    """Take steps for the whole batch, keeping each one's graph."""
    for _ in range(STEPS):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(score(x).sum(), x, retain_graph=True)
        x = moved(x.detach(), x.detach() / STD**2 - slope)
    return x


def chains(
    widths: tuple[int, ...], head_widths: tuple[int, ...], points: int, clouds: int, *, compiled: bool
) -> dict[str, Step]:
    """Give every way's chain of a few steps, for as many clouds."""
    net = plain_score(widths, head_widths, frozen=True)
    x = STD * torch.randn(clouds, points, 3)
    options = {"steps": STEPS, "step_size": STEP_SIZE, "clamp": 1.0}
    plain = plainly(net)
    ways: dict[str, Step] = {
        "pcgen": lambda: langevin(energy_of(net), x, **options),
        "autograd, frozen, 4 clouds at once": lambda: langevin(energy_of(plain), x, chunk_size=4, **options),
        "autograd, frozen": lambda: langevin(energy_of(plain), x, **options),
    }
    if compiled:
        inductor = torch.compile(plain)
        ways["torch.compile, frozen"] = lambda: langevin(energy_of(inductor), x, **options)
    published = Published(widths, head_widths, points)
    ways["published"] = lambda: published_chain(published, x)
    return ways


def products(widths: tuple[int, ...], points: int) -> Step:
    """Give the matrix products of one cloud's way forwards and back, and nothing else."""
    factors = []
    for C, R in zip((3, *widths), widths, strict=False):
        factors.append((torch.randn(R, C), torch.randn(C, points), torch.empty(R, points)))
        factors.append((torch.randn(C, R), torch.randn(R, points), torch.empty(C, points)))

    def multiply() -> None:
        for weight, h, out in factors:
            torch.mm(weight, h, out=out)

    return multiply


def plainly(net: PointNetScore) -> Callable[[Tensor], Tensor]:
    """Give the network's way through torch's operations, which users never need to choose."""
    return net._plainly  # noqa: SLF001 -- the kernel's rival has no public name


def learning(net: PointNetScore, real: Tensor, fake: Tensor) -> None:
    """Leave the gradient of the loss in the parameters."""
    net.zero_grad(set_to_none=True)
    (net(fake).mean() - net(real).mean()).backward()  # type: ignore[no-untyped-call]  # torch's


def least(calls: dict[str, Step], turns: int) -> dict[str, float]:
    """Give the least of each call's times, taken in turns, in seconds."""
    best: dict[str, float] = {}
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for turn in range(turns + 1):  # the first is not counted: it compiles
        for name, call in calls.items():
            start = clock()
            call()
            if turn:
                best[name] = min(best.get(name, float("inf")), clock() - start)
    return best


def memory(name: str, configuration: int, clouds: int) -> float:
    """Give the growth of the peak by one step, in MiB."""
    setup = f"""
import torch
from langevin import CONFIGURATIONS, chains
torch.set_num_threads(1)
small = chains(*CONFIGURATIONS[{configuration}], 1, compiled={name.startswith("torch")})[{name!r}]
small()
chain = chains(*CONFIGURATIONS[{configuration}], {clouds}, compiled={name.startswith("torch")})[{name!r}]"""
    return peak_growth_mib(setup, "chain()")


def error(net: PointNetScore, points: int) -> float:
    """Give the largest error of pcgen's gradient, relative to the largest of that by autograd in float64."""
    x = STD * torch.randn(2, points, 3)
    mine = energy_gradient(net, x)
    exact = energy_gradient(plainly(net.double()), x.double())
    net.float()
    return ((mine - exact).abs().max() / exact.abs().max()).item()


def compare(index: int, clouds: int, options: argparse.Namespace) -> None:
    """Measure one configuration and print its table."""
    widths, head_widths, points = CONFIGURATIONS[index]
    flops = 4 * points * sum(a * b for a, b in zip((3, *widths), widths, strict=False))
    calls = chains(widths, head_widths, points, clouds, compiled=options.compile)
    bare, large = products(widths, points), torch.randn(LIMIT, LIMIT)
    net, data = plain_score(widths, head_widths, frozen=False), torch.randn(2, clouds, points, 3)
    others: dict[str, Step] = {
        "products": lambda: [bare() for _ in range(clouds)],
        "large": lambda: large @ large,
        "learning": lambda: learning(net, data[0], data[1]),
    }
    best = least(calls | others, options.turns)
    best |= {name: best[name] / STEPS for name in calls}
    rate, limit = clouds * flops / best["pcgen"] / 1e9, 2 * LIMIT**3 / best["large"] / 1e9
    shapes = clouds * flops / best["products"] / 1e9
    print(f"{'-'.join(map(str, widths))}, N {points}, B {clouds}: {flops / 1e6:.1f} MFLOP a cloud and step")
    rows: list[tuple[str, ...]] = [("way", "ms a cloud", "of pcgen's", "GFLOP/s", "memory, MiB")]
    for name in calls:
        grown = f"{memory(name, index, clouds):.0f}" if options.memory else "–"
        cells = (f"{1e3 * best[name] / clouds:.3f}", f"{best[name] / best['pcgen']:.2f}×")
        rows.append((name, *cells, f"{clouds * flops / best[name] / 1e9:.0f}", grown))
    print(table(rows))
    print(
        f"the products alone {shapes:.0f} GFLOP/s, a large one {limit:.0f}: pcgen at {rate / shapes:.2f} and ", end=""
    )
    print(
        f"{rate / limit:.2f} of them; learning step {best['learning'] / best['pcgen']:.1f} steps of a chain; ", end=""
    )
    print(f"error of the gradient {error(plain_score(widths, head_widths, frozen=True), points):.0e}\n", flush=True)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clouds", type=int, nargs=3, default=CLOUDS)
    parser.add_argument("--compile", action="store_true", help="with torch.compile, which needs a C++ compiler")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, torch {torch.__version__}\n")
    for index, clouds in enumerate(options.clouds):
        compare(index, clouds, options)


if __name__ == "__main__":
    main()
