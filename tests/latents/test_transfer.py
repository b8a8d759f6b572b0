"""Transfer of landmarks with a warp that is known, and of labels with a model whose points are known."""

import pytest
import torch
from torch import nn

from pcgen.base import GenerativeModel, verb
from pcgen.errors import ConfigurationError, DataError, UnsupportedOperationError
from pcgen.latents import label_template, mark_template, place_landmarks, transfer_labels, transfer_landmarks

SHEARS = torch.tensor([-0.3, 0.0, 0.2, 0.25])
CODES = torch.stack([SHEARS, torch.ones(4)], 1)
PLACES = torch.tensor([[0.0, 0.0], [0.3, -0.4], [-0.55, 0.5]])  # between pixels too


class Posed(GenerativeModel):
    """A fixed set of points, enlarged and moved: the code is (scale, middle), read off the cloud's extents."""

    latent_dim = 4
    chunk_size = 3

    def __init__(self, points):
        super().__init__()
        self.points = nn.Parameter(points - (points.amax(0) + points.amin(0)) / 2)
        self.sample_shape = tuple(points.shape)

    @verb
    def encode(self, x):
        high, low = x.amax(1), x.amin(1)
        own = (self.points.amax(0) - self.points.amin(0))[0]
        return torch.cat([((high - low)[:, :1]) / own, (high + low) / 2], 1)

    @verb
    def decode(self, z):
        return z[:, None, :1] * self.points + z[:, None, 1:]


@pytest.fixture
def posed():
    return Posed(torch.rand(40, 3, generator=torch.Generator().manual_seed(0)))


