"""Selectors against masks in NumPy."""

import numpy as np
import pytest
import torch

from pcgen.base import Batch
from pcgen.errors import ConfigurationError, DataError
from pcgen.latents import parse_selector

CLASSES = ("chair", "night stand", "lamp")
FACTORS = ("leg_height", "has_arm", "tilt")
RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 2, size=60)  # no lamp
VALUES = np.stack([RNG.uniform(size=60), RNG.uniform(size=60) < 0.1, np.full(60, 0.5)], axis=1).astype(np.float32)
BATCH = Batch(torch.zeros(60, 4, 3), torch.from_numpy(LABEL), torch.from_numpy(VALUES))
leg, arm = VALUES[:, 0], VALUES[:, 1]
chair_leg = np.where(LABEL == 0, leg, np.nan)


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("chair", LABEL == 0),
        ("night stand", LABEL == 1),
        (" chair ", LABEL == 0),
        ("leg_height>0.5", leg > 0.5),
        ("leg_height >= 0.5", leg >= 0.5),
        ("leg_height<5e-1", leg < 0.5),
        (f"leg_height<={leg[7]:.9g}", leg <= leg[7]),
        (f"leg_height={leg[7]:.9g}", np.arange(60) == 7),
        ("leg_height>-1", leg > -1),
        ("has_arm=1", arm == 1),
        ("has_arm == 1", arm == 1),
        ("leg_height:high", leg >= np.quantile(leg, 0.75)),
        ("leg_height:low", leg <= np.quantile(leg, 0.25)),
        ("has_arm:high", arm == 1),  # a tenth: both quartiles are 0
        ("has_arm:low", arm == 0),
        ("chair & leg_height>0.5", (LABEL == 0) & (leg > 0.5)),
        ("chair&leg_height:high", chair_leg >= np.nanquantile(chair_leg, 0.75)),
        ("leg_height>0.2 & leg_height<0.4", (leg > 0.2) & (leg < 0.4)),
    ],
)
def test_what_is_chosen(text, mask):
    rows = parse_selector(text, CLASSES, FACTORS).rows(BATCH)
    assert rows.dtype == torch.int64
    assert rows.tolist() == np.flatnonzero(mask).tolist()
    assert len(rows)


def test_a_class_may_be_called_like_a_condition():
    odd = ("a & b", "x>1", "plain")
    label = torch.tensor([0, 1, 2])
    for k, name in enumerate(odd):
        assert parse_selector(name, odd, ()).rows(Batch(torch.zeros(3, 4, 3), label)).tolist() == [k]


def test_unknown_values_are_never_chosen():
    values = torch.from_numpy(VALUES.copy())
    values[::2, 0] = torch.nan
    known = values[1::2, 0].numpy()
    batch = BATCH._replace(factors=values)
    high = parse_selector("leg_height:high", CLASSES, FACTORS).rows(batch)
    assert high.tolist() == (1 + 2 * np.flatnonzero(known >= np.quantile(known, 0.75))).tolist()
    assert (parse_selector("leg_height>=-9", CLASSES, FACTORS).rows(batch) % 2 == 1).all()
    with pytest.raises(DataError, match="none there has a known leg_height"):
        parse_selector("leg_height:low", CLASSES, FACTORS).rows(BATCH._replace(factors=values * torch.nan))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("char", r"selector 'char': there is no such class; classes are chair, night stand, lamp, factors leg_height"),
        ("", "no such class"),
        ("chair &", "no such class"),
        ("height>1", "no factor 'height'; factors are leg_height, has_arm, tilt"),
        ("height:high", "no factor 'height'"),
        ("leg_height", r"is a factor: compare it \(leg_height>0.5\) or take leg_height:high"),
        ("leg_height>tall", "'tall' is no number"),
        ("leg_height>", "'' is no number"),
        ("leg_height=>1", "no factor 'leg_height='"),
        ("leg_height:middle", "leg_height:high and leg_height:low, not 'middle'"),
        ("chair & tilt:", "selector 'tilt:': a factor has the quarters tilt:high and tilt:low, not ''"),
        ("seat:middle", "no such class"),
    ],
)
def test_a_mistake_names_what_there_is(text, says):
    with pytest.raises(ConfigurationError, match=says):
        parse_selector(text, CLASSES, FACTORS)


def test_without_names_there_are_none():
    with pytest.raises(ConfigurationError, match="selector 'chair': these data have neither classes nor factors"):
        parse_selector("chair", (), ())
    with pytest.raises(ConfigurationError, match="classes are none, factors tilt"):
        parse_selector("chair", (), ("tilt",))


def test_messages_name_what_the_selector_was_given_to():
    with pytest.raises(ConfigurationError, match=r"^--plus 'char': there is no such class"):
        parse_selector("char", CLASSES, FACTORS, what="--plus")
    with pytest.raises(DataError, match=r"^--minus 'leg_height>7' matches none"):
        parse_selector("leg_height>7", CLASSES, FACTORS, what="--minus").rows(BATCH)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lamp", r"'lamp' matches none of the 60 of split 'val': the classes there are chair, night stand"),
        ("leg_height>7", r"matches none of the 60 of split 'val': leg_height there goes from 0\.0\d+ to 0\.9\d+"),
        ("tilt:high", "tilt there goes from 0.5 to 0.5"),  # a constant factor has no upper quarter
        ("chair & leg_height>7", "matches none"),
    ],
)
def test_nothing_chosen_is_one_clear_error(text, says):
    with pytest.raises(DataError, match=says):
        parse_selector(text, CLASSES, FACTORS).rows(BATCH, source="split 'val'")


def test_data_without_labels_or_factors_are_told_so():
    with pytest.raises(DataError, match="have no labels"):
        parse_selector("chair", CLASSES, FACTORS).rows(BATCH._replace(label=None))
    with pytest.raises(DataError, match="have no factors"):
        parse_selector("tilt>0", CLASSES, FACTORS).rows(BATCH._replace(factors=None))
    with pytest.raises(DataError, match="none of the 0 of these data: there are none"):
        parse_selector("chair", CLASSES, FACTORS).rows(Batch(torch.zeros(0, 4, 3), torch.zeros(0, dtype=torch.int64)))
