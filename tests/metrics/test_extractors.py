"""Extractors: what ships, what is read and refused, and how clouds are brought to what a network knows."""

import copy
import io
import json
import os
import subprocess
import sys
import warnings
import zipfile
from importlib import resources

import pytest
import torch
from torch import nn

from pcgen.errors import CheckpointError, ConfigurationError, DataError
from pcgen.metrics.extractors import SHIPPED, extractor, fingerprint, save_extractor
from pcgen.nets import PointNetEncoder

CLOUDS = "pointnet-modelnet10-v1"
DIGITS = "cnn-mnist-v1"


def card(**others):
    return {"name": "mine", "input": {"kind": "clouds", "num_points": 64, "radius": 0.5, "up_axis": 1}} | others


@pytest.fixture
def saved(tmp_path):
    """A small extractor's file, and the network that went into it."""
    torch.manual_seed(0)
    network, head = PointNetEncoder((8, 16), (12,)), nn.Linear(12, 3)
    network.train()
    network(torch.randn(20, 30, 3))  # so that normalisation has learnt something
    save_extractor(tmp_path / "mine.pt", network, head, card())
    return tmp_path / "mine.pt", network.eval()


def balls(K=6, N=80, radius=0.5, seed=0):
    """Clouds that are no ball's and nobody's mirror image, with the farthest point at the radius."""
    x = torch.randn(K, N, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1.0, 0.3, 2.0])
    x = x + 0.3 * x[..., [1, 2, 0]].square()
    return radius * x / x.norm(dim=2).amax(1)[:, None, None]


# ── what ships ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_small_and_has_its_identity_and_a_readable_card(name):
    folder = resources.files("pcgen") / "weights"
    assert len((folder / f"{name}.pt").read_bytes()) < 2e6
    net = extractor(name)
    assert net.name == name
    assert net.identity == SHIPPED[name]
    readable = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert readable == net.describe()
    assert readable["identity"] == net.identity
    assert net.card["accuracy"].keys() == {"val", "test"}
    assert not any("/" in word for word in strings(net.card["data"]))


def strings(value):
    if isinstance(value, dict):
        return [word for each in value.values() for word in strings(each)]
    if isinstance(value, list):
        return [word for each in value for word in strings(each)]
    return [value] if isinstance(value, str) else []


def test_features_are_float32_without_gradient_and_the_same_each_time():
    net = extractor(CLOUDS)
    x = balls(radius=1.0).requires_grad_()
    first = net(x)
    assert (first.shape, first.dtype, first.requires_grad) == ((6, 256), torch.float32, False)
    assert torch.equal(first, extractor(CLOUDS)(x))
    torch.testing.assert_close(net(x[:, torch.randperm(80)]), first, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.features(x.detach(), batch_size=4), first, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x), first)
    assert torch.equal(net(x.double()), first)
    assert net.features(x[:0]).shape == (0, 256)


def test_digits_have_features_too():
    net = extractor(DIGITS)
    x = torch.rand(5, 1, 28, 28)
    assert net(x).shape == net.features(x).shape == (5, net.num_features)
    with pytest.raises(ConfigurationError, match="takes images: radius and up_axis are of clouds"):
        net.features(x, radius=1.0)
    with pytest.raises(DataError, match=r"built for images \(B, 1, 28, 28\)"):
        net(balls())


@pytest.fixture(scope="module")
def furniture(real_data):
    """ModelNet10's test split as the card of the point network says."""
    from pcgen.datamodules import PointClouds

    arguments = extractor(CLOUDS).card["data"]["recipe"]["init_args"]
    return PointClouds(**arguments | {"path": str(real_data / "modelnet10.h5"), "augment": None}).take("test")


def test_the_card_of_the_point_network_tells_the_truth(furniture):
    net = extractor(CLOUDS)
    rows = torch.randperm(len(furniture.x), generator=torch.Generator().manual_seed(0))[:200]
    right = (net.classify(furniture.x[rows]).argmax(1) == furniture.label[rows]).double().mean()
    assert abs(right - net.card["accuracy"]["test"]["accuracy"]) < 0.06  # three standard errors of 200 clouds


