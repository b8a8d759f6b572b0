"""What is known of a few data is known of all, by way of a model's template: landmarks of images, labels of points.

Reference for images: Z. Shu, M. Sahasrabudhe, R. A. Güler, D. Samaras, N. Paragios, I. Kokkinos, "Deforming
Autoencoders: Unsupervised Disentangling of Shape and Appearance", ECCV 2018, https://arxiv.org/abs/1806.06503.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from pcgen.base import GenerativeModel
from pcgen.errors import ConfigurationError, DataError
from pcgen.latents.codes import require
from pcgen.ops import nearest_neighbors, unwarp_points, warp_points

# ── landmarks of images ───────────────────────────────────────────────────────────────────────────────────────────────


def mark_template(model: GenerativeModel, x: Tensor, landmarks: Tensor) -> Tensor:
    """Carry landmarks of images to the template: u = W(p), the mean over the images.

    Args:
        model: Encodes and decomposes images.
        x: Images (K, C, H, W) that are marked, at least one.
        landmarks: Places p (K, L, 2) in each of them, (x, y), −1 and 1 at the centres of the outermost pixels, x to the
            right and y downwards.

    Returns:
        Places u (L, 2) in the template, on the CPU.

    Raises:
        UnsupportedOperationError: If the model cannot encode and decompose.
        ConfigurationError: If it makes clouds.
        DataError: If the shapes do not fit.
    """
    if landmarks.ndim != 3 or landmarks.shape[2] != 2 or len(landmarks) != len(x) or not landmarks.numel():
        raise DataError(
            f"landmarks have shape {tuple(landmarks.shape)} for {len(x)} images; give (K, L, 2) for at least one image "
            "and one landmark"
        )
    chunks = zip(_grids(model, x), landmarks.split(model.chunk_size), strict=True)
    sums = [len(grid) * template_places(grid, marked).cpu() for grid, marked in chunks]
    return torch.stack(sums).sum(0) / len(x)


def place_landmarks(model: GenerativeModel, template_landmarks: Tensor, x: Tensor) -> Tensor:
    """Find landmarks of the template in images: p with W(p) = u.

    Args:
        model: Encodes and decomposes images.
        template_landmarks: Places u (L, 2) in the template, (x, y) in −1 … 1.
        x: Images (B, C, H, W).

    Returns:
        Places p (B, L, 2), on the CPU; of a place that an image does not show, the nearest that it shows.

    Raises:
        UnsupportedOperationError: If the model cannot encode and decompose.
        ConfigurationError: If it makes clouds.
        DataError: If the shapes do not fit.
    """
    if template_landmarks.ndim != 2 or template_landmarks.shape[1] != 2 or not len(template_landmarks):
        raise DataError(
            f"template_landmarks have shape {tuple(template_landmarks.shape)}; give (L, 2), at least one, x before y"
        )
    none = template_landmarks.new_empty(0, *template_landmarks.shape, dtype=torch.float32, device="cpu")
    found = (landmark_places(grid, template_landmarks).float().cpu() for grid in _grids(model, x))
    return torch.cat([none, *found])


def transfer_landmarks(model: GenerativeModel, source: Tensor, landmarks: Tensor, x: Tensor) -> Tensor:
    """Find landmarks of one image in others: u = W_source(landmark), then p with W(p) = u.

    Args:
        model: Encodes and decomposes images.
        source: The image that is marked, (C, H, W) or (1, C, H, W); or (K, C, H, W), of which the mean u is taken.
        landmarks: Places (L, 2) in it, (x, y) in −1 … 1; or (K, L, 2).
        x: Images (B, C, H, W).

    Returns:
        Places (B, L, 2), on the CPU; of a place that an image does not show, the nearest that it shows.

    Raises:
        UnsupportedOperationError: If the model cannot encode and decompose.
        ConfigurationError: If it makes clouds.
        DataError: If the shapes do not fit.
    """
    marked = source if source.ndim == 4 else source[None]
    places = landmarks if landmarks.ndim == 3 else landmarks[None]
    return place_landmarks(model, mark_template(model, marked, places), x)


def template_places(grid: Tensor, landmarks: Tensor) -> Tensor:
    """Mark landmarks in the template: the mean over images of where the warp leads from their places.

    Args:
        grid: Of images whose landmarks are known (B, H, W, 2).
        landmarks: Their places in the images (B, L, 2).

    Returns:
        Places in the template (L, 2), in the grid's dtype.
    """
    return warp_points(grid, landmarks.to(grid)).mean(0)


def landmark_places(grid: Tensor, places: Tensor, *, chunk: int = 64) -> Tensor:
    """Find marked places (L, 2) of the template in images: p with W(p) = place, (B, L, 2)."""
    return torch.cat([unwarp_points(part, places.to(part).expand(len(part), -1, -1))[0] for part in grid.split(chunk)])


def _grids(model: GenerativeModel, x: Tensor) -> Iterator[Tensor]:
    require(model, "encode", "decompose")
    if len(model.sample_shape) != 3:
        raise ConfigurationError(
            f"{type(model).__name__} makes clouds, in which points are labelled: landmarks are places in images"
        )
    if x.ndim != 4:
        raise DataError(f"images have shape {tuple(x.shape)}; give (B, C, H, W)")
    for part in x.split(model.chunk_size) if len(x) else ():
        yield model.decompose(model.encode(part)).deformation


# ── labels of points ──────────────────────────────────────────────────────────────────────────────────────────────────


def label_template(model: GenerativeModel, x: Tensor, labels: Tensor, *, num_labels: int | None = None) -> Tensor:
    """Let labelled clouds vote for the label of each point of the template.

    Each cloud is reconstructed, and point i of the reconstruction takes the label of the nearest point of the input.
    So point i must be the same point of the shape in every cloud: in a deforming autoencoder it is point i of the
    template. Any other decoder that gives its points in an order of its own may be tried, and is the control.

    Args:
        model: Encodes and decodes clouds.
        x: Labelled clouds (K, N, 3), at least one.
        labels: Of their points (K, N), integers from 0.
        num_labels: P; None takes the largest label and one.

    Returns:
        Votes (M, P), int64, on the CPU: how many of the K clouds give label p to point i of the model's M.

    Raises:
        UnsupportedOperationError: If the model cannot encode and decode.
        ConfigurationError: If it makes images.
        DataError: If the shapes do not fit, or a label is not in 0 … P − 1.
    """
    if labels.shape != x.shape[:2] or not labels.numel():
        raise DataError(f"labels have shape {tuple(labels.shape)} for clouds {tuple(x.shape)}; give one for each point")
    P = int(labels.max()) + 1 if num_labels is None else num_labels
    if labels.min() < 0 or labels.max() >= P:
        raise DataError(f"labels go from {labels.min()} to {labels.max()}; of {P} they are 0 to {P - 1}")
    votes: Tensor | None = None
    for part, made in _reconstructed(model, x, labels.long()):
        nearest = nearest_neighbors(made, part[0])[1]  # (b, M)
        given = torch.nn.functional.one_hot(part[1].to(nearest).gather(1, nearest), P).sum(0).cpu()  # (M, P)
        votes = given if votes is None else votes + given
    assert votes is not None
    return votes


def transfer_labels(model: GenerativeModel, votes: Tensor, x: Tensor) -> Tensor:
    """Give each point of new clouds the label of the nearest point of its cloud's own reconstruction.

    Args:
        model: Encodes and decodes clouds.
        votes: (M, P) of `label_template`; each point of the model has the label of most votes, of equals the first.
        x: Clouds (B, N, 3).

    Returns:
        Labels (B, N), int64, on the CPU.

    Raises:
        UnsupportedOperationError: If the model cannot encode and decode.
        ConfigurationError: If it makes images.
        DataError: If the votes are not for as many points as the model makes.
    """
    M = model.sample_shape[0]
    if votes.ndim != 2 or (len(model.sample_shape) == 2 and len(votes) != M):
        raise DataError(f"votes have shape {tuple(votes.shape)}; give (M, P) for the {M} points of this model")
    winner = votes.argmax(1)  # (M,)
    found = [torch.empty(0, x.shape[1], dtype=torch.int64)]
    for part, made in _reconstructed(model, x):
        found.append(winner[nearest_neighbors(part[0], made)[1].cpu()])
    return torch.cat(found)


def _reconstructed(model: GenerativeModel, x: Tensor, *more: Tensor) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """Give clouds, and what else there is of them, in chunks with their reconstructions, on the model's device."""
    require(model, "encode", "decode")
    if len(model.sample_shape) != 2:
        raise ConfigurationError(
            f"{type(model).__name__} makes images, in which landmarks are marked: labels are of a cloud's points"
        )
    if x.ndim != 3 or x.shape[2] != 3:
        raise DataError(f"clouds have shape {tuple(x.shape)}; give (B, N, 3)")
    for k in range(0, len(x), model.chunk_size):
        rows = slice(k, k + model.chunk_size)
        clouds = x[rows].to(model.like)
        yield (clouds, *(each[rows] for each in more)), model.reconstruct(clouds)
