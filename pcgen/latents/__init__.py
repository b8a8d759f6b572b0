"""What a latent code says: traversals, walks, sums and exchanges, alignment, and data chosen by class or factor.

Functions of a model and tensors. They use the model's verbs alone, so they work for clouds and images, on the model's
device, and in chunks of `model.chunk_size`.
"""

from pcgen.latents.alignment import Alignment, align
from pcgen.latents.codes import draw_codes, latent_arithmetic, live_codes, mean_code, relevance
from pcgen.latents.decomposition import decompose
from pcgen.latents.exchange import exchange
from pcgen.latents.prior import prior_walk, walks_from_prior
from pcgen.latents.selectors import Selector, parse_selector
from pcgen.latents.transfer import label_template, mark_template, place_landmarks, transfer_labels, transfer_landmarks
from pcgen.latents.traversal import Traversal, traverse

__all__ = [
    "Alignment",
    "Selector",
    "Traversal",
    "align",
    "decompose",
    "draw_codes",
    "exchange",
    "label_template",
    "latent_arithmetic",
    "live_codes",
    "mark_template",
    "mean_code",
    "parse_selector",
    "place_landmarks",
    "prior_walk",
    "relevance",
    "transfer_labels",
    "transfer_landmarks",
    "traverse",
    "walks_from_prior",
]