def moved(model, K, seed=1):
    """Clouds of the model's own points in an order of each one's own, and the index of each point."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.cat([0.5 + torch.rand(K, 1, generator=generator), torch.randn(K, 3, generator=generator)], 1)
    order = torch.stack([torch.randperm(model.sample_shape[0], generator=generator) for _ in range(K)])
    return model.decode(codes).gather(1, order[..., None].expand(-1, -1, 3)), order


# ── landmarks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_landmarks_of_the_template_land_where_the_inverse_warp_has_them(sheared):
    """W = (x + s y, y), so p = (u_x − s u_y, u_y)."""
    x = sheared.decode(CODES)
    s = sheared.encode(x)[:, 0, None]  # what the model sees, near to `SHEARS`
    torch.testing.assert_close(s[:, 0], SHEARS, atol=0.01, rtol=0)
    expected = torch.stack([PLACES[:, 0] - s * PLACES[:, 1], PLACES[:, 1].expand(4, -1)], -1)
    torch.testing.assert_close(place_landmarks(sheared, PLACES, x), expected, atol=1e-5, rtol=0)


def test_landmarks_of_one_image_are_found_in_others(sheared):
    """u = (x + s_a y, y), so p = (x + (s_a − s_b) y, y)."""
    x = sheared.decode(CODES)
    s = sheared.encode(x)[:, 0, None]
    expected = torch.stack([PLACES[:, 0] + (s[0] - s) * PLACES[:, 1], PLACES[:, 1].expand(4, -1)], -1)
    found = transfer_landmarks(sheared, x[0], PLACES, x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[0], PLACES, atol=1e-5, rtol=0)
    assert torch.equal(transfer_landmarks(sheared, x[:1], PLACES, x), found)
    assert abs(found[3] - PLACES).max() > 0.2  # and they did move


def test_a_template_that_several_images_mark_has_the_mean_of_their_marks(sheared):
    x = sheared.decode(CODES)
    s = sheared.encode(x)[:, 0, None]
    landmarks = PLACES + 0.1 * torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    u = torch.stack([landmarks[..., 0] + s * landmarks[..., 1], landmarks[..., 1]], -1).mean(0)
    torch.testing.assert_close(mark_template(sheared, x, landmarks), u, atol=1e-5, rtol=0)
    again = transfer_landmarks(sheared, x, landmarks, x)
    torch.testing.assert_close(again, place_landmarks(sheared, u, x), atol=1e-5, rtol=0)


def test_no_images_have_no_landmarks(sheared):
    assert place_landmarks(sheared, PLACES, torch.zeros(0, 1, 41, 41)).shape == (0, 3, 2)


def test_landmarks_that_cannot_be_say_so(sheared, posed, toys):
    x = sheared.decode(CODES)
    with pytest.raises(DataError, match=r"landmarks have shape \(3, 2\) for 4 images"):
        mark_template(sheared, x, PLACES)
    with pytest.raises(DataError, match="at least one image"):
        mark_template(sheared, x[:0], PLACES[None][:0])
    with pytest.raises(DataError, match=r"template_landmarks have shape \(1, 3, 2\)"):
        place_landmarks(sheared, PLACES[None], x)
    with pytest.raises(DataError, match=r"template_landmarks have shape \(0, 2\); give \(L, 2\), at least one"):
        place_landmarks(sheared, PLACES[:0], x)
    with pytest.raises(DataError, match=r"landmarks have shape \(4, 0, 2\).*one landmark"):
        mark_template(sheared, x, torch.zeros(4, 0, 2))
    with pytest.raises(DataError, match=r"images have shape \(1, 41, 41\)"):
        place_landmarks(sheared, PLACES, x[0])
    with pytest.raises(UnsupportedOperationError, match="cannot decompose"):
        place_landmarks(toys["Linear"](4, (1, 4, 4)), PLACES, torch.zeros(2, 1, 4, 4))
    sheared.sample_shape = (5, 3)
    with pytest.raises(ConfigurationError, match="makes clouds"):
        place_landmarks(sheared, PLACES, x)


# ── labels ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_labels_go_with_the_points_that_they_belong_to(posed):
    """Point i of the template is known in every cloud, so its label is, in whatever order the points come."""
    label = torch.randint(5, (40,), generator=torch.Generator().manual_seed(2))
    x, order = moved(posed, 4)
    votes = label_template(posed, x, label[order])
    assert votes.shape == (40, int(label.max()) + 1)
    assert torch.equal(votes.argmax(1), label)
    assert torch.equal(votes.sum(1), torch.full((40,), 4))
    others, theirs = moved(posed, 5, seed=3)
    assert torch.equal(transfer_labels(posed, votes, others), label[theirs])


def test_votes_and_labels_are_those_of_a_search_by_hand(posed):
    generator = torch.Generator().manual_seed(4)
    x, y = torch.rand(5, 30, 3, generator=generator), torch.rand(4, 25, 3, generator=generator)
    labels = torch.randint(3, (5, 30), generator=generator)
    votes = label_template(posed, x, labels, num_labels=6)
    expected = torch.zeros(40, 6, dtype=torch.int64)
    made = posed.reconstruct(x).double()
    for k in range(5):
        for i in range(40):
            expected[i, labels[k, (x[k].double() - made[k, i]).square().sum(-1).argmin()]] += 1
    assert torch.equal(votes, expected)
    found, made = transfer_labels(posed, votes, y), posed.reconstruct(y).double()
    for b in range(4):
        for j in range(25):
            assert found[b, j] == votes[(made[b] - y[b, j].double()).square().sum(-1).argmin()].argmax()


def test_most_votes_win(posed):
    x, _ = moved(posed, 3)
    labels = torch.stack([torch.zeros(40), torch.ones(40), torch.ones(40)]).long()
    assert transfer_labels(posed, label_template(posed, x, labels), x).all()
    assert not transfer_labels(posed, label_template(posed, x[:2], labels[:2]), x).any()  # of equals the first
    assert transfer_labels(posed, label_template(posed, x, labels), x[:0]).shape == (0, 40)


def test_labels_that_cannot_be_say_so(posed, sheared, toys):
    x, order = moved(posed, 2)
    with pytest.raises(DataError, match=r"labels have shape \(2, 3\)"):
        label_template(posed, x, order[:, :3])
    with pytest.raises(DataError, match=r"labels go from 0 to 39; of 5 they are 0 to 4"):
        label_template(posed, x, order, num_labels=5)
    with pytest.raises(DataError, match="labels go from -1"):
        label_template(posed, x, order - 1)
    with pytest.raises(DataError, match=r"votes have shape \(39, 2\).*40 points"):
        transfer_labels(posed, torch.zeros(39, 2), x)
    with pytest.raises(DataError, match=r"clouds have shape \(40, 3\)"):
        transfer_labels(posed, torch.zeros(40, 2), x[0])
    with pytest.raises(UnsupportedOperationError, match="cannot decode"):
        label_template(toys["OnlyEncodes"](), torch.zeros(2, 5, 3), torch.zeros(2, 5, dtype=torch.int64))
    with pytest.raises(ConfigurationError, match="makes images"):
        transfer_labels(sheared, torch.zeros(1, 2), torch.zeros(2, 5, 3))
