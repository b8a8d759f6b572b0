"""Shares of right labels against scikit-learn, and the labels of the nearest cloud against a search by hand."""

import math

import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from pcgen.errors import DataError
from pcgen.metrics.transfer import label_scores, labels_of_nearest_clouds


def test_shares_of_right_labels_are_accuracy_and_recall():
    generator = torch.Generator().manual_seed(0)
    true, found = torch.randint(4, (7, 30), generator=generator), torch.randint(5, (7, 30), generator=generator)
    true[true == 2] = 3
    scores = label_scores(found, true, 5)
    flat = true.flatten().numpy(), found.flatten().numpy()
    assert scores.accuracy == pytest.approx(accuracy_score(*flat))
    recall = recall_score(*flat, labels=[0, 1, 3], average=None)
    torch.testing.assert_close(scores.each[[0, 1, 3]], torch.from_numpy(recall))
    assert scores.each[[2, 4]].isnan().all()
    assert scores.mean == pytest.approx(recall.mean())
    everywhere = label_scores(torch.zeros_like(true), true, 5)
    assert everywhere.mean == pytest.approx(balanced_accuracy_score(flat[0], 0 * flat[0])) == pytest.approx(1 / 3)


def test_labels_come_from_the_cloud_of_the_smallest_chamfer_distance():
    generator = torch.Generator().manual_seed(1)
    references = torch.randn(3, 20, 3, generator=generator)
    labels = torch.randint(9, (3, 20), generator=generator)
    x = references[[2, 0, 1, 2]][:, torch.randperm(20, generator=generator)[:15]] + 0.05
    found, pairs = labels_of_nearest_clouds(x, references, labels, progress=(done := []).append), 12
    assert sum(done) == pairs
    for b in range(4):
        squared = [torch.cdist(x[b].double(), r.double()).square() for r in references]
        closest = min(range(3), key=lambda k: squared[k].amin(0).mean() + squared[k].amin(1).mean())
        assert closest == (2, 0, 1, 2)[b]
        assert torch.equal(found[b], labels[closest][squared[closest].argmin(1)])


def test_labels_of_other_shapes_are_refused():
    with pytest.raises(DataError, match="one for each point"):
        label_scores(torch.zeros(3), torch.zeros(4), 2)
    with pytest.raises(DataError, match="one for each point"):
        label_scores(torch.zeros(0), torch.zeros(0), 2)
    with pytest.raises(DataError, match=r"give \(K, M\)"):
        labels_of_nearest_clouds(torch.zeros(2, 5, 3), torch.zeros(3, 5, 3), torch.zeros(3, 4))
    assert math.isnan(label_scores(torch.tensor([0]), torch.tensor([0]), 2).each[1].item())
