"""Class-aware deforming autoencoder: shape and appearance within each class.

Reference: Z. Shu et al., "Deforming Autoencoders: Unsupervised Disentangling of Shape and Appearance", ECCV 2018,
https://arxiv.org/abs/1806.06503, section 3.3.

    (z_shape, z_appearance, z_class) = E(x),  x̂ = D_T(z_appearance, z_class) ∘ D_W(z_shape, z_class)
    L = L_deforming + w · CE(C(z_class), label)

Without classes a short appearance code has to say which template and how it looks at once, and things of two classes
that can be warped into each other share one. Labels are needed for the training alone: at use the encoder says the
class.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from pcgen.base import Batch, OptimizerFactory, SchedulerFactory, in_chunks, verb
from pcgen.errors import ConfigurationError
from pcgen.losses import Reconstruction
from pcgen.models._deforming import Deforming, DeformingDecoder
from pcgen.models._labels import check_classes, labels_of
from pcgen.nets import Deformation, Encoder, Template
from pcgen.nets.base import check_weight


class ClassAwareDeformingAutoencoder(Deforming):
    """Deforming autoencoder with a third code, from which a classifier tells the class and which all decoders see.

    Args:
        encoder: Data (B, …) to features. The layer from there to the code belongs to the model.
        template: The appearance. The `latent_dim` of its decoders counts its own code and the class's after it.
        deformation: The shape. The `latent_dim` of its decoder counts its own code and the class's after it.
        num_classes: K.
        class_dim: Length of the class's code.
        class_weight: Of the cross-entropy, beside a reconstruction that is a sum over pixels or points.
        reconstruction: Distance between data and reconstructions; the squared error for images and the Chamfer sum for
            clouds by default.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer, stepped once an epoch.
    """

    def __init__(
        self,
        encoder: Encoder,
        template: Template,
        deformation: Deformation,
        num_classes: int = 10,
        class_dim: int = 10,
        class_weight: float = 10.0,
        reconstruction: Reconstruction | None = None,
        optimizer: OptimizerFactory = torch.optim.Adam,
        lr_scheduler: SchedulerFactory | None = None,
    ) -> None:
        if num_classes < 2:
            raise ConfigurationError(f"num_classes is {num_classes}; a classifier chooses among at least 2")
        if class_dim < 1:
            raise ConfigurationError(f"class_dim is {class_dim}; a class needs a code of at least 1 number")
        decoder = DeformingDecoder(template, deformation, class_dim)
        super().__init__(encoder, decoder, reconstruction, optimizer, lr_scheduler, ("cross_entropy", "accuracy"))
        self.num_classes, self.class_weight = num_classes, check_weight(class_weight=class_weight)
        self.classifier = nn.Linear(class_dim, num_classes)
        self.counts = MulticlassConfusionMatrix(num_classes, validate_args=False)

    # ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────

    def logits(self, z: Tensor) -> Tensor:
        """Give log p(class | z) + constant (B, K) of codes (B, Z)."""
        logits: Tensor = self.classifier(z[:, self.latent_parts["class"]])
        return logits

    def batch_terms(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Add the weighted `cross_entropy` to the objective, and give the share of classes that is told right.

        Besides the class that is guessed (B,) as `guess`, and the `label` (B,).

        Raises:
            DataError: If the data have no labels, or one beyond the model's classes.
        """
        label = labels_of(batch, self, self.num_classes)
        terms = self.terms(batch.x, generator=generator)
        logits = self.logits(terms["codes"])
        cross_entropy = self.class_weight * F.cross_entropy(logits, label)
        accuracy = (logits.argmax(1) == label).float().mean()
        return terms | {
            "loss": terms["loss"] + cross_entropy,
            "cross_entropy": cross_entropy,
            "accuracy": accuracy,
            "guess": logits.argmax(1),
            "label": label,
        }

    # ── verbs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @verb
    def classify(self, x: Tensor) -> Tensor:
        """Give the probabilities (B, K) of the classes for data (B, …)."""
        return in_chunks(lambda part: self.logits(self.code(part)).softmax(1), x, self.chunk_size)

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────

    def setup(self, stage: str) -> None:
        """See that the data have the classes that the model tells apart."""
        super().setup(stage)
        check_classes(self, self.num_classes)

    def gather(self, terms: dict[str, Tensor], size: int) -> None:
        """Add a batch's terms, and count what is taken for what."""
        super().gather(terms, size)
        self.counts.update(terms["guess"], terms["label"])

    def means(self) -> dict[str, Tensor]:
        """Give the terms' means; keep the confusion matrix."""
        self.confusion = self.counts.compute()
        self.counts.reset()
        return super().means()
