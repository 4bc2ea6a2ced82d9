"""Section 3.2's limits on a single data point, as the number of noise levels grows without bound."""

import math

__all__ = ["limit_gradient", "limit_loss"]


def limit_loss(
    theta: float, theta_minus: float, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> float:
    r"""Loss as the number of levels grows without bound: it no longer depends on the data.

    .. math:: \lim_{N \to \infty} L = (\theta - \theta^-)^2 \, E[(1 - \sigma_{min} / \sigma)^2]

    where :math:`\sigma^{1/\rho}` is uniform.

    Source: [iCT] arXiv:2310.14189 section 3.2.

    Args:
        theta: the student's parameter, data units.
        theta_minus: the teacher's parameter, data units.
        sigma_min: lowest noise level, data units.
        sigma_max: highest noise level, data units.
        rho: of the Karras grid.

    Returns:
        The limit, in data units squared.

    Raises:
        ValueError: unless ``0 < sigma_min < sigma_max`` and ``rho > 0``.
    """
    first, second = (_mean_power(k, sigma_min, sigma_max, rho) for k in (1, 2))
    return (theta - theta_minus) ** 2 * (1 - 2 * sigma_min * first + sigma_min**2 * second)


def limit_gradient(
    theta: float,
    theta_minus: float,
    xi: float,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
) -> float:
    r"""``scaled_gradient`` as the number of levels grows without bound: finite only without an EMA.

    .. math:: \lim_{N \to \infty} g = 2 (\theta - \xi) \,
        E\Bigl[\frac{\sigma_{min}}{\sigma^2} \Bigl(1 - \frac{\sigma_{min}}{\sigma}\Bigr)\Bigr]
        \text{ if } \theta^- = \theta, \quad +\infty \text{ if } \theta^- < \theta, \quad
        -\infty \text{ if } \theta^- > \theta

    where :math:`\sigma^{1/\rho}` is uniform.

    Source: [iCT] arXiv:2310.14189 section 3.2.

    Args:
        theta: the student's parameter, data units.
        theta_minus: the teacher's parameter, data units.
        xi: the data point, data units.
        sigma_min: lowest noise level, data units.
        sigma_max: highest noise level, data units.
        rho: of the Karras grid.

    Returns:
        The limit, without unit, possibly infinite.

    Raises:
        ValueError: unless ``0 < sigma_min < sigma_max`` and ``rho > 0``.
    """
    second, third = (_mean_power(k, sigma_min, sigma_max, rho) for k in (2, 3))
    if theta_minus != theta:
        return math.copysign(math.inf, theta - theta_minus)
    return 2 * (theta - xi) * sigma_min * (second - sigma_min * third)


def _mean_power(k: int, sigma_min: float, sigma_max: float, rho: float) -> float:
    """Mean of sigma^-k where sigma^(1/rho) is uniform between the two ends."""
    if not 0 < sigma_min < sigma_max or not rho > 0:
        rule = "0 < sigma_min < sigma_max and rho > 0"
        raise ValueError(f"{rule} are needed, got {sigma_min}, {sigma_max}, {rho}")
    low, high, power = sigma_min ** (1 / rho), sigma_max ** (1 / rho), 1 - rho * k
    if power == 0:
        return math.log(high / low) / (high - low)
    return (high**power - low**power) / (power * (high - low))
