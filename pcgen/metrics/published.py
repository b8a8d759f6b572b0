"""Published accuracies of linear classifiers on features learnt without labels, to put beside one's own."""

from collections.abc import Iterable
from typing import NamedTuple

MODELNET10 = (
    "bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet",
)  # fmt: skip
LEADERBOARD = "https://modelnet.cs.princeton.edu"
QUOTED = "not checked at its source"


class Published(NamedTuple):
    """An accuracy that somebody published.

    Attributes:
        method: Its name.
        accuracy: Share of the test split.
        year: Of its publication.
        reference: Where the method was published.
        checked: Where the number was found: the ModelNet leaderboard, the authors' code, or `QUOTED`.
        note: What makes it another quantity, if anything.
    """

    method: str
    accuracy: float
    year: int
    reference: str
    checked: str
    note: str = ""


# Accuracies on the test split of ModelNet10. Protocols differ: data that the features were learnt on (ShapeNet's 55
# classes for latent GAN, FoldingNet and PointFlow), points or voxels, and how C was chosen.
ON_MODELNET10 = (
    Published("SPH", 0.798, 2003, "Kazhdan et al., SGP 2003", QUOTED),
    Published("LFD", 0.799, 2003, "Chen et al., Computer Graphics Forum 2003", QUOTED),
    Published("VConv-DAE", 0.805, 2016, "https://arxiv.org/abs/1604.03755", QUOTED),
    Published("3D-GAN", 0.910, 2016, "https://arxiv.org/abs/1610.07584", LEADERBOARD),
    Published("PANORAMA-NN", 0.911, 2017, "Sfikas et al., 3DOR 2017", LEADERBOARD, "supervised"),
    Published("3D-WINN", 0.919, 2019, "Huang et al., AAAI 2019", QUOTED),
    Published("Primitive GAN", 0.922, 2019, "Khan et al., CVPR 2019", LEADERBOARD),
    Published("3D-DescriptorNet", 0.924, 2018, "Xie et al., CVPR 2018", LEADERBOARD),
    Published(
        "Generative PointNet", 0.937, 2021, "https://arxiv.org/abs/2004.01301", "the authors' code", "C chosen on test"
    ),
    Published("PointFlow", 0.937, 2019, "https://arxiv.org/abs/1906.12320", QUOTED),
    Published("FoldingNet", 0.944, 2018, "https://arxiv.org/abs/1712.07262", LEADERBOARD),
    Published("latent GAN", 0.954, 2018, "https://arxiv.org/abs/1707.02392", LEADERBOARD),
)


def published_for(class_names: Iterable[str]) -> tuple[Published, ...]:
    """Give the published accuracies that data of these classes may be compared with; none for any other data."""
    return ON_MODELNET10 if sorted(class_names) == sorted(MODELNET10) else ()