def test_the_card_of_the_digits_network_tells_the_truth(real_data):
    from pcgen.datamodules import MNIST

    net = extractor(DIGITS)
    batch = MNIST(str(real_data)).take("test", 1000, seed=0)
    wrong = (net.classify(batch.x).argmax(1) != batch.label).double().mean()
    assert wrong < 0.02
    assert net.card["accuracy"]["test"]["accuracy"] > 0.992


def test_the_frechet_distance_orders_halves_noise_and_classes(furniture):
    from pcgen.ops import frechet_distance

    net, x = extractor(CLOUDS), furniture.x[:, :256]

    def moments(clouds):
        h = net.features(clouds).double()
        return h.mean(0), h.T.cov()

    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    one, other = x[furniture.label == 2][order].split(50)  # chairs
    reference = moments(one)
    apart = frechet_distance(*moments(other), *reference)
    noise = torch.randn(other.shape, generator=torch.Generator().manual_seed(1))
    shaken = [frechet_distance(*moments(other + std * noise), *reference) for std in (0.05, 0.1, 0.2)]
    sofas = frechet_distance(*moments(x[furniture.label == 7][:50]), *reference)
    assert apart < shaken[0] < shaken[1] < shaken[2]
    assert apart < 0.2 * sofas


# ── radius and axis ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stated_radius_and_axis_bring_clouds_to_the_networks_own(saved):
    net = extractor(saved[0])  # of radius 1/2, y up
    x = balls()
    own = net(x)
    torch.testing.assert_close(net.features(x), own)
    torch.testing.assert_close(net.features(4 * x, radius=2.0), own)
    for up_axis, turned in ((1, x), (2, x[..., [2, 0, 1]]), (0, x[..., [1, 2, 0]])):
        assert torch.equal(turned[..., up_axis], x[..., 1])
        torch.testing.assert_close(net.features(turned, up_axis=up_axis), own)
    assert not torch.allclose(net.features(x, up_axis=2), own, atol=1e-3)


def test_axes_are_turned_without_a_mirror(saved):
    net = extractor(saved[0])
    for up_axis in (0, 1, 2):
        adapt = net._adapter(balls(), None, up_axis)
        assert torch.det(adapt(torch.eye(3)[None])[0]) == pytest.approx(1.0)


def test_clouds_of_another_size_than_stated_keep_it_and_a_warning_says_so(saved):
    net = extractor(saved[0])
    x = balls()
    with pytest.warns(UserWarning, match=r"reach 5 from the origin and are said to be of radius 0\.5"):
        given = net.features(10 * x)
    torch.testing.assert_close(given, net(10 * x))
    with pytest.warns(UserWarning, match="state their radius"):
        net.features(x, radius=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.features(1.7 * x)  # a box's corners


def test_clouds_of_many_points_are_taken_a_few_at_a_time(saved, monkeypatch):
    net, sizes = extractor(saved[0]), []

    def counted(self, x):
        sizes.append(len(x))
        return x.new_zeros(len(x), self.num_features)

    monkeypatch.setattr(type(net), "__call__", counted)
    for x in torch.rand(70, 8, 3), torch.rand(5, 65_536, 3), torch.rand(2, 200_000, 3):
        net.features(x / 3)
    assert sizes == [64, 6, 2, 2, 1, 1, 1]


def test_progress_is_told(saved):
    told = []
    extractor(saved[0]).features(balls(7), batch_size=3, progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 7), (6, 7), (7, 7)]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"radius": 0.0}, ConfigurationError, "radius is 0.0"),
        ({"radius": float("nan")}, ConfigurationError, "radius is nan"),
        ({"up_axis": 3}, ConfigurationError, "up_axis is 3"),
        ({"batch_size": 0}, ConfigurationError, "batch_size is 0"),
        ({"x": torch.zeros(4, 3)}, DataError, "needs a batch dimension"),
        ({"x": torch.full((2, 9, 3), float("nan"))}, DataError, "hold NaN or infinity"),
    ],
)
def test_what_cannot_be(saved, arguments, error, message):
    with pytest.raises(error, match=message):
        extractor(saved[0]).features(**{"x": balls()} | arguments)


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_weights_are_rounded_once_and_normalisation_is_not(saved):
    path, network = saved
    net, x = extractor(path), balls()
    stored = torch.load(path, weights_only=True)["weights"]
    assert {v.dtype for v in stored.values() if v.ndim > 1} == {torch.float16}
    assert stored["0.points.layers.1.running_var"].dtype == torch.float32
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = module.weight.data.half().float()
    assert torch.equal(net(x), network(x))
    again = path.with_name("again.pt")
    save_extractor(again, net._network[0], net._network[1], net.card)
    assert extractor(again).identity == net.identity


