"""Named feature extractors: what the Fréchet distance and its kin see of a cloud or an image.

Two ship with pcgen and work offline: `pointnet-modelnet10-v1` for clouds and `cnn-mnist-v1` for images of digits. Each
is the network of a classifier without its last layer. A distance between features means something only under one
extractor, so each has an identity, the hash of its weights, and a card that says how it came about.

>>> net = extractor("cnn-mnist-v1")
>>> net.num_features, net.card["data"]["name"]
(128, 'MNIST')
"""

import hashlib
import io
import json
import math
import warnings
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pcgen.errors import CheckpointError, ConfigurationError, DataError
from pcgen.io.files import atomic
from pcgen.io.torch_archive import survey
from pcgen.nets import Encoder
from pcgen.nets.base import check_clouds
from pcgen.rebuilding import first_line, rebuild
from pcgen.recipe import build, check_size, describe

# name -> identity
SHIPPED = {
    "cnn-mnist-v1": "a4cfa58100b4a03721591223cca6985bb59cd9d1f09b9bdd722ba436cf6b62a6",
    "pointnet-modelnet10-v1": "46a85ca74967c873adf616e5af75c36c4f3a7f9191f3a15a33fe0693b865e62c",
}
FORMAT = 1
BATCH = 64  # data
POINTS = 1 << 17  # of a batch of clouds: at 2048 a cloud 64 of them, about 130 MB
REACH = (0.6, 3.0)  # times the stated radius: how far a set of clouds of that radius may reach, a box's corners too


