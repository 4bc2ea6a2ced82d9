"""The figure of the chapter on the weighting: what is measured and drawn agrees with the objective itself."""

import numpy as np
import pytest
import torch

from ict_lib.consistency import ConsistencyModel
from ict_lib.display.figures.weighting import (
    MOST,
    POWERS,
    SCALES,
    gradient_lengths,
    measured_pairs,
    share_below,
    weigh,
    weighting_explorer,
)
from ict_lib.grid import karras_sigmas
from ict_lib.networks.mlp import ResidualMLP
from ict_lib.techniques.distance import huber_c, pseudo_huber, squared_l2
from ict_lib.techniques.noise_schedule import lognormal_pmf, uniform_pmf
from ict_lib.techniques.weighting import inverse_gap
from tests.test_display_explorer import unpack


@pytest.fixture(scope="module")
def model():
    """A small network whose last layers are not zero."""
    generator = torch.Generator().manual_seed(0)
    network = ResidualMLP((2,), fourier_scale=0.02, width=8, blocks=1)
    for weight in network.parameters():
        weight.data = 0.3 * torch.randn(weight.shape, generator=generator)
    return ConsistencyModel(network.eval())


@pytest.fixture(scope="module")
def batch():
    return torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(1)).unbind()


@pytest.mark.parametrize(("name", "apart"), [("squared ℓ₂", squared_l2), ("pseudo-Huber", pseudo_huber)])
def test_lengths_are_those_of_the_losses_own_gradients(model, batch, name, apart):
    x, noise = batch
    found, sigmas = gradient_lengths(model, x, noise, 11)[name], karras_sigmas(11).float()
    constant = (huber_c(2),) if name == "pseudo-Huber" else ()
    for i in (0, 4, 9):
        lengths = []
        for point, z in zip(x, noise, strict=True):
            target = model((point + sigmas[i] * z)[None], sigmas[i]).detach()
            loss = apart(model((point + sigmas[i + 1] * z)[None], sigmas[i + 1]), target, *constant).sum()
            gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
            lengths.append(float(sum(g.square().sum() for g in gradients if g is not None).sqrt()))
        assert float(found[i]) == pytest.approx(np.mean(lengths), rel=2e-3)


def test_of_a_fine_grid_the_measured_pairs_stand_for_equal_groups():
    assert measured_pairs(11).tolist() == list(range(10))
    for n in SCALES[4:]:
        index = measured_pairs(n)
        assert len(index) == MOST
        assert index.diff().unique().tolist() in ([(n - 1) // MOST], [])
        assert 0 <= index[0] <= (n - 1) // MOST
        assert float(weigh(torch.ones(MOST), uniform_pmf(karras_sigmas(n)), torch.ones(n - 1)).sum()) == pytest.approx(
            1
        )


def test_what_is_drawn_is_the_share_per_decade(model, batch):
    measured = {n: gradient_lengths(model, *batch, n) for n in SCALES}
    explorer = weighting_explorer(measured)
    panels, texts = explorer.spec["panels"], {r["label"]: r["text"] for r in explorer.spec["readouts"]}
    assert explorer.index == [0, len(SCALES) - 1]
    for label, i in {"weight of the lowest pair": 0, "weight of the highest pair": -1}.items():
        shown = float(texts[label][-len(SCALES)].replace(",", ""))  # p = 1, N = 11
        assert shown == pytest.approx(float(inverse_gap(karras_sigmas(11))[i]), rel=1e-3)
    for panel, name, pmf in zip(panels, measured[11], (uniform_pmf, lognormal_pmf), strict=True):
        shown, sigmas = unpack(explorer, panel["marks"][0]["y"]), karras_sigmas(11)
        by_hand = pmf(sigmas) * (1 / sigmas.diff()) ** 0.5 * measured[11][name]
        by_hand = by_hand / by_hand.sum() / sigmas.log10().diff()
        np.testing.assert_allclose(shown[POWERS.index(0.5), 0, :10], by_hand, rtol=1e-5)
        assert np.isnan(shown[:, 0, 10:]).all()  # a coarse grid has no more pairs
    shown = float(texts["squared ℓ₂: from below σ = 0.1"][-1].split()[0])  # p = 1, N = 1281
    sigmas, index = karras_sigmas(1281), measured_pairs(1281)
    parts = measured[1281]["squared ℓ₂"] / sigmas.diff()[index]
    assert shown == pytest.approx(100 * float(parts[sigmas[index] < 0.1].sum() / parts.sum()), abs=0.06)
    assert shown == pytest.approx(100 * share_below(parts, 1281), abs=0.06)


def test_with_squared_distance_the_weight_takes_the_number_of_levels_out(model, batch):
    """Equation (3) of the page: only with p = 1 the gradient's length does not depend on N."""
    explorer = weighting_explorer({n: gradient_lengths(model, *batch, n) for n in SCALES})
    (found,) = [r for r in explorer.spec["readouts"] if r["label"] == "squared ℓ₂: length against N = 11"]
    lengths = np.array(found["text"], dtype=float).reshape(len(POWERS), len(SCALES))
    assert lengths[:, 0].tolist() == [1.0] * len(POWERS)
    assert lengths[-1, -1] / lengths[-1, -2] == pytest.approx(1, abs=0.05)
    assert lengths[0, -1] / lengths[0, -2] == pytest.approx(0.5, abs=0.05)
