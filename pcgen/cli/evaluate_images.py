"""`pcgen evaluate` of images: FID and KID by a network's features, beside the training images'."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgen.cli import common, results
from pcgen.cli.evaluate import CHUNK, show
from pcgen.cli.sets import Sets, choose_oracle, number, subset
from pcgen.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from pcgen.base import GenerativeModel
    from pcgen.metrics.image_evaluator import ImageEvaluator
    from pcgen.metrics.store import Store

DRAWN = 8


def score_images(model: "GenerativeModel | None", arguments: argparse.Namespace, store: "Store | None") -> int:
    """Gather the images, score them, print the table and write the files."""
    from pcgen.metrics.extractors import extractor
    from pcgen.metrics.image_evaluator import IMAGE_EXTRACTOR, ImageEvaluator, check_size

    if arguments.extractor == "none":
        raise ConfigurationError("--extractor none: images are compared by a network's features alone; name one")
    if arguments.n == 1:
        raise ConfigurationError("-n 1: FID and KID want at least 2 images on either side")
    network = extractor(IMAGE_EXTRACTOR if arguments.extractor == "auto" else arguments.extractor)
    if model is not None:
        check_size(network, tuple(model.sample_shape), "model's")
    sets = _of_files(arguments) if model is None else _of_model(model, arguments)
    check_size(network, tuple(sets.reference.shape[1:]), "reference")
    n = len(sets.reference) if arguments.unequal else number(sets, arguments.n)
    reference = subset(sets.reference, n, arguments.seed).to(common.device(arguments.device))
    evaluator = ImageEvaluator(reference, extractor=network, seed=arguments.seed, store=store)
    if sets.generated is not None:
        generated = sets.generated if arguments.unequal else subset(sets.generated, n, arguments.seed)
        source = _Source(iter(generated.split(CHUNK)), len(generated))
    else:
        assert model is not None
        source = _Source(_drawn(model, arguments.n or n, arguments.seed), arguments.n or n)
    oracle = choose_oracle(sets, source.n, arguments)
    with common.progress("scoring" if model is None else "sampling", source.n) as advance:
        features = evaluator.features_of_parts(source, source.n, progress=advance)
    beside = None
    if oracle is not None:
        with common.progress("oracle", len(oracle)) as advance:
            beside = evaluator.features_of(oracle.to(reference), whose="oracle", progress=advance)
    chunk = None if model is None else CHUNK
    show(evaluator.result(features, oracle=beside, chunk=chunk, **sets.known), arguments, sets.known["data"])
    if arguments.png is not None:
        results.write_picture(arguments, _picture(evaluator, source.first, features))
    return 0


class _Source:
    """Images that come in parts; the first are remembered, to be drawn."""

    def __init__(self, parts: "Iterator[Tensor]", n: int) -> None:
        self.parts, self.n = parts, n
        self.first: Any = None

    def __iter__(self) -> "Iterator[Tensor]":
        for part in self.parts:
            if self.first is None:
                self.first = part[:DRAWN].cpu()
            yield part


def _drawn(model: "GenerativeModel", n: int, seed: int) -> "Iterator[Tensor]":
    from pcgen.metrics import draw_chunks

    return (part.float().clamp(0, 1) for part in draw_chunks(model, n, seed, chunk=CHUNK))


def _of_model(model: "GenerativeModel", arguments: argparse.Namespace) -> Sets:
    """The reference as the model knows its data, and the training split of the same source for the oracle."""
    from pcgen.cli.modeldata import model_data, train_split
    from pcgen.metrics import data_name

    data = model_data(model, arguments)
    name = data_name(data.source, model.data_info or {}) if arguments.data is None else Path(data.source).name
    train = None if arguments.no_oracle else train_split(model, arguments, data.split)
    known = {"data": name, "split": data.split or ""}
    return Sets(None, data.x, None if train is None else train.x, known, noun="image")


def _of_files(arguments: argparse.Namespace) -> Sets:
    """Two files; the oracle comes from the reference's training split, if it has one."""
    import torch

    from pcgen.cli.images import read_images

    if arguments.data is None:
        raise ConfigurationError(f"{arguments.generated} is a file of images: name the --reference to compare it with")
    if arguments.unequal and arguments.n is not None:
        raise ConfigurationError("-n and --unequal contradict each other for files of images; give one of them")
    generated = read_images(Path(arguments.generated))
    whole = read_images(Path(arguments.data), generated.images.shape[1:])
    classes = None if arguments.classes is None else common.split_list(arguments.classes)
    split = arguments.split or ("test" if whole.split is not None and "test" in whole.split else None)
    reference, train = whole.select(split=split, classes=classes), None
    if split not in {None, "train"} and not arguments.no_oracle and whole.split is not None and "train" in whole.split:
        train = torch.from_numpy(whole.select(split="train", classes=classes).images)
    known = {"data": Path(arguments.data).name, "split": split or ""}
    return Sets(torch.from_numpy(generated.images), torch.from_numpy(reference.images), train, known, noun="image")


def _picture(evaluator: "ImageEvaluator", first: "Tensor", features: "Tensor") -> Any:
    """Draw generated images above the references whose features are nearest to theirs."""
    import torch

    from pcgen.viz import draw_rows

    # Without the matrix product, by which equal features are at a distance.
    d = torch.cdist(features[: len(first)], evaluator.features, compute_mode="donot_use_mm_for_euclid_dist")  # (K, R)
    nearest = evaluator.reference.cpu()[d.argmin(1)]
    return draw_rows(
        (first.numpy(), nearest.numpy()),
        labels=("generated", "nearest reference"),
        titles=[f"{distance:.3g}" for distance in d.amin(1).tolist()],
        heading=f"distances between features of {evaluator.extractor.name}",
    )
