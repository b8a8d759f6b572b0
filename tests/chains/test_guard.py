"""The guard: what it complains of, what it keeps, what it brings back, and what a checkpoint holds of it."""

import math

import pytest
import torch
from torch import nn

from pcgen.chains import DivergenceGuard, Fault
from pcgen.errors import ConfigurationError


def learner(seed=0):
    torch.manual_seed(seed)
    net = nn.Linear(3, 2)
    return net, torch.optim.Adam(net.parameters(), lr=0.1)


def step(net, optimizer):
    optimizer.zero_grad()
    net(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()


def weights(net):
    return [p.detach().clone() for p in net.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def watched(steps, **arguments):
    """A net that has taken steps 0 to `steps` under a guard, and its weights before each."""
    net, optimizer = learner()
    guard, were = DivergenceGuard(**arguments), []
    for k in range(steps + 1):
        guard.watch(net, optimizer, k)
        were.append(weights(net))
        step(net, optimizer)
    return guard, net, optimizer, were


# ── complaints ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_papers_rule():
    guard, scores = DivergenceGuard(), torch.zeros(2)
    signs = torch.tensor([1.0, -1.0]).repeat(2, 30, 3, 1).flatten(2)[:, :, :3]
    unit = (signs - signs.mean()) / signs.std()
    limit = 0.3**2 + 0.1
    assert guard.complaint(unit * (limit * 0.99) ** 0.5, scores, 0.3) is None
    assert guard.complaint(unit * (limit * 1.01) ** 0.5, scores, 0.3) == "the chains' variance is 0.1919, above 0.19"
    own = DivergenceGuard(max_variance=0.5)
    assert own.complaint(unit * 0.7, scores, 0.3) is None
    assert "above 0.5" in own.complaint(unit * 0.72, scores, 0.3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite(bad):
    guard, x, scores = DivergenceGuard(), torch.zeros(2, 4, 3), torch.zeros(2)
    assert guard.complaint(x, scores, 0.3) is None
    x[0, 0, 0] = bad
    assert "not finite" in guard.complaint(x, scores, 0.3)
    assert "not finite" in guard.complaint(torch.zeros(2, 4, 3), torch.tensor([0.0, bad]), 0.3)


def test_nothing_to_complain_of_in_nothing():
    assert DivergenceGuard().complaint(torch.zeros(0, 4, 3), torch.zeros(0), 0.3) is None


# ── good states ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_last_state_comes_back_and_then_the_one_before_it():
    guard, net, optimizer, were = watched(11, keep_every=4)  # kept at 0, 4 and 8, of which two stay
    assert guard.restore(net, optimizer, 12) == 8
    assert same(weights(net), were[8])
    guard.watch(net, optimizer, 12)  # it is not kept at once, or this state would come back for ever
    step(net, optimizer)
    assert guard.restore(net, optimizer, 13) == 4
    assert same(weights(net), were[4])
    assert guard.restore(net, optimizer, 14) == 4  # the oldest stays
    assert same(weights(net), were[4])
    for k in range(14, 19):
        guard.watch(net, optimizer, k)
        step(net, optimizer)
    assert guard.restore(net, optimizer, 19) == 18  # four steps after it was brought back


def test_steps_after_a_restored_state_are_those_that_followed_it_before():
    """Momentum and weights both are of that state."""
    guard, net, optimizer, were = watched(8, keep_every=5)
    guard.restore(net, optimizer, 9)
    for k in range(5, 9):
        assert same(weights(net), were[k])
        step(net, optimizer)


def test_learning_rates_stay_and_gradients_go():
    guard, net, optimizer, _ = watched(6, keep_every=3)
    optimizer.param_groups[0]["lr"] = 0.02
    step(net, optimizer)
    assert net.weight.grad is not None
    guard.restore(net, optimizer, 7)
    assert optimizer.param_groups[0]["lr"] == 0.02
    assert net.weight.grad is None
    assert optimizer.param_groups[0]["params"][0] is net.weight


def test_what_is_kept_does_not_change_with_the_weights():
    net, optimizer = learner()
    guard = DivergenceGuard()
    before = weights(net)
    guard.watch(net, optimizer, 0)
    for _ in range(2):  # nor by what happens after it came back
        step(net, optimizer)
        guard.restore(net, optimizer, 1)
        assert same(weights(net), before)
        assert optimizer.state_dict()["state"] == {}


def test_history_and_a_new_training():
    guard, net, optimizer, _ = watched(2)
    assert guard.can_restore
    guard.note(Fault(1, "unlucky", 2, -1))
    guard.note(Fault(2, "bad", 10, 0))
    assert guard.rollbacks == 1
    guard.begin_anew()
    assert guard.history == []
    assert guard.rollbacks == 0
    assert not guard.can_restore
    guard.watch(net, optimizer, 0)
    assert guard.can_restore


# ── the checkpoint ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_state_is_plain_and_comes_back(tmp_path):
    guard, net, optimizer, were = watched(9, keep_every=4)
    guard.note(Fault(9, "the chains' variance is 1, above 0.19", 10, 8))
    guard.pending = "the gradient is not finite"
    torch.save(guard.state_dict(), tmp_path / "guard.pt")
    other = DivergenceGuard(keep_every=4)
    other.load_state_dict(torch.load(tmp_path / "guard.pt", weights_only=True))
    assert other.history == guard.history
    assert isinstance(other.history[0], Fault)
    assert other.pending == guard.pending
    other.watch(net, optimizer, 11)  # it is not yet time
    assert other.restore(net, optimizer, 11) == 8
    assert other.restore(net, optimizer, 11) == 4
    assert same(weights(net), were[4])


@pytest.mark.parametrize("wrong", [{"max_variance": 0.0}, {"resamples": -1}, {"keep_every": 0}, {"max_rollbacks": -1}])
def test_arguments_out_of_their_range(wrong):
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} is "):
        DivergenceGuard(**wrong)