class Extractor:
    """Gives the features of clouds or images; always in evaluation mode, without a gradient.

    It is no `nn.Module`, so that a metric that keeps one does not take its weights for a state of its own.

    Args:
        network: Data (B, …) to features (B, F).
        head: Features to the logits of the classes.
        identity: Hash of the weights.
        card: How it came about, as plain data: name, data, accuracy, training.

    Attributes:
        name: What it is called in the name of a score.
        num_features: F.
        num_classes: K, of `classify`.
        identity: Hash of the weights, sha256 in hexadecimal.
        card: As above.
    """

    def __init__(self, network: Encoder, head: nn.Linear, *, identity: str, card: dict[str, Any]) -> None:
        self._network = nn.ModuleList([network, head]).float().eval().requires_grad_(requires_grad=False)
        self.name, self.num_features = str(card["name"]), network.out_features
        self.num_classes = head.out_features
        self.identity, self.card = identity, card

    def __repr__(self) -> str:
        return f"Extractor({self.name}, {self.identity[:12]})"

    def describe(self) -> dict[str, Any]:
        """Give all that there is to know, as plain data: identity, number of features, and the card."""
        return {"identity": self.identity, "num_features": self.num_features, **self.card}

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Give features (B, F) float32 of data that are as the network was trained on, on their device.

        Args:
            x: Clouds (B, N, 3) or images (B, C, H, W).

        Raises:
            DataError: If the shape is wrong or a value is not finite.
        """
        if not torch.isfinite(x).all():
            raise DataError(f"{self.name}: the data hold NaN or infinity, which have no features")
        network = self._network.to(x.device)[0]
        with torch.autocast(x.device.type, enabled=False):
            features: Tensor = network(x.float())
        return features

    @torch.no_grad()
    def classify(self, x: Tensor) -> Tensor:
        """Give the probabilities (B, K) of the classes, float32, for data as `__call__` takes them."""
        features = self(x)
        probabilities: Tensor = self._network[1](features).softmax(1)
        return probabilities

    def features(
        self,
        x: Tensor,
        *,
        radius: float | None = None,
        up_axis: int | None = None,
        batch_size: int | None = None,
        progress: Callable[[float, float | None], None] | None = None,
    ) -> Tensor:
        """Give the features of many data, a batch at a time; clouds are first brought to what the network knows.

        That is done by the radius and the up axis that are stated, never by statistics of the clouds: a cloud that is
        too large has the features of one that is too large.

        Args:
            x: Clouds (K, N, 3) of any number of points, or images (K, C, H, W) in [0, 1]; they may lie on another
                device.
            radius: Of the ball that the clouds were normalised to; None says that of the network's training.
            up_axis: Of the clouds, 0, 1 or 2; None says that of the network's training. The axes are turned in their
                order, so that no shape becomes its mirror image.
            batch_size: Data a batch; bounds memory. None: 64, and fewer of clouds of more than 2048 points.
            progress: Told how many are done and of how many.

        Returns:
            (K, F) float32 on the data's device.

        Raises:
            DataError: If the shape is wrong or a value is not finite.
            ConfigurationError: If radius or up_axis are not such, or are stated of images.
        """
        if batch_size is not None and batch_size < 1:
            raise ConfigurationError(f"batch_size is {batch_size}; it must be at least 1")
        adapt = self._adapter(x, radius, up_axis)
        if batch_size is None:
            batch_size = BATCH if x.ndim != 3 else min(BATCH, max(1, POINTS // x.shape[1]))
        parts = [torch.empty(0, self.num_features, device=x.device)]
        for start in range(0, len(x), batch_size):
            parts.append(self(adapt(x[start : start + batch_size])))
            if progress is not None:
                progress(min(start + batch_size, len(x)), len(x))
        return torch.cat(parts)

    def _adapter(self, x: Tensor, radius: float | None, up_axis: int | None) -> Callable[[Tensor], Tensor]:
        trained = self.card["input"]
        if trained["kind"] != "clouds":
            if radius is not None or up_axis is not None:
                raise ConfigurationError(f"{self.name} takes images: radius and up_axis are of clouds, leave them out")
            return lambda part: part
        check_clouds(x)
        radius = trained["radius"] if radius is None else radius
        up_axis = trained["up_axis"] if up_axis is None else up_axis
        if not 0 < radius < float("inf"):
            raise ConfigurationError(f"radius is {radius}; it is that of the ball which the clouds were normalised to")
        if up_axis not in (0, 1, 2):
            raise ConfigurationError(f"up_axis is {up_axis}; it is 0, 1 or 2")
        if said := reach_remark(x, radius, self.name):
            warnings.warn(said, stacklevel=3)
        scale, shift = trained["radius"] / radius, trained["up_axis"] - up_axis
        return lambda part: part.float().roll(shift, dims=2) * scale


def reach_remark(clouds: Tensor, radius: float, name: str) -> str:
    """Say that clouds (K, N, 3) cannot be of the stated radius, so that an extractor's features mean little; or ""."""
    reach = max((float(part.float().norm(dim=2).max()) for part in clouds.split(256) if len(part)), default=radius)
    if not math.isfinite(reach) or REACH[0] * radius <= reach <= REACH[1] * radius:
        return ""
    return (
        f"the clouds reach {reach:.4g} from the origin and are said to be of radius {radius:.4g}: state their "
        f"radius, or normalise them, or the features of {name} mean little"
    )


def extractor(name: str | Path) -> Extractor:
    """Give a feature extractor by name, or one's own by its file.

    Args:
        name: One of those that ship with pcgen, or the path of a file that `pcgen export` wrote.

    Returns:
        The extractor, on the CPU; it follows its data to any device.

    Raises:
        ConfigurationError: If there is neither, with the names that there are.
        CheckpointError: If the file is damaged, was changed, or is no extractor.
    """
    if name in SHIPPED:
        found = _read(resources.files("pcgen").joinpath("weights", f"{name}.pt").read_bytes(), str(name))
        if found.identity != SHIPPED[str(name)]:
            raise CheckpointError(f"{name} is not the one that shipped with this pcgen: install pcgen again")
        return found
    if Path(name).is_file():
        return _read(Path(name).read_bytes(), str(name))
    raise ConfigurationError(
        f"there is no extractor {str(name)!r}; there is {', '.join(sorted(SHIPPED))}, or the path of a file that "
        "pcgen export wrote"
    )