def test_an_identity_is_of_weights_and_recipe_and_not_of_names_of_scores(saved):
    path, network = saved
    stored = torch.load(path, weights_only=True)
    recipe, weights = stored["recipe"], stored["weights"]
    identity = extractor(path).identity
    assert fingerprint(recipe, dict(reversed(weights.items()))) == identity
    other = {k: v.clone() for k, v in weights.items()}
    other["1.bias"][0] = torch.nextafter(other["1.bias"][0], torch.tensor(9.0))
    assert fingerprint(recipe, other) != identity
    assert fingerprint(recipe | {"classes": 4}, weights) != identity
    torch.manual_seed(0)
    renamed = save_extractor(path.with_name("b.pt"), network, extractor(path)._network[1], card(name="other"))
    assert renamed.identity == identity


def test_an_unknown_name_is_told_those_that_there_are():
    with pytest.raises(ConfigurationError, match=f"no extractor 'pointnet'; there is {DIGITS}, {CLOUDS}, or the path"):
        extractor("pointnet")


def change(stored):
    stored["weights"]["1.bias"][0] += 1


def widen(stored):
    stored["recipe"]["network"]["init_args"]["widths"] = [8, 10**9]
    stored["identity"] = fingerprint(stored["recipe"], stored["weights"])


def smuggle(stored):
    stored["recipe"]["network"]["class_path"] = "os.path.Evil"
    stored["identity"] = fingerprint(stored["recipe"], stored["weights"])


def disguise(stored):
    stored["recipe"]["network"] = {"class_path": "pcgen.nets.MLPDecoder", "init_args": {}}
    stored["identity"] = fingerprint(stored["recipe"], stored["weights"])


def blur(stored):
    stored["pcgen_extractor"] = torch.zeros(0)


def age(stored):
    stored["pcgen_extractor"] = 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change, "the weights are not those that were written"),
        (widen, "do not fit the network"),
        (smuggle, "outside pcgen"),
        (disguise, "of a MLPDecoder, not of an encoder"),
        (age, "no extractor of this version"),
        (blur, "no extractor of this version"),
    ],
)
def test_changed_files_are_refused(saved, damage, message):
    path, _ = saved
    stored = torch.load(path, weights_only=True)
    damage(stored)
    torch.save(stored, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        extractor(path)
    assert str(path) in str(caught.value)


def test_damaged_files_are_refused(saved, tmp_path):
    path, _ = saved
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged or of another kind"):
        extractor(path)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:  # between its entries lie bytes that mean nothing
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        middle = content.index(archive.read(largest)) + largest.file_size // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    with pytest.raises(CheckpointError):
        extractor(path)
    torch.save(nn.Linear(2, 2), tmp_path / "pickle.pt")
    with pytest.raises(CheckpointError, match="damaged or of another kind"):
        extractor(tmp_path / "pickle.pt")


def test_what_ships_must_be_what_is_known(monkeypatch):
    monkeypatch.setitem(SHIPPED, DIGITS, "0" * 64)
    with pytest.raises(CheckpointError, match="install pcgen again"):
        extractor(DIGITS)


# ── in a metric ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_metric_that_keeps_one_has_no_state_of_it_and_can_be_copied(saved):
    from pcgen.metrics.features import FeatureExtractor, FrechetDistance

    net = extractor(saved[0])
    assert isinstance(net, FeatureExtractor)
    metric = FrechetDistance(net)
    assert not metric.state_dict()
    assert not list(metric.parameters())
    copied = copy.deepcopy(net)
    assert torch.equal(copied(balls()), net(balls()))
    assert copied.identity == net.identity


def test_importing_is_cheap_and_an_extractor_needs_no_trainer():
    code = "import sys; from pcgen.metrics.extractors import extractor; extractor('cnn-mnist-v1'); print(*sys.modules)"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = set(done.stdout.split())
    assert not loaded & {"pytorch_lightning", "matplotlib", "sklearn", "numba", "h5py"}
