"""Divergences of normal distributions."""

from torch import Tensor


def gaussian_kl(mu: Tensor, log_var: Tensor) -> Tensor:
    """Compute KL(N(μ, σ²) ‖ N(0, 1)) = ½ (μ² + σ² − log σ² − 1), elementwise, in nats.

    Kingma & Welling, "Auto-Encoding Variational Bayes", 2014, appendix B, https://arxiv.org/abs/1312.6114.

    Args:
        mu: Means μ (…).
        log_var: Logarithms of the variances, log σ² (…).

    Returns:
        (…), of the arguments' dtype, 0 where the distribution is the standard normal.

    >>> import torch
    >>> gaussian_kl(torch.tensor([0.0, 2.0]), torch.zeros(2))
    tensor([0., 2.])
    """
    return 0.5 * (mu.square() + log_var.exp() - log_var - 1)
