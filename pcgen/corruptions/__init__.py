"""What data go through before a model that learns to undo it sees them: noise, outliers, parts cut away.

Each is a module with plain arguments, so that a config can name it:

    corruption:
      class_path: pcgen.corruptions.Compose
      init_args:
        corruptions:
          - class_path: pcgen.corruptions.CutBall
            init_args: {share: 0.2, max_share: 0.4}
          - class_path: pcgen.corruptions.GaussianNoise
            init_args: {std: 0.02}
"""

from pcgen.corruptions.base import Compose, Corruption, GaussianNoise
from pcgen.corruptions.clouds import CutBall, CutHalfSpace, DropPoints, OutlierPoints
from pcgen.corruptions.images import EraseRectangle, SaltAndPepper

__all__ = [
    "Compose",
    "Corruption",
    "CutBall",
    "CutHalfSpace",
    "DropPoints",
    "EraseRectangle",
    "GaussianNoise",
    "OutlierPoints",
    "SaltAndPepper",
]
