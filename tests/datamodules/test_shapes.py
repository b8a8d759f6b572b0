"""The furniture: what the factors do, whether shapes are told apart, whether they hold together."""

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from pcgen.datamodules import Shapes
from pcgen.datamodules._assembly import join
from pcgen.datamodules._catalogue import CLASSES, FACTORS, PARTS
from pcgen.datamodules._furniture import Factors
from pcgen.datamodules._primitives import inside, sample_union
from pcgen.errors import ConfigurationError, DataError
from pcgen.recipe import build as rebuild
from pcgen.recipe import describe


@pytest.fixture(scope="module")
def shapes():
    data = Shapes(num_points=1024, train_size=400, val_size=40, test_size=160)
    data.setup()
    return data


def build(name, seed, **fixed):
    """One shape of a class with the middle of every factor but those given, and points on it (4096, 3)."""
    kind = CLASSES[name]
    values = {f: sum(getattr(kind, f)) / 2 for f in FACTORS} | fixed
    assembly = kind.build(np.random.default_rng(seed), Factors(**values))
    x, label, _ = sample_union(join([assembly]), 4096, np.random.default_rng(seed))
    return x[0], label[0]


def part(x, label, name):
    return x[label == PARTS.index(name)]


def test_batches_say_what_they_are(shapes):
    batch = shapes.take("test")
    assert shapes.sample_shape == batch.x.shape[1:] == (1024, 3)
    assert shapes.up_axis == 2
    assert len(shapes.class_names) == 8
    assert batch.factors.shape == (160, len(shapes.factor_names))
    assert batch.x.isfinite().all()
    assert batch.factors.isfinite().all()
    assert torch.bincount(batch.label).tolist() == [20] * 8


def test_everything_is_known_before_setup():
    data = Shapes(num_points=64, classes=["table", "lamp"])
    assert data.sample_shape == (64, 3)
    assert data.class_names == ("table", "lamp")
    assert data.factor_names == FACTORS
    assert data.up_axis == 2
    assert data.normalization["scope"] == "none"


def test_clouds_fill_the_unit_ball(shapes):
    radius = shapes.take("train").x.norm(dim=-1).amax(1)
    assert radius.max() <= 1
    assert radius.min() > 0.4


def test_the_same_seed_gives_the_same_shapes_and_another_others():
    def take(seed):
        return Shapes(num_points=64, train_size=16, val_size=8, test_size=8, shape_seed=seed).take("train")

    assert torch.equal(take(0).x, take(0).x)
    assert not torch.equal(take(0).factors, take(1).factors)


def test_more_shapes_begin_with_the_same():
    few = Shapes(num_points=16, train_size=20, val_size=0, test_size=8).take("train").factors
    many = Shapes(num_points=16, train_size=40, val_size=0, test_size=8).take("train").factors
    assert torch.equal(many[:20], few)


def test_splits_share_no_shape(shapes):
    factors = torch.cat([shapes.take(s).factors for s in ("train", "val", "test")])
    assert len(factors.unique(dim=0)) == 600


@pytest.mark.parametrize("name", CLASSES)
def test_no_point_is_inside_and_all_are_on_a_part(name):
    kind, rng = CLASSES[name], np.random.default_rng(5)
    for _ in range(6):
        low, high = np.array([getattr(kind, f) for f in FACTORS]).T
        assembly = kind.build(rng, Factors(*(low + (high - low) * rng.random(len(FACTORS)))))
        solids = join([assembly])
        x, _, normal = sample_union(solids, 500, rng)
        out = np.zeros(500, bool)
        on = np.zeros(500, bool)
        for i in range(len(solids.kind)):
            local = (x[0] - solids.center[i]) @ solids.rotation[i]
            local_normal = normal[0] @ solids.rotation[i]
            kinds, params = np.repeat(solids.kind[i], 500), np.repeat(solids.params[i : i + 1], 500, axis=0)
            out |= inside(kinds, params, local + 1e-5 * local_normal)
            closed = params.copy()
            closed[:, 3] = np.where(kinds == 1, 1, closed[:, 3])  # a sheet has an inner side too
            on |= inside(kinds, closed, local - 1e-5 * local_normal)
        assert out.mean() <= 0.004  # a step of 1e-5 may reach a part that begins right there
        assert on.mean() >= 0.99


@pytest.mark.parametrize("name", CLASSES)
def test_shapes_hold_together_and_stand_on_the_floor(name):
    for seed in range(8):
        x, _ = build(name, seed)
        pairs = cKDTree(x).sparse_distance_matrix(cKDTree(x), 0.12, output_type="coo_matrix")
        assert connected_components(pairs)[0] == 1, f"{name} {seed} falls apart"
        assert -0.05 < x[:, 2].min() < 0.03


def top_of(x, share=0.5):
    return np.quantile(x[:, 2], share)


