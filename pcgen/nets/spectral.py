"""Spectral normalisation, which bounds how fast a discriminator's score can change.

Reference: T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida, "Spectral Normalization for Generative Adversarial Networks",
ICLR 2018, https://arxiv.org/abs/1802.05957.
"""

from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from pcgen.errors import ConfigurationError

Net = TypeVar("Net", bound=nn.Module)


def spectral_normalized(module: Net) -> Net:
    """Divide the weight W of every linear and convolutional layer inside by its largest singular value.

    W / σ(W), σ(W) = uᵀ W v, where one power iteration a forward pass keeps the singular vectors u and v up to date in
    training, and none in evaluation. With ReLU or LeakyReLU between them, linear layers then change no faster than
    their input. A convolution's W is its weight flattened to (out, in · height · width): that bounds the layer up to
    the square root of how many windows see a pixel.

    The state dict holds `parametrizations.weight.original`, `_u` and `_v` for each weight; to load it, build the
    network again and pass it through here first. The network can be copied, but not pickled as a whole.

    Args:
        module: Changed in place. Layers that have it already stay as they are.

    Returns:
        The module.

    Raises:
        ConfigurationError: If there is no such layer inside, or one whose weight is zero, which nothing can scale to 1
            (the last one of a PointNet's input transform starts so).
    """
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear | _ConvNd)]
    if not layers:
        raise ConfigurationError(
            f"{type(module).__name__} has no linear or convolutional layer to normalise: set spectral_norm to false"
        )
    fresh = [(name, layer) for name, layer in layers if not is_parametrized(layer, "weight")]
    for name, layer in fresh:
        if not layer.weight.is_meta and not layer.weight.any():
            raise ConfigurationError(
                f"the weight of {name or type(layer).__name__} is zero, which has no direction to normalise: set "
                "spectral_norm to false, or input_transform if this is the encoder's"
            )
    for _, layer in fresh:
        spectral_norm(layer)
    return module


def uses_batch_norm(module: nn.Module) -> bool:
    """Tell whether any layer inside normalises over the batch.

    The score of a datum then depends on the rest of its batch, and a penalty on each datum's own gradient means nothing
    (I. Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, https://arxiv.org/abs/1704.00028, section 4).
    """
    return any(isinstance(layer, _BatchNorm) for layer in module.modules())
