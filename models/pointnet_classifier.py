"""PointNet as a classifier of clouds.

Reference: C. R. Qi, H. Su, K. Mo, L. J. Guibas, "PointNet: Deep Learning on Point Sets for 3D Classification and
Segmentation", CVPR 2017, https://arxiv.org/abs/1612.00593.

Where it differs, and why:

- No feature transform (a learned 64 × 64 matrix): the paper's own gain from it is under a point, and its penalty is one
  more constant to tune. The input transform is there on demand: `encoder.init_args.input_transform`, and is smaller.
- The augmentations of the paper, any turn about the up axis and jitter, belong to the datamodule.
"""

import torch

from pcgen.base import OptimizerFactory, SchedulerFactory
from pcgen.models._classifier import Classifier
from pcgen.nets import Encoder, PointNetEncoder

WIDTHS, HEAD_WIDTHS = (64, 64, 64, 128, 1024), (512, 256)


class PointNetClassifier(Classifier):
    """PointNet classifier of clouds of any number of points, in any order.

    Args:
        encoder: Clouds (B, N, 3) to features; PointNet's own by default: a layer of 64, 64, 64, 128 and 1024 for every
            point, the maximum over the points, layers of 512 and 256.
        num_classes: K; ModelNet10 has 10.
        dropout: Share of the features before the classes that are left out at random in training.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer, stepped once an epoch.
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        num_classes: int = 10,
        dropout: float = 0.3,
        optimizer: OptimizerFactory = torch.optim.Adam,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        encoder = encoder or PointNetEncoder(WIDTHS, HEAD_WIDTHS)
        super().__init__(encoder, num_classes, dropout, optimizer, lr_scheduler)
