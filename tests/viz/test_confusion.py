import numpy as np
import pytest

from pcgen.errors import DataError
from pcgen.viz import draw_confusion


def blue(image):
    """How many pixels are clearly blue."""
    r, _, b = (image[..., k].astype(int) for k in range(3))
    return int(((b - r) > 60).sum())


def test_a_perfect_matrix_has_a_dark_diagonal_and_nothing_else():
    perfect = draw_confusion(np.diag([5, 5, 5, 5]), ["a", "b", "c", "d"], title="all right")
    assert perfect.ndim == 3
    assert perfect.dtype == np.uint8
    spread = draw_confusion(np.full((4, 4), 5), ["a", "b", "c", "d"], title="all right")
    assert perfect.shape == spread.shape
    assert 3 < blue(spread) / blue(perfect) < 5  # sixteen cells and four
    assert (draw_confusion(np.diag([5, 5, 5, 5]).T) == draw_confusion(np.diag([5, 5, 5, 5]))).all()


def test_rows_are_what_is_true_and_an_empty_row_is_drawn():
    one = draw_confusion([[0, 9], [0, 0]])
    other = draw_confusion([[0, 0], [9, 0]])
    assert blue(one) > 100
    assert (one != other).any()


@pytest.mark.parametrize("counts", [np.zeros((2, 3)), np.zeros(4), np.zeros((0, 0)), [[1, -1], [0, 1]], [[np.nan]]])
def test_what_is_no_confusion_matrix_is_refused(counts):
    with pytest.raises(DataError, match="confusion matrix"):
        draw_confusion(counts)
