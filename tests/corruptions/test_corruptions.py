"""What every corruption keeps: shape, type, the input, repeatability, the record, the command line."""

import math

import pytest
import torch
from jsonargparse import ArgumentParser
from scipy.stats import kstest

from pcgen.corruptions import (
    Compose,
    Corruption,
    CutBall,
    CutHalfSpace,
    DropPoints,
    EraseRectangle,
    GaussianNoise,
    OutlierPoints,
    SaltAndPepper,
)
from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import build, describe

CLOUDS = [
    GaussianNoise(0.1),
    GaussianNoise(0.1, 0.5),
    OutlierPoints(0.2),
    OutlierPoints(0.1, 2.0, 0.6),
    OutlierPoints(0.1, std=0.3),
    DropPoints(0.5),
    DropPoints(0.2, 0.8),
    CutHalfSpace(0.3),
    CutBall(0.2, 0.4),
    Compose([CutBall(0.2), GaussianNoise(0.1)]),
]
IMAGES = [
    GaussianNoise(0.3),
    SaltAndPepper(0.2),
    SaltAndPepper(0.0, 0.5),
    EraseRectangle(),
    EraseRectangle(0.1, 0.9, value=0.5),
    Compose([EraseRectangle(), GaussianNoise(0.1), SaltAndPepper(0.1)]),
]


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def clouds(B=16, N=100):
    return torch.randn(B, N, 3, generator=gen(1))


def images(B=16, C=2):
    return torch.rand(B, C, 12, 17, generator=gen(1))


def name(value):
    return type(value).__name__ if isinstance(value, Corruption) else None


both = pytest.mark.parametrize(
    ("corruption", "x"), [(c, clouds()) for c in CLOUDS] + [(c, images()) for c in IMAGES], ids=name
)


@both
def test_all_are_repeatable_pure_and_recorded(corruption, x):
    before = x.clone()
    y = corruption(x, generator=gen(3))
    assert torch.equal(x, before)
    assert y.shape == x.shape
    assert y.isfinite().all()
    assert y.data_ptr() != x.data_ptr()
    assert torch.equal(corruption(x, generator=gen(3)), y)
    assert torch.equal(corruption.eval()(x, generator=gen(3)), y)
    assert torch.equal(build(describe(corruption))(x, generator=gen(3)), y)
    assert not torch.equal(corruption(x, generator=gen(4)), y)
    assert not list(corruption.parameters())
    assert not corruption.state_dict()


@both
def test_each_datum_has_its_own_draw_and_no_other_datum_matters(corruption, x):
    same = x[:1].expand_as(x).contiguous()
    y = corruption(same, generator=gen(3))
    assert len(y.flatten(1).unique(dim=0)) > len(x) // 2
    other = x.clone()
    other[1:] = other[1:].roll(1, 0).flip(1)
    assert torch.equal(corruption(other, generator=gen(3))[0], corruption(x, generator=gen(3))[0])


@both
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_types_stay(corruption, x, dtype):
    y = corruption(x.to(dtype), generator=gen())
    assert y.dtype == dtype
    assert y.isfinite().all()


