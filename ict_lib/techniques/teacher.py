"""Improvement: where the teacher's weights come from. In iCT they are the student's own."""

import math


def ema_decay(num_scales: int, s0: int = 2, mu0: float = 0.9, released_code: bool = False) -> float:
    r"""Decay of the teacher's moving average in CT, chosen so that it slows down as N grows.

    .. math:: \mu(k) = \exp\Bigl(\frac{s_0 \ln \mu_0}{N(k)}\Bigr)

    The paper divides by N(k), the released code by N(k) - 1; ``released_code`` chooses. iCT sets the decay to 0: the
    teacher is the student with its gradient stopped.

    Source: [CT] arXiv:2303.01469; removed by [iCT] arXiv:2310.14189 section 3.2.

    Args:
        num_scales: N(k), the present number of noise levels, at least 2.
        s0: levels at the start of the curriculum, N(0).
        mu0: decay at the start, between 0 and 1.
        released_code: divide by N(k) - 1.

    Returns:
        The decay, between 0 and 1.

    Raises:
        ValueError: if ``num_scales < 2`` or not ``0 < mu0 < 1``.
    """
    if num_scales < 2:
        raise ValueError(f"num_scales is {num_scales}: a pair needs at least 2 levels")
    if not 0 < mu0 < 1:
        raise ValueError(f"mu0 is {mu0}: a decay lies between 0 and 1")
    return math.exp(s0 * math.log(mu0) / (num_scales - released_code))
