"""Scores of generated images against a reference, by a named extractor's features."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pcgen.errors import ConfigurationError, DataError
from pcgen.metrics.kernel_distance import kernel_distance
from pcgen.metrics.moments import FeatureMoments
from pcgen.metrics.protocol import Protocol
from pcgen.metrics.scores import Scores
from pcgen.metrics.store import Store, Tensors, fingerprint

if TYPE_CHECKING:
    from pcgen.metrics.extractors import Extractor

IMAGE_EXTRACTOR = "cnn-mnist-v1"
LEAST = 2  # images that have a covariance
Progress = Callable[[float, float], None]


class ImageEvaluator:
    """Scores any number of sets of images against one reference: Fréchet and kernel distance of their features.

    Memory beside the reference: the features, 512 B an image for 128 of them, and a batch of the network. Generated
    images may therefore come in parts and be forgotten.

    Args:
        reference: Images (R, C, H, W) in [0, 1], on the device where the work is to be done.
        extractor: Name, file or object of the network.
        seed: For the protocol: of the samples and of the oracle's subset.
        store: Keeps the features of whole sets between runs; None for no such.

    Raises:
        DataError: If the reference is not such images, or not of the size that the extractor takes.
        ConfigurationError: If there is no such extractor, or it is one of clouds.
    """

    def __init__(
        self,
        reference: Tensor,
        *,
        extractor: "str | Path | Extractor" = IMAGE_EXTRACTOR,
        seed: int = 0,
        store: Store | None = None,
    ) -> None:
        from pcgen.metrics import extractors

        found = extractors.extractor(extractor) if isinstance(extractor, str | Path) else extractor
        self.extractor, self.seed, self.store = found, seed, store
        self.reference = reference
        self._digest = ""
        self.features = self.features_of(reference, whose="reference")

    @property
    def identity(self) -> str:
        """What a protocol says of the extractor: its name and the beginning of its hash."""
        return f"{self.extractor.name}:{self.extractor.identity[:12]}"

    def features_of(self, images: Tensor, *, whose: str = "generated", progress: Progress | None = None) -> Tensor:
        """Give the features (K, F) of images (K, C, H, W), from the store if they are there.

        Args:
            images: In [0, 1].
            whose: For the message if they are not.
            progress: Told how many are done and of how many.

        Raises:
            DataError: If they are no images in [0, 1], or not of the size that the extractor takes.
        """
        self._check(images, whose)
        digest = fingerprint(images)
        if whose == "reference":
            self._digest = digest
        key = {"features": self.extractor.identity, "device": images.device.type, "images": digest}
        shape = (len(images), self.extractor.num_features)

        def right(tensors: Tensors) -> bool:
            return "x" in tensors and tensors["x"].shape == shape

        kept = self.store.get(key, right) if self.store is not None else None
        if kept is not None:
            return kept["x"]
        features = self.extractor.features(images, progress=_counted(progress)).cpu()
        if self.store is not None:
            self.store.put(key, {"x": features})
        return features

    def features_of_parts(self, parts: Iterable[Tensor], n: int, *, progress: Progress | None = None) -> Tensor:
        """Give the features (n, F) of images that come in parts (b, C, H, W) and are forgotten.

        Raises:
            DataError: As `features_of`.
        """
        found, done = [torch.empty(0, self.extractor.num_features)], 0
        for part in parts:
            self._check(part, "generated")
            found.append(self.extractor.features(part.to(self.reference.device)).cpu())
            done += len(part)
            if progress is not None:
                progress(done, n)
        return torch.cat(found)

    def result(self, features: Tensor, *, oracle: Tensor | None = None, **known: Any) -> Scores:
        """Score one set beside the oracle's, with the protocol.

        Args:
            features: Of the generated images (S, F).
            oracle: Features of training images, as many.
            **known: Fields of the protocol that only the caller knows: data, split, chunk.

        Raises:
            DataError: If there are fewer than two images on a side.
        """
        values, remarks = self.score(features)
        beside = {} if oracle is None else self.score(oracle)[0]
        return Scores(values, self.protocol(len(features), **known), oracle=beside, remarks=remarks)

    def score(self, features: Tensor) -> tuple[dict[str, float], tuple[str, ...]]:
        """Give `fid` and `kid` of a set's features (S, F), and what a reader has to know of them.

        `kid` is the unbiased estimate from all images and may be negative.
        """
        name, fewest = self.extractor.name, min(len(features), len(self.features))
        if fewest < LEAST:
            raise DataError(f"FID and KID by {name} want at least {LEAST} images on either side; there is {fewest}")
        sides = [FeatureMoments.of(x, extractor=self.extractor.identity) for x in (features, self.features)]
        values = {
            "fid": sides[0].frechet_distance(sides[1]).item(),
            "kid": kernel_distance(features, self.features, subsets=0).value.item(),
        }
        if fewest > self.extractor.num_features:
            return values, ()
        ranks = " and ".join(f"rank {side.rank} of {side.count} images" for side in sides)
        remark = (
            f"FID from no more images than the {self.extractor.num_features} features ({ranks}): the covariance is "
            "singular and the distance biased upwards; compare it with FID of as many images alone"
        )
        return values, (remark,)

    def protocol(self, generated: int, **others: Any) -> Protocol:
        """Say how the scores of so many images are measured; `others` are the fields that only the caller knows."""
        return Protocol(
            num_reference=len(self.reference),
            num_generated=generated,
            num_points=None,
            num_generated_points=None,
            normalization={},
            distances={},
            seed=self.seed,
            extractor=self.identity,
            level=None,
            draws=0,
            reference=self._digest[:12],
            image_shape=list(self.reference.shape[1:]),
            **others,
        )

    def _check(self, images: Tensor, whose: str) -> None:
        if images.ndim != 4 or not images.numel():
            raise DataError(f"the {whose} images have shape {tuple(images.shape)}; give (K, C, H, W), at least one")
        check_size(self.extractor, tuple(images.shape[1:]), whose)
        low, high = images.min().item(), images.max().item()
        if not (low >= 0 and high <= 1):  # NaN too
            raise DataError(f"the {whose} images hold numbers from {low:.4g} to {high:.4g}; images are in [0, 1]")


def check_size(extractor: "Extractor", shape: tuple[int, ...], whose: str) -> None:
    """Refuse images of a shape (C, H, W) that an extractor does not take.

    Raises:
        DataError: If it takes others.
        ConfigurationError: If it takes none.
    """
    trained = extractor.card["input"]
    if trained["kind"] != "images":
        raise ConfigurationError(f"extractor {extractor.name} takes {trained['kind']}; name one of images")
    if shape != (wanted := tuple(trained["shape"])):
        raise DataError(
            f"the {whose} images are {shape} and extractor {extractor.name} takes {wanted}: name an extractor of such "
            "images (pcgen export writes one)"
        )


def evaluate_images(
    generated: Tensor,
    reference: Tensor,
    *,
    oracle: Tensor | None = None,
    extractor: "str | Path | Extractor" = IMAGE_EXTRACTOR,
    data: str = "",
    split: str = "",
    chunk: int | None = None,
    seed: int = 0,
    store: Store | None = None,
) -> Scores:
    """Score generated images against a reference: FID and KID of a named extractor's features.

    Args:
        generated: (S, C, H, W) in [0, 1].
        reference: (R, C, H, W) in [0, 1].
        oracle: Random training images, as many as generated; their scores stand beside the model's.
        extractor: Name, file or object of the network.
        data: Name of the reference, for the protocol.
        split: Its split, for the protocol.
        chunk: Samples drawn at once, for the protocol; None if they came from a file.
        seed: For the protocol: of the samples.
        store: Keeps features between runs; None for no such.

    Returns:
        The scores with their protocol.

    Raises:
        DataError: If a set is no images in [0, 1] of the size that the extractor takes, or has fewer than two.
        ConfigurationError: If there is no such extractor.

    >>> reference = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    >>> scores = evaluate_images(reference.flip(0), reference)
    >>> abs(round(scores.values["fid"], 6)), scores.protocol.image_shape
    (0.0, [1, 28, 28])
    """
    evaluator = ImageEvaluator(reference, extractor=extractor, seed=seed, store=store)
    beside = None if oracle is None else evaluator.features_of(oracle, whose="oracle")
    features = evaluator.features_of(generated)
    return evaluator.result(features, oracle=beside, data=data, split=split, chunk=chunk)


def _counted(progress: Progress | None) -> Callable[[float, float | None], None] | None:
    return None if progress is None else lambda done, total: progress(done, total or done)
