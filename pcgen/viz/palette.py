"""Colours that everybody can tell apart."""

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito, "Color Universal Design" (2008), without black and with the yellow darkened to show on white.
CLASS_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#B8A600", "#6B6B6B")
CLASS_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")  # one for each round through the colours


def class_style(label: int) -> tuple[str, str]:
    """Give the colour and the marker of a class: 64 classes before they repeat."""
    round_, color = divmod(label, len(CLASS_COLORS))
    return CLASS_COLORS[color], CLASS_MARKERS[round_ % len(CLASS_MARKERS)]


def colorize(values: NDArray[np.floating], colormap: str = "viridis") -> NDArray[np.float64]:
    """Turn values (…) into RGB (…, 3) in [0, 1], from the least to the greatest."""
    import matplotlib as mpl

    lo, hi = values.min(), values.max()
    scaled = (values - lo) / (hi - lo) if hi > lo else np.full_like(values, 0.5)
    rgba: NDArray[np.float64] = mpl.colormaps[colormap](scaled)
    return rgba[..., :3]
