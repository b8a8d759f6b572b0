"""One update of a Wasserstein critic of clouds with gradient penalty: the pass over the critical points, and without.

    cd benchmarks && python critic.py [--points 512 1024 2048] [--batch 50] [--turns 5] [--threads 1] [--no-memory]

The critic is r-GAN's (per-point layers 64-128-256-256-512, maximum, then 128-64-1) with LeakyReLU; an update takes real
clouds, others in the place of generated ones (chairs with noise), the penalty on clouds between them, and the backward
pass. "Linear" and "Conv1d" are the usual ways: every layer on every point, then `torch.max`. All have the same weights
and data and take turns; ratios are medians of the turns' own. Winners: how many points of a cloud win a feature, on
average, of real clouds, the others and those between. Error: the largest of any weight's gradient, relative to the
largest of that gradient by float64; where rounding lets another of two near points win, it is a thousand times that
of the sums. Memory: growth of the peak by one update, in a process of its own.
"""

import argparse
import copy
import statistics
import time
from pathlib import Path

import torch
from _clouds import load_clouds
from _timing import peak_growth_mib, table
from torch import Tensor, nn

from pcgen.nets import PointNetEncoder, critical

WIDTHS, HEAD, SLOPE = (64, 128, 256, 256, 512), (128, 64), 0.2
CHAIRS = Path(__file__).parents[1] / "../shared/data/modelnet10.h5"


class Plain(nn.Module):
    """The encoder's function and weights in PyTorch's parts: linear layers, or convolutions of width 1."""

    def __init__(self, encoder: PointNetEncoder, *, convolutions: bool) -> None:
        super().__init__()
        self.convolutions = convolutions
        layers = copy.deepcopy(list(encoder.points.layers))
        self.layers = nn.Sequential(*[_convolution(layer) if convolutions else layer for layer in layers])
        self.head = copy.deepcopy(encoder.head)

    def forward(self, x: Tensor) -> Tensor:
        """Give the features (B, F) of clouds (B, N, 3)."""
        largest = self.layers(x.transpose(1, 2)).max(2) if self.convolutions else self.layers(x).max(1)
        features: Tensor = self.head(largest.values)
        return features


def _convolution(layer: nn.Module) -> nn.Module:
    if not isinstance(layer, nn.Linear):
        return layer
    convolution = nn.Conv1d(layer.in_features, layer.out_features, 1)
    convolution.load_state_dict({"weight": layer.weight[:, :, None], "bias": layer.bias})
    return convolution


def critics() -> dict[str, nn.Sequential]:
    """Give critics of the same function and weights."""
    torch.manual_seed(0)
    encoder, score = PointNetEncoder(WIDTHS, HEAD, batch_norm=False, negative_slope=SLOPE), nn.Linear(HEAD[-1], 1)
    ways = {"pcgen": encoder} | {name: Plain(encoder, convolutions=name == "Conv1d") for name in ("Linear", "Conv1d")}
    return {name: nn.Sequential(features, copy.deepcopy(score)) for name, features in ways.items()}


def clouds(data: Path, batch: int, points: int) -> tuple[tuple[Tensor, Tensor, Tensor], str]:
    """Give real clouds, others with noise, clouds between the two, and what they are."""
    every, what = load_clouds(data, 2 * batch, points)
    real, fake = every[:, :points].contiguous().split(batch)
    fake = fake + 0.03 * torch.randn_like(fake)
    return (real, fake, torch.lerp(real, fake, torch.rand(batch, 1, 1))), what


def update(critic: nn.Module, real: Tensor, fake: Tensor, between: Tensor) -> None:
    """Leave the gradient of the critic's loss in its weights."""
    critic.zero_grad(set_to_none=True)
    x = between.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotations there


def seconds(critic: nn.Module, data: tuple[Tensor, Tensor, Tensor]) -> float:
    """Time one update."""
    start = time.perf_counter()
    update(critic, *data)
    if data[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def winners(encoder: nn.Module, x: Tensor) -> float:
    """Give how many points of a cloud win a feature, on average."""
    assert isinstance(encoder, PointNetEncoder)
    found = critical.winners(x, critical.read(encoder.points.layers))
    return statistics.mean(len(cloud.unique()) for cloud in found)


def errors(ways: dict[str, nn.Sequential], data: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
    """Give the largest error of each way's gradients, relative to float64's."""
    exact = copy.deepcopy(ways["Linear"]).double()
    update(exact, *(x.double() for x in data))
    found = {}
    for name, critic in ways.items():
        update(critic, *data)
        apart = []
        for mine, its in zip(critic.parameters(), exact.parameters(), strict=True):
            # The last bias has none: what it adds to real and generated clouds goes away.
            if mine.grad is not None and its.grad is not None and its.grad.any():
                apart.append((mine.grad.view_as(its) - its.grad).abs().max() / its.grad.abs().max())
        found[name] = torch.stack(apart).max().item()
    return found


def memory(name: str, batch: int, points: int) -> float:
    """Give the growth of the peak by one update, in MiB."""
    setup = f"""
import torch
from critic import clouds, critics, update
from pathlib import Path
torch.set_num_threads(1)
critic = critics()["{name}"]
update(critic, *(torch.rand(2, 200, 3) for _ in range(3)))
data = [torch.rand({batch}, {points}, 3) for _ in range(3)]"""
    return peak_growth_mib(setup, "update(critic, *data)")


def compare(points: int, options: argparse.Namespace) -> list[tuple[str, ...]]:
    """Give the table's rows for clouds of this size."""
    data, what = clouds(options.data, options.batch, points)
    ways = {name: critic.to(options.device) for name, critic in critics().items()}
    data = (data[0].to(options.device), data[1].to(options.device), data[2].to(options.device))
    count = " / ".join(f"{winners(ways['pcgen'][0], x):.0f}" for x in data)
    print(f"{what}, B {options.batch}, N {points}: {count} winners of {WIDTHS[-1]} features")
    error = errors(ways, data)  # warms up too
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.turns):
        for name, critic in ways.items():
            times[name].append(seconds(critic, data))
    rows: list[tuple[str, ...]] = [("critic", "update, ms", "of pcgen's", "memory, MiB", "error")]
    for name, own in times.items():
        ratio = statistics.median(a / b for a, b in zip(own, times["pcgen"], strict=True))
        grown = f"{memory(name, options.batch, points):.0f}" if options.memory else "–"
        cells = (f"{1e3 * statistics.median(own):.0f}", f"{ratio:.2f}×", grown, f"{error[name]:.0e}")
        rows.append((name, *cells))
    return rows


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=CHAIRS)
    parser.add_argument("--points", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    options.memory = options.memory and options.device == "cpu"
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, torch {torch.__version__}, {options.device}")
    for points in options.points:
        print(table(compare(points, options)), "\n", flush=True)


if __name__ == "__main__":
    main()
