"""The arithmetic, against rational numbers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from bn_audit.federated.exact import exact_mean  # noqa: E402
from bn_audit.federated.mean import RunningMean, weighted_mean  # noqa: E402

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
WEIGHTS = st.one_of(
    st.just(1.0), st.integers(1, 10**6), st.floats(1e-3, 1e3), st.floats(1e-300, 1e300, exclude_min=True)
)


@st.composite
def parties(draw: st.DrawFn, *, largest: float = 1.0) -> tuple[list[Any], list[float]]:
    """Values of up to seven parties and their weights: of one size, of all sizes, on a coarse grid that makes ties."""
    dtype = draw(st.sampled_from(DTYPES))
    count = draw(st.integers(1, 7))
    limit = float(torch.finfo(dtype).max) * largest
    tiny = float(torch.finfo(dtype).smallest_normal) / 8
    element = draw(
        st.sampled_from(
            [
                st.floats(-limit, limit),
                st.floats(-4, 4),
                st.integers(-4, 4).map(lambda i: 1 + i * float(torch.finfo(dtype).eps)),
                st.sampled_from([0.0, -0.0, tiny, -tiny, 1.0, -1.0, limit, -limit]),
            ]
        )
    )
    rows = draw(st.lists(st.lists(element, min_size=5, max_size=5), min_size=count, max_size=count))
    weights = draw(
        st.one_of(
            st.lists(WEIGHTS, min_size=count, max_size=count), WEIGHTS.map(lambda weight: [float(weight)] * count)
        )
    )
    values = [torch.tensor(row, dtype=torch.float64).clamp(-limit, limit).to(dtype) for row in rows]
    return [value.nan_to_num() for value in values], [float(weight) for weight in weights]


def same_bits(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and torch.equal(left.view(torch.uint8), right.view(torch.uint8))


def true_means(values: Sequence[Any], weights: Sequence[float]) -> list[Fraction]:
    total = sum(map(Fraction, weights))
    columns = zip(*(value.double().tolist() for value in values), strict=True)
    return [sum(Fraction(w) * Fraction(x) for w, x in zip(weights, column, strict=True)) / total for column in columns]


def neighbours(value: Any) -> list[Fraction]:
    """The two numbers of its dtype beside a value, as far as they are finite."""
    integer = value.reshape(1).view(INTEGERS[value.dtype.itemsize])
    if value == 0:
        least = torch.ones_like(integer).view(value.dtype).double().item()
        return [Fraction(least), Fraction(-least)]
    beside = [(integer + step).view(value.dtype).double().item() for step in (1, -1)]
    return [Fraction(number) for number in beside if abs(number) != float("inf") and number == number]


@settings(deadline=None, max_examples=150)
@given(parties())
def test_exact_is_correctly_rounded(case: tuple[list[Any], list[float]]) -> None:
    values, weights = case
    result = exact_mean(values, weights)
    assert result.dtype == values[0].dtype
    for value, mean in zip(result, true_means(values, weights), strict=True):
        error = abs(Fraction(value.double().item()) - mean)
        for other in neighbours(value):
            assert error <= abs(other - mean)
            if error == abs(other - mean):
                assert int(value.reshape(1).view(INTEGERS[value.dtype.itemsize])) % 2 == 0


@settings(deadline=None, max_examples=100)
@given(parties(), st.randoms(use_true_random=False), st.integers(-20, 20))
def test_exact_does_not_depend_on_order_or_scale(
    case: tuple[list[Any], list[float]], generator: random.Random, scale: int
) -> None:
    values, weights = case
    order = list(range(len(values)))
    generator.shuffle(order)
    result = exact_mean(values, weights)
    assert same_bits(exact_mean([values[i] for i in order], [weights[i] for i in order]), result)
    assert same_bits(exact_mean(values, [weight * 2.0**scale for weight in weights]), result)


@settings(deadline=None, max_examples=100)
@given(parties())
def test_the_mean_of_equal_values_is_that_value(case: tuple[list[Any], list[float]]) -> None:
    values, weights = case
    equal = [values[0].clone() for _ in values]
    assert same_bits(exact_mean(equal, weights), values[0])
    assert torch.equal(weighted_mean(equal, weights), values[0])
    assert torch.equal(running_mean(equal, weights), values[0])


def running_mean(values: Sequence[Any], weights: Sequence[float]) -> Any:
    mean = RunningMean()
    for number, value in enumerate(values):
        mean.add(value, weights[number] / sum(weights[: number + 1]))
    return mean.result()


def assert_within(mean: Any, roundings: Fraction, values: Sequence[Any], weights: Sequence[float]) -> None:
    """Of the dtype that is accumulated in, of the largest magnitude among the values; and one of the values' dtype."""
    dtype = values[0].dtype
    wide = torch.float32 if dtype.itemsize < 4 else dtype
    size = Fraction(max(value.double().abs().max().item() for value in values))
    last = Fraction(torch.finfo(dtype).eps) / 2 * size if dtype != wide else 0
    # What lies below the normal numbers is rounded to multiples of the least number.
    least = Fraction(torch.finfo(dtype).smallest_normal) * Fraction(torch.finfo(dtype).eps)
    bound = roundings * (Fraction(torch.finfo(wide).eps) / 2 * size + least) + last
    for value, true in zip(mean.double().tolist(), true_means(values, weights), strict=True):
        assert abs(Fraction(value) - true) <= bound


