"""An order of rows of numbers that nobody's batches show."""

import numpy as np


def canonical_order(rows: np.ndarray) -> np.ndarray:
    """Order rows (n, d) by their bits, so that what is drawn from them by a seed hangs on the set of them alone.

    Processes hand rows over in the order that their sampler dealt them; a subset drawn by position would be another
    with every number of processes.
    """
    rows = np.ascontiguousarray(rows + 0.0)  # −0 as 0
    order: np.ndarray = np.argsort(rows.view(np.dtype((np.void, rows[:1].nbytes)))[:, 0], kind="stable")
    return order
