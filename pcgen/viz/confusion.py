"""Which class is taken for which: counts in, image (H, W, 3) out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pcgen.errors import DataError
from pcgen.viz.layout import Image
from pcgen.viz.plots import figure_and_axes, pixels


def draw_confusion(counts: ArrayLike, class_names: Sequence[str] = (), *, title: str = "") -> Image:
    """Draw a confusion matrix: a row for each true class, a column for each that it was taken for.

    The colour is the share of the row, the number the count; what is zero is left empty.

    Args:
        counts: (K, K) of integers, row i column j: data of class i taken for class j.
        class_names: Names of the classes; their numbers without.
        title: Words above.

    Returns:
        (H, W, 3).

    Raises:
        DataError: If the counts are not square, or one is negative or not finite.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not table.size:
        raise DataError(f"counts have shape {table.shape}; a confusion matrix is (K, K)")
    if not (np.isfinite(table) & (table >= 0)).all():
        raise DataError("counts of a confusion matrix are finite and not negative")
    K = len(table)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    figure, axes = figure_and_axes(width=2.6 + 0.5 * K, height=2.2 + 0.42 * K)
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1.15)  # the root shows a few among hundreds
    for i, j in np.argwhere(table > 0):
        ink = "white" if share[i, j] > 0.4 else "#1f2933"
        axes.text(j, i, f"{table[i, j]:g}", ha="center", va="center", color=ink, fontsize="small")
    names = [class_names[k] if k < len(class_names) else str(k) for k in range(K)]
    axes.set_xticks(range(K), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(K), names)
    axes.set(title=title, xlabel="taken for", ylabel="is")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return pixels(figure)
