"""Figures: arrays in, images (H, W, 3) out.

>>> import numpy as np
>>> image = draw_clouds(np.random.default_rng(0).normal(size=(2, 500, 3)), titles=["one", "another"])
>>> image.dtype, image.shape[2]
(dtype('uint8'), 3)
"""

from pcgen.viz.alignment import draw_alignment
from pcgen.viz.animation import save_gif
from pcgen.viz.chains import chain_frames, draw_chains
from pcgen.viz.confusion import draw_confusion
from pcgen.viz.deformations import draw_correspondence, draw_decompositions, draw_swaps
from pcgen.viz.embedding import principal_components, tsne
from pcgen.viz.energies import draw_energies
from pcgen.viz.figures import draw_clouds, draw_images, draw_interpolations, draw_pairs, draw_rows, draw_samples
from pcgen.viz.histogram import draw_latent_histogram
from pcgen.viz.latents import draw_arithmetic, draw_traversal, traversal_frames
from pcgen.viz.layout import Image, below, beside, save_png
from pcgen.viz.plots import draw_bars, draw_curves, draw_embedding
from pcgen.viz.robustness import draw_robustness
from pcgen.viz.transfer import draw_labelled_clouds, draw_marks

__all__ = [
    "Image",
    "below",
    "beside",
    "chain_frames",
    "draw_alignment",
    "draw_arithmetic",
    "draw_bars",
    "draw_chains",
    "draw_clouds",
    "draw_confusion",
    "draw_correspondence",
    "draw_curves",
    "draw_decompositions",
    "draw_embedding",
    "draw_energies",
    "draw_images",
    "draw_interpolations",
    "draw_labelled_clouds",
    "draw_latent_histogram",
    "draw_marks",
    "draw_pairs",
    "draw_robustness",
    "draw_rows",
    "draw_samples",
    "draw_swaps",
    "draw_traversal",
    "principal_components",
    "save_gif",
    "save_png",
    "traversal_frames",
    "tsne",
]
