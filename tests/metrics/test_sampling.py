"""The same samples for any number of processes."""

import pytest
import torch

from pcgen.errors import ConfigurationError
from pcgen.metrics import draw, draw_chunks


class Noise:
    def __init__(self):
        self.sizes = []

    def sample(self, n, *, generator=None):
        self.sizes.append(n)
        return torch.randn(n, 5, 3, generator=generator)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 30])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_ranks_in_order_give_what_one_process_gives(n, world_size):
    whole = draw(Noise(), n, seed=4, chunk=8)
    parts = [list(draw_chunks(Noise(), n, 4, chunk=8, rank=r, world_size=world_size)) for r in range(world_size)]
    assert whole.shape == (n, 5, 3)
    assert torch.equal(whole, torch.cat([chunk for part in parts for chunk in part]))


def test_chunks_differ_and_the_global_generator_is_left_alone():
    model = Noise()
    state = torch.get_rng_state()
    x = draw(model, 20, seed=0, chunk=8)
    assert model.sizes == [8, 8, 4]
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(x[:8], x[8:16])
    assert torch.equal(x, draw(model, 20, seed=0, chunk=8))
    assert not torch.equal(x, draw(model, 20, seed=1, chunk=8))


def test_progress():
    seen = []
    draw(Noise(), 20, chunk=8, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(8, 20), (16, 20), (20, 20)]


@pytest.mark.parametrize(("n", "seed", "chunk"), [(-1, 0, 8), (1, -1, 8), (1, 0, 0)])
def test_bad_arguments(n, seed, chunk):
    with pytest.raises(ConfigurationError, match=f"n {n}, seed {seed}, chunk {chunk}"):
        draw(Noise(), n, seed, chunk=chunk)
