"""Chains as a grid and as a film: what stands where, by the colours of flat images."""

import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.viz import chain_frames, draw_chains
from pcgen.viz.chains import HELD, evenly
from pcgen.viz.latents import MARK

RNG = np.random.default_rng(0)
# State f of chain k is flat with brightness (1 + 5 f + k) / 60; ten states of three chains.
FLAT = np.broadcast_to((1 + 5 * np.arange(10)[:, None] + np.arange(3)).reshape(10, 3, 1, 1, 1) / 60, (10, 3, 1, 96, 96))


def found(image, f, k):
    """Middle (row, column) of the pixels of one state, None where it is not shown."""
    places = np.argwhere((image == int((1 + 5 * f + k) / 60 * 255 + 0.5)).all(axis=-1))
    return np.median(places, axis=0) if len(places) >= 96 * 96 else None


@pytest.mark.parametrize(
    ("total", "wanted", "expected"),
    [(10, 4, [0, 3, 6, 9]), (8, 3, [0, 4, 7]), (4, 9, [0, 1, 2, 3]), (33, 2, [0, 32])],
)
def test_states_are_chosen_evenly_with_both_ends(total, wanted, expected):
    assert evenly(total, wanted).tolist() == expected


def test_a_row_for_each_sample_a_column_for_each_state():
    image = draw_chains(FLAT, columns=4)
    places = np.array([[found(image, f, k) for f in (0, 3, 6, 9)] for k in range(3)])
    assert (np.diff(places[..., 1], axis=1) > 96).all()
    assert (np.ptp(places[..., 1], axis=0) == 0).all()
    assert (np.diff(places[..., 0], axis=0) > 96).all()
    assert (np.ptp(places[..., 0], axis=1) == 0).all()
    assert all(found(image, f, k) is None for f in (1, 2, 4, 5, 7, 8) for k in range(3))


def test_columns_say_how_much_of_the_chain_is_done(monkeypatch):
    from pcgen.viz import chains

    told, arrange = [], chains.arrange
    monkeypatch.setattr(chains, "arrange", lambda cells, **how: told.append(how) or arrange(cells, **how))
    draw_chains(FLAT, columns=4, labels=["a", "b", "c"], heading="heading")
    [how] = told
    assert how["titles"] == [["noise", "33 %", "67 %", "sample"], [], []]
    assert (how["labels"], how["heading"]) == (["a", "b", "c"], "heading")


def test_the_film_shows_every_state_of_all_chains_and_stays_at_the_samples():
    frames = chain_frames(FLAT)
    assert len(frames) == 10 + HELD
    assert len({frame.shape for frame in frames}) == 1
    assert all(np.array_equal(frame, frames[9]) for frame in frames[9:])
    filled = []
    for f, frame in enumerate(frames[:10]):
        places = np.array([found(frame, f, k) for k in range(3)])
        assert (np.diff(places[:, 1]) > 96).all()
        filled.append(np.flatnonzero((frame == MARK).all(-1).any(0)))
    assert len(filled[0]) == 0
    widths = [len(columns) for columns in filled]
    assert np.allclose(np.diff(widths), widths[-1] / 9, atol=1)


def test_many_chains_are_laid_out_in_rows():
    few, many = (chain_frames(RNG.random((2, n, 1, 96, 96)), hold=0)[0] for n in (4, 12))
    assert few.shape[1] > 4 * 96 > few.shape[0]
    assert many.shape[0] > 3 * 96 - 1


def test_a_cell_is_framed_by_its_sample_and_not_by_scattered_noise():
    sample = RNG.uniform(-1, 1, (300, 3))
    chain = np.stack([sample, sample])[:, None]
    noise = chain.copy()
    noise[0, 0, :5] = 1000 * RNG.normal(size=(5, 3))
    for draw in (lambda x: draw_chains(x)[:, -146:], lambda x: chain_frames(x, hold=0)[-1]):
        assert np.array_equal(draw(chain)[30:], draw(noise)[30:])
    wide = np.stack([1.3 * sample, sample])[:, None]  # what lies near is shown whole
    assert not np.array_equal(draw_chains(chain)[30:, -140:], draw_chains(wide)[30:, -140:])


def test_a_sample_that_fell_into_one_point_is_drawn():
    states = np.concatenate([RNG.normal(size=(1, 2, 30, 3)), np.zeros((1, 2, 30, 3))])
    assert draw_chains(states).dtype == np.uint8


@pytest.mark.parametrize("draw", [draw_chains, chain_frames])
@pytest.mark.parametrize(
    ("states", "says"),
    [
        (np.zeros((1, 2, 30, 3)), "at least two"),
        (np.zeros((4, 30, 3)), r"shape \(4, 30, 3\)"),
        (np.full((2, 1, 30, 3), np.nan), "NaN"),
    ],
)
def test_what_is_no_chain_is_refused(draw, states, says):
    with pytest.raises(DataError, match=says):
        draw(states)


def test_a_grid_has_both_ends():
    with pytest.raises(DataError, match="columns is 1"):
        draw_chains(FLAT, columns=1)
