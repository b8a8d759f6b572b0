"""Where chains begin, and how kept ones go on."""

import pytest
import torch

from pcgen.chains import DataStart, NoiseStart, PersistentStart
from pcgen.errors import ConfigurationError, DataError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def persistent(**arguments):
    start = PersistentStart(**arguments)
    start.prepare((2, 3))
    return start


def filled(num_chains, **arguments):
    """Every kept chain has its own number in all places, from 1 on."""
    start = persistent(num_chains=num_chains, **arguments)
    start.chains.copy_(torch.arange(1.0, num_chains + 1)[:, None, None].expand(-1, 2, 3))
    start.filled.fill_(value=True)
    return start


def test_noise_and_data():
    x, noise = torch.rand(4, 2, 3), torch.randn(4, 2, 3)
    assert torch.equal(NoiseStart().begin(x, noise), noise)
    begin = DataStart().begin(x, noise)
    assert torch.equal(begin, x)
    assert begin.data_ptr() != x.data_ptr()
    for start in (NoiseStart(), DataStart()):
        start.prepare((2, 3))
        start.keep(x)
        assert start.state_dict() == {}


def test_empty_places_begin_in_noise_and_go_on_where_they_ended():
    start = persistent(num_chains=4, restart_rate=0.0)
    noise = torch.randn(4, 2, 3, generator=seeded())
    assert torch.equal(start.begin(noise, noise, generator=seeded(1)), noise)
    start.keep(noise + 1)
    assert start.filled.all()
    again = start.begin(noise, torch.full_like(noise, 9.0), generator=seeded(2))
    assert sorted(again[:, 0, 0].tolist()) == sorted((noise + 1)[:, 0, 0].tolist())


def test_ends_are_put_where_the_beginnings_were_taken():
    start = filled(9, restart_rate=0.0)
    x = torch.zeros(4, 2, 3)
    begin = start.begin(x, x, generator=seeded(3))
    numbers = begin[:, 0, 0].long().tolist()
    assert len(set(numbers)) == 4  # without repeats
    start.keep(begin + 100)
    expected = [100.0 + k if k in numbers else float(k) for k in range(1, 10)]
    assert start.chains[:, 0, 0].tolist() == expected
    start.keep(begin + 500)  # nobody has begun meanwhile
    assert start.chains[:, 0, 0].tolist() == expected


def test_chains_that_were_run_again_are_kept_in_the_last_beginnings_places():
    start = filled(9, restart_rate=0.0)
    x = torch.zeros(4, 2, 3)
    start.begin(x, x, generator=seeded(3))
    last = start.begin(x, x, generator=seeded(4))
    start.keep(last + 100)
    assert sorted(start.chains[start.chains[:, 0, 0] > 50][:, 0, 0].tolist()) == sorted((last + 100)[:, 0, 0].tolist())


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3, 1.0])
def test_restart_rate_is_the_share_that_begins_in_noise(rate):
    start, rng, n = filled(100, restart_rate=rate), seeded(4), 4000
    noise = torch.full((100, 2, 3), -1.0)
    anew = sum(int((start.begin(noise, noise, generator=rng)[:, 0, 0] < 0).sum()) for _ in range(n // 100))
    assert abs(anew / n - rate) <= 4 * (rate * (1 - rate) / n) ** 0.5


def test_every_kept_chain_is_taken_as_often_as_any():
    start, rng, x = filled(10, restart_rate=0.0), seeded(5), torch.zeros(3, 2, 3)
    taken = torch.cat([start.begin(x, x, generator=rng)[:, 0, 0] for _ in range(1000)]).long()
    counts = torch.bincount(taken)[1:].double()  # 300 each; a count's deviation is √(1000 · .3 · .7) = 14.5
    assert ((counts - 300).abs() < 4.5 * 14.5).all()


def test_draws_have_no_repeats_while_chains_last():
    start = filled(5)
    assert sorted(start.draw(5, generator=seeded())[:, 0, 0].tolist()) == [1, 2, 3, 4, 5]
    twice = start.draw(12, generator=seeded())[:, 0, 0]
    assert all(sorted(twice[k : k + 5].tolist()) == [1, 2, 3, 4, 5] for k in (0, 5))
    assert start.draw(0).shape == (0, 2, 3)
    start.filled[1:] = False
    assert start.draw(3)[:, 0, 0].tolist() == [1, 1, 1]
    assert torch.equal(start.draw(3, generator=seeded(1)), start.draw(3, generator=seeded(1)))
    assert persistent().draw(3).shape == (0, 2, 3)


def test_ends_are_in_the_state_and_come_back():
    start = persistent(num_chains=6)
    x = torch.randn(4, 2, 3, generator=seeded(6))
    start.begin(x, x, generator=seeded(7))
    start.keep(x.requires_grad_() * 2)
    assert not start.chains.requires_grad
    assert set(start.state_dict()) == {"chains", "filled"}
    assert int(start.filled.sum()) == 4
    other = persistent(num_chains=6)
    other.load_state_dict(start.state_dict())
    beginnings = [s.begin(x, -x, generator=seeded(8)) for s in (start, other)]
    assert torch.equal(*beginnings)
    assert "chains" in dict(start.named_buffers())


def test_errors():
    with pytest.raises(DataError, match="num_chains is 3 and a batch has 4 data: keep at least 4 chains"):
        persistent(num_chains=3).begin(torch.zeros(4, 2, 3), torch.zeros(4, 2, 3))
    with pytest.raises(ConfigurationError, match="num_chains is 0"):
        PersistentStart(0)
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigurationError, match="restart_rate is"):
            PersistentStart(restart_rate=rate)
