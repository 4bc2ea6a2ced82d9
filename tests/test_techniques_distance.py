"""How far two outputs are apart: `ict_lib.techniques.distance`. LPIPS is in test_techniques_distance_lpips.py."""

import itertools
import math
from decimal import Decimal, localcontext

import pytest
import torch

from ict_lib.run import mistakes
from ict_lib.techniques.distance import huber_c, l1, pseudo_huber, squared_l2
from tests import mutants

DISTANCES = {"pseudo_huber": lambda x, y: pseudo_huber(x, y, 0.03), "squared_l2": squared_l2, "l1": l1}


def pair(*shape, seed=0, dtype=torch.float32):
    gen = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=gen, dtype=torch.float64).to(dtype) for _ in range(2))


@pytest.fixture(params=DISTANCES)
def distance(request):
    return DISTANCES[request.param]


# Value from the paper


def check_one_root_a_sample(implementation):
    x, y = torch.zeros(2, 3, 2, 2), torch.ones(2, 3, 2, 2)  # 12 numbers a sample: sqrt(12 + 4) - 2
    assert implementation(x, y, 2.0).tolist() == pytest.approx([2.0, 2.0], rel=1e-6)


def test_trap_1_one_norm_over_the_whole_sample():
    check_one_root_a_sample(pseudo_huber)
    with pytest.raises(AssertionError):
        check_one_root_a_sample(mistakes.pseudo_huber_per_pixel)


def check_constant(implementation):
    assert implementation(3 * 32 * 32) == pytest.approx(0.02993, abs=5e-6)
    assert implementation(3 * 64 * 64) == pytest.approx(0.05986, abs=5e-6)


def test_trap_2_the_constant_grows_with_the_root_of_the_dimensions():
    check_constant(huber_c)
    with pytest.raises(AssertionError):
        check_constant(mutants.huber_c_without_root)


def test_three_four_five():
    x, y = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    assert l1(x, y).tolist() == [7.0]
    assert squared_l2(x, y).tolist() == [25.0]
    assert pseudo_huber(x, y, 12.0).tolist() == pytest.approx([13.0 - 12.0])


# Invariant


def test_symmetric_and_zero_only_at_equality(distance):
    x, y = pair(5, 3, 4, 4)
    assert torch.equal(distance(x, y), distance(y, x))
    assert (distance(x, y) > 0).all()
    assert torch.equal(distance(x, x), torch.zeros(5))


def test_only_the_difference_matters(distance):
    x, y = pair(5, 6, dtype=torch.float64)
    torch.testing.assert_close(distance(x + 7, y + 7), distance(x, y))


def check_rotation_changes_nothing(implementation):
    x, y = pair(4, 6, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(pair(6, 6, seed=1, dtype=torch.float64)[0])
    torch.testing.assert_close(implementation(x @ rotation, y @ rotation, 0.5), implementation(x, y, 0.5))


def test_rotating_both_samples_changes_nothing():
    check_rotation_changes_nothing(pseudo_huber)
    with pytest.raises(AssertionError):
        check_rotation_changes_nothing(mistakes.pseudo_huber_per_pixel)


def test_pseudo_huber_is_quadratic_near_and_linear_far():
    x, y = pair(8, 12, dtype=torch.float64)
    norm = (x - y).norm(dim=1)
    torch.testing.assert_close(pseudo_huber(1e-4 * x, 1e-4 * y, 1.0), 1e-8 * norm**2 / 2, rtol=1e-6, atol=0)
    torch.testing.assert_close(pseudo_huber(1e6 * x, 1e6 * y, 1.0), 1e6 * norm - 1, rtol=1e-9, atol=0)


def test_pseudo_huber_lies_below_the_norm_and_falls_with_c():
    x, y = pair(8, 12)
    values = [pseudo_huber(x, y, c) for c in (1e-3, 0.03, 1.0, 30.0)]
    assert (values[0] <= (x - y).norm(dim=1)).all()
    assert all((a > b).all() for a, b in itertools.pairwise(values))


# Independent slow reference


def slow(x, y, c, kind):
    numbers = []
    for a, b in zip(x.flatten(1).tolist(), y.flatten(1).tolist(), strict=True):
        n = math.fsum((p - q) ** 2 for p, q in zip(a, b, strict=True))
        by_kind = {"pseudo_huber": math.sqrt(n + c * c) - c, "squared_l2": n}
        numbers.append(by_kind.get(kind, math.fsum(abs(p - q) for p, q in zip(a, b, strict=True))))
    return numbers


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 8, 8)])
@pytest.mark.parametrize("kind", DISTANCES)
def test_against_a_loop(kind, shape):
    x, y = pair(*shape, dtype=torch.float64)
    assert DISTANCES[kind](x, y).tolist() == pytest.approx(slow(x, y, 0.03, kind), rel=1e-12)


def check_small_differences(implementation):
    for size in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1.0):
        x, c = torch.full((1, 4), size), huber_c(3072)
        with localcontext(prec=60):
            n = 4 * Decimal(float(x[0, 0])) ** 2
            exact = float((n + Decimal(c) ** 2).sqrt() - Decimal(c))
        assert float(implementation(x, torch.zeros(1, 4), c)) == pytest.approx(exact, rel=1e-6)


def test_trap_18_small_differences_survive_float32():
    check_small_differences(pseudo_huber)
    with pytest.raises(AssertionError):
        check_small_differences(mutants.pseudo_huber_cancelling)


# Shapes, dtypes, batch independence


@pytest.mark.parametrize("shape", [(4, 2), (1, 1, 8, 8), (3, 3, 4, 6)])
def test_one_number_a_sample(distance, shape):
    assert distance(*pair(*shape)).shape == shape[:1]


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_no_sum_in_less_than_float32(distance, given, computed):
    x, y = pair(3, 3072, dtype=given)
    value = distance(x, y)
    assert value.dtype == computed
    torch.testing.assert_close(value.double(), distance(x.double(), y.double()), rtol=1e-5, atol=0)


def test_a_sample_does_not_see_the_others(distance):
    x, y = pair(6, 3, 4, 4)
    alone = torch.cat([distance(x[i : i + 1], y[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(distance(x, y), alone, rtol=1e-6, atol=0)


# Errors and gradients


def test_unequal_shapes_are_refused(distance):
    with pytest.raises(ValueError, match=r"\(2, 3\), \(2, 1\)"):
        distance(torch.zeros(2, 3), torch.zeros(2, 1))


@pytest.mark.parametrize("c", [0.0, -0.03])
def test_c_must_be_positive(c):
    with pytest.raises(ValueError, match=f"c is {c}"):
        pseudo_huber(*pair(2, 3), c)


@pytest.mark.parametrize("num_dims", [0, -1])
def test_a_sample_has_a_number(num_dims):
    with pytest.raises(ValueError, match=f"num_dims is {num_dims}"):
        huber_c(num_dims)


def test_gradients_against_finite_differences(distance):
    x, y = (t.requires_grad_() for t in pair(2, 5, dtype=torch.float64))
    assert torch.autograd.gradcheck(distance, (x, y))


def test_the_pull_of_pseudo_huber_is_bounded_and_zero_at_equality():
    x = pair(3, 4)[0].requires_grad_()
    pseudo_huber(x, x.detach(), 0.03).sum().backward()
    assert torch.equal(x.grad, torch.zeros(3, 4))
    x.grad = None
    pseudo_huber(x, x.detach() + 1000, 0.03).sum().backward()
    torch.testing.assert_close(x.grad.norm(dim=1), torch.ones(3))
