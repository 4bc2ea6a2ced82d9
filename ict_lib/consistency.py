"""The parametrisation: any raw network becomes a consistency model that obeys the boundary condition.

The scalings take noise levels ``sigma`` of any shape, the data's standard deviation ``sigma_data`` and the level
``sigma_min`` at which the model is the identity, all in data units, and give the shape of ``sigma``.
"""

import math

import torch
from torch import Tensor, nn

from ict_lib.checks import require


def c_skip(sigma: Tensor, sigma_data: float, sigma_min: float) -> Tensor:
    r"""Share of the input that passes straight through, in (0, 1]; 1 at ``sigma_min``.

    .. math:: c_{\text{skip}}(\sigma) = \frac{\sigma_d^2}{(\sigma - \sigma_{\min})^2 + \sigma_d^2}

    Source: [CT] arXiv:2303.01469 appendix C; kept by [iCT].
    """
    return sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2)


def c_out(sigma: Tensor, sigma_data: float, sigma_min: float) -> Tensor:
    r"""Share of the network's output, data units; 0 at ``sigma_min``.

    .. math:: c_{\text{out}}(\sigma) = \frac{\sigma_d (\sigma - \sigma_{\min})}{\sqrt{\sigma^2 + \sigma_d^2}}

    Source: [CT] arXiv:2303.01469 appendix C; kept by [iCT].
    """
    return sigma_data * (sigma - sigma_min) / (sigma**2 + sigma_data**2).sqrt()


def c_in(sigma: Tensor, sigma_data: float) -> Tensor:
    r"""Scale that gives the network's input variance 1 at every noise level, in 1 / data units.

    .. math:: c_{\text{in}}(\sigma) = \frac{1}{\sqrt{\sigma^2 + \sigma_d^2}}

    Source: [EDM] arXiv:2206.00364; [CT] arXiv:2303.01469.
    """
    return (sigma**2 + sigma_data**2).rsqrt()


def c_noise(sigma: Tensor) -> Tensor:
    r"""The number, without unit, by which the network is told the noise level.

    .. math:: c_{\text{noise}}(\sigma) = \tfrac14 \ln \sigma

    Source: [EDM] arXiv:2206.00364; [CT] arXiv:2303.01469 on CIFAR-10.
    """
    return sigma.log() / 4


class ConsistencyModel(nn.Module):
    r"""A raw network F, scaled so that the output is the input at the lowest noise level.

    .. math:: f(x, \sigma) = c_{\text{skip}}(\sigma)\, x
        + c_{\text{out}}(\sigma)\, F\bigl(c_{\text{in}}(\sigma)\, x,\; c_{\text{noise}}(\sigma)\bigr)

    Source: [CT] arXiv:2303.01469 section 3 and appendix C; kept by [iCT].

    Args:
        network: ``network(x, c_noise, label)``, from ``[batch, ...]`` to the same shape.
        sigma_data: standard deviation of the data, positive.
        sigma_min: the level at which :math:`f(x, \sigma) = x`, positive.

    Raises:
        ValueError: if ``sigma_data`` or ``sigma_min`` is not positive.
    """

    def __init__(self, network: nn.Module, sigma_data: float = 0.5, sigma_min: float = 0.002):
        super().__init__()
        fits = 0 < sigma_data < math.inf and 0 < sigma_min < math.inf
        require(fits, "sigma_data, sigma_min", (sigma_data, sigma_min), "a positive, finite number")
        self.network = network
        self.sigma_data = sigma_data
        self.sigma_min = sigma_min

    def forward(self, x: Tensor, sigma: Tensor | float, label: Tensor | None = None) -> Tensor:
        """Estimate the end point of the probability-flow trajectory through ``x``.

        Args:
            x: noisy samples, shape ``[batch, ...]``, data units.
            sigma: their noise levels, shape ``[batch]`` or one number for all, at least ``sigma_min``.
            label: class of each sample, shape ``[batch]``, or None.

        Returns:
            Clean samples, same shape as ``x``.

        Raises:
            ValueError: if ``sigma`` is neither one number nor one a sample.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)  # the scalings never compute in 16 bits
        sigma = torch.as_tensor(sigma, dtype=dtype, device=x.device)
        require(sigma.shape in ((), (len(x),)), "the shape of sigma", tuple(sigma.shape), f"() or [batch] = [{len(x)}]")
        sigma = sigma.expand(len(x))
        column = sigma.view(-1, *[1] * (x.ndim - 1))  # [batch, 1, ...]
        raw = self.network(c_in(column, self.sigma_data) * x, c_noise(sigma), label)
        skip = c_skip(column, self.sigma_data, self.sigma_min)
        return skip * x + c_out(column, self.sigma_data, self.sigma_min) * raw
