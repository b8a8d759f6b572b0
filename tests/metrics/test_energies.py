"""Energies of sets against those of the data: counted one by one, in closed form, and against their definitions."""

import math

import numpy as np
import pytest
import torch

from pcgen.errors import DataError
from pcgen.metrics import energies_of
from pcgen.metrics.energies import auroc_notes, margin_of, summary_rows
from pcgen.metrics.functional import summarize_energies

RNG = np.random.default_rng(0)


def counted(data, foreign):
    """AUROC, average precision and false alarms by their definitions, thresholds one after the other."""
    pairs = [(f > d) + 0.5 * (f == d) for f in foreign for d in data]
    precision = recall_before = alarms = 0.0
    for threshold in sorted({*data, *foreign}, reverse=True):
        caught = sum(f >= threshold for f in foreign)
        false = sum(d >= threshold for d in data)
        recall = caught / len(foreign)
        precision += (recall - recall_before) * caught / (caught + false)
        if recall_before < 0.95 <= recall:
            alarms = false / len(data)
        recall_before = recall
    return sum(pairs) / len(pairs), precision, alarms


@pytest.mark.parametrize("digits", [8, 1, 0], ids=["distinct", "some ties", "many ties"])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.5, 9.0])
def test_telling_apart_is_what_its_definitions_say(digits, shift):
    data, foreign = RNG.normal(size=80).round(digits), RNG.normal(shift, 1.3, size=37).round(digits)
    found = summarize_energies({"data": data, "other": foreign})["other"]
    assert found[-3:] == pytest.approx(counted(data, foreign), abs=1e-12)


def test_the_area_is_the_closed_form_of_two_normal_distributions():
    data, foreign = RNG.normal(0, 1, size=4000), RNG.normal(1.0, 2.0, size=4000)
    expected = 0.5 * (1 + math.erf(1 / math.sqrt(5) / math.sqrt(2)))  # Φ(Δ / √(σ₁² + σ₂²))
    assert summarize_energies({"a": data, "b": foreign})["b"].auroc == pytest.approx(expected, abs=0.02)


def test_high_energies_are_told_apart_too():
    """In float32, through a sigmoid, all of these would be 1."""
    data, foreign = torch.arange(100.0, 200.0), torch.arange(200.0, 300.0)
    found = summarize_energies({"data": data, "same": data, "foreign": foreign})
    assert found["foreign"][-3:] == (1.0, 1.0, 0.0)
    assert found["same"].auroc == 0.5
    assert found["same"].fpr_at_95_tpr == 0.95


def test_moments_are_those_of_the_set():
    x = RNG.lognormal(size=51)
    n, mean, std, *quartiles = summarize_energies({"data": x})["data"][:6]
    ordered = sorted(x)
    assert (n, mean) == (51, pytest.approx(sum(x) / 51))
    assert std == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in x) / 51))
    assert quartiles == pytest.approx([(ordered[12] + ordered[13]) / 2, ordered[25], (ordered[37] + ordered[38]) / 2])


def test_the_order_of_the_sets_is_kept_and_the_first_is_compared_with_nothing():
    found = summarize_energies({"val": [1.0], "train": [2.0], "lamp": [0.0]})
    assert list(found) == ["val", "train", "lamp"]
    assert found["val"][-3:] == (None, None, None)
    assert auroc_notes(found) == {"train": "AUROC 1.000", "lamp": "AUROC 0.000"}
    heads, rows = summary_rows(found)
    assert heads[:3] == ["set", "n", "mean"]
    assert rows[1] == ["train", 1, 2.0, 0.0, 2.0, 2.0, 2.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ({}, "no energies"),
        ({"data": [1.0], "b": []}, r"energies of b have shape \(0,\)"),
        ({"data": [[1.0]]}, r"shape \(1, 1\)"),
        ({"data": [1.0, math.nan, math.inf]}, "2 of 3 energies of data are NaN or infinite"),
    ],
)
def test_what_cannot_be_compared_is_refused(sets, says):
    with pytest.raises(DataError, match=says):
        summarize_energies(sets)


class Norm:
    chunk_size = 4

    def __init__(self):
        self.sizes = []

    def energy(self, x):
        self.sizes.append(len(x))
        return x.square().flatten(1).sum(1)


def test_energies_are_measured_in_chunks_and_counted():
    x, model, told = torch.randn(10, 5, 3), Norm(), []
    found = energies_of(model, x, progress=lambda done, total: told.append((done, total)))
    torch.testing.assert_close(found, x.square().sum((1, 2)).double())
    assert model.sizes == [4, 4, 2]
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_a_margin_is_known_once_it_is_a_number():
    model = Norm()
    assert margin_of(model) is None
    for value, expected in ((torch.tensor(math.nan), None), (torch.tensor(2.5), 2.5), (0.5, 0.5)):
        model.margin = value
        assert margin_of(model) == expected