def save_extractor(path: str | Path, network: Encoder, head: nn.Linear, card: Mapping[str, Any]) -> Extractor:
    """Write a classifier's networks as an extractor: weights in half precision, what normalisation has learnt in full.

    Args:
        path: The file; one that is there is replaced.
        network: Data to features.
        head: Features to logits.
        card: Plain data: `name`, `input` (`kind`: clouds, with `radius` and `up_axis`, or images) and whatever says how
            it came about.

    Returns:
        The extractor as it will be read, with the rounded weights.
    """
    packed = _packed(network, head, card)
    with atomic(path) as unfinished:
        unfinished.write_bytes(packed)
    return _read(packed, str(path))


def rounded_extractor(network: Encoder, head: nn.Linear, card: Mapping[str, Any]) -> Extractor:
    """Give what `save_extractor` would write, to see what the rounding does before anything is written."""
    return _read(_packed(network, head, card), str(card["name"]))


def _packed(network: Encoder, head: nn.Linear, card: Mapping[str, Any]) -> bytes:
    recipe = {"network": describe(network, where="network"), "classes": head.out_features}
    weights = {f"{i}.{k}": _rounded(v) for i, part in enumerate((network, head)) for k, v in part.state_dict().items()}
    content = {
        "pcgen_extractor": FORMAT,
        "recipe": recipe,
        "card": describe(dict(card), where="card"),
        "weights": weights,
        "identity": fingerprint(recipe, weights),
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def fingerprint(recipe: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """Give the identity of a network: sha256 of its recipe and of the names, types, shapes and bytes of its weights."""
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _rounded(value: Tensor) -> Tensor:
    """Round matrices to half precision: rounding a normalisation's few numbers would save nothing."""
    value = value.detach().cpu().contiguous()
    return value.half() if value.is_floating_point() and value.ndim > 1 else value


def _read(content: bytes, source: str) -> Extractor:
    try:
        said = survey(io.BytesIO(content))  # what it claims, before torch believes it
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{source} cannot be read as an extractor: it is damaged or of another kind ({first_line(error)})"
        ) from error
    if not isinstance(said, dict) or said.get("pcgen_extractor") != FORMAT:
        raise CheckpointError(f"{source} is no extractor of this version: write it with pcgen export")
    recipe, card, identity, weights = said.get("recipe"), said.get("card"), said.get("identity"), found.get("weights")
    try:
        _check_card(recipe, card)
        _check_identity(recipe, weights, identity)
        networks = rebuild(lambda: _networks(recipe), weights)
    except (CheckpointError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{source}: {first_line(error)}") from error
    return Extractor(networks[0], networks[1], identity=str(identity), card=card)  # type: ignore[arg-type]  # a list of modules


def _check_card(recipe: Any, card: Any) -> None:
    """Refuse what is no plain data of the form that `save_extractor` writes."""
    for name, part in (("recipe", recipe), ("card", card)):
        if not isinstance(part, dict):
            raise CheckpointError(f"it has no {name}")
        check_size(part, name)
    data = card.get("input")
    if (
        not isinstance(card.get("name"), str)
        or not isinstance(data, dict)
        or data.get("kind") not in ("clouds", "images")
    ):
        raise CheckpointError("its card says neither a name nor what its input is")
    if data["kind"] == "clouds" and not (_is_radius(data.get("radius")) and data.get("up_axis") in (0, 1, 2)):
        raise CheckpointError(f"its clouds are of radius {data.get('radius')} and up_axis {data.get('up_axis')}")


def _check_identity(recipe: Any, weights: Any, identity: Any) -> None:
    if fingerprint(recipe, weights) != identity:
        raise CheckpointError("the weights are not those that were written (their hash differs): damaged")


def _is_radius(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _networks(recipe: Any) -> nn.ModuleList:
    network = build(recipe["network"], where="network")
    if not isinstance(network, Encoder):
        raise CheckpointError(f"the recipe is of a {type(network).__name__}, not of an encoder")
    return nn.ModuleList([network, nn.Linear(network.out_features, recipe["classes"])])
