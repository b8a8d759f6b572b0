"""What deforming autoencoders share: a decoder that paints a template and deforms it, the objective and `decompose`."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pcgen.base import Decomposition, OptimizerFactory, SchedulerFactory, verb
from pcgen.errors import ConfigurationError
from pcgen.losses import BernoulliReconstruction, ChamferReconstruction, Reconstruction, SquaredErrorReconstruction
from pcgen.metrics import MeanOverData
from pcgen.models._autoencoding import DeterministicCode
from pcgen.models._prior import check_codes
from pcgen.models._whole_batch import batch_mean
from pcgen.nets import Decoder, Deformation, Encoder, Template
from pcgen.nets.templates import Price


class DeformingDecoder(Decoder):
    """Codes to a template, and to a deformation of it.

    Args:
        template: Codes to templates.
        deformation: Codes and templates to data.
        class_dim: Length of a further code "class", which every decoder sees after its own; 0 for none.

    Attributes:
        parts: Columns of a code by name: "shape", what the template has, and "class" where there is one.
    """

    def __init__(self, template: Template, deformation: Deformation, class_dim: int = 0) -> None:
        super().__init__()
        deformation.check(template.sample_shape)
        self.template, self.deformation, self.class_dim = template, deformation, class_dim
        self.sample_shape = template.sample_shape
        self.parts: dict[str, slice] = {}
        self.latent_dim = 0
        for name, seen in {"shape": deformation.latent_dim, **template.inputs}.items():
            self._add(name, seen - class_dim)
        if class_dim:
            self._add("class", class_dim)

    def forward(self, z: Tensor) -> Tensor:
        """Give data (B, …) of codes (B, Z)."""
        return self.made(z)[0].x

    def made(self, z: Tensor) -> tuple[Decomposition, Callable[[], Price]]:
        """Give everything that codes (B, Z) stand for, and what computes its price."""
        painted = self.template({name: self._seen(z, name) for name in self.template.inputs}, len(z))
        deformed = self.deformation(self._seen(z, "shape"), painted.template)

        def price() -> Price:
            one, other = deformed.price(), painted.price()
            return Price(one.costs | other.costs, one.centers | other.centers)

        return Decomposition(deformed.x, painted.template, deformed.deformation, painted.layers), price

    @property
    def centers(self) -> dict[str, int]:
        """Lengths of the vectors whose mean over the data shall be 0, by name."""
        return {"bias": self.deformation.center_size(self.sample_shape), **self.template.centers}

    def _add(self, name: str, length: int) -> None:
        if length < 0 or (name == "shape" and length == 0):
            raise ConfigurationError(
                f"the decoder of {name} sees codes of length {length + self.class_dim}, of which {self.class_dim} are "
                f"the class's: give it a latent_dim above {self.class_dim}"
            )
        self.parts[name] = slice(self.latent_dim, self.latent_dim + length)
        self.latent_dim += length

    def _seen(self, z: Tensor, name: str) -> Tensor:
        own = z[:, self.parts[name]]
        return torch.cat([own, z[:, self.parts["class"]]], 1) if self.class_dim else own


class Deforming(DeterministicCode):
    """An autoencoder whose decoder paints a template and deforms it.

    Args:
        encoder: Data (B, …) to features.
        decoder: Codes to data.
        reconstruction: Distance between data and reconstructions; the squared error for images and the Chamfer sum for
            clouds if None.
        optimizer: Makes the optimizer from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimizer.
        more_terms: Names of the terms that a subclass adds to those of the decoder.
    """

    decoder: DeformingDecoder

    def __init__(
        self,
        encoder: Encoder,
        decoder: DeformingDecoder,
        reconstruction: Reconstruction | None,
        optimizer: OptimizerFactory,
        lr_scheduler: SchedulerFactory | None,
        more_terms: Sequence[str] = (),
    ) -> None:
        images = len(decoder.sample_shape) == 3
        if images and (
            isinstance(reconstruction, BernoulliReconstruction) or getattr(reconstruction, "sigmoid", False)
        ):
            raise ConfigurationError(
                f"{type(reconstruction).__name__} takes logits, and templates are no logits: take "
                "SquaredErrorReconstruction or AbsoluteErrorReconstruction with sigmoid false"
            )
        default = SquaredErrorReconstruction() if images else ChamferReconstruction()
        self.TERMS = ("loss", "reconstruction", *decoder.deformation.terms, *decoder.template.terms, *more_terms)
        super().__init__(encoder, decoder, reconstruction or default, optimizer, lr_scheduler)
        self.bottleneck = self.head()
        self.latent_parts = dict(decoder.parts)
        self.mean_centers = MeanOverData(sum(decoder.centers.values()))

    # ── objective ─────────────────────────────────────────────────────────────────────────────────────────────────

    def terms(self, x: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:  # noqa: ARG002 -- base's
        """Compute the objective for data (B, …).

        Args:
            x: Data.
            generator: Unused: nothing is drawn.

        Returns:
            Scalars: `loss`, the sum of all others; `reconstruction` d(x, x̂); `smoothness` and `bias` of the
            deformation, and what the template costs, weighted. Besides the codes (B, Z) as `codes`, and the vector of
            each cost that is one of a mean over the batch, as `mean/bias`.
        """
        z = self.code(x)
        made, price = self.decoder.made(z)
        reconstruction, paid = self.reconstruction(made.x, x).mean(), price()
        centers = {name: batch_mean(self, center) for name, center in paid.centers.items()}
        penalties = Price(paid.costs, centers).penalties()
        loss = torch.stack([reconstruction, *penalties.values()]).sum()
        means = {f"mean/{name}": center for name, center in centers.items()}
        return {"loss": loss, "reconstruction": reconstruction, **penalties, "codes": z, **means}

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────

    def gather(self, terms: dict[str, Tensor], size: int) -> None:
        """Add a batch's terms, and the vectors whose mean over all data shall be 0."""
        super().gather(terms, size)
        self.mean_centers.update(torch.cat([terms[f"mean/{name}"] for name in self.decoder.centers]), size)

    def means(self) -> dict[str, Tensor]:
        """Give the terms' means, those of centers over all data, whatever the batches and processes were."""
        means, sizes = super().means(), self.decoder.centers
        vectors = self.mean_centers.compute().split(list(sizes.values()))
        self.mean_centers.reset()
        for name, vector in zip(sizes, vectors, strict=True):
            exact = vector.square().sum()
            means["loss"] = means["loss"] - means[name] + exact
            means[name] = exact
        return means

    # ── sampling ──────────────────────────────────────────────────────────────────────────────────────────────────

    @verb
    def decompose(self, z: Tensor) -> Decomposition:
        """Give the appearance, the deformation and the data that codes (B, Z) stand for.

        Raises:
            DataError: If the codes are not of the model's Z.
        """
        check_codes(z, self.decoder.latent_dim)
        parts = [self.decoder.made(part)[0] for part in z.split(self.chunk_size)]
        x = torch.cat([part.x for part in parts])
        template, deformation = (torch.cat([getattr(p, name) for p in parts]) for name in ("template", "deformation"))
        layers = {name: torch.cat([part.layers[name] for part in parts]) for name in parts[0].layers}
        return Decomposition(self.reconstruction.data(x), template, deformation, layers)