@pytest.mark.parametrize(
    ("name", "factor", "measure"),
    [
        ("chair", "leg_height", lambda x, y: part(x, y, "seat")[:, 2].min()),
        ("chair", "width", lambda x, y: np.ptp(part(x, y, "seat")[:, 0])),
        ("chair", "depth", lambda x, y: np.ptp(part(x, y, "seat")[:, 1])),
        ("chair", "thickness", lambda x, y: np.ptp(part(x, y, "seat")[:, 2])),
        ("stool", "leg_height", lambda x, y: part(x, y, "seat")[:, 2].min()),
        ("table", "width", lambda x, y: np.ptp(x[:, 0])),
        ("table", "depth", lambda x, y: np.ptp(part(x, y, "top")[:, 1])),
        ("table", "thickness", lambda x, y: np.ptp(part(x, y, "top")[:, 2])),
        ("desk", "width", lambda x, y: np.ptp(part(x, y, "top")[:, 0])),
        ("bed", "leg_height", lambda x, y: part(x, y, "base")[:, 2].min()),
        ("bed", "width", lambda x, y: np.ptp(part(x, y, "base")[:, 0])),
        ("bed", "depth", lambda x, y: np.ptp(part(x, y, "base")[:, 1])),
        ("sofa", "leg_height", lambda x, y: part(x, y, "base")[:, 2].min()),
        ("shelf", "upper_height", lambda x, y: part(x, y, "board")[:, 2].max() - part(x, y, "board")[:, 2].min()),
    ],
)
def test_a_factor_is_the_length_that_it_says(name, factor, measure):
    low, high = getattr(CLASSES[name], factor)
    for value in np.linspace(low, high, 4):
        x, label = build(name, 3, **{"tilt": 0.0, "roundness": 0.1} | {factor: value})
        assert measure(x, label) == pytest.approx(value, abs=0.012 + 0.02 * value)


@pytest.mark.parametrize(
    ("name", "factor", "measure"),
    [
        ("chair", "upper_height", lambda x, y: x[:, 2].max()),
        ("chair", "tilt", lambda x, y: part(x, y, "back")[:, 1].max()),
        ("lamp", "leg_height", lambda x, y: part(x, y, "shade")[:, 2].min()),
        ("lamp", "width", lambda x, y: np.ptp(part(x, y, "shade")[:, 1])),
        ("lamp", "tilt", lambda x, y: part(x, y, "shade")[:, 0].mean()),
        ("lamp", "thickness", lambda x, y: np.ptp(part(x, y, "pole")[:, 1])),
        ("lamp", "roundness", lambda x, y: -np.ptp(part(x, y, "shade")[:, 0]) / len(part(x, y, "shade"))),
        ("stool", "upper_height", lambda x, y: x[:, 2].max()),
        ("table", "tilt", lambda x, y: np.abs(x[x[:, 2] < 0.05, 0]).max()),
        ("table", "leg_height", lambda x, y: x[:, 2].max()),
        ("shelf", "leg_height", lambda x, y: part(x, y, "board")[:, 2].min()),
        ("shelf", "tilt", lambda x, y: -part(x, y, "board")[:, 2].min()),
        ("sofa", "upper_height", lambda x, y: part(x, y, "back")[:, 2].max()),
        ("sofa", "thickness", lambda x, y: len(part(x, y, "arm"))),
        ("bed", "upper_height", lambda x, y: x[:, 2].max()),
        ("bed", "tilt", lambda x, y: x[:, 1].max()),
        ("bed", "thickness", lambda x, y: part(x, y, "mattress")[:, 2].max()),
        ("desk", "upper_height", lambda x, y: x[:, 2].max()),
    ],
)
def test_a_factor_moves_what_it_says(name, factor, measure):
    low, high = getattr(CLASSES[name], factor)
    values = np.linspace(low, high, 7)
    measured = []
    for value in values:
        x, label = build(name, 4, **{"tilt": 0.02, "roundness": 0.5} | {factor: value})
        measured.append(measure(x, label))
    assert abs(spearmanr(values, measured)[0]) > 0.9


def test_factors_are_in_the_units_of_the_clouds(shapes):
    batch, k = shapes.take("train"), shapes.class_names.index("shelf")
    rows = batch.label == k
    height = batch.x[rows, :, 2].amax(1) - batch.x[rows, :, 2].amin(1)
    names = shapes.factor_names
    told = batch.factors[rows][:, names.index("leg_height")] + batch.factors[rows][:, names.index("upper_height")]
    assert (height - told).abs().max() < 0.03


