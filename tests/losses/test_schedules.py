import functools
import math
from itertools import pairwise

import pytest
import torch

from pcgen.errors import ConfigurationError
from pcgen.losses import Capacity, ConstantBeta, CosineBeta, CyclicalBeta, LinearBeta
from pcgen.recipe import build, describe

EVERY = [
    ConstantBeta(2.0),
    LinearBeta(4.0, 1.0, 100, 20),
    LinearBeta(0.0, 1.0, 100),
    CosineBeta(1.0, 8.0, 77, 7),
    CyclicalBeta(0.1, 2.0, 30, 0.3, 3),
    Capacity(1.0, 25.0, 1000.0, 60, 10),
]
every = pytest.mark.parametrize("schedule", EVERY, ids=lambda s: type(s).__name__)


@pytest.mark.parametrize("kind", [LinearBeta, CosineBeta])
@pytest.mark.parametrize(("initial", "final"), [(4.0, 1.0), (0.0, 3.0)])
def test_a_way_begins_and_ends_where_it_says_and_never_turns_back(kind, initial, final):
    schedule = kind(initial, final, end_step=150, begin_step=50)
    values = [schedule.value(step) for step in range(200)]
    assert values[:51] == [initial] * 51
    assert values[150:] == [final] * 50
    moves = [(b - a) * (final - initial) for a, b in pairwise(values)]
    assert min(moves) >= 0
    assert values[100] == pytest.approx((initial + final) / 2)


def test_the_cosine_is_slow_at_both_ends():
    schedule = CosineBeta(0.0, 1.0, end_step=1000)
    for step in (1, 250, 500, 900):
        assert schedule.value(step) == pytest.approx((1 - math.cos(math.pi * step / 1000)) / 2)


def test_cycles_repeat_until_the_last():
    schedule = CyclicalBeta(0.0, 1.0, period=40, ramp=0.25, cycles=3)
    first = [schedule.value(step) for step in range(40)]
    assert first[:11] == pytest.approx([k / 10 for k in range(11)])
    assert first[10:] == [1.0] * 30
    assert [schedule.value(step) for step in range(80, 120)] == first
    assert schedule.value(120) == schedule.value(125) == 1.0
    assert CyclicalBeta(0.0, 1.0, period=40).value(4000) == 0.0  # without an end they go on


def test_the_capacity_charges_for_too_many_nats_and_for_too_few():
    schedule = Capacity(0.0, 10.0, gamma=3.0, end_step=100)
    kl = torch.tensor([4.0, 5.0, 7.0], requires_grad=True)
    penalty = schedule.penalty(kl, 50)
    torch.testing.assert_close(penalty, torch.tensor([3.0, 0.0, 6.0]))
    penalty.sum().backward()
    assert kl.grad.tolist() == [-3.0, 0.0, 3.0]


@every
def test_a_penalty_of_a_weight_is_the_weight_times_the_kl(schedule):
    if schedule.quantity == "beta":
        for step in (0, 15, 30, 1000):
            assert schedule.penalty(torch.tensor(2.0), step).item() == pytest.approx(2 * schedule.value(step))


@every
def test_a_schedule_is_a_function_of_the_step_alone_and_survives_being_written_down(schedule):
    forward = [schedule.value(step) for step in range(130)]
    again = build(describe(schedule))
    assert [again.value(step) for step in reversed(range(130))] == forward[::-1]
    assert all(isinstance(value, float) for value in forward)


REFUSED = [
    (functools.partial(ConstantBeta, -1.0), r"beta is -1\.0"),
    (functools.partial(ConstantBeta, math.nan), "beta is nan"),
    (functools.partial(LinearBeta, final=-0.1), r"final is -0\.1"),
    (functools.partial(LinearBeta, end_step=10, begin_step=20), "begins at step 20 and ends at step 10"),
    (functools.partial(CosineBeta, begin_step=-1), "begins at step -1"),
    (functools.partial(CyclicalBeta, period=0), "period is 0"),
    (functools.partial(CyclicalBeta, cycles=0), "cycles is 0"),
    (functools.partial(CyclicalBeta, ramp=0.0), r"ramp is 0\.0"),
    (functools.partial(Capacity, gamma=-2), "gamma is -2"),
    (functools.partial(Capacity, end_step=5, begin_step=6), "begins at step 6 and ends at step 5"),
]


@pytest.mark.parametrize(("make", "said"), REFUSED)
def test_schedules_that_make_no_sense_are_refused(make, said):
    with pytest.raises(ConfigurationError, match=said):
        make()


def test_a_schedule_of_no_steps_is_a_jump():
    schedule = LinearBeta(4.0, 1.0, end_step=10, begin_step=10)
    assert [schedule.value(step) for step in (9, 10, 11)] == [4.0, 1.0, 1.0]
