"""The adversarial losses, each against its formula written out in float64, and their penalties against slopes known."""

import math

import pytest
import torch
from torch import nn

from pcgen.errors import ConfigurationError, DataError
from pcgen.losses import HingeLoss, NonSaturatingLoss, WassersteinLoss, pulling_away

LOSSES = {"nonsaturating": NonSaturatingLoss(), "hinge": HingeLoss(), "wasserstein": WassersteinLoss()}


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def scores(n=7, scale=4.0):
    real, fake = scale * torch.randn(2, n, dtype=torch.float64, generator=seeded())
    return real, fake


class Critic(nn.Module):
    """Smooth, so that finite differences of its slopes are good to many digits: (B, 4, 3) -> (B,)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 5, dtype=torch.float64), nn.Linear(5, 1, dtype=torch.float64)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x.flatten(1)))).squeeze(1)


def critic():
    torch.manual_seed(0)
    return Critic()


def clouds(n=6):
    real, fake = torch.randn(2, n, 4, 3, dtype=torch.float64, generator=seeded())
    return real, fake


def slope_norms(score, x, h=1e-6):
    """‖∇D(x)‖ (B,) of data (B, 4, 3), by central differences in each coordinate."""
    steps = h * torch.eye(12, dtype=x.dtype).view(12, 1, 4, 3)
    slopes = [(score(x + step) - score(x - step)) / (2 * h) for step in steps]
    return torch.stack(slopes).norm(dim=0).detach()


# ── the two objectives ────────────────────────────────────────────────────────────────────────────────────────────────


def sigmoid(s):
    return 1 / (1 + math.exp(-s))


# Per score of data, per score of a sample (the discriminator's), per score of a sample (the generator's).
FORMULAS = {
    "nonsaturating": (lambda s: -math.log(sigmoid(s)), lambda s: -math.log(1 - sigmoid(s)),
                      lambda s: -math.log(sigmoid(s))),
    "hinge": (lambda s: max(0.0, 1 - s), lambda s: max(0.0, 1 + s), lambda s: -s),
    "wasserstein": (lambda s: -s, lambda s: s, lambda s: -s),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_both_objectives_are_their_formulas_score_by_score(name):
    real, fake = scores()
    of_real, of_fake, of_generator = FORMULAS[name]
    discriminator = sum(map(of_real, real.tolist())) / 7 + sum(map(of_fake, fake.tolist())) / 7
    assert LOSSES[name].discriminator(real, fake).item() == pytest.approx(discriminator, rel=1e-12)
    generator = sum(map(of_generator, fake.tolist())) / 7
    assert LOSSES[name].generator(fake).item() == pytest.approx(generator, rel=1e-12)


def test_scores_of_any_size_give_finite_losses_and_slopes():
    score = torch.tensor([-1e4, 0.0, 1e4], requires_grad=True)
    for loss in LOSSES.values():
        total = loss.discriminator(score, score) + loss.generator(score)
        (slope,) = torch.autograd.grad(total, score)
        assert torch.isfinite(total)
        assert torch.isfinite(slope).all()


def test_a_generator_that_is_found_out_still_learns():
    """Not the log(1 − σ) of the minimax game, whose slope is 0 at such a score."""
    score = torch.tensor([-50.0], requires_grad=True)
    (slope,) = torch.autograd.grad(NonSaturatingLoss().generator(score), score)
    assert slope.item() == pytest.approx(-1.0)


def test_where_data_begin():
    real, fake = scores()
    assert LOSSES["wasserstein"].threshold(real, fake).item() == pytest.approx(
        (sum(real.tolist()) / 7 + sum(fake.tolist()) / 7) / 2
    )
    assert LOSSES["hinge"].threshold(real, fake) == LOSSES["nonsaturating"].threshold(real, fake) == 0


# ── penalties ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("length", [0.0, 0.4, 1.0, 3.0])
def test_the_gradient_penalty_of_a_linear_critic(length):
    real, fake = clouds()
    w = torch.randn(4, 3, dtype=torch.float64, generator=seeded(4))
    w *= length / w.norm()
    penalty = WassersteinLoss(7.0).penalty(lambda x: (w * x).sum((1, 2)), real, fake)
    assert penalty.item() == pytest.approx(7 * (length - 1) ** 2, abs=1e-12)


def test_r1_of_a_linear_critic():
    real, fake = clouds()
    w = torch.randn(4, 3, dtype=torch.float64, generator=seeded(4))
    penalty = NonSaturatingLoss(r1_weight=7.0).penalty(lambda x: (w * x).sum((1, 2)), real, fake)
    assert penalty.item() == pytest.approx(3.5 * w.square().sum().item())


def test_the_gradient_penalty_is_of_places_between_datum_and_sample_drawn_for_each():
    real, fake = clouds(200)
    seen, score = [], critic()

    def spy(x):
        seen.append(x.detach())
        return score(x)

    penalty = WassersteinLoss(10.0).penalty(spy, real, fake, generator=seeded())
    (between,) = seen
    u = ((between - fake) / (real - fake)).flatten(1)  # (B, 12): the same number in every coordinate of a datum
    torch.testing.assert_close(u, u[:, :1].expand_as(u), rtol=0, atol=1e-6)
    assert u.min() >= -1e-6
    assert u.max() <= 1 + 1e-6
    quarters = torch.histc(u[:, 0].float(), 4, 0, 1)
    assert quarters.min() > 30  # of 200, uniformly
    expected = sum((norm - 1) ** 2 for norm in slope_norms(score, between).tolist()) / 200
    assert penalty.item() == pytest.approx(10 * expected, rel=1e-6)


def test_r1_is_of_data_alone():
    real, fake = clouds()
    score = critic()
    expected = sum(norm**2 for norm in slope_norms(score, real).tolist()) / 6
    penalty = NonSaturatingLoss(r1_weight=3.0).penalty(score, real, fake)
    assert penalty.item() == pytest.approx(1.5 * expected, rel=1e-6)
    assert NonSaturatingLoss(r1_weight=3.0).penalty(score, real, 100 * fake) == penalty


@pytest.mark.parametrize("loss", [WassersteinLoss(), NonSaturatingLoss(r1_weight=2.0)])
def test_a_penaltys_gradient_reaches_the_critics_weights(loss):
    real, fake = clouds()
    score = critic()
    names, weights = zip(*score.named_parameters(), strict=True)

    def penalty(*values):
        def changed(x):
            return torch.func.functional_call(score, dict(zip(names, values, strict=True)), (x,))

        return loss.penalty(changed, real, fake, generator=seeded())

    assert torch.autograd.gradcheck(penalty, tuple(w.detach().requires_grad_() for w in weights))


def test_a_critic_without_slope_is_pushed_without_nan():
    real, fake = clouds()
    w = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    penalty = WassersteinLoss(10.0).penalty(lambda x: (w * x).sum((1, 2)), real, fake)
    penalty.backward()
    assert penalty.item() == 10
    assert torch.isfinite(w.grad).all()


def test_a_penalty_leaves_no_gradient_in_the_data_and_is_there_without_gradients_too():
    real, fake = clouds()
    real.requires_grad_()
    WassersteinLoss().penalty(critic(), real, fake).backward()
    assert real.grad is None
    with torch.no_grad():
        assert WassersteinLoss().penalty(critic(), real, fake) > 0


@pytest.mark.parametrize("loss", [WassersteinLoss(), NonSaturatingLoss(r1_weight=2.0)])
def test_a_penalty_is_computed_in_full_precision_under_autocast(loss):
    real, fake = (x.float() for x in clouds())
    score = critic().float()
    full = loss.penalty(score, real, fake, generator=seeded())
    with torch.autocast("cpu", torch.bfloat16):
        assert loss.penalty(score, real, fake, generator=seeded()) == full


def test_without_a_weight_the_critic_is_not_asked():
    def never(x):
        raise AssertionError

    real, fake = clouds()
    for loss in (WassersteinLoss(0.0), NonSaturatingLoss(), HingeLoss()):
        assert not loss.needs_gradient
        assert loss.penalty(never, real, fake) == 0
    assert WassersteinLoss().needs_gradient
    assert NonSaturatingLoss(0.1).needs_gradient


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_weights_that_mean_nothing_are_refused(weight):
    with pytest.raises(ConfigurationError, match="gradient_penalty is"):
        WassersteinLoss(weight)
    with pytest.raises(ConfigurationError, match="r1_weight is"):
        NonSaturatingLoss(weight)


# ── pulling away ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pulling_away_is_the_mean_squared_cosine_of_all_pairs():
    codes = torch.randn(9, 5, dtype=torch.float64, generator=seeded())
    rows = codes.tolist()
    total = 0.0
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            if i != j:
                dot = sum(p * q for p, q in zip(a, b, strict=True))
                total += dot**2 / (sum(p * p for p in a) * sum(q * q for q in b))
    assert pulling_away(codes).item() == pytest.approx(total / (9 * 8), rel=1e-12)
    torch.testing.assert_close(pulling_away(codes * torch.arange(1, 10)[:, None]), pulling_away(codes))


def test_pulling_away_of_orthogonal_parallel_and_opposite_codes():
    assert pulling_away(torch.eye(4) * 3) == 0
    assert pulling_away(torch.tensor([[1.0, 2.0]]).repeat(5, 1)).item() == pytest.approx(1)
    assert pulling_away(torch.tensor([[1.0, 2.0], [-1.0, -2.0]])).item() == pytest.approx(1)


def test_a_code_of_length_zero_has_no_direction():
    codes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], requires_grad=True)
    value = pulling_away(codes)
    assert value.item() == pytest.approx(2 / 6)  # of six ordered pairs the two without the zero code
    value.backward()
    assert torch.isfinite(codes.grad).all()


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_codes_are_refused(n):
    with pytest.raises(DataError, match=f"a batch of {n} has no pairs"):
        pulling_away(torch.rand(n, 3))