def test_classes_can_be_told_apart(shapes):
    def features(batch):
        edges = np.linspace(-1, 1, 13)[1:-1]
        bins = (
            np.searchsorted(edges, batch.x[..., 2].numpy()),
            np.searchsorted((edges + 1) / 2, batch.x[..., :2].norm(dim=-1)),
        )
        counts = [(b[..., None] == np.arange(12)).mean(1) for b in bins]
        return torch.from_numpy(np.concatenate(counts, 1))

    train, test = shapes.take("train"), shapes.take("test")
    a, b = features(train), features(test)
    centroids = torch.stack([a[train.label == k].mean(0) for k in range(8)])
    found = ((b[:, None] - centroids) ** 2).sum(-1).argmin(1)
    assert (found == test.label).float().mean() > 0.75  # chance: 0.125


def test_part_labels_belong_to_the_points(shapes):
    batch, parts = shapes.take("val"), shapes.part_labels("val")
    assert parts.shape == batch.x.shape[:2]
    chair = batch.label == shapes.class_names.index("chair")
    for x, y in zip(batch.x[chair], parts[chair], strict=True):
        seat, back = x[y == PARTS.index("seat")], x[y == PARTS.index("back")]
        assert seat[:, 2].mean() < back[:, 2].mean()
        assert set(y.tolist()) <= {PARTS.index(p) for p in ("seat", "back", "leg", "arm", "pole", "base")}


def test_parts_are_factors_where_asked_for():
    sizes = {"num_points": 512, "train_size": 200, "val_size": 8, "test_size": 8, "classes": ["chair", "table"]}
    data = Shapes(**sizes, part_factors=["arm", "seat"])
    assert data.factor_names == (*FACTORS, "has_arm", "has_seat")  # known before the shapes are made
    batch, parts = data.take("train"), data.part_labels("train")
    assert data.factor_names == (*FACTORS, "has_arm", "has_seat")
    for k, name in enumerate(("arm", "seat")):  # arms and seats are large: 512 points never miss them
        assert torch.equal((parts == PARTS.index(name)).any(1).float(), batch.factors[:, 7 + k])
    chair = batch.label == 0
    assert 0.25 < batch.factors[chair, 7].mean() < 0.55  # four in ten have arms
    assert not batch.factors[~chair, 7:].any()
    assert batch.factors[chair, 8].all()
    plain = Shapes(**sizes).take("train")
    assert torch.equal(plain.x, batch.x)
    assert torch.equal(plain.factors, batch.factors[:, :7])
    for drawn in data.train_dataloader():
        assert drawn.factors.shape == (len(drawn.x), 9)
    assert torch.equal(rebuild(describe(data)).take("val").factors, data.take("val").factors)


def test_part_labels_follow_the_fixed_subset():
    data = Shapes(
        num_points=32, stored_points=96, train_size=16, val_size=8, test_size=8, classes=["table"], resample=True
    )
    batch, parts = data.take("val"), data.part_labels("val")
    stored = data.split("val").points.points
    labels = torch.from_numpy(data._labels[data.split("val").rows])
    for k in range(8):
        same = (batch.x[k][:, None] == stored[k]).all(-1)
        assert torch.equal(labels[k][same.float().argmax(1)], parts[k])


@pytest.mark.parametrize("n", [None, 5, 0])
def test_truth_is_of_the_points_that_take_gives(n):
    """Labels of parts, found again by the place of each point; `take(split, n)` spreads over the classes."""
    data = Shapes(num_points=32, stored_points=64, train_size=13, val_size=0, test_size=8, classes=["table", "sofa"])
    assert data.truth_names == data.part_names
    x, part = data.take("train", n).x, data.truth("train", n)["part"]
    assert part.shape == x.shape[:2]
    every, labels = data.take("train").x, data.part_labels("train")
    for cloud, parts in zip(x, part, strict=True):
        (row,) = (every == cloud).all(-1).all(-1).nonzero()[0]
        assert torch.equal(labels[row], parts)


def test_fresh_subsets_come_from_four_times_the_points():
    data = Shapes(num_points=32, train_size=16, val_size=0, test_size=8, resample=True)
    assert data.take("train").x.shape == (16, 32, 3)
    assert data.split("train").points.shape == (16, 128, 3)


def test_val_size_zero_makes_validation_the_test_split():
    data = Shapes(num_points=16, train_size=16, val_size=0, test_size=8)
    assert torch.equal(data.take("val").x, data.take("test").x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["chair", "car"]}, r"no class 'car'; it has bed, chair"),
        ({"classes": ["chair", "chair"]}, "each once"),
        ({"classes": []}, "name at least one"),
        ({"part_factors": ["armrest"]}, r"no part 'armrest'; it has leg, seat, back, arm, top"),
        ({"part_factors": ["arm", "arm"]}, "each once"),
        ({"train_size": 0}, "train_size"),
        ({"stored_points": 10}, "stored_points is 10"),
        ({"shape_seed": -1}, "shape_seed is -1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Shapes(**arguments)


def test_a_split_that_is_not_there_is_named(shapes):
    with pytest.raises(DataError, match=r"no split 'dev' in these data; there is train, val, test"):
        shapes.take("dev")