@both
def test_without_a_generator_the_global_state_decides(corruption, x):
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(corruption(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    state = torch.get_rng_state()
    corruption(x, generator=gen())
    assert torch.equal(torch.get_rng_state(), state)


@both
def test_views_and_empty_batches(corruption, x):
    assert corruption(x[:0]).shape == x[:0].shape
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(corruption(strided, generator=gen()), corruption(x, generator=gen()))


@pytest.mark.parametrize("corruption", [c for c in CLOUDS if not isinstance(c, GaussianNoise | Compose)], ids=name)
def test_images_are_no_clouds(corruption):
    with pytest.raises(DataError, match=rf"{name(corruption)} takes clouds \(B, N, 3\) .*got \(16, 2, 12, 17\)"):
        corruption(images())


@pytest.mark.parametrize("corruption", [c for c in IMAGES if not isinstance(c, GaussianNoise | Compose)], ids=name)
def test_clouds_are_no_images(corruption):
    with pytest.raises(DataError, match=rf"{name(corruption)} takes images \(B, C, H, W\) .*got \(16, 100, 3\)"):
        corruption(clouds())


def test_neither_bytes_nor_codes_are_taken():
    with pytest.raises(DataError, match="uint8"):
        GaussianNoise(0.1)(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(DataError, match=r"got \(4, 8\)"):
        GaussianNoise(0.1)(torch.zeros(4, 8))
    with pytest.raises(DataError, match="SaltAndPepper takes images"):
        Compose([GaussianNoise(0.1), SaltAndPepper(0.1)])(clouds())


# ── noise ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_noise_is_gaussian():
    x = torch.zeros(20, 500, 3)
    assert kstest(GaussianNoise(0.3)(x, generator=gen()).flatten() / 0.3, "norm").pvalue > 0.01
    spread = GaussianNoise(0.1, 0.5)(x, generator=gen()).flatten(1).std(1)
    assert kstest((spread - 0.1) / 0.4, "uniform").pvalue > 0.01


def test_images_stay_in_their_bounds_unless_told_otherwise():
    x = torch.full((8, 1, 50, 50), 0.9)
    free, bound = (GaussianNoise(0.2, clamp=c)(x, generator=gen()) for c in (False, True))
    assert free.max() > 1
    assert torch.equal(free.clamp(0, 1), bound)
    # beyond 1 lies what is half a standard deviation above the mean: 1 − Φ(½)
    assert (bound == 1).float().mean().item() == pytest.approx(0.5 * math.erfc(0.5 / math.sqrt(2)), abs=0.01)
    assert torch.equal(GaussianNoise(0.0)(x), x)
    cloud = 3 * clouds()
    assert torch.equal(
        GaussianNoise(0.1)(cloud, generator=gen()), GaussianNoise(0.1, clamp=False)(cloud, generator=gen())
    )


def test_composing_is_one_after_the_other():
    first, second = DropPoints(0.5), GaussianNoise(0.1)
    one, two = gen(2), gen(2)
    expected = second(first(clouds(), generator=one), generator=one)
    assert torch.equal(Compose([first, second])(clouds(), generator=two), expected)


# ── configuration ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianNoise(-0.1), r"GaussianNoise\(std=-0.1"),
        (lambda: GaussianNoise(0.2, 0.1), "max_std=0.1"),
        (lambda: GaussianNoise(math.inf), "std=inf"),
        (lambda: GaussianNoise(math.nan), "std=nan"),
        (lambda: Compose([]), "at least one"),
        (lambda: Compose([torch.nn.ReLU()]), "ReLU"),
        (lambda: DropPoints(1.0), r"DropPoints\(share=1.0.*none of the N points"),
        (lambda: CutBall(0.2, 1.0), "max_share=1.0"),
        (lambda: CutHalfSpace(0.5, 0.2), r"share=0.5, max_share=0.2"),
        (lambda: OutlierPoints(-0.1), "share=-0.1"),
        (lambda: OutlierPoints(0.1, 0.0), "radius=0.0"),
        (lambda: OutlierPoints(0.1, std=0.0), "std=0.0"),
        (lambda: SaltAndPepper(math.nan), "share=nan"),
        (lambda: SaltAndPepper(1.0), "share=1.0"),
        (lambda: EraseRectangle(0.0), "min_side=0.0"),
        (lambda: EraseRectangle(0.5, 0.4), "max_side=0.4"),
        (lambda: EraseRectangle(0.5, 1.0), "max_side=1.0"),
        (lambda: EraseRectangle(value=2.0), "value=2.0"),
    ],
)
def test_values_out_of_range_are_named(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_the_command_line_makes_them():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--corruption", type=Corruption | None)
    text = """
    class_path: pcgen.corruptions.Compose
    init_args:
      corruptions:
        - class_path: pcgen.corruptions.CutBall
          init_args: {share: 0.2, max_share: 0.4}
        - class_path: pcgen.corruptions.GaussianNoise
          init_args: {std: 0.02}
    """
    made = parser.instantiate(parser.parse_args(["--corruption", text])).corruption
    expected = Compose([CutBall(0.2, 0.4), GaussianNoise(0.02)])
    assert describe(made) == describe(expected)
    assert torch.equal(made(clouds(), generator=gen()), expected(clouds(), generator=gen()))
