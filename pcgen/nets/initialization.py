"""How the weights of a network begin."""

from typing import TypeVar

from torch import nn

from pcgen.errors import ConfigurationError

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
Network = TypeVar("Network", bound=nn.Module)
OUTPUTS = (*LAYERS, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def kaiming_initialized(module: nn.Module) -> nn.Module:
    """Draw every weight inside anew so that each layer hands on what varies in its input as strongly as it came.

    Normal with variance 2 / fan_in, biases zero. PyTorch's own start is √6 times smaller: without normalisation each
    layer shrinks what it gets, and a deep critic begins as a constant that learns slowly. A layer of zeros is meant to
    begin so (`zero_output`) and stays as it is.

    Reference: K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers", ICCV 2015,
    https://arxiv.org/abs/1502.01852.

    Args:
        module: Is changed in place.

    Returns:
        The module.
    """
    for layer in module.modules():
        if isinstance(layer, LAYERS) and (layer.weight.is_meta or layer.weight.any()):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def zero_output(network: Network) -> Network:
    """Set weights and bias of the last layer to zero, so that the network begins by giving 0 for everything.

    What it gives is then a change of something that is right to begin with: a warp, a matrix beside the identity.

    Args:
        network: Whose last linear or convolutional layer, in the order in which its parts were made, gives its output.
            Is changed in place.

    Returns:
        The network.

    Raises:
        ConfigurationError: If it has no such layer.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, OUTPUTS)]
    if not layers:
        raise ConfigurationError(f"a {type(network).__name__} has no linear or convolutional layer to set to zero")
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)
    return network