@settings(deadline=None, max_examples=150)
@given(parties(largest=0.999))
def test_the_sum_is_within_about_half_as_many_roundings_as_parties(case: tuple[list[Any], list[float]]) -> None:
    values, weights = case
    assert_within(weighted_mean(values, weights), Fraction(len(values) + 3, 2), values, weights)


@settings(deadline=None, max_examples=100)
@given(parties(largest=0.4))
def test_the_running_mean_is_within_as_many_roundings_as_parties(case: tuple[list[Any], list[float]]) -> None:
    values, weights = case
    assert_within(running_mean(values, weights), Fraction(len(values) + 3), values, weights)


@settings(deadline=None, max_examples=50)
@given(parties(), st.randoms(use_true_random=False))
def test_the_sum_goes_by_weight_whatever_the_order(
    case: tuple[list[Any], list[float]], generator: random.Random
) -> None:
    values, weights = case
    weights = [weight + number for number, weight in enumerate(weights, start=1)]
    if len(set(weights)) < len(weights):
        return
    order = list(range(len(values)))
    generator.shuffle(order)
    shuffled = weighted_mean([values[i] for i in order], [weights[i] for i in order])
    assert same_bits(shuffled, weighted_mean(values, weights))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_piece_in_which_all_parties_are_equal_is_not_touched(dtype: Any) -> None:
    """A part of a large tensor that nobody trained, such as the rows of an embedding."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.rand(300_000, generator=generator).to(dtype) for _ in range(3)]
    for value in values[1:]:
        value[:150_000] = values[0][:150_000]
    mean = weighted_mean(values, [1.0, 0.3, 7.0])
    assert same_bits(mean[:131_072], values[0][:131_072])
    assert not torch.equal(mean[150_000:], values[0][150_000:])


@settings(deadline=None, max_examples=50)
@given(parties(largest=0.4), st.integers(-20, 20))
def test_the_plain_mean_does_not_depend_on_the_scale_of_the_weights(
    case: tuple[list[Any], list[float]], scale: int
) -> None:
    values, weights = case
    scaled = [weight * 2.0**scale for weight in weights]
    assert same_bits(weighted_mean(values, scaled), weighted_mean(values, weights))
    assert same_bits(running_mean(values, scaled), running_mean(values, weights))


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_and_nan(dtype: Any) -> None:
    inf, nan = float("inf"), float("nan")
    first = torch.tensor([inf, -inf, inf, 1.0, nan, 1.0], dtype=dtype)
    second = torch.tensor([inf, -inf, -inf, 3.0, 1.0, inf], dtype=dtype)
    expected = torch.tensor([inf, -inf, nan, 2.0, nan, inf], dtype=dtype)
    for mean in (exact_mean, weighted_mean):
        for values in ([first, second], [second, first]):
            torch.testing.assert_close(mean(values, [1.0, 1.0]), expected, equal_nan=True, rtol=0, atol=0)
        # A party of hardly any weight has its say, and an infinity meets finite values before and after.
        for values in itertools.permutations([first, second, torch.ones(6, dtype=dtype)]):
            third = torch.tensor([inf, -inf, nan, 1.0, nan, inf], dtype=dtype)
            result = mean(values, [1.0, 1e-300, 1e-300])
            torch.testing.assert_close(result.isfinite(), third.isfinite())
            torch.testing.assert_close(result[~third.isfinite()], third[~third.isfinite()], equal_nan=True)
    assert same_bits(exact_mean([first, second], [1.0, 3.0]), exact_mean([second, first], [3.0, 1.0]))


LAYOUTS = [
    lambda: torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last),
    lambda: torch.randn(300, 700).t(),
    lambda: torch.randn(1).expand(9),
    lambda: torch.randn(20)[::2],
    lambda: torch.randn(()),
    lambda: torch.randn(0, 3),
    lambda: torch.randn(3, 4, dtype=torch.complex64).conj(),
    lambda: torch.randn(3, 4, dtype=torch.complex128),
    lambda: torch.randn(7).to(torch.float8_e4m3fn),
    lambda: torch.randn(7).to(torch.float8_e5m2),
]
"""What makes a tensor of each layout and dtype that averages are taken of."""


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("make", LAYOUTS)
def test_every_layout_and_dtype(make: Any, exact: bool) -> None:
    torch.manual_seed(0)
    values = [make() for _ in range(3)]
    mean = exact_mean(values, [1.0, 2.0, 1.0]) if exact else weighted_mean(values, [1.0, 2.0, 1.0])
    wide = [value.to(torch.complex128 if value.is_complex() else torch.float64) for value in values]
    expected = ((wide[0] + 2 * wide[1] + wide[2]) / 4).to(mean.dtype)
    assert mean.shape == values[0].shape
    assert mean.dtype == values[0].dtype
    tolerance = 0.1 if mean.dtype.itemsize == 1 else 1e-6
    precise = torch.complex128 if mean.is_complex() else torch.float64
    torch.testing.assert_close(mean.to(precise), expected.to(precise), rtol=tolerance, atol=tolerance)


def test_ties_of_many_elements_in_large_tensors() -> None:
    """More of them than wait for the second step at a time, over several pieces."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.rand(200_000, generator=generator) + 1 for _ in range(2)]
    expected = ((values[0].double() + values[1].double()) / 2).float()  # the float64 sum is exact here
    assert torch.equal(exact_mean(values, [5.0, 5.0]), expected)


def test_another_default_device_matters_to_no_mean() -> None:
    values = [torch.full((3,), float(number)) for number in range(2)]
    with torch.device("meta"):
        assert exact_mean(values, [1, 3]).tolist() == weighted_mean(values, [1, 3]).tolist() == [0.75] * 3
